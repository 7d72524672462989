/*
 * Tests of base/hash: published vectors, and golden ones of hash_stable, which must never move
 * (fleets share what it chooses).
 */
#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <string.h>

#include "base/base.h"

/*
 * Key 00..0f, message 00, 01, ... of that many bytes: from the table of the SipHash paper's
 * reference code.
 */
static void
test_siphash_vectors(void **state)
{
	static const struct {
		size_t len;
		uint64_t want;
	} cases[] = {
		{ 0, 0x726fdb47dd0e0e31 },  { 1, 0x74f839c593dc67fd },  { 7, 0xab0200f58b01d137 },
		{ 8, 0x93f5f5799a932462 },  { 9, 0x9e0082df0ba9e4b0 },  { 15, 0xa129ca6149be45e5 },
		{ 16, 0x3f2acc7f57c29bdb }, { 63, 0x958a324ceb064572 },
	};
	uint8_t key[16], bytes[65];
	(void)state;
	for (size_t i = 0; i < sizeof key; i++)
		key[i] = (uint8_t)i;
	for (size_t shift = 0; shift < 2; shift++) {           /* at any alignment */
		for (size_t i = 0; i < 64; i++)
			bytes[i + shift] = (uint8_t)i;
		for (size_t i = 0; i < ARRAY_LEN(cases); i++)
			assert_int_equal(hash_keyed_with(key, bytes + shift, cases[i].len),
			    cases[i].want);
	}
}

static void
test_stable_is_golden(void **state)
{
	(void)state;
	assert_int_equal(hash_stable("", 0, 0), 0x1e924b9d737700d7);
	assert_int_equal(hash_stable("example.com", 11, 1), 0xe7675fbe4549ba08);
	assert_int_equal(hash_stable("example.com", 11, 2), 0x0048fa83ad0dbc2f);
}

static void
test_keyed_follows_the_process_key(void **state)
{
	static const uint8_t no_key[16];
	(void)state;
	uint64_t before = hash_keyed("abc", 3);
	assert_int_equal(before, hash_keyed_with(no_key, "abc", 3));
	hash_start();
	uint64_t one = hash_keyed("abc", 3);
	assert_int_equal(one, hash_keyed("abc", 3));
	assert_int_not_equal(one, before);
	hash_start();
	assert_int_not_equal(hash_keyed("abc", 3), one);
}

static void
test_generator_vectors(void **state)
{
	static const uint64_t want[] = { 11520, 0, 1509978240, 1215971899390074240 };
	static const uint64_t want_seed[] = {
		6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
		4593380528125082431u
	};
	struct random r = { { 1, 2, 3, 4 } };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(want); i++)
		assert_int_equal(random_next(&r), want[i]);
	random_seed(&r, 1234567);
	assert_memory_equal(r.s, want_seed, sizeof r.s);
}

static void
test_seed_0_is_random(void **state)
{
	struct random a, b;
	(void)state;
	random_seed(&a, 0);
	random_seed(&b, 0);
	assert_memory_not_equal(a.s, b.s, sizeof a.s);
	random_fake(7);
	random_seed(&a, 0);
	random_fake(0);
	random_seed(&b, 7);
	assert_memory_equal(a.s, b.s, sizeof a.s);
}

/* 70000 draws in 7 bins: 10000 each, and a deviation of 500 is over five times the expected one. */
static void
test_below_is_even_and_below(void **state)
{
	unsigned bins[7] = { 0 };
	struct random r;
	(void)state;
	random_seed(&r, 99);
	for (unsigned i = 0; i < 70000; i++) {
		uint32_t v = random_below(&r, 7);
		assert_true(v < 7);
		bins[v]++;
	}
	for (size_t i = 0; i < ARRAY_LEN(bins); i++)
		assert_in_range(bins[i], 9500, 10500);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(random_below(&r, 1), 0);
}

/* With n = 3 * 2^30 a mere product would give every third value twice as often. */
static void
test_below_is_even_near_the_top(void **state)
{
	const uint32_t n = 3u << 30;
	unsigned multiples_of_3 = 0;
	struct random r;
	(void)state;
	random_seed(&r, 5);
	for (unsigned i = 0; i < 30000; i++)
		multiples_of_3 += random_below(&r, n) % 3 == 0;
	assert_in_range(multiples_of_3, 9500, 10500);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_siphash_vectors),
		cmocka_unit_test(test_stable_is_golden),
		cmocka_unit_test(test_keyed_follows_the_process_key),
		cmocka_unit_test(test_generator_vectors),
		cmocka_unit_test(test_seed_0_is_random),
		cmocka_unit_test(test_below_is_even_and_below),
		cmocka_unit_test(test_below_is_even_near_the_top),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
