/*
 * socks4: the messages of SOCKS4 and its extension 4a, both ways, as a pure codec.
 *
 * A request is VN CD DSTPORT DSTIP USERID NUL; where DSTIP is 0.0.0.x with x > 0 (4a) a host name
 * and NUL follow. A reply is VN CD DSTPORT DSTIP. The texts have no length on the wire, so they are
 * bounded here.
 */
#ifndef SOCKS_SOCKS4_H
#define SOCKS_SOCKS4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "base/endpoint.h"
#include "socks/parse.h"

enum {
	SOCKS4_VERSION = 4,
	SOCKS4_GRANTED = 90,
	SOCKS4_TEXT_MAX = 255,                   /* bytes of a user id or a name, without the NUL */
	SOCKS4_REQUEST_MAX = 8 + 2 * (SOCKS4_TEXT_MAX + 1),
	SOCKS4_REPLY_LEN = 8,
};

struct socks4_request {
	uint8_t command;                               /* as sent: the caller judges it */
	bool is_4a;                                    /* the destination came as a host name */
	struct endpoint to;
	const char *userid;                            /* into the input; its NUL is there */
	size_t userid_len;
};

struct socks4_reply {
	uint8_t code;                                  /* CD */
	struct endpoint bound;                         /* where granted */
};

/**
 * Reads a request. BAD: another version, a text over SOCKS4_TEXT_MAX bytes, or a name that is none.
 */
enum parse_result
socks4_parse_request(const uint8_t *in, size_t len, struct socks4_request *req,
    size_t *used) WARN_UNUSED;

/**
 * Writes a reply; bound is sent where it is IPv4, else zeros (NULL too). Returns its length; 0: cap
 * is too small.
 */
size_t socks4_write_reply(uint8_t *out, size_t cap, uint8_t code, const struct endpoint *bound);

/**
 * Writes a request to an IPv4 address, or to a name in 4a's way. Returns its length; 0: no room,
 * IPv6, or a text too long.
 */
size_t
socks4_write_request(uint8_t *out, size_t cap, uint8_t command, const struct endpoint *to,
    const char *userid);

/**
 * Reads a reply. A refusal is whole (OK) as soon as its code is there, since some proxies send no
 * more than that. VN should be 0; 4 is taken too, anything else is BAD.
 */
enum parse_result
socks4_parse_reply(const uint8_t *in, size_t len, struct socks4_reply *reply,
    size_t *used) WARN_UNUSED;

#endif
