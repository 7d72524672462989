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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STEPS = 300, PATIENCE_SECONDS = 300 };

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

/* ---- lanes ---- */

enum { N_STUCK = 6, STEPS_EACH = 20 };

/* Keytabs whose opening waits until somebody writes. */
struct stuck {
	char dir[32], paths[N_STUCK][48];
	int fds[N_STUCK];
};

static void
make_stuck(struct stuck *s)
{
	snprintf(s->dir, sizeof s->dir, "/tmp/test_gss_pool.XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	for (unsigned i = 0; i < N_STUCK; i++) {
		snprintf(s->paths[i], sizeof s->paths[i], "%s/%u", s->dir, i);
		assert_int_equal(mkfifo(s->paths[i], 0600), 0);
	}
}

/* Who waits for one, or is about to, goes on, and finds a file that is none. */
static void
let_go(struct stuck *s)
{
	for (unsigned i = 0; i < N_STUCK; i++) {
		s->fds[i] = open(s->paths[i], O_RDWR | O_NONBLOCK | O_CLOEXEC);
		assert_true(s->fds[i] >= 0);
		assert_int_equal(unlink(s->paths[i]), 0);
	}
	assert_int_equal(rmdir(s->dir), 0);
}

/* Nobody waits any more. */
static void
forget_stuck(struct stuck *s)
{
	for (unsigned i = 0; i < N_STUCK; i++)
		close(s->fds[i]);
}

static bool
ask_by_keytab(struct asker *a, unsigned number, const char *keytab)
{
	struct gss_context *c = gss_context_new_acceptor(keytab, "rcmd");
	assert_non_null(c);
	questions[number] = (struct question){ a, number };
	a->steps[number] = gss_step_start(a->pool, c, "x", 1, NULL, a->box, on_step, &questions[number]);
	gss_context_free(c);
	return a->steps[number] != NULL;
}

/* Each has more steps than there are threads: those of other lanes are taken all the same, and so is each stuck lane's first. */
static void
test_lanes_that_are_stuck_keep_no_other_waiting(void **state)
{
	struct asker a;
	struct stuck s;
	unsigned n = 0;
	(void)state;
	make_stuck(&s);
	set_up(&a, 2);
	for (unsigned i = 0; i < N_STUCK; i++)
		for (unsigned j = 0; j < STEPS_EACH; j++)
			assert_true(ask_by_keytab(&a, n++, s.paths[i]));
	for (unsigned i = 1; i <= STEPS_EACH; i++) {
		assert_true(ask_by_keytab(&a, n++, i % 2 == 0 ? "/nowhere/one" : "/nowhere/other"));
		while (a.told < i)
			loop_turn(a.loop, -1);
	}
	let_go(&s);
	while (a.told < n)
		loop_turn(a.loop, -1);
	gss_pool_free(a.pool);
	forget_stuck(&s);
	tear_down(&a);
}

/* A lane whose queue is full takes no other's room. */
static void
test_a_full_lane(void **state)
{
	struct asker a;
	struct stuck s;
	struct gss_step *more[GSS_POOL_QUEUE_MAX + 1];
	struct gss_context *c;
	unsigned n = 0;
	(void)state;
	make_stuck(&s);
	set_up(&a, 1);
	assert_non_null(c = gss_context_new_acceptor(s.paths[0], "rcmd"));
	while (n < ARRAY_LEN(more) && (more[n] = gss_step_start(a.pool, c, "x", 1, NULL, a.box, on_step, NULL)) != NULL)
		n++;
	assert_true(n >= GSS_POOL_QUEUE_MAX);
	assert_null(gss_step_start(a.pool, c, "x", 1, NULL, a.box, on_step, NULL));
	gss_context_free(c);
	assert_true(ask_by_keytab(&a, 0, "/nowhere/other"));
	while (a.told < 1)
		loop_turn(a.loop, -1);
	while (n > 0)
		gss_step_cancel(more[--n]);
	let_go(&s);
	gss_pool_free(a.pool);
	forget_stuck(&s);
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
		cmocka_unit_test(test_lanes_that_are_stuck_keep_no_other_waiting),
		cmocka_unit_test(test_a_full_lane),
	};
	(void)alarm(PATIENCE_SECONDS);         /* to wait in vain is to fail */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
