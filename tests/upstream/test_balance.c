/*
 * Tests of the algorithms that depend on keys, times and chance: consistent_hash with golden
 * vectors and exact moves, least_latency and slow_start on a fake clock, two_choices by its bound.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/upstream/pool_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "upstream/pool_key.h"

/* ---- keys ---- */

static const struct {
	enum pool_key what;
	const char *client, *user, *session, *to, *want;
} key_texts[] = {
	{ KEY_CLIENT_IP, "192.0.2.1:4000", "u", "s", "a.example:80", "192.0.2.1" },
	{ KEY_CLIENT_IP, "[2001:db8::1]:4000", "u", "s", "a.example:80", "2001:db8::1" },
	{ KEY_CLIENT_IP, NULL, "u", "s", "a.example:80", "" },
	{ KEY_USER, "192.0.2.1:4000", "u", "s", "a.example:80", "u" },
	{ KEY_USER, "192.0.2.1:4000", NULL, "s", "a.example:80", "" },
	{ KEY_SESSION, "192.0.2.1:4000", "u", "s1", "a.example:80", "s1" },
	{ KEY_SESSION, "192.0.2.1:4000", "u", "", "a.example:80", "" },
	{ KEY_DESTINATION, NULL, NULL, NULL, "A.Example:80", "a.example:80" },
	{ KEY_DESTINATION, NULL, NULL, NULL, "[2001:db8::1]:443", "[2001:db8::1]:443" },
	{ KEY_DESTINATION_HOST, NULL, NULL, NULL, "a.example:80", "a.example" },
	{ KEY_DESTINATION_HOST, NULL, NULL, NULL, "192.0.2.7:80", "192.0.2.7" },
	{ KEY_NONE, "192.0.2.1:4000", "u", "s", "a.example:80", "" },
};

static void
read_endpoint_text(struct endpoint *e, const char *text)
{
	memset(e, 0, sizeof *e);
	if (text != NULL)
		assert_int_equal(endpoint_from_text(e, text, strlen(text)), ENDPOINT_OK);
}

static void
test_key_texts(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(key_texts); i++) {
		struct endpoint client, to;
		char text[POOL_KEY_MAX];
		read_endpoint_text(&client, key_texts[i].client);
		read_endpoint_text(&to, key_texts[i].to);
		const struct pick_key key = {
			.client = &client,
			.user = key_texts[i].user,
			.session = key_texts[i].session,
			.to = &to,
		};
		assert_int_equal(pool_key_text(key_texts[i].what, &key, text),
				 strlen(key_texts[i].want));
		assert_string_equal(text, key_texts[i].want);
	}
	char text[POOL_KEY_MAX];
	assert_int_equal(pool_key_text(KEY_USER, NULL, text), 0);
}

/* ---- consistent_hash ---- */

enum { KEYS = 20000 };

static struct fixture *
maglev_new(const uint32_t *weights, size_t n)
{
	struct fixture *f = fixture_new(BALANCE_CONSISTENT_HASH, weights, n);
	f->conf.hash_key = KEY_USER;
	return f;
}

static uint32_t
pick_for(struct fixture *f, const char *user)
{
	f->key.user = user;
	return pick_and_give_back(f);
}

static uint32_t
pick_nth(struct fixture *f, unsigned i)
{
	char user[24];
	snprintf(user, sizeof user, "user%u", i);
	return pick_for(f, user);
}

static void
pick_all(struct fixture *f, uint32_t got[KEYS])
{
	for (unsigned i = 0; i < KEYS; i++)
		got[i] = pick_nth(f, i);
}

/* A change of these moves the keys of everyone who updates one node of a fleet after the other. */
static const struct {
	const char *what;
	uint32_t n;
	uint32_t weights[7];
	const char *want;                      /* of user0, user1 and so on */
} golden[] = {
	{ "three", 3, { 1, 1, 1 }, "baabbcccbbcccacbbaabcccabccacbac" },
	{ "seven", 7, { 1, 1, 1, 1, 1, 1, 1 }, "bdabfcddbbfcdacdbeffdgeafgdfdbgg" },
	{ "weights", 3, { 1, 2, 5 }, "bcbbccccbbcccacbbccbccccbccacbbc" },
	{ "weight 0 takes no part", 3, { 1, 0, 1 }, "aaacccccaacccaccaaaacccaaccacaac" },
};

static void
test_golden_vectors(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(golden); i++) {
		struct fixture *f = maglev_new(golden[i].weights, golden[i].n);
		char got[33] = "";
		open_pool(f);
		for (unsigned k = 0; k < 32; k++)
			got[k] = (char)('a' + pick_nth(f, k));
		print_message("  %s\n", golden[i].what);
		assert_string_equal(got, golden[i].want);
		fixture_free(f);
	}
}

/* Who goes takes no other member's keys along, and gets all of its own back. */
static void
test_only_the_keys_of_the_one_that_goes_move(void **state)
{
	(void)state;
	static uint32_t before[KEYS], without[KEYS], after[KEYS];
	uint32_t taken_over[10] = { 0 }, moved = 0;
	struct fixture *f = maglev_new(NULL, 10);
	open_pool(f);
	pick_all(f, before);
	pool_set_member(f->pool, 3, dead, 1);
	pick_all(f, without);
	pool_set_member(f->pool, 3, good, 1);
	pick_all(f, after);
	for (unsigned i = 0; i < KEYS; i++) {
		assert_int_equal(after[i], before[i]);
		if (before[i] != 3)
			assert_int_equal(without[i], before[i]);
		else
			taken_over[without[i]]++, moved++;
	}
	assert_in_range(moved, KEYS / 10 * 9 / 10, KEYS / 10 * 11 / 10);
	assert_int_equal(taken_over[3], 0);
	for (unsigned m = 0; m < 10; m++)       /* by all that are left, about alike */
		assert_true(m == 3 || (taken_over[m] > moved / 9 / 2 && taken_over[m] < moved / 9 * 2));
	fixture_free(f);
}

/* Another policy, with one member less: little else than that member's keys moves. */
static void
test_a_member_less_in_the_policy_moves_little(void **state)
{
	(void)state;
	static uint32_t before[KEYS], without[KEYS];
	uint32_t moved = 0;
	struct fixture *all = maglev_new(NULL, 10), *less = maglev_new(NULL, 9); /* without m9 */
	open_pool(all);
	open_pool(less);
	pick_all(all, before);
	pick_all(less, without);
	for (unsigned i = 0; i < KEYS; i++)
		moved += before[i] != 9 && before[i] != without[i];
	assert_in_range(moved, 0, KEYS / 50);
	fixture_free(all);
	fixture_free(less);
}

static void
test_shares_are_those_of_the_weights(void **state)
{
	(void)state;
	const uint32_t weights[] = { 1, 2, 5 };
	uint32_t counts[3] = { 0 };
	struct fixture *f = maglev_new(weights, 3);
	open_pool(f);
	for (unsigned i = 0; i < KEYS; i++)
		counts[pick_nth(f, i)]++;
	for (unsigned m = 0; m < 3; m++)        /* KEYS keys themselves scatter by some 2 % */
		assert_in_range(counts[m], KEYS * weights[m] / 8 * 94 / 100,
				KEYS * weights[m] / 8 * 106 / 100);
	fixture_free(f);
}

/* A weight below the policy's sheds keys, one above it draws some; nothing else moves. */
static void
test_another_weight_moves_only_its_share(void **state)
{
	(void)state;
	static uint32_t before[KEYS], now[KEYS];
	const uint32_t weights[] = { 4, 4, 4 };
	uint32_t had = 0, has = 0;
	struct fixture *f = maglev_new(weights, 3);
	open_pool(f);
	pick_all(f, before);
	pool_set_member(f->pool, 1, good, 1);
	pick_all(f, now);
	for (unsigned i = 0; i < KEYS; i++) {
		had += before[i] == 1;
		has += now[i] == 1;
		assert_true(now[i] == before[i] || before[i] == 1);
	}
	/* a quarter of its own, and of those hashed again the part that falls to it */
	assert_in_range(has, had * 22 / 100, had * 40 / 100);
	pool_set_member(f->pool, 1, good, 8);
	has = 0;
	for (unsigned i = 0; i < KEYS; i++)
		has += pick_nth(f, i) == 1;
	assert_in_range(has, KEYS / 2 * 95 / 100, KEYS / 2 * 105 / 100);
	fixture_free(f);
}

/* Hardly anyone left, and nobody of those that the key's places name. */
static void
test_one_of_many_is_found(void **state)
{
	(void)state;
	struct fixture *f = maglev_new(NULL, MEMBERS_MAX);
	open_pool(f);
	for (uint32_t i = 0; i < MEMBERS_MAX; i++)
		if (i != 700)
			pool_set_member(f->pool, i, dead, 1);
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(pick_nth(f, i), 700);
	fixture_free(f);
}

static void
test_requests_without_a_key_are_spread(void **state)
{
	(void)state;
	uint32_t counts[4] = { 0 };
	struct fixture *f = maglev_new(NULL, 4);
	open_pool(f);
	for (unsigned i = 0; i < 4000; i++)
		counts[pick_for(f, "")]++;
	for (unsigned m = 0; m < 4; m++)
		assert_in_range(counts[m], 700, 1300);
	fixture_free(f);
}

/* ---- two_choices ---- */

/* Of two it always is the one with less; the fullest of many stays near the mean, where chance
 * alone would leave it far above (ln ln n / ln 2 against ln n / ln ln n). */
static void
test_two_choices(void **state)
{
	(void)state;
	enum { N = 500 };
	const uint32_t weights[] = { 1, 3 };
	struct fixture *f = fixture_new(BALANCE_TWO_CHOICES, weights, 2);
	open_pool(f);
	for (int i = 0; i < 400; i++)
		(void)pick(f);
	assert_int_equal(board_in_use(f->entries[0]), 100);
	assert_int_equal(board_in_use(f->entries[1]), 300);
	fixture_free(f);
	f = fixture_new(BALANCE_TWO_CHOICES, NULL, N);
	open_pool(f);
	for (int i = 0; i < N * 10; i++)
		(void)pick(f);
	for (int i = 0; i < N; i++)
		assert_in_range(board_in_use(f->entries[i]), 4, 14);
	fixture_free(f);
}

/* ---- least_latency ---- */

static void
test_least_latency(void **state)
{
	(void)state;
	uint64_t now = 1000000;
	clock_fake(now, 0);
	struct fixture *f = fixture_new(BALANCE_LEAST_LATENCY, NULL, 3);
	open_pool(f);
	assert_picks(f, "abcabc");              /* nobody was measured: in turn */
	board_note_connect(f->entries[0], 10000);
	board_note_connect(f->entries[1], 25000);
	assert_picks(f, "ccc");                 /* who was never measured comes first */
	board_note_connect(f->entries[2], 100000);
	assert_picks(f, "aaaa");
	/* sessions count: the third costs a 10 * 3, more than b's 25 */
	assert_int_equal(pick(f), 0);
	assert_int_equal(pick(f), 0);
	assert_int_equal(pick(f), 1);
	assert_int_equal(pick(f), 0);
	for (int i = 0; i < 3; i++)
		give_back(f, 0);
	give_back(f, 1);
	board_note_connect(f->entries[0], 50000);       /* a peak counts at once */
	assert_picks(f, "bb");
	/* b stays as it is; a's peak of 50 ms falls below b's 25 ms after ln 2 time constants */
	clock_fake(now += 6900, 0);
	board_note_connect(f->entries[1], 25000);
	assert_picks(f, "b");
	clock_fake(now += 100, 0);
	board_note_connect(f->entries[1], 25000);
	assert_picks(f, "a");
	fixture_free(f);
	clock_fake_stop();
}

/* A failure is no fast connect. */
static void
test_least_latency_after_a_failure(void **state)
{
	(void)state;
	clock_fake(1000000, 0);
	const uint32_t weights[] = { 1, 1, 2 };
	struct fixture *f = fixture_new(BALANCE_LEAST_LATENCY, weights, 3);
	open_pool(f);
	for (int i = 0; i < 3; i++)
		board_note_connect(f->entries[i], 20000);
	assert_picks(f, "ccc");                 /* twice the weight: half the cost */
	board_note_failure(f->entries[2]);
	assert_picks(f, "abab");
	clock_fake(1000000 + BOARD_PEAK_TAU_MS * 3, 0);
	board_note_connect(f->entries[0], 20000);
	board_note_connect(f->entries[1], 20000);
	assert_picks(f, "ab");                  /* 1 s / e^3 = 50 ms, halved: not yet */
	clock_fake(1000000 + BOARD_PEAK_TAU_MS * 4, 0);
	board_note_connect(f->entries[0], 20000);
	board_note_connect(f->entries[1], 20000);
	assert_picks(f, "cc");
	fixture_free(f);
	clock_fake_stop();
}

/* ---- slow_start ---- */

/* How many of n picks go to a member. */
static uint32_t
share_of(struct fixture *f, uint32_t member, unsigned n)
{
	uint32_t count = 0;
	for (unsigned i = 0; i < n; i++)
		count += pick_and_give_back(f) == member;
	return count;
}

static void
test_slow_start(void **state)
{
	(void)state;
	clock_fake(1000000, 0);
	struct fixture *f = fixture_new(BALANCE_ROUND_ROBIN, NULL, 2);
	f->conf.slow_start_ms = 15000;
	open_pool(f);
	assert_int_equal(share_of(f, 1, 320), 160);     /* at the start there is nothing to recover from */
	pool_set_member(f->pool, 1, dead, 1);
	pool_set_member(f->pool, 1, full, 1);           /* back */
	pool_set_member(f->pool, 1, good, 1);
	static const struct { unsigned after_ms, parts; } steps[] = {
		{ 0, 1 }, { 999, 1 }, { 1000, 2 }, { 7000, 8 }, { 14999, 15 }, { 15000, 16 }, { 99000, 16 },
	};
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		clock_fake(1000000 + steps[i].after_ms, 0);
		(void)pick_and_give_back(f);            /* takes up the weight */
		unsigned round = 16 + steps[i].parts;
		assert_in_range(share_of(f, 1, round * 10), steps[i].parts * 10 - 1,
				steps[i].parts * 10 + 1);
	}
	fixture_free(f);
	clock_fake_stop();
}

/* Two members, of which the second comes back at this moment. */
static struct fixture *
returning_new(enum balance balance, uint64_t now_ms)
{
	clock_fake(now_ms, 0);
	struct fixture *f = fixture_new(balance, NULL, 2);
	f->conf.slow_start_ms = 15000;
	f->conf.hash_key = KEY_USER;
	open_pool(f);
	for (int i = 0; i < 2; i++)
		board_note_connect(f->entries[i], 20000);
	pool_set_member(f->pool, 1, dead, 1);
	pool_set_member(f->pool, 1, good, 1);
	return f;
}

static const struct { unsigned after_ms, parts; } ramp[] = {
	{ 0, 1 }, { 1000, 2 }, { 7000, 8 }, { 14999, 15 }, { 15000, 16 },
};

/* Those that go by sessions under way: of many that stay open it has its part, to one. */
static void
check_slow_start_held(enum balance balance)
{
	struct fixture *f = returning_new(balance, 1000000);
	for (size_t i = 0; i < ARRAY_LEN(ramp); i++) {
		clock_fake(1000000 + ramp[i].after_ms, 0);
		(void)pick_and_give_back(f);            /* takes up the weight */
		for (unsigned k = 0; k < (16 + ramp[i].parts) * 10; k++)
			assert_int_not_equal(pick(f), UINT32_MAX);
		assert_in_range(board_in_use(f->entries[1]), ramp[i].parts * 10 - 1, ramp[i].parts * 10 + 1);
		for (uint32_t m = 0; m < 2; m++)
			while (board_in_use(f->entries[m]) > 0)
				give_back(f, m);
	}
	fixture_free(f);
	clock_fake_stop();
}

static void
test_slow_start_by_sessions(void **state)
{
	(void)state;
	check_slow_start_held(BALANCE_LEAST_CONNECTIONS);
	check_slow_start_held(BALANCE_TWO_CHOICES);
	check_slow_start_held(BALANCE_LEAST_LATENCY);
}

/* By chance: within five standard deviations. */
static void
test_slow_start_by_chance(void **state)
{
	(void)state;
	enum { N = 3000 };
	struct fixture *f = returning_new(BALANCE_RANDOM, 1000000);
	for (size_t i = 0; i < ARRAY_LEN(ramp); i++) {
		clock_fake(1000000 + ramp[i].after_ms, 0);
		(void)pick_and_give_back(f);
		uint32_t mean = N * ramp[i].parts / (16 + ramp[i].parts);
		uint32_t five = 5 * 28;                 /* sqrt(N / 4) is 27.4, and p(1 - p) is 1/4 at most */
		assert_in_range(share_of(f, 1, N), mean > five ? mean - five : 0, mean + five);
	}
	fixture_free(f);
	clock_fake_stop();
}

/* It has a part of its own keys, always the same ones and more of them each time; no other key moves. */
static void
test_slow_start_by_key(void **state)
{
	(void)state;
	enum { N = 4000 };
	static bool had[N], has[N];
	struct fixture *f = returning_new(BALANCE_CONSISTENT_HASH, 1000000);
	clock_fake(1015000, 0);
	(void)pick_nth(f, 0);
	unsigned own = 0;
	for (unsigned k = 0; k < N; k++)
		own += has[k] = pick_nth(f, k) == 1;
	assert_in_range(own, N / 2 - 200, N / 2 + 200);
	fixture_free(f);
	f = returning_new(BALANCE_CONSISTENT_HASH, 1000000);
	for (size_t i = 0; i < ARRAY_LEN(ramp); i++) {
		unsigned n = 0;
		clock_fake(1000000 + ramp[i].after_ms, 0);
		(void)pick_nth(f, 0);
		for (unsigned k = 0; k < N; k++) {
			bool mine = pick_nth(f, k) == 1;
			assert_true(has[k] || !mine);
			assert_true(mine || !had[k]);
			had[k] = mine;
			n += mine;
		}
		unsigned mean = N * ramp[i].parts / (16 + ramp[i].parts);
		assert_in_range(n, mean - 120, mean + 120);
	}
	fixture_free(f);
	clock_fake_stop();
}

/* It has no weights: who is first again is so at once. */
static void
test_slow_start_of_the_first(void **state)
{
	(void)state;
	struct fixture *f = returning_new(BALANCE_FIRST, 1000000);
	pool_set_member(f->pool, 0, dead, 1);
	assert_picks(f, "bbb");
	pool_set_member(f->pool, 0, good, 1);
	assert_picks(f, "aaa");
	fixture_free(f);
	clock_fake_stop();
}

/* More return at once than one pick looks at: all of them get there. */
static void
test_slow_start_of_many(void **state)
{
	(void)state;
	enum { N = 40 };
	clock_fake(1000000, 0);
	struct fixture *f = fixture_new(BALANCE_LEAST_CONNECTIONS, NULL, N);
	f->conf.slow_start_ms = 10000;
	open_pool(f);
	for (uint32_t i = 1; i < N; i++) {
		pool_set_member(f->pool, i, dead, 1);
		pool_set_member(f->pool, i, good, 1);
	}
	for (int i = 0; i < 16; i++)
		assert_int_equal(pick(f), i == 15 ? 1 : 0);
	clock_fake(1010000, 0);
	for (int i = 0; i < N; i++)             /* a few are looked at with each */
		(void)pick_and_give_back(f);
	for (int i = 0; i < 16 * N - 16; i++)
		(void)pick(f);
	for (uint32_t i = 0; i < N; i++)
		assert_int_equal(board_in_use(f->entries[i]), 16);
	fixture_free(f);
	clock_fake_stop();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_key_texts),
		cmocka_unit_test(test_golden_vectors),
		cmocka_unit_test(test_only_the_keys_of_the_one_that_goes_move),
		cmocka_unit_test(test_a_member_less_in_the_policy_moves_little),
		cmocka_unit_test(test_shares_are_those_of_the_weights),
		cmocka_unit_test(test_another_weight_moves_only_its_share),
		cmocka_unit_test(test_one_of_many_is_found),
		cmocka_unit_test(test_requests_without_a_key_are_spread),
		cmocka_unit_test(test_two_choices),
		cmocka_unit_test(test_least_latency),
		cmocka_unit_test(test_least_latency_after_a_failure),
		cmocka_unit_test(test_slow_start),
		cmocka_unit_test(test_slow_start_by_sessions),
		cmocka_unit_test(test_slow_start_by_chance),
		cmocka_unit_test(test_slow_start_by_key),
		cmocka_unit_test(test_slow_start_of_the_first),
		cmocka_unit_test(test_slow_start_of_many),
	};
	random_fake(1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
