/*
 * connector: one TCP connection, to the first of several addresses that takes it (RFC 8305).
 *
 * Attempts start in the order given, CONNECT_DELAY_MS apart, a failure starts the next at once; the
 * first that stands wins and the others are closed before the owner is told. An attempt is made
 * straight in the owner's stream where that is free, so that the usual case, one address, moves
 * nothing; only a later winner is moved there.
 *
 * A connection costs five calls: socket, setsockopt (TCP_NODELAY), connect, epoll_ctl, getsockname.
 * SO_ERROR is asked for only where both edges came at once (an error looks so, and so does a peer
 * that speaks first); getsockname gives the bound address and shows a connection of a socket to
 * itself, which a free port of our own ephemeral range allows: that is a refusal.
 *
 * Dead peers: a connection that leaves this host gets keepalive (first probe after
 * CONNECT_KEEPALIVE_S of silence) and TCP_USER_TIMEOUT, which bounds what is not acknowledged,
 * keepalive probes among it, at CONNECT_DEAD_MS; three calls more. They are set when it stands,
 * since the time for connecting is the owner's business. On loopback both ends die together, so
 * there nothing is set. The bound is generous because a peer that keeps its window shut for so long
 * is cut off as well.
 *
 * Fast open: with a cookie of the peer's, the kernel says at once that the connection stands and
 * lets the SYN wait for the first bytes, to take them along. Then a refusal comes out of the first
 * send or recv; `deferred` tells the owner to look for it there. So it is asked for only where there
 * is a single address, as nobody would try the next one; and by owners that speak first. A kernel
 * that has none of it connects as ever. It costs one call more, the option.
 *
 * Where ports are known to be short (port_rest) nothing is tried: EADDRNOTAVAIL, at once.
 *
 * Embedded by its owner; one thread. Life: zeroed -> connector_start -> callback or
 * connector_cancel -> start again.
 */
#ifndef UPSTREAM_CONNECTOR_H
#define UPSTREAM_CONNECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "base/endpoint.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/stream.h"
#include "base/wheel.h"
#include "socks/verdict.h"

enum {
	CONNECT_DELAY_MS = 250, /* RFC 8305 section 5: between attempts */
	CONNECT_KEEPALIVE_S = 60,
	CONNECT_DEAD_MS = 180000,
};

struct port_rest;

struct connect_plan {
	const struct endpoint *addrs;  /* with ports, best first; valid until the end */
	size_t n_addrs;                /* > 0 */
	const struct endpoint *source; /* NULL or kind NONE: the kernel chooses. Addresses of
					  another family than this are passed over */
	const char *interface;         /* NULL: any */
	uint32_t mark;                 /* 0: none */
	bool fast_open;
	struct port_rest *rest; /* where ports are short; NULL: it is not kept */
};

/*
 * error: 0: the owner's stream is open and writable and has no callback; peer and local are its two
 * ends. Else the errno that says most of all that were met, peer and local NULL, and the stream is
 * closed.
 */
typedef void connect_cb(int error, const struct endpoint *peer, const struct endpoint *local,
			void *arg);

struct connector {
	struct loop *loop; /* NULL: nothing under way */
	struct connect_plan plan;
	struct stream *out; /* the owner's */
	size_t out_at;      /* the address that is tried in it */
	struct list beside; /* attempts in streams of our own */
	size_t next;        /* the address to try next */
	unsigned n_open;    /* attempts under way */
	bool deferred;      /* when told: its SYN still waits for the first bytes */
	int error;          /* 0, or what is to be told if none stands */
	struct deadline delay;
	struct loop_task failed; /* all failed inside connector_start */
	struct endpoint local;
	connect_cb *cb;
	void *arg;
};

/**
 * out: initialised and closed. cb comes once, from the loop, never from inside this call, nor after
 * connector_cancel().
 */
void connector_start(struct connector *c, struct loop *l, const struct connect_plan *plan,
		     struct stream *out, connect_cb *cb, void *arg);
/** Closes the stream. Nothing under way: nothing happens. */
void connector_cancel(struct connector *c);

/** What an errno of connect() or of making its socket means. Trouble of our own is INTERNAL. */
enum verdict connect_verdict(int error);

#endif
