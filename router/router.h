/*
 * router: the running whole: workers and their threads, the control thread's loop with signals, health checks, file watching and
 * policy changes, and the drain at the end. The admin side sees it as `struct control` (router/control.h).
 *
 * All of struct control is the control thread's, except what says otherwise. Questions from other threads come in through its
 * mailbox; what is answered at once is atomic, or under `lock`.
 * Life: router_new -> router_run (the calling thread becomes the control thread; returns the exit code) -> router_free.
 */
#ifndef ROUTER_ROUTER_H
#define ROUTER_ROUTER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/loop.h"
#include "base/mailbox.h"
#include "router/control.h"
#include "router/revision.h"
#include "router/worker.h"

struct dialer;
struct health;
struct resolver;
struct watch;

enum { PING_MS = 2000, STUCK_MS = 5000 };

struct worker_thread {
	struct worker *worker;
	pthread_t thread;
	bool started;
	struct message ping;
	bool ping_under_way;
	atomic_uint_least64_t ping_sent_ms, ping_seen_ms;
};

struct control {
	struct shared shared;
	struct worker_thread *threads;
	unsigned n_workers;
	struct loop *loop;
	struct mailbox *mailbox;
	struct resolver *resolver;             /* for checks and explain */
	struct dialer *dialer;
	struct health *health;
	struct watch *watch;
	struct events *events;                 /* any thread's */
	struct list probes;                    /* under way: router/probe.c */
	struct event *signals[4];
	struct inheritance *inheritance;       /* borrowed, until router_run */
	struct takeover *takeover;             /* under way; NULL: none */
	const struct router_hooks *hooks;
	struct deadline ping_timer;
	uint64_t started_ms;

	/* policy changes: router/publish.h */
	struct list changes;                   /* waiting, in order */
	struct change *change;                 /* the one under way */
	const char *policy_path;               /* NULL: none; SIGHUP takes the built-in text again */
	uint64_t last_revision;
	uint64_t told_faults;                  /* a hash of those of the last change that nobody asked for; 0: it had none */

	/* drain */
	atomic_uint state;                     /* enum control_state */
	struct deadline drain_deadline;
	unsigned undrained;                    /* workers */
	bool cut;                              /* sessions had to be ended */

	pthread_mutex_t lock;                  /* over `revision`, and over each swap of it */
	struct revision *revision;             /* in force */
};

/* What belongs to the roof, called from the control thread. */
struct router_hooks {
	/** The admin API's listening socket and its key ("admin:HOST:PORT"); -1: there is none. */
	int (*admin_socket)(void *arg, char *key, size_t cap);
	/** The heir serves: stop accepting there. */
	void (*handed_over)(void *arg);
	void *arg;
};

struct router_options {
	struct inheritance *inheritance;       /* from a process before; NULL: none. Borrowed until router_new returns */
	const struct router_hooks *hooks;      /* valid as long as the router */
	struct policy *policy;                 /* the first; the reference is taken */
	const char *policy_path;               /* absolute; NULL: no file */
};

/** Before the first thread is made: the signals that a router handles are blocked, so that only the control thread takes them. */
void router_block_signals(void);

/** NULL: why is told in `why` (cap bytes): a listener that can't be opened, no memory. Nothing is served before router_run. */
struct control *router_new(const struct router_options *o, char *why, size_t cap);
/** Serves until drained. 0, or 1 where sessions had to be cut. */
int router_run(struct control *c);
void router_free(struct control *c);           /* NULL is fine */

/** Begins the drain; the control thread only. Again is nothing. */
void router_drain(struct control *c);
/** The revision in force, with a reference. Any thread. */
struct revision *router_hold_revision(struct control *c);

#endif
