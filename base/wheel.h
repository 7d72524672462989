/*
 * wheel: coarse deadlines, many of them, cheap to set and to move.
 *
 * Slots of WHEEL_TICK_MS; a deadline fires in the first turn at or after its time, at most one tick
 * late, never early.
 * One that is further away than the wheel reaches waits in its slot and is put back when it comes
 * round. Setting an armed deadline later is free (only the time is stored; the slot that comes due
 * moves it on). One thread.
 */
#ifndef BASE_WHEEL_H
#define BASE_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

enum { WHEEL_TICK_MS = 32, WHEEL_SLOTS = 1024 };

struct deadline;
typedef void deadline_cb(struct deadline *d);

struct deadline {
	struct list link;                      /* in its slot; unlinked: not armed */
	uint64_t at_ms : 54;
	uint64_t slot : 10;                    /* where it lies, while armed */
	deadline_cb *fire;
};

struct wheel {
	struct list slots[WHEEL_SLOTS];
	uint64_t used[WHEEL_SLOTS / 64];       /* bit per slot that may hold something */
	uint64_t tick;                         /* last tick that was handled */
	unsigned n;                            /* armed */
};

void wheel_init(struct wheel *w, uint64_t now_ms);
void deadline_init(struct deadline *d, deadline_cb *fire);
/** Arms or moves. */
void wheel_set(struct wheel *w, struct deadline *d, uint64_t at_ms);
void wheel_clear(struct wheel *w, struct deadline *d);   /* not armed: nothing happens */

static inline bool
deadline_armed(const struct deadline *d)
{
	return list_linked(&d->link);
}

/** Fires what is due; callbacks may set and clear any deadline. */
void wheel_turn(struct wheel *w, uint64_t now_ms);
/** When wheel_turn has something to do next, in monotonic ms; UINT64_MAX: nothing is armed. */
uint64_t wheel_next_ms(const struct wheel *w);

#endif
