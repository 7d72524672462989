/*
 * loop: one thread's event loop: a libevent base without locks, the turn's time, deadlines, and
 * work put off to the next turn.
 *
 * Each turn: wait for events (not at all while tasks wait), call their callbacks, fire deadlines,
 * run the tasks that are queued by then; what those queue waits for the next turn. So a task that
 * queues itself again runs once a turn, and never starves events or timers, and one that a callback
 * queues costs no turn of its own.
 * Everything here is for the thread that runs the loop, except that nobody outside touches it at
 * all: use a mailbox.
 * Life: loop_new -> loop_run (returns after loop_stop) -> loop_free (all events must be deleted by
 * their owners before).
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/histogram.h"
#include "base/list.h"
#include "base/looks.h"
#include "base/wheel.h"

struct event_base;
struct loop;

enum { LOOP_LOOK_MS = 100 };

/* Embedded by its owner. */
struct loop_task {
	struct list link;                      /* unlinked: not queued */
	void (*run)(struct loop_task *t);
};

/** NULL: no memory or no epoll. */
struct loop *loop_new(void);
void loop_free(struct loop *l);

/** Turns until loop_stop(). */
void loop_run(struct loop *l);
/** One turn; waits at most wait_ms (-1: until something comes). For tests and for tear-down. */
void loop_turn(struct loop *l, int wait_ms);
/** loop_run returns after this turn. From the loop's thread only. */
void loop_stop(struct loop *l);

struct event_base *loop_base(struct loop *l);
/**
 * Monotonic ms, taken once a turn, when it is first asked for: streams and mailboxes do so before
 * they call anyone.
 */
uint64_t loop_now(struct loop *l);
/** Turns so far; read by other threads too (relaxed), to see that the loop lives. */
uint64_t loop_turns(const struct loop *l);
/** How long turns took, each from its first loop_now() on (waiting not counted). Any thread. */
const struct histogram *loop_turn_times(const struct loop *l);

/** fire is called at or up to WHEEL_TICK_MS after now + after_ms. Arms or moves. */
void loop_set_deadline(struct loop *l, struct deadline *d, uint64_t after_ms);
void loop_clear_deadline(struct loop *l, struct deadline *d);

/**
 * A second look at something, between LOOP_LOOK_MS and twice that from now, once. Costs its owner four bytes, not a deadline:
 * meant for what every stream has. All of a loop share one `look`. One that waits already stays where it is.
 */
void loop_look_later(struct loop *l, struct look *k, void (*look)(struct look *k));
void loop_look_off(struct loop *l, struct look *k);    /* doesn't wait: nothing happens */

void loop_task_init(struct loop_task *t, void (*run)(struct loop_task *t));
/**
 * Queues the task: it runs at the end of this turn, or of the next one when a task queues it. One
 * that is queued stays where it is.
 */
void loop_defer(struct loop *l, struct loop_task *t);
void loop_undefer(struct loop *l, struct loop_task *t);  /* not queued: nothing happens */

#endif
