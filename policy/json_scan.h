/*
 * json_scan: strict JSON text (RFC 8259) to a tree in which every value knows where it stands.
 *
 * Bounds: POLICY_BYTES_MAX bytes, POLICY_DEPTH_MAX levels (the root is the first), JSON_VALUES_MAX
 * values, JSON_KEY_MAX bytes a key. What breaks one, invalid UTF-8, a byte order mark and anything
 * that the grammar lacks end the scan: one error, at the empty pointer. Repeated keys, integers
 * that 64 bits can't hold, \u0000 and half surrogate pairs are reported with their pointer, and the
 * scan goes on, so that all of them are found; a repeated key's second value, and a key that such
 * an escape spoils, are left out of the tree. Lines and columns count from 1, columns in characters
 * (code points; a tab is one). The names differ from those of jansson, so that both can be in one
 * program.
 */
#ifndef POLICY_JSON_SCAN_H
#define POLICY_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "policy/arena.h"
#include "policy/policy.h"

enum { JSON_VALUES_MAX = 2000000, JSON_KEY_MAX = 1024 };

/* What is said of more than POLICY_BYTES_MAX bytes, by whoever sees it first. */
#define DOCUMENT_TOO_LARGE "the document is too large, expected at most %d bytes"

enum scan_type { SCAN_NULL, SCAN_BOOL, SCAN_NUMBER, SCAN_STRING, SCAN_ARRAY, SCAN_OBJECT };

struct json_value {
	const struct json_value *parent; /* NULL: the root */
	struct json_value *first; /* child of an array or object */
	struct json_value *next;  /* child of the same parent */
	const char *key;   /* in an object: decoded, NUL-terminated; else NULL */
	const char *text;  /* string: decoded; number: as written; NUL-terminated. Else NULL */
	uint32_t text_len; /* bytes of text */
	uint32_t n;        /* children */
	uint32_t index;    /* place among the parent's children, from 0 */
	uint32_t line, column;         /* of the value's first byte */
	uint32_t key_line, key_column; /* of the key's opening quote */
	uint32_t start, end;           /* the value's bytes in the text */
	uint8_t type;                  /* enum scan_type */
	bool truth;                    /* of a bool */
	bool integer; /* the number is written as one (no fraction, no exponent) and fits 64 bits */
	bool faulty; /* what is wrong with its value has been reported: there is no more to say */
	int64_t number; /* where integer */
};

/**
 * Scans all of text. The tree and its strings live in arena; text itself is not referred to.
 * @return the root, or NULL after a syntax error. With errors that are no syntax errors there is a
 * tree and errors has grown.
 */
struct json_value *json_scan(
    const char *text, size_t len, struct arena *arena, struct policy_errors *errors) WARN_UNUSED;

/** An object's member, or NULL; NULL for what is no object. */
struct json_value *json_member(const struct json_value *object, const char *key);
static inline bool
json_is(const struct json_value *v, enum scan_type type)
{
	return v->type == type;
}

/** The value's JSON Pointer (RFC 6901), malloc'ed; with key, that of this member of it. NULL
 * without memory. */
char *json_pointer(const struct json_value *v, const char *key) WARN_UNUSED;

/** "an object", "a string" and so on, for messages: "found ..., expected ...". */
const char *json_type_text(enum scan_type type);

/** For loops: for (const struct json_value *v = array->first; v != NULL; v = v->next) */

#endif
