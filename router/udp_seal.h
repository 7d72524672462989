/*
 * udp_seal: datagrams between two ends that share a GSS context (RFC 1961 section 5): each goes whole, its SOCKS header too, as one
 * sealed message behind the header of a stream's messages.
 *
 * The context is that of the TCP connection which holds the association, and belongs to it. Datagrams may get lost or overtake each
 * other; one that comes twice is refused. The worker's thread.
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
/** As udp_send, sealed, and sent at once. False: out of memory, or the context can't seal. */
bool udp_seal_send(const struct udp_seal *s, struct udp_pool *p, struct udp_socket *to_socket, const struct udp_parcel *parcel,
		   const struct udp_address *to, enum counter sent) WARN_UNUSED;

#endif
