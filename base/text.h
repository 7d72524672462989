/*
 * text: small readers and writers of the forms that people type: durations, sizes, numbers; and
 * nearest names.
 */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

/** "250ms", "10s", "5m", "1h", "0s": digits and one unit; at most 1000h. False: it is none. */
bool text_read_duration(const char *text, size_t len, uint64_t *ms) WARN_UNUSED;
/** "64KiB", "10MiB", "1GiB", "512B": digits and one unit; at most 2^60. */
bool text_read_size(const char *text, size_t len, uint64_t *bytes) WARN_UNUSED;
/** Digits only, no sign, no spaces, at most max. */
bool text_read_number(const char *text, size_t len, uint64_t max, uint64_t *value) WARN_UNUSED;

/**
 * Edit distance with neighbour swaps (Damerau-Levenshtein, restricted), stopping at limit:
 * limit + 1 means "more". Strings over 64 bytes: more.
 */
unsigned text_distance(const char *a, const char *b, unsigned limit);
/**
 * The candidate nearest to name if it is near enough to be a typing error
 * (distance <= 1 + strlen / 4, at most 3), else NULL.
 */
const char *text_nearest(const char *name, const char *const *candidates, size_t n);

enum { TEXT_NUMBER_MAX = 21 };         /* digits of a 64-bit number, a sign; no NUL */

/** Writes a number in decimal, at least `digits` wide with zeros in front, without NUL. Returns its length. For hot paths. */
size_t text_write_number(char *out, uint64_t value, unsigned digits);
/** Writes microseconds as milliseconds, "12.005", without NUL. Returns its length, at most TEXT_NUMBER_MAX. */
size_t text_write_ms(char *out, uint64_t us);

/** Copies a string, cut quietly at cap; NULL is taken for "". */
void text_copy(char *out, size_t cap, const char *text);
/** Appends a string as text_append does; for short ones in hot paths. */
void text_append_string(char *out, size_t cap, size_t *len, const char *text);
/** snprintf that appends to out[*len .. cap) and cuts quietly; *len never passes cap - 1. */
void text_append(char *out, size_t cap, size_t *len, const char *fmt, ...) PRINTF_LIKE(4, 5);

#endif
