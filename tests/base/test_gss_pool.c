/*
 * test_gss_pool: each step is told once or cancelled, whatever ends first: step, mailbox or pool.
 * Steps that fail at once will do: an initiator whose keytab is not there. Made for ASan and TSan.
 */
#include "base/gss_pool.h"
#include "base/endpoint.h"
#include "base/loop.h"
#include "base/mailbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { STEPS = 300 };

struct asker {
	struct loop *loop;
	struct mailbox *box;
	struct gss_pool *pool;
	struct gss_step *steps[STEPS];
	unsigned told;
};

struct question {
	struct asker *asker;
	unsigned number;
};

static struct question questions[STEPS];

static void
on_step(enum gss_step_outcome outcome, const uint8_t *token, size_t len, void *arg)
{
	struct question *q = arg;
	assert_int_equal(outcome, GSS_STEP_FAILED);
	assert_null(token);
	assert_int_equal(len, 0);
	assert_non_null(q->asker->steps[q->number]);
	q->asker->steps[q->number] = NULL;
	q->asker->told++;
}

static void
set_up(struct asker *a, unsigned n_threads)
{
	*a = (struct asker){ .loop = loop_new() };
	assert_non_null(a->loop);
	assert_non_null(a->box = mailbox_open(a->loop, a));
	assert_non_null(a->pool = gss_pool_new(n_threads));
}

static bool
ask(struct asker *a, unsigned number, const struct endpoint *client)
{
	static const struct gss_initiator who = { .keytab = "/nowhere/keytab", .target = "rcmd/a@R" };
	struct gss_context *c = gss_context_new_initiator(&who);
	assert_non_null(c);
	questions[number] = (struct question){ a, number };
	a->steps[number] = gss_step_start(a->pool, c, "x", 1, client, a->box, on_step, &questions[number]);
	gss_context_free(c); /* the step keeps it */
	return a->steps[number] != NULL;
}

static void
ask_all(struct asker *a)
{
	for (unsigned i = 0; i < STEPS; i++)
		assert_true(ask(a, i, NULL));
}

static void
cancel_all(struct asker *a)
{
	for (unsigned i = 0; i < STEPS; i++) {
		gss_step_cancel(a->steps[i]);
		a->steps[i] = NULL;
	}
}

static void
tear_down(struct asker *a)
{
	mailbox_free(a->box);
	loop_free(a->loop);
}

static void
test_each_is_told_once(void **state)
{
	struct asker a;
	(void)state;
	set_up(&a, 4);
	ask_all(&a);
	while (a.told < STEPS)
		loop_turn(a.loop, -1);
	gss_pool_free(a.pool);
	tear_down(&a);
}

/* Some are queued, some are taken, some lie in the mailbox. */
static void
test_cancelled_in_every_state(void **state)
{
	struct asker a;
	(void)state;
	set_up(&a, 2);
	ask_all(&a);
	loop_turn(a.loop, -1);
	unsigned told = a.told;
	cancel_all(&a);
	loop_turn(a.loop, 0);
	assert_int_equal(a.told, told);
	tear_down(&a); /* before the threads have ended */
	gss_pool_free(a.pool);
}

static void
test_pool_goes_first(void **state)
{
	struct asker a;
	(void)state;
	set_up(&a, 2);
	ask_all(&a);
	gss_pool_free(a.pool);
	mailbox_close(a.box);
	assert_int_equal(a.told, 0);
	cancel_all(&a);
	tear_down(&a);
}

static void
test_mailbox_closes_first(void **state)
{
	struct asker a;
	(void)state;
	set_up(&a, 2);
	ask_all(&a);
	mailbox_close(a.box);
	gss_pool_free(a.pool);
	assert_int_equal(a.told, 0);
	cancel_all(&a);
	tear_down(&a);
}

/* Nobody gets more than his part of the queue, and the queue has an end. */
static void
test_bounds(void **state)
{
	struct asker a;
	struct endpoint one, other;
	unsigned i = 0;
	(void)state;
	assert_int_equal(endpoint_from_text(&one, "192.0.2.1:1", 11), ENDPOINT_OK);
	assert_int_equal(endpoint_from_text(&other, "192.0.2.2:1", 11), ENDPOINT_OK);
	set_up(&a, 0); /* nobody takes any */
	assert_false(ask(&a, i, &one));
	gss_pool_free(a.pool);
	tear_down(&a);
	set_up(&a, 1);
	while (i < STEPS && ask(&a, i, &one))
		i++;
	if (i < STEPS) { /* unless the thread was as fast as we are */
		assert_true(i >= GSS_POOL_PER_CLIENT_MAX);
		assert_true(ask(&a, i, &other));
	}
	cancel_all(&a);
	gss_pool_free(a.pool);
	tear_down(&a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_is_told_once),
		cmocka_unit_test(test_cancelled_in_every_state),
		cmocka_unit_test(test_pool_goes_first),
		cmocka_unit_test(test_mailbox_closes_first),
		cmocka_unit_test(test_bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
