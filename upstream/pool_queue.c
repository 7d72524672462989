/*
 * pool_queue: see pool_queue.h.
 */
#include "upstream/pool_queue.h"

#include <assert.h>

void
pool_queue_init(struct pool_queue *q)
{
	*q = (struct pool_queue){ 0 };
	list_init(&q->waiting);
}

void
pool_queue_add(struct pool_queue *q, struct pool_waiter *w)
{
	struct list *before = q->waiting.prev;
	assert(w->state == WAITER_OUT);
	if (w->number == 0)
		w->number = ++q->last_number;
	while (before != &q->waiting &&
	       LIST_OBJECT(before, struct pool_waiter, link)->number > w->number)
		before = before->prev;
	list_init(&w->link);
	list_append(before->next, &w->link);   /* before what follows */
	w->state = WAITER_WAITING;
	q->n++;
}

void
pool_queue_remove(struct pool_queue *q, struct pool_waiter *w)
{
	assert(w->state == WAITER_WAITING);
	list_remove(&w->link);
	w->state = WAITER_OUT;
	q->n--;
}

static void
give_turn(struct pool_queue *q, struct pool_waiter *w)
{
	pool_queue_remove(q, w);
	w->state = WAITER_TURN;
	q->n_turns++;
	w->wake(w);
}

void
pool_queue_next_turn(struct pool_queue *q, uint64_t behind)
{
	if (q->n_turns > 0)
		return;
	LIST_FOR_EACH(&q->waiting, link) {
		struct pool_waiter *w = LIST_OBJECT(link, struct pool_waiter, link);
		if (w->number > behind) {
			give_turn(q, w);
			return;
		}
	}
}

void
pool_queue_wake_all(struct pool_queue *q)
{
	while (!list_empty(&q->waiting))
		give_turn(q, LIST_OBJECT(q->waiting.next, struct pool_waiter, link));
}

void
pool_queue_end_turn(struct pool_queue *q, struct pool_waiter *w)
{
	assert(w->state == WAITER_TURN);
	w->state = WAITER_OUT;
	q->n_turns--;
}
