/*
 * vectors: test messages written for people, and the checks that every parser and writer of socks/
 * must stand.
 *
 * A message is text of: hex pairs ("0501"), a pair repeated ("61*255"), 'plain text', and ~ for
 * CRLF; spaces are for the eye.
 */
#ifndef TESTS_SOCKS_VECTORS_H
#define TESTS_SOCKS_VECTORS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "base/endpoint.h"
#include "socks/parse.h"

struct bytes {
	size_t len;
	uint8_t data[12000];
};

static inline void
bytes_add(struct bytes *b, const void *data, size_t len)
{
	assert_true(len <= sizeof b->data - b->len);
	if (len > 0)
		memcpy(b->data + b->len, data, len);
	b->len += len;
}

/* One hex pair, and how often. Returns what is behind it. */
static inline const char *
bytes_add_pair(struct bytes *b, const char *text)
{
	char pair[3] = { text[0], text[1], '\0' }, *end;
	unsigned long times = 1;
	uint8_t value = (uint8_t)strtoul(pair, &end, 16);
	if (end != pair + 2)
		fail_msg("not a message: %s", text);
	text += 2;
	if (*text == '*') {
		times = strtoul(text + 1, &end, 10);
		text = end;
	}
	for (unsigned long i = 0; i < times; i++)
		bytes_add(b, &value, 1);
	return text;
}

static inline struct bytes *
bytes_of(struct bytes *b, const char *text)
{
	b->len = 0;
	while (*text != '\0') {
		if (*text == '\'') {
			const char *end = strchr(text + 1, '\'');
			assert_non_null(end);
			bytes_add(b, text + 1, (size_t)(end - text - 1));
			text = end + 1;
		} else if (*text == '~') {
			bytes_add(b, "\r\n", 2);
			text++;
		} else if (*text == ' ') {
			text++;
		} else {
			text = bytes_add_pair(b, text);
		}
	}
	return b;
}

/* A copy of exactly that size, so that a sanitizer sees every byte read or written too far. */
static inline uint8_t *
exact_copy(const void *data, size_t len)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);
	assert_non_null(copy);
	if (len > 0)
		memcpy(copy, data, len);
	return copy;
}

static inline bool
is_endpoint(const struct endpoint *e, const char *text)
{
	char actual[ENDPOINT_TEXT_MAX];
	return strcmp(endpoint_to_text(e, actual, sizeof actual), text) == 0;
}

static inline void
check_endpoint(const char *what, const struct endpoint *e, const char *want)
{
	char actual[ENDPOINT_TEXT_MAX];
	if (!is_endpoint(e, want))
		fail_msg("%s: is %s, not %s", what, endpoint_to_text(e, actual, sizeof actual),
		    want);
}

static inline struct endpoint
endpoint_of(const char *text)
{
	struct endpoint e = { .kind = ENDPOINT_NONE };
	if (text != NULL)
		assert_int_equal(endpoint_from_text(&e, text, strlen(text)), ENDPOINT_OK);
	return e;
}

typedef enum parse_result parse_fn(const uint8_t *in, size_t len, void *value, size_t *used);

/*
 * Feeds the message cut at every place: MORE up to the byte that decides (0: the last one), then
 * `want` whatever follows; an OK takes just as much. The value of the last call stays, and may
 * point into *in.
 */
static inline void
check_at_every_cut(const char *what, parse_fn *parse, void *value, const struct bytes *in,
    enum parse_result want, size_t decides)
{
	size_t used = 0;
	if (decides == 0)
		decides = in->len;
	for (size_t len = 0; len <= in->len; len++) {
		uint8_t *cut = exact_copy(in->data, len);
		enum parse_result expected = len < decides ? PARSE_MORE : want;
		enum parse_result result = parse(cut, len, value, &used);
		free(cut);
		if (result != expected)
			fail_msg("%s: cut at %zu: %d, not %d", what, len, result, expected);
		if (result == PARSE_OK && used != decides)
			fail_msg("%s: cut at %zu: took %zu, not %zu", what, len, used, decides);
	}
	assert_int_equal(parse(in->data, in->len, value, &used), want);
}

typedef size_t write_fn(uint8_t *out, size_t cap, const void *arg);

/*
 * Writes the message into every size of memory: 0 while it is too small, then the whole. spare:
 * bytes that the writer wants besides.
 */
static inline void
check_writer(const char *what, write_fn *write, const void *arg, const char *want, size_t spare)
{
	struct bytes expected;
	bytes_of(&expected, want);
	for (size_t cap = 0; cap <= expected.len + spare + 1; cap++) {
		uint8_t *out = malloc(cap > 0 ? cap : 1);
		assert_non_null(out);
		size_t len = write(out, cap, arg);
		if (len != (cap < expected.len + spare ? 0 : expected.len))
			fail_msg("%s: %zu bytes written into %zu", what, len, cap);
		if (len > 0 && memcmp(out, expected.data, len) != 0)
			fail_msg("%s: other bytes than %s", what, want);
		free(out);
	}
}

#endif
