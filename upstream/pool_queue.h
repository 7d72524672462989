/*
 * pool_queue: who waits for a slot of a pool's members, in order of arrival; under the pool's
 * mutex, all of it.
 *
 *   WAITING --a slot may be free--> TURN --took one, or left--> OUT
 *                  ^-------found none--'
 *
 * One waiter at a time has its turn: it is woken, tries to pick, and says how that went; that passes
 * the turn on. So each freed slot wakes one, no wake-up is lost when the one woken has gone, and
 * nobody overtakes. When the pool has no usable member any more all get a turn, to find that out.
 */
#ifndef UPSTREAM_POOL_QUEUE_H
#define UPSTREAM_POOL_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

enum waiter_state { WAITER_OUT, WAITER_WAITING, WAITER_TURN };

/* Embedded by its owner. */
struct pool_waiter {
	struct list link;
	uint64_t number;                       /* in order of arrival */
	enum waiter_state state;
	/* From any thread, with the pool's mutex held: may only post a message. */
	void (*wake)(struct pool_waiter *w);
};

struct pool_queue {
	struct list waiting;
	uint32_t n;                            /* of them */
	uint32_t n_turns;                      /* woken, and not heard of yet */
	uint64_t last_number;
};

void pool_queue_init(struct pool_queue *q);
/** Is anybody before a newcomer? */
static inline bool
pool_queue_is_busy(const struct pool_queue *q)
{
	return q->n + q->n_turns > 0;
}

/** At its place: the end for a newcomer (number 0), where it was for one whose turn was in vain. */
void pool_queue_add(struct pool_queue *q, struct pool_waiter *w);
/** WAITING: out of the queue. */
void pool_queue_remove(struct pool_queue *q, struct pool_waiter *w);
/** The first one behind a number has its turn, unless somebody has it or nobody is there. */
void pool_queue_next_turn(struct pool_queue *q, uint64_t behind);
void pool_queue_wake_all(struct pool_queue *q);
/** Its turn is over. */
void pool_queue_end_turn(struct pool_queue *q, struct pool_waiter *w);

#endif
