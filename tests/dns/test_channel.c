/*
 * channel: what c-ares sits behind: ports that change, servers that are not there, questions left
 * behind.
 */
#include "dns/channel.h"

#include "base/hash.h"
#include "base/loop.h"
#include "tests/dns/name_server.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fixture {
	struct loop *loop;
	struct name_server *server;
	struct endpoint at;
};

static const struct scene script[] = {
	{ "held.test", 0, PLAY_HOLD, 0, "held.test A 60 192.0.2.9" },
	{ "silent.test", 0, PLAY_SILENCE, 0, NULL },
	{ "a.test", 0, PLAY_ANSWER, 0, "a.test A 60 192.0.2.1" },
};

static unsigned n_done;

static void
on_done(struct ask *a)
{
	(void)a;
	n_done++;
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	assert_non_null(f);
	f->loop = loop_new();
	assert_non_null(f->loop);
	f->server = name_server_start(f->loop, script, ARRAY_LEN(script));
	f->at = name_server_at(f->server);
	n_done = 0;
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;
	name_server_stop(f->server);
	loop_free(f->loop);
	free(f);
	return 0;
}

static void
run_until_done(struct fixture *f, unsigned n)
{
	for (int turns = 0; n_done < n; turns++) {
		assert_true(turns < 1000);
		loop_turn(f->loop, 20);
	}
	assert_int_equal(n_done, n);
}

static struct channel *
open_channel(struct fixture *f, const struct endpoint *servers, size_t n, uint32_t timeout_ms, const char *resolv_conf)
{
	struct channel_conf conf = {
		.servers = servers, .n_servers = n, .resolv_conf = resolv_conf, .timeout_ms = timeout_ms, .attempts = 1,
	};
	return channel_new(f->loop, &conf);
}

/* One question stays open all the time, so that c-ares would keep its socket for ever. */
static void
test_ports_are_renewed(void **state)
{
	struct fixture *f = *state;
	struct channel *c = open_channel(f, &f->at, 1, 20000, "/nonexistent");
	struct ask held, asks[450];

	assert_non_null(c);
	channel_ask(c, &held, "held.test", RECORD_A, on_done);
	for (unsigned i = 0; i < ARRAY_LEN(asks); i++) {
		channel_ask(c, &asks[i], "a.test", RECORD_A, on_done);
		assert_int_equal(n_done, i);           /* never from inside the asking */
		run_until_done(f, i + 1);
		assert_int_equal(asks[i].answer.kind, ANSWER_ADDRESSES);
	}
	assert_in_range(name_server_ports_seen(f->server), 3, ARRAY_LEN(asks) + 1);
	assert_int_equal(name_server_release(f->server), 1);
	run_until_done(f, ARRAY_LEN(asks) + 1);        /* its conduit was retired long ago */
	assert_int_equal(held.answer.kind, ANSWER_ADDRESSES);
	channel_free(c);
}

static void
test_timeout(void **state)
{
	struct fixture *f = *state;
	struct channel *c = open_channel(f, &f->at, 1, 20, "/nonexistent");
	struct ask a, aaaa;

	assert_non_null(c);
	channel_ask(c, &a, "silent.test", RECORD_A, on_done);
	channel_ask(c, &aaaa, "silent.test", RECORD_AAAA, on_done);
	run_until_done(f, 2);
	assert_int_equal(a.answer.kind, ANSWER_TIMEOUT);
	assert_int_equal(aaaa.answer.kind, ANSWER_TIMEOUT);
	channel_free(c);
}

static void
test_second_server_helps(void **state)
{
	struct fixture *f = *state;
	struct endpoint servers[2] = { f->at, f->at };
	struct name_server *other = name_server_start(f->loop, script, ARRAY_LEN(script));
	struct ask a;

	servers[0] = name_server_at(other);
	name_server_stop(other);                       /* nobody there: refused */
	struct channel *c = open_channel(f, servers, 2, 20000, "/nonexistent");
	assert_non_null(c);
	channel_ask(c, &a, "a.test", RECORD_A, on_done);
	run_until_done(f, 1);
	assert_int_equal(a.answer.kind, ANSWER_ADDRESSES);
	channel_free(c);
	n_done = 0;
	c = open_channel(f, servers, 1, 20000, "/nonexistent");
	assert_non_null(c);
	channel_ask(c, &a, "a.test", RECORD_A, on_done);
	run_until_done(f, 1);
	assert_int_equal(a.answer.kind, ANSWER_FAILED);
	channel_free(c);
}

static void
test_no_server(void **state)
{
	struct fixture *f = *state;
	char path[] = "/tmp/test_channel.XXXXXX";
	int fd = mkstemp(path);
	const char *files[] = { "/nonexistent", path };
	struct endpoint name = { 0 };
	struct ask a;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "search test\n", 12), 12);
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		struct channel *c = open_channel(f, NULL, 0, 20000, files[i]);
		assert_non_null(c);
		n_done = 0;
		channel_ask(c, &a, "a.test", RECORD_A, on_done);
		assert_int_equal(n_done, 0);
		run_until_done(f, 1);
		assert_int_equal(a.answer.kind, ANSWER_FAILED);        /* and 127.0.0.1 was not asked */
		channel_free(c);
	}
	close(fd);
	unlink(path);
	assert_int_equal(endpoint_set_host(&name, "ns.test", 7), ENDPOINT_OK);
	assert_null(open_channel(f, &name, 1, 20000, "/nonexistent"));
}

static void
test_names_not_asked(void **state)
{
	struct fixture *f = *state;
	struct channel *c = open_channel(f, &f->at, 1, 20000, "/nonexistent");
	static const char *const names[] = { "", "a..test", "a\\.test", "hidden.onion" };
	struct ask asks[ARRAY_LEN(names)];

	assert_non_null(c);
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		channel_ask(c, &asks[i], names[i], RECORD_A, on_done);
		assert_int_equal(n_done, 0);
	}
	run_until_done(f, ARRAY_LEN(names));
	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(asks[i].answer.kind, ANSWER_NO_NAME);
	assert_int_equal(name_server_queries(f->server, NULL, 0), 0);
	channel_free(c);
}

static void
test_free_with_questions_under_way(void **state)
{
	struct fixture *f = *state;
	struct channel *c = open_channel(f, &f->at, 1, 20000, "/nonexistent");
	struct ask sent, unanswered, queued;

	assert_non_null(c);
	channel_ask(c, &sent, "held.test", RECORD_A, on_done);
	for (int turns = 0; name_server_queries(f->server, NULL, 0) == 0; turns++) {
		assert_true(turns < 1000);
		loop_turn(f->loop, 20);
	}
	channel_ask(c, &unanswered, "silent.test", RECORD_A, on_done);
	channel_ask(c, &queued, "a..test", RECORD_A, on_done);
	channel_free(c);
	name_server_release(f->server);
	for (int i = 0; i < 5; i++)
		loop_turn(f->loop, 5);
	assert_int_equal(n_done, 0);
	channel_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_ports_are_renewed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_timeout, setup, teardown),
		cmocka_unit_test_setup_teardown(test_second_server_helps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_server, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names_not_asked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_free_with_questions_under_way, setup, teardown),
	};
	hash_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
