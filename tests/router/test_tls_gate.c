/*
 * The gate of TLS handshakes: how many are inside, who waits and in which order, how much of a turn they get, and who makes way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "router/tls_gate.h"

#include <string.h>

enum { N = TLS_GATE_MAX + 8 };

struct trial;

struct handshake {
	struct tls_pass pass;
	struct trial *trial;
	unsigned steps;                /* that it took when it was called */
	unsigned place;                /* among those called, from 1 */
	bool shed;
};

struct trial {
	struct loop *loop;
	struct counters counters;
	struct tls_gate gate;
	uint64_t now_ms, step_us;
	unsigned calls;
	struct handshake all[N];
};

static void
on_told(void *arg, bool go)
{
	struct handshake *h = arg;
	struct trial *t = h->trial;
	h->place = ++t->calls;
	if (!go) {
		h->shed = true;
		tls_pass_give_back(&h->pass);
		return;
	}
	assert_true(tls_gate_may_step(&h->pass));
	tls_gate_note_step(&h->pass, t->step_us);
	h->steps++;
}

static int
set_up(void **state)
{
	static struct trial t;
	memset(&t, 0, sizeof t);
	t.now_ms = 5000;
	clock_fake(t.now_ms, 0);
	t.loop = loop_new();
	assert_non_null(t.loop);
	tls_gate_init(&t.gate, t.loop, &t.counters);
	for (unsigned i = 0; i < N; i++) {
		t.all[i].trial = &t;
		tls_pass_init(&t.all[i].pass, &t.gate, on_told, &t.all[i]);
	}
	*state = &t;
	return 0;
}

static int
tear_down(void **state)
{
	struct trial *t = *state;
	for (unsigned i = 0; i < N; i++) {
		tls_pass_give_back(&t->all[i].pass);
		tls_pass_give_back(&t->all[i].pass);
	}
	assert_int_equal(counter_get(&t->counters, COUNTER_TLS_OPEN), 0);
	tls_gate_free(&t->gate);
	loop_free(t->loop);
	clock_fake_stop();
	return 0;
}

static void
turn_after(struct trial *t, uint64_t ms)
{
	t->now_ms += ms;
	clock_fake(t->now_ms, 0);
	loop_turn(t->loop, 0);
}

static bool
arrives(struct trial *t, unsigned i)
{
	return tls_gate_may_step(&t->all[i].pass);
}

/* All that find room; those after them do not. */
static void
fill(struct trial *t)
{
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(arrives(t, i), i < TLS_GATE_MAX);
}

static void
test_no_more_than_so_many_are_inside(void **state)
{
	struct trial *t = *state;
	fill(t);
	assert_int_equal(counter_get(&t->counters, COUNTER_TLS_OPEN), TLS_GATE_MAX);
	assert_int_equal(counter_get(&t->counters, COUNTER_TLS_WAITS), N - TLS_GATE_MAX);
	/* News of one that waits changes nothing. */
	assert_false(arrives(t, TLS_GATE_MAX));
	turn_after(t, 0);
	assert_int_equal(t->calls, 0);
	assert_int_equal(counter_get(&t->counters, COUNTER_TLS_WAITS), N - TLS_GATE_MAX);
}

static void
test_who_waits_comes_in_by_turn(void **state)
{
	struct trial *t = *state;
	fill(t);
	tls_pass_give_back(&t->all[7].pass);
	tls_pass_give_back(&t->all[3].pass);
	tls_pass_give_back(&t->all[TLS_GATE_MAX].pass);        /* left while it waited */
	/* A place is free, but it is another's. */
	assert_false(arrives(t, 3));
	turn_after(t, 0);
	assert_int_equal(t->calls, 2);
	assert_int_equal(t->all[TLS_GATE_MAX + 1].place, 1);
	assert_int_equal(t->all[TLS_GATE_MAX + 2].place, 2);
	assert_int_equal(counter_get(&t->counters, COUNTER_TLS_OPEN), TLS_GATE_MAX);
	turn_after(t, 0);
	assert_int_equal(t->calls, 2);
}

static void
test_a_turn_has_time_for_few_steps(void **state)
{
	struct trial *t = *state;
	t->step_us = TLS_GATE_TURN_US / 2;
	loop_turn(t->loop, 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_true(arrives(t, i));
		tls_gate_note_step(&t->all[i].pass, t->step_us);
	}
	for (unsigned i = 2; i < 7; i++)
		assert_false(arrives(t, i));
	assert_false(arrives(t, 2));
	/* The turn that these events belong to has no time left, the next one has. */
	turn_after(t, 0);
	assert_int_equal(t->calls, 0);
	turn_after(t, 0);
	assert_int_equal(t->calls, 2);
	assert_int_equal(t->all[2].place, 1);
	assert_int_equal(t->all[3].place, 2);
	/* News of one inside goes behind those that wait. */
	assert_false(arrives(t, 0));
	turn_after(t, 0);
	turn_after(t, 0);
	assert_int_equal(t->calls, 6);
	assert_int_equal(t->all[0].place, 6);
	/* A step longer than a turn's time is taken all the same, alone. */
	t->step_us = 5 * TLS_GATE_TURN_US;
	turn_after(t, 0);
	assert_true(arrives(t, 1));
	tls_gate_note_step(&t->all[1].pass, t->step_us);
	assert_false(arrives(t, 2));
	assert_false(arrives(t, 3));
	turn_after(t, 0);
	turn_after(t, 0);
	assert_int_equal(t->calls, 7);
	turn_after(t, 0);
	assert_int_equal(t->calls, 8);
}

static void
test_who_stalls_makes_way_for_who_waits(void **state)
{
	struct trial *t = *state;
	for (unsigned i = 0; i < TLS_GATE_MAX; i++)
		assert_true(arrives(t, i));
	/* As long as nobody wants its place, one may take its time. */
	for (unsigned ms = 0; ms < 2 * TLS_GATE_PATIENCE_MS; ms += 500)
		turn_after(t, 500);
	assert_int_equal(t->calls, 0);
	/* The oldest waits for its step, by no fault of its own. */
	tls_gate_note_step(&t->all[0].pass, 100 * TLS_GATE_TURN_US);
	t->step_us = 0;
	assert_false(arrives(t, TLS_GATE_MAX));
	assert_false(arrives(t, TLS_GATE_MAX + 1));
	for (unsigned ms = 0; ms < 4 * TLS_GATE_LOOK_MS; ms += WHEEL_TICK_MS)
		turn_after(t, WHEEL_TICK_MS);
	assert_true(t->all[0].shed && t->all[1].shed);
	assert_false(t->all[2].shed);
	assert_int_equal(t->all[TLS_GATE_MAX].steps, 1);
	assert_int_equal(t->all[TLS_GATE_MAX + 1].steps, 1);
	assert_int_equal(counter_get(&t->counters, COUNTER_TLS_SHED), 2);
}

static void
test_who_waits_for_us_is_not_shed(void **state)
{
	struct trial *t = *state;
	for (unsigned i = 0; i < TLS_GATE_MAX; i++)
		assert_true(arrives(t, i));
	assert_false(arrives(t, TLS_GATE_MAX));
	t->now_ms += TLS_GATE_PATIENCE_MS - 1000;
	clock_fake(t->now_ms, 0);
	loop_turn(t->loop, 0);
	assert_true(arrives(t, 0));
	tls_gate_note_step(&t->all[0].pass, TLS_GATE_TURN_US);
	for (unsigned i = 0; i < 20; i++)
		assert_false(arrives(t, i));
	turn_after(t, 1500);                   /* that long the loop was busy */
	assert_true(t->all[20].shed);
	assert_false(arrives(t, TLS_GATE_MAX + 1));
	turn_after(t, 2 * TLS_GATE_LOOK_MS);
	assert_true(t->all[21].shed);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(t->all[i].steps, 1);
		assert_false(t->all[i].shed);
	}
}

static void
test_without_a_gate_nothing_is_held(void **state)
{
	(void)state;
	struct tls_pass p;
	tls_pass_init(&p, NULL, on_told, NULL);
	tls_pass_give_back(&p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_no_more_than_so_many_are_inside, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_who_waits_comes_in_by_turn, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_turn_has_time_for_few_steps, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_who_stalls_makes_way_for_who_waits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_who_waits_for_us_is_not_shed, set_up, tear_down),
		cmocka_unit_test(test_without_a_gate_nothing_is_held),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
