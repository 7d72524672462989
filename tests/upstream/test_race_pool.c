/*
 * race: what a pool has to do with it: what holds a race back, what it pins and counts, and where in a chain or a pool of pools it
 * is; on a fake clock.
 */
#include "tests/upstream/race_stage.h"
#include "upstream/budget.h"
#include "upstream/dial.h"
#include "upstream/warm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---- what holds it back ---- */

/* The nth dial races iff the requests so far allow one more. */
static void
test_budget(void **state)
{
	struct stage *s = *state;
	static const unsigned want[] = { 0, 0, 0, 1, 0, 0, 1, 0, 0, 1 };
	load_three(s, SILENT, SILENT, SILENT, "'race': {'max_extra_percent': 33}");
	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		struct dial *x = start(s);
		pass_delay(s);
		if (dial_raced(x) != want[i])
			fail_msg("dial %zu: %u", i, dial_raced(x));
		dial_cancel(x);
	}
	await_accepted(s, 1, 3);
}

/* What goes unused is saved, but not without end; and 0 is none at all. */
static void
test_budget_is_bounded(void **state)
{
	struct extra_budget b = { 0 };
	(void)state;
	assert_false(extra_take(&b));
	for (int i = 0; i < 10 * EXTRA_SAVED_MAX; i++)
		extra_note_request(&b, 700);
	for (int i = 0; i < EXTRA_SAVED_MAX; i++)
		assert_true(extra_take(&b));
	assert_false(extra_take(&b));
	extra_give_back(&b);
	assert_true(extra_take(&b));
	for (int i = 0; i < 1000; i++)
		extra_note_request(&b, 0);
	assert_false(extra_take(&b));
}

static void
test_no_free_slot(void **state)
{
	struct stage *s = *state;
	unsigned a = add_peer(s, SILENT), b = add_peer(s, SILENT);
	bench_load(&s->bench,
		   "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:%u'}, {'name': 'b', 'url': "
		   "'socks5://127.0.0.1:%u', 'max_connections': 1}], 'pools': [{'name': 'p', 'balance': "
		   "'first', 'members': ['a', 'b'], 'race': {'max_extra_percent': 50}, 'queue': {}}]",
		   a, b);
	struct board_entry *e = bench_entry(&s->bench, "b");
	for (int i = 0; i < 3; i++) {
		bool taken = i < 2;
		assert_true(!taken || board_take_slot(e, 1));
		struct dial *x = start(s);
		pass_delay(s);
		/* one that did not come about costs nothing of the budget, so the last may */
		assert_int_equal(dial_raced(x), taken ? 0 : 1);
		assert_false(dial_waits(x));
		assert_int_equal(board_in_use(e), 1);
		dial_cancel(x);
		if (taken)
			board_give_back_slot(e);
		assert_int_equal(board_in_use(e), 0);
	}
}

/* A higher tier stands in for the dead, not for the slow. */
static void
test_within_the_tier(void **state)
{
	struct stage *s = *state;
	unsigned a = add_peer(s, SILENT), b = add_peer(s, SILENT);
	bench_load(&s->bench,
		   "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:%u'}, {'name': 'b', 'url': "
		   "'socks5://127.0.0.1:%u'}], 'pools': [{'name': 'p', 'members': ['a', {'name': 'b', "
		   "'tier': 1}], 'race': {}}, {'name': 'q', 'members': ['a', 'b'], 'race': {}}]", a, b);
	struct dial *x = start(s);
	pass_delay(s);
	assert_int_equal(dial_raced(x), 0);
	dial_cancel(x);
	x = bench_start(&s->bench, "q", TO);
	pass_delay(s);
	assert_int_equal(dial_raced(x), 1);
	dial_cancel(x);
}

/* Only whole tunnels of clients are raced. */
static void
test_what_is_not_raced(void **state)
{
	struct stage *s = *state;
	load_three(s, SILENT, SILENT, SILENT, "'race': {}");
	for (int i = 0; i < 4; i++) {
		struct path fixed = { .n_hops = 1 };
		struct dial_request plain = s->bench.request;
		if (i == 0)
			s->bench.request.command = SOCKS_BIND;
		if (i == 1)
			s->bench.request.command = SOCKS_UDP;
		if (i == 2)
			s->bench.request.until = DIAL_UNTIL_AUTHENTICATED;
		if (i == 3)
			s->bench.request.fixed = &fixed;
		struct dial *x = start(s);
		pass_delay(s);
		assert_int_equal(dial_raced(x), 0);
		dial_cancel(x);
		s->bench.request = plain;
	}
}

/* ---- what is around it ---- */

/* The one that joins may take a connection that was kept ready, and wins with that. */
static void
test_winner_from_warm(void **state)
{
	struct stage *s = *state;
	unsigned a = add_peer(s, SILENT), b = add_peer(s, GRANTS);
	bench_load(&s->bench,
		   "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:%u'}, {'name': 'b', 'url': "
		   "'socks5://127.0.0.1:%u', 'warm': 1}], 'pools': [{'name': 'p', 'balance': 'first', "
		   "'members': ['a', 'b'], 'race': {}}]", a, b);
	peer_play_later(s->peers[1], SILENT); /* with the next one that is kept ready */
	dialer_keep_warm(s->bench.dialer, s->bench.fleet, 1);
	for (int i = 0; i < 500 && warm_ready(s->bench.dialer->warm, 1) == 0; i++)
		loop_turn(s->bench.loop, 10);
	start(s);
	assert_int_equal(peer_accepted(s->peers[1]), 1);
	pass_ms(DELAY_MS + WHEEL_TICK_MS);
	bench_finish(&s->bench, VERDICT_GRANTED);
	assert_path(s, "b");
	assert_attempts(s, 2, 1, true);
	assert_int_equal((int)bench_entry(&s->bench, "b")->ewma_us, 0); /* no connect was measured */
	dialer_keep_warm(s->bench.dialer, NULL, 1);
	for (int i = 0; i < 500 && bench_entry(&s->bench, "b")->warm > 0; i++)
		loop_turn(s->bench.loop, 10);
}

/* In a chain the whole way is gone again, and it is the pool's pick that differs. */
static void
test_pool_in_a_chain(void **state)
{
	struct stage *s = *state;
	unsigned h = add_peer(s, GREETED "<050100017f0000010001 " YES);
	peer_play_later(s->peers[0], GREETED "<050100017f0000010002 " YES GRANTS);
	bench_load(&s->bench,
		   "'upstreams': [{'name': 'h', 'url': 'socks5://127.0.0.1:%u'}, {'name': 'a', 'url': "
		   "'socks5://127.0.0.1:1'}, {'name': 'b', 'url': 'socks5://127.0.0.1:2'}], "
		   "'pools': [{'name': 'q', 'balance': 'first', 'members': ['a', 'b'], 'race': {}}], "
		   "'chains': [{'name': 'p', 'hops': ['h', 'q']}]", h);
	start(s);
	for (int i = 0; i < 500 && peer_played(s->peers[0]) == 0; i++)
		loop_turn(s->bench.loop, 10);
	pass_ms(DELAY_MS + WHEEL_TICK_MS);
	bench_finish(&s->bench, VERDICT_GRANTED);
	assert_int_equal(s->bench.result.path.n_hops, 2);
	assert_int_equal(s->bench.result.path.hops[1], 2);
	assert_attempts(s, 2, 1, true);
	assert_speaks_to(s, 0);
}

/* The outer pool's race is the one: its members are the inner pools. */
static void
test_pool_of_pools(void **state)
{
	struct stage *s = *state;
	unsigned a = add_peer(s, SILENT), b = add_peer(s, SILENT), c = add_peer(s, GRANTS);
	bench_load(&s->bench,
		   "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:%u'}, {'name': 'b', 'url': "
		   "'socks5://127.0.0.1:%u'}, {'name': 'c', 'url': 'socks5://127.0.0.1:%u'}], "
		   "'pools': [{'name': 'inner', 'balance': 'first', 'members': ['a', 'b'], 'race': "
		   "{'delay': '1ms'}}, {'name': 'p', 'balance': 'first', 'members': ['inner', 'c'], "
		   "'race': {}}]", a, b, c);
	struct dial *x = start(s);
	pass_ms(DELAY_MS - 1);
	turn_a_few(s);
	assert_int_equal(dial_raced(x), 0);
	pass_ms(1 + WHEEL_TICK_MS);
	bench_finish(&s->bench, VERDICT_GRANTED);
	assert_path(s, "c");
	assert_int_equal(peer_accepted(s->peers[1]), 0);
}

struct pinned {
	char member[64];
	unsigned n;
};

static void
note_pin(const char *key, const char *member, uint64_t left_ms, void *arg)
{
	struct pinned *p = arg;
	(void)key, (void)left_ms;
	p->n++;
	snprintf(p->member, sizeof p->member, "%s", member);
}

static void
assert_pinned(struct stage *s, const char *member)
{
	struct pinned p = { .n = 0 };
	fleet_each_pin(s->bench.fleet, 0, note_pin, &p);
	assert_int_equal(p.n, 1);
	assert_string_equal(p.member, member);
}

/* A sticky key goes with who wins, and not before. */
static void
test_sticky(void **state)
{
	struct stage *s = *state;
	struct endpoint client;
	load_three(s, SILENT, SILENT, GRANTS,
		   "'sticky': {'key': 'client_ip'}, 'race': {'count': 3, 'max_extra_percent': 700}");
	assert_int_equal(endpoint_from_text(&client, "192.0.2.7:1", 11), ENDPOINT_OK);
	s->bench.request.key.client = &client;
	start(s);
	assert_pinned(s, "a");
	pass_delay(s);
	assert_pinned(s, "a");
	pass_ms(DELAY_MS + WHEEL_TICK_MS);
	bench_finish(&s->bench, VERDICT_GRANTED);
	assert_path(s, "c");
	assert_pinned(s, "c");
	bench_give_back(&s->bench);
	bench_dial(&s->bench, "p", TO, VERDICT_GRANTED);
	assert_path(s, "c");
	assert_attempts(s, 1, 0, false);
}

/* "repin": false: who must have this one member does not get another by a race. */
static void
test_sticky_that_stays(void **state)
{
	struct stage *s = *state;
	struct endpoint client;
	load_three(s, SILENT, GRANTS, SILENT,
		   "'sticky': {'key': 'client_ip', 'repin': false}, 'race': {}");
	assert_int_equal(endpoint_from_text(&client, "192.0.2.7:1", 11), ENDPOINT_OK);
	s->bench.request.key.client = &client;
	struct dial *x = start(s);
	pass_delay(s);
	assert_int_equal(dial_raced(x), 0);
	assert_pinned(s, "a");
	dial_cancel(x);
}

/* Who was waited for in vain is no failure, but for least_latency at least so slow. */
static void
test_loser_is_slow(void **state)
{
	struct stage *s = *state;
	load_three(s, SILENT, GRANTS, SILENT, "'race': {}");
	struct board_entry *a = bench_entry(&s->bench, "a");
	start(s);
	pass_ms(DELAY_MS + WHEEL_TICK_MS);
	bench_finish(&s->bench, VERDICT_GRANTED);
	assert_true(board_peak(a) > board_peak(bench_entry(&s->bench, "b")));
	assert_int_equal((int)a->ewma_us, 0);
	assert_int_equal((int)a->failures_total, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_set_up, stage_tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_budget),
		cmocka_unit_test(test_budget_is_bounded),
		TEST(test_no_free_slot),
		TEST(test_within_the_tier),
		TEST(test_what_is_not_raced),
		TEST(test_winner_from_warm),
		TEST(test_pool_in_a_chain),
		TEST(test_pool_of_pools),
		TEST(test_sticky),
		TEST(test_sticky_that_stays),
		TEST(test_loser_is_slow),
	};
	return cmocka_run_group_tests_name("race_pool", tests, NULL, NULL);
}
