/*
 * The identd client against scripted ones: right, wrong, slow and silent answers, and every way to
 * leave; and how an answer is judged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/loop.h"
#include "router/ident.h"
#include "tests/upstream/peer.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TIMEOUT_MS = 1000 };

struct trial {
	struct loop *loop;
	struct ident *ident;
	struct endpoint client, reached;
	struct ident_question question;
	unsigned descriptors;
	bool done;
	unsigned told;
	enum ident_outcome outcome;
	char user[300];
};

static int
set_up(void **state)
{
	static struct trial t;
	t = (struct trial){.descriptors = open_descriptors()};
	clock_fake(5000, 0);
	t.loop = loop_new();
	assert_non_null(t.loop);
	assert_int_equal(endpoint_from_text(&t.client, "127.0.0.1:40001", 15), ENDPOINT_OK);
	assert_int_equal(endpoint_from_text(&t.reached, "127.0.0.2:1080", 14), ENDPOINT_OK);
	t.question = (struct ident_question){.client = &t.client,
					     .reached = &t.reached,
					     .reached_is_ours = true,
					     .timeout_ms = TIMEOUT_MS};
	*state = &t;
	return 0;
}

static int
tear_down(void **state)
{
	struct trial *t = *state;
	ident_cancel(t->ident);
	loop_free(t->loop);
	clock_fake_stop();
	assert_int_equal(open_descriptors(), t->descriptors);
	return 0;
}

static void
on_ident(enum ident_outcome outcome, const char *user, void *arg)
{
	struct trial *t = arg;
	t->ident = NULL;
	t->told++;
	t->done = true;
	t->outcome = outcome;
	snprintf(t->user, sizeof t->user, "%s", user);
}

static void
start(struct trial *t, uint16_t port)
{
	t->question.port = port;
	t->ident = ident_start(t->loop, &t->question, on_ident, t);
	assert_non_null(t->ident);
	assert_int_equal(t->told, 0);
}

static void
finish(struct trial *t, const char *what, enum ident_outcome outcome, const char *user)
{
	if (!turn_until(t->loop, &t->done))
		fail_msg("%s: no answer", what);
	turn_some(t->loop);
	if (t->told != 1 || t->outcome != outcome || strcmp(t->user, user) != 0)
		fail_msg("%s: told %u times, outcome %d, user %s", what, t->told, t->outcome,
			 t->user);
}

#define ASKED "<'40001, 1080~' "
static const struct {
	const char *what, *script;
	enum ident_outcome outcome;
	const char *user;
} scripts[] = {
    {"a user", ASKED ">'40001,1080:USERID:UNIX:bob~'", IDENT_NAMED, "bob"},
    {"byte by byte", ASKED ":'40001,1080:USERID:UNIX:bob~'", IDENT_NAMED, "bob"},
    {"and more behind", ASKED ">'40001,1080:USERID:UNIX:bob~and~more'", IDENT_NAMED, "bob"},
    {"then closed", ASKED ">'40001,1080:USERID:UNIX:bob~' close", IDENT_NAMED, "bob"},
    {"before it is asked", ">'40001,1080:USERID:UNIX:bob~'", IDENT_NAMED, "bob"},
    {"ERROR", ASKED ">'40001,1080:ERROR:NO-USER~'", IDENT_UNNAMED, ""},
    {"HIDDEN-USER", ASKED ":'40001 , 1080 : ERROR : HIDDEN-USER~'", IDENT_UNNAMED, ""},
    {"other ports", ASKED ">'40002,1080:USERID:UNIX:bob~'", IDENT_SILENT, ""},
    {"garbage", ASKED ">'go away~'", IDENT_SILENT, ""},
    {"closed", ASKED "close", IDENT_SILENT, ""},
    {"closed at once", "close", IDENT_SILENT, ""},
    {"reset", ASKED "reset", IDENT_SILENT, ""},
    {"half an answer, then the end", ASKED ">'40001,1080:USERID:UNIX:bo' fin", IDENT_SILENT, ""},
};

static void
test_scripts(void **state)
{
	struct trial *t = *state;
	for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
		struct peer *p = peer_new(t->loop, scripts[i].script);
		t->done = false;
		t->told = 0;
		start(t, peer_at(p)->port);
		finish(t, scripts[i].what, scripts[i].outcome, scripts[i].user);
		if (peer_complaint(p)[0] != '\0')
			fail_msg("%s: %s", scripts[i].what, peer_complaint(p));
		assert_int_equal(peer_accepted(p), 1);
		peer_free(p);
	}
}

static void
test_a_line_without_end_is_left(void **state)
{
	struct trial *t = *state;
	char script[3000] = ">";
	for (size_t i = 1; i < 2401; i++)
		script[i] = '4';
	struct peer *p = peer_new(t->loop, script);
	start(t, peer_at(p)->port);
	finish(t, "endless line", IDENT_SILENT, "");
	peer_free(p);
}

static void
test_one_that_stalls_is_left_at_the_deadline(void **state)
{
	struct trial *t = *state;
	struct peer *p = peer_new(t->loop, ASKED ">'40001,1080:USERID'");
	start(t, peer_at(p)->port);
	while (peer_played(p) == 0)
		loop_turn(t->loop, 10);
	turn_some(t->loop);
	clock_fake(5000 + TIMEOUT_MS - 1, 0);
	turn_some(t->loop);
	assert_int_equal(t->told, 0);
	clock_fake(5000 + TIMEOUT_MS + 2 * WHEEL_TICK_MS, 0);
	finish(t, "stalls", IDENT_SILENT, "");
	peer_free(p);
}

/* A reset behind data makes no event of its own; the stream looks once more after a while. */
static void
test_half_an_answer_then_reset(void **state)
{
	struct trial *t = *state;
	struct peer *p = peer_new(t->loop, ASKED ">'40001,1080:USERID:UNIX:bo' reset");
	start(t, peer_at(p)->port);
	while (peer_played(p) == 0)
		loop_turn(t->loop, 10);
	turn_some(t->loop);
	for (unsigned look = 1; look <= 3; look++) {
		clock_fake(5000 + look * (LOOP_LOOK_MS + WHEEL_TICK_MS), 0);
		turn_some(t->loop);
	}
	finish(t, "reset", IDENT_SILENT, "");
	peer_free(p);
}

static void
test_nobody_answers(void **state)
{
	struct trial *t = *state;
	struct endpoint at;
	int fds[2];
	silent_port(&at, fds);
	start(t, at.port);
	turn_some(t->loop);
	assert_int_equal(t->told, 0);
	clock_fake(5000 + TIMEOUT_MS + 2 * WHEEL_TICK_MS, 0);
	finish(t, "nobody", IDENT_SILENT, "");
	close(fds[0]);
	close(fds[1]);
}

static void
test_refused(void **state)
{
	struct trial *t = *state;
	struct endpoint at;
	int fd = refusing_port(&at);
	start(t, at.port);
	finish(t, "refused", IDENT_SILENT, "");
	close(fd);
}

static void
test_an_address_that_is_not_ours_is_only_asked_about(void **state)
{
	struct trial *t = *state;
	struct peer *p = peer_new(t->loop, ASKED ">'40001,1080:USERID:UNIX:bob~'");
	assert_int_equal(endpoint_from_text(&t->reached, "192.0.2.7:1080", 14), ENDPOINT_OK);
	t->question.reached_is_ours = false;
	start(t, peer_at(p)->port);
	finish(t, "behind a proxy", IDENT_NAMED, "bob");
	peer_free(p);
}

static void
test_cancel_at_every_step(void **state)
{
	struct trial *t = *state;
	struct peer *p = peer_new(t->loop, ASKED ":'40001,1080:USERID:UNIX:bob~'");
	for (unsigned turns = 0; turns < 40; turns++) {
		start(t, peer_at(p)->port);
		for (unsigned i = 0; i < turns && t->told == 0; i++)
			loop_turn(t->loop, 0);
		ident_cancel(t->ident);
		t->ident = NULL;
		turn_some(t->loop);
		t->told = 0;
	}
	peer_free(p);
}

static void
test_judgement(void **state)
{
	static const char *users[] = {"alice", "bob"};
	static const struct policy_network n = {.users = users, .n_users = 2};
	static const struct {
		enum ident_outcome outcome;
		const char *user, *claimed;
		enum verdict want;
	} cases[] = {
	    {IDENT_NAMED, "bob", "bob", VERDICT_GRANTED},
	    {IDENT_NAMED, "bob", "", VERDICT_GRANTED},
	    {IDENT_NAMED, "bob", "alice", VERDICT_IDENT_DIFFERS},
	    {IDENT_NAMED, "bob", "bo", VERDICT_IDENT_DIFFERS},
	    {IDENT_NAMED, "bob", "bobby", VERDICT_IDENT_DIFFERS},
	    {IDENT_NAMED, "carol", "carol", VERDICT_IDENT_DIFFERS},
	    {IDENT_NAMED, "carol", "", VERDICT_IDENT_DIFFERS},
	    {IDENT_UNNAMED, "", "", VERDICT_IDENT_DIFFERS},
	    {IDENT_UNNAMED, "", "bob", VERDICT_IDENT_DIFFERS},
	    {IDENT_SILENT, "", "bob", VERDICT_IDENT_UNREACHABLE},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (ident_judge(&n, cases[i].outcome, cases[i].user, cases[i].claimed) !=
		    cases[i].want)
			fail_msg("case %zu", i);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_scripts, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_a_line_without_end_is_left, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_one_that_stalls_is_left_at_the_deadline, set_up,
					    tear_down),
	    cmocka_unit_test_setup_teardown(test_half_an_answer_then_reset, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_nobody_answers, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_an_address_that_is_not_ours_is_only_asked_about,
					    set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_cancel_at_every_step, set_up, tear_down),
	    cmocka_unit_test(test_judgement),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
