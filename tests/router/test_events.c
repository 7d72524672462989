/* The ring of events: numbers, readers that fall behind, the watcher, and several threads at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/base.h"
#include "base/clock.h"
#include "router/events.h"

static void
post(struct events *e, const char *name)
{
	struct router_event event = { .kind = EVENT_UPSTREAM, .what = "down", .was = "up", .now = "down" };
	snprintf(event.name, sizeof event.name, "%s", name);
	events_post(e, &event);
}

static void
test_events_are_read_in_order_and_once(void **state)
{
	(void)state;
	struct events *e = events_new();
	struct router_event out[4];
	uint64_t from = events_next(e), lost;
	clock_fake(1000, 1700000000123);
	assert_int_equal(from, 1);
	assert_int_equal(events_read(e, &from, out, 4, &lost), 0);
	post(e, "a");
	post(e, "b");
	post(e, "c");
	assert_int_equal(events_read(e, &from, out, 2, &lost), 2);
	assert_int_equal(lost, 0);
	assert_string_equal(out[0].name, "a");
	assert_string_equal(out[1].name, "b");
	assert_int_equal(out[0].number, 1);
	assert_int_equal(out[1].number, 2);
	assert_int_equal(out[0].at_ms, 1700000000123);
	assert_int_equal(events_read(e, &from, out, 4, &lost), 1);
	assert_string_equal(out[0].name, "c");
	assert_int_equal(events_read(e, &from, out, 4, &lost), 0);
	assert_int_equal(from, events_next(e));
	clock_fake_stop();
	events_free(e);
}

static void
test_a_slow_reader_loses_the_oldest_and_is_told_how_many(void **state)
{
	(void)state;
	struct events *e = events_new();
	struct router_event out[2];
	uint64_t from = 1, lost;
	for (int i = 0; i < EVENTS_KEPT; i++)
		post(e, "kept");
	assert_int_equal(events_read(e, &from, out, 1, &lost), 1);
	assert_int_equal(lost, 0);             /* the ring is just full */
	from = 1;
	for (int i = 0; i < 5; i++)
		post(e, "more");
	assert_int_equal(events_read(e, &from, out, 2, &lost), 2);
	assert_int_equal(lost, 5);
	assert_int_equal(out[0].number, 6);
	assert_int_equal(from, 8);
	assert_int_equal(events_read(e, &from, out, 2, &lost), 2);
	assert_int_equal(lost, 0);
	events_free(e);
}

static void
on_posted(void *arg)
{
	++*(unsigned *)arg;
}

static void
test_the_watcher_is_told_of_each_post(void **state)
{
	(void)state;
	struct events *e = events_new();
	unsigned told = 0;
	post(e, "a");
	events_watch(e, on_posted, &told);
	post(e, "b");
	post(e, "c");
	assert_int_equal(told, 2);
	events_watch(e, NULL, NULL);
	post(e, "d");
	assert_int_equal(told, 2);
	events_free(e);
	events_free(NULL);
}

enum { POSTERS = 4, POSTS = 3000 };

static void *
post_many(void *arg)
{
	for (int i = 0; i < POSTS; i++)
		post(arg, "x");
	return NULL;
}

/* However posters and the reader meet: what was read and what was lost make all, in order. */
static void
test_nothing_is_read_twice_or_missed_by_several_threads(void **state)
{
	(void)state;
	struct events *e = events_new();
	struct router_event out[16];
	pthread_t threads[POSTERS];
	uint64_t from = 1, lost, seen = 0, last = 0;
	for (int i = 0; i < POSTERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, post_many, e), 0);
	while (seen < POSTERS * POSTS) {
		size_t n = events_read(e, &from, out, ARRAY_LEN(out), &lost);
		seen += lost + n;
		last += lost;
		for (size_t i = 0; i < n; i++)
			assert_int_equal(out[i].number, ++last);
	}
	for (int i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(seen, POSTERS * POSTS);
	assert_int_equal(events_next(e), seen + 1);
	events_free(e);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_events_are_read_in_order_and_once),
		cmocka_unit_test(test_a_slow_reader_loses_the_oldest_and_is_told_how_many),
		cmocka_unit_test(test_the_watcher_is_told_of_each_post),
		cmocka_unit_test(test_nothing_is_read_twice_or_missed_by_several_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
