/*
 * pool: the picker of one pool, shared by all workers under its own mutex, which is held for well
 * under a microsecond and never while calling out.
 *
 * It knows of each member whether it is usable and has a free slot, as the fleet last told it; by
 * that, members are in the balancer of their tier or not, so a pick never scans. The lowest tier
 * that has a usable member (of weight > 0, not tried yet) is the one that counts; if its slots are
 * all taken the answer is "none", since a higher tier stands in for the dead, not for the busy.
 * With sticky a key's requests stay with the member that had the last one while that can be used: of
 * whatever tier and weight. If all its slots are taken another member stands in this once.
 * A pick for a race stays within the tiers of those that run already, and pins nothing.
 * With avoid, members that fail for the request's destination host are preferred the least: one of
 * them is chosen where without them nobody would be.
 * Life: pool_new -> pool_set_member for each -> pool_pick * n -> pool_free.
 */
#ifndef UPSTREAM_POOL_H
#define UPSTREAM_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "policy/policy.h"
#include "upstream/board.h"
#include "upstream/fleet.h"
#include "upstream/pool_queue.h"

struct pool;
struct pool_memory;

/* Of a member, or of a pool as a member of another: may new sessions go there, and is there a free
 * slot? */
struct pool_status {
	bool usable, room;
};

enum pool_result {
	POOL_PICKED, /* a slot of the member is taken (unless only looking) */
	POOL_FULL,   /* the member's last slot just went: set it so, ask again */
	POOL_BUSY,   /* who may be used has no free slot */
	POOL_NONE,   /* nobody may be used */
};

/**
 * @param conf     must outlive the pool
 * @param index    of the pool in the policy, as it stands in struct pick
 * @param memory   of the pool; must outlive it
 * @param entries  of each member; held by the caller as long as the pool lives
 * @param max      slots of each member; 0: no bound
 * No member is usable yet. NULL: out of memory.
 */
struct pool *pool_new(const struct policy_pool *conf, uint32_t index, struct pool_memory *memory,
                      struct board_entry *const *entries, const uint32_t *max) WARN_UNUSED;
void pool_free(struct pool *p);                /* NULL is fine */

/** What is known of a member changed. weight: 0-256. Returns the pool's own status after it. */
struct pool_status pool_set_member(struct pool *p, uint32_t member, struct pool_status now,
                                   uint32_t weight);
struct pool_status pool_get_status(struct pool *p);

/**
 * skip: members of any pool that are out of the question for this request. take: false only looks.
 */
enum pool_result pool_pick(struct pool *p, const struct pick *skip, size_t n_skip,
                           const struct pick_key *key, bool take, uint32_t *member) WARN_UNUSED;
/* As fleet_join_queue and so on. */
enum join_result pool_join(struct pool *p, struct pool_waiter *w, bool insist) WARN_UNUSED;
bool pool_leave(struct pool *p, struct pool_waiter *w) WARN_UNUSED;
void pool_end_turn(struct pool *p, struct pool_waiter *w, bool again);
uint32_t pool_waiting(struct pool *p);

/** The member failed a request for its destination, or served it; for the pool to remember. */
void pool_note_destination(struct pool *p, uint32_t member, const struct pick_key *key, bool served);
/** A request has found its way through the pool: by their number retries and races are bounded. */
void pool_note_request(struct pool *p);
/** Another attempt for a request that failed here, within the retry budget? If so it is counted. */
bool pool_may_retry(struct pool *p) WARN_UNUSED;
/** One more dial beside others for a race, within its budget? If so it is counted. */
bool pool_take_race(struct pool *p) WARN_UNUSED;
/** It is not dialled after all. */
void pool_give_back_race(struct pool *p);
/**
 * The member won a race for the request: a sticky key goes with it, unless it is pinned to one that
 * did not take part (skip: those that did).
 */
void pool_note_winner(struct pool *p, uint32_t member, const struct pick *skip, size_t n_skip,
                      const struct pick_key *key);
/** The member's index by name; false: there is none. */
bool pool_find_member(const struct pool *p, const char *name, uint32_t *member) WARN_UNUSED;
/** A member's sessions changed by other means than pool_pick. */
void pool_load_changed(struct pool *p, uint32_t member);

struct pool_member_view {
	struct pool_status status;
	uint32_t weight;
	uint64_t picks;                        /* counted, by this pool and those of its name before */
};
/** A way through this member was found: counts it. */
void pool_count_pick(struct pool *p, uint32_t member);
void pool_get_member(struct pool *p, uint32_t member, struct pool_member_view *out);

#endif
