/*
 * json_write: a scanned tree as pretty JSON, and strings as JSON has them.
 */
#ifndef POLICY_JSON_WRITE_H
#define POLICY_JSON_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "policy/json_scan.h"

/** A string with its quotes; quotes, backslashes and control characters are escaped. */
void json_write_string(FILE *out, const char *text, size_t len);

/** Writes v another way and says true, or leaves it to json_write. */
typedef bool json_write_fn(FILE *out, const struct json_value *v, void *arg);

/** The value in two-space steps, members in their order, numbers as they were written, a line break
 * at the end of a document (the root). */
void json_write(FILE *out, const struct json_value *v, json_write_fn *instead, void *arg);

#endif
