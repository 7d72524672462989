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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
	board_tell(e, "");
	assert_int_equal(l.told, 2);
	board_unwatch(e, &l.watch);
	board_tell(e, "");
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

/* ---- what the listener is told ---- */

struct heard {
	unsigned n, n_turned_away;
	char text[512];
};

static void
on_news(const struct board_news *news, void *arg)
{
	static const char *const kinds[] = { "state", "drained", "full" };
	struct heard *h = arg;
	size_t len = strlen(h->text);
	snprintf(h->text + len, sizeof h->text - len, "%s%s %s %s>%s %s", len > 0 ? "; " : "", news->name,
	         kinds[news->kind], news->was, news->now, news->why);
	h->n++;
	h->n_turned_away = news->n_turned_away;
}

static void
check_heard(struct heard *h, const char *text)
{
	assert_string_equal(h->text, text);
	h->text[0] = '\0';
}

static void
test_a_state_is_told_when_it_changes(void **state)
{
	(void)state;
	struct heard heard = { 0 };
	struct board *b = board_new();
	board_listen(b, on_news, &heard);
	struct board_entry *e = hold(b, "a", "");
	board_tell(e, "nothing");
	check_heard(&heard, "");
	atomic_store(&e->state, UPSTREAM_DOWN);
	board_tell(e, "timed out");
	check_heard(&heard, "a state unknown>down timed out");
	atomic_store(&e->weight, 3);
	board_tell(e, "set");
	check_heard(&heard, "");
	/* what lies behind another state is not seen, and so not told */
	atomic_store(&e->admin, UPSTREAM_DISABLED);
	board_tell(e, "set");
	atomic_store(&e->state, UPSTREAM_UP);
	board_tell(e, "check passed");
	check_heard(&heard, "a state down>disabled set");
	atomic_store(&e->ejection, EJECTION_OUT);
	atomic_store(&e->admin, UPSTREAM_ENABLED);
	board_tell(e, "set");
	check_heard(&heard, "a state disabled>ejected set");
	board_release(b, e);
	board_free(b);
}

static void
test_a_drain_is_told_once_when_no_session_is_left(void **state)
{
	(void)state;
	struct heard heard = { 0 };
	struct board *b = board_new();
	board_listen(b, on_news, &heard);
	struct board_entry *e = hold(b, "a", "");
	for (int i = 0; i < 3; i++)
		assert_true(board_take_slot(e, 0));
	atomic_store(&e->warm, 1);             /* one of them is kept ready: that is no session */
	board_give_back_slot(e);
	check_heard(&heard, "");
	atomic_store(&e->admin, UPSTREAM_DRAINING);
	board_tell(e, "set");
	check_heard(&heard, "a state unknown>draining set");
	board_give_back_slot(e);
	check_heard(&heard, "a drained draining>draining ");
	atomic_store(&e->warm, 0);
	board_give_back_slot(e);
	check_heard(&heard, "");
	/* another one, with nobody there */
	atomic_store(&e->admin, UPSTREAM_ENABLED);
	board_tell(e, "set");
	atomic_store(&e->admin, UPSTREAM_DRAINING);
	board_tell(e, "set");
	check_heard(&heard, "a state draining>unknown set; a state unknown>draining set; a drained draining>draining ");
	/* one that was called off */
	atomic_store(&e->admin, UPSTREAM_ENABLED);
	board_tell(e, "");
	assert_true(board_take_slot(e, 0));
	atomic_store(&e->admin, UPSTREAM_DRAINING);
	board_tell(e, "");
	atomic_store(&e->admin, UPSTREAM_ENABLED);
	board_tell(e, "");
	heard.text[0] = '\0';
	board_give_back_slot(e);
	check_heard(&heard, "");
	board_release(b, e);
	board_free(b);
}

static void
test_a_full_queue_is_told_once_in_a_while(void **state)
{
	(void)state;
	struct heard heard = { 0 };
	struct board *b = board_new();
	board_listen(b, on_news, &heard);
	struct board_entry *e = hold(b, "pool", "pool");
	clock_fake(5000, 0);
	for (int i = 0; i < 10; i++)
		board_note_queue_full(e);
	assert_int_equal(heard.n, 1);
	assert_int_equal(heard.n_turned_away, 1);
	clock_fake(5000 + BOARD_FULL_MS - 1, 0);
	board_note_queue_full(e);
	assert_int_equal(heard.n, 1);
	clock_fake(5000 + BOARD_FULL_MS, 0);
	board_note_queue_full(e);
	assert_int_equal(heard.n, 2);
	assert_int_equal(heard.n_turned_away, 11);
	check_heard(&heard, "pool full > ; pool full > ");
	clock_fake_stop();
	board_release(b, e);
	board_free(b);
}

static void
on_drained(const struct board_news *news, void *arg)
{
	if (news->kind == BOARD_NEWS_DRAINED)
		atomic_fetch_add((atomic_uint *)arg, 1);
}

static void *
take_and_give_back(void *arg)
{
	struct board_entry *e = arg;
	for (int i = 0; i < TURNS / 10; i++) {
		while (!board_take_slot(e, THREADS))
			;
		board_give_back_slot(e);
	}
	return NULL;
}

/* A drain that begins while the last sessions end: told by one of the two, and by one alone. */
static void
test_no_drain_is_missed_or_told_twice_by_several_threads(void **state)
{
	(void)state;
	for (int round = 0; round < 10; round++) {
		atomic_uint drained = 0;
		struct board *b = board_new();
		board_listen(b, on_drained, &drained);
		struct board_entry *e = hold(b, "a", "");
		pthread_t threads[THREADS];
		for (int i = 0; i < THREADS; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, take_and_give_back, e), 0);
		atomic_store(&e->admin, UPSTREAM_DRAINING);
		board_tell(e, "");
		for (int i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
		assert_int_equal(atomic_load(&drained), 1);
		board_release(b, e);
		board_free(b);
	}
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
		cmocka_unit_test(test_a_state_is_told_when_it_changes),
		cmocka_unit_test(test_a_drain_is_told_once_when_no_session_is_left),
		cmocka_unit_test(test_a_full_queue_is_told_once_in_a_while),
		cmocka_unit_test(test_no_drain_is_missed_or_told_twice_by_several_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
