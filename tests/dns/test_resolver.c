/*
 * resolver: against a name server that answers, fails, lies, hesitates or says nothing; and
 * cancelled wherever that can be.
 *
 * Addresses in answers are loopback or private ones, so that nothing depends on the routes of the
 * machine.
 */
#include "dns/resolver.h"

#include "base/clock.h"
#include "base/counters.h"
#include "base/hash.h"
#include "base/loop.h"
#include "base/text.h"
#include "tests/dns/name_server.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TYPE_A = 1, TYPE_AAAA = 28, LONG_MS = 20000 };

struct fixture {
	struct loop *loop;
	struct name_server *server;
	struct endpoint at;
	struct policy_dns conf;
	struct resolver *resolver;
};

/* What a look-up came to. */
struct got {
	unsigned calls;
	enum dns_error err;
	char text[1024];                       /* the addresses; "name not found" and so on */
};

static const struct scene script[] = {
	{ "both.test", TYPE_A, PLAY_ANSWER, 0, "both.test A 60 127.0.0.1" },
	{ "both.test", TYPE_AAAA, PLAY_ANSWER, 0, "both.test AAAA 60 ::1" },
	{ "v4.test", TYPE_A, PLAY_ANSWER, 0, "v4.test A 60 10.0.0.1;v4.test A 60 10.0.0.2" },
	{ "v4.test", TYPE_AAAA, PLAY_ANSWER, 0, "test SOA 900 5" },
	{ "v6.test", TYPE_A, PLAY_ANSWER, 0, NULL },
	{ "v6.test", TYPE_AAAA, PLAY_ANSWER, 0, "v6.test AAAA 60 ::1" },
	{ "half.test", TYPE_A, PLAY_ANSWER, 0, "half.test A 60 127.0.0.1" },
	{ "half.test", TYPE_AAAA, PLAY_ANSWER, 2, NULL },
	{ "otherhalf.test", TYPE_A, PLAY_ANSWER, 2, NULL },
	{ "otherhalf.test", TYPE_AAAA, PLAY_ANSWER, 0, "otherhalf.test AAAA 60 ::1" },
	{ "halfnothing.test", TYPE_A, PLAY_ANSWER, 0, "test SOA 900 5" },
	{ "halfnothing.test", TYPE_AAAA, PLAY_ANSWER, 2, NULL },
	{ "broken4074.test", TYPE_A, PLAY_ANSWER, 0, "broken4074.test A 60 127.0.0.1" },
	{ "broken4074.test", TYPE_AAAA, PLAY_ANSWER, 3, "test SOA 900 5" },
	{ "nodata.test", 0, PLAY_ANSWER, 0, "test SOA 900 5" },
	{ "servfail.test", 0, PLAY_ANSWER, 2, NULL },
	{ "refused.test", 0, PLAY_ANSWER, 5, NULL },
	{ "silent.test", 0, PLAY_SILENCE, 0, NULL },
	{ "chain.test", TYPE_A, PLAY_ANSWER, 0, "chain.test CNAME 60 b.test;b.test CNAME 5 c.test;c.test A 60 127.0.0.1" },
	{ "chain.test", TYPE_AAAA, PLAY_ANSWER, 0, "chain.test CNAME 60 b.test;test SOA 900 5" },
	{ "loop.test", 0, PLAY_ANSWER, 0, "loop.test CNAME 60 b.test;b.test CNAME 60 loop.test" },
	{ "garbage.test", 0, PLAY_GARBAGE, 0, NULL },
	{ "wrongid.test", TYPE_A, PLAY_WRONG_ID, 0, "wrongid.test A 60 127.0.0.1" },
	{ "wrongid.test", TYPE_AAAA, PLAY_SILENCE, 0, NULL },
	{ "wrongidfirst.test", TYPE_A, PLAY_WRONG_ID_FIRST, 0, "wrongidfirst.test A 60 127.0.0.1" },
	{ "wrongname.test", 0, PLAY_WRONG_NAME, 0, "wrongname.test A 60 127.0.0.1" },
	{ "cut.test", TYPE_A, PLAY_TRUNCATED, 0, "cut.test A 60 127.0.0.1" },
	{ "cut.test", TYPE_AAAA, PLAY_TRUNCATED, 0, "cut.test AAAA 60 ::1" },
	{ "empty.test", 0, PLAY_EMPTY_FIRST, 0, "empty.test A 60 127.0.0.1" },
	{ "mapped.test", TYPE_A, PLAY_ANSWER, 0, "test SOA 900 5" },
	{ "mapped.test", TYPE_AAAA, PLAY_ANSWER, 0, "mapped.test AAAA 60 ::ffff:127.0.0.1" },
	{ "dotless", TYPE_A, PLAY_ANSWER, 0, "dotless A 60 127.0.0.1" },
	{ "slow6.test", TYPE_A, PLAY_ANSWER, 0, "slow6.test A 60 127.0.0.1" },
	{ "slow6.test", TYPE_AAAA, PLAY_HOLD, 0, "slow6.test AAAA 60 ::1" },
	{ "slow4.test", TYPE_A, PLAY_HOLD, 0, "slow4.test A 60 127.0.0.1" },
	{ "slow4.test", TYPE_AAAA, PLAY_ANSWER, 0, "slow4.test AAAA 60 ::1" },
	{ "slow4only.test", TYPE_A, PLAY_HOLD, 0, "slow4only.test A 60 127.0.0.1" },
	{ "slow4only.test", TYPE_AAAA, PLAY_ANSWER, 0, "test SOA 900 5" },
	{ "held.test", TYPE_A, PLAY_HOLD, 0, "held.test A 60 127.0.0.1" },
	{ "held.test", TYPE_AAAA, PLAY_HOLD, 0, "held.test AAAA 60 ::1" },
};

static void
open_resolver(struct fixture *f)
{
	f->resolver = resolver_new(f->loop, &f->conf);
	assert_non_null(f->resolver);
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
	f->conf = (struct policy_dns){
		.servers = &f->at,
		.n_servers = 1,
		.timeout_ms = LONG_MS,
		.attempts = 2,
		.cache_max_entries = 1000,
		.cache_max_ttl_ms = 3600 * 1000,
		.cache_negative_ttl_ms = 10 * 1000,
	};
	open_resolver(f);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;
	resolver_free(f->resolver);
	name_server_stop(f->server);
	clock_fake_stop();
	loop_free(f->loop);
	free(f);
	return 0;
}

static void
addresses_text(const struct endpoint *addrs, size_t n, char *out, size_t cap)
{
	char host[ENDPOINT_TEXT_MAX];
	size_t len = 0;
	out[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(addrs[i].port, 0);
		text_append(out, cap, &len, i > 0 ? " %s" : "%s", endpoint_host_to_text(&addrs[i], host, sizeof host));
	}
}

static void
on_got(enum dns_error err, const struct endpoint *addrs, size_t n, void *arg)
{
	struct got *g = arg;
	g->calls++;
	g->err = err;
	assert_int_equal(err == DNS_OK, n > 0);
	if (err == DNS_OK)
		addresses_text(addrs, n, g->text, sizeof g->text);
	else
		snprintf(g->text, sizeof g->text, "%s", dns_error_text(err));
}

static struct resolve *
start(struct fixture *f, const char *name, struct got *g)
{
	*g = (struct got){ 0 };
	struct resolve *q = resolve_start(f->resolver, name, LONG_MS, on_got, g);
	assert_non_null(q);
	assert_int_equal(g->calls, 0);         /* never from inside */
	return q;
}

static void
run_until_got(struct fixture *f, const struct got *g)
{
	for (int turns = 0; g->calls == 0; turns++) {
		assert_true(turns < 1000);
		loop_turn(f->loop, 20);
	}
	assert_int_equal(g->calls, 1);
}

static void
run_until_queries(struct fixture *f, const char *name, unsigned n)
{
	for (int turns = 0; name_server_queries(f->server, name, 0) < n; turns++) {
		assert_true(turns < 1000);
		loop_turn(f->loop, 20);
	}
}

/* Until what is under way on loopback must have come through. */
static void
run_a_while(struct fixture *f)
{
	for (int i = 0; i < 10; i++)
		loop_turn(f->loop, 2);
}

static const char *
look_up(struct fixture *f, const char *name, struct got *g)
{
	start(f, name, g);
	run_until_got(f, g);
	return g->text;
}

/* What is known at once; "?" where nothing is. */
static const char *
known(struct fixture *f, const char *name)
{
	static char text[1024];
	struct endpoint addrs[RESOLVE_ADDRS_MAX];
	size_t n = 99;
	enum dns_error err = resolve_now(f->resolver, name, addrs, ARRAY_LEN(addrs), &n);
	if (err == DNS_OK)
		addresses_text(addrs, n, text, sizeof text);
	else
		assert_int_equal(n, 0);
	if (err == DNS_TIMEOUT)
		return "?";
	return err == DNS_OK ? text : dns_error_text(err);
}

static void
test_outcomes(void **state)
{
	static const char not_found[] = "name not found", failed[] = "name servers failed";
	static const struct { const char *name, *want, *known; } names[] = {
		{ "both.test", "::1 127.0.0.1", "::1 127.0.0.1" },
		{ "v4.test", "10.0.0.1 10.0.0.2", "10.0.0.1 10.0.0.2" },
		{ "v6.test", "::1", "::1" },
		{ "half.test", "127.0.0.1", "?" },
		{ "otherhalf.test", "::1", "?" },
		{ "halfnothing.test", failed, "?" },
		{ "broken4074.test", "127.0.0.1", "127.0.0.1" },
		{ "nxdomain.test", not_found, not_found },
		{ "nodata.test", not_found, not_found },
		{ "servfail.test", failed, "?" },
		{ "refused.test", failed, "?" },
		{ "chain.test", "127.0.0.1", "127.0.0.1" },
		{ "loop.test", failed, "?" },
		{ "wrongidfirst.test", "127.0.0.1", "127.0.0.1" },
		{ "cut.test", "::1 127.0.0.1", "::1 127.0.0.1" },
		{ "empty.test", "127.0.0.1", "127.0.0.1" },
		{ "mapped.test", "127.0.0.1", "127.0.0.1" },
		{ "dotless", "127.0.0.1", "127.0.0.1" },
	};
	struct fixture *f = *state;
	struct got g;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(look_up(f, names[i].name, &g), names[i].want) != 0)
			fail_msg("%s: %s, not %s", names[i].name, g.text, names[i].want);
		if (strcmp(known(f, names[i].name), names[i].known) != 0)
			fail_msg("%s is known as %s, not %s", names[i].name, known(f, names[i].name), names[i].known);
	}
}

/* Nothing that helps ever comes: c-ares's own timeouts end it, and nothing of it is kept. */
static void
test_no_answer(void **state)
{
	static const char *const names[] = { "silent.test", "garbage.test", "wrongid.test", "wrongname.test" };
	struct fixture *f = *state;
	struct got g[ARRAY_LEN(names)];

	resolver_free(f->resolver);
	f->conf.timeout_ms = 50;
	open_resolver(f);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		start(f, names[i], &g[i]);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		run_until_got(f, &g[i]);
		if (g[i].err != DNS_TIMEOUT)
			fail_msg("%s: %s", names[i], g[i].text);
		assert_string_equal(known(f, names[i]), "?");
	}
}

static void
test_names_not_asked(void **state)
{
	static const char *const names[] = { "", ".", "a..test", "a.test.", "\\.test", "hidden.onion" };
	struct fixture *f = *state;
	char label[70], name[254];
	struct got g;

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_string_equal(look_up(f, names[i], &g), "name not found");
	memset(label, 'a', 64);
	strcpy(label + 64, ".test");
	assert_string_equal(look_up(f, label, &g), "name not found");
	memset(name, 'a', 253);
	name[253] = '\0';
	assert_string_equal(look_up(f, name, &g), "name not found");
	assert_int_equal(name_server_queries(f->server, NULL, 0), 0);
}

static void
test_cached(void **state)
{
	struct fixture *f = *state;
	struct counters counted = { 0 };
	struct got g;

	resolver_count_in(f->resolver, &counted);
	assert_string_equal(known(f, "both.test"), "?");
	look_up(f, "both.test", &g);
	assert_string_equal(look_up(f, "both.test", &g), "::1 127.0.0.1");
	assert_string_equal(known(f, "both.test"), "::1 127.0.0.1");
	assert_int_equal(name_server_queries(f->server, "both.test", 0), 2);
	look_up(f, "nxdomain.test", &g);
	look_up(f, "nxdomain.test", &g);
	assert_int_equal(name_server_queries(f->server, "nxdomain.test", 0), 2);
	assert_int_equal(counter_get(&counted, COUNTER_DNS_QUERIES), 4);
	assert_int_equal(counter_get(&counted, COUNTER_DNS_CACHE_HITS), 3);
	assert_int_equal(counter_get(&counted, COUNTER_DNS_FAILURES), 2);
}

static void
test_cache_runs_out(void **state)
{
	struct fixture *f = *state;
	uint64_t now = clock_now_ms();
	struct got g;

	clock_fake(now, 0);
	look_up(f, "nxdomain.test", &g);
	look_up(f, "chain.test", &g);
	look_up(f, "both.test", &g);
	clock_fake(now + 4900, 0);
	assert_string_equal(look_up(f, "nxdomain.test", &g), "name not found");
	assert_int_equal(name_server_queries(f->server, "nxdomain.test", 0), 2);
	clock_fake(now + 6000, 0);             /* SOA said 5 s; so did the second CNAME */
	look_up(f, "nxdomain.test", &g);
	look_up(f, "chain.test", &g);
	look_up(f, "both.test", &g);
	assert_int_equal(name_server_queries(f->server, "nxdomain.test", 0), 4);
	assert_int_equal(name_server_queries(f->server, "chain.test", 0), 4);
	assert_int_equal(name_server_queries(f->server, "both.test", 0), 2);
	clock_fake(now + 61000, 0);
	look_up(f, "both.test", &g);
	assert_int_equal(name_server_queries(f->server, "both.test", 0), 4);
}

/* A failed half is asked again, the good half isn't. */
static void
test_only_the_unknown_is_asked(void **state)
{
	struct fixture *f = *state;
	struct got g;
	unsigned aaaa;

	look_up(f, "half.test", &g);
	aaaa = name_server_queries(f->server, "half.test", TYPE_AAAA);
	assert_string_equal(look_up(f, "half.test", &g), "127.0.0.1");
	assert_int_equal(name_server_queries(f->server, "half.test", TYPE_A), 1);
	assert_true(name_server_queries(f->server, "half.test", TYPE_AAAA) > aaaa);
}

static void
test_shared(void **state)
{
	struct fixture *f = *state;
	struct got g[5];

	for (size_t i = 0; i < ARRAY_LEN(g); i++)
		start(f, "held.test", &g[i]);
	run_until_queries(f, "held.test", 2);
	run_a_while(f);
	name_server_release(f->server);
	for (size_t i = 0; i < ARRAY_LEN(g); i++) {
		run_until_got(f, &g[i]);
		assert_string_equal(g[i].text, "::1 127.0.0.1");
	}
	assert_int_equal(name_server_queries(f->server, "held.test", 0), 2);
}

/* RFC 8305 section 3: with A there, AAAA has 50 ms left, A somewhat more; a later one is kept. */
static void
test_late_answers(void **state)
{
	static const struct { const char *name, *first, *both; unsigned after_ms; } names[] = {
		{ "slow6.test", "127.0.0.1", "::1 127.0.0.1", 50 },
		{ "slow4.test", "::1", "::1 127.0.0.1", 250 },
	};
	struct fixture *f = *state;
	struct got g, joined;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		uint64_t begun = clock_now_ms();
		assert_string_equal(look_up(f, names[i].name, &g), names[i].first);
		assert_true(clock_now_ms() - begun >= names[i].after_ms);
		assert_string_equal(known(f, names[i].name), "?");
		assert_string_equal(look_up(f, names[i].name, &joined), names[i].first);
		assert_int_equal(name_server_queries(f->server, names[i].name, 0), 2);
		assert_int_equal(name_server_release(f->server), 1);
		run_a_while(f);
		assert_string_equal(known(f, names[i].name), names[i].both);
		assert_int_equal(g.calls, 1);
	}
}

static void
test_answer_within_the_grace(void **state)
{
	struct fixture *f = *state;
	struct got g;

	clock_fake(clock_now_ms(), 0);         /* the grace can't run out */
	start(f, "slow6.test", &g);
	run_until_queries(f, "slow6.test", 2);
	run_a_while(f);
	assert_int_equal(g.calls, 0);
	name_server_release(f->server);
	run_until_got(f, &g);
	assert_string_equal(g.text, "::1 127.0.0.1");
}

/* "No such record" of one kind is no reason to go on without the other. */
static void
test_no_grace_without_addresses(void **state)
{
	struct fixture *f = *state;
	struct got g;
	uint64_t now = clock_now_ms();

	clock_fake(now, 0);
	start(f, "slow4only.test", &g);
	run_until_queries(f, "slow4only.test", 2);
	run_a_while(f);
	clock_fake(now + 1000, 0);
	run_a_while(f);
	assert_int_equal(g.calls, 0);
	name_server_release(f->server);
	run_until_got(f, &g);
	assert_string_equal(g.text, "127.0.0.1");
}

static void
test_own_deadline(void **state)
{
	struct fixture *f = *state;
	struct got g = { 0 }, patient;
	uint64_t now = clock_now_ms();

	clock_fake(now, 0);
	assert_non_null(resolve_start(f->resolver, "held.test", 300, on_got, &g));
	start(f, "held.test", &patient);
	run_until_queries(f, "held.test", 2);
	clock_fake(now + 299, 0);
	run_a_while(f);
	assert_int_equal(g.calls, 0);
	clock_fake(now + 300 + WHEEL_TICK_MS, 0);
	run_until_got(f, &g);
	assert_int_equal(g.err, DNS_TIMEOUT);
	assert_int_equal(patient.calls, 0);
	name_server_release(f->server);
	run_until_got(f, &patient);
	assert_string_equal(patient.text, "::1 127.0.0.1");
}

/* At the deadline what is there is better than nothing. */
static void
test_deadline_within_the_grace(void **state)
{
	struct fixture *f = *state;
	struct got g = { 0 };
	uint64_t now = clock_now_ms();

	clock_fake(now, 0);
	assert_non_null(resolve_start(f->resolver, "slow6.test", 10, on_got, &g));
	run_until_queries(f, "slow6.test", 2);
	run_a_while(f);
	assert_int_equal(g.calls, 0);
	clock_fake(now + 10 + WHEEL_TICK_MS, 0);
	run_until_got(f, &g);
	assert_string_equal(g.text, "127.0.0.1");
}

static void
test_cancel(void **state)
{
	struct fixture *f = *state;
	struct got g[6], after;
	struct resolve *q = start(f, "held.test", &g[0]);

	resolve_cancel(q);                             /* asked, not sent */
	q = start(f, "held.test", &g[1]);              /* joined */
	start(f, "held.test", &after);
	run_until_queries(f, "held.test", 2);
	resolve_cancel(q);                             /* sent */
	q = start(f, "slow6.test", &g[2]);
	run_until_queries(f, "slow6.test", 2);
	loop_turn(f->loop, 2);
	resolve_cancel(q);                             /* half answered, the only one who waits */
	assert_int_equal(name_server_release(f->server), 3);
	run_until_got(f, &after);
	q = start(f, "held.test", &g[3]);
	resolve_cancel(q);                             /* ready: out of the cache */
	q = start(f, "a..test", &g[4]);
	resolve_cancel(q);                             /* ready: refused */
	q = start(f, "localhost", &g[5]);
	resolve_cancel(q);                             /* ready: out of hosts */
	resolve_cancel(NULL);
	run_a_while(f);
	for (size_t i = 0; i < ARRAY_LEN(g); i++)
		assert_int_equal(g[i].calls, 0);
	assert_string_equal(known(f, "slow6.test"), "::1 127.0.0.1");  /* was worth keeping */
}

struct meddler {
	struct fixture *f;
	struct resolve *victims[2];
	struct got started[2];
	unsigned calls;
	bool frees;
};

static void
on_meddle(enum dns_error err, const struct endpoint *addrs, size_t n, void *arg)
{
	struct meddler *m = arg;
	(void)err, (void)addrs, (void)n;
	m->calls++;
	for (size_t i = 0; i < ARRAY_LEN(m->victims); i++)
		resolve_cancel(m->victims[i]);
	start(m->f, "both.test", &m->started[0]);
	start(m->f, "a..test", &m->started[1]);
	if (m->frees) {
		resolver_free(m->f->resolver);
		m->f->resolver = NULL;
	}
}

static void
test_meddling_from_inside(void **state)
{
	struct fixture *f = *state;
	struct meddler m = { .f = f };
	struct got victims[2], between, last;

	assert_non_null(resolve_start(f->resolver, "held.test", LONG_MS, on_meddle, &m));
	m.victims[0] = start(f, "held.test", &victims[0]);     /* ready in the same turn */
	start(f, "held.test", &between);
	m.victims[1] = start(f, "slow4only.test", &victims[1]);        /* still waiting */
	run_until_queries(f, "held.test", 2);
	run_until_queries(f, "slow4only.test", 2);
	start(f, "held.test", &last);
	name_server_release(f->server);
	run_until_got(f, &last);
	run_until_got(f, &m.started[0]);
	run_a_while(f);
	assert_int_equal(m.calls, 1);
	assert_int_equal(between.calls, 1);
	assert_int_equal(victims[0].calls + victims[1].calls, 0);
	assert_int_equal(m.started[0].calls, 1);
	assert_int_equal(m.started[1].calls, 1);
}

static void
test_free_from_inside(void **state)
{
	struct fixture *f = *state;
	struct meddler m = { .f = f, .frees = true };
	struct got behind, waiting;

	assert_non_null(resolve_start(f->resolver, "held.test", LONG_MS, on_meddle, &m));
	start(f, "held.test", &behind);                /* ready in the same turn, never told */
	start(f, "silent.test", &waiting);
	run_until_queries(f, "held.test", 2);
	name_server_release(f->server);
	for (int turns = 0; m.calls == 0; turns++) {
		assert_true(turns < 1000);
		loop_turn(f->loop, 20);
	}
	run_a_while(f);
	assert_int_equal(m.calls, 1);
	assert_int_equal(behind.calls + waiting.calls + m.started[0].calls + m.started[1].calls, 0);
}

static void
test_free_with_look_ups_under_way(void **state)
{
	struct fixture *f = *state;
	struct got g[5];

	look_up(f, "both.test", &g[0]);
	start(f, "held.test", &g[0]);
	start(f, "held.test", &g[1]);
	start(f, "slow6.test", &g[2]);
	run_until_queries(f, "slow6.test", 2);
	run_a_while(f);                                /* within the grace, or just after it */
	g[2].calls = 0;
	start(f, "both.test", &g[3]);                  /* ready */
	start(f, "v4.test", &g[4]);                    /* just asked */
	resolver_free(f->resolver);
	f->resolver = NULL;
	name_server_release(f->server);
	run_a_while(f);
	for (size_t i = 0; i < ARRAY_LEN(g); i++)
		assert_int_equal(g[i].calls, 0);
	resolver_free(NULL);
}

static void
test_bounds(void **state)
{
	enum { WAITERS = 1024, NAMES = 4096 };
	struct fixture *f = *state;
	struct got refused, one_more;
	char name[32];

	struct got *g = calloc(WAITERS, sizeof *g);
	assert_non_null(g);
	for (size_t i = 0; i < WAITERS; i++)           /* those who left don't count */
		resolve_cancel(start(f, "held.test", &g[i]));
	for (size_t i = 0; i < WAITERS; i++)
		start(f, "held.test", &g[i]);
	start(f, "held.test", &refused);
	run_until_got(f, &refused);
	assert_int_equal(refused.err, DNS_FAILED);
	for (unsigned i = 1; i < NAMES; i++) {
		snprintf(name, sizeof name, "n%u.test", i);
		resolve_cancel(start(f, name, &one_more));
	}
	look_up(f, "one-more.test", &one_more);
	assert_int_equal(one_more.err, DNS_FAILED);
	run_until_queries(f, "held.test", 2);
	name_server_release(f->server);
	for (size_t i = 0; i < WAITERS; i++)
		run_until_got(f, &g[i]);
	assert_string_equal(look_up(f, "both.test", &one_more), "::1 127.0.0.1");      /* there is room again */
	free(g);
}

static void
test_families(void **state)
{
	static const struct { enum dns_family family; const char *name, *want; } cases[] = {
		{ DNS_IPV4, "both.test", "127.0.0.1 ::1" },
		{ DNS_IPV6, "both.test", "::1 127.0.0.1" },
		{ DNS_IPV4, "v6.test", "::1" },
		{ DNS_IPV4_ONLY, "both.test", "127.0.0.1" },
		{ DNS_IPV4_ONLY, "v6.test", "name not found" },
		{ DNS_IPV6_ONLY, "both.test", "::1" },
		{ DNS_IPV6_ONLY, "v4.test", "name not found" },
		{ DNS_IPV6_ONLY, "mapped.test", "name not found" },
		{ DNS_IPV4_ONLY, "localhost.", "name not found" },
	};
	struct fixture *f = *state;
	struct got g;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		resolver_free(f->resolver);
		f->conf.family = cases[i].family;
		open_resolver(f);
		unsigned unwanted = cases[i].family == DNS_IPV4_ONLY ? TYPE_AAAA : TYPE_A;
		unsigned before = name_server_queries(f->server, NULL, (uint16_t)unwanted);
		if (strcmp(look_up(f, cases[i].name, &g), cases[i].want) != 0)
			fail_msg("%s, case %zu: %s, not %s", cases[i].name, i, g.text, cases[i].want);
		assert_string_equal(known(f, cases[i].name), i + 1 < ARRAY_LEN(cases) ? cases[i].want : "?");
		if (cases[i].family == DNS_IPV4_ONLY || cases[i].family == DNS_IPV6_ONLY)
			assert_int_equal(name_server_queries(f->server, NULL, (uint16_t)unwanted), before);
	}
}

static void
test_hosts(void **state)
{
	struct fixture *f = *state;
	struct endpoint addrs[2];
	struct policy_dns_host hosts[] = {
		{ .name = "both.test", .addrs = addrs, .n_addrs = 2 },
		{ .name = "v4.test", .addrs = addrs, .n_addrs = 1 },
	};
	struct counters counted = { 0 };
	struct got g;

	assert_int_equal(endpoint_set_host(&addrs[0], "0x7f.9", 6), ENDPOINT_OK);
	assert_int_equal(endpoint_set_host(&addrs[1], "::2", 3), ENDPOINT_OK);
	resolver_free(f->resolver);
	f->conf.hosts = hosts;
	f->conf.n_hosts = ARRAY_LEN(hosts);
	f->conf.family = DNS_IPV4;
	open_resolver(f);
	resolver_count_in(f->resolver, &counted);
	assert_string_equal(known(f, "both.test"), "127.0.0.9 ::2");
	assert_string_equal(look_up(f, "both.test", &g), "127.0.0.9 ::2");
	assert_string_equal(look_up(f, "v4.test", &g), "127.0.0.9");
	assert_int_equal(name_server_queries(f->server, NULL, 0), 0);
	for (enum counter c = 0; c < COUNTER_N; c++)
		assert_int_equal(counter_get(&counted, c), 0);
	resolver_free(f->resolver);
	f->resolver = NULL;
}

static void
test_rules(void **state)
{
	static const struct scene of_corp[] = { { "x.corp.test", TYPE_A, PLAY_ANSWER, 0, "x.corp.test A 60 10.1.0.1" } };
	static const struct scene of_lab[] = { { "x.lab.corp.test", TYPE_A, PLAY_ANSWER, 0, "x.lab.corp.test A 60 10.2.0.1" } };
	static const struct { const char *name; int server; } names[] = {
		{ "corp.test", 1 }, { "x.corp.test", 1 }, { "a.b.corp.test", 1 }, { "xcorp.test", 0 }, { "corp.test.x", 0 },
		{ "test", 0 }, { "lab.corp.test", 2 }, { "x.lab.corp.test", 2 }, { "xlab.corp.test", 1 }, { "other", 0 },
	};
	struct fixture *f = *state;
	struct name_server *servers[] = {
		f->server,
		name_server_start(f->loop, of_corp, ARRAY_LEN(of_corp)),
		name_server_start(f->loop, of_lab, ARRAY_LEN(of_lab)),
	};
	struct endpoint corp = name_server_at(servers[1]), lab = name_server_at(servers[2]);
	const char *corp_suffixes[] = { "corp.test" }, *lab_suffixes[] = { "corp.test", "lab.corp.test" };
	struct policy_dns_rule rules[] = {
		{ .suffixes = corp_suffixes, .n_suffixes = 1, .servers = &corp, .n_servers = 1 },
		{ .suffixes = lab_suffixes, .n_suffixes = 2, .servers = &lab, .n_servers = 1 },
	};
	struct got g;

	resolver_free(f->resolver);
	f->conf.rules = rules;
	f->conf.n_rules = ARRAY_LEN(rules);
	open_resolver(f);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		look_up(f, names[i].name, &g);
		for (int k = 0; k < 3; k++) {
			if (name_server_queries(servers[k], names[i].name, 0) != (k == names[i].server ? 2 : 0))
				fail_msg("%s: server %d has %u queries", names[i].name, k,
					 name_server_queries(servers[k], names[i].name, 0));
		}
	}
	assert_string_equal(known(f, "x.corp.test"), "10.1.0.1");
	assert_string_equal(known(f, "x.lab.corp.test"), "10.2.0.1");
	resolver_free(f->resolver);
	f->resolver = NULL;
	name_server_stop(servers[1]);
	name_server_stop(servers[2]);
}

static void
test_reconfigure_with_the_same_servers(void **state)
{
	struct fixture *f = *state;
	struct policy_dns next = f->conf;
	struct got before, after;

	look_up(f, "both.test", &before);
	start(f, "held.test", &before);
	next.timeout_ms = 1234;
	next.family = DNS_IPV4;
	assert_true(resolver_reconfigure(f->resolver, &next));
	memset(&f->conf, 0xff, sizeof f->conf);        /* nobody looks at the old one any more */
	assert_string_equal(known(f, "both.test"), "127.0.0.1 ::1");
	start(f, "held.test", &after);                 /* asks anew */
	run_until_queries(f, "held.test", 4);
	name_server_release(f->server);
	run_until_got(f, &before);
	run_until_got(f, &after);
	assert_string_equal(before.text, "::1 127.0.0.1");     /* as begun */
	assert_string_equal(after.text, "127.0.0.1 ::1");
	assert_string_equal(known(f, "held.test"), "127.0.0.1 ::1");
	resolver_free(f->resolver);
	f->resolver = NULL;
}

static void
test_reconfigure_with_other_servers(void **state)
{
	static const struct scene others[] = {
		{ "both.test", TYPE_A, PLAY_ANSWER, 0, "both.test A 60 10.9.0.1" },
		{ "held.test", TYPE_A, PLAY_ANSWER, 0, "held.test A 60 10.9.0.2" },
	};
	struct fixture *f = *state;
	struct name_server *other = name_server_start(f->loop, others, ARRAY_LEN(others));
	struct endpoint at = name_server_at(other);
	struct policy_dns next = f->conf;
	struct got before, after;

	look_up(f, "both.test", &before);
	start(f, "held.test", &before);
	run_until_queries(f, "held.test", 2);
	next.servers = &at;
	assert_true(resolver_reconfigure(f->resolver, &next));
	assert_string_equal(known(f, "both.test"), "?");
	name_server_release(f->server);
	run_until_got(f, &before);
	assert_string_equal(before.text, "::1 127.0.0.1");     /* as begun */
	assert_string_equal(known(f, "held.test"), "?");       /* but it's no longer what the servers say */
	assert_string_equal(look_up(f, "held.test", &after), "10.9.0.2");
	assert_string_equal(look_up(f, "both.test", &after), "10.9.0.1");
	at.kind = ENDPOINT_NAME;                               /* no server at all: refused, nothing changes */
	assert_false(resolver_reconfigure(f->resolver, &next));
	assert_null(resolver_new(f->loop, &next));
	assert_string_equal(known(f, "both.test"), "10.9.0.1");
	resolver_free(f->resolver);
	f->resolver = NULL;
	name_server_stop(other);
}

static void
on_each(const char *name, const struct endpoint *addrs, size_t n, uint64_t ttl_ms, void *arg)
{
	char *text = arg, one[256];
	addresses_text(addrs, n, one, sizeof one);
	snprintf(text + strlen(text), 1024 - strlen(text), "%s [%s] %llu; ", name, one, (unsigned long long)ttl_ms);
}

static void
test_cache_for_the_api(void **state)
{
	struct fixture *f = *state;
	char text[1024] = "";
	struct got g;

	clock_fake(clock_now_ms(), 0);
	look_up(f, "nxdomain.test", &g);
	look_up(f, "v4.test", &g);                             /* that it has no AAAA is known for 5 s */
	look_up(f, "v6.test", &g);
	look_up(f, "both.test", &g);
	look_up(f, "servfail.test", &g);
	resolver_cache_each(f->resolver, on_each, text);
	assert_string_equal(text, "both.test [127.0.0.1 ::1] 60000; v6.test [::1] 60000; v4.test [10.0.0.1 10.0.0.2] 60000; nxdomain.test [] 5000; ");
	assert_int_equal(resolver_cache_drop(f->resolver, "both.test"), 1);
	assert_int_equal(resolver_cache_drop(f->resolver, "both.test"), 0);
	assert_string_equal(known(f, "both.test"), "?");
	assert_int_equal(resolver_cache_drop(f->resolver, NULL), 3);
	text[0] = '\0';
	resolver_cache_each(f->resolver, on_each, text);
	assert_string_equal(text, "");
}

int
main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_outcomes),
		CASE(test_no_answer),
		CASE(test_names_not_asked),
		CASE(test_cached),
		CASE(test_cache_runs_out),
		CASE(test_only_the_unknown_is_asked),
		CASE(test_shared),
		CASE(test_late_answers),
		CASE(test_answer_within_the_grace),
		CASE(test_no_grace_without_addresses),
		CASE(test_own_deadline),
		CASE(test_deadline_within_the_grace),
		CASE(test_cancel),
		CASE(test_meddling_from_inside),
		CASE(test_free_from_inside),
		CASE(test_free_with_look_ups_under_way),
		CASE(test_bounds),
		CASE(test_families),
		CASE(test_hosts),
		CASE(test_rules),
		CASE(test_reconfigure_with_the_same_servers),
		CASE(test_reconfigure_with_other_servers),
		CASE(test_cache_for_the_api),
	};
	hash_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
