/*
 * Tests of outlier ejection, through a fleet and on a fake clock: when, for how long, how many, and
 * the way back by one trial.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "upstream/fleet.h"
#include "upstream/outlier.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"

enum { START_MS = 1000000 };

struct scene {
	struct board *board;
	struct fleet *fleet;
	uint64_t now;
};

/* Upstreams a to d, a chain of d alone; pool 0 holds "members" with this outlier. */
static void
begin(struct scene *s, const char *members, const char *outlier)
{
	char text[2048], why[256];
	snprintf(text, sizeof text,
		 "{\"upstreams\": ["
		 "{\"name\": \"a\", \"url\": \"socks5://192.0.2.1\"},"
		 "{\"name\": \"b\", \"url\": \"socks5://192.0.2.2\"},"
		 "{\"name\": \"c\", \"url\": \"socks5://192.0.2.3\"},"
		 "{\"name\": \"d\", \"url\": \"socks5://192.0.2.4\"}],"
		 "\"chains\": [{\"name\": \"over-d\", \"hops\": [\"d\"]}],"
		 "\"pools\": [{\"name\": \"p\", \"members\": [%s], \"outlier\": %s}], "
		 "\"default_route\": \"p\"}",
		 members, outlier);
	struct policy_errors errors;
	policy_errors_init(&errors);
	struct policy *p = policy_load(
	    &(struct policy_source){ .text = text, .len = strlen(text), .name = "test" }, &errors);
	assert_non_null(p);
	s->board = board_new();
	s->fleet = fleet_new(p, s->board, why, sizeof why);
	assert_non_null(s->fleet);
	policy_unref(p);
	clock_fake(s->now = START_MS, 0);
}

static void
end(struct scene *s)
{
	fleet_unref(s->fleet);
	assert_int_equal(board_count(s->board), 0);
	board_free(s->board);
	clock_fake_stop();
}

static void
pass(struct scene *s, uint64_t ms)
{
	clock_fake(s->now += ms, 0);
}

static void
blame(struct scene *s, uint32_t upstream, int times)
{
	while (times-- > 0)
		fleet_note_failure(s->fleet, 0, upstream);
}

/* Who is picked, given back at once; -1: nobody. */
static int
pick(struct scene *s)
{
	const struct pick_key key = { 0 };
	struct path path;
	struct policy_route route = fleet_policy(s->fleet)->default_route;
	if (fleet_pick_path(s->fleet, route, &key, NULL, &path) != PICK_OK)
		return -1;
	fleet_give_back_path(s->fleet, &path);
	return (int)path.hops[0];
}

/* How many of n picks go to an upstream. */
static unsigned
count_picks(struct scene *s, unsigned n, int upstream)
{
	unsigned count = 0;
	while (n-- > 0)
		count += pick(s) == upstream;
	return count;
}

static void
assert_state(struct scene *s, uint32_t upstream, const char *want)
{
	assert_string_equal(board_state_text(fleet_upstream(s->fleet, upstream)), want);
}

static const char *const usual = "{\"failures\": 3, \"window\": \"10s\", \"ejection\": \"5s\"}";

static void
test_enough_within_the_window(void **state)
{
	(void)state;
	struct scene s;
	begin(&s, "\"a\", \"b\"", usual);
	blame(&s, 0, 2);
	pass(&s, 10001);
	blame(&s, 0, 2);                        /* the first two are past */
	assert_state(&s, 0, "unknown");
	pass(&s, 10000);
	blame(&s, 0, 1);                        /* three, just within it */
	assert_state(&s, 0, "ejected");
	assert_int_equal(count_picks(&s, 10, 1), 10);
	assert_int_equal(atomic_load(&fleet_upstream(s.fleet, 0)->failures_total), 5);
	end(&s);
}

static void
test_of_no_pool_or_one_without_outlier(void **state)
{
	(void)state;
	struct scene s;
	begin(&s, "\"a\", \"b\"", usual);
	for (int i = 0; i < 50; i++)
		fleet_note_failure(s.fleet, UINT32_MAX, 0);
	assert_state(&s, 0, "unknown");
	end(&s);
}

/* After its time one request goes there, and no other until that has ended. */
static void
test_one_trial_before_the_return(void **state)
{
	(void)state;
	struct scene s;
	begin(&s, "\"a\", \"b\"", usual);
	blame(&s, 0, 3);
	pass(&s, 4999);
	assert_int_equal(count_picks(&s, 10, 0), 0);
	pass(&s, 1);
	assert_int_equal(count_picks(&s, 10, 0), 1);
	assert_state(&s, 0, "ejected");
	fleet_note_success(s.fleet, 0);
	assert_state(&s, 0, "unknown");
	assert_int_equal(count_picks(&s, 10, 0), 5);
	end(&s);
}

/* 5 s, 10, 20, 40, 80 and no longer; what went well for so long makes it shorter again. */
static void
test_longer_each_time(void **state)
{
	(void)state;
	static const unsigned whiles[] = { 1, 2, 4, 8, 16, 16 };
	struct scene s;
	begin(&s, "\"a\", \"b\"", usual);
	blame(&s, 0, 3);
	for (size_t i = 0; i < ARRAY_LEN(whiles); i++) {
		pass(&s, whiles[i] * 5000 - 1);
		assert_int_equal(count_picks(&s, 4, 0), 0);
		pass(&s, 1);
		assert_int_equal(count_picks(&s, 4, 0), 1);
		blame(&s, 0, 1);                /* one is enough: that was the trial */
		assert_state(&s, 0, "ejected");
	}
	pass(&s, 16 * 5000);
	assert_int_equal(count_picks(&s, 4, 0), 1);
	fleet_note_success(s.fleet, 0);
	pass(&s, 3 * 5000);                    /* of four times three are forgotten */
	blame(&s, 0, 3);
	pass(&s, 2 * 5000 - 1);
	assert_int_equal(count_picks(&s, 4, 0), 0);
	pass(&s, 1);
	assert_int_equal(count_picks(&s, 4, 0), 1);
	end(&s);
}

/* The client left, say: nothing was learned, so there is another trial later. */
static void
test_a_trial_that_says_nothing(void **state)
{
	(void)state;
	struct scene s;
	begin(&s, "\"a\", \"b\"", usual);
	blame(&s, 0, 3);
	pass(&s, 5000);
	assert_int_equal(count_picks(&s, 10, 0), 1);
	pass(&s, 4999);
	assert_int_equal(count_picks(&s, 10, 0), 0);
	pass(&s, 1);
	assert_int_equal(count_picks(&s, 10, 0), 1);
	end(&s);
}

static const struct {
	const char *members, *percent;
	unsigned ejected;
} shares[] = {
	{ "\"a\", \"b\", \"c\"", "50", 1 },    /* two would be 67 % */
	{ "\"a\", \"b\"", "50", 1 },
	{ "\"a\", \"b\", \"c\"", "34", 1 },
	{ "\"a\", \"b\", \"c\"", "33", 0 },
	{ "\"a\", \"b\", \"c\"", "0", 0 },
	{ "\"a\", \"b\", \"c\", \"over-d\"", "100", 4 },
	{ "\"a\", \"b\", \"c\", \"over-d\"", "75", 3 },
	{ "\"a\"", "99", 0 },
};

static void
test_the_share_is_counted_with_the_one_that_goes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(shares); i++) {
		char outlier[128];
		struct scene s;
		unsigned ejected = 0;
		snprintf(outlier, sizeof outlier, "{\"failures\": 1, \"max_ejected_percent\": %s}",
			 shares[i].percent);
		begin(&s, shares[i].members, outlier);
		for (uint32_t u = 4; u-- > 0;)
			if (strchr(shares[i].members, "abcd"[u]) != NULL)
				blame(&s, u, 5);
		for (uint32_t u = 0; u < 4; u++)
			ejected += strcmp(board_state_text(fleet_upstream(s.fleet, u)), "ejected") == 0;
		print_message("  %s %s\n", shares[i].members, shares[i].percent);
		assert_int_equal(ejected, shares[i].ejected);
		end(&s);
	}
}

/* All are out: whoever asks when their time is over finds the way open. */
static void
test_all_out_come_back(void **state)
{
	(void)state;
	struct scene s;
	begin(&s, "\"a\", \"b\"",
	      "{\"failures\": 1, \"ejection\": \"5s\", \"max_ejected_percent\": 100}");
	blame(&s, 0, 1);
	blame(&s, 1, 1);
	assert_int_equal(pick(&s), -1);
	struct policy_route p = fleet_policy(s.fleet)->default_route;
	assert_false(fleet_route_usable(s.fleet, p));
	pass(&s, 5000);
	assert_true(fleet_route_usable(s.fleet, p));
	assert_true(pick(&s) >= 0);
	assert_true(pick(&s) >= 0);
	assert_int_equal(pick(&s), -1);        /* both trials are under way */
	end(&s);
}

/* Looking takes no trial. */
static void
test_preview_takes_no_trial(void **state)
{
	(void)state;
	struct scene s;
	const struct pick_key key = { 0 };
	struct path path;
	begin(&s, "\"a\"", "{\"failures\": 1, \"ejection\": \"5s\", \"max_ejected_percent\": 100}");
	blame(&s, 0, 1);
	pass(&s, 5000);
	for (int i = 0; i < 3; i++)
		assert_int_equal(fleet_preview_path(s.fleet, fleet_policy(s.fleet)->default_route,
						    &key, &path),
				 PICK_OK);
	assert_int_equal(pick(&s), 0);
	assert_int_equal(pick(&s), -1);
	end(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_enough_within_the_window),
		cmocka_unit_test(test_of_no_pool_or_one_without_outlier),
		cmocka_unit_test(test_one_trial_before_the_return),
		cmocka_unit_test(test_longer_each_time),
		cmocka_unit_test(test_a_trial_that_says_nothing),
		cmocka_unit_test(test_the_share_is_counted_with_the_one_that_goes),
		cmocka_unit_test(test_all_out_come_back),
		cmocka_unit_test(test_preview_takes_no_trial),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
