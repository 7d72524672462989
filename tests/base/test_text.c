/*
 * Tests of base/text, and of the texts of base/clock and base/counters.
 */
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/counters.h"
#include "base/hash.h"

typedef bool read_fn(const char *text, size_t len, uint64_t *value);

static const uint64_t none = UINT64_MAX;               /* what a text that is refused leaves */

struct read_case {
	const char *text;
	uint64_t want;
};

static void
check_reads(read_fn *reads, const struct read_case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t got = none;
		bool taken = reads(cases[i].text, strlen(cases[i].text), &got);
		if (got != cases[i].want || taken != (cases[i].want != none))
			fail_msg("\"%s\": %d, %llu", cases[i].text, taken, (unsigned long long)got);
	}
}

static void
test_durations(void **state)
{
	static const struct read_case cases[] = {
		{ "0s", 0 }, { "250ms", 250 }, { "10s", 10000 }, { "5m", 300000 },
		{ "1h", 3600000 },
		{ "007s", 7000 }, { "1000h", 3600000000 }, { "3600000000ms", 3600000000 },
		{ "1001h", none }, { "3600000001ms", none }, { "60001m", none },
		{ "18446744073709551617ms", none },
		{ "", none }, { "s", none }, { "10", none }, { "10 s", none }, { "-1s", none },
		{ "1.5s", none },
		{ "10S", none }, { "1h30m", none }, { "10sec", none }, { "1d", none },
		{ " 1s", none },
	};
	(void)state;
	check_reads(text_read_duration, cases, ARRAY_LEN(cases));
}

static void
test_sizes(void **state)
{
	static const struct read_case cases[] = {
		{ "0B", 0 }, { "512B", 512 }, { "64KiB", 65536 }, { "10MiB", 10485760 },
		{ "1GiB", 1073741824 },
		{ "1152921504606846976B", 1ull << 60 }, { "1073741824GiB", 1ull << 60 },
		{ "1152921504606846977B", none }, { "1073741825GiB", none },
		{ "99999999999999999999GiB", none },
		{ "64", none }, { "64KB", none }, { "64kib", none }, { "KiB", none },
		{ "64KiB/s", none },
		{ "64 KiB", none }, { "+64KiB", none }, { "", none },
	};
	(void)state;
	check_reads(text_read_size, cases, ARRAY_LEN(cases));
}

static bool
read_up_to_255(const char *text, size_t len, uint64_t *value)
{
	return text_read_number(text, len, 255, value);
}

static bool
read_any_number(const char *text, size_t len, uint64_t *value)
{
	return text_read_number(text, len, UINT64_MAX - 1, value);
}

static void
test_numbers(void **state)
{
	static const struct read_case small[] = {
		{ "0", 0 }, { "255", 255 }, { "000255", 255 }, { "256", none }, { "1000", none },
		{ "", none },
		{ "-0", none }, { "+1", none }, { "1 ", none }, { "0x1", none }, { "\xb2", none },
	};
	static const struct read_case big[] = {
		{ "18446744073709551614", UINT64_MAX - 1 }, { "18446744073709551615", none },
		{ "18446744073709551616", none }, { "184467440737095516140", none },
	};
	(void)state;
	check_reads(read_up_to_255, small, ARRAY_LEN(small));
	check_reads(read_any_number, big, ARRAY_LEN(big));
	uint64_t zero = none;
	assert_true(text_read_number("0", 1, 0, &zero) && zero == 0);
	assert_false(text_read_number("1", 1, 0, &zero));
}

static void
test_distances(void **state)
{
	static const struct {
		const char *a, *b;
		unsigned limit, want;
	} cases[] = {
		{ "", "", 3, 0 }, { "abc", "abc", 3, 0 }, { "", "abc", 3, 3 }, { "abc", "", 3, 3 },
		{ "upsteams", "upstreams", 3, 1 }, { "pasris", "paris", 3, 1 },
		{ "ab", "ba", 3, 1 },
		{ "lisnten", "listen", 3, 1 }, { "ca", "abc", 3, 3 }, { "kitten", "sitting", 3, 3 },
		{ "kitten", "sitting", 2, 3 }, { "abcdef", "uvwxyz", 3, 4 },
		{ "abcd", "badc", 2, 2 },
		{ "abcd", "badc", 1, 2 }, { "a", "b", 0, 1 },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		unsigned there = text_distance(cases[i].a, cases[i].b, cases[i].limit);
		unsigned back = text_distance(cases[i].b, cases[i].a, cases[i].limit);
		if (there != cases[i].want || back != there)
			fail_msg("%s, %s: %u and %u", cases[i].a, cases[i].b, there, back);
	}
}

/* The definition, without tables or a limit. */
static unsigned
distance_by_definition(const char *a, size_t n, const char *b, size_t m)
{
	if (n == 0 || m == 0)
		return (unsigned)(n + m);
	unsigned best = distance_by_definition(a, n - 1, b, m - 1) + (a[n - 1] != b[m - 1]);
	unsigned less = distance_by_definition(a, n - 1, b, m) + 1;
	best = less < best ? less : best;
	less = distance_by_definition(a, n, b, m - 1) + 1;
	best = less < best ? less : best;
	if (n > 1 && m > 1 && a[n - 1] == b[m - 2] && a[n - 2] == b[m - 1]) {
		less = distance_by_definition(a, n - 2, b, m - 2) + 1;
		best = less < best ? less : best;
	}
	return best;
}

static void
test_distance_is_as_defined_at_every_limit(void **state)
{
	(void)state;
	struct random r;
	random_seed(&r, 7);
	for (unsigned round = 0; round < 3000; round++) {
		char a[6] = "", b[6] = "";
		size_t n = random_below(&r, 6), m = random_below(&r, 6);
		for (size_t i = 0; i < n; i++)
			a[i] = (char)('a' + random_below(&r, 3));
		for (size_t i = 0; i < m; i++)
			b[i] = (char)('a' + random_below(&r, 3));
		unsigned real = distance_by_definition(a, n, b, m);
		for (unsigned limit = 0; limit < 6; limit++)
			assert_int_equal(text_distance(a, b, limit),
			    real > limit ? limit + 1 : real);
	}
}

static void
test_long_strings_are_far(void **state)
{
	(void)state;
	char a[66], b[66];
	memset(a, 'x', sizeof a);
	memcpy(b, a, sizeof b);
	a[64] = b[64] = '\0';
	assert_int_equal(text_distance(a, b, 3), 0);
	a[64] = b[64] = 'x', a[65] = b[65] = '\0';
	assert_int_equal(text_distance(a, b, 3), 4);
}

static void
test_nearest(void **state)
{
	static const char *const keys[] = {
		"listeners", "upstreams", "pools", "rules", "sets", "dns"
	};
	static const struct {
		const char *name, *want;
	} cases[] = {
		{ "upsteams", "upstreams" }, { "listener", "listeners" }, { "poosl", "pools" },
		{ "dsn", "dns" },
		{ "dns", "dns" }, { "roles", "rules" }, { "certificate", NULL },
		{ "upstreamsxxxx", NULL },
		{ "abc", NULL }, { "", NULL },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *got = text_nearest(cases[i].name, keys, ARRAY_LEN(keys));
		if (cases[i].want == NULL)
			assert_null(got);
		else
			assert_string_equal(got, cases[i].want);
	}
	static const char *const in_order[] = { "aaXX", "aaaX", "aaaa" };
	assert_string_equal(text_nearest("aaaa", in_order, 3), "aaaa");
	assert_string_equal(text_nearest("aaaa", in_order, 2), "aaaX");
	assert_null(text_nearest("aaaa", NULL, 0));
}

static void
test_append_cuts_quietly(void **state)
{
	(void)state;
	for (size_t cap = 0; cap <= 12; cap++) {
		char *out = malloc(cap + 1);
		size_t len = 0;
		assert_non_null(out);
		memset(out, '#', cap + 1);
		text_append(out, cap, &len, "%s-%d", "abc", 12);
		text_append(out, cap, &len, "%s", "");
		text_append(out, cap, &len, "%s", "xyz");
		assert_int_equal(out[cap], '#');
		if (cap > 0) {
			assert_int_equal(len, cap - 1 < 9 ? cap - 1 : 9);
			assert_int_equal(strlen(out), len);
			assert_memory_equal(out, "abc-12xyz", len);
		}
		free(out);
	}
}

static void
test_clock_texts(void **state)
{
	static const struct {
		int64_t ms;
		const char *want;
	} cases[] = {
		{ 0, "1970-01-01T00:00:00.000Z" },
		{ 1767323045678, "2026-01-02T03:04:05.678Z" },
		{ 951782399999, "2000-02-28T23:59:59.999Z" },
		{ 951782400000, "2000-02-29T00:00:00.000Z" },
		{ 951868800000, "2000-03-01T00:00:00.000Z" },
		{ 1709164800000, "2024-02-29T00:00:00.000Z" },
		{ 4107456000000, "2100-02-28T00:00:00.000Z" },
		{ 4107542400000, "2100-03-01T00:00:00.000Z" },
		{ 1735689599999, "2024-12-31T23:59:59.999Z" },
		{ -1, "1969-12-31T23:59:59.999Z" },
	};
	char out[25];
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_string_equal(clock_to_text(cases[i].ms, out, sizeof out), cases[i].want);
}

static void
check_number(uint64_t value, unsigned digits)
{
	char want[64], got[TEXT_NUMBER_MAX];
	int n = snprintf(want, sizeof want, "%0*llu", (int)digits, (unsigned long long)value);
	assert_int_equal(text_write_number(got, value, digits), n);
	assert_memory_equal(got, want, n);
}

static void
test_numbers_are_written(void **state)
{
	(void)state;
	for (uint64_t tens = 1; tens <= UINT64_MAX / 10; tens *= 10)
		for (uint64_t i = 0; i < 12; i++)
			for (unsigned digits = 1; digits < 5; digits++) {
				check_number(tens - i % tens, digits);
				check_number(tens * (i % 9 + 1), digits);
			}
	check_number(0, 1);
	check_number(0, 3);
	check_number(UINT64_MAX, 1);
	check_number(7, TEXT_NUMBER_MAX);
}

static void
test_microseconds_are_written_as_ms(void **state)
{
	static const uint64_t at_us[] = { 0, 1, 10, 99, 100, 999, 1000, 1001, 9999, 10000, 12005, 123456789, UINT64_MAX };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(at_us); i++) {
		char want[64], got[TEXT_NUMBER_MAX];
		int n = snprintf(want, sizeof want, "%llu.%03u", (unsigned long long)(at_us[i] / 1000),
		    (unsigned)(at_us[i] % 1000));
		assert_int_equal(text_write_ms(got, at_us[i]), n);
		assert_memory_equal(got, want, n);
	}
}

static void
test_copies_are_cut(void **state)
{
	char out[4];
	(void)state;
	text_copy(out, sizeof out, "abc");
	assert_string_equal(out, "abc");
	text_copy(out, sizeof out, "vwxyz");
	assert_string_equal(out, "vwx");
	text_copy(out, sizeof out, NULL);
	assert_string_equal(out, "");
}

static void
test_fake_clock_stands_still(void **state)
{
	(void)state;
	clock_fake(0, -5);
	assert_int_equal(clock_now_ms(), 1);   /* never 0 */
	clock_fake(1234, 5678);
	assert_int_equal(clock_now_ms(), 1234);
	assert_int_equal(clock_now_us(), 1234000);
	assert_int_equal(clock_wall_ms(), 5678);
	clock_fake_stop();
	uint64_t us = clock_now_us(), ms = clock_now_ms();
	assert_true(ms >= us / 1000 && clock_now_us() >= us);
	assert_true(clock_wall_ms() > 1600000000000);
}

static bool
ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);
	return n >= m && strcmp(text + n - m, end) == 0;
}

static void
test_counter_texts_are_complete_and_distinct(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNTER_N; i++) {
		const struct counter_text *t = &counter_texts[i];
		assert_int_equal(strncmp(t->metric, "sockroute_", 10), 0);
		assert_true(strlen(t->json) > 0 && ends_with(t->help, "."));
		for (size_t j = 0; j < i; j++) {
			const struct counter_text *u = &counter_texts[j];
			bool same_metric = strcmp(t->metric, u->metric) == 0;
			assert_string_not_equal(t->json, u->json);
			assert_false(same_metric && strcmp(t->labels, u->labels) == 0);
			/* Prometheus wants one HELP per metric, and its series together. */
			if (same_metric)
				assert_string_equal(t->help, u->help);
			if (same_metric)
				assert_string_equal(counter_texts[i - 1].metric, t->metric);
		}
	}
	assert_false(ends_with(counter_texts[COUNTER_SESSIONS_OPEN].metric, "_total"));
}

static void
test_counters_add_up(void **state)
{
	(void)state;
	static struct counters c;
	counter_add(&c, COUNTER_SESSIONS_OPEN, 3);
	counter_sub(&c, COUNTER_SESSIONS_OPEN, 2);
	counter_add(&c, COUNTER_BYTES_UP, 1ull << 40);
	assert_int_equal(counter_get(&c, COUNTER_SESSIONS_OPEN), 1);
	assert_int_equal(counter_get(&c, COUNTER_BYTES_UP), 1ull << 40);
	assert_int_equal(counter_get(&c, COUNTER_BYTES_DOWN), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_distances),
		cmocka_unit_test(test_distance_is_as_defined_at_every_limit),
		cmocka_unit_test(test_long_strings_are_far),
		cmocka_unit_test(test_nearest),
		cmocka_unit_test(test_append_cuts_quietly),
		cmocka_unit_test(test_clock_texts),
		cmocka_unit_test(test_numbers_are_written),
		cmocka_unit_test(test_microseconds_are_written_as_ms),
		cmocka_unit_test(test_copies_are_cut),
		cmocka_unit_test(test_fake_clock_stands_still),
		cmocka_unit_test(test_counter_texts_are_complete_and_distinct),
		cmocka_unit_test(test_counters_add_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
