/*
 * Tests of the sticky table, of picks that follow it, and of the retry budget; on a fake clock.
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
#include "upstream/budget.h"
#include "upstream/pool_memory.h"

enum { START_MS = 1000000, TTL_MS = 60000 };

/* ---- the table ---- */

static void
assert_pin(struct sticky *s, const char *key, uint64_t now_ms, const char *want)
{
	char member[POLICY_NAME_MAX + 1] = "";
	if (sticky_find(s, key, now_ms, 0, member))
		assert_string_equal(member, want);
	else
		assert_null(want);
}

static void
test_expires_when_it_was_not_used(void **state)
{
	(void)state;
	char member[POLICY_NAME_MAX + 1];
	struct sticky *s = sticky_new();
	sticky_set(s, "k", "a", 1000, 2000, 10);
	assert_pin(s, "k", 1999, "a");
	assert_true(sticky_find(s, "k", 1999, 2999, member));
	assert_pin(s, "k", 2998, "a");
	assert_pin(s, "k", 2999, NULL);
	assert_int_equal(sticky_count(s), 0);  /* gone, not just hidden */
	sticky_set(s, "k", "a", 3000, 4000, 10);
	sticky_set(s, "k", "b", 3500, 4500, 10);
	assert_int_equal(sticky_count(s), 1);
	assert_pin(s, "k", 4400, "b");
	sticky_free(s);
}

static void
test_the_one_used_longest_ago_makes_room(void **state)
{
	(void)state;
	enum { MAX = 1000 };
	char key[24], member[POLICY_NAME_MAX + 1];
	struct sticky *s = sticky_new();
	for (unsigned i = 0; i < MAX; i++) {
		snprintf(key, sizeof key, "k%u", i);
		sticky_set(s, key, "a", 0, TTL_MS, MAX);
	}
	assert_true(sticky_find(s, "k0", 1, TTL_MS, member));
	sticky_set(s, "new", "a", 1, TTL_MS, MAX);
	assert_int_equal(sticky_count(s), MAX);
	assert_pin(s, "k0", 1, "a");
	assert_pin(s, "k1", 1, NULL);
	assert_pin(s, "k2", 1, "a");
	sticky_set(s, "newer", "a", 1, TTL_MS, 10);     /* the policy allows fewer now */
	assert_int_equal(sticky_count(s), 10);
	assert_pin(s, "newer", 1, "a");
	/* a new one takes two along that have expired */
	sticky_set(s, "late", "a", TTL_MS, 2 * TTL_MS, MAX);
	assert_int_equal(sticky_count(s), 9);
	assert_int_equal(sticky_drop(s, "late"), 1);
	assert_int_equal(sticky_drop(s, "late"), 0);
	assert_int_equal(sticky_drop(s, NULL), 8);
	sticky_free(s);
}

static void
note_pin(const char *key, const char *member, uint64_t left_ms, void *arg)
{
	size_t len = strlen(arg);
	snprintf((char *)arg + len, 128 - len, "%s=%s:%u ", key, member, (unsigned)left_ms);
}

static void
test_listed_by_last_use(void **state)
{
	(void)state;
	char text[128] = "", member[POLICY_NAME_MAX + 1];
	struct sticky *s = sticky_new();
	sticky_set(s, "x", "a", 0, 100, 10);
	sticky_set(s, "y", "b", 0, 200, 10);
	sticky_set(s, "z", "b", 0, 50, 10);
	assert_true(sticky_find(s, "x", 20, 120, member));
	sticky_each(s, 60, note_pin, text);
	assert_string_equal(text, "x=a:60 y=b:140 ");
	sticky_free(s);
}

/* ---- picks ---- */

static struct fixture *
sticky_pool(size_t n)
{
	clock_fake(START_MS, 0);
	struct fixture *f = fixture_new(BALANCE_ROUND_ROBIN, NULL, n);
	f->conf.sticky = (struct policy_sticky){
	    .key = KEY_USER, .ttl_ms = TTL_MS, .max_entries = 100, .repin = true};
	return f;
}

static void
done(struct fixture *f)
{
	fixture_free(f);
	clock_fake_stop();
}

static uint32_t
pick_for(struct fixture *f, const char *user)
{
	f->key.user = user;
	return pick_and_give_back(f);
}

static void
test_a_key_stays(void **state)
{
	(void)state;
	struct fixture *f = sticky_pool(3);
	open_pool(f);
	assert_int_equal(pick_for(f, "x"), 0);
	assert_int_equal(pick_for(f, "y"), 1);
	for (uint64_t now = START_MS; now < START_MS + 10 * TTL_MS; now += TTL_MS - 1) {
		clock_fake(now, 0);
		assert_int_equal(pick_for(f, "x"), 0);
		assert_int_equal(pick_for(f, "y"), 1);
	}
	assert_int_equal(pick_for(f, ""), 2);   /* has no key: its turn, and those of sticky ones don't count */
	assert_int_equal(pick_for(f, NULL), 0);
	clock_fake(START_MS + 100 * TTL_MS, 0);
	assert_int_equal(pick_for(f, "x"), 1);  /* expired: whoever's turn it is */
	done(f);
}

static void
test_moves_when_its_member_is_unusable(void **state)
{
	(void)state;
	struct fixture *f = sticky_pool(3);
	open_pool(f);
	assert_int_equal(pick_for(f, "x"), 0);
	pool_set_member(f->pool, 0, dead, 1);
	uint32_t moved = pick_for(f, "x");
	assert_int_not_equal(moved, 0);
	pool_set_member(f->pool, 0, good, 1);
	assert_int_equal(pick_for(f, "x"), moved);
	const struct pick skip = { 0, moved };  /* tried in vain */
	uint32_t other = pick_but(f, &skip, 1);
	assert_int_not_equal(other, moved);
	assert_int_equal(pick_for(f, "x"), other);
	done(f);
}

static void
test_without_repin_it_is_refused(void **state)
{
	(void)state;
	struct fixture *f = sticky_pool(2);
	f->conf.sticky.repin = false;
	f->max[0] = 1;
	open_pool(f);
	assert_int_equal(pick_for(f, "x"), 0);
	pool_set_member(f->pool, 0, dead, 1);
	assert_int_equal(pick_for(f, "x"), UINT32_MAX);
	assert_int_equal(pick_for(f, "y"), 1);
	pool_set_member(f->pool, 0, full, 1);
	uint32_t member;
	f->key.user = "x";
	assert_int_equal(pool_pick(f->pool, NULL, 0, &f->key, true, &member), POOL_BUSY);
	pool_set_member(f->pool, 0, good, 1);
	assert_int_equal(pick_for(f, "x"), 0);
	done(f);
}

/* Another member stands in while the one is full, and the key stays where it was. */
static void
test_a_full_member_keeps_its_keys(void **state)
{
	(void)state;
	struct fixture *f = sticky_pool(2);
	f->max[0] = 1;
	open_pool(f);
	f->key.user = "x";
	assert_int_equal(pick(f), 0);
	assert_int_equal(pick_for(f, "x"), 1);
	give_back(f, 0);
	pool_set_member(f->pool, 0, good, 1);
	assert_int_equal(pick_for(f, "x"), 0);
	done(f);
}

static void
test_weight_0_and_higher_tiers_keep_theirs(void **state)
{
	(void)state;
	for (int balance = 0; balance < BALANCE_N; balance++) {
		struct fixture *f = sticky_pool(3);
		f->conf.balance = (enum balance)balance;
		f->members[0].tier = 1;
		open_pool(f);
		pool_set_member(f->pool, 1, dead, 1);
		pool_set_member(f->pool, 2, dead, 1);
		assert_int_equal(pick_for(f, "x"), 0);
		pool_set_member(f->pool, 1, good, 1);
		assert_int_equal(pick_for(f, "y"), 1);
		pool_set_member(f->pool, 1, good, 0);
		pool_set_member(f->pool, 2, good, 1);
		assert_int_equal(pick_for(f, "x"), 0);
		assert_int_equal(pick_for(f, "y"), 1);
		assert_int_equal(pick_for(f, "z"), 2);
		done(f);
	}
}

/* The next policy's pool has them in another order, and one of them no more. */
static void
test_kept_by_name_across_policies(void **state)
{
	(void)state;
	struct fixture *f = sticky_pool(3);
	open_pool(f);
	assert_int_equal(pick_for(f, "x"), 0);
	assert_int_equal(pick_for(f, "y"), 1);
	pool_free(f->pool);
	struct board_entry *first = f->entries[0];
	f->entries[0] = f->entries[2];          /* m2, m1, m0 */
	f->entries[2] = first;
	for (int i = 0; i < 3; i++)
		f->members[i].name = f->entries[i]->name;
	open_pool(f);
	assert_int_equal(pick_for(f, "x"), 2);
	assert_int_equal(pick_for(f, "y"), 1);
	pool_free(f->pool);
	f->members[1].name = "another";
	open_pool(f);
	assert_int_equal(pick_for(f, "y"), 0);  /* its member is none of these: its turn */
	assert_int_equal(pick_for(f, "y"), 0);
	done(f);
}

static void
test_looking_pins_nothing(void **state)
{
	(void)state;
	uint32_t member;
	struct fixture *f = sticky_pool(2);
	open_pool(f);
	f->key.user = "x";
	assert_int_equal(pool_pick(f->pool, NULL, 0, &f->key, false, &member), POOL_PICKED);
	assert_int_equal(sticky_count(pool_memory_of(f->own)->sticky), 0);
	assert_int_equal(pick_for(f, "x"), 0);
	clock_fake(START_MS + TTL_MS - 1, 0);
	assert_int_equal(pool_pick(f->pool, NULL, 0, &f->key, false, &member), POOL_PICKED);
	clock_fake(START_MS + TTL_MS, 0);       /* that look was no use */
	assert_int_equal(pick_for(f, "x"), 1);
	done(f);
}

/* ---- the retry budget ---- */

static void
test_budget_is_a_part_of_the_requests(void **state)
{
	(void)state;
	struct budget b = { 0 };
	uint64_t now = START_MS;
	unsigned taken = 0;
	for (int i = 0; i < 1000; i++)
		budget_note_request(&b, now);
	while (budget_take_retry(&b, now, 20))
		taken++;
	assert_int_equal(taken, BUDGET_RESERVE + 200);
	assert_false(budget_take_retry(&b, now + 9000, 20));    /* in the same ten seconds */
	for (int i = 0; i < 5; i++)
		budget_note_request(&b, now + 9000);
	assert_true(budget_take_retry(&b, now + 9000, 20));
	assert_false(budget_take_retry(&b, now + 9000, 20));
	/* the first second is past: all that counts is what came in the tenth */
	for (taken = 0; budget_take_retry(&b, now + 10000, 20); taken++)
		;
	assert_int_equal(taken, BUDGET_RESERVE + 1 - 1);
	for (taken = 0; budget_take_retry(&b, now + 100000, 20); taken++)
		;
	assert_int_equal(taken, BUDGET_RESERVE);
	assert_false(budget_take_retry(&(struct budget){ 0 }, now, 0)); /* 0 is none at all */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_expires_when_it_was_not_used),
		cmocka_unit_test(test_the_one_used_longest_ago_makes_room),
		cmocka_unit_test(test_listed_by_last_use),
		cmocka_unit_test(test_a_key_stays),
		cmocka_unit_test(test_moves_when_its_member_is_unusable),
		cmocka_unit_test(test_without_repin_it_is_refused),
		cmocka_unit_test(test_a_full_member_keeps_its_keys),
		cmocka_unit_test(test_weight_0_and_higher_tiers_keep_theirs),
		cmocka_unit_test(test_kept_by_name_across_policies),
		cmocka_unit_test(test_looking_pins_nothing),
		cmocka_unit_test(test_budget_is_a_part_of_the_requests),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
