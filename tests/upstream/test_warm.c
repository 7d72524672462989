/*
 * warm: connections that are ready before they are needed: what is said on them and when, what becomes
 * of those that die, the slots that they hold, and that nothing is left of them.
 */
#include "base/clock.h"
#include "base/loop.h"
#include "tests/upstream/dial_bench.h"
#include "tests/upstream/peer.h"
#include "upstream/dial.h"
#include "upstream/warm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define TO "203.0.113.9:80"
#define LOGIN "<05020002 >0502 <0101750170 >0100 "
#define END "<05010001cb0071090050 "
#define YES ">05000001000000000000"

static int
set_up(void **state)
{
	static struct dial_bench b;
	bench_open(&b);
	*state = &b;
	return 0;
}

static int
tear_down(void **state)
{
	struct dial_bench *b = *state;
	clock_fake_stop();
	if (b->dialer != NULL)
		dialer_keep_warm(b->dialer, NULL, 1);
	bench_close(b);
	return 0;
}

static struct peer *
load(struct dial_bench *b, const char *script, const char *more)
{
	struct peer *p = peer_new(b->loop, script);
	bench_load(b, "'upstreams': [{'name': 'a', 'url': 'socks5://u:p@127.0.0.1:%u', %s}]",
		   peer_at(p)->port, more);
	dialer_keep_warm(b->dialer, b->fleet, 1);
	return p;
}

static unsigned
warm_of(struct dial_bench *b)
{
	return bench_entry(b, "a")->warm;
}

/* Until so many connections have come. */
static void
await_accepted(struct dial_bench *b, struct peer *p, unsigned n)
{
	for (int i = 0; i < 500 && peer_accepted(p) < n; i++)
		loop_turn(b->loop, 10);
	assert_int_equal(peer_accepted(p), n);
}

static void
await_left(struct dial_bench *b, struct peer *p, unsigned n)
{
	for (int i = 0; i < 500 && peer_left(p) < n; i++)
		loop_turn(b->loop, 10);
	assert_int_equal(peer_left(p), n);
}

static void
await_ready(struct dial_bench *b, size_t n)
{
	for (int i = 0; i < 500 && warm_ready(b->dialer->warm, 0) != n; i++)
		loop_turn(b->loop, 10);
	assert_int_equal(warm_ready(b->dialer->warm, 0), n);
}

/* Until none is held, not even one that opens. */
static void
await_none(struct dial_bench *b)
{
	for (int i = 0; i < 500 && warm_of(b) > 0; i++)
		loop_turn(b->loop, 10);
	assert_int_equal(warm_of(b), 0);
}

static void
test_asked_at_once_and_replaced(void **state)
{
	struct dial_bench *b = *state;
	struct peer *p = load(b, LOGIN END YES, "'warm': 2");
	await_ready(b, 2);
	assert_int_equal(board_sessions(bench_entry(b, "a")), 0);
	for (unsigned i = 1; i <= 5; i++) {
		bench_dial(b, "a", TO, VERDICT_GRANTED);
		assert_true(endpoint_equal(&b->result.peer, peer_at(p)));
		assert_int_equal(board_sessions(bench_entry(b, "a")), 1);
		await_ready(b, 2);
		assert_int_equal(peer_accepted(p), 2 + i);
		bench_give_back(b);
	}
	assert_int_equal(bench_entry(b, "a")->ewma_us, 0); /* no connect was measured */
	assert_string_equal(peer_complaint(p), "");
	peer_free(p);
}

/* Closed while idle: dropped, and not opened again at once. */
static void
test_upstream_closes(void **state)
{
	struct dial_bench *b = *state;
	struct peer *p = load(b, LOGIN "close", "'warm': 1");
	peer_play_later(p, LOGIN END YES);
	await_accepted(b, p, 1);
	await_none(b);
	assert_int_equal(bench_in_use(b), 0);
	bench_dial(b, "a", TO, VERDICT_GRANTED); /* by one of its own */
	assert_int_equal(peer_accepted(p), 2);
	assert_int_equal(bench_entry(b, "a")->failures_total, 0);
	await_ready(b, 1);
	assert_int_equal(peer_accepted(p), 3);
	peer_free(p);
}

/* Who speaks before it is asked is not to be trusted with a request. */
static void
test_upstream_speaks(void **state)
{
	struct dial_bench *b = *state;
	struct peer *p = load(b, LOGIN ">00", "'warm': 1");
	await_accepted(b, p, 1);
	await_none(b);
	peer_free(p);
}

/* It dies of the request: one try with a fresh one, and nobody is blamed. */
static void
test_dead_when_asked(void **state)
{
	struct dial_bench *b = *state;
	struct peer *p = load(b, LOGIN END "reset", "'warm': 1");
	peer_play_later(p, LOGIN END YES);
	await_ready(b, 1);
	bench_dial(b, "a", TO, VERDICT_GRANTED);
	assert_int_equal(b->result.attempts, 1);
	assert_int_equal(bench_entry(b, "a")->failures_total, 0);
	assert_string_equal(peer_complaint(p), "");
	peer_free(p);
}

static void
test_its_answer_counts(void **state)
{
	struct dial_bench *b = *state;
	struct peer *p = load(b, LOGIN END ">05050001000000000000", "'warm': 1");
	await_ready(b, 1);
	bench_start(b, "a", TO);
	dialer_keep_warm(b->dialer, NULL, 1);
	bench_finish(b, VERDICT_REFUSED);
	assert_int_equal(b->result.attempts, 1);
	peer_free(p);
}

static void
test_slots(void **state)
{
	struct dial_bench *b = *state;
	struct peer *p = load(b, LOGIN END YES, "'warm': 5, 'max_connections': 3");
	await_ready(b, 2); /* one slot is left free */
	bench_dial(b, "a", TO, VERDICT_GRANTED);
	turn_some(b->loop);
	assert_int_equal(warm_of(b), 1);
	assert_int_equal(board_in_use(bench_entry(b, "a")), 2);
	/* others take what is free: those that are ready give way */
	assert_true(board_take_slot(bench_entry(b, "a"), 3));
	await_none(b);
	assert_int_equal(board_in_use(bench_entry(b, "a")), 2);
	board_give_back_slot(bench_entry(b, "a"));
	peer_free(p);
}

static void
test_age(void **state)
{
	struct dial_bench *b = *state;
	uint64_t began = clock_now_ms();
	clock_fake(began, 1000);
	struct peer *p = load(b, LOGIN END YES, "'warm': 1, 'warm_max_age': '5s'");
	await_ready(b, 1);
	clock_fake(began + 4900, 1000);
	turn_some(b->loop);
	assert_int_equal(peer_accepted(p), 1);
	clock_fake(began + 5100, 1000);
	await_accepted(b, p, 2);
	await_ready(b, 1);
	await_left(b, p, 1);
	peer_free(p);
}

/* Refused, then refused for longer. */
static void
test_backing_off(void **state)
{
	struct dial_bench *b = *state;
	uint64_t now = clock_now_ms(), end = now + 10000;
	clock_fake(now, 1000);
	struct peer *p = load(b, LOGIN "close", "'warm': 1");
	for (; now < end; now += 100) {
		clock_fake(now, 1000);
		turn_some(b->loop);
	}
	assert_in_range(peer_accepted(p), 3, 5); /* at 0, 1, 3, 7 seconds */
	peer_free(p);
}

/* Another fleet has its own, and an upstream that is taken out has none. */
static void
test_reload_and_disable(void **state)
{
	struct dial_bench *b = *state;
	struct peer *p = load(b, LOGIN END YES, "'warm': 1");
	await_ready(b, 1);
	dialer_keep_warm(b->dialer, b->fleet, 1);
	await_accepted(b, p, 2);
	await_ready(b, 1);
	await_left(b, p, 1);
	atomic_store(&bench_entry(b, "a")->admin, UPSTREAM_DISABLED);
	dialer_keep_warm(b->dialer, b->fleet, 1);
	turn_some(b->loop);
	assert_int_equal(warm_of(b), 0);
	assert_int_equal(bench_in_use(b), 0);
	atomic_store(&bench_entry(b, "a")->admin, UPSTREAM_ENABLED);
	peer_free(p);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(test_asked_at_once_and_replaced),
	    TEST(test_upstream_closes),
	    TEST(test_upstream_speaks),
	    TEST(test_dead_when_asked),
	    TEST(test_its_answer_counts),
	    TEST(test_slots),
	    TEST(test_age),
	    TEST(test_backing_off),
	    TEST(test_reload_and_disable),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
