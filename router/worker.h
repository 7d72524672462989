/*
 * worker: one thread with all that it uses: loop, listeners, sessions, resolver, dialer, buffers, counters. Nothing of it is locked.
 *
 * Others talk to it through its mailbox alone; its counters are read from outside (relaxed), nothing else is. A policy comes as a
 * message: the worker swaps its lease, and a retired lease without sessions drops the worker's one reference to the revision.
 * Life: worker_new -> worker_run (the thread) -> worker_post_stop -> joined -> worker_free.
 */
#ifndef ROUTER_WORKER_H
#define ROUTER_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/counters.h"
#include "base/histogram.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/mailbox.h"
#include "base/slab.h"
#include "router/revision.h"
#include "router/relay.h"
#include "router/tls_gate.h"
#include "router/udp_assembly.h"
#include "router/udp_socket.h"
#include "socks/verdict.h"

struct auth;
struct board;
struct clients;
struct dialer;
struct gss_pool;
struct listener;
struct resolver;
struct router;

/* One revision as a worker uses it; sessions count themselves in. */
struct lease {
	struct list link;                      /* in worker->leases */
	struct revision *revision;
	unsigned sessions;
	bool retired;
};

enum session_state {
	SESSION_HANDSHAKE,     /* until the request is known */
	SESSION_CHECKING,      /* the password, off the loop, or the user, by the client's identd */
	SESSION_RESOLVING,     /* a rule wants addresses */
	SESSION_DIALING,
	SESSION_BINDING,       /* a BIND has its first reply and waits for the peer */
	SESSION_RELAYING,
	SESSION_ASSOCIATED,    /* its datagrams are carried as long as the connection stands */
	SESSION_LINGERING,     /* the last word is said, by us or both ends; what still comes is thrown away for a moment */
	SESSION_CLOSED,        /* memory waits for the end of the turn */
	SESSION_STATES
};

/* Shared by all workers, made before them and freed after them. */
struct shared {
	struct board *board;
	struct auth *auth;
	struct gss_pool *gss;                  /* for those who accept */
	struct gss_pool *initiators;           /* who take the steps of Kerberos towards upstreams */
	struct clients *clients;
	unsigned n_workers;
	unsigned places;                       /* sessions that the descriptors suffice for; as it is when the workers start */
	atomic_uint_least64_t next_id;         /* of sessions; handed out in blocks */
	atomic_uint_least64_t short_ms;        /* when descriptors ran out last; 0: never */
	_Alignas(64) atomic_uint open;         /* sessions of all listeners, for limits.max_connections */
};

struct worker {
	unsigned number;
	struct shared *shared;
	struct loop *loop;
	struct mailbox *mailbox;
	struct resolver *resolver;
	struct dialer *dialer;
	struct relay_pool relays;
	struct udp_pool datagrams;
	struct udp_assemblies assemblies;
	struct tls_gate tls_gate;
	struct lease *lease;                   /* in force; NULL before the first revision */
	struct list leases;                    /* with those retired */
	struct revision *resolver_revision;    /* whose dns block the resolver uses */
	struct list listeners;
	struct deadline resume;                /* paused listeners look again */
	struct slab sessions, shakes, taken;
	struct deadline trim;                  /* memory kept for sessions to come goes back where none came */
	uint64_t trim_accepted;                /* how many had come when it was set */
	struct list by_state[SESSION_STATES];
	struct loop_task reap;
	uint64_t id, id_end;                   /* the block of session ids in hand */
	bool draining;
	void (*on_drained)(struct worker *w);  /* once, when draining and the last session is gone */
	struct random random;

	struct counters counters;
	atomic_uint_least64_t replies[VERDICT_N];
	struct histogram handshakes;           /* from accept to a whole request */
	atomic_uint_least64_t memory_sessions; /* bytes */
};

/** NULL: out of memory or descriptors. */
struct worker *worker_new(struct shared *shared, unsigned number);
/** All sessions are closed, all handles cancelled. The thread has ended, or never began. NULL is fine. */
void worker_free(struct worker *w);

/* ---- by its own thread ---- */

/** Takes up a revision (takes the reference): listeners added and removed, open sessions untouched. */
void worker_use(struct worker *w, struct revision *r);
/** Listeners close after their backlog; on_drained comes when no session is left (at once if there is none). */
void worker_drain(struct worker *w, void (*on_drained)(struct worker *w));
/** Ends every session. Returns how many there were. */
unsigned worker_cut(struct worker *w);
unsigned worker_sessions(const struct worker *w);

struct lease *worker_hold_lease(struct worker *w);
void worker_release_lease(struct worker *w, struct lease *l);
uint64_t worker_next_session_id(struct worker *w);
/** A session is gone: a paused listener may accept again. */
void worker_session_gone(struct worker *w);
/** A session has taken memory. */
void worker_memory_taken(struct worker *w);
/** Closed sessions give their memory back at the end of the turn. */
void worker_reap_later(struct worker *w);

static inline void
worker_count_reply(struct worker *w, enum verdict v)
{
	atomic_uint_least64_t *cell = &w->replies[v];
	atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + 1, memory_order_relaxed);
}

#endif
