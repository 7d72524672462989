/*
 * Tests of upstream/board: entries by name and identity, slots, who is told of what, times.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "upstream/board.h"

#include <pthread.h>
#include <stdlib.h>

static struct board_entry *
hold(struct board *b, const char *name, const char *identity)
{
	struct board_entry *e = board_hold(b, name, identity);
	assert_non_null(e);
	return e;
}

static void
test_entry_is_found_again_while_held(void **state)
{
	(void)state;
	struct board *b = board_new();
	struct board_entry *first = hold(b, "paris", "socks5://192.0.2.1:1080");
	struct board_entry *again = hold(b, "paris", "socks5://192.0.2.1:1080");
	assert_ptr_equal(first, again);
	assert_string_equal(first->name, "paris");
	assert_string_equal(first->identity, "socks5://192.0.2.1:1080");
	assert_int_equal((uintptr_t)&first->in_use % 64, 0);
	atomic_store(&first->state, UPSTREAM_DOWN);
	board_release(b, first);
	assert_int_equal(atomic_load(&again->state), UPSTREAM_DOWN);
	board_release(b, again);
	assert_int_equal(board_count(b), 0);
	board_free(b);
}

static void
test_other_address_begins_anew(void **state)
{
	(void)state;
	struct board *b = board_new();
	struct board_entry *before = hold(b, "paris", "socks5://192.0.2.1:1080");
	struct board_entry *after = hold(b, "paris", "socks5://192.0.2.2:1080");
	assert_ptr_not_equal(before, after);
	/* name and identity are two things: cut elsewhere they are another pair */
	struct board_entry *cut = hold(b, "pariss", "ocks5://192.0.2.1:1080");
	assert_ptr_not_equal(before, cut);
	assert_int_equal(board_count(b), 3);
	board_release(b, before);
	board_release(b, after);
	board_release(b, cut);
	board_release(b, NULL);
	board_free(b);
}

static void
test_slots_end_at_max(void **state)
{
	(void)state;
	struct board *b = board_new();
	struct board_entry *e = hold(b, "a", "");
	assert_true(board_take_slot(e, 2));
	assert_true(board_take_slot(e, 2));
	assert_false(board_take_slot(e, 2));
	assert_false(board_take_slot(e, 1));
	assert_true(board_take_slot(e, 3));
	assert_true(board_take_slot(e, 0));
	assert_int_equal(board_in_use(e), 4);
	assert_false(board_has_slot(e, 4));
	assert_true(board_has_slot(e, 0));
	for (int i = 0; i < 4; i++)
		board_give_back_slot(e);
	assert_int_equal(board_in_use(e), 0);
	board_release(b, e);
	board_free(b);
}

struct listener {
	struct board_watch watch;
	unsigned told;
};

static void
on_told(struct board_watch *w)
{
	CONTAINER_OF(w, struct listener, watch)->told++;
}

static void
test_freed_slot_is_told_to_who_waited(void **state)
{
	(void)state;
	struct board *b = board_new();
	struct board_entry *e = hold(b, "a", "");
	struct listener l = { .watch.changed = on_told };
	board_watch(e, &l.watch);
	assert_true(board_take_slot(e, 1));
	board_give_back_slot(e);
	assert_int_equal(l.told, 0);           /* nobody had looked in vain */
	assert_true(board_take_slot(e, 1));
	assert_false(board_has_slot(e, 1));
	board_give_back_slot(e);
	assert_int_equal(l.told, 1);
	assert_true(board_take_slot(e, 1));
	board_give_back_slot(e);
	assert_int_equal(l.told, 1);           /* once for each time that somebody waits */
	board_tell(e);
	assert_int_equal(l.told, 2);
	board_unwatch(e, &l.watch);
	board_tell(e);
	assert_int_equal(l.told, 2);
	board_release(b, e);
	board_free(b);
}

static const struct {
	enum upstream_state state;
	enum upstream_admin admin;
	const char *text;
	bool usable;
} states[] = {
	{ UPSTREAM_UNKNOWN, UPSTREAM_ENABLED, "unknown", true },
	{ UPSTREAM_UP, UPSTREAM_ENABLED, "up", true },
	{ UPSTREAM_DOWN, UPSTREAM_ENABLED, "down", false },
	{ UPSTREAM_UP, UPSTREAM_DRAINING, "draining", false },
	{ UPSTREAM_UP, UPSTREAM_DISABLED, "disabled", false },
	{ UPSTREAM_DOWN, UPSTREAM_DISABLED, "disabled", false },
};

static void
test_states(void **state)
{
	(void)state;
	struct board *b = board_new();
	struct board_entry *e = hold(b, "a", "");
	assert_string_equal(board_state_text(e), "unknown");
	for (size_t i = 0; i < ARRAY_LEN(states); i++) {
		atomic_store(&e->state, states[i].state);
		atomic_store(&e->admin, states[i].admin);
		assert_string_equal(board_state_text(e), states[i].text);
		assert_int_equal(board_usable(e), states[i].usable);
	}
	board_release(b, e);
	board_free(b);
}

static void
test_average_forgets(void **state)
{
	(void)state;
	struct board *b = board_new();
	struct board_entry *e = hold(b, "a", "");
	clock_fake(1000, 0);
	board_note_connect(e, 8000);
	assert_int_equal(atomic_load(&e->ewma_us), 8000);
	board_note_connect(e, 16000);          /* at once: an eighth of the way */
	assert_int_equal(atomic_load(&e->ewma_us), 9000);
	clock_fake(11000, 0);
	board_note_connect(e, 1000);           /* 10 s later: half of it */
	assert_int_equal(atomic_load(&e->ewma_us), 5000);
	clock_fake(11000 + 3600 * 1000, 0);
	board_note_connect(e, 40000);          /* an hour later the past hardly counts */
	assert_in_range(atomic_load(&e->ewma_us), 39800, 40000);
	clock_fake_stop();
	board_release(b, e);
	board_free(b);
}

static void
test_quantiles(void **state)
{
	(void)state;
	struct board *b = board_new();
	struct board_entry *e = hold(b, "a", "");
	assert_int_equal(board_connect_quantile(e, 0.5), 0);
	for (int i = 0; i < 90; i++)
		board_note_connect(e, 450);            /* in 400-565 */
	for (int i = 0; i < 10; i++)
		board_note_connect(e, 30000);          /* in 25600-36203 */
	assert_in_range(board_connect_quantile(e, 0), 400, 400);
	assert_in_range(board_connect_quantile(e, 0.5), 480, 500);
	assert_in_range(board_connect_quantile(e, 0.9), 560, 566);
	assert_in_range(board_connect_quantile(e, 0.99), 34000, 36203);
	board_note_connect(e, UINT64_MAX / 2);         /* beyond the last bucket: counted in it */
	assert_in_range(board_connect_quantile(e, 1), 50000000, 80000000);
	board_release(b, e);
	board_free(b);
}

enum { THREADS = 4, TURNS = 20000, MAX = 3 };

struct contest {
	struct board_entry *entry;
	atomic_uint over, taken;
};

static void *
compete(void *arg)
{
	struct contest *c = arg;
	for (int i = 0; i < TURNS; i++) {
		if (!board_take_slot(c->entry, MAX)) {
			(void)board_has_slot(c->entry, MAX);
			continue;
		}
		atomic_fetch_add(&c->taken, 1);
		if (board_in_use(c->entry) > MAX)
			atomic_fetch_add(&c->over, 1);
		board_give_back_slot(c->entry);
	}
	return NULL;
}

static void
test_limit_holds_over_threads(void **state)
{
	(void)state;
	struct board *b = board_new();
	struct contest c = { .entry = hold(b, "a", "") };
	struct listener l = { .watch.changed = on_told };
	board_watch(c.entry, &l.watch);
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, compete, &c), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&c.over), 0);
	assert_true(atomic_load(&c.taken) >= TURNS);
	assert_int_equal(board_in_use(c.entry), 0);
	board_unwatch(c.entry, &l.watch);
	board_release(b, c.entry);
	board_free(b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_entry_is_found_again_while_held),
		cmocka_unit_test(test_other_address_begins_anew),
		cmocka_unit_test(test_slots_end_at_max),
		cmocka_unit_test(test_freed_slot_is_told_to_who_waited),
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_average_forgets),
		cmocka_unit_test(test_quantiles),
		cmocka_unit_test(test_limit_holds_over_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
