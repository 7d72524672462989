/*
 * The name of an address: what is asked, what each answer gives, and giving up at every moment.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/counters.h"
#include "base/loop.h"
#include "dns/reverse.h"
#include "tests/dns/name_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TYPE_PTR = 12, TURNS_MAX = 500 };

#define V4(last) #last ".2.0.192.in-addr.arpa"
static const struct scene script[] = {
	{ V4(1), TYPE_PTR, PLAY_ANSWER, 0, V4(1) " PTR 60 Host.Example" },
	{ V4(2), TYPE_PTR, PLAY_ANSWER, 0, V4(2) " CNAME 60 2.sub.arpa;2.sub.arpa PTR 60 far.example" },
	{ V4(3), TYPE_PTR, PLAY_ANSWER, 0, V4(3) " PTR 60 one.example;" V4(3) " PTR 60 two.example" },
	{ V4(4), TYPE_PTR, PLAY_ANSWER, 0, V4(4) " PTR 60 a\x01b.example;" V4(4) " PTR 60 good.example" },
	{ V4(5), TYPE_PTR, PLAY_ANSWER, 0, V4(5) " PTR 60 a]b.example" },
	{ V4(6), TYPE_PTR, PLAY_ANSWER, 0, V4(6) " PTR 60 192.0.2.9" },
	{ V4(7), TYPE_PTR, PLAY_ANSWER, 0, V4(1) " PTR 60 other.example" },
	{ V4(8), TYPE_PTR, PLAY_ANSWER, 2, NULL },
	{ V4(9), TYPE_PTR, PLAY_SILENCE, 0, NULL },
	{ V4(10), TYPE_PTR, PLAY_GARBAGE, 0, NULL },
	{ V4(11), TYPE_PTR, PLAY_TRUNCATED, 0, V4(11) " PTR 60 long.example" },
	{ V4(12), TYPE_PTR, PLAY_HOLD, 0, V4(12) " PTR 60 late.example" },
	{ "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", TYPE_PTR, PLAY_ANSWER, 0,
	    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR 60 six.example" },
};

struct fixture {
	struct loop *loop;
	struct name_server *server;
	struct endpoint at;
	struct policy_dns conf;
	struct resolver *resolver;
	unsigned told;
	enum dns_error err;
	char name[256];
};

static int
set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	assert_non_null(f);
	f->loop = loop_new();
	f->server = name_server_start(f->loop, script, ARRAY_LEN(script));
	f->at = name_server_at(f->server);
	f->conf = (struct policy_dns){ .servers = &f->at, .n_servers = 1, .timeout_ms = 500, .attempts = 1 };
	f->resolver = resolver_new(f->loop, &f->conf);
	assert_non_null(f->resolver);
	*state = f;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;
	resolver_free(f->resolver);
	name_server_stop(f->server);
	loop_free(f->loop);
	free(f);
	return 0;
}

static void
on_reversed(enum dns_error err, const char *name, void *arg)
{
	struct fixture *f = arg;
	f->told++;
	f->err = err;
	snprintf(f->name, sizeof f->name, "%s", name);
}

static struct reverse *
start(struct fixture *f, const char *text, uint64_t timeout_ms)
{
	struct endpoint address = { .kind = ENDPOINT_NONE };
	assert_int_equal(endpoint_set_host(&address, text, strlen(text)), ENDPOINT_OK);
	f->told = 0;
	struct reverse *q = reverse_start(f->resolver, &address, timeout_ms, on_reversed, f);
	assert_non_null(q);
	assert_int_equal(f->told, 0);
	return q;
}

static void
finish(struct fixture *f, const char *what, enum dns_error err, const char *name)
{
	for (int i = 0; i < TURNS_MAX && f->told == 0; i++)
		loop_turn(f->loop, 20);
	loop_turn(f->loop, 0);
	if (f->told != 1 || f->err != err || strcmp(f->name, name) != 0)
		fail_msg("%s: told %u times: %s, \"%s\"", what, f->told, dns_error_text(f->err), f->name);
}

static void
test_answers(void **state)
{
	static const struct {
		const char *address;
		enum dns_error err;
		const char *name;
	} cases[] = {
		{ "192.0.2.1", DNS_OK, "host.example" },
		{ "192.0.2.2", DNS_OK, "far.example" },
		{ "192.0.2.3", DNS_OK, "one.example" },
		{ "192.0.2.4", DNS_OK, "good.example" },
		{ "192.0.2.5", DNS_NOT_FOUND, "" },
		{ "192.0.2.6", DNS_NOT_FOUND, "" },
		{ "192.0.2.7", DNS_NOT_FOUND, "" },
		{ "192.0.2.8", DNS_FAILED, "" },
		{ "192.0.2.9", DNS_TIMEOUT, "" },
		{ "192.0.2.10", DNS_TIMEOUT, "" },
		{ "192.0.2.11", DNS_OK, "long.example" },
		{ "192.0.2.200", DNS_NOT_FOUND, "" },
		{ "2001:db8::1", DNS_OK, "six.example" },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		start(*state, cases[i].address, 5000);
		finish(*state, cases[i].address, cases[i].err, cases[i].name);
	}
}

/* The answer comes after all, and finds nobody. */
static void
test_its_own_deadline(void **state)
{
	struct fixture *f = *state;
	f->conf.timeout_ms = 60000;
	resolver_free(f->resolver);
	f->resolver = resolver_new(f->loop, &f->conf);
	start(f, "192.0.2.12", 50);
	finish(f, "deadline", DNS_TIMEOUT, "");
	assert_int_equal(name_server_release(f->server), 1);
	for (int i = 0; i < 10; i++)
		loop_turn(f->loop, 5);
	assert_int_equal(f->told, 1);
}

static void
test_given_up_at_every_turn(void **state)
{
	struct fixture *f = *state;
	for (int turns = 0; turns < 6; turns++) {
		struct reverse *q = start(f, "192.0.2.1", 5000);
		for (int i = 0; i < turns && f->told == 0; i++)
			loop_turn(f->loop, 0);
		if (f->told > 0)
			continue;
		reverse_cancel(q);
		for (int i = 0; i < 10; i++)
			loop_turn(f->loop, 5);
		assert_int_equal(f->told, 0);
	}
}

/* Look-ups under way go with the resolver, or go on where it takes up another policy. */
static void
test_the_resolver_goes_or_changes(void **state)
{
	struct fixture *f = *state;
	start(f, "192.0.2.1", 5000);
	assert_true(resolver_reconfigure(f->resolver, &f->conf));
	finish(f, "reconfigured", DNS_OK, "host.example");
	start(f, "192.0.2.9", 5000);
	reverse_cancel(start(f, "192.0.2.9", 5000));
	resolver_free(f->resolver);
	f->resolver = NULL;
	for (int i = 0; i < 10; i++)
		loop_turn(f->loop, 5);
	assert_int_equal(f->told, 0);
}

static void
keep_answers(struct fixture *f)
{
	f->conf.cache_max_entries = 10;
	f->conf.cache_max_ttl_ms = 3600000;
	f->conf.cache_negative_ttl_ms = 10000;
	resolver_free(f->resolver);
	f->resolver = resolver_new(f->loop, &f->conf);
	assert_non_null(f->resolver);
}

static void
note_entry(const char *name, const struct endpoint *addrs, size_t n, uint64_t ttl_ms, void *arg)
{
	char *text = arg;
	(void)ttl_ms;
	snprintf(text + strlen(text), 400 - strlen(text), "%s [%s]; ", name, n > 0 ? addrs[0].name : "");
}

/* Names and "there is none" for as long as they were said to hold, failures never. */
static void
test_kept(void **state)
{
	struct fixture *f = *state;
	struct counters counted = { 0 };
	char text[400] = "";
	keep_answers(f);
	resolver_count_in(f->resolver, &counted);
	clock_fake(clock_now_ms(), 0);
	for (int i = 0; i < 3; i++) {
		start(f, "192.0.2.1", 5000);
		finish(f, "a name", DNS_OK, "host.example");
		start(f, "192.0.2.200", 5000);
		finish(f, "none", DNS_NOT_FOUND, "");
		start(f, "192.0.2.8", 5000);
		finish(f, "a failure", DNS_FAILED, "");
	}
	assert_int_equal(name_server_queries(f->server, V4(1), 0), 1);
	assert_int_equal(name_server_queries(f->server, V4(200), 0), 1);
	assert_int_equal(name_server_queries(f->server, V4(8), 0), 3);
	assert_int_equal(counter_get(&counted, COUNTER_DNS_CACHE_HITS), 4);
	resolver_cache_each(f->resolver, note_entry, text);
	assert_string_equal(text, V4(200) " []; " V4(1) " [host.example]; ");

	clock_fake(clock_now_ms() + 6000, 0);  /* the SOA says 5 s */
	loop_turn(f->loop, 0);
	start(f, "192.0.2.200", 5000);
	finish(f, "none, later", DNS_NOT_FOUND, "");
	assert_int_equal(name_server_queries(f->server, V4(200), 0), 2);
	start(f, "192.0.2.1", 5000);
	finish(f, "a name, later", DNS_OK, "host.example");
	assert_int_equal(name_server_queries(f->server, V4(1), 0), 1);
	assert_int_equal(resolver_cache_drop(f->resolver, V4(1)), 1);
	start(f, "192.0.2.1", 5000);
	finish(f, "a name, forgotten", DNS_OK, "host.example");
	assert_int_equal(name_server_queries(f->server, V4(1), 0), 2);
}

/* One that is known is told later all the same, or never. */
static void
test_kept_and_given_up(void **state)
{
	struct fixture *f = *state;
	keep_answers(f);
	start(f, "192.0.2.1", 5000);
	finish(f, "a name", DNS_OK, "host.example");
	reverse_cancel(start(f, "192.0.2.1", 5000));
	for (int i = 0; i < 5; i++)
		loop_turn(f->loop, 0);
	assert_int_equal(f->told, 0);
}

static void
test_what_is_asked(void **state)
{
	char name[REVERSE_NAME_MAX];
	struct endpoint e = { .kind = ENDPOINT_NONE };
	(void)state;
	assert_int_equal(endpoint_set_host(&e, "255.254.253.252", 15), ENDPOINT_OK);
	assert_string_equal(reverse_name(&e, name), "252.253.254.255.in-addr.arpa");
	assert_int_equal(endpoint_set_host(&e, "2001:db8::567:89ab", 18), ENDPOINT_OK);
	assert_string_equal(reverse_name(&e, name),
	    "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
	assert_int_equal(strlen(name), REVERSE_NAME_MAX - 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_answers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_its_own_deadline, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_given_up_at_every_turn, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_the_resolver_goes_or_changes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_kept, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_kept_and_given_up, set_up, tear_down),
		cmocka_unit_test(test_what_is_asked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
