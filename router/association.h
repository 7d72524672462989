/*
 * association: one UDP ASSOCIATE (RFC 1928 section 7): a socket for the client's datagrams, and the ways on which they leave.
 *
 *   client ==> [socket] ==> target (policy, name) ==> way (direct, or through upstreams)
 *
 * Only the host that holds the TCP connection is heard, from the port that it announced for an address of its own, else from the
 * first that it used; and where a PROXY header named the client, its host too. Each destination is decided for itself
 * (command `udp`) and the decision is kept; what is rejected is dropped and counted. Datagrams that have to wait, for a name or for
 * a way, are held, the last UDP_HELD_MAX of them. Answers from anybody are passed on, with their true sender, unless policy rejects
 * that one as a destination. Nothing that a datagram brings ends it: that is for its session, by the TCP connection or udp_idle.
 * Life: association_new -> association_free. The worker's thread.
 */
#ifndef ROUTER_ASSOCIATION_H
#define ROUTER_ASSOCIATION_H

#include <stdint.h>

#include "base/base.h"
#include "base/endpoint.h"
#include "router/udp_seal.h"
#include "socks/verdict.h"

struct association;
struct log_line;
struct revision;
struct worker;

enum { UDP_HELD_MAX = 64, ASSOCIATION_TICK_MS = 5000 };

struct association_request {
	struct worker *worker;
	struct revision *revision;     /* must outlive it */
	uint32_t listener;
	int client_fd;
	const struct endpoint *client; /* kind NONE: a Unix socket; its client is on this host */
	const struct endpoint *reached;        /* what it connected to, or the proxy that told of it */
	const struct endpoint *announced;      /* by the client: from where it will send, as it thinks */
	const char *user, *session;    /* copied */
	struct udp_seal seal;          /* of the client's datagrams; its context must outlive the association */
};

/** told: where the client is to send to. NULL: *why. */
struct association *association_new(const struct association_request *q, struct endpoint *told, enum verdict *why) WARN_UNUSED;
void association_free(struct association *a);  /* NULL is fine */

struct association_counts {
	uint64_t up, down;             /* payload, in bytes */
	uint64_t datagrams_up, datagrams_down, dropped;
	uint64_t active_ms;            /* loop time of the last datagram that was passed on */
};
void association_get_counts(const struct association *a, struct association_counts *out);
/** The upstreams of the ways that are open, each once, in the order of the way, and UINT32_MAX for a direct one. Returns how many. */
size_t association_get_hops(const struct association *a, uint32_t *hops, size_t cap);

#endif
