#include "base/turn_share.h"

static bool
has_time(struct turn_share *t)
{
	uint64_t now = loop_turns(t->loop);
	if (now != t->turn) {
		t->turn = now;
		t->spent_us = 0;
	}
	return t->spent_us < t->share_us;
}

void
turn_share_wait(struct turn_share *t, struct turn_step *s)
{
	s->queued_ms = loop_now(t->loop);
	list_append(&t->queue, &s->link);
	loop_defer(t->loop, &t->task);
}

bool
turn_share_may_step(struct turn_share *t, struct turn_step *s)
{
	if (s->called) {
		s->called = false;
		return true;
	}
	if (turn_step_waits(s))
		return false;
	if (has_time(t) && list_empty(&t->queue))
		return true;
	turn_share_wait(t, s);
	return false;
}

void
turn_share_call(struct turn_share *t)
{
	while (has_time(t) && !list_empty(&t->queue)) {
		struct turn_step *s = LIST_OBJECT(list_take_first(&t->queue), struct turn_step, link);
		s->called = true;
		s->take(s);
	}
	if (!list_empty(&t->queue))
		loop_defer(t->loop, &t->task);
}

static void
on_task(struct loop_task *task)
{
	turn_share_call(CONTAINER_OF(task, struct turn_share, task));
}

void
turn_share_note(struct turn_share *t, uint64_t us)
{
	t->spent_us += us;
}

void
turn_step_init(struct turn_step *s, void (*take)(struct turn_step *s))
{
	*s = (struct turn_step){ .take = take };
	list_init(&s->link);
}

void
turn_step_drop(struct turn_step *s)
{
	list_remove(&s->link);
	s->called = false;
}

void
turn_share_init(struct turn_share *t, struct loop *l, uint64_t share_us)
{
	*t = (struct turn_share){ .loop = l, .share_us = share_us };
	list_init(&t->queue);
	loop_task_init(&t->task, on_task);
}

void
turn_share_free(struct turn_share *t)
{
	if (t->loop != NULL)
		loop_undefer(t->loop, &t->task);
}
