/*
 * local: sockets that are opened here for others to reach, for BIND and for UDP ASSOCIATE: on which of
 * our addresses, on which port of a range, and which address is told.
 */
#ifndef ROUTER_LOCAL_H
#define ROUTER_LOCAL_H

#include <stdbool.h>

#include "base/base.h"
#include "base/endpoint.h"
#include "policy/policy.h"

struct random;

enum {
	LOCAL_TRIES_MAX = 64,          /* ports of the range that are tried, from a random one on */
	LOCAL_KEEPALIVE_S = 60,
	LOCAL_PROBES = 4,
};

struct local_socket {
	int fd;                        /* non-blocking; a stream socket listens */
	struct endpoint told;          /* for the client */
};

/**
 * What a listening socket accepts is probed after LOCAL_KEEPALIVE_S of silence, and given up as long after that where no probe is
 * answered: a host that is gone says nothing. Not on loopback (`at`: its own address), where both ends die together. Nothing more,
 * as a client may well keep its window shut for long (a paused player).
 */
void local_watch_peers(int listening, const struct endpoint *at);
/** Our own address as `peer` sees it, if the routes are the same both ways; kind NONE: no route. Port 0. */
void local_address_towards(const struct endpoint *peer, struct endpoint *out);
/** Our end of a connected socket; that of a Unix socket is 127.0.0.1, for its client is on this host. Port 0. */
void local_address_of(int fd, struct endpoint *out);

/**
 * Opens a socket on conf's address and ports. Without an address in conf it listens on `fallback`, or, where another address is
 * told to clients, on all of that one's family.
 * @param type  SOCK_STREAM, SOCK_DGRAM
 * @param line  a direct:// upstream whose interface and mark hold, or NULL
 * @return false: no port is free, or the system refuses (errno)
 */
bool local_open(int type, const struct policy_sockets *conf, const struct endpoint *fallback,
		const struct policy_upstream *line, struct random *r, struct local_socket *out) WARN_UNUSED;

/** A datagram socket towards other hosts, for one family: the line's source address, interface and mark. -1: errno. */
int local_open_outward(int family, const struct policy_upstream *line);

#endif
