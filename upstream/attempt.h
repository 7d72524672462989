/*
 * attempt: one try of a dial along one path: picks it, looks names up, connects, walks the hops'
 * handshakes, and knows how it ended. A dial owns its attempts; for the files of the dialer alone:
 * attempt.c (picks, connecting, time), attempt_names.c (look-ups), dial_walk.c (the hops'
 * handshakes), dial_pipeline.c (handshakes in one piece), dial_queue.c (waiting for a slot),
 * attempt_end.c (what an end means), dial_race.c (several side by side) and dialer.c, which tells
 * the dial's owner.
 *
 *   PICK -> RESOLVE -> CONNECT -> TLS -> HANDSHAKE -> DONE
 *              ^                   ________| |
 *              |_______________________________|
 *   any --attempt_fail--> PICK (another member) or DONE
 *
 * RESOLVE and TLS only where they are needed; TLS and HANDSHAKE once for each hop, and back to
 * RESOLVE for a name that a hop can't carry.
 *
 * Whatever ends an attempt records the end and stops all that was under way; the entry points from
 * the loop look at the stage and tell the owner as the last thing they do (attempt_go_on). So
 * nothing here is left with an attempt that is gone, and a false from one of these functions says
 * only: nothing more to do now.
 */
#ifndef UPSTREAM_ATTEMPT_H
#define UPSTREAM_ATTEMPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/turn_share.h"
#include "base/wheel.h"
#include "socks/hop.h"
#include "upstream/connector.h"
#include "upstream/dialer.h"
#include "upstream/pool_queue.h"

struct dial;
struct dial_wait;
struct gss_talk;
struct resolve;

/* What a walk over hops needs, only while it lasts. */
struct shake {
	struct hop hop;
	struct buffer in, out;
	struct endpoint to; /* what the hop is asked for */
	struct gss_talk *talk; /* with the hop, where it is Kerberos that it wants; else NULL */
	/* from here on the slab leaves what was there before */
	char username[HOP_USERNAME_MAX + 1], password[HOP_PASSWORD_MAX + 1];
	uint8_t in_bytes[HOP_IN_MAX], out_bytes[HOP_OUT_MAX];
};

/* Addresses of a name, with the port that is dialled. */
struct addresses {
	struct endpoint *list; /* NULL: not known */
	size_t n;
};

struct attempt {
	struct list link; /* in dial.attempts */
	struct dial *dial;
	struct stream *stream; /* what it connects */
	struct loop_task ended; /* it ended, or has a warm connection, inside a call of the owner's */
	struct turn_step tls_step;

	enum dial_stage stage;
	uint8_t at; /* the hop that we connect to or talk with */
	bool connected;
	bool deferred;      /* fast open: nothing was heard yet from the first hop, if it is there */
	bool unfed;         /* bytes came behind the answer of the hop before */
	bool from_warm;     /* the first hop's connection was kept ready */
	bool fresh;         /* made again with one of its own, as that was dead */
	bool in_full;       /* made again with each answer awaited */
	bool halved;        /* the deadline that is set leaves time for that */
	bool decides;       /* it failed with the destination's own answer: no other is awaited */
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

	/* from here on the slab leaves what was there before */
	struct dial_result result; /* so far; when it failed, until the next one has a path */
	struct path turn;          /* what attempt_take_turn() picked */
	char detail[256];
};

enum { ATTEMPT_HEAD = offsetof(struct attempt, result) };

/* attempt.c */

/** What is zero up to ATTEMPT_HEAD becomes an attempt of the dial, in a stream that is closed. */
void attempt_init(struct attempt *a, struct dial *x, struct stream *s);
/** Picks a path and sets out on it, or ends. */
void attempt_start(struct attempt *a);
/** Sets out on a path that was picked, which is held. */
void attempt_take(struct attempt *a, const struct path *path);
/** Once more along a->result.path, which is held. */
void attempt_begin(struct attempt *a);
/** Goes on as far as it can without waiting, and tells the end where it came: the dial may be gone
 * after. */
void attempt_go_on(struct attempt *a);
/** Stops all that is under way beside the stream. */
void attempt_settle(struct attempt *a);
/** Stops it in vain: all that it took is given back. */
void attempt_stop(struct attempt *a);
/** The memory that was left for its end to be told. */
void attempt_drop(struct attempt *a);

const struct policy_upstream *attempt_upstream(const struct attempt *a, unsigned at);
/** No proxy is on its way. */
bool attempt_is_direct(const struct attempt *a);
/** This hop (UINT32_MAX: the direct connection) has done its part, now. */
void attempt_note_hop_time(struct attempt *a, uint32_t upstream, uint64_t now_us);
/** What was looked up is there: on with connecting or talking. */
void attempt_resolved(struct attempt *a);

/** The attempt's turn in the queue has come: picks. */
enum pick_result attempt_take_turn(struct attempt *a);
/** It goes on, or ends, with what attempt_take_turn() said: OK or NONE. May be the end of the
 * dial. */
void attempt_end_turn(struct attempt *a, enum pick_result result);

/* attempt_names.c */

/** Looks `name` up. True: the answer is there; false: it is awaited (attempt_resolved then), or the
 * attempt ended. */
bool attempt_look_up(struct attempt *a, const struct endpoint *name);
/** The addresses of `name` (request.to or an upstream's `at`) that may be used; NULL: not looked up
 * yet. */
const struct addresses *attempt_addresses(const struct attempt *a, const struct endpoint *name);
/** No time is left for the look-up under way. */
void attempt_fail_look_up(struct attempt *a);
void attempt_stop_look_up(struct attempt *a);

/* attempt_end.c */

/** Ends the attempt: verdict, the hop to blame or -1, and why (copied). Another may have begun on
 * return. */
void attempt_fail(struct attempt *a, enum verdict v, int fault, const char *detail);
/** A hop is at fault for which there are no other words than why. */
void attempt_fail_hop(struct attempt *a, enum verdict v, unsigned at, const char *what,
		      const char *why);
/** "hop 2 (tokyo)", or "upstream tokyo" where it is the only one: in out, returned. */
const char *attempt_hop_text(const struct attempt *a, unsigned at, char *out, size_t cap);
/** The system refuses us memory: nobody is to blame. */
void attempt_fail_no_memory(struct attempt *a);
/** The first hop can't be connected to. */
void attempt_fail_connect(struct attempt *a, int error);
void attempt_fail_forbidden(struct attempt *a);
/** No path was found. The attempt before, if there was one, is the one that decided. */
void attempt_fail_without_way(struct attempt *a, const char *why);
/** Ends it well. */
void attempt_grant(struct attempt *a);

/* dial_queue.c */

/** Gets in line in the pool's queue. insist: as fleet_join_queue(). */
enum join_result attempt_wait_start(struct attempt *a, uint32_t pool, bool insist) WARN_UNUSED;
/** Leaves it. It doesn't wait: nothing happens. */
void attempt_wait_end(struct attempt *a);

/* dial_walk.c */

/** The way to the hop at a->at stands: its TLS or its handshake begins. */
bool walk_enter(struct attempt *a);
/** The handshake with the hop at a->at begins, or goes on looking for an address to ask it for. */
bool walk_talk(struct attempt *a);
/** A step in stage TLS or HANDSHAKE. True: another may follow at once. */
bool walk_step(struct attempt *a);
/** The PROXY header to the one at a->at, where it wants one. False: the attempt ended. */
bool walk_send_proxy(struct attempt *a);
/** No time is left for the hop at a->at, be it to be reached, to speak, or for Kerberos to. */
void walk_fail_late(struct attempt *a);
void walk_drop(struct attempt *a); /* gives the memory of the walk back */

/* dial_pipeline.c */

/** At the start of an attempt: which hops are told all at once. */
void pipeline_plan(struct attempt *a);
/** The hop at n_said - 1 has been spoken to: on with those behind it, as far as that goes. */
void pipeline_say_ahead(struct attempt *a);
/** Could it be that a hop can't take what was said ahead? */
bool pipeline_may_be_why(const struct attempt *a, enum verdict v);
/** It is tried again in full. */
void pipeline_suspect(struct attempt *a);
/** Granted: what is known now of the hops. */
void pipeline_remember(struct attempt *a);

#endif
