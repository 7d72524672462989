/*
 * endpoint: where something is: an IPv4 or IPv6 address or a host name, with a port. A plain value,
 * copied freely.
 *
 * One spelling for each place: IPv4-mapped IPv6 addresses become IPv4; a name that is an address in
 * any spelling that inet_aton(3) takes (127.1, 0x7f000001) becomes that address; names are lower
 * case, without their one trailing dot. Ports are in host order; addresses in network order.
 */
#ifndef BASE_ENDPOINT_H
#define BASE_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <sys/socket.h>

#include "base/base.h"

enum endpoint_kind { ENDPOINT_NONE, ENDPOINT_IPV4, ENDPOINT_IPV6, ENDPOINT_NAME };

enum {
	ENDPOINT_NAME_MAX = 255,               /* bytes of a name, as SOCKS5 has them; no NUL */
	ENDPOINT_TEXT_MAX = 255 + 2 + 6 + 1,   /* "[name]:65535" and NUL */
};

struct endpoint {
	uint8_t kind;                          /* enum endpoint_kind */
	uint8_t name_len;                      /* of a name; else 0 */
	uint16_t port;
	uint8_t addr[16];                      /* IPv4: the first four */
	char name[ENDPOINT_NAME_MAX + 1];      /* NUL-terminated; empty unless a name */
};

enum endpoint_error {
	ENDPOINT_OK,
	ENDPOINT_EMPTY,       /* no host, or an empty label in it */
	ENDPOINT_TOO_LONG,    /* a name over 255 bytes */
	/* A byte <= 0x20, 0x7f, or one of []/@%: in a name; a NUL anywhere; a scope id. */
	ENDPOINT_BAD_BYTE,
	ENDPOINT_BAD_PORT,    /* not 1-5 digits, over 65535, or missing */
	/*
	 * Brackets around what is no IPv6 address, an IPv6 address before a port without them, or a
	 * name that is no address though its last label is a number, as in URLs.
	 */
	ENDPOINT_BAD_ADDRESS,
};

/**
 * Sets a host (kind, addr or name; port stays) from text of len bytes: address in any spelling, or
 * name. No brackets. Like the other readers here it leaves *e as it was when it fails.
 */
enum endpoint_error endpoint_set_host(struct endpoint *e, const char *text, size_t len) WARN_UNUSED;

/** Reads "host:port", "1.2.3.4:port" or "[v6]:port"; no port: ENDPOINT_BAD_PORT. 0 is taken. */
enum endpoint_error endpoint_from_text(struct endpoint *e, const char *text, size_t len)
    WARN_UNUSED;

/** Reads a port: 1-5 digits, at most 65535. False: it is none. */
bool endpoint_read_port(const char *text, size_t len, uint16_t *port) WARN_UNUSED;

/** What went wrong, for people. */
const char *endpoint_error_text(enum endpoint_error err);

void endpoint_set_ipv4(struct endpoint *e, const uint8_t addr[4], uint16_t port);
/** Unmaps ::ffff:0:0/96 to IPv4. */
void endpoint_set_ipv6(struct endpoint *e, const uint8_t addr[16], uint16_t port);

/** Writes "host:port" or "[v6]:port", cut at cap (ENDPOINT_TEXT_MAX never cuts). Returns out. */
const char *endpoint_to_text(const struct endpoint *e, char *out, size_t cap);
/** The host alone, without brackets. Both write "" for ENDPOINT_NONE. */
const char *endpoint_host_to_text(const struct endpoint *e, char *out, size_t cap);

/** Makes it kind NONE, whatever it held; the room for a name is not touched but for its first byte. */
static inline void
endpoint_clear(struct endpoint *e)
{
	e->kind = ENDPOINT_NONE;
	e->name_len = 0;
	e->port = 0;
	memset(e->addr, 0, sizeof e->addr);
	e->name[0] = '\0';
}

/** *to = *from, but for the room behind the name: most have no name. */
static inline void
endpoint_copy(struct endpoint *to, const struct endpoint *from)
{
	memcpy(to, from, offsetof(struct endpoint, name) + 1);
	if (from->name_len > 0)
		memcpy(to->name, from->name, from->name_len + 1u);
}

/** True for IPv4 and IPv6. */
static inline bool
endpoint_is_address(const struct endpoint *e)
{
	return e->kind == ENDPOINT_IPV4 || e->kind == ENDPOINT_IPV6;
}

bool endpoint_is_loopback(const struct endpoint *e);
bool endpoint_is_wildcard(const struct endpoint *e);
bool endpoint_equal(const struct endpoint *a, const struct endpoint *b);
bool endpoint_same_host(const struct endpoint *a, const struct endpoint *b);
/** Of two addresses to listen on: have they a port in common, since they are one or either is a wildcard? */
bool endpoint_collide(const struct endpoint *a, const struct endpoint *b);

/** From and to sockets. A Unix socket or an unknown family: ENDPOINT_NONE. A name: 0. */
void endpoint_from_sockaddr(struct endpoint *e, const struct sockaddr *sa, socklen_t len);
socklen_t endpoint_to_sockaddr(const struct endpoint *e, struct sockaddr_storage *ss);

#endif
