/*
 * test_wheel: deadlines on a clock that is a number: near, far, moved both ways, and callbacks that
 * set and clear others.
 */
#include "base/wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { START_MS = 1000003, REACH_MS = WHEEL_TICK_MS * WHEEL_SLOTS };

struct probe {
	struct deadline deadline;
	unsigned fired;
	uint64_t fired_at;
	struct probe *clears, *sets;           /* what its callback does, if anything */
	uint64_t sets_after;
};

static struct wheel wheel;
static uint64_t now;

static void
on_fire(struct deadline *d)
{
	struct probe *p = CONTAINER_OF(d, struct probe, deadline);
	assert_false(deadline_armed(d));
	assert_true(d->at_ms <= now);
	p->fired++;
	p->fired_at = now;
	if (p->clears != NULL)
		wheel_clear(&wheel, &p->clears->deadline);
	if (p->sets != NULL)
		wheel_set(&wheel, &p->sets->deadline, now + p->sets_after);
}

static void
start(struct probe *probes, size_t n)
{
	now = START_MS;
	wheel_init(&wheel, now);
	for (size_t i = 0; i < n; i++) {
		probes[i] = (struct probe){ .fired = 0 };
		deadline_init(&probes[i].deadline, on_fire);
	}
}

static void
set(struct probe *p, uint64_t after_ms)
{
	wheel_set(&wheel, &p->deadline, now + after_ms);
}

static void
turn_at(uint64_t ms)
{
	now = ms;
	wheel_turn(&wheel, now);
}

/* Turns as a loop does: exactly when the wheel asks for it. Returns how often. */
static unsigned
turn_until_idle(void)
{
	unsigned turns = 0;
	while (wheel_next_ms(&wheel) != UINT64_MAX) {
		assert_true(wheel_next_ms(&wheel) > now);
		turn_at(wheel_next_ms(&wheel));
		turns++;
	}
	return turns;
}

static void
test_idle_wheel_asks_for_nothing(void **state)
{
	(void)state;
	struct probe p;
	start(&p, 1);
	assert_true(wheel_next_ms(&wheel) == UINT64_MAX);
	set(&p, 100);
	assert_true(wheel_next_ms(&wheel) != UINT64_MAX);
	wheel_clear(&wheel, &p.deadline);
	wheel_clear(&wheel, &p.deadline);
	assert_true(wheel_next_ms(&wheel) == UINT64_MAX);
	turn_at(START_MS + 1000);
	assert_int_equal(p.fired, 0);
}

static void
test_never_early_and_one_tick_late_at_most(void **state)
{
	static const uint64_t after[] = { 0, 1, WHEEL_TICK_MS - 1, WHEEL_TICK_MS, WHEEL_TICK_MS + 1, 1000,
		REACH_MS - WHEEL_TICK_MS, REACH_MS - 1, REACH_MS, REACH_MS + 1, 10 * REACH_MS + 7, 3600000 };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(after); i++) {
		struct probe p;
		start(&p, 1);
		set(&p, after[i]);
		unsigned turns = turn_until_idle();
		assert_int_equal(p.fired, 1);
		assert_true(p.fired_at >= START_MS + after[i]);
		assert_true(p.fired_at <= START_MS + after[i] + WHEEL_TICK_MS);
		/* One turn for each round of the wheel that it is away. */
		assert_true(turns <= after[i] / (REACH_MS - 2 * WHEEL_TICK_MS) + 1);
	}
}

static void
test_turns_millisecond_by_millisecond(void **state)
{
	struct probe p[3];
	(void)state;
	start(p, 3);
	set(&p[0], 50);
	set(&p[1], 50);
	set(&p[2], 51);
	for (uint64_t ms = START_MS; ms <= START_MS + 100; ms++)
		turn_at(ms);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(p[i].fired, 1);
}

static void
test_moved_later_keeps_its_slot_until_that_comes_due(void **state)
{
	struct probe p;
	(void)state;
	start(&p, 1);
	set(&p, 100);
	uint64_t first = wheel_next_ms(&wheel);
	for (uint64_t after = 200; after <= 5000; after += 100)
		set(&p, after);
	assert_true(wheel_next_ms(&wheel) == first);
	assert_int_equal(turn_until_idle(), 2);
	assert_int_equal(p.fired, 1);
	assert_true(p.fired_at >= START_MS + 5000);
}

static void
test_moved_earlier(void **state)
{
	struct probe p;
	(void)state;
	start(&p, 1);
	set(&p, 3600000);
	set(&p, 5000);
	set(&p, 100);
	assert_true(wheel_next_ms(&wheel) <= START_MS + 100 + WHEEL_TICK_MS);
	assert_int_equal(turn_until_idle(), 1);
	assert_int_equal(p.fired, 1);
	assert_true(p.fired_at <= START_MS + 100 + WHEEL_TICK_MS);
}

static void
test_in_order_of_time_after_a_long_sleep(void **state)
{
	struct probe p[4];
	(void)state;
	start(p, 4);
	/* Each would silence the other, so which one fires shows the order. */
	p[0].clears = &p[1];
	p[1].clears = &p[0];
	set(&p[1], 20000);
	set(&p[0], 100);
	set(&p[2], 50 * REACH_MS);
	turn_at(START_MS + 40 * REACH_MS);
	assert_int_equal(p[0].fired, 1);
	assert_int_equal(p[1].fired, 0);
	assert_int_equal(p[2].fired, 0);
	turn_at(START_MS + 51 * REACH_MS);
	assert_int_equal(p[2].fired, 1);
	assert_true(wheel_next_ms(&wheel) == UINT64_MAX);
}

static void
test_callback_clears_a_neighbour(void **state)
{
	struct probe p[3];
	(void)state;
	start(p, 3);
	for (size_t i = 0; i < 3; i++)
		set(&p[i], 100);
	p[0].clears = &p[1];
	turn_until_idle();
	assert_int_equal(p[0].fired, 1);
	assert_int_equal(p[1].fired, 0);
	assert_int_equal(p[2].fired, 1);
	assert_int_equal(wheel.n, 0);
}

static void
test_callback_moves_a_neighbour(void **state)
{
	struct probe p[3];
	(void)state;
	start(p, 3);
	for (size_t i = 0; i < 3; i++)
		set(&p[i], 100);
	p[0].sets = &p[1];                     /* due too: later */
	p[0].sets_after = 1000;
	turn_until_idle();
	assert_int_equal(p[1].fired, 1);
	assert_true(p[1].fired_at >= p[0].fired_at + 1000);
	assert_int_equal(p[2].fired, 1);
}

static void
test_callback_that_sets_itself_fires_once_a_turn(void **state)
{
	struct probe p;
	(void)state;
	start(&p, 1);
	p.sets = &p;
	set(&p, 100);
	turn_at(START_MS + 200);
	assert_int_equal(p.fired, 1);
	turn_at(START_MS + 200 + WHEEL_TICK_MS);
	assert_int_equal(p.fired, 2);
	wheel_clear(&wheel, &p.deadline);
	assert_true(wheel_next_ms(&wheel) == UINT64_MAX);
}

static void
test_clock_that_stands_still(void **state)
{
	struct probe p;
	(void)state;
	start(&p, 1);
	set(&p, 0);
	turn_at(START_MS);
	turn_at(START_MS - 500);
	assert_int_equal(p.fired, 0);
	turn_at(START_MS + WHEEL_TICK_MS);
	assert_int_equal(p.fired, 1);
}

/*
 * Many deadlines, set, moved and cleared by chance (always the same chance), against a plain table.
 */
static void
test_many_against_a_table(void **state)
{
	enum { N = 500, STEPS = 20000 };
	static struct probe p[N];
	static uint64_t at[N];                 /* 0: not armed */
	unsigned seed = 1;
	(void)state;
	start(p, N);
	for (unsigned step = 0; step < STEPS; step++) {
		size_t i = (size_t)rand_r(&seed) % N;
		if (rand_r(&seed) % 4 == 0) {
			wheel_clear(&wheel, &p[i].deadline);
			at[i] = 0;
		} else {
			at[i] = now + (uint64_t)rand_r(&seed) % (2 * REACH_MS);
			wheel_set(&wheel, &p[i].deadline, at[i]);
		}
		turn_at(now + (uint64_t)rand_r(&seed) % 50);
		for (size_t k = 0; k < N; k++) {
			bool late = at[k] != 0 && at[k] + WHEEL_TICK_MS <= now;
			assert_false(late && p[k].fired == 0);
			assert_true(p[k].fired == 0 || at[k] != 0);
			if (p[k].fired > 0)
				at[k] = p[k].fired = 0;
			assert_int_equal(deadline_armed(&p[k].deadline), at[k] != 0);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_idle_wheel_asks_for_nothing),
		cmocka_unit_test(test_never_early_and_one_tick_late_at_most),
		cmocka_unit_test(test_turns_millisecond_by_millisecond),
		cmocka_unit_test(test_moved_later_keeps_its_slot_until_that_comes_due),
		cmocka_unit_test(test_moved_earlier),
		cmocka_unit_test(test_in_order_of_time_after_a_long_sleep),
		cmocka_unit_test(test_callback_clears_a_neighbour),
		cmocka_unit_test(test_callback_moves_a_neighbour),
		cmocka_unit_test(test_callback_that_sets_itself_fires_once_a_turn),
		cmocka_unit_test(test_clock_that_stands_still),
		cmocka_unit_test(test_many_against_a_table),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
