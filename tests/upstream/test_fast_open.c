/*
 * fast open: the first bytes ride in the SYN, and a connection that never stood is told as ever.
 *
 * In a network of its own, where the kernel asks for no cookie, so that every connection that may
 * be deferred is; where no such network can be had, these are skipped.
 */
#include "base/loop.h"
#include "tests/upstream/dial_bench.h"
#include "tests/upstream/own_network.h"
#include "tests/upstream/peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cmocka.h>

#define TO "203.0.113.9:80"
#define GREETED "<050100 >0500 "
#define YES GREETED "<05010001cb0071090050 >05000001000000000000"

#define SETTING "ipv4/tcp_fastopen"
/* Client and server, both without cookies, every listener; and neither. */
#define ALL "1543"
#define NONE "0"

static bool has_network;

static int
enter_network(void **state)
{
	(void)state;
	has_network = own_network_enter() && own_network_set(SETTING, ALL);
	return 0;
}

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

/* Two upstreams and a pool that tries them in this order; more: of the first one's object. */
static void
load(struct dial_bench *b, const struct endpoint *first, const struct endpoint *second,
     const char *scheme, const char *more)
{
	if (!has_network)
		skip();
	bench_load(b,
		   "'upstreams': [{'name': 'a', 'url': '%s://127.0.0.1:%u', 'fast_open': true %s},"
		   "{'name': 'b', 'url': 'socks5://127.0.0.1:%u', 'fast_open': true}],"
		   "'pools': [{'name': 'p', 'members': ['a', 'b'], 'balance': 'first',"
		   " 'retry': {'attempts': 2}}]",
		   scheme, first->port, more, second->port);
}

static bool
rode_in_the_syn(const struct stream *s)
{
	struct tcp_info info;
	socklen_t len = sizeof info;
	assert_int_equal(getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
	return (info.tcpi_options & TCPI_OPT_SYN_DATA) != 0;
}

static void
check_granted(struct dial_bench *b, bool rides)
{
	struct peer *p = peer_new(b->loop, YES);
	load(b, peer_at(p), peer_at(p), "socks5", "");
	bench_dial(b, "a", TO, VERDICT_GRANTED);
	assert_int_equal(b->result.attempts, 1);
	assert_true(endpoint_equal(&b->result.peer, peer_at(p)));
	assert_int_equal(rode_in_the_syn(&b->out), rides);
	assert_int_equal(bench_entry(b, "a")->failures_total, 0);
	assert_string_equal(peer_complaint(p), "");
	peer_free(p);
}

static void
test_it_rides(void **state)
{
	if (!has_network)
		skip();
	check_granted(*state, true);
}

static void
test_a_kernel_without_it(void **state)
{
	if (!has_network)
		skip();
	assert_true(own_network_set(SETTING, NONE));
	check_granted(*state, false);
	assert_true(own_network_set(SETTING, ALL));
}

static void
check_refused(struct dial_bench *b, const char *scheme, const char *more)
{
	struct endpoint at;
	if (!has_network)
		skip();
	int fd = refusing_port(&at);
	load(b, &at, &at, scheme, more);
	bench_dial(b, "a", TO, VERDICT_UPSTREAM_FAILED);
	assert_string_equal(b->detail, "upstream a unreachable: Connection refused");
	assert_int_equal(b->result.stage, DIAL_CONNECT);
	assert_int_equal(b->result.hop_at_fault, 0);
	assert_int_equal(b->result.attempts, 1);
	assert_int_equal(bench_entry(b, "a")->failures_total, 1);
	close(fd);
}

static void
test_refused(void **state)
{
	check_refused(*state, "socks5", "");
}

/* It is no sign that it can't take a handshake in one piece. */
static void
test_refused_in_one_piece(void **state)
{
	check_refused(*state, "socks5", ", 'pipeline': true");
}

static void
test_refused_within_tls(void **state)
{
	check_refused(*state, "https", ", 'tls': {'verify': false}");
}

static void
test_refused_in_a_pool(void **state)
{
	struct dial_bench *b = *state;
	struct endpoint at;
	if (!has_network)
		skip();
	int fd = refusing_port(&at);
	struct peer *p = peer_new(b->loop, YES);
	load(b, &at, peer_at(p), "socks5", "");
	bench_dial(b, "p", TO, VERDICT_GRANTED);
	assert_int_equal(b->result.attempts, 2);
	assert_int_equal(bench_entry(b, "a")->failures_total, 1);
	assert_int_equal(bench_entry(b, "b")->failures_total, 0);
	peer_free(p);
	close(fd);
}

/* The connection did stand. */
static void
check_talk_fails(struct dial_bench *b, const char *scheme, const char *more, const char *script,
		 enum verdict want, enum dial_stage stage)
{
	if (!has_network)
		skip();
	struct peer *p = peer_new(b->loop, script);
	load(b, peer_at(p), peer_at(p), scheme, more);
	bench_dial(b, "a", TO, want);
	assert_int_equal(b->result.stage, stage);
	assert_int_equal(b->result.hop_at_fault, 0);
	assert_int_equal(bench_entry(b, "a")->failures_total, 1);
	peer_free(p);
}

static void
test_reset_instead_of_an_answer(void **state)
{
	check_talk_fails(*state, "socks5", "", "<050100 reset", VERDICT_UPSTREAM_FAILED,
			 DIAL_HANDSHAKE);
}

static void
test_no_tls_there(void **state)
{
	check_talk_fails(*state, "socks5+tls", ", 'tls': {'verify': false}", ">'HTTP/1.0 400 no~~'",
			 VERDICT_UPSTREAM_TLS, DIAL_TLS);
}

/* Who says nothing to it wants to know whether it is there. */
static void
test_only_connecting(void **state)
{
	struct dial_bench *b = *state;
	struct path path = { .n_hops = 1, .hop_pick = { UINT8_MAX } };
	struct endpoint at;
	if (!has_network)
		skip();
	int fd = refusing_port(&at);
	load(b, &at, &at, "socks5", "");
	b->request.until = DIAL_UNTIL_CONNECTED;
	b->request.fixed = &path;
	bench_dial(b, "a", TO, VERDICT_UPSTREAM_FAILED);
	assert_int_equal(b->result.stage, DIAL_CONNECT);
	close(fd);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(test_it_rides),
	    TEST(test_a_kernel_without_it),
	    TEST(test_refused),
	    TEST(test_refused_in_one_piece),
	    TEST(test_refused_within_tls),
	    TEST(test_refused_in_a_pool),
	    TEST(test_reset_instead_of_an_answer),
	    TEST(test_no_tls_there),
	    TEST(test_only_connecting),
	};
	return cmocka_run_group_tests(tests, enter_network, NULL);
}
