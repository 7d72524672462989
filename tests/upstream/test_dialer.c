/*
 * dialer: direct connections and names, retries and whose fault it was, deadlines at every stage,
 * cancelling at every step, and that nothing is left behind by any of them.
 */
#include "base/clock.h"
#include "base/loop.h"
#include "base/wheel.h"
#include "tests/dns/name_server.h"
#include "tests/upstream/dial_bench.h"
#include "tests/upstream/peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/resource.h>

#include <cmocka.h>

/* A SOCKS5 conversation that ends well, asked for 203.0.113.9:80; a hop that is asked for
 * 192.0.2.2:1082 first; and one that answers the same request with a code. */
#define GREETED "<050100 >0500 "
#define ASKED GREETED "<05010001cb0071090050 "
#define GRANTS ASKED ">05000001000000000000"
#define ANSWERS(rep) ASKED ">05" rep "0001000000000000"
#define LEADS_ON GREETED "<05010001c0000202043a >05000001000000000000 "
#define DESTINATION "203.0.113.9:80"

static int
set_up(void **state)
{
	static struct dial_bench b;
	bench_open(&b);
	*state = &b;
	return 0;
}

static int
tear_down(void **state)
{
	bench_close(*state);
	return 0;
}

static void
text_of(const struct endpoint *e, char out[ENDPOINT_TEXT_MAX])
{
	endpoint_to_text(e, out, ENDPOINT_TEXT_MAX);
}

static uint64_t
failures(struct dial_bench *b, const char *name)
{
	return bench_entry(b, name)->failures_total;
}

/* ---- direct ---- */

static void
test_direct(void **state)
{
	struct dial_bench *b = *state;
	struct peer *p = peer_new(b->loop, "<6869");
	char to[ENDPOINT_TEXT_MAX];
	struct path path;
	size_t n;
	bench_load(b, "%s", "");
	text_of(peer_at(p), to);
	struct dial *x = bench_start(b, "direct", to);
	assert_int_equal(dial_stage(x, &path), DIAL_CONNECT);
	assert_int_equal(path.n_hops, 0);
	bench_finish(b, VERDICT_GRANTED);
	assert_true(endpoint_equal(&b->result.peer, peer_at(p)));
	assert_true(endpoint_is_loopback(&b->result.bound) && b->result.bound.port != 0);
	assert_int_equal(b->result.attempts, 1);
	assert_int_equal(b->result.hop_at_fault, -1);
	assert_int_equal(b->result.n_hop_times, 1);
	assert_int_equal(b->result.hops[0].upstream, UINT32_MAX);
	assert_int_equal(b->result.early_len, 0);
	assert_int_equal(board_in_use(bench_entry(b, NULL)), 1);
	assert_int_equal(bench_entry(b, NULL)->sessions_total, 1);
	assert_int_equal(stream_write(&b->out, "hi", 2, &n), STREAM_OK);
	for (int i = 0; i < 500 && peer_played(p) == 0; i++)
		loop_turn(b->loop, 10);
	assert_int_equal(peer_played(p), 1);
	peer_free(p);
}

static void
test_direct_refused(void **state)
{
	struct dial_bench *b = *state;
	struct endpoint at;
	char to[ENDPOINT_TEXT_MAX];
	int fd = refusing_port(&at);
	bench_load(b, "%s", "");
	text_of(&at, to);
	bench_dial(b, "direct", to, VERDICT_REFUSED);
	assert_int_equal(b->result.hop_at_fault, -1);
	assert_int_equal(b->result.stage, DIAL_CONNECT);
	assert_int_equal(bench_entry(b, NULL)->failures_total, 0);
	close(fd);
}

static void
test_direct_over_a_line_of_its_own(void **state)
{
	struct dial_bench *b = *state;
	struct peer *p = peer_new(b->loop, "");
	char to[ENDPOINT_TEXT_MAX], host[ENDPOINT_TEXT_MAX];
	bench_load(b, "'upstreams': [{'name': 'line', 'url': 'direct://', 'source_address': "
		      "'127.0.0.7', 'interface': 'lo'}]");
	text_of(peer_at(p), to);
	bench_dial(b, "line", to, VERDICT_GRANTED);
	assert_string_equal(endpoint_host_to_text(&b->result.bound, host, sizeof host),
			    "127.0.0.7");
	assert_int_equal(b->result.hops[0].upstream, 0);
	assert_int_equal(bench_entry(b, "line")->sessions_total, 1);
	peer_free(p);
}

/* What the destination does to a direct:// member is no fault of that member's. */
static void
test_destination_refuses_a_pool_of_lines(void **state)
{
	struct dial_bench *b = *state;
	struct endpoint at;
	char to[ENDPOINT_TEXT_MAX];
	int fd = refusing_port(&at);
	bench_load(
	    b, "'upstreams': [{'name': 'line', 'url': 'direct://', 'source_address': '127.0.0.7'}],"
	       "'pools': [{'name': 'p', 'members': ['line', 'direct'], 'retry': {'attempts': 3}}]");
	text_of(&at, to);
	bench_dial(b, "p", to, VERDICT_REFUSED);
	assert_int_equal(b->result.attempts, 1);
	assert_int_equal(failures(b, "line"), 0);
	close(fd);
}

/* ---- names ---- */

static const struct scene names[] = {
    {"good.example", 1, PLAY_ANSWER, 0, "good.example A 60 127.0.0.1"},
    {"late.example", 1, PLAY_HOLD, 0, "late.example A 60 127.0.0.1"},
    {"late.example", 28, PLAY_ANSWER, 0, NULL},
    {"good.example", 28, PLAY_ANSWER, 0, NULL},
    {"broken.example", 0, PLAY_ANSWER, 2, NULL},
    {"silent.example", 0, PLAY_SILENCE, 0, NULL},
};

static struct name_server *
load_with_names(struct dial_bench *b, const char *members)
{
	struct name_server *s = name_server_start(b->loop, names, ARRAY_LEN(names));
	struct endpoint at = name_server_at(s);
	char text[ENDPOINT_TEXT_MAX];
	text_of(&at, text);
	bench_load(b,
		   "'dns': {'servers': ['%s'], 'attempts': 1, 'timeout': '10s', 'hosts': {"
		   "'two.example': ['127.0.0.2', '127.0.0.1'], 'one.example': ['127.0.0.1']}} %s",
		   text, members);
	return s;
}

static void
test_direct_by_name(void **state)
{
	struct dial_bench *b = *state;
	struct peer *p = peer_new(b->loop, "");
	static const char *const hosts[] = {"good.example", "good.example", "one.example",
					    "two.example"};
	struct name_server *s = load_with_names(b, "");
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		char to[ENDPOINT_TEXT_MAX];
		snprintf(to, sizeof to, "%s:%u", hosts[i], peer_at(p)->port);
		bench_dial(b, "direct", to, VERDICT_GRANTED);
		assert_true(endpoint_equal(&b->result.peer, peer_at(p)));
		bench_give_back(b);
	}
	assert_int_equal(name_server_queries(s, "good.example", 1), 1);
	name_server_stop(s);
	peer_free(p);
}

static void
test_names_that_lead_nowhere(void **state)
{
	struct dial_bench *b = *state;
	struct name_server *s = load_with_names(b, "");
	bench_dial(b, "direct", "nobody.example:80", VERDICT_NAME_UNKNOWN);
	assert_int_equal(b->result.stage, DIAL_RESOLVE);
	assert_int_equal(b->result.hop_at_fault, -1);
	bench_dial(b, "direct", "nobody.example:80",
		   VERDICT_NAME_UNKNOWN); /* from the cache, inside dial_start */
	bench_dial(b, "direct", "broken.example:80", VERDICT_HOST_UNREACHABLE);
	name_server_stop(s);
}

/* The addresses that the caller has already are the ones that are dialled. */
static void
test_given_addresses(void **state)
{
	struct dial_bench *b = *state;
	struct peer *p = peer_new(b->loop, "");
	struct endpoint addrs[2] = {*peer_at(p), *peer_at(p)};
	char to[ENDPOINT_TEXT_MAX];
	bench_load(b, "%s", "");
	addrs[0].addr[3] = 9; /* 127.0.0.9: nobody there */
	addrs[0].port = addrs[1].port = 0;
	b->request.addrs = addrs;
	b->request.n_addrs = 2;
	snprintf(to, sizeof to, "known.example:%u", peer_at(p)->port);
	bench_start(b, "direct", to);
	memset(addrs, 0, sizeof addrs); /* copied */
	bench_finish(b, VERDICT_GRANTED);
	assert_true(endpoint_equal(&b->result.peer, peer_at(p)));
	peer_free(p);
}

static unsigned asked;

/* Forbids 127.0.0.2; arg is the callback's. */
static bool
forbid_two(const struct endpoint *addr, void *arg)
{
	struct dial_bench *b = arg;
	assert_int_equal(addr->port, b->request.to.port);
	asked++;
	return addr->addr[3] == 2;
}

static bool
forbid_all(const struct endpoint *addr, void *arg)
{
	(void)addr, (void)arg;
	asked++;
	return true;
}

static void
test_forbidden_addresses(void **state)
{
	struct dial_bench *b = *state;
	struct peer *p = peer_new(b->loop, "");
	char to[ENDPOINT_TEXT_MAX];
	struct name_server *s = load_with_names(b, "");
	b->request.address_rejected = forbid_two;
	asked = 0;
	snprintf(to, sizeof to, "two.example:%u", peer_at(p)->port);
	bench_dial(b, "direct", to, VERDICT_GRANTED);
	assert_int_equal(asked, 2);
	assert_true(endpoint_equal(&b->result.peer, peer_at(p)));
	bench_give_back(b);

	b->request.address_rejected = forbid_all;
	bench_dial(b, "direct", to, VERDICT_REJECTED);
	assert_int_equal(b->result.hop_at_fault, -1);
	asked = 0;
	text_of(peer_at(p), to);
	bench_dial(b, "direct", to,
		   VERDICT_GRANTED); /* no name, no question: rules have seen the address */
	assert_int_equal(asked, 0);
	name_server_stop(s);
	peer_free(p);
}

/* A proxy's own name is looked up here, and not held against rules on destinations. */
static void
test_named_proxy(void **state)
{
	struct dial_bench *b = *state;
	struct peer *p = peer_new(b->loop, GRANTS);
	char members[256];
	snprintf(members, sizeof members,
		 ", 'upstreams': [{'name': 'a', 'url': 'socks5://good.example:%u'}, {'name': 'b', "
		 "'url': 'socks5://nobody.example:1080'}]",
		 peer_at(p)->port);
	struct name_server *s = load_with_names(b, members);
	b->request.address_rejected = forbid_all;
	bench_dial(b, "a", DESTINATION, VERDICT_GRANTED);
	assert_true(endpoint_equal(&b->result.peer, peer_at(p)));
	bench_give_back(b);
	bench_dial(b, "b", DESTINATION, VERDICT_UPSTREAM_FAILED);
	assert_int_equal(b->result.hop_at_fault, 0);
	assert_int_equal(b->result.stage, DIAL_RESOLVE);
	assert_int_equal(failures(b, "b"), 1);
	name_server_stop(s);
	peer_free(p);
}

/* ---- retry ---- */

/* Two members, the first with the given script (NULL: nobody listens), the second good; first comes
 * first. */
static void
retry(const char *what, const char *script, unsigned attempts, enum verdict want,
      unsigned want_attempts, unsigned want_failures)
{
	struct dial_bench b;
	struct endpoint nobody;
	bench_open(&b);
	b.what = what;
	int fd = refusing_port(&nobody);
	struct peer *bad = script == NULL ? NULL : peer_new(b.loop, script);
	struct peer *good = peer_new(b.loop, GRANTS);
	bench_load(&b,
		   "'upstreams': [{'name': 'bad', 'url': 'socks5://127.0.0.1:%u'}, {'name': "
		   "'good', 'url': 'socks5://127.0.0.1:%u'}],"
		   "'pools': [{'name': 'p', 'balance': 'first', 'members': ['bad', 'good'], "
		   "'retry': {'attempts': %u}}]",
		   bad == NULL ? nobody.port : peer_at(bad)->port, peer_at(good)->port, attempts);
	bench_dial(&b, "p", DESTINATION, want);
	if (b.result.attempts != want_attempts || failures(&b, "bad") != want_failures ||
	    failures(&b, "good") != 0)
		fail_msg("%s: %u attempts, %u failures", what, b.result.attempts,
			 (unsigned)failures(&b, "bad"));
	assert_int_equal(bench_entry(&b, "good")->sessions_total, want == VERDICT_GRANTED);
	assert_int_equal(b.result.path.hops[0], want == VERDICT_GRANTED);
	peer_free(bad);
	peer_free(good);
	close(fd);
	bench_close(&b);
}

static void
test_retry(void **state)
{
	(void)state;
	retry("nobody listens", NULL, 1, VERDICT_GRANTED, 2, 1);
	retry("garbage", "<050100 >ffff", 1, VERDICT_GRANTED, 2, 1);
	retry("an end", "<050100 close", 1, VERDICT_GRANTED, 2, 1);
	retry("a reset at once", "reset", 1, VERDICT_GRANTED, 2, 1);
	retry("no method", "<050100 >05ff", 1, VERDICT_GRANTED, 2, 1);
	retry("REP 1", ANSWERS("01"), 1, VERDICT_GRANTED, 2, 1);
	retry("more attempts than it takes", ANSWERS("01"), 15, VERDICT_GRANTED, 2, 1);
	retry("none allowed", ANSWERS("01"), 0, VERDICT_UPSTREAM_FAILED, 1, 1);
	retry("rejected", ANSWERS("02"), 2, VERDICT_UPSTREAM_REJECTED, 1, 0);
	retry("no network", ANSWERS("03"), 2, VERDICT_NETWORK_UNREACHABLE, 1, 0);
	retry("no route", ANSWERS("04"), 2, VERDICT_HOST_UNREACHABLE, 1, 0);
	retry("refused", ANSWERS("05"), 2, VERDICT_REFUSED, 1, 0);
	retry("expired", ANSWERS("06"), 2, VERDICT_TIMEOUT, 1, 0);
	retry("no command", ANSWERS("07"), 2, VERDICT_UPSTREAM_NO_COMMAND, 1, 0);
	retry("no address", ANSWERS("08"), 2, VERDICT_UPSTREAM_NO_ADDRESS, 1, 0);
}

/* Each member once; then the last attempt's verdict is told, though no other member could be
 * picked. */
static void
test_all_members_fail(void **state)
{
	struct dial_bench *b = *state;
	struct endpoint nobody;
	int fd = refusing_port(&nobody);
	struct peer *p = peer_new(b->loop, "<050100 >05ff");
	bench_load(b,
		   "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:%u'}, {'name': 'b', "
		   "'url': 'socks5://127.0.0.1:%u'}],"
		   "'pools': [{'name': 'p', 'balance': 'first', 'members': ['a', 'b'], 'retry': "
		   "{'attempts': 9}}]",
		   nobody.port, peer_at(p)->port);
	bench_dial(b, "p", DESTINATION, VERDICT_UPSTREAM_AUTH);
	assert_int_equal(b->result.attempts, 2);
	assert_int_equal(b->result.path.hops[0], 1);
	assert_int_equal(b->result.stage, DIAL_HANDSHAKE);
	assert_int_equal(failures(b, "a"), 1);
	assert_int_equal(failures(b, "b"), 1);
	peer_free(p);
	close(fd);
}

static void
test_no_pool_no_retry(void **state)
{
	struct dial_bench *b = *state;
	struct endpoint nobody;
	int fd = refusing_port(&nobody);
	bench_load(b, "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:%u'}]", nobody.port);
	bench_dial(b, "a", DESTINATION, VERDICT_UPSTREAM_FAILED);
	assert_int_equal(b->result.attempts, 1);
	assert_int_equal(b->result.hop_at_fault, 0);
	assert_int_equal(b->result.stage, DIAL_CONNECT);
	assert_int_equal(failures(b, "a"), 1);
	close(fd);
}

static void
test_no_usable_member(void **state)
{
	struct dial_bench *b = *state;
	bench_load(b, "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:1'}],"
		      "'pools': [{'name': 'p', 'members': ['a']}]");
	atomic_store(&bench_entry(b, "a")->admin, UPSTREAM_DISABLED);
	fleet_state_changed(b->fleet, 0, "");
	bench_dial(b, "p", DESTINATION, VERDICT_NO_UPSTREAM);
	assert_int_equal(b->result.attempts, 0);
	assert_int_equal(b->result.stage, DIAL_PICK);
	bench_dial(b, "a", DESTINATION, VERDICT_NO_UPSTREAM);
}

/* In a chain the hop at fault is replaced, and no other is blamed: the first says that it can't
 * reach the second. */
static void
test_retry_within_a_chain(void **state)
{
	struct dial_bench *b = *state;
	/* one conversation per connection: refused for the first member, led on for the second */
	struct peer *p = peer_new(b->loop, GREETED "<05010001c00002fe043a >05050001000000000000");
	struct peer *q = peer_new(b->loop, LEADS_ON GRANTS);
	bench_load(b,
		   "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:%u'}, {'name': 'dead', "
		   "'url': 'socks5://192.0.2.254:1082'},"
		   "{'name': 'alive', 'url': 'socks5://192.0.2.2:1082'}, {'name': 'a2', 'url': "
		   "'socks5://127.0.0.1:%u'}],"
		   "'pools': [{'name': 'second', 'balance': 'first', 'members': ['dead', 'alive'], "
		   "'retry': {'attempts': 1}},"
		   "{'name': 'first', 'balance': 'round_robin', 'members': ['a', 'a2'], 'retry': "
		   "{'attempts': 0}}],"
		   "'chains': [{'name': 'c', 'hops': ['first', 'second']}]",
		   peer_at(p)->port, peer_at(q)->port);
	bench_dial(b, "c", DESTINATION, VERDICT_GRANTED);
	assert_int_equal(b->result.attempts, 2);
	assert_int_equal(b->result.path.hops[0], 3);
	assert_int_equal(b->result.path.hops[1], 2);
	assert_int_equal(failures(b, "dead"), 1);
	assert_int_equal(failures(b, "a") + failures(b, "a2") + failures(b, "alive"), 0);
	assert_string_equal(peer_complaint(p), "");
	assert_string_equal(peer_complaint(q), "");
	peer_free(p);
	peer_free(q);
}

/* ---- trouble of our own ---- */

static void
test_out_of_descriptors_blames_nobody(void **state)
{
	struct dial_bench *b = *state;
	struct rlimit before, none;
	bench_load(
	    b, "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:1'}],"
	       "'pools': [{'name': 'p', 'members': ['a', 'direct'], 'retry': {'attempts': 3}}]");
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	bench_start(b, "p", DESTINATION);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	bench_finish(b, VERDICT_INTERNAL);
	assert_int_equal(b->result.attempts, 1);
	assert_int_equal(b->result.hop_at_fault, -1);
	assert_int_equal(failures(b, "a"), 0);
}

/* ---- a check's own path ---- */

static void
test_fixed_path(void **state)
{
	struct dial_bench *b = *state;
	struct peer *good = peer_new(b->loop, GRANTS);
	struct peer *bad = peer_new(b->loop, ANSWERS("01"));
	struct path path = {.n_hops = 1, .hop_pick = {UINT8_MAX}};
	bench_load(b,
		   "'upstreams': [{'name': 'good', 'url': 'socks5://127.0.0.1:%u'}, {'name': "
		   "'bad', 'url': 'socks5://127.0.0.1:%u'}],"
		   "'pools': [{'name': 'p', 'members': ['good', 'bad']}]",
		   peer_at(good)->port, peer_at(bad)->port);
	b->request.fixed = &path;
	bench_start(b, "p", DESTINATION);
	path.hops[0] = 1; /* copied */
	bench_finish(b, VERDICT_GRANTED);
	assert_int_equal(bench_in_use(b), 0);
	stream_close(&b->out);
	bench_dial(b, "p", DESTINATION, VERDICT_UPSTREAM_FAILED);
	assert_int_equal(b->result.attempts, 1);
	assert_int_equal(b->result.hop_at_fault, 0);
	assert_int_equal(failures(b, "bad"), 0);
	assert_int_equal(bench_entry(b, "good")->sessions_total, 0);
	assert_int_equal(bench_entry(b, "good")->ewma_us, 0);
	peer_free(good);
	peer_free(bad);
}

/* ---- deadlines: the clock stands still until the test moves it ---- */

enum { START_MS = 5000, LIMIT_MS = 10000 };

static uint64_t now_ms;

static void
pass_ms(uint64_t ms)
{
	clock_fake(now_ms += ms, 0);
}

static int
set_up_timed(void **state)
{
	now_ms = START_MS;
	pass_ms(0);
	return set_up(state);
}

static int
tear_down_timed(void **state)
{
	bench_close(*state);
	clock_fake_stop();
	return 0;
}

static void
time_out(struct dial_bench *b, enum dial_stage stage, enum verdict want, int fault)
{
	for (int i = 0; i < 20; i++)
		loop_turn(b->loop, 1);
	pass_ms(LIMIT_MS - 1);
	turn_some(b->loop);
	assert_int_equal(b->told, 0);
	pass_ms(1 + WHEEL_TICK_MS);
	bench_finish(b, want);
	assert_int_equal(b->result.stage, stage);
	assert_int_equal(b->result.hop_at_fault, fault);
}

static void
start_timed(struct dial_bench *b, const char *route, const char *to)
{
	b->request.timeout_ms = LIMIT_MS;
	bench_start(b, route, to);
}

static void
test_deadline_of_a_connection(void **state)
{
	struct dial_bench *b = *state;
	struct endpoint at;
	char to[ENDPOINT_TEXT_MAX];
	int silent[2];
	silent_port(&at, silent);
	text_of(&at, to);
	bench_load(b, "'upstreams': [{'name': 'a', 'url': 'socks5://%s'}]", to);
	start_timed(b, "direct", to);
	time_out(b, DIAL_CONNECT, VERDICT_TIMEOUT, -1);
	start_timed(b, "a", DESTINATION);
	time_out(b, DIAL_CONNECT, VERDICT_UPSTREAM_FAILED, 0);
	assert_int_equal(failures(b, "a"), 1);
	close(silent[0]);
	close(silent[1]);
}

static void
test_deadline_of_a_name(void **state)
{
	struct dial_bench *b = *state;
	struct name_server *s = load_with_names(
	    b, ", 'upstreams': [{'name': 'a', 'url': 'socks5://silent.example:1080'}]");
	start_timed(b, "direct", "silent.example:80");
	time_out(b, DIAL_RESOLVE, VERDICT_TIMEOUT, -1);
	start_timed(b, "a", DESTINATION);
	time_out(b, DIAL_RESOLVE, VERDICT_UPSTREAM_FAILED, 0);
	name_server_stop(s);
}

static void
test_deadline_of_a_handshake(void **state)
{
	static const struct {
		const char *script, *url, *route;
		enum dial_stage stage;
		int fault;
	} rows[] = {
	    {"", "socks5", "a", DIAL_HANDSHAKE, 0},
	    {ASKED, "socks5", "a", DIAL_HANDSHAKE, 0},
	    {GREETED, "socks5", "ab", DIAL_HANDSHAKE, 0},
	    {LEADS_ON, "socks5", "ab", DIAL_HANDSHAKE, 1},
	    {LEADS_ON GREETED, "socks5", "ab", DIAL_HANDSHAKE, 1},
	    {"", "https", "a", DIAL_TLS, 0},
	};
	(void)state;
	now_ms = START_MS;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct dial_bench b;
		pass_ms(0);
		bench_open(&b);
		struct peer *p = peer_new(b.loop, rows[i].script);
		bench_load(&b,
			   "'upstreams': [{'name': 'a', 'url': '%s://127.0.0.1:%u'}, {'name': 'b', "
			   "'url': 'socks5://192.0.2.2:1082'}],"
			   "'chains': [{'name': 'ab', 'hops': ['a', 'b']}]",
			   rows[i].url, peer_at(p)->port);
		start_timed(&b, rows[i].route, DESTINATION);
		time_out(&b, rows[i].stage, VERDICT_UPSTREAM_FAILED, rows[i].fault);
		peer_free(p);
		bench_close(&b);
	}
	clock_fake_stop();
}

/* The deadline is each attempt's own: the second begins with all of it. */
static void
test_deadline_and_retry(void **state)
{
	struct dial_bench *b = *state;
	struct peer *silent = peer_new(b->loop, GREETED);
	struct peer *good = peer_new(b->loop, GRANTS);
	bench_load(b,
		   "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:%u'}, {'name': 'b', "
		   "'url': 'socks5://127.0.0.1:%u'}],"
		   "'pools': [{'name': 'p', 'balance': 'first', 'members': ['a', 'b'], 'retry': "
		   "{'attempts': 1}}]",
		   peer_at(silent)->port, peer_at(good)->port);
	start_timed(b, "p", DESTINATION);
	turn_some(b->loop);
	pass_ms(LIMIT_MS + WHEEL_TICK_MS);
	bench_finish(b, VERDICT_GRANTED);
	assert_int_equal(b->result.attempts, 2);
	assert_int_equal(failures(b, "a"), 1);
	pass_ms(9 * LIMIT_MS);
	turn_some(b->loop); /* no deadline is left behind */
	assert_int_equal(b->told, 1);
	peer_free(silent);
	peer_free(good);
}

/* ---- cancelling ---- */

/* Cancels after each number of turns until one dial gets through; its last member is the one that
 * grants. */
static void
test_cancel_at_every_step(void **state)
{
	struct dial_bench *b = *state;
	struct endpoint nobody;
	int fd = refusing_port(&nobody);
	char members[512];
	struct peer *p = peer_new(
	    b->loop, GREETED
	    "<05010001c0000202043a :05000001000000000000 <050100 :0500 <05010001cb0071090050 "
	    ":05000001000000000000");
	snprintf(members, sizeof members,
		 ", 'upstreams': [{'name': 'a', 'url': 'socks5://late.example:%u'}, {'name': 'b', "
		 "'url': 'socks5://192.0.2.2:1082'},"
		 "{'name': 'dead', 'url': 'socks5://127.0.0.1:%u'}],"
		 "'pools': [{'name': 'p', 'balance': 'first', 'members': ['dead', 'a'], 'retry': "
		 "{'attempts': 1}}],"
		 "'chains': [{'name': 'c', 'hops': ['p', 'b']}]",
		 peer_at(p)->port, nobody.port);
	struct name_server *s = load_with_names(b, members);
	unsigned turns, before = open_descriptors(), most = 0;
	bool through = false;
	for (turns = 0; !through && turns < 500; turns++) {
		struct dial *x = bench_start(b, "c", DESTINATION);
		for (unsigned i = 0; i < turns && !b->done; i++) {
			loop_turn(b->loop, 1);
			name_server_release(s);
		}
		most = open_descriptors() > most ? open_descriptors() : most;
		through = b->done;
		if (through)
			break;
		dial_cancel(x);
		assert_false(stream_is_open(&b->out));
		assert_int_equal(bench_in_use(b), 0);
		turn_some(b->loop);
		assert_int_equal(b->told, 0);
	}
	assert_true(through && turns > 20);
	bench_finish(b, VERDICT_GRANTED);
	assert_int_equal(b->result.attempts, 2);
	bench_give_back(b);
	turn_some(b->loop);
	assert_true(most > before &&
		    open_descriptors() <= before + 1); /* the resolver may keep its socket */
	name_server_stop(s);
	peer_free(p);
	close(fd);
}

static void
cancel_again(struct dial_bench *b)
{
	dial_cancel((struct dial *)b->request
			.addrs); /* the handle, as a session that is slow to forget it would */
}

static void
test_cancel_within_the_callback(void **state)
{
	struct dial_bench *b = *state;
	struct peer *p = peer_new(b->loop, GRANTS);
	bench_load(b, "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:%u'}]",
		   peer_at(p)->port);
	b->on_told = cancel_again;
	struct dial *x = bench_start(b, "a", DESTINATION);
	b->request.addrs = (const struct endpoint *)x;
	bench_finish(b, VERDICT_GRANTED);
	peer_free(p);
}

static void
close_stream(struct dial_bench *b)
{
	stream_close(&b->out);
}

/* A session may be over when its dial is granted: it closes the stream at once. */
static void
test_stream_closed_within_the_callback(void **state)
{
	struct dial_bench *b = *state;
	struct peer *p = peer_new(b->loop, GRANTS);
	bench_load(b, "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:%u'}]",
		   peer_at(p)->port);
	b->on_told = close_stream;
	bench_start(b, "a", DESTINATION);
	assert_true(turn_until(b->loop, &b->done));
	assert_int_equal(b->result.verdict, VERDICT_GRANTED);
	for (int i = 0; i < 500 && peer_left(p) == 0; i++)
		loop_turn(b->loop, 10);
	assert_int_equal(peer_left(p), 1);
	peer_free(p);
}

static void
on_told(const struct dial_result *r, void *arg)
{
	(void)r;
	++*(unsigned *)arg;
}

/* dialer_free cancels what is left and calls nobody. */
static void
test_free_with_dials_under_way(void **state)
{
	struct dial_bench *b = *state;
	struct endpoint at;
	struct stream others[2];
	unsigned told = 0;
	int silent[2];
	char to[ENDPOINT_TEXT_MAX];
	silent_port(&at, silent);
	struct name_server *s = load_with_names(b, "");
	text_of(&at, to);
	bench_start(b, "direct", to);
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		stream_init(&others[i], b->loop);
		const char *where = i == 0 ? "silent.example:80" : "nobody.example.:80";
		assert_int_equal(endpoint_from_text(&b->request.to, where, strlen(where)),
				 ENDPOINT_OK);
		assert_non_null(dial_start(b->dialer, &b->request, &others[i], on_told, &told));
	}
	assert_int_equal(bench_in_use(b), 3);
	dialer_free(b->dialer);
	b->dialer = NULL;
	assert_int_equal(bench_in_use(b), 0);
	turn_some(b->loop);
	assert_int_equal(told + b->told, 0);
	assert_false(stream_is_open(&b->out));
	name_server_stop(s);
	close(silent[0]);
	close(silent[1]);
}

static void
test_stage_texts(void **state)
{
	(void)state;
	assert_string_equal(dial_stage_text(DIAL_PICK), "pick");
	assert_string_equal(dial_stage_text(DIAL_RESOLVE), "resolve");
	assert_string_equal(dial_stage_text(DIAL_CONNECT), "connect");
	assert_string_equal(dial_stage_text(DIAL_TLS), "tls");
	assert_string_equal(dial_stage_text(DIAL_HANDSHAKE), "handshake");
	assert_string_equal(dial_stage_text(DIAL_DONE), "done");
}

#define DIAL(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define TIMED(test) cmocka_unit_test_setup_teardown(test, set_up_timed, tear_down_timed)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    DIAL(test_direct),
	    DIAL(test_direct_refused),
	    DIAL(test_direct_over_a_line_of_its_own),
	    DIAL(test_destination_refuses_a_pool_of_lines),
	    DIAL(test_direct_by_name),
	    DIAL(test_names_that_lead_nowhere),
	    DIAL(test_given_addresses),
	    DIAL(test_forbidden_addresses),
	    DIAL(test_named_proxy),
	    cmocka_unit_test(test_retry),
	    DIAL(test_all_members_fail),
	    DIAL(test_no_pool_no_retry),
	    DIAL(test_no_usable_member),
	    DIAL(test_retry_within_a_chain),
	    DIAL(test_out_of_descriptors_blames_nobody),
	    DIAL(test_fixed_path),
	    TIMED(test_deadline_of_a_connection),
	    TIMED(test_deadline_of_a_name),
	    cmocka_unit_test(test_deadline_of_a_handshake),
	    TIMED(test_deadline_and_retry),
	    DIAL(test_cancel_at_every_step),
	    DIAL(test_cancel_within_the_callback),
	    DIAL(test_stream_closed_within_the_callback),
	    DIAL(test_free_with_dials_under_way),
	    cmocka_unit_test(test_stage_texts),
	};
	return cmocka_run_group_tests_name("dialer", tests, NULL, NULL);
}
