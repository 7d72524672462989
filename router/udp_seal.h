/*
 * udp_seal: datagrams between two ends that share a GSS context (RFC 1961 section 5): each goes whole, its SOCKS header too, as one
 * sealed message behind the header of a stream's messages.
 *
 * The context is that of the TCP connection which holds the association, and belongs to it: a client's, or one to an upstream.
 * Datagrams may get lost or overtake each other; one that comes twice is refused. The worker's thread.
 */
#ifndef ROUTER_UDP_SEAL_H
#define ROUTER_UDP_SEAL_H

#include <stdbool.h>

#include "base/base.h"
#include "router/udp_socket.h"

struct gss_context;

struct udp_seal {
	struct gss_context *context;   /* NULL: datagrams go as they are */
	bool secret;
};

/** Opens a datagram in its place: d is what was inside then. False: it was not sealed by the other end, or came before. */
bool udp_seal_open(const struct udp_seal *s, struct udp_datagram *d) WARN_UNUSED;
/** A header and what is behind it as one, sealed where there is a context; malloc'ed. NULL: out of memory, or it can't be sealed. */
uint8_t *udp_seal_wrap(const struct udp_seal *s, const uint8_t *header, size_t header_len, const uint8_t *payload, size_t payload_len,
		       size_t *len) WARN_UNUSED;
/** As udp_send, of a parcel without prefix, sealed. False: out of memory, or the context can't seal. */
bool udp_seal_send(const struct udp_seal *s, struct udp_pool *p, struct udp_socket *to_socket, const struct udp_parcel *parcel,
		   const struct udp_address *to, enum counter sent) WARN_UNUSED;

#endif
