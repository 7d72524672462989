/*
 * Tests of upstream/pool and the balancers: who is chosen, exactly, for each algorithm; tiers, full
 * slots, skipped members; that all of it holds while several threads pick.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/upstream/pool_fixture.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

/* ---- round robin ---- */

static const struct {
	const char *what;
	uint32_t n;
	uint32_t weights[8];
	const char *want;              /* two rounds */
} turns[] = {
	{ "one", 1, { 7 }, "aaaaaaa" "aaaaaaa" },
	{ "equal weights", 3, { 1, 1, 1 }, "abc" "abc" },
	{ "equal weights above 1", 3, { 4, 4, 4 }, "abcabcabcabc" "abcabcabcabc" },
	{ "5 1 1", 3, { 5, 1, 1 }, "abaaaca" "abaaaca" },
	{ "2 1", 2, { 2, 1 }, "aba" "aba" },
	{ "1 2", 2, { 1, 2 }, "bab" "bab" },
	{ "3 2 1", 3, { 3, 2, 1 }, "abacba" "abacba" },
	{ "weight 0 has no turn", 3, { 1, 0, 1 }, "acacac" },
	{ "only weight 0", 2, { 0, 0 }, "--" },
};

static void
test_round_robin_turns(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(turns); i++) {
		print_message("  %s\n", turns[i].what);
		struct fixture *f = fixture_new(BALANCE_ROUND_ROBIN, turns[i].weights, turns[i].n);
		open_pool(f);
		assert_picks(f, turns[i].want);
		fixture_free(f);
	}
}

/* Many weights: each round is exact, and nobody's turns lie further apart than twice the even
 * distance. */
static void
test_round_robin_is_exact_and_even(void **state)
{
	(void)state;
	enum { N = 150, ROUNDS = 3 };
	uint32_t weights[N], total = 0, counts[N] = { 0 }, last[N];
	for (uint32_t i = 0; i < N; i++)
		total += weights[i] = 1 + i * i % 23 + (i % 50 == 0 ? 200 : 0);
	struct fixture *f = fixture_new(BALANCE_ROUND_ROBIN, weights, N);
	open_pool(f);
	memset(last, 0xff, sizeof last);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		for (uint32_t i = 0; i < total; i++) {
			uint32_t at = round * total + i, m = pick_and_give_back(f);
			if (last[m] != UINT32_MAX)
				assert_in_range(at - last[m], 1, 2 * (total / weights[m] + 1));
			last[m] = at;
			counts[m]++;
		}
		for (uint32_t i = 0; i < N; i++)
			assert_int_equal(counts[i], weights[i] * (round + 1));
	}
	fixture_free(f);
}

/* Who comes back gets its share at once: neither a burst for what it missed nor a wait for what it
 * had. */
static void
test_round_robin_after_a_return(void **state)
{
	(void)state;
	const uint32_t weights[] = { 100, 1, 1 };
	struct fixture *f = fixture_new(BALANCE_ROUND_ROBIN, weights, 3);
	open_pool(f);
	for (int i = 0; i < 60; i++)
		(void)pick_and_give_back(f);
	pool_set_member(f->pool, 0, dead, 100);
	for (int i = 0; i < 1000; i++)
		assert_int_not_equal(pick_and_give_back(f), 0);
	pool_set_member(f->pool, 0, good, 100);
	uint32_t counts[3] = { 0 };
	for (int i = 0; i < 1020; i++)
		counts[pick_and_give_back(f)]++;
	assert_in_range(counts[0], 997, 1003);
	assert_in_range(counts[1], 8, 12);
	pool_set_member(f->pool, 1, dead, 1);
	pool_set_member(f->pool, 0, good, 1);  /* another weight while in */
	assert_int_not_equal(pick_and_give_back(f), pick_and_give_back(f));
	fixture_free(f);
}

static bool
is_determined(enum balance balance)
{
	return balance != BALANCE_RANDOM && balance != BALANCE_TWO_CHOICES &&
	       balance != BALANCE_CONSISTENT_HASH;
}

static void
test_looking_changes_nothing(void **state)
{
	(void)state;
	const uint32_t weights[] = { 3, 2, 1 };
	for (int balance = 0; balance < BALANCE_N; balance++) {
		struct fixture *f = fixture_new((enum balance)balance, weights, 3);
		open_pool(f);
		for (int i = 0; i < 12; i++) {
			uint32_t seen, again;
			assert_int_equal(pool_pick(f->pool, NULL, 0, NULL, false, &seen),
					 POOL_PICKED);
			assert_int_equal(pool_pick(f->pool, NULL, 0, NULL, false, &again),
					 POOL_PICKED);
			assert_int_equal(board_in_use(f->entries[seen]), 0);
			uint32_t member = pick_and_give_back(f);
			if (is_determined((enum balance)balance)) {
				assert_int_equal(seen, again);
				assert_int_equal(seen, member);
			}
		}
		fixture_free(f);
	}
}

/* ---- least connections ---- */

static void
test_least_connections_fills_by_weight(void **state)
{
	(void)state;
	const uint32_t weights[] = { 1, 2, 5 };
	struct fixture *f = fixture_new(BALANCE_LEAST_CONNECTIONS, weights, 3);
	open_pool(f);
	for (int i = 0; i < 80; i++)
		(void)pick(f);
	assert_int_equal(board_in_use(f->entries[0]), 10);
	assert_int_equal(board_in_use(f->entries[1]), 20);
	assert_int_equal(board_in_use(f->entries[2]), 50);
	for (int i = 0; i < 3; i++)
		give_back(f, 2);
	for (int i = 0; i < 3; i++)
		assert_int_equal(pick(f), 2);
	fixture_free(f);
}

static void
test_least_connections_takes_turns_among_equals(void **state)
{
	(void)state;
	struct fixture *f = fixture_new(BALANCE_LEAST_CONNECTIONS, NULL, 4);
	open_pool(f);
	assert_picks(f, "abcdabcd");
	assert_int_equal(pick(f), 0);
	assert_picks(f, "bcdbcd");
	give_back(f, 0);
	assert_picks(f, "abcd");
	fixture_free(f);
}

/* The same member is used by others: what goes up there is seen at once, what goes down within a
 * sweep. */
static void
test_least_connections_sees_others(void **state)
{
	(void)state;
	enum { N = 100 };
	struct fixture *f = fixture_new(BALANCE_LEAST_CONNECTIONS, NULL, N);
	open_pool(f);
	for (int i = 0; i < N; i++) {
		if (i != 7)
			assert_true(board_take_slot(f->entries[i], 0));
	}
	for (int i = 0; i < 10; i++)
		assert_int_equal(pick_and_give_back(f), 7);
	assert_true(board_take_slot(f->entries[7], 0));
	assert_true(board_take_slot(f->entries[7], 0));
	assert_int_not_equal(pick_and_give_back(f), 7);
	board_give_back_slot(f->entries[42]);
	unsigned found = 0;
	while (pick_and_give_back(f) != 42)
		assert_true(++found <= N);
	assert_int_equal(pick_and_give_back(f), 42);
	fixture_free(f);
}

/* Against a plain scan, with members that come, go and change weight. */
static void
test_least_connections_against_a_scan(void **state)
{
	(void)state;
	enum { N = 40, TURNS = 20000 };
	struct fixture *f = fixture_new(BALANCE_LEAST_CONNECTIONS, NULL, N);
	open_pool(f);
	bool in[N];
	memset(in, true, sizeof in);
	uint32_t seed = 1;
	for (int turn = 0; turn < TURNS; turn++) {
		seed = seed * 1664525 + 1013904223;
		uint32_t m = (seed >> 8) % N, what = (seed >> 20) % 8;
		if (what == 0) {
			in[m] = !in[m];
			f->members[m].weight = 1 + (seed >> 24) % 5;
			pool_set_member(f->pool, m, in[m] ? good : dead, f->members[m].weight);
		} else if (what < 4 && board_in_use(f->entries[m]) > 0) {
			give_back(f, m);
		} else {
			uint64_t least = UINT64_MAX;   /* (sessions + 1) / weight, times 60 */
			for (uint32_t i = 0; i < N; i++) {
				uint64_t load =
				    (board_in_use(f->entries[i]) + 1) * 60u / f->members[i].weight;
				if (in[i] && load < least)
					least = load;
			}
			uint32_t got = pick(f);
			if (least == UINT64_MAX)
				assert_int_equal(got, UINT32_MAX);
			else
				assert_int_equal(board_in_use(f->entries[got]) * 60u /
						     f->members[got].weight,
						 least);
		}
	}
	fixture_free(f);
}

/* ---- random, first ---- */

static void
test_random_is_in_proportion(void **state)
{
	(void)state;
	enum { DRAWS = 100000 };
	const uint32_t weights[] = { 1, 2, 0, 4, 256, 3, 7 };
	uint32_t counts[ARRAY_LEN(weights)] = { 0 }, total = 0;
	struct fixture *f = fixture_new(BALANCE_RANDOM, weights, ARRAY_LEN(weights));
	open_pool(f);
	pool_set_member(f->pool, 4, dead, 256);        /* so is who left */
	for (int i = 0; i < DRAWS; i++)
		counts[pick_and_give_back(f)]++;
	assert_int_equal(counts[2], 0);
	assert_int_equal(counts[4], 0);
	for (size_t i = 0; i < ARRAY_LEN(weights); i++)
		total += i == 4 ? 0 : weights[i];
	/* 7 sigma: never by chance */
	for (size_t i = 0; i < ARRAY_LEN(weights); i++) {
		double p = i == 4 ? 0 : (double)weights[i] / total, mean = DRAWS * p;
		assert_true(fabs(counts[i] - mean) <= 7 * sqrt(mean * (1 - p)));
	}
	fixture_free(f);
}

static void
test_first_keeps_to_the_order(void **state)
{
	(void)state;
	struct fixture *f = fixture_new(BALANCE_FIRST, NULL, 130);
	f->max[0] = 2;
	open_pool(f);
	assert_int_equal(pick(f), 0);
	assert_int_equal(pick(f), 0);
	assert_int_equal(pick(f), 1);          /* no slot left there */
	give_back(f, 0);
	pool_set_member(f->pool, 0, good, 1);
	assert_int_equal(pick(f), 0);
	for (uint32_t i = 0; i < 129; i++)
		pool_set_member(f->pool, i, dead, 1);
	assert_int_equal(pick(f), 129);
	pool_set_member(f->pool, 64, good, 1);
	assert_int_equal(pick(f), 64);
	pool_set_member(f->pool, 64, dead, 1);
	pool_set_member(f->pool, 129, dead, 1);
	assert_int_equal(pick(f), UINT32_MAX);
	fixture_free(f);
}

/* ---- tiers, slots, skips: the same for all ---- */

static void
for_each_balance(void (*test)(enum balance balance))
{
	for (int balance = 0; balance < BALANCE_N; balance++)
		test((enum balance)balance);
}

static void
check_tiers(enum balance balance)
{
	struct fixture *f = fixture_new(balance, NULL, 5);
	f->members[0].tier = 7;
	f->members[1].tier = 2;
	f->members[2].tier = 0;
	f->members[3].tier = 2;
	f->members[4].tier = 0;
	f->members[4].weight = 0;              /* is no member of its tier to be waited for */
	open_pool(f);
	assert_int_equal(pick_and_give_back(f), 2);
	pool_set_member(f->pool, 2, dead, 1);
	uint32_t member = pick_and_give_back(f);
	assert_true(member == 1 || member == 3);
	pool_set_member(f->pool, 1, dead, 1);
	assert_int_equal(pick_and_give_back(f), 3);
	pool_set_member(f->pool, 3, dead, 1);
	assert_int_equal(pick_and_give_back(f), 0);
	pool_set_member(f->pool, 0, dead, 1);
	assert_int_equal(pick_and_give_back(f), UINT32_MAX);
	struct pool_status s = pool_set_member(f->pool, 2, good, 1);
	assert_true(s.usable && s.room);
	assert_int_equal(pick_and_give_back(f), 2);
	fixture_free(f);
}

static void
test_tiers(void **state)
{
	(void)state;
	for_each_balance(check_tiers);
}

/* Busy is not dead: a higher tier stays out of it. */
static void
check_full_slots(enum balance balance)
{
	struct fixture *f = fixture_new(balance, NULL, 3);
	f->max[0] = f->max[1] = 2;
	f->members[2].tier = 1;
	open_pool(f);
	uint32_t counts[3] = { 0 };
	for (int i = 0; i < 4; i++)
		counts[pick(f)]++;
	assert_int_equal(counts[0], 2);
	assert_int_equal(counts[1], 2);
	assert_int_equal(pick(f), UINT32_MAX);
	assert_true(pool_get_status(f->pool).usable);
	assert_false(pool_get_status(f->pool).room);
	give_back(f, 1);
	assert_true(pool_set_member(f->pool, 1, good, 1).room);
	assert_int_equal(pick(f), 1);
	assert_int_equal(pick(f), UINT32_MAX);
	pool_set_member(f->pool, 0, dead, 1);
	pool_set_member(f->pool, 1, dead, 1);
	assert_int_equal(pick(f), 2);
	fixture_free(f);
}

static void
test_full_slots(void **state)
{
	(void)state;
	for_each_balance(check_full_slots);
}

static void
check_skips(enum balance balance)
{
	struct fixture *f = fixture_new(balance, NULL, 4);
	f->members[3].tier = 1;
	open_pool(f);
	/* of another pool, and one twice */
	const struct pick skip[] = { { 1, 0 }, { 0, 1 }, { 0, 1 }, { 0, 0 }, { 0, 2 }, { 0, 3 } };
	assert_int_not_equal(pick_but(f, skip, 1), 3);
	assert_int_not_equal(pick_but(f, skip, 3), 1);
	assert_int_equal(pick_but(f, skip, 4), 2);
	assert_int_equal(pick_but(f, skip, 5), 3);     /* all of the lowest tier were tried */
	assert_int_equal(pick_but(f, skip, 6), UINT32_MAX);
	for (uint32_t i = 0; i < 4; i++) {
		while (board_in_use(f->entries[i]) > 0)
			give_back(f, i);
	}
	uint32_t counts[4] = { 0 };
	for (int i = 0; i < 300; i++)
		counts[pick_and_give_back(f)]++;
	assert_int_equal(counts[3], 0);                /* who was skipped is back */
	assert_true(balance == BALANCE_FIRST || (counts[0] > 0 && counts[1] > 0 && counts[2] > 0));
	fixture_free(f);
}

static void
test_skips(void **state)
{
	(void)state;
	for_each_balance(check_skips);
}

/* ---- several threads ---- */

enum { THREADS = 4, EACH = 5000 };

struct contest {
	struct fixture *f;
	pthread_barrier_t start;
	atomic_uint over, none;
};

static void *
pick_many(void *arg)
{
	struct contest *c = arg;
	pthread_barrier_wait(&c->start);
	for (int i = 0; i < EACH; i++) {
		uint32_t first = pick(c->f), second = pick(c->f);
		give_back(c->f, first);
		(void)second;                  /* held to the end */
	}
	return NULL;
}

static void
run_contest(struct contest *c, void *(*run)(void *))
{
	pthread_t threads[THREADS];
	pthread_barrier_init(&c->start, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run, c), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&c->start);
}

static void
test_least_connections_over_threads(void **state)
{
	(void)state;
	enum { N = 8 };
	struct contest c = { .f = fixture_new(BALANCE_LEAST_CONNECTIONS, NULL, N) };
	open_pool(c.f);
	run_contest(&c, pick_many);
	/* a give-back leaves a member one below the rest, and it is the next to be picked */
	for (int i = 0; i < N; i++)
		assert_in_range(board_in_use(c.f->entries[i]), THREADS * EACH / N - THREADS,
				THREADS * EACH / N + THREADS);
	fixture_free(c.f);
}

/* Of two it is the one with less, so both stay as near to each other as threads between pick and count let them. */
static void
test_two_choices_over_threads(void **state)
{
	(void)state;
	const uint32_t weights[] = { 1, 3 };
	struct contest c = { .f = fixture_new(BALANCE_TWO_CHOICES, weights, 2) };
	open_pool(c.f);
	run_contest(&c, pick_many);
	const uint32_t held = THREADS * EACH;
	assert_int_equal(board_in_use(c.f->entries[0]) + board_in_use(c.f->entries[1]), held);
	assert_in_range(board_in_use(c.f->entries[0]), held / 4 - THREADS, held / 4 + THREADS);
	fixture_free(c.f);
}

static void
test_round_robin_over_threads(void **state)
{
	(void)state;
	const uint32_t weights[] = { 1, 4, 5 };
	struct contest c = { .f = fixture_new(BALANCE_ROUND_ROBIN, weights, 3) };
	open_pool(c.f);
	uint32_t held = THREADS * EACH;
	run_contest(&c, pick_many);
	/* of two picks one is held */
	uint32_t sum = 0;
	for (int i = 0; i < 3; i++)
		sum += board_in_use(c.f->entries[i]);
	assert_int_equal(sum, held);
	/* 40000 picks are whole rounds: the next one begins as the first did */
	assert_picks(c.f, "cbcbacbcbc");
	fixture_free(c.f);
}

static void *
pick_bounded(void *arg)
{
	struct contest *c = arg;
	pthread_barrier_wait(&c->start);
	for (int i = 0; i < EACH; i++) {
		uint32_t m;
		if (pool_pick(c->f->pool, NULL, 0, NULL, true, &m) != POOL_PICKED) {
			atomic_fetch_add(&c->none, 1);
			continue;
		}
		if (board_in_use(c->f->entries[m]) > c->f->max[m])
			atomic_fetch_add(&c->over, 1);
		give_back(c->f, m);
	}
	return NULL;
}

static void
check_limit_over_threads(enum balance balance)
{
	struct contest c = { .f = fixture_new(balance, NULL, 2) };
	c.f->max[0] = c.f->max[1] = 1;
	open_pool(c.f);
	run_contest(&c, pick_bounded);
	assert_int_equal(atomic_load(&c.over), 0);
	assert_true(atomic_load(&c.none) < THREADS * EACH);
	assert_int_equal(board_in_use(c.f->entries[0]), 0);
	assert_int_equal(board_in_use(c.f->entries[1]), 0);
	fixture_free(c.f);
}

static void
test_limit_over_threads(void **state)
{
	(void)state;
	for_each_balance(check_limit_over_threads);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_robin_turns),
		cmocka_unit_test(test_round_robin_is_exact_and_even),
		cmocka_unit_test(test_round_robin_after_a_return),
		cmocka_unit_test(test_looking_changes_nothing),
		cmocka_unit_test(test_least_connections_fills_by_weight),
		cmocka_unit_test(test_least_connections_takes_turns_among_equals),
		cmocka_unit_test(test_least_connections_sees_others),
		cmocka_unit_test(test_least_connections_against_a_scan),
		cmocka_unit_test(test_random_is_in_proportion),
		cmocka_unit_test(test_first_keeps_to_the_order),
		cmocka_unit_test(test_tiers),
		cmocka_unit_test(test_full_slots),
		cmocka_unit_test(test_skips),
		cmocka_unit_test(test_least_connections_over_threads),
		cmocka_unit_test(test_two_choices_over_threads),
		cmocka_unit_test(test_round_robin_over_threads),
		cmocka_unit_test(test_limit_over_threads),
	};
	random_fake(1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
