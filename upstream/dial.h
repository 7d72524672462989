/*
 * dial: one request under way, as the files of the dialer share it: dialer.c (life, picks, names,
 * connecting, retry), dial_walk.c (the hops' handshakes) and dial_pipeline.c (handshakes in one
 * piece). For nobody else.
 *
 *   PICK -> RESOLVE -> CONNECT -> TLS -> HANDSHAKE -> DONE
 *              ^                   ^________| |
 *              |_______________________________|
 *   any --dial_fail--> PICK (another member) or DONE
 *
 * RESOLVE and TLS only where they are needed; TLS and HANDSHAKE once for each hop, and back to
 * RESOLVE for a name that a hop can't carry.
 *
 * Whatever ends an attempt records the end and stops all that was under way; the entry points from
 * the loop look at the stage and tell the owner as the last thing they do. So nothing here is left
 * with a dial that is gone, and a false from one of these functions says only: nothing more to do
 * now.
 */
#ifndef UPSTREAM_DIAL_H
#define UPSTREAM_DIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/mailbox.h"
#include "base/slab.h"
#include "base/wheel.h"
#include "socks/hop.h"
#include "upstream/connector.h"
#include "upstream/dialer.h"
#include "upstream/pool_queue.h"

struct dial_wait;
struct resolve;

struct dialer {
	struct loop *loop;
	struct mailbox *mailbox; /* for turns in pools' queues */
	struct resolver *resolver;
	struct warm *warm;
	struct list dials;
	struct slab dial_slab, shake_slab;
};

/* What a walk over hops needs, only while it lasts. */
struct shake {
	struct hop hop;
	struct buffer in, out;
	struct endpoint to; /* what the hop is asked for */
	char username[HOP_USERNAME_MAX + 1], password[HOP_PASSWORD_MAX + 1];
	uint8_t in_bytes[HOP_IN_MAX], out_bytes[HOP_OUT_MAX];
};

/* Addresses of a name, with the port that is dialled. */
struct addresses {
	struct endpoint *list; /* NULL: not known */
	size_t n;
};

struct dial {
	struct list link; /* in dialer.dials */
	struct dialer *dialer;
	struct stream *stream; /* the caller's */
	dial_cb *cb;
	void *arg;
	struct dial_request request; /* what it points to is copied below */
	struct path fixed;
	struct endpoint client;
	char user[256], session[256];
	struct addresses given; /* of request.to, as the caller knew them */
	struct addresses
	    destination; /* of request.to, given or looked up, without those that are forbidden */
	struct dial_result result; /* of the attempt under way, or of the last */
	struct tried tried;
	char detail[256];
	struct loop_task ended; /* it ended inside dial_start */
	bool telling;           /* the callback runs */

	/* the attempt under way */
	enum dial_stage stage;
	uint8_t at; /* the hop that we connect to or talk with */
	bool connected;
	bool deferred;      /* fast open: nothing was heard yet from the first hop, if it is there */
	bool unfed;         /* bytes came behind the answer of the hop before */
	bool from_warm;     /* the first hop's connection was kept ready */
	bool fresh;         /* made again with one of its own, as that was dead */
	bool in_full;       /* made again with each answer awaited */
	bool halved;        /* the deadline that is set leaves time for that */
	bool pipeline_proven; /* every hop of pipelined has taken it before */
	uint8_t n_said;       /* hops that have been spoken to */
	uint16_t pipelined;   /* bit of each hop that is told all at once, with the next behind it */
	uint16_t suspects;    /* bit of each hop that could not take it, as it seems */
	uint64_t mark_us;   /* when the hop before was ready */
	uint64_t since_us;  /* from when connect times count; looking up is left out */
	uint64_t lookup_us; /* when the look-up under way began */
	uint64_t tls_began_us;
	uint64_t reached_us[PATH_HOPS_MAX]; /* how long it took until a hop could be spoken to; 0:
					       not yet */
	const struct endpoint
	    *looked_up;       /* the name in question: request.to, or an upstream's `at` */
	struct addresses hop; /* of looked_up, where that is an upstream's */
	struct resolve *resolve;
	struct connector connector;
	struct deadline deadline;
	struct shake *shake;
	struct dial_wait *wait; /* in a pool's queue, in stage PICK; NULL: it doesn't wait */
	struct path turn;       /* what dial_take_turn() picked */
};

/* dialer.c */

const struct policy_upstream *dial_upstream(const struct dial *x, unsigned at);

/** Ends the attempt: verdict, the hop to blame or -1, and why (copied). Another may have begun on
 * return. */
void dial_fail(struct dial *x, enum verdict v, int fault, const char *detail);
/** "hop 2 (tokyo)", or "upstream tokyo" where it is the only one: in out, returned. */
const char *dial_hop_text(const struct dial *x, unsigned at, char *out, size_t cap);
/** The system refuses us memory: nobody is to blame. */
void dial_fail_no_memory(struct dial *x);
/** The first hop can't be connected to. */
void dial_fail_connect(struct dial *x, int error);
/** Ends the dial well. */
void dial_grant(struct dial *x);

/** Looks `name` up. True: the answer is there; false: it is awaited (walk_talk goes on then), or
 * the attempt ended. */
bool dial_look_up(struct dial *x, const struct endpoint *name);
/** The addresses of `name` (request.to or an upstream's `at`) that may be used; NULL: not looked up
 * yet. */
const struct addresses *dial_addresses(const struct dial *x, const struct endpoint *name);
void dial_fail_forbidden(struct dial *x);

/** This hop (UINT32_MAX: the direct connection) has done its part. */
void dial_note_hop_time(struct dial *x, uint32_t upstream);

/** The dial's turn in the queue has come: picks. */
enum pick_result dial_take_turn(struct dial *x);
/** The attempt goes on, or ends, with what dial_take_turn() said: OK or NONE. May be the end of x. */
void dial_end_turn(struct dial *x, enum pick_result result);

/* dial_queue.c */

/** Gets in line in the pool's queue. insist: as fleet_join_queue(). */
enum join_result dial_wait_start(struct dial *x, uint32_t pool, bool insist) WARN_UNUSED;
/** Leaves it. It doesn't wait: nothing happens. */
void dial_wait_end(struct dial *x);

/* dial_walk.c */

/** The way to the hop at x->at stands: its TLS or its handshake begins. */
bool walk_enter(struct dial *x);
/** The handshake with the hop at x->at begins, or goes on looking for an address to ask it for. */
bool walk_talk(struct dial *x);
/** A step in stage TLS or HANDSHAKE. True: another may follow at once. */
bool walk_step(struct dial *x);
/** The PROXY header to the one at x->at, where it wants one. False: the attempt ended. */
bool walk_send_proxy(struct dial *x);
void walk_drop(struct dial *x); /* gives the memory of the walk back */

/* dial_pipeline.c */

/** At the start of an attempt: which hops are told all at once. */
void pipeline_plan(struct dial *x);
/** The hop at n_said - 1 has been spoken to: on with those behind it, as far as that goes. */
void pipeline_say_ahead(struct dial *x);
/** Could it be that a hop can't take what was said ahead? */
bool pipeline_may_be_why(const struct dial *x, enum verdict v);
/** It is tried again in full. */
void pipeline_suspect(struct dial *x);
/** Granted: what is known now of the hops. */
void pipeline_remember(struct dial *x);

#endif
