/*
 * test_loop: the order within a turn, tasks, deadlines, and that an idle loop sleeps.
 */
#include "base/loop.h"
#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

static struct loop *loop;
static char trace[64];                         /* what ran, a letter each */

static void
note(char what)
{
	size_t len = strlen(trace);
	if (len + 1 < sizeof trace)
		trace[len] = what;
}

static int
set_up(void **state)
{
	(void)state;
	memset(trace, 0, sizeof trace);
	loop = loop_new();
	return loop == NULL;
}

static int
set_up_fake(void **state)
{
	clock_fake(1000, 0);
	return set_up(state);
}

static int
tear_down(void **state)
{
	(void)state;
	clock_fake_stop();
	loop_free(loop);
	return 0;
}

struct worker {
	struct loop_task task;
	char letter;
	bool again, stops;
	struct loop_task *defers, *undefers;
};

static void
run(struct loop_task *t)
{
	struct worker *w = CONTAINER_OF(t, struct worker, task);
	note(w->letter);
	if (w->again)
		loop_defer(loop, t);
	if (w->defers != NULL)
		loop_defer(loop, w->defers);
	if (w->undefers != NULL)
		loop_undefer(loop, w->undefers);
	if (w->stops)
		loop_stop(loop);
}

static struct worker
worker_of(char letter)
{
	return (struct worker){ .letter = letter };
}

static void
test_tasks_run_once_in_their_order(void **state)
{
	struct worker a = worker_of('a'), b = worker_of('b');
	(void)state;
	loop_task_init(&a.task, run);
	loop_task_init(&b.task, run);
	loop_defer(loop, &b.task);
	loop_defer(loop, &a.task);
	loop_defer(loop, &b.task);
	loop_turn(loop, -1);                   /* waits for nothing while tasks wait */
	loop_turn(loop, 0);
	assert_string_equal(trace, "ba");
}

static void
test_a_task_that_queues_waits_for_the_next_turn(void **state)
{
	struct worker a = worker_of('a'), b = worker_of('b');
	(void)state;
	loop_task_init(&a.task, run);
	loop_task_init(&b.task, run);
	a.again = true;
	a.defers = &b.task;
	loop_defer(loop, &a.task);
	loop_turn(loop, -1);
	assert_string_equal(trace, "a");
	loop_turn(loop, -1);
	assert_string_equal(trace, "aab");
	loop_undefer(loop, &a.task);
	loop_undefer(loop, &b.task);
	loop_undefer(loop, &b.task);
	loop_turn(loop, 0);
	assert_string_equal(trace, "aab");
}

static void
test_a_task_takes_back_another_of_the_same_turn(void **state)
{
	struct worker a = worker_of('a'), b = worker_of('b');
	(void)state;
	loop_task_init(&a.task, run);
	loop_task_init(&b.task, run);
	a.undefers = &b.task;
	loop_defer(loop, &a.task);
	loop_defer(loop, &b.task);
	loop_turn(loop, 0);
	loop_turn(loop, 0);
	assert_string_equal(trace, "a");
}

struct ticker {
	struct deadline deadline;
	char letter;
	bool stops;
	struct loop_task *defers;
};

static void
on_deadline(struct deadline *d)
{
	struct ticker *t = CONTAINER_OF(d, struct ticker, deadline);
	note(t->letter);
	if (t->defers != NULL)
		loop_defer(loop, t->defers);
	if (t->stops)
		loop_stop(loop);
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	uint64_t count;
	(void)what;
	assert_int_equal(read(fd, &count, sizeof count), sizeof count);
	note('e');
	loop_defer(loop, arg);
}

static void
test_events_then_deadlines_then_tasks(void **state)
{
	struct worker a = worker_of('a'), b = worker_of('b');
	struct ticker d = { .letter = 'd', .defers = &b.task };
	struct event event;
	int fd = eventfd(1, EFD_NONBLOCK);
	(void)state;
	loop_task_init(&a.task, run);
	loop_task_init(&b.task, run);
	deadline_init(&d.deadline, on_deadline);
	loop_set_deadline(loop, &d.deadline, 100);
	event_assign(&event, loop_base(loop), fd, EV_READ | EV_PERSIST, on_readable, &a.task);
	event_add(&event, NULL);
	clock_fake(1200, 0);
	loop_turn(loop, 0);
	assert_string_equal(trace, "edab");
	event_del(&event);
	close(fd);
}

static void
test_deadlines_follow_the_clock(void **state)
{
	struct ticker d = { .letter = 'd' };
	(void)state;
	deadline_init(&d.deadline, on_deadline);
	loop_set_deadline(loop, &d.deadline, 500);
	clock_fake(1499, 0);
	loop_turn(loop, 0);
	assert_string_equal(trace, "");
	loop_set_deadline(loop, &d.deadline, 500);
	clock_fake(1499 + 499, 0);
	loop_turn(loop, 0);
	assert_string_equal(trace, "");
	clock_fake(1499 + 500 + WHEEL_TICK_MS, 0);
	loop_turn(loop, 0);
	assert_string_equal(trace, "d");
	loop_set_deadline(loop, &d.deadline, 10);
	loop_clear_deadline(loop, &d.deadline);
	clock_fake(9000, 0);
	loop_turn(loop, 0);
	assert_string_equal(trace, "d");
}

/*
 * On the real clock: the loop is woken by its own timer, also for a deadline that is set earlier
 * than what the timer is armed for.
 */
static void
test_wakes_for_the_earliest_deadline(void **state)
{
	struct ticker far = { .letter = 'f' }, near = { .letter = 'n', .stops = true };
	(void)state;
	deadline_init(&far.deadline, on_deadline);
	deadline_init(&near.deadline, on_deadline);
	loop_set_deadline(loop, &far.deadline, 60000);
	loop_turn(loop, 1);
	uint64_t began = clock_now_ms();
	loop_set_deadline(loop, &near.deadline, 40);
	loop_run(loop);
	assert_string_equal(trace, "n");
	assert_true(clock_now_ms() - began >= 40);
	loop_clear_deadline(loop, &far.deadline);
}

static void
test_stop_ends_this_run_and_not_the_next(void **state)
{
	struct worker a = worker_of('a');
	(void)state;
	loop_task_init(&a.task, run);
	a.stops = true;
	for (int i = 0; i < 2; i++) {
		loop_defer(loop, &a.task);
		loop_run(loop);
	}
	assert_string_equal(trace, "aa");
}

static long
cpu_us(void)
{
	struct rusage u;
	getrusage(RUSAGE_THREAD, &u);
	return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000L + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
}

/*
 * A loop without a single event, and then one whose only deadline was cleared: each waits its time
 * out in one or two turns.
 */
static void
test_idle_loop_sleeps(void **state)
{
	struct ticker d = { .letter = 'd' };
	(void)state;
	long cpu = cpu_us();
	loop_turn(loop, 50);
	assert_true(loop_turns(loop) == 1);
	deadline_init(&d.deadline, on_deadline);
	loop_set_deadline(loop, &d.deadline, 10);
	loop_turn(loop, 1);
	loop_clear_deadline(loop, &d.deadline);
	size_t fired = strlen(trace);          /* on a slow machine it may have been due before */
	uint64_t began = clock_now_ms(), turns = loop_turns(loop);
	while (clock_now_ms() - began < 100)
		loop_turn(loop, 100);
	assert_true(loop_turns(loop) - turns <= 3);
	assert_true(cpu_us() - cpu < 20000);
	assert_int_equal(strlen(trace), fired);
}

static void
on_long_work(struct loop_task *t)
{
	(void)t;
	clock_fake(clock_now_ms() + 50, 0);
}

/* In the buckets of what their work took; waiting is no work. */
static void
test_turns_are_timed(void **state)
{
	struct histogram_sums before = { .sum_us = 0 }, after = { .sum_us = 0 };
	struct loop_task task;
	unsigned bucket = 0;
	(void)state;
	histogram_sum(loop_turn_times(loop), &before);
	clock_fake(5000, 0);
	loop_turn(loop, 20);
	loop_task_init(&task, on_long_work);
	loop_defer(loop, &task);
	loop_turn(loop, 0);
	clock_fake_stop();
	histogram_sum(loop_turn_times(loop), &after);
	while (histogram_end_us(bucket) <= 50000)
		bucket++;
	assert_int_equal(after.sum_us - before.sum_us, 50000);
	assert_int_equal(after.counts[0] - before.counts[0], 1);
	assert_int_equal(after.counts[bucket] - before.counts[bucket], 1);
}

enum { LOOKERS = 500 };

static struct looker {
	struct look look;
	uint64_t since_ms;
	unsigned times;
	bool again;
} lookers[LOOKERS];

static void
on_look(struct look *k)
{
	struct looker *who = CONTAINER_OF(k, struct looker, look);
	uint64_t waited = loop_now(loop) - who->since_ms;
	assert_false(look_waits(k));
	assert_in_range(waited, LOOP_LOOK_MS, 2 * (LOOP_LOOK_MS + 2 * WHEEL_TICK_MS));
	who->times++;
	who->since_ms = loop_now(loop);
	if (who->again) {
		who->again = false;
		loop_look_later(loop, k, on_look);
	}
}

/* They come one each ms, some twice, one in seven leaves while it waits, one in five waits again when it was looked at. */
static void
test_each_is_looked_at_once(void **state)
{
	(void)state;
	memset(lookers, 0, sizeof lookers);
	for (unsigned ms = 0; ms < LOOKERS + 4 * LOOP_LOOK_MS + 10 * WHEEL_TICK_MS; ms++) {
		clock_fake(1000 + ms, 0);
		loop_turn(loop, 0);
		if (ms < LOOKERS) {
			lookers[ms].since_ms = loop_now(loop);
			lookers[ms].again = ms % 5 == 0;
			loop_look_later(loop, &lookers[ms].look, on_look);
			loop_look_later(loop, &lookers[ms / 2 * 2].look, on_look);
			loop_look_off(loop, &lookers[ms - ms % 7].look);
		}
	}
	for (unsigned i = 0; i < LOOKERS; i++)
		assert_int_equal(lookers[i].times, i % 7 == 0 ? 0 : 1 + (i % 5 == 0));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_tasks_run_once_in_their_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_task_that_queues_waits_for_the_next_turn, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_task_takes_back_another_of_the_same_turn, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_events_then_deadlines_then_tasks, set_up_fake, tear_down),
		cmocka_unit_test_setup_teardown(test_deadlines_follow_the_clock, set_up_fake, tear_down),
		cmocka_unit_test_setup_teardown(test_wakes_for_the_earliest_deadline, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_stop_ends_this_run_and_not_the_next, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_idle_loop_sleeps, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_each_is_looked_at_once, set_up_fake, tear_down),
		cmocka_unit_test_setup_teardown(test_turns_are_timed, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
