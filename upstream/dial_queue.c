/*
 * dial_queue: an attempt that waits in a pool's queue for a slot: in, woken through the dialer's
 * mailbox, out. See attempt.h.
 *
 * A wait is memory of its own: once its turn was given, its message is on the way and can't be
 * called back, though the attempt may end meanwhile. `attempt` is the dialer's thread's alone and tells
 * whether there still is one.
 */
#include "upstream/dial.h"

#include <assert.h>
#include <stdlib.h>

struct dial_wait {
	struct pool_waiter waiter;
	struct message message;
	struct dialer *dialer;
	struct fleet *fleet;
	uint32_t pool;
	struct attempt *attempt;               /* NULL: it is over */
};

static void
wait_free(struct dial_wait *w)
{
	fleet_unref(w->fleet);
	free(w);
}

/* Nobody posts to a closed mailbox: it closes when no dial waits. */
static void
on_wake(struct pool_waiter *waiter)
{
	struct dial_wait *w = CONTAINER_OF(waiter, struct dial_wait, waiter);
	bool posted = mailbox_post(w->dialer->mailbox, &w->message);
	assert(posted);
	(void)posted;
}

static void
on_turn(struct message *m, void *owner, bool closing)
{
	struct dial_wait *w = CONTAINER_OF(m, struct dial_wait, message);
	struct attempt *a = closing ? NULL : w->attempt;
	(void)owner;
	if (a == NULL) {
		fleet_end_turn(w->fleet, w->pool, &w->waiter, false);
		wait_free(w);
		return;
	}
	enum pick_result result = attempt_take_turn(a);
	if (result == PICK_BUSY) {
		list_init(&w->message.link);
		fleet_end_turn(w->fleet, w->pool, &w->waiter, true);
		return;
	}
	a->wait = NULL;
	fleet_end_turn(w->fleet, w->pool, &w->waiter, false);
	wait_free(w);
	attempt_end_turn(a, result);
}

enum join_result
attempt_wait_start(struct attempt *a, uint32_t pool, bool insist)
{
	struct dial_wait *w = calloc(1, sizeof *w);
	if (w == NULL)
		return JOIN_FULL;
	w->waiter.wake = on_wake;
	w->message.handle = on_turn;
	list_init(&w->message.link);
	w->dialer = a->dial->dialer;
	w->fleet = fleet_ref(a->dial->request.fleet);
	w->pool = pool;
	w->attempt = a;
	a->wait = w;
	enum join_result result = fleet_join_queue(w->fleet, pool, &w->waiter, insist);
	if (result != JOIN_WAITS) {
		a->wait = NULL;
		wait_free(w);
	}
	return result;
}

void
attempt_wait_end(struct attempt *a)
{
	struct dial_wait *w = a->wait;
	if (w == NULL)
		return;
	a->wait = NULL;
	w->attempt = NULL;
	if (fleet_leave_queue(w->fleet, w->pool, &w->waiter))
		wait_free(w);                  /* else its message is on the way, and ends it */
}
