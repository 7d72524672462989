/*
 * parse: from the scanned tree to the structs of policy.h, by tables: one line for each key, one
 * loop over them.
 *
 * Every function that reads a value reports what is wrong with it, at its place, and says false;
 * its caller goes on with the next value, so that all errors are found. A half-filled object is
 * fine: a policy with errors is thrown away as a whole. What is made lives in the arena of the
 * policy under construction.
 */
#ifndef POLICY_PARSE_H
#define POLICY_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/base.h"
#include "base/endpoint.h"
#include "policy/arena.h"
#include "policy/json_scan.h"
#include "policy/policy.h"

struct ip_prefix;

struct parse_context {
	struct policy *policy; /* under construction; sets and listeners are filled before rules */
	struct policy_errors *errors;
	struct arena *arena; /* the policy's: lives as long as it */
	const char *dir;     /* absolute; relative file names hang on it */
	size_t hints_left;   /* comparisons that the search for nearest names may still cost */
	bool no_memory;      /* it ran out: what was to be made may be missing */
};

/* ---- reporting ---- */

/** At a value. */
void parse_error(struct parse_context *c, const struct json_value *at, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
/** At a member's key. */
void parse_error_at_key(struct parse_context *c, const struct json_value *member, const char *fmt,
    ...) PRINTF_LIKE(3, 4);
/** "expected WHAT, found the string "x"": what was found is described and cut. */
void parse_error_expected(
    struct parse_context *c, const struct json_value *found, const char *what);
/** The same without the value, for secrets: of what type it is. */
void parse_error_expected_secret(
    struct parse_context *c, const struct json_value *found, const char *what);
/** The text in quotes, control bytes escaped, cut at some 64 bytes. Returns out. */
const char *parse_quote(const char *text, char *out, size_t cap);
/** The nearest of the candidates as `: did you mean "x"?` in out, or nothing. Returns out. */
const char *parse_hint(struct parse_context *c, const char *name, const char *const *candidates,
    size_t n, char *out, size_t cap);
/** Reports that memory ran out. */
void parse_error_memory(struct parse_context *c);

/* ---- values; false or NULL: reported ---- */

/** A string that is not empty. */
const char *parse_string(struct parse_context *c, const struct json_value *v);
bool parse_number(
    struct parse_context *c, const struct json_value *v, uint64_t min, uint64_t max, uint64_t *out);
bool parse_bool(struct parse_context *c, const struct json_value *v, bool *out);
/** An array with at least one element: "expected a list of OF_WHAT". */
bool parse_is_list(struct parse_context *c, const struct json_value *v, const char *of_what);
/** "10.0.0.1:53", "[v6]:53", "name:53" with a port from 1 to 65535. */
bool parse_endpoint(struct parse_context *c, const struct json_value *v, struct endpoint *out);
/** An address alone, without port or brackets. */
bool parse_address(struct parse_context *c, const struct json_value *v, struct endpoint *out);
/** A list of addresses and CIDR blocks, sorted; see ip_set.h. */
bool parse_prefixes(
    struct parse_context *c, const struct json_value *v, struct ip_prefix **list, size_t *n);
/** A file name made absolute. */
const char *parse_path(struct parse_context *c, const struct json_value *v);
/** n zeroed objects of size bytes, of the arena; NULL is reported. */
void *parse_take(struct parse_context *c, size_t n, size_t size);

/** The index of a listener, an auth block or a set of this name, or -1 after a report with the
 * nearest name. */
int parse_listener_name(struct parse_context *c, const struct json_value *v);
int parse_auth_name(struct parse_context *c, const struct json_value *v);
int parse_set_name(struct parse_context *c, const struct json_value *v);

/** Reads to the end, at most cap bytes. -1: errno. */
ssize_t parse_read_up_to(int fd, char *out, size_t cap);
/** Reads a regular file whole, at most max bytes; malloc'ed, NUL-terminated. NULL: reported at
 * `at`, with the path and the reason. */
char *parse_read_file(struct parse_context *c, const struct json_value *at, const char *path,
    size_t max, size_t *len);
/** A secret's file: one line of 1 to max bytes; the arena's. NULL: reported. */
const char *parse_read_secret(
    struct parse_context *c, const struct json_value *at, const char *path, size_t max);

/* ---- objects by table ---- */

struct parse_word {
	const char *text;
	unsigned value;
	bool later; /* of the contract, not built yet: refused with a text that says so */
};

enum parse_kind {
	PARSE_COMMENT, /* a string, not kept */
	PARSE_BOOL,    /* bool */
	PARSE_U32,     /* uint32_t in [min, max] */
	PARSE_TEXT,    /* const char *; [min, max] bytes */
	PARSE_NAME,    /* const char *: what others say to mean this object; at most POLICY_NAME_MAX */
	PARSE_SECRET,   /* as PARSE_TEXT, never quoted in a message */
	PARSE_PATH,     /* const char *, made absolute */
	PARSE_DURATION, /* uint64_t ms in [min, max] */
	PARSE_PERCENT,  /* uint32_t in [min, max], written "10%" */
	PARSE_WORD,     /* unsigned or enum: one of words */
	PARSE_WORDS,    /* unsigned: a list of words, their values or-ed; not empty, none twice */
	PARSE_CUSTOM,   /* read() does it */
	PARSE_LATER,    /* of the contract, not built yet: refused with a text that says so */
};

enum { PARSE_REQUIRED = 1 };

/** object: the struct being filled, as given to parse_object. */
typedef bool parse_field_fn(struct parse_context *c, const struct json_value *v, void *object);

struct parse_field {
	const char *key;
	enum parse_kind kind;
	unsigned flags;
	size_t offset; /* in the struct */
	uint64_t min, max;
	const struct parse_word *words; /* ends with a NULL text */
	parse_field_fn *read;
};

/** Reads one value as its line of a table says. */
bool parse_member(
    struct parse_context *c, const struct json_value *v, const struct parse_field *f, void *object);

/**
 * Fills object from v by the table; "comment" is allowed in every object. Reports unknown keys with
 * the nearest known one, missing required ones at v, and what the kinds find.
 * @return true when all of it was right
 */
bool parse_object(struct parse_context *c, const struct json_value *v,
    const struct parse_field *fields, size_t n_fields, void *object);

/** An array of any length: takes as many objects of size bytes as it has elements, and reads each
 * into its own. */
bool parse_list(struct parse_context *c, const struct json_value *v, const char *of_what,
    size_t size, parse_field_fn *read, void **list, size_t *n);

/** One word of a table, with the nearest one as a hint. */
bool parse_word(struct parse_context *c, const struct json_value *v, const struct parse_word *words,
    unsigned *out);
/** A list of them, values or-ed; not empty, none twice. */
bool parse_words(struct parse_context *c, const struct json_value *v,
    const struct parse_word *words, unsigned *out);

#endif
