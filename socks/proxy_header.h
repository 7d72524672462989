/*
 * proxy_header: the header of the PROXY protocol, versions 1 (text) and 2 (binary), as a pure
 * codec.
 *
 * A proxy says with it, before the first byte of a connection, between which addresses that
 * connection runs in truth. It is demanded or not known of at all: where it were optional any
 * client could make up its address. What the additional fields (TLVs) of version 2 say is passed
 * over; they end with the header.
 */
#ifndef SOCKS_PROXY_HEADER_H
#define SOCKS_PROXY_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "base/endpoint.h"
#include "socks/parse.h"

enum {
	PROXY_V1_MAX = 107,      /* of a text header, with CRLF */
	PROXY_HEADER_MAX = 1024, /* of any; the protocol asks for 536 at least */
	PROXY_HEADER_WRITTEN_MAX = PROXY_V1_MAX,
};

struct proxy_header {
	bool has_addresses;       /* false: of the proxy itself (LOCAL), or not TCP (UNKNOWN) */
	struct endpoint from, to; /* the client, and what it connected to */
};

/**
 * Reads a header. BAD: anything that does not begin with one, one that breaks its own rules, or
 * one over PROXY_HEADER_MAX.
 */
enum parse_result proxy_header_parse(const uint8_t *in, size_t len, struct proxy_header *out,
				     size_t *used) WARN_UNUSED;

/**
 * After MORE: how many more bytes can be read (> 0) without reading behind the header's end, where
 * something begins that others have to read.
 */
size_t proxy_header_wants(const uint8_t *in, size_t len);

/**
 * Writes a header of version 1 or 2. Addresses of two kinds are written as IPv6 ones, the IPv4 one
 * mapped. Where one of them is none (a name, or of kind NONE, as a Unix socket's client is) it says
 * UNKNOWN, or a family that is none. Both NULL: the connection is nobody's but ours: UNKNOWN, or
 * LOCAL.
 * @return its length; 0: cap is too small (PROXY_HEADER_WRITTEN_MAX never is)
 */
size_t proxy_header_write(uint8_t *out, size_t cap, unsigned version, const struct endpoint *from,
			  const struct endpoint *to);

#endif
