/*
 * Tests of the table of who fails for which host, and of picks that go by it; on a fake clock.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/upstream/pool_fixture.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "socks/command.h"
#include "upstream/avoid.h"

enum { START_MS = 1000000, FOR_MS = 60000 };

static const struct policy_avoid twice = { .failures = 2, .for_ms = FOR_MS };
static const struct policy_avoid once = { .failures = 1, .for_ms = FOR_MS };

/* ---- the table ---- */

static void
note_name(const char *member, void *arg)
{
	size_t len = strlen(arg);
	snprintf((char *)arg + len, 1024 - len, "%s ", member);
}

static void
assert_avoided(struct avoid *a, const char *host, uint64_t now_ms, const char *want)
{
	char names[1024] = "";
	avoid_each(a, host, now_ms, note_name, names);
	assert_string_equal(names, want);
}

static void
test_failures_in_a_row(void **state)
{
	(void)state;
	struct avoid *a = avoid_new();
	assert_avoided(a, "h", 0, "");
	avoid_note_success(a, "h", "m");
	avoid_note_failure(a, "h", "m", 1000, &twice);
	assert_avoided(a, "h", 1000, "");
	avoid_note_success(a, "h", "m");
	assert_int_equal(avoid_count(a), 0);
	avoid_note_failure(a, "h", "m", 1000, &twice);
	assert_avoided(a, "h", 1000, "");      /* one, as the success lies between */
	avoid_note_failure(a, "h", "m", 2000, &twice);
	assert_avoided(a, "h", 2000, "m ");
	assert_avoided(a, "other", 2000, "");
	assert_avoided(a, "h", 2000 + FOR_MS - 1, "m ");
	assert_avoided(a, "h", 2000 + FOR_MS, "");
	avoid_note_failure(a, "h", "m", 3 * FOR_MS, &twice); /* the next in the row */
	assert_avoided(a, "h", 4 * FOR_MS - 1, "m ");
	avoid_note_failure(a, "h", "n", 3 * FOR_MS, &twice);
	assert_avoided(a, "h", 4 * FOR_MS - 1, "m ");
	avoid_note_success(a, "h", "m");
	assert_avoided(a, "h", 3 * FOR_MS, "");
	assert_int_equal(avoid_count(a), 1);
	avoid_free(a);
	avoid_free(NULL);
}

static void
test_the_pair_used_longest_ago_makes_room(void **state)
{
	(void)state;
	char host[24];
	struct avoid *a = avoid_new();
	for (unsigned i = 0; i < AVOID_MAX; i++) {
		snprintf(host, sizeof host, "h%u", i);
		avoid_note_failure(a, host, "m", 0, &once);
	}
	assert_int_equal(avoid_count(a), AVOID_MAX);
	assert_avoided(a, "h0", 1, "m ");       /* it is in use */
	avoid_note_failure(a, "new", "m", 1, &once);
	assert_int_equal(avoid_count(a), AVOID_MAX);
	assert_avoided(a, "h0", 1, "m ");
	assert_avoided(a, "h1", 1, "");
	assert_avoided(a, "h2", 1, "m ");
	assert_avoided(a, "new", 1, "m ");
	avoid_free(a);
}

static void
test_one_host_has_its_bound(void **state)
{
	(void)state;
	char member[24], want[1024] = "";
	struct avoid *a = avoid_new();
	avoid_note_failure(a, "other", "m", 0, &once);
	for (unsigned i = 0; i < 3 * AVOID_EACH_HOST_MAX; i++) {
		snprintf(member, sizeof member, "m%u", i);
		avoid_note_failure(a, "h", member, 0, &once);
	}
	for (unsigned i = 0; i < AVOID_EACH_HOST_MAX; i++) {
		snprintf(member, sizeof member, "m%u", 3 * AVOID_EACH_HOST_MAX - 1 - i);
		note_name(member, want);
	}
	assert_avoided(a, "h", 1, want);        /* the last ones */
	assert_avoided(a, "other", 1, "m ");
	assert_int_equal(avoid_count(a), AVOID_EACH_HOST_MAX + 1);
	avoid_free(a);
}

/* ---- picks ---- */

static struct endpoint blocked, fine;

static struct fixture *
avoiding_pool(size_t n)
{
	clock_fake(START_MS, 0);
	assert_int_equal(endpoint_from_text(&blocked, "blocked.test:80", 15), ENDPOINT_OK);
	assert_int_equal(endpoint_from_text(&fine, "fine.test:80", 12), ENDPOINT_OK);
	struct fixture *f = fixture_new(BALANCE_ROUND_ROBIN, NULL, n);
	f->conf.avoid = twice;
	f->key.to = &blocked;
	return f;
}

static void
done(struct fixture *f)
{
	fixture_free(f);
	clock_fake_stop();
}

static void
note_failures(struct fixture *f, uint32_t member, unsigned times)
{
	for (unsigned i = 0; i < times; i++)
		pool_note_destination(f->pool, member, &f->key, false);
}

/* In so many picks each member has this many. */
static void
assert_shares(struct fixture *f, unsigned n, unsigned a, unsigned b, unsigned c)
{
	unsigned got[3] = { 0 };
	for (unsigned i = 0; i < n; i++)
		got[pick_and_give_back(f)]++;
	assert_int_equal(got[0], a);
	assert_int_equal(got[1], b);
	assert_int_equal(got[2], c);
}

static void
test_others_are_preferred_for_that_host_only(void **state)
{
	(void)state;
	struct fixture *f = avoiding_pool(3);
	open_pool(f);
	note_failures(f, 1, 1);
	assert_picks(f, "abcabc");
	note_failures(f, 1, 1);
	assert_picks(f, "acacac");
	f->key.to = &fine;
	assert_shares(f, 6, 2, 2, 2);
	f->key.to = NULL;
	assert_shares(f, 3, 1, 1, 1);
	f->key.to = &blocked;
	clock_fake(START_MS + FOR_MS - 1, 0);
	assert_shares(f, 4, 2, 0, 2);
	clock_fake(START_MS + FOR_MS, 0);
	assert_shares(f, 6, 2, 2, 2);
	done(f);
}

/* Every second request is for the host that it fails for: of the others it has its share. */
static void
test_turns_for_other_hosts_are_not_lost(void **state)
{
	(void)state;
	struct fixture *f = avoiding_pool(10);
	unsigned of_it = 0;
	open_pool(f);
	note_failures(f, 1, 2);
	for (unsigned i = 0; i < 1000; i++) {
		f->key.to = i % 2 == 0 ? &blocked : &fine;
		of_it += pick_and_give_back(f) == 1;
	}
	assert_in_range(of_it, 25, 100);        /* with its turns lost to each request: none */
	done(f);
}

static void
test_a_success_clears(void **state)
{
	(void)state;
	struct fixture *f = avoiding_pool(2);
	open_pool(f);
	note_failures(f, 0, 2);
	assert_picks(f, "bbb");
	pool_note_destination(f->pool, 0, &f->key, true);
	note_failures(f, 0, 1);
	assert_shares(f, 6, 3, 3, 0);
	done(f);
}

static void
test_used_after_all_where_nobody_else_can_be(void **state)
{
	(void)state;
	struct fixture *f = avoiding_pool(3);
	open_pool(f);
	note_failures(f, 0, 2);
	note_failures(f, 1, 2);
	assert_picks(f, "ccc");
	pool_set_member(f->pool, 2, full, 1);
	assert_shares(f, 6, 3, 3, 0);           /* both again, in turns */
	pool_set_member(f->pool, 2, dead, 1);
	const struct pick tried = { 0, 1 };
	assert_int_equal(pick_but(f, &tried, 1), 0);
	const struct pick both[] = { { 0, 1 }, { 0, 0 } };
	assert_int_equal(pick_but(f, both, 2), UINT32_MAX); /* what was tried stays out */
	done(f);
}

static void
test_a_higher_tier_is_another(void **state)
{
	(void)state;
	struct fixture *f = avoiding_pool(2);
	f->members[1].tier = 1;
	open_pool(f);
	note_failures(f, 0, 2);
	assert_picks(f, "bb");
	f->key.to = &fine;
	assert_picks(f, "aa");
	done(f);
}

static void
test_a_sticky_key_keeps_its_member_for_other_hosts(void **state)
{
	(void)state;
	struct fixture *f = avoiding_pool(2);
	f->conf.sticky = (struct policy_sticky){
	    .key = KEY_USER, .ttl_ms = 10 * FOR_MS, .max_entries = 100, .repin = true };
	f->key.user = "x";
	open_pool(f);
	assert_picks(f, "aa");
	note_failures(f, 0, 2);
	assert_picks(f, "bb");
	f->key.to = &fine;
	assert_picks(f, "aa");
	f->conf.sticky.repin = false;           /* may not move, not even for once */
	f->key.to = &blocked;
	assert_picks(f, "aa");
	done(f);
}

static void
test_only_connects_and_only_where_it_is_set(void **state)
{
	(void)state;
	struct fixture *f = avoiding_pool(2);
	open_pool(f);
	f->key.command = SOCKS_BIND;
	note_failures(f, 0, 2);
	f->key.command = SOCKS_CONNECT;
	assert_picks(f, "ab");
	note_failures(f, 0, 2);
	assert_picks(f, "bb");
	f->key.command = SOCKS_UDP;
	assert_shares(f, 4, 2, 2, 0);
	f->key.command = 0;
	f->conf.avoid.failures = 0;
	assert_shares(f, 4, 2, 2, 0);
	done(f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_failures_in_a_row),
		cmocka_unit_test(test_the_pair_used_longest_ago_makes_room),
		cmocka_unit_test(test_one_host_has_its_bound),
		cmocka_unit_test(test_others_are_preferred_for_that_host_only),
		cmocka_unit_test(test_turns_for_other_hosts_are_not_lost),
		cmocka_unit_test(test_a_success_clears),
		cmocka_unit_test(test_used_after_all_where_nobody_else_can_be),
		cmocka_unit_test(test_a_higher_tier_is_another),
		cmocka_unit_test(test_a_sticky_key_keeps_its_member_for_other_hosts),
		cmocka_unit_test(test_only_connects_and_only_where_it_is_set),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
