/*
 * turn_share: how many costly steps a turn has, in which order the others follow, and that none is called once it was dropped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/turn_share.h"

enum { N = 8, SHARE_US = 1000 };

static struct loop *loop;
static struct turn_share share;
static struct turn_step steps[N];
static unsigned order[N * 4], n_called;
static uint64_t step_us;
static struct turn_step *to_drop;

static void
take(struct turn_step *s)
{
	assert_true(turn_share_may_step(&share, s));
	turn_share_note(&share, step_us);
	order[n_called++] = (unsigned)(s - steps);
	if (to_drop != NULL)
		turn_step_drop(to_drop);
}

static int
set_up(void **state)
{
	(void)state;
	loop = loop_new();
	turn_share_init(&share, loop, SHARE_US);
	for (unsigned i = 0; i < N; i++)
		turn_step_init(&steps[i], take);
	n_called = 0;
	step_us = SHARE_US / 2;
	to_drop = NULL;
	return loop == NULL;
}

static int
tear_down(void **state)
{
	(void)state;
	turn_share_free(&share);
	loop_free(loop);
	return 0;
}

/* The first n become due in this turn; returns how many take their step at once. */
static unsigned
become_due(unsigned n)
{
	unsigned taken = 0;
	for (unsigned i = 0; i < n; i++) {
		if (!turn_share_may_step(&share, &steps[i]))
			continue;
		turn_share_note(&share, step_us);
		taken++;
	}
	return taken;
}

static void
test_few_each_turn_and_in_order(void **state)
{
	(void)state;
	assert_int_equal(become_due(7), 2);
	assert_int_equal(become_due(2), 0);    /* behind those that wait, who are asked once */
	loop_turn(loop, 0);                    /* what is left of the turn that has no time */
	for (unsigned turn = 1; turn <= 3; turn++) {
		loop_turn(loop, 0);
		assert_int_equal(n_called, 2 * turn);
	}
	loop_turn(loop, 0);
	assert_int_equal(n_called, 7);
	for (unsigned i = 0; i < 7; i++)
		assert_int_equal(order[i], (i + 2) % 7);
	loop_turn(loop, 0);
	assert_int_equal(n_called, 7);
}

static void
test_a_long_one_goes_alone(void **state)
{
	(void)state;
	step_us = 10 * SHARE_US;
	assert_int_equal(become_due(3), 1);
	loop_turn(loop, 0);
	loop_turn(loop, 0);
	assert_int_equal(n_called, 1);
	loop_turn(loop, 0);
	assert_int_equal(n_called, 2);
}

static void
test_dropped_while_it_waits(void **state)
{
	(void)state;
	assert_int_equal(become_due(6), 2);
	turn_step_drop(&steps[2]);
	turn_step_drop(&steps[2]);
	to_drop = &steps[4];                   /* by the one before it, in the same turn */
	for (int i = 0; i < 5; i++)
		loop_turn(loop, 0);
	assert_int_equal(n_called, 2);
	assert_int_equal(order[0], 3);
	assert_int_equal(order[1], 5);
}

static void
test_called_in_this_turn(void **state)
{
	(void)state;
	turn_share_wait(&share, &steps[0]);
	turn_share_wait(&share, &steps[1]);
	turn_share_wait(&share, &steps[2]);
	turn_share_call(&share);
	assert_int_equal(n_called, 2);
	assert_true(turn_step_waits(&steps[2]));
	turn_step_drop(&steps[2]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_few_each_turn_and_in_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_long_one_goes_alone, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_dropped_while_it_waits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_called_in_this_turn, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
