/*
 * cache: how long what is kept, what never is, and who makes room.
 */
#include "dns/cache.h"

#include "base/hash.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

static const struct cache_limits plain = { .max_entries = 100, .max_ttl_ms = 3600 * 1000, .negative_ttl_ms = 10 * 1000 };

static struct answer
answer_of(enum answer_kind kind, uint32_t ttl_s)
{
	struct answer a = { .kind = (uint8_t)kind, .ttl_s = ttl_s };
	if (kind == ANSWER_ADDRESSES) {
		a.n = 1;
		a.addrs[0] = dns_address_v4((const uint8_t[]){ 192, 0, 2, 1 });
	}
	return a;
}

/* How many ms, from 1000 on, an answer is known; -1: it wasn't kept. */
static long
kept_ms(const struct cache_limits *limits, enum answer_kind kind, uint32_t ttl_s)
{
	struct cache *c = cache_new(limits);
	struct answer a = answer_of(kind, ttl_s);
	const struct cache_entry *e;
	const struct cache_outcome *o;
	long ms = -1;

	assert_non_null(c);
	cache_put(c, "a.test", RECORD_A, &a, 1000);
	if ((e = cache_find(c, "a.test", 1000)) != NULL && (o = cache_outcome(e, RECORD_A, 1000)) != NULL) {
		ms = (long)(o->expires_ms - 1000);
		assert_int_equal(o->n, a.n);
		assert_non_null(cache_find(c, "a.test", o->expires_ms - 1));
		assert_null(cache_find(c, "a.test", 1000 + (uint64_t)ms));
		assert_int_equal(cache_len(c), 0);
	}
	cache_free(c);
	return ms;
}

static void
test_ttl(void **state)
{
	static const struct cache_limits clamped = {
		.max_entries = 1, .min_ttl_ms = 5000, .max_ttl_ms = 60 * 1000, .negative_ttl_ms = 10 * 1000,
	};
	static const struct cache_limits none = { .max_ttl_ms = 60 * 1000, .negative_ttl_ms = 10 * 1000 };
	static const struct {
		const char *what;
		const struct cache_limits *limits;
		enum answer_kind kind;
		uint32_t ttl_s;
		long want;
	} cases[] = {
		{ "as told", &plain, ANSWER_ADDRESSES, 60, 60000 },
		{ "TTL 0", &plain, ANSWER_ADDRESSES, 0, -1 },
		{ "TTL 0, a minimum", &clamped, ANSWER_ADDRESSES, 0, 5000 },
		{ "over the maximum", &clamped, ANSWER_ADDRESSES, 86400, 60000 },
		{ "the largest TTL", &plain, ANSWER_ADDRESSES, INT32_MAX, 3600000 },
		{ "no data, by SOA", &plain, ANSWER_NO_DATA, 4, 4000 },
		{ "no name, by SOA", &plain, ANSWER_NO_NAME, 4, 4000 },
		{ "no name, SOA over the maximum", &plain, ANSWER_NO_NAME, 900, 10000 },
		{ "no name, no SOA", &plain, ANSWER_NO_NAME, ANSWER_TTL_NONE, 10000 },
		{ "no name, SOA says 0", &clamped, ANSWER_NO_NAME, 0, -1 },
		{ "timeout", &clamped, ANSWER_TIMEOUT, 60, -1 },
		{ "failure", &clamped, ANSWER_FAILED, 60, -1 },
		{ "no room at all", &none, ANSWER_ADDRESSES, 60, -1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		long got = kept_ms(cases[i].limits, cases[i].kind, cases[i].ttl_s);
		if (got != cases[i].want)
			fail_msg("%s: %ld, not %ld", cases[i].what, got, cases[i].want);
	}
}

static void
test_outcomes_are_apart(void **state)
{
	struct cache *c = cache_new(&plain);
	struct answer addresses = answer_of(ANSWER_ADDRESSES, 60), nothing = answer_of(ANSWER_NO_DATA, 5);
	const struct cache_entry *e;

	(void)state;
	cache_put(c, "a.test", RECORD_A, &addresses, 1000);
	e = cache_find(c, "a.test", 1000);
	assert_null(cache_outcome(e, RECORD_AAAA, 1000));
	cache_put(c, "a.test", RECORD_AAAA, &nothing, 1000);
	e = cache_find(c, "a.test", 1000);
	assert_string_equal(cache_name(e), "a.test");
	assert_int_equal(cache_outcome(e, RECORD_AAAA, 1000)->n, 0);
	assert_int_equal(cache_outcome(e, RECORD_A, 1000)->n, 1);
	assert_null(cache_outcome(e, RECORD_AAAA, 6000));
	assert_non_null(cache_outcome(e, RECORD_A, 6000));
	cache_put(c, "a.test", RECORD_A, &nothing, 1000);
	assert_int_equal(cache_outcome(cache_find(c, "a.test", 1000), RECORD_A, 1000)->n, 0);
	assert_int_equal(cache_len(c), 1);
	cache_free(c);
}

static void
put_number(struct cache *c, unsigned i)
{
	char name[32];
	struct answer a = answer_of(ANSWER_ADDRESSES, 60);
	snprintf(name, sizeof name, "n%u.test", i);
	cache_put(c, name, RECORD_A, &a, 1000);
}

static bool
has_number(struct cache *c, unsigned i)
{
	char name[32];
	snprintf(name, sizeof name, "n%u.test", i);
	return cache_find(c, name, 1000) != NULL;
}

static void
test_bound(void **state)
{
	static const struct cache_limits fewer = { .max_entries = 10, .max_ttl_ms = 60000, .negative_ttl_ms = 1000 };
	struct cache *c = cache_new(&plain);

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		put_number(c, i);
	assert_int_equal(cache_len(c), 100);
	assert_true(has_number(c, 0));         /* used now: n1 is the oldest */
	put_number(c, 100);
	assert_int_equal(cache_len(c), 100);
	assert_true(has_number(c, 0));
	assert_false(has_number(c, 1));
	assert_true(has_number(c, 2));
	cache_set_limits(c, &fewer);
	assert_int_equal(cache_len(c), 10);
	assert_true(has_number(c, 2));
	assert_true(has_number(c, 100));
	assert_false(has_number(c, 50));
	for (unsigned i = 0; i < 5000; i++)
		put_number(c, i);
	assert_int_equal(cache_len(c), 10);
	cache_free(c);
}

static void
count_entry(const struct cache_entry *e, void *arg)
{
	char *names = arg;
	strcat(names, cache_name(e));
	strcat(names, " ");
}

static void
test_each_and_drop(void **state)
{
	struct cache *c = cache_new(&plain);
	struct answer shorter = answer_of(ANSWER_NO_NAME, 1);
	char names[256] = "";

	(void)state;
	put_number(c, 1);
	put_number(c, 2);
	cache_put(c, "gone.test", RECORD_A, &shorter, 1000);
	cache_each(c, 1000, count_entry, names);
	assert_string_equal(names, "gone.test n2.test n1.test ");
	names[0] = '\0';
	cache_each(c, 2000, count_entry, names);
	assert_string_equal(names, "n2.test n1.test ");
	assert_int_equal(cache_drop(c, "n1.test"), 1);
	assert_int_equal(cache_drop(c, "n1.test"), 0);
	assert_int_equal(cache_drop(c, NULL), 2);
	assert_int_equal(cache_len(c), 0);
	cache_free(c);
	cache_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ttl),
		cmocka_unit_test(test_outcomes_are_apart),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_each_and_drop),
	};
	hash_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
