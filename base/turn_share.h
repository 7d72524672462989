/*
 * turn_share: so much of each turn of a loop, and no more, is for steps that cost much (those of TLS handshakes), however many of
 * them become due at once: what else is ready has its turn as often.
 *
 * A step is asked for, then taken and its time noted. Those for which a turn has no time left are called in the next ones, in the
 * order in which they came. A step longer than a turn's share is taken all the same, alone.
 *
 * Life: turn_share_init -> steps come and go -> turn_share_free. The loop's thread.
 */
#ifndef BASE_TURN_SHARE_H
#define BASE_TURN_SHARE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"
#include "base/list.h"
#include "base/loop.h"

struct turn_share {
	struct loop *loop;
	struct list queue;                     /* of steps */
	struct loop_task task;                 /* while there is somebody to call */
	uint64_t share_us, spent_us;           /* of each turn; in turn `turn` */
	uint64_t turn;
};

/* Embedded by its owner. */
struct turn_step {
	struct list link;                      /* in share->queue */
	void (*take)(struct turn_step *s);     /* from the loop: turn_share_may_step will say yes */
	uint64_t queued_ms;
	bool called;
};

void turn_share_init(struct turn_share *t, struct loop *l, uint64_t share_us);
/** Nobody waits any more. */
void turn_share_free(struct turn_share *t);

void turn_step_init(struct turn_step *s, void (*take)(struct turn_step *s));
/** May the step be taken now? False: it waits, and is called when it may. */
bool turn_share_may_step(struct turn_share *t, struct turn_step *s) WARN_UNUSED;
/** It is called when there is time, in this turn at the earliest by turn_share_call(). It doesn't wait yet. */
void turn_share_wait(struct turn_share *t, struct turn_step *s);
/** Calls those that there is time for now. From a task of the loop. */
void turn_share_call(struct turn_share *t);
/** A step took so long. */
void turn_share_note(struct turn_share *t, uint64_t us);
/** It is wanted no more. Again is fine. */
void turn_step_drop(struct turn_step *s);

static inline bool
turn_step_waits(const struct turn_step *s)
{
	return list_linked(&s->link);
}

#endif
