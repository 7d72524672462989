/*
 * dial_queue: a dial that waits in a pool's queue for a slot: in, woken through the dialer's
 * mailbox, out. For dialer.c.
 *
 * A wait is memory of its own: once its turn was given, its message is on the way and can't be
 * called back, though the dial may end meanwhile. `dial` is the dialer's thread's alone and tells
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
	struct dial *dial;                     /* NULL: it is over */
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
	struct dial *x = closing ? NULL : w->dial;
	(void)owner;
	if (x == NULL) {
		fleet_end_turn(w->fleet, w->pool, &w->waiter, false);
		wait_free(w);
		return;
	}
	enum pick_result result = dial_take_turn(x);
	if (result == PICK_BUSY) {
		list_init(&w->message.link);
		fleet_end_turn(w->fleet, w->pool, &w->waiter, true);
		return;
	}
	x->wait = NULL;
	fleet_end_turn(w->fleet, w->pool, &w->waiter, false);
	wait_free(w);
	dial_end_turn(x, result);
}

enum join_result
dial_wait_start(struct dial *x, uint32_t pool, bool insist)
{
	struct dial_wait *w = calloc(1, sizeof *w);
	if (w == NULL)
		return JOIN_FULL;
	w->waiter.wake = on_wake;
	w->message.handle = on_turn;
	list_init(&w->message.link);
	w->dialer = x->dialer;
	w->fleet = fleet_ref(x->request.fleet);
	w->pool = pool;
	w->dial = x;
	x->wait = w;
	enum join_result result = fleet_join_queue(w->fleet, pool, &w->waiter, insist);
	if (result != JOIN_WAITS) {
		x->wait = NULL;
		wait_free(w);
	}
	return result;
}

void
dial_wait_end(struct dial *x)
{
	struct dial_wait *w = x->wait;
	if (w == NULL)
		return;
	x->wait = NULL;
	w->dial = NULL;
	if (fleet_leave_queue(w->fleet, w->pool, &w->waiter))
		wait_free(w);                  /* else its message is on the way, and ends it */
}
