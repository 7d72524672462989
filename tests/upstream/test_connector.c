/*
 * connector: which of several addresses wins, when the next is tried, what is told when none does,
 * and what it leaves behind.
 */
#include "base/clock.h"
#include "base/loop.h"
#include "base/stream.h"
#include "tests/upstream/own_network.h"
#include "tests/upstream/peer.h"
#include "upstream/connector.h"
#include "upstream/port_rest.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cmocka.h>

enum { START_MS = 1000 };

/* One connector under test and what it told. */
struct trial {
	struct loop *loop;
	struct connector connector;
	struct stream out;
	struct endpoint addrs[4];
	struct connect_plan plan;
	unsigned descriptors; /* before it began */
	unsigned told;
	bool done;
	int error;
	struct endpoint peer, local;
};

static void
on_connect(int error, const struct endpoint *peer, const struct endpoint *local, void *arg)
{
	struct trial *t = arg;
	t->told++;
	t->done = true;
	t->error = error;
	assert_int_equal(peer == NULL, error != 0);
	assert_int_equal(local == NULL, error != 0);
	if (error == 0) {
		t->peer = *peer;
		t->local = *local;
	}
}

/* Time stands still in these tests, unless they move it: what happens does so without a delay. */
static int
set_up(void **state)
{
	static struct trial t;
	t = (struct trial){.plan.n_addrs = 1};
	t.descriptors = open_descriptors();
	clock_fake(START_MS, 0);
	t.loop = loop_new();
	assert_non_null(t.loop);
	stream_init(&t.out, t.loop);
	t.plan.addrs = t.addrs;
	*state = &t;
	return 0;
}

static int
tear_down(void **state)
{
	struct trial *t = *state;
	connector_cancel(&t->connector);
	stream_close(&t->out);
	loop_free(t->loop);
	clock_fake_stop();
	assert_int_equal(open_descriptors(), t->descriptors);
	return 0;
}

static void
start(struct trial *t)
{
	connector_start(&t->connector, t->loop, &t->plan, &t->out, on_connect, t);
	assert_int_equal(t->told, 0);
}

static void
start_again(struct trial *t)
{
	t->done = false;
	t->told = 0;
	start(t);
}

static void
finish(struct trial *t, int error)
{
	assert_true(turn_until(t->loop, &t->done));
	turn_some(t->loop);
	assert_int_equal(t->told, 1);
	assert_int_equal(t->error, error);
	assert_int_equal(stream_is_open(&t->out), error == 0);
}

static void
pass_ms(struct trial *t, uint64_t *now, uint64_t ms)
{
	clock_fake(*now += ms, 0);
	turn_some(t->loop);
}

static int
option_of(const struct stream *s, int level, int option)
{
	int value = -1;
	socklen_t len = sizeof value;
	assert_int_equal(getsockopt(s->fd, level, option, &value, &len), 0);
	return value;
}

static void
test_one_address(void **state)
{
	struct trial *t = *state;
	struct peer *p = peer_new(t->loop, "<6869 >796f");
	char got[8] = "";
	size_t n;
	t->addrs[0] = *peer_at(p);
	start(t);
	assert_true(stream_is_open(&t->out)); /* made straight in the owner's stream */
	finish(t, 0);
	assert_true(endpoint_equal(&t->peer, peer_at(p)));
	assert_true(endpoint_is_loopback(&t->local) && t->local.port != 0);
	assert_true(t->out.ready & STREAM_WRITABLE);
	assert_int_equal(option_of(&t->out, IPPROTO_TCP, TCP_NODELAY), 1);
	assert_int_equal(option_of(&t->out, SOL_SOCKET, SO_KEEPALIVE), 0);
	assert_int_equal(stream_write(&t->out, "hi", 2, &n), STREAM_OK);
	for (int i = 0; i < 500 && !(t->out.ready & STREAM_READABLE); i++)
		loop_turn(t->loop, 10);
	assert_int_equal(stream_read(&t->out, got, sizeof got, &n), STREAM_OK);
	assert_string_equal(got, "yo");
	assert_int_equal(peer_accepted(p), 1);
	peer_free(p);
}

/* TCP takes its time, on loopback too. */
static void
wait_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 5000), 1);
}

/* Both edges come at once, as they would with an error. */
static void
test_peer_speaks_first(void **state)
{
	struct trial *t = *state;
	char got[8] = "";
	size_t n;
	int listening = refusing_port(&t->addrs[0]);
	assert_int_equal(listen(listening, 1), 0);
	start(t);
	wait_readable(listening);
	int fd = accept(listening, NULL, NULL);
	assert_int_equal(send(fd, "hi", 2, 0), 2);
	wait_readable(t->out.fd);
	finish(t, 0);
	assert_int_equal(stream_read(&t->out, got, sizeof got, &n), STREAM_OK);
	assert_string_equal(got, "hi");
	close(fd);
	close(listening);
}

static void
test_refused(void **state)
{
	struct trial *t = *state;
	int fd = refusing_port(&t->addrs[0]);
	start(t);
	finish(t, ECONNREFUSED);
	close(fd);
}

static void
test_failure_starts_next_at_once(void **state)
{
	struct trial *t = *state;
	struct peer *p = peer_new(t->loop, "");
	int fds[2] = {refusing_port(&t->addrs[0]), refusing_port(&t->addrs[1])};
	t->addrs[2] = *peer_at(p);
	t->plan.n_addrs = 3;
	start(t);
	finish(t, 0);
	assert_true(endpoint_equal(&t->peer, peer_at(p)));
	close(fds[0]);
	close(fds[1]);
	peer_free(p);
}

static void
test_silence_starts_next_after_delay(void **state)
{
	struct trial *t = *state;
	struct peer *p = peer_new(t->loop, "");
	uint64_t now = START_MS;
	int silent[2];
	silent_port(&t->addrs[0], silent);
	t->addrs[1] = *peer_at(p);
	t->plan.n_addrs = 2;
	start(t);
	unsigned first = open_descriptors();
	pass_ms(t, &now, CONNECT_DELAY_MS - 1);
	assert_int_equal(peer_accepted(p), 0);
	pass_ms(t, &now, 1 + WHEEL_TICK_MS);
	finish(t, 0);
	assert_true(endpoint_equal(&t->peer, peer_at(p)));
	assert_int_equal(open_descriptors(), first + 1); /* the peer's end; of ours one is left */
	close(silent[0]);
	close(silent[1]);
	peer_free(p);
}

static void
test_failure_beside_a_silent_one(void **state)
{
	struct trial *t = *state;
	struct peer *p = peer_new(t->loop, "");
	uint64_t now = START_MS;
	int silent[2];
	silent_port(&t->addrs[0], silent);
	int fd = refusing_port(&t->addrs[1]);
	t->addrs[2] = *peer_at(p);
	t->plan.n_addrs = 3;
	start(t);
	pass_ms(t, &now,
		CONNECT_DELAY_MS + WHEEL_TICK_MS); /* the second fails; the third begins at once */
	finish(t, 0);
	assert_true(endpoint_equal(&t->peer, peer_at(p)));
	close(fd);
	close(silent[0]);
	close(silent[1]);
	peer_free(p);
}

static void
test_nobody_is_left(void **state)
{
	struct trial *t = *state;
	uint64_t now = START_MS;
	int silent[2];
	silent_port(&t->addrs[0], silent);
	int fd = refusing_port(&t->addrs[1]);
	t->plan.n_addrs = 2;
	start(t);
	pass_ms(t, &now, 2 * CONNECT_DELAY_MS);
	assert_int_equal(t->told, 0); /* the silent one may still answer */
	close(silent[1]);
	close(silent[0]); /* its SYN meets a closed port when it is sent again */
	clock_fake_stop();
	finish(t, ECONNREFUSED);
	close(fd);
}

/* The error that says most is told, in whatever order they come. */
static void
test_told_error(void **state)
{
	struct trial *t = *state;
	struct endpoint source = {0};
	const uint8_t six[16] = {[15] = 1}, four[4] = {127, 0, 0, 1};
	endpoint_set_ipv4(&source, four, 0);
	t->plan.source = &source;
	endpoint_set_ipv6(&t->addrs[0], six, 1); /* can't be reached from that source */
	int fd = refusing_port(&t->addrs[1]);
	endpoint_set_ipv6(&t->addrs[2], six, 2);
	t->plan.n_addrs = 3;
	start(t);
	finish(t, ECONNREFUSED);
	t->told = 0;
	t->done = false;
	t->plan.n_addrs = 1;
	start(t);
	assert_int_equal(connect_verdict(EAFNOSUPPORT), VERDICT_NETWORK_UNREACHABLE);
	finish(t, EAFNOSUPPORT);
	close(fd);
}

static void
test_out_of_descriptors(void **state)
{
	struct trial *t = *state;
	struct peer *p = peer_new(t->loop, "");
	struct rlimit before, none;
	t->addrs[0] = t->addrs[1] = *peer_at(p);
	t->plan.n_addrs = 2;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	start(t);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	finish(t, EMFILE);
	assert_int_equal(connect_verdict(EMFILE), VERDICT_INTERNAL);
	assert_int_equal(peer_accepted(p), 0);
	peer_free(p);
}

static void
test_connection_to_itself(void **state)
{
	struct trial *t = *state;
	int fd = refusing_port(&t->addrs[0]);
	struct endpoint source = t->addrs[0];
	close(fd); /* free now, so the kernel may choose it as our own end */
	t->plan.source = &source;
	start(t);
	finish(t, ECONNREFUSED);
	fd = refusing_port(&t->addrs[1]); /* nothing of it stays behind on the port */
	close(fd);
}

static void
test_source_address(void **state)
{
	struct trial *t = *state;
	struct peer *p = peer_new(t->loop, "");
	struct endpoint source = {0};
	const uint8_t five[4] = {127, 0, 0, 5};
	endpoint_set_ipv4(&source, five, 0);
	t->addrs[0] = *peer_at(p);
	t->plan.source = &source;
	start(t);
	finish(t, 0);
	assert_true(endpoint_same_host(&t->local, &source));
	assert_int_equal(option_of(&t->out, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT), 1);
	peer_free(p);
}

static void
test_source_that_is_not_ours(void **state)
{
	struct trial *t = *state;
	struct peer *p = peer_new(t->loop, "");
	struct endpoint source = {0};
	const uint8_t nobody[4] = {192, 0, 2, 1};
	endpoint_set_ipv4(&source, nobody, 0);
	t->addrs[0] = *peer_at(p);
	t->plan.source = &source;
	start(t);
	finish(t, EADDRNOTAVAIL);
	assert_int_equal(connect_verdict(EADDRNOTAVAIL), VERDICT_INTERNAL);
	peer_free(p);
}

static void
test_interface(void **state)
{
	struct trial *t = *state;
	struct peer *p = peer_new(t->loop, "");
	char name[IFNAMSIZ] = "";
	socklen_t len = sizeof name;
	t->addrs[0] = *peer_at(p);
	t->plan.interface = "lo";
	start(t);
	finish(t, 0);
	assert_int_equal(getsockopt(t->out.fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len), 0);
	assert_string_equal(name, "lo");
	stream_close(&t->out);
	t->told = 0;
	t->done = false;
	t->plan.interface = "no-such-if";
	start(t);
	finish(t, ENODEV);
	assert_int_equal(connect_verdict(ENODEV), VERDICT_INTERNAL);
	peer_free(p);
}

static void
test_mark(void **state)
{
	struct trial *t = *state;
	struct peer *p = peer_new(t->loop, "");
	unsigned mark = 7;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool allowed = setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark) == 0;
	close(fd);
	t->addrs[0] = *peer_at(p);
	t->plan.mark = 7;
	start(t);
	finish(t, allowed ? 0 : EPERM);
	if (allowed)
		assert_int_equal(option_of(&t->out, SOL_SOCKET, SO_MARK), 7);
	assert_int_equal(connect_verdict(EPERM), VERDICT_INTERNAL);
	peer_free(p);
}

/* An address of this host that is not loopback, with a free port that listens; -1: there is none.
 */
static int
listen_off_loopback(struct endpoint *at)
{
	struct ifaddrs *all, *i;
	int fd = -1;
	assert_int_equal(getifaddrs(&all), 0);
	for (i = all; i != NULL && fd < 0; i = i->ifa_next) {
		if (i->ifa_addr == NULL || i->ifa_addr->sa_family != AF_INET ||
		    (i->ifa_flags & IFF_LOOPBACK) != 0)
			continue;
		struct sockaddr_in sin = *(struct sockaddr_in *)(void *)i->ifa_addr;
		socklen_t len = sizeof sin;
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(bind(fd, (struct sockaddr *)&sin, len) | listen(fd, 4), 0);
		assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
		endpoint_from_sockaddr(at, (struct sockaddr *)&sin, len);
	}
	freeifaddrs(all);
	return fd;
}

static void
test_peers_elsewhere_are_watched(void **state)
{
	struct trial *t = *state;
	int fd = listen_off_loopback(&t->addrs[0]);
	if (fd < 0) {
		print_message("this host has no address but loopback\n");
		return;
	}
	start(t);
	finish(t, 0);
	assert_int_equal(option_of(&t->out, SOL_SOCKET, SO_KEEPALIVE), 1);
	assert_int_equal(option_of(&t->out, IPPROTO_TCP, TCP_KEEPIDLE), CONNECT_KEEPALIVE_S);
	assert_int_equal(option_of(&t->out, IPPROTO_TCP, TCP_USER_TIMEOUT), CONNECT_DEAD_MS);
	close(fd);
}

static void
test_cancel(void **state)
{
	struct trial *t = *state;
	uint64_t now = START_MS;
	int silent[2];
	unsigned before = open_descriptors();
	silent_port(&t->addrs[0], silent);
	t->addrs[1] = t->addrs[2] = t->addrs[0];
	t->plan.n_addrs = 3;
	for (int passed = 0; passed < 4; passed++) {
		start(t);
		for (int i = 0; i < passed; i++)
			pass_ms(t, &now, CONNECT_DELAY_MS + WHEEL_TICK_MS);
		connector_cancel(&t->connector);
		connector_cancel(&t->connector);
		assert_false(stream_is_open(&t->out));
		assert_int_equal(open_descriptors(), before + 2);
		pass_ms(t, &now, 10 * CONNECT_DELAY_MS);
		assert_int_equal(t->told, 0);
	}
	close(silent[0]);
	close(silent[1]);
}

static void
test_cancel_of_what_failed_at_once(void **state)
{
	struct trial *t = *state;
	const uint8_t four[4] = {127, 0, 0, 1}, six[16] = {[15] = 1};
	struct endpoint source = {0};
	endpoint_set_ipv4(&source, four, 0);
	endpoint_set_ipv6(&t->addrs[0], six, 1);
	t->plan.source = &source;
	start(t);
	connector_cancel(&t->connector);
	turn_some(t->loop);
	assert_int_equal(t->told, 0);
}

static void
test_verdicts(void **state)
{
	static const struct {
		int error;
		enum verdict want;
	} rows[] = {
	    {0, VERDICT_GRANTED},
	    {ECONNREFUSED, VERDICT_REFUSED},
	    {ECONNRESET, VERDICT_REFUSED},
	    {ETIMEDOUT, VERDICT_TIMEOUT},
	    {EHOSTUNREACH, VERDICT_HOST_UNREACHABLE},
	    {EHOSTDOWN, VERDICT_HOST_UNREACHABLE},
	    {EACCES, VERDICT_HOST_UNREACHABLE},
	    {EINVAL, VERDICT_HOST_UNREACHABLE},
	    {ENETUNREACH, VERDICT_NETWORK_UNREACHABLE},
	    {ENETDOWN, VERDICT_NETWORK_UNREACHABLE},
	    {EMFILE, VERDICT_INTERNAL},
	    {ENFILE, VERDICT_INTERNAL},
	    {ENOMEM, VERDICT_INTERNAL},
	    {ENOBUFS, VERDICT_INTERNAL},
	    {EADDRINUSE, VERDICT_INTERNAL},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (connect_verdict(rows[i].error) != rows[i].want)
			fail_msg("%s", strerror(rows[i].error));
		assert_false(rows[i].want != VERDICT_GRANTED &&
			     verdict_blames_upstream(rows[i].want));
	}
}

#define TRIAL(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

static int
listen_on(uint16_t port, struct endpoint *at)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sin, sizeof sin), 0);
	assert_int_equal(listen(fd, 16), 0);
	endpoint_from_sockaddr(at, (struct sockaddr *)&sin, sizeof sin);
	return fd;
}

/* The last test: it leaves this process in a network of its own. */
static void
test_no_port_is_left(void **state)
{
	struct trial *t = *state;
	struct port_rest rest = {.until_ms = 0};
	struct connector held[2] = {{.loop = NULL}};
	struct stream streams[2];
	struct endpoint other;
	uint64_t now = START_MS;
	if (!own_network_enter() || !own_network_set("ipv4/ip_local_port_range", "50000 50001"))
		skip();
	int listening = listen_on(10001, &t->addrs[0]), elsewhere = listen_on(10002, &other);
	t->plan.rest = &rest;
	for (unsigned i = 0; i < 2; i++) {
		t->done = false;
		t->told = 0;
		stream_init(&streams[i], t->loop);
		connector_start(&held[i], t->loop, &t->plan, &streams[i], on_connect, t);
		assert_true(turn_until(t->loop, &t->done));
		assert_int_equal(t->error, 0);
	}
	start_again(t);
	finish(t, EADDRNOTAVAIL);
	/* A port is free again, but that is not looked for yet. */
	stream_reset(&streams[0]);
	start_again(t);
	finish(t, EADDRNOTAVAIL);
	/* Other ways have ports of their own. */
	struct endpoint crowded = t->addrs[0];
	t->addrs[0] = other;
	start_again(t);
	finish(t, 0);
	stream_close(&t->out);
	t->addrs[0] = crowded;
	pass_ms(t, &now, PORT_REST_MS);
	start_again(t);
	finish(t, 0);
	stream_close(&streams[1]);
	close(listening);
	close(elsewhere);
}

static void
test_what_rests_is_one_way(void **state)
{
	(void)state;
	struct port_rest rest = {.until_ms = 0};
	struct endpoint to, other, source;
	assert_int_equal(endpoint_from_text(&to, "192.0.2.1:80", 12), ENDPOINT_OK);
	assert_int_equal(endpoint_from_text(&other, "192.0.2.1:81", 12), ENDPOINT_OK);
	assert_int_equal(endpoint_from_text(&source, "192.0.2.9:0", 11), ENDPOINT_OK);
	struct connect_plan plain = {.rest = &rest}, marked = {.mark = 7}, bound = {.source = &source}, cable = {.interface = "eth1"};
	assert_false(port_rests(NULL, &plain, &to, 1000));
	assert_false(port_rests(&rest, &plain, &to, 1000));
	port_rest_note(&rest, &plain, &to, 1000);
	assert_true(port_rests(&rest, &plain, &to, 1000 + PORT_REST_MS - 1));
	assert_false(port_rests(&rest, &plain, &to, 1000 + PORT_REST_MS));
	assert_false(port_rests(&rest, &plain, &other, 1000));
	assert_false(port_rests(&rest, &marked, &to, 1000));
	assert_false(port_rests(&rest, &bound, &to, 1000));
	assert_false(port_rests(&rest, &cable, &to, 1000));
	/* Of many, the last ones. */
	for (unsigned i = 0; i < PORT_REST_PLACES; i++) {
		other.port = (uint16_t)(1000 + i);
		port_rest_note(&rest, &plain, &other, 1001);
	}
	assert_false(port_rests(&rest, &plain, &to, 1001));
	for (unsigned i = 0; i < PORT_REST_PLACES; i++) {
		other.port = (uint16_t)(1000 + i);
		assert_true(port_rests(&rest, &plain, &other, 1001));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TRIAL(test_one_address),
	    TRIAL(test_peer_speaks_first),
	    TRIAL(test_refused),
	    TRIAL(test_failure_starts_next_at_once),
	    TRIAL(test_silence_starts_next_after_delay),
	    TRIAL(test_failure_beside_a_silent_one),
	    TRIAL(test_nobody_is_left),
	    TRIAL(test_told_error),
	    TRIAL(test_out_of_descriptors),
	    TRIAL(test_connection_to_itself),
	    TRIAL(test_source_address),
	    TRIAL(test_source_that_is_not_ours),
	    TRIAL(test_interface),
	    TRIAL(test_mark),
	    TRIAL(test_peers_elsewhere_are_watched),
	    TRIAL(test_cancel),
	    TRIAL(test_cancel_of_what_failed_at_once),
	    cmocka_unit_test(test_verdicts),
	    cmocka_unit_test(test_what_rests_is_one_way),
	    TRIAL(test_no_port_is_left),
	};
	return cmocka_run_group_tests_name("connector", tests, NULL, NULL);
}
