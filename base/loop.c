/*
 * loop: base/loop.h over libevent. The turns are our own (EVLOOP_ONCE), so that deadlines and tasks
 * have their fixed place in each.
 *
 * libevent has one timer of ours, and only while a deadline is armed. It is left alone when it
 * fires too early (a deadline was moved or cleared): that turn finds nothing due and arms it for
 * what comes next.
 */
#include "base/loop.h"

#include "base/clock.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <event2/event.h>
#include <event2/event_struct.h>

struct loop {
	struct event_base *base;
	struct wheel wheel;
	struct event timer;                    /* wakes the loop for the wheel */
	uint64_t timer_at_ms;                  /* UINT64_MAX: not armed */
	struct list tasks;
	struct looks looks;
	struct deadline look_round;
	void (*look)(struct look *k);
	uint64_t now_us;                       /* when this turn's work began; 0: not asked yet */
	atomic_uint_least64_t turns;
	struct histogram turn_times;
	bool stopping;
};

/*
 * epoll, edge-triggered, with EPOLLRDHUP; no locks, no changelist, and the environment has no say
 * in it.
 */
static struct event_base *
new_base(void)
{
	struct event_config *conf = event_config_new();
	struct event_base *base = NULL;
	if (conf == NULL)
		return NULL;
	int features = EV_FEATURE_ET | EV_FEATURE_O1 | EV_FEATURE_EARLY_CLOSE;
	int flags = EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV;
	if (event_config_require_features(conf, features) == 0 &&
	    event_config_set_flag(conf, flags) == 0)
		base = event_base_new_with_config(conf);
	event_config_free(conf);
	return base;
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct loop *l = arg;
	(void)fd, (void)what;
	l->timer_at_ms = UINT64_MAX;
}

static void
on_look_round(struct deadline *d)
{
	struct loop *l = CONTAINER_OF(d, struct loop, look_round);
	struct look *k;
	while ((k = looks_take(&l->looks)) != NULL)
		l->look(k);
	if (looks_end_round(&l->looks))
		loop_set_deadline(l, d, LOOP_LOOK_MS);
}

void
loop_look_later(struct loop *l, struct look *k, void (*look)(struct look *k))
{
	if (look_waits(k))
		return;
	l->look = look;
	looks_add(&l->looks, k);
	if (!deadline_armed(&l->look_round))
		loop_set_deadline(l, &l->look_round, LOOP_LOOK_MS);
}

void
loop_look_off(struct loop *l, struct look *k)
{
	looks_remove(&l->looks, k);
}

struct loop *
loop_new(void)
{
	struct loop *l = calloc(1, sizeof *l);
	if (l == NULL)
		return NULL;
	if ((l->base = new_base()) == NULL ||
	    evtimer_assign(&l->timer, l->base, on_timer, l) != 0) {
		loop_free(l);
		return NULL;
	}
	list_init(&l->tasks);
	deadline_init(&l->look_round, on_look_round);
	wheel_init(&l->wheel, loop_now(l));
	l->now_us = 0;
	l->timer_at_ms = UINT64_MAX;
	return l;
}

void
loop_free(struct loop *l)
{
	if (l == NULL)
		return;
	if (l->base != NULL)
		event_base_free(l->base);
	looks_free(&l->looks);
	free(l);
}

static struct timeval
timeval_of_ms(uint64_t ms)
{
	return (struct timeval){
		.tv_sec = (time_t)(ms / 1000),
		.tv_usec = (suseconds_t)(ms % 1000 * 1000),
	};
}

/* Only ever earlier: most deadlines are moved later or cleared long before they are due. */
static void
arm_timer(struct loop *l)
{
	uint64_t next = wheel_next_ms(&l->wheel);
	if (next >= l->timer_at_ms)
		return;
	uint64_t now = loop_now(l);
	struct timeval tv = timeval_of_ms(next > now ? next - now : 0);
	if (event_add(&l->timer, &tv) == 0)
		l->timer_at_ms = next;
}

static void
run_tasks(struct loop *l)
{
	struct list now, *node;
	list_init(&now);
	list_move_all(&now, &l->tasks);
	while ((node = list_take_first(&now)) != NULL) {
		struct loop_task *t = LIST_OBJECT(node, struct loop_task, link);
		t->run(t);
	}
}

static void
end_turn(struct loop *l)
{
	histogram_add(&l->turn_times, clock_now_us() - l->now_us);
	uint64_t turns = atomic_load_explicit(&l->turns, memory_order_relaxed);
	atomic_store_explicit(&l->turns, turns + 1, memory_order_relaxed);
	l->now_us = 0;
}

static void
turn(struct loop *l, bool wait)
{
	arm_timer(l);
	l->now_us = 0;
	int flags = EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY;
	if (!wait || !list_empty(&l->tasks))
		flags |= EVLOOP_NONBLOCK;
	int result = event_base_loop(l->base, flags);
	/* epoll_wait fails on a bad descriptor only: somebody closed ours. */
	assert(result >= 0);
	(void)result;
	wheel_turn(&l->wheel, loop_now(l));
	run_tasks(l);
	end_turn(l);
}

void
loop_run(struct loop *l)
{
	while (!l->stopping)
		turn(l, true);
	l->stopping = false;
}

static void
on_waited(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what, (void)arg;
}

void
loop_turn(struct loop *l, int wait_ms)
{
	if (wait_ms <= 0) {
		turn(l, wait_ms < 0);
		return;
	}
	struct event waited;
	struct timeval tv = timeval_of_ms((unsigned)wait_ms);
	evtimer_assign(&waited, l->base, on_waited, NULL);
	bool wait = event_add(&waited, &tv) == 0;
	turn(l, wait);
	event_del(&waited);
}

void
loop_stop(struct loop *l)
{
	l->stopping = true;
}

struct event_base *
loop_base(struct loop *l)
{
	return l->base;
}

uint64_t
loop_now(struct loop *l)
{
	if (l->now_us == 0)
		l->now_us = clock_now_us();
	return l->now_us / 1000;
}

uint64_t
loop_turns(const struct loop *l)
{
	return atomic_load_explicit(&l->turns, memory_order_relaxed);
}

const struct histogram *
loop_turn_times(const struct loop *l)
{
	return &l->turn_times;
}

void
loop_set_deadline(struct loop *l, struct deadline *d, uint64_t after_ms)
{
	wheel_set(&l->wheel, d, loop_now(l) + after_ms);
}

void
loop_clear_deadline(struct loop *l, struct deadline *d)
{
	wheel_clear(&l->wheel, d);
}

void
loop_task_init(struct loop_task *t, void (*run)(struct loop_task *t))
{
	list_init(&t->link);
	t->run = run;
}

void
loop_defer(struct loop *l, struct loop_task *t)
{
	if (!list_linked(&t->link))
		list_append(&l->tasks, &t->link);
}

void
loop_undefer(struct loop *l, struct loop_task *t)
{
	(void)l;
	list_remove(&t->link);
}
