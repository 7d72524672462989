/*
 * remote: a call of a command to the API of a running router, and what becomes of an answer that is
 * none.
 */
#ifndef ADMIN_REMOTE_H
#define ADMIN_REMOTE_H

#include <jansson.h>

#include "admin/client.h"
#include "admin/options.h"

/**
 * Which router, from --admin and --token-file. False: told on stderr, and *code is the exit code.
 */
bool remote_open(struct client *c, const struct options *o, int *code) WARN_UNUSED;

/**
 * One call. With `raw` the answer is printed to stdout as it is, and NULL comes back with *code
 * EXIT_DONE.
 * @return the answer, to be released; NULL: *code says how it ended, and stderr why
 */
json_t *remote_call(const struct client *c, const char *method, const char *path, bool raw,
		    int *code) WARN_UNUSED;

#endif
