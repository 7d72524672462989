/*
 * test_mailbox: what is posted is handled once, in order, whatever the threads do; closing answers
 * what is left. Made for TSan.
 */
#include "base/mailbox.h"
#include "base/loop.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { POSTERS = 2, EACH = 20000 };

struct owner {
	struct loop *loop;
	struct mailbox *box;
	unsigned handled, gone, expected;
	unsigned next[POSTERS];                /* the number that must come next from each poster */
};

struct letter {
	struct message message;
	unsigned poster, number;
};

static void
on_letter(struct message *m, void *arg, bool closing)
{
	struct letter *letter = CONTAINER_OF(m, struct letter, message);
	struct owner *o = arg;
	assert_int_equal(letter->number, o->next[letter->poster]);
	o->next[letter->poster]++;
	closing ? o->gone++ : o->handled++;
	free(letter);
	if (o->handled + o->gone == o->expected)
		loop_stop(o->loop);
}

static struct letter *
letter_new(unsigned poster, unsigned number)
{
	struct letter *letter = malloc(sizeof *letter);
	assert_non_null(letter);
	*letter = (struct letter){ .message = { .handle = on_letter }, .poster = poster, .number = number };
	return letter;
}

struct poster {
	pthread_t thread;
	struct mailbox *box;
	unsigned who, posted, refused;
};

static void *
post_all(void *arg)
{
	struct poster *p = arg;
	for (unsigned i = 0; i < EACH; i++) {
		struct letter *letter = letter_new(p->who, i);
		if (mailbox_post(p->box, &letter->message)) {
			p->posted++;
		} else {
			p->refused++;
			free(letter);
		}
	}
	return NULL;
}

static void
owner_start(struct owner *o, unsigned expected)
{
	*o = (struct owner){ .loop = loop_new(), .expected = expected };
	assert_non_null(o->loop);
	o->box = mailbox_open(o->loop, o);
	assert_non_null(o->box);
}

static void
owner_end(struct owner *o)
{
	mailbox_free(o->box);
	loop_free(o->loop);
}

static void
start_posters(struct poster *p, struct mailbox *box)
{
	for (unsigned i = 0; i < POSTERS; i++) {
		p[i] = (struct poster){ .box = box, .who = i };
		assert_int_equal(pthread_create(&p[i].thread, NULL, post_all, &p[i]), 0);
	}
}

/* The loop sleeps whenever the box is empty, so one lost wake-up hangs this test. */
static void
test_two_posters_count_in_is_count_out(void **state)
{
	struct owner o;
	struct poster p[POSTERS];
	(void)state;
	owner_start(&o, POSTERS * EACH);
	start_posters(p, o.box);
	loop_run(o.loop);
	for (unsigned i = 0; i < POSTERS; i++)
		pthread_join(p[i].thread, NULL);
	assert_int_equal(o.handled, POSTERS * EACH);
	owner_end(&o);
}

static void
test_closed_while_they_post(void **state)
{
	struct owner o;
	struct poster p[POSTERS];
	unsigned posted = 0, refused = 0;
	(void)state;
	owner_start(&o, 1000);
	start_posters(p, o.box);
	loop_run(o.loop);
	mailbox_close(o.box);
	for (unsigned i = 0; i < POSTERS; i++) {
		pthread_join(p[i].thread, NULL);
		posted += p[i].posted;
		refused += p[i].refused;
	}
	assert_int_equal(o.handled + o.gone, posted);
	assert_int_equal(posted + refused, POSTERS * EACH);
	owner_end(&o);
}

static void
test_what_is_left_hears_that_nobody_is_home(void **state)
{
	struct owner o;
	(void)state;
	owner_start(&o, 100);
	for (unsigned i = 0; i < 3; i++)
		assert_true(mailbox_post(o.box, &letter_new(0, i)->message));
	mailbox_close(o.box);
	mailbox_close(o.box);
	assert_int_equal(o.gone, 3);
	struct letter *late = letter_new(0, 3);
	assert_false(mailbox_post(o.box, &late->message));
	free(late);
	owner_end(&o);
}

static void
on_close_yourself(struct message *m, void *arg, bool closing)
{
	struct owner *o = arg;
	assert_false(closing);
	free(CONTAINER_OF(m, struct letter, message));
	mailbox_close(o->box);
}

static void
test_closed_by_a_message(void **state)
{
	struct owner o;
	struct letter *first = letter_new(0, 0);
	(void)state;
	owner_start(&o, 100);
	first->message.handle = on_close_yourself;
	assert_true(mailbox_post(o.box, &first->message));
	assert_true(mailbox_post(o.box, &letter_new(0, 0)->message));
	loop_turn(o.loop, 1000);
	assert_int_equal(o.gone, 1);
	assert_int_equal(o.handled, 0);
	owner_end(&o);
}

static void
on_pass_on(struct message *m, void *arg, bool closing)
{
	struct owner *o = arg;
	assert_false(closing);
	o->handled++;
	m->handle = on_letter;
	assert_true(mailbox_post(o->box, m));
}

static void
test_a_handler_posts_the_message_again(void **state)
{
	struct owner o;
	struct letter *letter = letter_new(0, 0);
	(void)state;
	owner_start(&o, 2);
	letter->message.handle = on_pass_on;
	assert_true(mailbox_post(o.box, &letter->message));
	loop_run(o.loop);
	assert_int_equal(o.handled, 2);
	owner_end(&o);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_posters_count_in_is_count_out),
		cmocka_unit_test(test_closed_while_they_post),
		cmocka_unit_test(test_what_is_left_hears_that_nobody_is_home),
		cmocka_unit_test(test_closed_by_a_message),
		cmocka_unit_test(test_a_handler_posts_the_message_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
