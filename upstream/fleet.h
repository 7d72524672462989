/*
 * fleet: the live counterpart of one policy's upstreams, pools and chains, shared by all workers; a
 * new one is made with each policy.
 *
 * Board entries are found again by name, so counts and states go on across a reload. A pool's
 * picker is shared between workers under the pool's own mutex, held for well under a microsecond
 * and never while calling out: only so are round robin exact, least connections correct and a
 * sticky table one for all. That is on the connection path, never on the data path. Whether a pool
 * or a chain has a way at all, and a free slot on it, is worked out from its leaves upwards when a
 * leaf changes, under a mutex of the fleet's that a pick does not take unless it meets the last
 * free slot of an upstream.
 * Life: fleet_new (control thread) -> fleet_ref / fleet_unref (any thread).
 */
#ifndef UPSTREAM_FLEET_H
#define UPSTREAM_FLEET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "policy/policy.h"
#include "socks/command.h"
#include "upstream/board.h"

struct fleet;
struct pool_waiter;
struct tls_context;

enum {
	PATH_HOPS_MAX = POLICY_HOPS_MAX,       /* a policy with longer paths is no policy */
	PATH_PICKS_MAX = POLICY_PICKS_MAX,
	PATH_CHAINS_MAX = POLICY_CHAINS_MAX,
	TRIED_MAX = 16,
};

/* What identifies the client and its destination to a balancer; pointers valid during the call. */
struct pick_key {
	const struct endpoint *client;
	const char *user, *session;
	const struct endpoint *to;             /* as it is known: base/idn.h */
	uint8_t command;                       /* enum socks_command; 0: CONNECT. Pool members that
	                                          can't do it are passed over */
	bool has_turn;                         /* it has waited in a queue: nobody there is before it */
	bool races;                            /* beside members that were picked before */
};

/* A pick that was taken in a pool: given back once, when the session (or the attempt) ends. */
struct pick {
	uint32_t pool, member;
};

/*
 * The hops to take, resolved through pools and chains. direct: n_hops is 0; a direct:// upstream is
 * a hop whose scheme is SCHEME_DIRECT. Whoever makes one by hand (a check's own path) starts from
 * zeros: nothing is held then.
 */
struct path {
	bool held;                             /* slots and counts are taken: to be given back */
	uint8_t n_hops, n_picks, n_chains;
	uint8_t n_direct;                      /* times that "direct" stands on the way */
	uint32_t hops[PATH_HOPS_MAX];          /* indexes into policy->upstreams */
	uint8_t hop_pick[PATH_HOPS_MAX];       /* innermost pick that led here; UINT8_MAX: none */
	struct pick picks[PATH_PICKS_MAX];     /* outer pools before those inside */
	uint32_t chains[PATH_CHAINS_MAX];      /* that it leads through */
	uint32_t busy_pool;                    /* of PICK_BUSY */
};

/** An empty path; the lists are left as they are, their lengths are 0. */
static inline void
path_clear(struct path *p)
{
	p->held = false;
	p->n_hops = p->n_picks = p->n_chains = p->n_direct = 0;
	p->busy_pool = 0;
}

/* Members that this request tried in vain, and the upstreams at fault: other members that lead
 * through those come last. And the pools that it led through so far. */
struct tried {
	uint8_t n, n_failed, n_pools;
	struct pick list[TRIED_MAX];
	uint32_t failed[TRIED_MAX];            /* indexes into policy->upstreams */
	uint32_t pools[TRIED_MAX];             /* that have counted the request */
};

/**
 * Takes a policy reference; the board must outlive it. The control thread, or any other that may
 * wait for files.
 * @param why  what stands in the way, for the log (cap bytes): TLS files that can't be read
 * @return NULL, and why
 */
struct fleet *fleet_new(struct policy *p, struct board *b, char *why, size_t cap) WARN_UNUSED;
struct fleet *fleet_ref(struct fleet *f);
void fleet_unref(struct fleet *f);                     /* NULL is fine */
struct policy *fleet_policy(const struct fleet *f);

struct board_entry *fleet_upstream(const struct fleet *f, uint32_t upstream);
struct board_entry *fleet_pool(const struct fleet *f, uint32_t pool);
struct board_entry *fleet_chain(const struct fleet *f, uint32_t chain);
struct board_entry *fleet_direct(const struct fleet *f);
/** TLS settings of an upstream; NULL where its scheme has none. */
struct tls_context *fleet_tls(const struct fleet *f, uint32_t upstream);

/* BUSY: no slot is free where one may come free: path.busy_pool has a queue for that. */
enum pick_result { PICK_OK, PICK_NONE, PICK_BUSY };

enum join_result { JOIN_WAITS, JOIN_TRY_AGAIN, JOIN_FULL };

/**
 * Chooses members and takes their slots. On anything but PICK_OK nothing is held. route: not ROUTE_REJECT.
 * tried may be NULL; the pools on the way are added to it. An upstream that stands on the way
 * already is chosen once more only where a pool has no other, as one that failed this request is.
 */
enum pick_result fleet_pick_path(struct fleet *f, struct policy_route route,
                                 const struct pick_key *key, struct tried *tried,
                                 struct path *out) WARN_UNUSED;
/** A path made by hand: the first n hops of another. It holds nothing and nobody picked it. */
struct path fleet_first_hops(const struct path *path, unsigned n);
/** Gives all slots and counts of a path back; once. A path that holds nothing may come too. */
void fleet_give_back_path(struct fleet *f, const struct path *path);

/**
 * Gets in line for a slot of the pool: the waiter's wake() comes when there may be one for it. It
 * then picks, with key.has_turn, and says so by fleet_end_turn. JOIN_TRY_AGAIN: one came free
 * meanwhile; it is not in line. insist: get in line all the same.
 */
enum join_result fleet_join_queue(struct fleet *f, uint32_t pool, struct pool_waiter *w,
                                  bool insist) WARN_UNUSED;
/** False: it has been woken, and fleet_end_turn is still to come. */
bool fleet_leave_queue(struct fleet *f, uint32_t pool, struct pool_waiter *w) WARN_UNUSED;
/** again: there was none for it, so it is back in line, where it was. */
void fleet_end_turn(struct fleet *f, uint32_t pool, struct pool_waiter *w, bool again);
/** How many wait. */
uint32_t fleet_pool_waiting(struct fleet *f, uint32_t pool);

/** A request failed by the upstream's fault. pool: that which chose it; UINT32_MAX: none did. */
void fleet_note_failure(struct fleet *f, uint32_t pool, uint32_t upstream);
/** A path stands after so long: chains and pools that were picked are measured by that. */
void fleet_note_connect(struct fleet *f, const struct path *path, uint64_t us);
/** The upstream did its part of a request. */
void fleet_note_success(struct fleet *f, uint32_t upstream);

/** A pick failed a request for its destination, or served it; for its pool to remember. */
void fleet_note_destination(struct fleet *f, struct pick pick, const struct pick_key *key,
                            bool served);

/** Another attempt after one that failed in this pool, within its retry budget? Counted if so. */
bool fleet_may_retry(struct fleet *f, uint32_t pool) WARN_UNUSED;

/** A dial more, beside others of this pool's race? Counted if so. */
bool fleet_take_race(struct fleet *f, uint32_t pool) WARN_UNUSED;
/** It is not dialled after all. */
void fleet_give_back_race(struct fleet *f, uint32_t pool);
/** The path won a race against those tried: sticky keys go with it. */
void fleet_note_winner(struct fleet *f, const struct path *path, const struct tried *others,
                       const struct pick_key *key);
/** A pick lost a race after so long: at least so slow it is. */
void fleet_note_loser(struct fleet *f, struct pick pick, uint64_t us);

/* A member as the API shows it. Texts are valid as long as the fleet. */
struct member_view {
	const char *name;
	const char *state;                     /* board_state_text(); pool, chain: "up", "down" */
	uint32_t weight, tier, sessions_open;
	uint64_t picks;
	bool usable;                           /* a request could go there now */
	const char *reason;                    /* why it could not; "" */
};
/** Copies up to cap views; returns the number of members. */
size_t fleet_pool_members(struct fleet *f, uint32_t pool, struct member_view *out, size_t cap);
/* Of a sticky pool: what a key is pinned to; valid during the call only. */
typedef void fleet_pin_cb(const char *key, const char *member, uint64_t left_ms, void *arg);
/** All that have not expired, most recently used first. With the table's mutex held: short. */
void fleet_each_pin(struct fleet *f, uint32_t pool, fleet_pin_cb *each, void *arg);
/** Pins a key by hand; false: the pool has no such member. */
bool fleet_pin(struct fleet *f, uint32_t pool, const char *key, const char *member) WARN_UNUSED;
/** key NULL: all. Returns how many there were. */
size_t fleet_unpin(struct fleet *f, uint32_t pool, const char *key);
/** Is there any way along this route now? (leaf by leaf through pools and chains) */
bool fleet_route_usable(struct fleet *f, struct policy_route route);
/** Can a way along this route do its part of a command, usable or not? last: as in kinds.h. */
bool fleet_route_can(const struct fleet *f, struct policy_route route, enum socks_command command,
                     bool last);
/** The path a request would take now, without taking anything. For explain. */
enum pick_result fleet_preview_path(struct fleet *f, struct policy_route route,
                                    const struct pick_key *key, struct path *out) WARN_UNUSED;

/**
 * An upstream's state, weight or admin setting changed, and why: all fleets that have it look
 * again, and the board's listener is told. Any thread.
 */
void fleet_state_changed(struct fleet *f, uint32_t upstream, const char *why);

#endif
