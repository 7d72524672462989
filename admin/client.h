/*
 * client: a small blocking HTTP client for the admin API: one request, one answer, then the
 * connection is closed.
 *
 * Plain http only. Bounded: an answer has at most CLIENT_ANSWER_MAX bytes, all of it
 * CLIENT_DEADLINE_MS.
 */
#ifndef ADMIN_CLIENT_H
#define ADMIN_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/base.h"
#include "base/endpoint.h"

enum {
	CLIENT_ANSWER_MAX = 256 << 20,
	CLIENT_HEAD_MAX = 64 << 10,
	CLIENT_DEADLINE_MS = 60000,
	CLIENT_TOKEN_MAX = 1024
};

struct client {
	struct endpoint at;
	char token[CLIENT_TOKEN_MAX]; /* "": none */
};

struct client_answer {
	int status;
	char *body; /* malloc'ed, with a NUL behind its len bytes */
	size_t len;
};

/**
 * "http://HOST[:PORT][/]", or without the scheme; port 80 is not ours: none is 9080. NULL, or what
 * is wrong with it.
 */
const char *client_read_url(struct client *c, const char *url) WARN_UNUSED;
/** The first line of a file. False: why is told (cap bytes). */
bool client_read_token(struct client *c, const char *path, char *why, size_t cap) WARN_UNUSED;

/** body: NULL: none. False: why (cap bytes), nothing to free. */
bool client_call(const struct client *c, const char *method, const char *path, const char *body,
		 struct client_answer *out, char *why, size_t cap) WARN_UNUSED;
void client_answer_free(struct client_answer *a);

enum client_parse { CLIENT_MORE, CLIENT_HEAD, CLIENT_BAD };
/**
 * Reads the head of an answer (RFC 9112 section 2), pure. *body_at: where the body begins;
 * *body_len: what Content-Length says, SIZE_MAX: to the end of the connection. Chunks are BAD: we
 * ask in HTTP/1.0, which has none.
 */
enum client_parse client_parse_head(const char *bytes, size_t len, int *status, size_t *body_at,
				    size_t *body_len);

/**
 * Appends "name=value" to a path, percent-encoded, with "?" or "&" before it; a NULL value is left
 * out. False: cap is too small.
 */
bool client_add_argument(char *path, size_t cap, const char *name, const char *value) WARN_UNUSED;

#endif
