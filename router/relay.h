/*
 * relay: carries bytes between two open streams until both directions have ended. It owns neither stream, only what is under way.
 *
 *        client --up--> upstream
 *        client <-down- upstream
 *
 * Two independent flows. Small data is read into the worker's one buffer and sent at once; where a read fills that buffer the flow
 * turns to splice(2) through a pooled pipe and stays there until a splice brings little ("sticky"). Nothing is held while nothing
 * is under way: a leftover gets memory only on a short send, a pipe goes back once it is empty. A flow's SHUT_WR is sent exactly
 * once, when its source is at EOF and neither leftover nor pipe holds bytes.
 *
 * Small data goes on in the event that brings it. Relays with bulk wait in a queue of the worker's, and at the end of each turn of
 * its loop those at the front have theirs, RELAY_TURN_BYTES in all: so however many there are, what is small waits for one of them.
 *
 * When a destination can no longer be written to, the flow towards it ends but the other one goes on: what the peer sent
 * before it broke off is still delivered.
 *
 * Life: relay_start -> on_end once (from the loop, never from inside relay_start) | relay_stop (any time, calls nobody). One thread.
 */
#ifndef ROUTER_RELAY_H
#define ROUTER_RELAY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/counters.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/stream.h"

enum {
	RELAY_BUFFER_BYTES = 16 << 10,
	RELAY_PIPE_BYTES = 1 << 20,
	/*
	 * Per worker. The kernel's 64 MiB for all pipes of an ordinary user bound the large ones; those after them
	 * stay as the kernel makes them (64 KiB), so that readers who stall on a full pipe take no one else's.
	 */
	RELAY_PIPES_LARGE = 24,
	RELAY_PIPES_MAX = 256,
	RELAY_TURN_BYTES = 1 << 20,    /* of a flow before it gives way, and of all bulk in a turn */
	RELAY_TURN_SEALED_BYTES = 256 << 10,   /* of a flow that GSS-API seals, at either end */
	RELAY_READ_LEAST = 1 << 10,    /* what a read counts for: a message that is opened may hold one byte */
	RELAY_BULK_LEAST = 4 << 10,    /* a splice of less turns the flow back to copying */
};

enum relay_end {
	RELAY_DONE,                    /* both directions ended properly */
	RELAY_CLIENT_BROKE,            /* reset or error on the client's side */
	RELAY_UPSTREAM_BROKE,
};

struct relay;
typedef void relay_end_cb(struct relay *r, enum relay_end how);

/* What the relays of one worker share. */
struct relay_pool {
	relay_end_cb *on_end;
	struct loop *loop;
	struct counters *counters;
	uint8_t *buffer;
	struct list free_pipes;
	unsigned n_pipes, n_free_pipes, max_pipes;
	atomic_uint_least64_t held_bytes;      /* of leftovers, all relays; read by others, too */
	struct list busy;              /* relays with more to do */
	uint64_t spent;                /* of turns, by all: bytes, or what costs as much */
	struct loop_task turn;         /* queued while one is busy */
};

bool relay_pool_init(struct relay_pool *p, struct loop *l, struct counters *c, relay_end_cb *on_end) WARN_UNUSED;
/** No more pipes than so many, RELAY_PIPES_MAX at most. */
void relay_pool_bound(struct relay_pool *p, unsigned max_pipes);
/** Descriptors are short: pipes that nobody uses are closed. */
void relay_pool_shrink(struct relay_pool *p);
void relay_pool_free(struct relay_pool *p);

struct pipe;
struct leftover;

struct flow {
	uint64_t bytes : 59;           /* delivered to `to`; flow_count() adds */
	uint64_t bulk : 1;             /* splice */
	uint64_t no_splice : 1;        /* the kernel won't */
	uint64_t ended : 1;            /* the source is at EOF */
	uint64_t broken : 1;           /* the source ended by an error */
	uint64_t done : 1;             /* nothing more will be written to `to` */
	struct leftover *leftover;     /* before the pipe, never both growing */
	struct pipe *pipe;
};

static inline void
flow_count(struct flow *f, uint64_t n)
{
	f->bytes = (f->bytes + n) & ((UINT64_C(1) << 59) - 1);
}

/* What every idle session holds: kept small. */
struct relay {
	struct relay_pool *pool;
	int16_t client_at, upstream_at; /* how far from here the streams are */
	uint32_t active_ms;            /* loop time of the last byte; wraps after 49 days */
	struct flow up, down;
	struct list link;              /* in pool->busy */
};

/* Bytes that go first. Copied where they can't be sent at once. */
struct relay_head {
	const uint8_t *bytes;
	size_t len;
	bool ended;                    /* the source is known to be at EOF after them */
};

/**
 * @param to_upstream  what the client sent behind its request
 * @param to_client    the reply, and what came behind the last hop's handshake
 * @return false: out of memory, nothing was started
 * Takes the callbacks of both streams, which lie within 32 KiB of the relay: its owner's, as it is.
 */
bool relay_start(struct relay *r, struct relay_pool *p, struct stream *client, struct stream *upstream,
                 const struct relay_head *to_upstream, const struct relay_head *to_client) WARN_UNUSED;
void relay_stop(struct relay *r);
/** Since the last byte. */
uint64_t relay_idle_ms(const struct relay *r, struct loop *l);

/** True if it holds neither leftover nor pipe. */
static inline bool
relay_holds_nothing(const struct relay *r)
{
	return r->up.leftover == NULL && r->up.pipe == NULL && r->down.leftover == NULL && r->down.pipe == NULL;
}

#endif
