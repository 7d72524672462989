/*
 * socks5: the messages of SOCKS5 (RFC 1928) and of its user name and password method (RFC 1929),
 * both ways, as a pure codec.
 *
 * The parts of a talk, in order: greeting -> choice, userpass -> status (where that method was
 * chosen), request -> reply; and the header in front of each relayed datagram.
 */
#ifndef SOCKS_SOCKS5_H
#define SOCKS_SOCKS5_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "base/endpoint.h"
#include "socks/parse.h"
#include "socks/verdict.h"

enum {
	SOCKS5_VERSION = 5,
	SOCKS5_USERPASS_VERSION = 1,                   /* RFC 1929 counts for itself */
	SOCKS5_TEXT_MAX = 255,                         /* user name, password, host name */
	SOCKS5_GREETING_MAX = 2 + 255,
	SOCKS5_USERPASS_MAX = 3 + 2 * SOCKS5_TEXT_MAX,
	SOCKS5_REQUEST_MAX = 4 + 1 + SOCKS5_TEXT_MAX + 2,
	SOCKS5_REPLY_MAX = SOCKS5_REQUEST_MAX,
	SOCKS5_UDP_HEADER_MAX = SOCKS5_REQUEST_MAX,
};

enum socks5_method {
	SOCKS5_METHOD_NONE = 0x00,
	SOCKS5_METHOD_GSSAPI = 0x01,
	SOCKS5_METHOD_USERPASS = 0x02,
	SOCKS5_METHOD_REFUSED = 0xff,
};

struct socks5_request {
	uint8_t command;                               /* as sent: the caller judges it */
	struct endpoint to;
	enum verdict fault;                            /* after BAD: MALFORMED or ADDRESS_UNKNOWN */
};

struct socks5_reply {
	uint8_t rep;
	struct endpoint bound;          /* where granted; kind NONE: it named a host that is none */
};

struct socks5_udp {
	uint8_t frag;                                  /* 0: whole; else section 7 */
	struct endpoint to;
};

/* The proxy's side. */

/**
 * Reads a greeting. *offered: enum auth_method bits; methods that we have no word for are left out.
 */
enum parse_result
socks5_parse_greeting(const uint8_t *in, size_t len, unsigned *offered, size_t *used) WARN_UNUSED;
/**
 * Each writer returns the length of its message, or 0 where cap is too small: the constants above
 * never are.
 */
size_t socks5_write_choice(uint8_t *out, size_t cap, enum socks5_method method);
/** Reads a user name and a password, either of which may be empty. */
enum parse_result
socks5_parse_userpass(const uint8_t *in, size_t len, struct credentials *c,
    size_t *used) WARN_UNUSED;
size_t socks5_write_status(uint8_t *out, size_t cap, bool good);
/**
 * Reads a request. An unknown address type is BAD as soon as it is seen: nothing tells how long
 * such a request is.
 */
enum parse_result
socks5_parse_request(const uint8_t *in, size_t len, struct socks5_request *req,
    size_t *used) WARN_UNUSED;
/** bound NULL or kind NONE: 0.0.0.0:0 is sent. */
size_t socks5_write_reply(uint8_t *out, size_t cap, uint8_t rep, const struct endpoint *bound);

/* The client's side. */

/** offered: AUTH_NONE, AUTH_USERPASS, AUTH_GSSAPI bits, written weakest first. */
size_t socks5_write_greeting(uint8_t *out, size_t cap, unsigned offered);
/** Reads the method that was chosen. Whether it was offered is the caller's to see. */
enum parse_result
socks5_parse_choice(const uint8_t *in, size_t len, uint8_t *method, size_t *used) WARN_UNUSED;
/** 0 also where a text is over SOCKS5_TEXT_MAX bytes. */
size_t socks5_write_userpass(uint8_t *out, size_t cap, const char *username, const char *password);
/**
 * Reads the answer to credentials. Its version should be 1; 5 is taken too, as old proxies send it.
 */
enum parse_result
socks5_parse_status(const uint8_t *in, size_t len, bool *good, size_t *used) WARN_UNUSED;
size_t socks5_write_request(uint8_t *out, size_t cap, uint8_t command, const struct endpoint *to);
/**
 * Reads a reply, by its own address type. A refusal is whole (OK) as soon as its REP is there: some
 * proxies send no more, or rubbish behind it. A granted one of an unknown address type is BAD:
 * where the tunnel begins can't be told.
 */
enum parse_result
socks5_parse_reply(const uint8_t *in, size_t len, struct socks5_reply *reply,
    size_t *used) WARN_UNUSED;

/* Datagrams. */

/**
 * Reads the header of a whole datagram; what is behind *used is its payload. Never MORE: a cut
 * header is BAD.
 */
enum parse_result
socks5_parse_udp(const uint8_t *in, size_t len, struct socks5_udp *header,
    size_t *used) WARN_UNUSED;
size_t socks5_write_udp(uint8_t *out, size_t cap, uint8_t frag, const struct endpoint *to);

#endif
