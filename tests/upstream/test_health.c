/*
 * Tests of upstream/health against scripted SOCKS5 proxies on loopback and a clock that the tests
 * move: when checks are made, what they say, whom they blame, and what a reload keeps.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/loop.h"
#include "dns/resolver.h"
#include "upstream/health.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- a proxy ---- */

enum { CONNECTIONS_MAX = 8, HOPS_MAX = 3, STALL = 0xff, STEP_MS = 32 };

struct connection {
	int fd;                                /* -1: free */
	unsigned hop;                          /* CONNECTs that were granted */
	bool greeted;
	size_t len;
	uint8_t in[512];
};

/*
 * Speaks SOCKS5 without authentication; one connection plays all hops of a chain. It answers the
 * nth CONNECT of each connection with reps[n]; STALL: not at all.
 */
struct proxy {
	int listener;                          /* -1: nobody listens */
	uint16_t port;
	uint8_t reps[HOPS_MAX];
	struct connection connections[CONNECTIONS_MAX];
	unsigned accepted, open, most_open;
	unsigned clean, broken;                /* ended by FIN, by a reset */
	size_t bytes;                          /* that came on all connections */
	uint8_t last[512];                     /* the last request */
	const char *answer;                    /* of the web server behind it; NULL: none is there */
	bool says_nothing;                     /* the web server */
	char asked[512];                       /* what that was asked last */
};

static void
proxy_open(struct proxy *p)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(p->port) };
	socklen_t len = sizeof at;
	int on = 1;
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	p->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_true(p->listener >= 0);
	setsockopt(p->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	assert_int_equal(bind(p->listener, (struct sockaddr *)&at, sizeof at), 0);
	assert_int_equal(listen(p->listener, 16), 0);
	assert_int_equal(getsockname(p->listener, (struct sockaddr *)&at, &len), 0);
	p->port = ntohs(at.sin_port);
}

/* From now on connections are refused. */
static void
proxy_close(struct proxy *p)
{
	if (p->listener >= 0)
		close(p->listener);
	p->listener = -1;
}

static void
proxy_start(struct proxy *p)
{
	*p = (struct proxy){ .listener = -1 };
	for (int i = 0; i < CONNECTIONS_MAX; i++)
		p->connections[i].fd = -1;
	proxy_open(p);
}

static void
drop_connection(struct proxy *p, struct connection *c)
{
	close(c->fd);
	c->fd = -1;
	p->open--;
}

static void
proxy_stop(struct proxy *p)
{
	proxy_close(p);
	for (int i = 0; i < CONNECTIONS_MAX; i++) {
		if (p->connections[i].fd >= 0)
			drop_connection(p, &p->connections[i]);
	}
}

static void
accept_all(struct proxy *p)
{
	for (int i = 0; i < CONNECTIONS_MAX && p->listener >= 0; i++) {
		struct connection *c = &p->connections[i];
		if (c->fd >= 0)
			continue;
		int fd = accept4(p->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		*c = (struct connection){ .fd = fd };
		p->accepted++;
		if (++p->open > p->most_open)
			p->most_open = p->open;
	}
}

static void
answer(struct proxy *p, struct connection *c)
{
	uint8_t rep = p->reps[c->hop];
	const uint8_t reply[10] = { 5, rep, 0, 1 };
	memcpy(p->last, c->in, sizeof p->last);
	c->len = 0;
	if (rep == STALL)
		return;
	assert_int_equal(send(c->fd, reply, sizeof reply, MSG_NOSIGNAL), sizeof reply);
	c->hop++;
	c->greeted = false;
}

/* The web server behind the proxy: it answers and ends. */
static void
serve(struct proxy *p, struct connection *c)
{
	if (c->len < 4 || memcmp(c->in + c->len - 4, "\r\n\r\n", 4) != 0)
		return;
	size_t asked = c->len < sizeof p->asked ? c->len : sizeof p->asked - 1;
	memcpy(p->asked, c->in, asked);
	p->asked[asked] = '\0';
	c->len = 0;
	if (p->says_nothing)
		return;
	size_t len = strlen(p->answer);
	assert_int_equal(send(c->fd, p->answer, len, MSG_NOSIGNAL), len);
	shutdown(c->fd, SHUT_WR);
}

/* A greeting has 3 bytes (one method), or 4; a request to an IPv4 address 10, to a name as many as
 * it says. */
static void
converse(struct proxy *p, struct connection *c)
{
	static const uint8_t no_authentication[] = { 5, 0 };
	if (c->hop > 0 && p->answer != NULL) {
		serve(p, c);
	} else if (!c->greeted && c->len >= 3) {
		assert_int_equal(c->in[0], 5);
		assert_int_equal(send(c->fd, no_authentication, 2, MSG_NOSIGNAL), 2);
		c->greeted = true;
		c->len = 0;
	} else if (c->greeted && c->len >= 7 && c->len >= (c->in[3] == 1 ? 10u : 7u + c->in[4])) {
		answer(p, c);
	}
}

/* Ends are seen before beginnings, so that one connection after another is not taken for two at
 * once. */
static void
proxy_work(struct proxy *p)
{
	for (int i = 0; i < CONNECTIONS_MAX; i++) {
		struct connection *c = &p->connections[i];
		ssize_t n = c->fd < 0 ? -1 : recv(c->fd, c->in + c->len, sizeof c->in - c->len, 0);
		if (n > 0) {
			c->len += (size_t)n;
			p->bytes += (size_t)n;
			converse(p, c);
		} else if (c->fd >= 0 && (n == 0 || errno != EAGAIN)) {
			*(n == 0 ? &p->clean : &p->broken) += 1;
			drop_connection(p, c);
		}
	}
	accept_all(p);
}

/* ---- the trial ---- */

enum { PROXIES = 2 };

struct trial {
	struct proxy proxies[PROXIES];
	struct board *board;
	struct loop *loop;
	struct policy *policy;                 /* whose dns block the resolver has */
	struct resolver *resolver;
	struct dialer *dialer;
	struct health *health;
	struct fleet *fleet;
	uint64_t now;
	char told[512];                        /* "a:up b:down " */
};

static void
on_change(const char *upstream, enum upstream_state before, enum upstream_state now,
	  const char *why, void *arg)
{
	static const char *const names[] = { "unknown", "up", "down", "ejected" };
	struct trial *t = arg;
	size_t len = strlen(t->told);
	assert_int_not_equal(before, now);
	assert_true(why[0] != '\0');
	snprintf(t->told + len, sizeof t->told - len, "%s:%s ", upstream, names[now]);
}

/* `a` and `b` stand for the proxies' ports in what follows "upstreams". */
static struct policy *
load(struct trial *t, const char *rest)
{
	char text[4096];
	struct policy_errors errors;
	snprintf(text, sizeof text,
	         "{ \"upstreams\": [{ \"name\": \"a\", \"url\": \"socks5://127.0.0.1:%u\" },"
	         "{ \"name\": \"b\", \"url\": \"socks5://127.0.0.1:%u\" }],"
	         "\"listeners\": [{ \"listen\": \"127.0.0.1:1080\" }], %s }",
	         t->proxies[0].port, t->proxies[1].port, rest);
	policy_errors_init(&errors);
	const struct policy_source from = { .text = text, .len = strlen(text), .name = "test" };
	struct policy *p = policy_load(&from, &errors);
	if (p == NULL) {
		char *all = policy_errors_to_text(&errors, "test");
		print_error("%s", all);
		free(all);
	}
	policy_errors_free(&errors);
	assert_non_null(p);
	return p;
}

static void
use(struct trial *t, const char *rest)
{
	char why[256] = "";
	struct policy *p = load(t, rest);
	struct fleet *before = t->fleet;
	t->fleet = fleet_new(p, t->board, why, sizeof why);
	assert_non_null(t->fleet);
	policy_unref(p);
	health_use(t->health, t->fleet);
	fleet_unref(before);
}

static int
set_up(void **state)
{
	struct trial *t = calloc(1, sizeof *t);
	t->now = 100000;
	clock_fake(t->now, 1000);
	for (int i = 0; i < PROXIES; i++)
		proxy_start(&t->proxies[i]);
	t->loop = loop_new();
	t->board = board_new();
	t->policy = load(t, "\"default_route\": \"direct\"");
	t->resolver = resolver_new(t->loop, &t->policy->dns);
	t->dialer = dialer_new(t->loop, t->resolver);
	t->health = health_new(t->loop, t->dialer, on_change, t);
	*state = t;
	return 0;
}

static int
tear_down(void **state)
{
	struct trial *t = *state;
	health_free(t->health);
	fleet_unref(t->fleet);
	size_t left = board_count(t->board);
	dialer_free(t->dialer);
	resolver_free(t->resolver);
	policy_unref(t->policy);
	loop_free(t->loop);
	for (int i = 0; i < PROXIES; i++)
		proxy_stop(&t->proxies[i]);
	if (left == 0)
		board_free(t->board);
	clock_fake_stop();
	free(t);
	return left == 0 ? 0 : -1;
}

/* Time goes on in steps; in each, both sides say all that they have to say. */
static void
run(struct trial *t, uint64_t ms)
{
	for (uint64_t end = t->now + ms; t->now < end;) {
		t->now += STEP_MS;
		clock_fake(t->now, (int64_t)t->now);
		for (int i = 0; i < 12; i++) {
			loop_turn(t->loop, 0);
			for (int p = 0; p < PROXIES; p++)
				proxy_work(&t->proxies[p]);
		}
	}
}

/* Until the proxy has been asked n times more. */
static void
run_checks(struct trial *t, const struct proxy *p, unsigned n)
{
	unsigned end = p->accepted + n;
	for (int i = 0; i < 10000 && p->accepted < end; i++)
		run(t, STEP_MS);
	assert_int_equal(p->accepted, end);
	run(t, STEP_MS);
}

static struct board_entry *
entry(const struct trial *t, const char *name)
{
	struct policy_route r;
	assert_true(policy_find_route(fleet_policy(t->fleet), name, &r));
	return fleet_upstream(t->fleet, r.index);
}

static const char *
state_of(const struct trial *t, const char *name)
{
	return board_state_text(entry(t, name));
}

/* Until so many checks in a row had the same result. */
static void
run_until_streak(struct trial *t, const char *name, unsigned n)
{
	for (int i = 0; i < 10000 && atomic_load(&entry(t, name)->check_streak) != n; i++)
		run(t, STEP_MS);
	assert_int_equal(atomic_load(&entry(t, name)->check_streak), n);
}

#define POOL_OF(members, health)                                                                   \
	"\"pools\": [{ \"name\": \"p\", \"members\": [" members "], \"health\": {" health          \
	"} }], \"default_route\": \"p\""
#define CONNECT                                                                                    \
	"\"check\": \"connect\", \"interval\": \"2s\", \"timeout\": \"1s\", \"rise\": 2, "         \
	"\"fall\": 3"
#define TUNNEL                                                                                     \
	"\"check\": \"tunnel\", \"target\": \"target.example:80\", \"interval\": \"2s\", "         \
	"\"timeout\": \"1s\", \"rise\": 2, \"fall\": 3"

/* ---- what a check says ---- */

static void
test_connect(void **state)
{
	struct trial *t = *state;
	struct proxy *a = &t->proxies[0];
	use(t, POOL_OF("\"a\"", CONNECT));
	assert_string_equal(state_of(t, "a"), "unknown");
	assert_true(fleet_route_usable(t->fleet, fleet_policy(t->fleet)->default_route));
	run(t, 1100);                          /* the first round is over within a second */
	assert_int_equal(a->accepted, 1);
	assert_string_equal(t->told, "a:up ");
	assert_string_equal(state_of(t, "a"), "up");
	assert_int_equal(atomic_load(&entry(t, "a")->check_verdict), VERDICT_GRANTED);
	assert_true(atomic_load(&entry(t, "a")->check_at_ms) > 100000);
	run_checks(t, a, 3);
	assert_int_equal(atomic_load(&entry(t, "a")->check_streak), 4);
	run(t, 500);
	assert_int_equal(a->clean, 4);
	assert_int_equal(a->broken, 0);
	assert_int_equal(a->bytes, 0);         /* nothing is said */
	assert_string_equal(t->told, "a:up ");
	assert_int_equal(board_in_use(entry(t, "a")), 0);
}

static void
test_fall_and_rise(void **state)
{
	struct trial *t = *state;
	struct proxy *a = &t->proxies[0];
	proxy_close(a);
	use(t, POOL_OF("\"a\"", CONNECT));
	run_until_streak(t, "a", 2);
	assert_string_equal(state_of(t, "a"), "unknown");
	run_until_streak(t, "a", 3);
	assert_string_equal(t->told, "a:down ");
	assert_int_not_equal(atomic_load(&entry(t, "a")->check_verdict), VERDICT_GRANTED);
	assert_false(fleet_route_usable(t->fleet, fleet_policy(t->fleet)->default_route));
	proxy_open(a);
	run_checks(t, a, 1);
	assert_string_equal(state_of(t, "a"), "down");
	proxy_close(a);
	for (int i = 0; i < 1000 && atomic_load(&entry(t, "a")->check_verdict) == VERDICT_GRANTED;
	     i++)
		run(t, STEP_MS);
	proxy_open(a);
	run_checks(t, a, 1);                   /* two, but not in a row */
	assert_string_equal(state_of(t, "a"), "down");
	run_checks(t, a, 1);
	assert_string_equal(t->told, "a:down a:up ");
	assert_true(fleet_route_usable(t->fleet, fleet_policy(t->fleet)->default_route));
}

static void
test_tunnel(void **state)
{
	struct trial *t = *state;
	struct proxy *a = &t->proxies[0];
	use(t, POOL_OF("\"a\"", TUNNEL));
	run_checks(t, a, 1);
	assert_string_equal(t->told, "a:up ");
	assert_memory_equal(a->last, "\x05\x01\x00\x03\x0etarget.example\x00\x50", 21);
	run(t, 1100);
	assert_int_equal(a->clean, 1);
	assert_int_equal(a->broken, 0);
	a->reps[0] = 5;                        /* an exit that can't reach the target is none */
	run_checks(t, a, 2);
	assert_string_equal(state_of(t, "a"), "up");
	run_checks(t, a, 1);
	assert_string_equal(state_of(t, "a"), "down");
	assert_int_equal(atomic_load(&entry(t, "a")->check_verdict), VERDICT_REFUSED);
	a->reps[0] = 0;
	run_checks(t, a, 2);
	assert_string_equal(t->told, "a:up a:down a:up ");
}

/* The greeting, and not a word more. */
static void
test_handshake(void **state)
{
	struct trial *t = *state;
	struct proxy *a = &t->proxies[0];
	use(t, POOL_OF("\"a\"", "\"check\": \"handshake\", \"interval\": \"2s\", \"fall\": 1"));
	run_checks(t, a, 1);
	run(t, 500);
	assert_string_equal(t->told, "a:up ");
	assert_int_equal(a->bytes, 3);
	assert_int_equal(a->clean, 1);
	proxy_close(a);
	run(t, 3000);
	assert_string_equal(t->told, "a:up a:down ");
}

#define HTTP(more)                                                                                 \
	"\"check\": \"http\", \"target\": \"http://web.example:8080/health\", \"interval\": \"1s\", "   \
	"\"timeout\": \"1s\", \"fall\": 1, \"rise\": 1" more

static void
test_http(void **state)
{
	static const struct {
		const char *more, *answer;
		bool good;
	} trials[] = {
	    {"", "HTTP/1.1 200 OK\r\n\r\n", true},
	    {"", "HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n", true},
	    {"", "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 204 None\r\n\r\n", true},
	    {"", "HTTP/1.1 404 Not Found\r\n\r\n", false},
	    {"", "SSH-2.0-x\r\n", false},
	    {"", "", false},
	    {", \"expect\": 404", "HTTP/1.1 404 Not Found\r\n\r\n", true},
	    {", \"expect\": [\"200-299\", 404]", "HTTP/1.1 503 Busy\r\n\r\n", false},
	    {", \"expect\": {\"body\": \"fine\"}", "HTTP/1.1 200 OK\r\nA: fine\r\n\r\nall is fi",
	     false},
	    {", \"expect\": {\"body\": \"fine\"}", "HTTP/1.1 200 OK\r\n\r\nall is fine.", true},
	    {", \"expect\": {\"body\": \"fine\", \"status\": 201}",
	     "HTTP/1.1 200 OK\r\n\r\nall is fine.", false},
	};
	struct trial *t = *state;
	struct proxy *a = &t->proxies[0];
	for (size_t i = 0; i < ARRAY_LEN(trials); i++) {
		char pool[512];
		snprintf(pool, sizeof pool, POOL_OF("\"a\"", "%s%s"), HTTP(""), trials[i].more);
		use(t, "\"default_route\": \"direct\"");
		t->told[0] = '\0';
		a->answer = trials[i].answer;
		use(t, pool);
		run(t, 2500);
		if (strncmp(t->told, trials[i].good ? "a:up " : "a:down ", 5) != 0)
			fail_msg("%s: %s: %s", trials[i].more, trials[i].answer, t->told);
		assert_non_null(strstr(a->asked, "GET /health HTTP/1.0\r\nHost: web.example:8080\r\n"));
	}
}

static void
test_http_server_that_says_nothing(void **state)
{
	struct trial *t = *state;
	struct proxy *a = &t->proxies[0];
	a->answer = "";
	a->says_nothing = true;
	use(t, POOL_OF("\"a\"", HTTP(", \"method\": \"HEAD\", \"host\": \"other\"")));
	run_checks(t, a, 1);
	assert_int_equal(atomic_load(&entry(t, "a")->check_at_ms), 0);
	run(t, 1100);
	assert_string_equal(t->told, "a:down ");
	assert_memory_equal(a->asked, "HEAD /health HTTP/1.0\r\nHost: other\r\n", 36);
	assert_in_range(atomic_load(&entry(t, "a")->check_us), 1000000, 1100000);
}

static void
test_silence_ends_with_the_timeout(void **state)
{
	struct trial *t = *state;
	struct proxy *a = &t->proxies[0];
	a->reps[0] = STALL;
	use(t, POOL_OF("\"a\"", "\"check\": \"tunnel\", \"target\": \"10.0.0.1:80\", \"interval\": "
				"\"1s\", \"timeout\": \"3s\", \"fall\": 2"));
	run_checks(t, a, 1);
	run(t, 2500);
	assert_int_equal(a->accepted, 1);
	assert_int_equal(atomic_load(&entry(t, "a")->check_at_ms), 0);
	run(t, 1000);
	assert_int_not_equal(atomic_load(&entry(t, "a")->check_verdict), VERDICT_GRANTED);
	assert_in_range(atomic_load(&entry(t, "a")->check_us), 3000000, 3100000);
	run(t, 30000);
	assert_string_equal(t->told, "a:down ");
	assert_int_equal(a->most_open, 1);     /* never a second one beside it */
	assert_in_range(a->accepted, 8, 12);
}

static void
test_own_trouble_is_nobodys_fault(void **state)
{
	struct trial *t = *state;
	struct rlimit limit, none;
	use(t, POOL_OF("\"a\"", "\"check\": \"connect\", \"interval\": \"1s\", \"fall\": 1"));
	run_checks(t, &t->proxies[0], 1);
	run(t, 500);
	int64_t at = atomic_load(&entry(t, "a")->check_at_ms);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	run(t, 5000);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_string_equal(t->told, "a:up ");
	assert_true(atomic_load(&entry(t, "a")->check_at_ms) == at);
	run_checks(t, &t->proxies[0], 1);
}

/* ---- chains ---- */

#define CHAIN_POOL                                                                                 \
	"\"chains\": [{ \"name\": \"c\", \"hops\": [\"a\", \"b\"] }],"                             \
	"\"pools\": [{ \"name\": \"p\", \"members\": [\"c\"], \"health\": {" TUNNEL                \
	"} }], \"default_route\": \"p\""

static void
test_fault_in_a_chain(void **state)
{
	struct trial *t = *state;
	struct proxy *a = &t->proxies[0];
	use(t, CHAIN_POOL);
	run_checks(t, a, 1);
	assert_string_equal(t->told, "a:up b:up ");
	assert_int_equal(t->proxies[1].accepted, 0);   /* reached through a */
	a->reps[0] = 5;                        /* a says: b refuses */
	run_checks(t, a, 3);
	assert_string_equal(t->told, "a:up b:up b:down ");
	assert_int_equal(atomic_load(&entry(t, "a")->check_verdict), VERDICT_GRANTED);
	a->reps[0] = 0;
	run_checks(t, a, 2);
	assert_string_equal(state_of(t, "b"), "up");
	t->told[0] = '\0';
	a->reps[1] = 4;                        /* b can't reach the target */
	run_checks(t, a, 3);
	assert_string_equal(t->told, "b:down ");
	a->reps[1] = 0;
	run_checks(t, a, 2);
	assert_string_equal(t->told, "b:down b:up ");
	proxy_close(a);                        /* a is gone, nothing is known of b */
	run(t, 8000);
	assert_string_equal(t->told, "b:down b:up a:down ");
	assert_int_equal(atomic_load(&entry(t, "b")->check_verdict), VERDICT_GRANTED);
	assert_false(fleet_route_usable(t->fleet, fleet_policy(t->fleet)->default_route));
	proxy_open(a);
	run_checks(t, a, 2);
	assert_true(fleet_route_usable(t->fleet, fleet_policy(t->fleet)->default_route));
}

static void
test_connect_through_a_chain(void **state)
{
	struct trial *t = *state;
	struct proxy *a = &t->proxies[0];
	use(t, "\"chains\": [{ \"name\": \"c\", \"hops\": [\"a\", \"p\"] }],"
	       "\"pools\": [{ \"name\": \"p\", \"members\": [\"b\"], \"health\": {" CONNECT
	       "} }], \"default_route\": \"c\"");
	run_checks(t, a, 1);
	assert_string_equal(t->told, "a:up b:up ");
	assert_int_equal(t->proxies[1].accepted, 0);
	run(t, 200);
	assert_int_equal(a->bytes, 3 + 10);    /* a's handshake, and not a word to b */
	a->reps[0] = 1;
	run_checks(t, a, 3);
	assert_string_equal(t->told, "a:up b:up a:down ");     /* REP 1 blames none but a */
}

/* ---- when ---- */

static void
test_interval_with_jitter(void **state)
{
	struct trial *t = *state;
	struct proxy *a = &t->proxies[0], *b = &t->proxies[1];
	use(t, POOL_OF("\"a\", \"b\"", "\"check\": \"connect\", \"interval\": \"1s\", \"timeout\": "
				       "\"1s\", \"jitter\": \"50%\""));
	run(t, 1100);
	assert_in_range(a->accepted, 1, 3);
	assert_in_range(b->accepted, 1, 3);
	bool together = true;
	for (int i = 0; i < 200; i++) {
		unsigned was_a = a->accepted, was_b = b->accepted;
		run(t, 500);
		together = together && (a->accepted > was_a) == (b->accepted > was_b);
	}
	assert_false(together);
	assert_in_range(a->accepted, 90, 112);
	assert_in_range(b->accepted, 90, 112);
	assert_int_equal(a->most_open, 1);
}

/* A member that is down, or about to be, is looked at more often. */
static void
test_fast_interval(void **state)
{
	struct trial *t = *state;
	struct proxy *a = &t->proxies[0];
	use(t, POOL_OF("\"a\"", "\"check\": \"tunnel\", \"target\": \"10.0.0.1:80\", \"interval\": "
				"\"20s\", \"fast_interval\": \"500ms\", \"fall\": 3, \"jitter\": "
				"\"0%\""));
	run_checks(t, a, 1);
	a->reps[0] = 1;
	run_checks(t, a, 1);
	assert_string_equal(state_of(t, "a"), "up");
	run(t, 1200);
	assert_string_equal(state_of(t, "a"), "down"); /* not 40 seconds later */
	unsigned accepted = a->accepted;
	run(t, 5000);
	assert_in_range(a->accepted - accepted, 9, 11);
	a->reps[0] = 0;
	run(t, 1200);
	assert_string_equal(t->told, "a:up a:down a:up ");
	accepted = a->accepted;
	run(t, 15000);
	assert_int_equal(a->accepted, accepted);
}

static void
test_start_down(void **state)
{
	struct trial *t = *state;
	use(t, POOL_OF("\"a\", \"b\"", TUNNEL ", \"start\": \"down\""));
	assert_string_equal(state_of(t, "a"), "down");
	assert_false(fleet_route_usable(t->fleet, fleet_policy(t->fleet)->default_route));
	run(t, 1100);                          /* the first success does */
	assert_string_equal(state_of(t, "a"), "up");
	assert_true(fleet_route_usable(t->fleet, fleet_policy(t->fleet)->default_route));
	use(t, POOL_OF("\"a\", \"b\"", CONNECT ", \"start\": \"down\""));
	assert_string_equal(state_of(t, "a"), "up");   /* what is known stays known */
}

/* ---- our own line ---- */

/* The reference is on port `port`. */
static void
use_with_reference(struct trial *t, const char *members, uint16_t port)
{
	char pool[512];
	snprintf(pool, sizeof pool,
		 POOL_OF("%s", "\"check\": \"connect\", \"interval\": \"2s\", \"timeout\": \"1s\", "
			       "\"rise\": 2, \"fall\": 2, \"jitter\": \"0%%\", \"reference\": "
			       "\"127.0.0.1:%u\""),
		 members, port);
	use(t, pool);
}

static void
test_reference(void **state)
{
	struct trial *t = *state;
	struct proxy *a = &t->proxies[0], *b = &t->proxies[1];
	use_with_reference(t, "\"a\"", b->port);
	run_checks(t, a, 1);
	assert_int_equal(b->accepted, 0);      /* all is well: nobody asks */
	proxy_close(a);
	proxy_close(b);
	run(t, 20000);
	assert_string_equal(t->told, "a:up "); /* the line is down */
	assert_int_equal(atomic_load(&entry(t, "a")->check_verdict), VERDICT_GRANTED);
	proxy_open(b);
	run(t, 6000);                          /* it's a after all */
	assert_string_equal(t->told, "a:up a:down ");
	assert_in_range(b->accepted, 1, 4);    /* three, where each connection is there at once */
	proxy_open(a);
	run(t, 6000);
	assert_string_equal(t->told, "a:up a:down a:up ");
}

/* A reference that is gone protects nobody while others get through. */
static void
test_reference_that_is_dead_itself(void **state)
{
	struct trial *t = *state;
	use_with_reference(t, "\"a\", \"b\"", 1);
	run(t, 1100);
	proxy_close(&t->proxies[0]);
	run(t, 8000);
	assert_string_equal(state_of(t, "a"), "down");
	assert_string_equal(state_of(t, "b"), "up");
}

static void
test_reload_while_in_doubt(void **state)
{
	struct trial *t = *state;
	uint16_t port = t->proxies[1].port;
	use_with_reference(t, "\"a\"", port);
	run_checks(t, &t->proxies[0], 1);
	proxy_close(&t->proxies[0]);
	for (int i = 0; i < 200; i++) {
		run(t, STEP_MS);
		use_with_reference(t, i % 2 == 0 ? "\"a\"" : "\"a\", \"b\"", port);
	}
	assert_string_equal(state_of(t, "a"), "down");
	use(t, "\"default_route\": \"direct\"");
}

/* Two pools want other things of the same upstream: it is down while either is not content, and
 * never checked twice at once. */
static void
test_two_pools_share_an_upstream(void **state)
{
	struct trial *t = *state;
	struct proxy *a = &t->proxies[0];
	a->reps[0] = STALL;
	use(t, "\"pools\": [{ \"name\": \"p\", \"members\": [\"a\"], \"health\": {\"check\": "
	       "\"connect\", \"interval\": \"1s\", \"timeout\": \"1s\"} },"
	       "{ \"name\": \"q\", \"members\": [\"a\"], \"health\": { \"check\": \"tunnel\", "
	       "\"target\": \"10.0.0.1:80\", \"interval\": \"1s\","
	       "\"timeout\": \"1s\", \"fall\": 2, \"rise\": 1 } }], \"default_route\": \"p\"");
	run(t, 10000);
	assert_string_equal(state_of(t, "a"), "down");
	assert_int_equal(a->most_open, 1);
	assert_true(a->accepted > 8);
	a->reps[0] = 0;
	run(t, 5000);
	assert_string_equal(state_of(t, "a"), "up");
	a->reps[0] = STALL;
	run(t, 10000);
	assert_string_equal(state_of(t, "a"), "down");
	t->told[0] = '\0';
	use(t,
	    POOL_OF("\"a\"", "\"check\": \"connect\", \"interval\": \"1s\", \"timeout\": \"1s\""));
	assert_string_equal(t->told, "a:up ");         /* who was not content asks no more */
}

/* ---- reload ---- */

static void
test_reload_keeps_states_and_streaks(void **state)
{
	struct trial *t = *state;
	struct proxy *a = &t->proxies[0];
	use(t, POOL_OF("\"a\", \"b\"", TUNNEL));
	a->reps[0] = 1;
	run_checks(t, a, 2);
	for (int i = 0; i < 20; i++) {
		use(t, POOL_OF("\"b\", \"a\"", TUNNEL));
		run(t, STEP_MS);
	}
	assert_string_equal(state_of(t, "a"), "unknown");
	assert_int_equal(a->accepted, 2);      /* a reload is no reason to check */
	run_checks(t, a, 1);
	assert_string_equal(state_of(t, "a"), "down");
	assert_string_equal(state_of(t, "b"), "up");
	/* other settings begin with what is known */
	use(t, POOL_OF("\"a\", \"b\"", CONNECT));
	assert_string_equal(state_of(t, "a"), "down");
	run_checks(t, a, 2);
	assert_string_equal(state_of(t, "a"), "up");
	a->reps[0] = 0;
	proxy_close(a);
	run(t, 8000);
	assert_string_equal(state_of(t, "a"), "down");
	/* and whom nobody checks is not held to what once was */
	use(t, "\"default_route\": \"a\"");
	assert_string_equal(state_of(t, "a"), "unknown");
	assert_true(fleet_route_usable(t->fleet, fleet_policy(t->fleet)->default_route));
}

/* Checks go on over a reload, those under way too. */
static void
test_reload_during_a_check(void **state)
{
	struct trial *t = *state;
	struct proxy *a = &t->proxies[0];
	a->reps[0] = STALL;
	use(t, POOL_OF("\"a\", \"b\"", TUNNEL));
	run_checks(t, a, 1);
	use(t, POOL_OF("\"b\", \"a\"", TUNNEL));
	run(t, 1200);
	assert_int_equal(atomic_load(&entry(t, "a")->check_streak), 1);
	assert_int_not_equal(atomic_load(&entry(t, "a")->check_verdict), VERDICT_GRANTED);
	run_checks(t, a, 1);
	use(t, POOL_OF("\"b\"", TUNNEL));      /* a's is cancelled */
	run(t, STEP_MS);
	assert_int_equal(a->open, 0);
	unsigned accepted = a->accepted;
	run(t, 10000);
	assert_int_equal(a->accepted, accepted);
}

static void
test_free_during_a_check(void **state)
{
	struct trial *t = *state;
	struct proxy *a = &t->proxies[0];
	a->reps[0] = STALL;
	use(t, POOL_OF("\"a\"", TUNNEL));
	run_checks(t, a, 1);
	health_free(t->health);
	t->health = NULL;
	run(t, STEP_MS);
	assert_int_equal(a->open, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_connect, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_fall_and_rise, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_tunnel, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_handshake, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_http, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_http_server_that_says_nothing, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_fast_interval, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_start_down, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_reference, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_reference_that_is_dead_itself, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_reload_while_in_doubt, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_silence_ends_with_the_timeout, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_own_trouble_is_nobodys_fault, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_fault_in_a_chain, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_connect_through_a_chain, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_interval_with_jitter, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_two_pools_share_an_upstream, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_reload_keeps_states_and_streaks, set_up,
					    tear_down),
	    cmocka_unit_test_setup_teardown(test_reload_during_a_check, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_free_during_a_check, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
