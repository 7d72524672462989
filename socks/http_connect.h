/*
 * http_connect: the heads of HTTP CONNECT (RFC 9110 section 9.3.6, RFC 9112), both ways, and Basic
 * credentials (RFC 7617).
 *
 * Only what a tunnel needs: a request head, a response head, and nothing behind the empty line.
 * Lines may end with CRLF or LF.
 */
#ifndef SOCKS_HTTP_CONNECT_H
#define SOCKS_HTTP_CONNECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "base/endpoint.h"
#include "socks/parse.h"
#include "socks/verdict.h"

enum {
	HTTP_HEAD_MAX = 8192,                          /* of a head, its empty line included */
	HTTP_CREDENTIAL_MAX = 255,                     /* user name, password: as in RFC 1929 */
	HTTP_BASIC_MAX = 2 * HTTP_CREDENTIAL_MAX + 1,  /* "user:password" */
	HTTP_ANSWER_MAX = 512,                         /* http_write_answer needs no more */
};

struct http_request {
	bool is_connect;
	struct endpoint to;                            /* where is_connect */
	const char *authorization;    /* value of Proxy-Authorization, into the input; NULL: none */
	size_t authorization_len;
};

/**
 * Reads a request head. BAD: a line that breaks the grammar, a folded line, a control byte, a
 * second Proxy-Authorization, a CONNECT to what is no host and port, or no end within
 * HTTP_HEAD_MAX. Host is not looked at: the target says it.
 */
enum parse_result
http_parse_request(const uint8_t *in, size_t len, struct http_request *req,
    size_t *used) WARN_UNUSED;

/**
 * The whole answer to a request: for GRANTED the head that opens the tunnel, else an error that
 * ends the connection. 0: no room.
 */
size_t http_write_answer(uint8_t *out, size_t cap, enum verdict v);

enum http_authorization { HTTP_BASIC, HTTP_OTHER_SCHEME, HTTP_BASIC_BAD };

/**
 * Takes the value of an Authorization header apart. plain receives the decoded bytes and c points
 * into it (after HTTP_BASIC); the caller wipes it. BASIC_BAD: no proper base64, no colon, or a part
 * too long.
 */
enum http_authorization
http_read_authorization(const char *value, size_t len, uint8_t plain[HTTP_BASIC_MAX],
    struct credentials *c) WARN_UNUSED;

/**
 * Writes a CONNECT request; username NULL or "": without credentials. 0: no room, a text over
 * HTTP_CREDENTIAL_MAX, or a colon in the user name, which Basic can't carry.
 */
size_t
http_write_connect(uint8_t *out, size_t cap, const struct endpoint *to, const char *username,
    const char *password);

/**
 * Reads a response's status, and its head where what follows matters: a 1xx or 2xx is OK with all
 * of its head, any other status as soon as its line is there. BAD: no HTTP/1.x status line, or no
 * end within HTTP_HEAD_MAX.
 */
enum parse_result
http_parse_response(const uint8_t *in, size_t len, uint16_t *status, size_t *used) WARN_UNUSED;

#endif
