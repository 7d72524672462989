/*
 * Tests of a pool's queue: order, whose turn it is and when, and that no slot stays free while
 * somebody waits; first by hand, then with several threads.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/upstream/pool_fixture.h"

#include <pthread.h>
#include <sched.h>

struct client {
	struct pool_waiter waiter;
	atomic_uint woken;
};

static void
on_wake(struct pool_waiter *w)
{
	atomic_fetch_add(&CONTAINER_OF(w, struct client, waiter)->woken, 1);
}

static unsigned
woken(struct client *c)
{
	return atomic_load(&c->woken);
}

/* One member of one slot, and that is taken. */
static struct fixture *
full_pool(uint32_t max_waiting)
{
	struct fixture *f = fixture_new(BALANCE_ROUND_ROBIN, NULL, 1);
	f->max[0] = 1;
	f->conf.queue = (struct policy_queue){ .max = max_waiting, .timeout_ms = 1000 };
	open_pool(f);
	assert_int_equal(pick(f), 0);
	assert_int_equal(pick(f), UINT32_MAX);
	return f;
}

static enum join_result
join(struct fixture *f, struct client *c)
{
	c->waiter.wake = on_wake;
	return pool_join(f->pool, &c->waiter, false);
}

static void
free_slot(struct fixture *f)
{
	give_back(f, 0);
	pool_set_member(f->pool, 0, good, 1);
}

/* Its turn: it picks as one that has waited. */
static void
take_turn(struct fixture *f, struct client *c, bool want)
{
	assert_int_equal(c->waiter.state, WAITER_TURN);
	f->key.has_turn = true;
	bool got = pick(f) != UINT32_MAX;
	f->key.has_turn = false;
	assert_int_equal(got, want);
	pool_set_member(f->pool, 0, board_has_slot(f->entries[0], f->max[0]) ? good : full, 1);
	pool_end_turn(f->pool, &c->waiter, !got);
}

static void
test_in_order_and_one_at_a_time(void **state)
{
	(void)state;
	struct fixture *f = full_pool(3);
	struct client c[4] = { 0 };
	for (int i = 0; i < 3; i++)
		assert_int_equal(join(f, &c[i]), JOIN_WAITS);
	assert_int_equal(join(f, &c[3]), JOIN_FULL);
	free_slot(f);
	assert_int_equal(woken(&c[0]), 1);
	assert_int_equal(pick(f), UINT32_MAX); /* a newcomer overtakes nobody */
	take_turn(f, &c[0], true);
	assert_int_equal(woken(&c[1]), 0);     /* no slot for it */
	free_slot(f);
	take_turn(f, &c[1], true);
	free_slot(f);
	take_turn(f, &c[2], true);
	assert_int_equal(pool_waiting(f->pool), 0);
	fixture_free(f);
}

static void
test_a_slot_free_by_then_is_not_waited_for(void **state)
{
	(void)state;
	struct fixture *f = full_pool(3);
	struct client c = { 0 };
	free_slot(f);
	assert_int_equal(join(f, &c), JOIN_TRY_AGAIN);
	assert_int_equal(pool_waiting(f->pool), 0);
	assert_int_equal(pool_join(f->pool, &c.waiter, true), JOIN_WAITS);
	assert_true(pool_leave(f->pool, &c.waiter));
	fixture_free(f);
}

/* Waiting for what there is no room for, they hold up nobody who can have what is free. */
static void
test_room_behind_those_who_insist(void **state)
{
	(void)state;
	struct fixture *f = full_pool(9);
	struct client c[3] = { 0 };
	free_slot(f);
	for (int i = 0; i < 2; i++) {
		c[i].waiter.wake = on_wake;
		assert_int_equal(pool_join(f->pool, &c[i].waiter, true), JOIN_WAITS);
	}
	assert_int_equal(join(f, &c[2]), JOIN_WAITS);
	assert_int_equal(woken(&c[2]), 1);
	take_turn(f, &c[2], true);
	assert_int_equal(woken(&c[0]), 0);     /* no slot for it */
	give_back(f, 0);
	pool_set_member(f->pool, 0, good, 1);
	take_turn(f, &c[0], true);
	free_slot(f);
	pool_end_turn(f->pool, &c[1].waiter, true);   /* not this one's */
	assert_int_equal(woken(&c[1]), 1);
	assert_int_equal(pool_join(f->pool, &c[0].waiter, true), JOIN_WAITS);
	assert_true(pool_leave(f->pool, &c[0].waiter));
	assert_int_equal(woken(&c[1]), 2);
	take_turn(f, &c[1], true);
	assert_int_equal(pool_waiting(f->pool), 0);
	fixture_free(f);
}

/* Who is woken and has gone passes its turn on; who had one in vain keeps its place. */
static void
test_turns_are_passed_on(void **state)
{
	(void)state;
	struct fixture *f = full_pool(9);
	struct client c[3] = { 0 };
	for (int i = 0; i < 3; i++)
		assert_int_equal(join(f, &c[i]), JOIN_WAITS);
	free_slot(f);
	assert_false(pool_leave(f->pool, &c[0].waiter));        /* its turn is on the way */
	pool_end_turn(f->pool, &c[0].waiter, false);
	assert_int_equal(woken(&c[1]), 1);
	assert_true(board_take_slot(f->entries[0], 1));         /* another pool was faster */
	take_turn(f, &c[1], false);
	assert_int_equal(woken(&c[2]), 0);
	free_slot(f);
	assert_int_equal(woken(&c[1]), 2);
	take_turn(f, &c[1], true);
	assert_true(pool_leave(f->pool, &c[2].waiter));
	fixture_free(f);
}

/* Two slots, freed before the first one woken has taken its: the second goes to the next. */
static void
test_slots_that_come_free_together(void **state)
{
	(void)state;
	struct fixture *f = fixture_new(BALANCE_ROUND_ROBIN, NULL, 1);
	struct client c[2] = { 0 };
	f->max[0] = 2;
	f->conf.queue.max = 9;
	open_pool(f);
	assert_int_equal(pick(f), 0);
	assert_int_equal(pick(f), 0);
	assert_int_equal(pick(f), UINT32_MAX);
	assert_int_equal(join(f, &c[0]), JOIN_WAITS);
	assert_int_equal(join(f, &c[1]), JOIN_WAITS);
	free_slot(f);
	free_slot(f);
	assert_int_equal(woken(&c[1]), 0);
	take_turn(f, &c[0], true);
	assert_int_equal(woken(&c[1]), 1);
	take_turn(f, &c[1], true);
	fixture_free(f);
}

/* The last member goes: nobody waits for nothing. One comes back: so it is. */
static void
test_states_wake(void **state)
{
	(void)state;
	struct fixture *f = full_pool(9);
	struct client c[2] = { 0 };
	assert_int_equal(join(f, &c[0]), JOIN_WAITS);
	assert_int_equal(join(f, &c[1]), JOIN_WAITS);
	pool_set_member(f->pool, 0, dead, 1);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(c[i].waiter.state, WAITER_TURN);
		pool_end_turn(f->pool, &c[i].waiter, false);
	}
	assert_int_equal(pool_join(f->pool, &c[0].waiter, false), JOIN_TRY_AGAIN);
	fixture_free(f);
}

/* ---- several threads ---- */

enum { THREADS = 4, EACH = 2000, SLOTS = 2 };

struct contest {
	struct fixture *f;
	pthread_mutex_t refresh;               /* stands for the fleet's, over set_member */
	atomic_uint served, over;
};

/* As the fleet: what the board says now is told to the pool. */
static void
look_again(struct contest *c)
{
	pthread_mutex_lock(&c->refresh);
	bool room = board_has_slot(c->f->entries[0], SLOTS);
	pool_set_member(c->f->pool, 0, room ? good : full, 1);
	pthread_mutex_unlock(&c->refresh);
}

static bool
try_pick(struct contest *c, bool has_turn)
{
	const struct pick_key key = { .has_turn = has_turn };
	uint32_t member;
	for (;;) {
		enum pool_result r = pool_pick(c->f->pool, NULL, 0, &key, true, &member);
		if (r != POOL_FULL)
			return r == POOL_PICKED;
		look_again(c);
	}
}

static void
wait_for_one(struct contest *c)
{
	struct client me = { .waiter.wake = on_wake };
	for (enum join_result r = JOIN_TRY_AGAIN; r != JOIN_WAITS;) {
		if (try_pick(c, false))
			return;
		r = pool_join(c->f->pool, &me.waiter, false);
	}
	for (unsigned seen = 0;; seen++) {
		while (woken(&me) == seen)
			sched_yield();
		bool got = try_pick(c, true);
		pool_end_turn(c->f->pool, &me.waiter, !got);
		if (got)
			return;
	}
}

static void *
run_client(void *arg)
{
	struct contest *c = arg;
	for (int i = 0; i < EACH; i++) {
		wait_for_one(c);
		if (board_in_use(c->f->entries[0]) > SLOTS)
			atomic_fetch_add(&c->over, 1);
		atomic_fetch_add(&c->served, 1);
		board_give_back_slot(c->f->entries[0]);
		look_again(c);
	}
	return NULL;
}

static void
test_nobody_is_forgotten(void **state)
{
	(void)state;
	struct contest c = { .f = fixture_new(BALANCE_ROUND_ROBIN, NULL, 1),
			     .refresh = PTHREAD_MUTEX_INITIALIZER };
	pthread_t threads[THREADS];
	c.f->max[0] = SLOTS;
	c.f->conf.queue.max = THREADS;
	open_pool(c.f);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_client, &c), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&c.served), THREADS * EACH);
	assert_int_equal(atomic_load(&c.over), 0);
	assert_int_equal(board_in_use(c.f->entries[0]), 0);
	assert_int_equal(pool_waiting(c.f->pool), 0);
	fixture_free(c.f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_order_and_one_at_a_time),
		cmocka_unit_test(test_a_slot_free_by_then_is_not_waited_for),
		cmocka_unit_test(test_turns_are_passed_on),
		cmocka_unit_test(test_room_behind_those_who_insist),
		cmocka_unit_test(test_slots_that_come_free_together),
		cmocka_unit_test(test_states_wake),
		cmocka_unit_test(test_nobody_is_forgotten),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
