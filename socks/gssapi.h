/*
 * gssapi: the messages of the GSS-API method of SOCKS5 (RFC 1961), as a pure codec.
 *
 *   +------+------+------+=======+      mtyp 1     a token of the context, either way
 *   | 0x01 | mtyp | len  | token |           2     the level of protection, sealed
 *   +------+------+------+=======+           3     sealed data, or a sealed datagram
 *      1      1      2      len              0xff  abort; ends behind mtyp
 *
 * The tokens are the library's: nothing here looks into one. A talk: 1 (both ways, until the
 * context stands), 2 and its answer, then 3 for all that follows; nothing is framed any more where
 * the level agreed on is 0. That level is none of the RFC's, but what NEC's proxy, Dante and curl
 * understand by it.
 */
#ifndef SOCKS_GSSAPI_H
#define SOCKS_GSSAPI_H

#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "socks/command.h"
#include "socks/parse.h"

enum {
	GSSAPI_VERSION = 1,
	GSSAPI_HEADER = 4,
	GSSAPI_TOKEN_MAX = 65535,
	GSSAPI_MESSAGE_MAX = GSSAPI_HEADER + GSSAPI_TOKEN_MAX,
};

enum gssapi_type {
	GSSAPI_CONTEXT = 1,
	GSSAPI_LEVEL = 2,
	GSSAPI_DATA = 3,
	GSSAPI_ABORT = 0xff,
};

struct gssapi_message {
	uint8_t type;                  /* as sent, from the second byte on: the caller judges it */
	const uint8_t *token;          /* in the parser's input; NULL for ABORT */
	size_t len;                    /* > 0, but for ABORT */
};

/**
 * Reads a message. BAD: another version, or an empty token. A type that is none of ours is OK (the
 * caller judges it) and read as one with a token.
 */
enum parse_result
gssapi_parse(const uint8_t *in, size_t len, struct gssapi_message *m, size_t *used) WARN_UNUSED;
/**
 * Writes a message; ABORT takes no token. Returns its length, or 0 where cap is too small or the
 * token is not of 1 to GSSAPI_TOKEN_MAX bytes.
 */
size_t
gssapi_write(uint8_t *out, size_t cap, enum gssapi_type type, const uint8_t *token, size_t len);
/** The header alone, GSSAPI_HEADER bytes, for a token of that length. */
void gssapi_write_header(uint8_t *out, enum gssapi_type type, uint16_t len);

/**
 * A proxy's answer to the level that a client asks for: that, but for SELECTIVE (sealed as each end
 * sees fit), which is answered with CONFIDENTIALITY. Negative: it is below `least`, or no level.
 */
int gssapi_agree(uint8_t asked, enum gssapi_protection least);

#endif
