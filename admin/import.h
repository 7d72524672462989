/*
 * import: `sockroute import KIND FILE...`: a policy made from another program's configuration. What
 * the readers of the kinds share: lines of a file, pieces of a policy, and notes on what has no
 * equal, which end up in the policy's comment.
 *
 * A reader fills `policy` and says false where there is nothing sensible to make. Out of memory is
 * remembered and told at the end.
 */
#ifndef ADMIN_IMPORT_H
#define ADMIN_IMPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include "base/base.h"
#include "base/endpoint.h"

struct import {
	json_t *policy;   /* being made */
	const char *file; /* being read, and the line in it, for notes */
	unsigned line;
	char *notes; /* malloc'ed */
	bool failed; /* told on stderr */
	bool no_memory;
};

enum { IMPORT_BYTES_MAX = 1 << 20 };

/** "FILE:LINE: ..." for the policy's comment. */
void import_note(struct import *i, const char *fmt, ...) PRINTF_LIKE(2, 3);
/** The same to stderr; nothing is printed but this. False. */
bool import_fail(struct import *i, const char *fmt, ...) PRINTF_LIKE(2, 3);

/** The file's text, malloc'ed, NUL-terminated, without NUL in it; NULL: told. */
char *import_read(struct import *i, const char *path);
/** The next line of *text, NUL-terminated in place; NULL: there is none. Counts lines. */
char *import_next_line(struct import *i, char **text);
/** Cuts blanks off both ends. */
char *import_trim(char *text);

/* JSON; takes the value, which may be NULL: out of memory. */

void import_set(struct import *i, json_t *object, const char *key, json_t *value);
void import_append(struct import *i, json_t *list, json_t *value);
/** The list under this key of the policy, made where it is not there. */
json_t *import_list(struct import *i, const char *key);
/** A string; what is no UTF-8 fails the import. */
json_t *import_string(struct import *i, const char *text);
json_t *import_print(struct import *i, const char *fmt, ...) PRINTF_LIKE(2, 3);
/** "90s". */
json_t *import_duration(struct import *i, uint64_t ms);

/**
 * Appends an upstream of this name; username NULL: none, password NULL: none. host: as written;
 * False: it is none, and was told.
 */
bool import_upstream(struct import *i, const char *name, const char *scheme, const char *host,
		     uint16_t port, const char *username, const char *password);

/** Appends the CIDR blocks that cover exactly the addresses from..to, of one kind. */
void import_append_range(struct import *i, json_t *list, const struct endpoint *from,
			 const struct endpoint *to);

/* import_jsocks.c, import_proxychains.c */

bool import_jsocks(struct import *i, char **files, int n);
bool import_proxychains(struct import *i, char **files, int n);

#endif
