/*
 * udp_way: how the datagrams of one association leave along one route: from sockets of our own, or through SOCKS5 upstreams.
 *
 *   direct       we --> destination
 *   upstreams    we ==UDP==> R1 --> R2 --> ... --> destination        Ri: the relay address that hop i gave
 *                we ==TCP==> hop 1                                     each hop's association is held by a
 *                we ==TCP==> hop 1 --> hop 2 ...                       connection of its own, through those before it
 *
 * A datagram through n hops has n headers: the first n-1 name R2 ... Rn, the last the destination; each hop takes one off. Answers
 * come with as many, and must name those relays. Any hop may send them in parts, which are put together here. For a hop
 * whose connection Kerberos seals, its header and all behind it are sealed.
 *
 * Where a hop before the last gives no association the pool that chose it is asked for another member.
 * It opens in its own time and may fail, at first or later, when one of its connections ends; it can then be opened again.
 * Life: udp_way_new -> udp_way_open * n -> udp_way_free. The worker's thread.
 */
#ifndef ROUTER_UDP_WAY_H
#define ROUTER_UDP_WAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/endpoint.h"
#include "base/list.h"
#include "base/stream.h"
#include "policy/policy.h"
#include "router/udp_assembly.h"
#include "router/udp_seal.h"
#include "router/udp_socket.h"
#include "socks/socks5.h"
#include "upstream/dialer.h"

struct udp_way;
struct worker;

enum { UDP_WAY_RETRY_MS = 1000 };

enum udp_way_state { UDP_WAY_CLOSED, UDP_WAY_OPENING, UDP_WAY_OPEN };

/* On whose behalf: as for a dial; all of it must outlive the way. */
struct udp_way_owner {
	struct worker *worker;
	struct fleet *fleet;
	struct pick_key key;
	struct endpoint reached;       /* by the client: for PROXY headers */
	/* It has opened, or closed. From the loop, never from inside udp_way_open. */
	void (*changed)(struct udp_way *y, void *arg);
	/* Datagrams may be read from s, with udp_receive and udp_way_unwrap. */
	void (*readable)(struct udp_way *y, struct udp_socket *s, void *arg);
	void *arg;
};

/* One hop's association. */
struct udp_hop {
	struct udp_way *way;
	struct stream stream;          /* holds it */
	struct dial *dial;
	struct endpoint relay;
	struct udp_seal seal;          /* of what goes to it and comes from it */
	struct udp_assembly answers;   /* that it sends in parts */
};

struct udp_way {
	struct list link;              /* the association's */
	const struct udp_way_owner *owner;
	struct policy_route route;
	enum udp_way_state state;
	uint64_t retry_ms;             /* not opened again before */
	struct path path;              /* held while it is open, or opening beyond the last hop */
	const struct policy_upstream *line;    /* direct: whose line, or NULL */
	struct udp_socket sockets[2];  /* direct: IPv4 and IPv6, each opened with the first datagram; else the first alone */
	struct udp_hop last;
	struct udp_hop *before;        /* n_before hops, the nearest first */
	unsigned n_before, n_missing;  /* hops that have not answered yet */
	struct tried avoid;            /* while it is opening: choices of pools that gave no association */
	unsigned n_lost;               /* parts of answers that went with a hop, and are not told yet */
	uint32_t assembled;            /* bits: hops whose answer is whole and not released yet */
	uint8_t *prefix;               /* headers for the relays behind the first */
	size_t prefix_len;
	uint64_t bytes_up, bytes_down, noted_up, noted_down;
};

/* A destination as the way puts it in datagrams. */
struct udp_aim {
	struct udp_address to;         /* direct */
	uint16_t header_len;           /* else */
	uint8_t header[SOCKS5_UDP_HEADER_MAX];
};

/** NULL: out of memory. */
struct udp_way *udp_way_new(const struct udp_way_owner *o, struct policy_route route) WARN_UNUSED;
/** Returns how many parts of answers are lost that udp_way_expire has not told. */
unsigned udp_way_free(struct udp_way *y);
/** Of a closed one. False: it closed a short while ago, or out of memory. */
bool udp_way_open(struct udp_way *y) WARN_UNUSED;

/* Of an open one. */

/** Must a destination's name be looked up before it can go this way? */
bool udp_way_needs_address(const struct udp_way *y);
bool udp_way_is_direct(const struct udp_way *y);
void udp_way_aim(const struct udp_way *y, const struct endpoint *to, struct udp_aim *out);
/** The payload must stay until udp_flush. False: no socket for that family, or it can't be sealed. */
bool udp_way_send(struct udp_way *y, struct udp_pool *p, const uint8_t *payload, size_t len, const struct udp_aim *aim);

enum udp_answer {
	UDP_ANSWER_WHOLE,
	UDP_ANSWER_PART,               /* of one that is not whole yet, or never will be */
	UDP_ANSWER_STRANGE,            /* none of ours: another relay, rubbish */
};

/**
 * Takes the headers off what came in: WHOLE leaves the payload in d, and its true sender. *lost grows by the parts that are given up.
 * After each call, and after what it brought is passed on: udp_way_release.
 */
enum udp_answer udp_way_unwrap(struct udp_way *y, struct udp_datagram *d, struct endpoint *sender, unsigned *lost) WARN_UNUSED;
/** Gives the memory back in which the answer was put together, if it was; what is noted of it is sent before. */
void udp_way_release(struct udp_way *y);
/** Gives up the answers that have waited too long for their other parts. Returns how many parts, and those of hops that ended. */
unsigned udp_way_expire(struct udp_way *y);
/** Tells the board what has gone through the hops since it was told last. */
void udp_way_note(struct udp_way *y);

#endif
