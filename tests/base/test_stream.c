/*
 * test_stream: plain streams over socketpairs and loopback TCP: bits, short counts, ends, resets
 * behind data, moves.
 */
#include "base/stream.h"
#include "base/clock.h"
#include "base/loop.h"
#include "tests/base/tcp_pair.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { RW = STREAM_READABLE | STREAM_WRITABLE, RWH = RW | STREAM_HUP };

static struct loop *loop;
static struct stream stream;
static int peer;                               /* the other end; -1: closed */
static unsigned calls;                         /* of the callback */
static uint8_t seen[4096];

static void
on_ready(struct stream *s, void *arg)
{
	assert_ptr_equal(arg, &calls);
	assert_true(stream_is_open(s));
	calls++;
}

/* TCP takes its time, on loopback too: the loop turns when all that was sent has come. */
static void
wait_for(int fd, short what)
{
	struct pollfd p = { .fd = fd, .events = what };
	do
		assert_int_equal(poll(&p, 1, 5000), 1);
	while (!(p.revents & what));
}

static void
wait_for_end(void)
{
	if (stream_is_open(&stream))
		wait_for(stream.fd, POLLRDHUP);
}

static int
waiting_bytes(void)
{
	int n = 0;
	assert_int_equal(ioctl(stream.fd, FIONREAD, &n), 0);
	return n;
}

static void
close_peer(void)
{
	if (peer >= 0)
		close(peer);
	peer = -1;
	wait_for_end();
}

/* Closes so that the other end gets RST. */
static void
reset_peer(void)
{
	struct linger at_once = { .l_onoff = 1 };
	assert_int_equal(setsockopt(peer, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
	close_peer();
}

static int
open_pair(bool tcp)
{
	int pair[2];
	if (tcp)
		tcp_pair(pair);
	else
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	calls = 0;
	peer = pair[1];
	clock_fake(1000, 0);
	loop = loop_new();
	assert_non_null(loop);
	stream_init(&stream, loop);
	return stream_open(&stream, pair[0], RW, on_ready, &calls) ? 0 : -1;
}

static int
set_up_tcp(void **state)
{
	(void)state;
	return open_pair(true);
}

static int
set_up_unix(void **state)
{
	(void)state;
	return open_pair(false);
}

static int
tear_down(void **state)
{
	(void)state;
	stream_close(&stream);
	stream_close(&stream);
	close_peer();
	loop_free(loop);
	clock_fake_stop();
	return 0;
}

static void
peer_sends(const char *text)
{
	int before = waiting_bytes();
	assert_int_equal(send(peer, text, strlen(text), 0), strlen(text));
	for (int i = 0; i < 5000 && waiting_bytes() == before; i++)
		(void)poll(NULL, 0, 1);
	assert_int_equal(waiting_bytes(), before + (int)strlen(text));
}

/* What the peer reads next; "": our end. */
static void
expect_at_peer(const char *text)
{
	char got[64];
	wait_for(peer, POLLIN);
	assert_int_equal(recv(peer, got, sizeof got, 0), strlen(text));
	assert_memory_equal(got, text, strlen(text));
}

static void
expect_read(size_t cap, enum stream_status want, const char *text)
{
	size_t n = 99;
	assert_int_equal(stream_read(&stream, seen, cap, &n), want);
	assert_int_equal(n, strlen(text));
	assert_memory_equal(seen, text, n);
}

/* As a stream is at rest: read empty, its first edge taken. */
static void
settle(void)
{
	loop_turn(loop, 0);
	expect_read(sizeof seen, STREAM_AGAIN, "");
	loop_turn(loop, 0);
	assert_int_equal(stream.ready, STREAM_WRITABLE);
	calls = 0;
}

static void
look_again(void)
{
	for (int round = 0; round < 2; round++) {
		clock_fake(clock_now_ms() + LOOP_LOOK_MS + 2 * WHEEL_TICK_MS, 0);
		loop_turn(loop, 0);
	}
}

static void
test_bits_come_with_edges_and_go_with_short_reads(void **state)
{
	(void)state;
	settle();
	peer_sends("abc");
	assert_int_equal(stream.ready, STREAM_WRITABLE);
	loop_turn(loop, 0);
	assert_int_equal(calls, 1);
	assert_int_equal(stream.ready, RW);
	expect_read(2, STREAM_OK, "ab");       /* it filled the buffer: there may be more */
	assert_int_equal(stream.ready, RW);
	expect_read(2, STREAM_OK, "c");
	assert_int_equal(stream.ready, STREAM_WRITABLE);
	expect_read(2, STREAM_AGAIN, "");
	loop_turn(loop, 0);
	assert_int_equal(calls, 1);
}

static void
test_bits_that_the_owner_knows_are_not_told_again(void **state)
{
	(void)state;
	settle();
	for (int i = 0; i < 3; i++) {
		peer_sends("a");
		loop_turn(loop, 0);
	}
	assert_int_equal(calls, 1);
	expect_read(sizeof seen, STREAM_OK, "aaa");
}

static void
test_one_byte_at_a_time(void **state)
{
	(void)state;
	settle();
	for (const char *c = "one byte at a time"; *c != '\0'; c++) {
		char one[2] = { *c, '\0' };
		peer_sends(one);
		loop_turn(loop, 0);
		assert_int_equal(stream.ready, RW);
		expect_read(sizeof seen, STREAM_OK, one);
		assert_int_equal(stream.ready, STREAM_WRITABLE);
	}
}

static void
test_fin_behind_data_in_one_edge(void **state)
{
	(void)state;
	settle();
	peer_sends("last words");
	close_peer();
	loop_turn(loop, 0);
	assert_int_equal(calls, 1);
	assert_int_equal(stream.ready, RWH);
	expect_read(sizeof seen, STREAM_OK, "last words");
	assert_true(stream.ready & STREAM_READABLE);           /* no edge would come any more */
	expect_read(sizeof seen, STREAM_EOF, "");
	assert_false(stream.ready & STREAM_READABLE);
	for (int i = 0; i < 3; i++)
		expect_read(sizeof seen, STREAM_EOF, "");
}

static void
test_fin_after_the_read(void **state)
{
	(void)state;
	settle();
	peer_sends("x");
	loop_turn(loop, 0);
	expect_read(sizeof seen, STREAM_OK, "x");
	close_peer();
	loop_turn(loop, 0);
	assert_int_equal(calls, 2);
	assert_int_equal(stream.ready, RWH);
	expect_read(sizeof seen, STREAM_EOF, "");
}

static void
test_fin_of_an_edge_that_came_before_the_read(void **state)
{
	(void)state;
	settle();
	peer_sends("x");
	loop_turn(loop, 0);
	close_peer();                          /* behind the edge, before the read */
	expect_read(sizeof seen, STREAM_OK, "x");
	loop_turn(loop, 0);
	assert_int_equal(stream.ready, RWH);
	expect_read(sizeof seen, STREAM_EOF, "");
}

/* libevent shows it as an arrival like any other. */
static void
test_reset_behind_data_in_one_edge(void **state)
{
	(void)state;
	settle();
	peer_sends("last words");
	reset_peer();
	loop_turn(loop, 0);
	assert_int_equal(stream.ready, RW);
	expect_read(sizeof seen, STREAM_OK, "last words");
	assert_int_equal(calls, 1);
	loop_turn(loop, 0);
	assert_int_equal(calls, 1);
	look_again();
	assert_int_equal(calls, 2);
	assert_int_equal(stream.ready, RWH);
	expect_read(sizeof seen, STREAM_ERROR, "");
	assert_int_equal(stream.error, ECONNRESET);
	expect_read(sizeof seen, STREAM_ERROR, "");
	assert_int_equal(stream.error, ECONNRESET);
}

static void
test_reset_behind_data_met_by_a_write_first(void **state)
{
	size_t n;
	(void)state;
	settle();
	peer_sends("last words");
	reset_peer();
	loop_turn(loop, 0);
	assert_int_equal(stream_write(&stream, "x", 1, &n), STREAM_ERROR);
	assert_int_equal(stream.error, ECONNRESET);
	expect_read(sizeof seen, STREAM_OK, "last words");
	expect_read(sizeof seen, STREAM_ERROR, "");            /* recv says 0: no proper end */
	assert_int_equal(stream.error, ECONNRESET);
}

static void
test_a_look_at_a_living_socket_tells_nobody(void **state)
{
	(void)state;
	settle();
	peer_sends("x");
	loop_turn(loop, 0);
	expect_read(sizeof seen, STREAM_OK, "x");
	calls = 0;
	look_again();
	assert_int_equal(calls, 0);
	assert_false(look_waits(&stream.look));
}

static void
test_reset_alone(void **state)
{
	(void)state;
	settle();
	reset_peer();
	loop_turn(loop, 0);
	assert_int_equal(calls, 1);
	expect_read(sizeof seen, STREAM_ERROR, "");
	assert_int_equal(stream.error, ECONNRESET);
}

static void
test_reset_after_a_half_close(void **state)
{
	(void)state;
	settle();
	shutdown(peer, SHUT_WR);
	wait_for_end();
	loop_turn(loop, 0);
	expect_read(sizeof seen, STREAM_EOF, "");
	calls = 0;
	reset_peer();
	for (int i = 0; i < 500 && calls == 0; i++)    /* the FIN is there already: it can't be waited for */
		loop_turn(loop, 10);
	assert_int_equal(calls, 1);
	expect_read(sizeof seen, STREAM_ERROR, "");
}

/* Behind a short write there may be room again at once; the next turn tells of it. */
static void
fill(size_t *total)
{
	static uint8_t block[65536];
	size_t n;
	enum stream_status status;
	bool writable = stream.ready & STREAM_WRITABLE;
	while ((status = stream_write(&stream, block, sizeof block, &n)) == STREAM_OK) {
		*total += n;
		writable = writable && n == sizeof block;
		assert_int_equal((stream.ready & STREAM_WRITABLE) != 0, writable);
	}
	assert_int_equal(status, STREAM_AGAIN);
	assert_false(stream.ready & STREAM_WRITABLE);
}

static size_t
drain_peer(void)
{
	static uint8_t block[65536];
	size_t total = 0;
	ssize_t n;
	while ((n = recv(peer, block, sizeof block, MSG_DONTWAIT)) > 0)
		total += (size_t)n;
	return total;
}

static void
test_full_socket_and_its_edge(void **state)
{
	size_t sent = 0, got = 0;
	(void)state;
	settle();
	do {
		fill(&sent);
		calls = 0;
		loop_turn(loop, 50);
	} while (calls > 0);                   /* until the peer's side is full, too */
	while (got < sent) {
		got += drain_peer();
		loop_turn(loop, 1);
	}
	assert_int_equal(got, sent);
	assert_int_equal(calls, 1);
	assert_int_equal(stream.ready, STREAM_WRITABLE);
}

static void
test_half_close_by_us(void **state)
{
	size_t n;
	(void)state;
	settle();
	assert_int_equal(stream_write(&stream, "x", 1, &n), STREAM_OK);
	assert_int_equal(stream_shut_write(&stream), STREAM_OK);
	assert_int_equal(stream_shut_write(&stream), STREAM_OK);
	assert_true(stream.write_shut);
	expect_at_peer("x");
	expect_at_peer("");
	peer_sends("answer");
	close_peer();
	loop_turn(loop, 0);
	expect_read(sizeof seen, STREAM_OK, "answer");
	expect_read(sizeof seen, STREAM_EOF, "");
}

static void
test_half_close_by_the_peer(void **state)
{
	size_t n;
	(void)state;
	settle();
	peer_sends("question");
	shutdown(peer, SHUT_WR);
	wait_for_end();
	loop_turn(loop, 0);
	expect_read(sizeof seen, STREAM_OK, "question");
	expect_read(sizeof seen, STREAM_EOF, "");
	calls = 0;
	assert_int_equal(stream_write(&stream, "answer", 6, &n), STREAM_OK);
	expect_at_peer("answer");
	loop_turn(loop, 10);
	assert_int_equal(calls, 0);            /* the FIN is in every edge, but told once */
	assert_int_equal(stream_shut_write(&stream), STREAM_OK);
	expect_at_peer("");
}

static void
test_write_to_a_peer_that_left_raises_no_signal(void **state)
{
	enum stream_status status = STREAM_OK;
	size_t n;
	(void)state;
	signal(SIGPIPE, SIG_DFL);
	settle();
	close_peer();
	for (int i = 0; i < 100 && status == STREAM_OK; i++) {
		loop_turn(loop, 10);
		status = stream_write(&stream, "x", 1, &n);
	}
	assert_int_equal(status, STREAM_ERROR);
	assert_int_equal(stream.error, EPIPE);
	assert_false(stream.ready & STREAM_WRITABLE);
	expect_read(sizeof seen, STREAM_EOF, "");              /* it had said so properly before */
}

static void
test_peer_sees_our_reset(void **state)
{
	char byte;
	(void)state;
	settle();
	stream_reset(&stream);
	assert_false(stream_is_open(&stream));
	wait_for(peer, POLLERR);
	assert_int_equal(recv(peer, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
}

static void
on_close(struct stream *s, void *arg)
{
	unsigned *n = arg;
	++*n;
	stream_close(s);
}

static void
test_closed_by_its_own_callback(void **state)
{
	(void)state;
	settle();
	stream_set_callback(&stream, on_close, &calls);
	peer_sends("x");
	loop_turn(loop, 0);
	loop_turn(loop, 0);
	assert_int_equal(calls, 1);
	assert_false(stream_is_open(&stream));
	assert_int_equal(stream.ready, 0);
}

static void
test_move_keeps_bits_and_loses_no_edge(void **state)
{
	struct stream to;
	(void)state;
	stream_init(&to, loop);
	settle();
	peer_sends("ab");
	loop_turn(loop, 0);
	assert_true(stream_move(&to, &stream));
	assert_false(stream_is_open(&stream));
	assert_int_equal(to.ready, RW);
	assert_true(stream_move(&stream, &to));
	expect_read(sizeof seen, STREAM_OK, "ab");
	peer_sends("c");                       /* while it moves */
	assert_true(stream_move(&to, &stream));
	assert_true(stream_move(&stream, &to));
	calls = 0;
	loop_turn(loop, 0);
	assert_int_equal(calls, 1);
	assert_int_equal(stream.ready, RW);
	expect_read(sizeof seen, STREAM_OK, "c");
	peer_sends("d");
	loop_turn(loop, 0);
	assert_int_equal(calls, 2);
}

struct mover {
	struct stream a, b, a_to, b_to;
	int peer_a, peer_b;
	unsigned told_a, told_b;
};
static struct mover mover;

static void
move_other(struct stream *s, void *arg)
{
	struct mover *m = &mover;
	unsigned *told = arg;
	(void)s;
	++*told;
	if (told == &m->told_a && stream_is_open(&m->b))
		assert_true(stream_move(&m->b_to, &m->b));
	if (told == &m->told_b && stream_is_open(&m->a))
		assert_true(stream_move(&m->a_to, &m->a));
}

/*
 * Both are ready in one turn, and whichever is told first moves the other, whose event waits: it
 * must be told at its new place.
 */
static void
test_move_takes_an_untold_event_along(void **state)
{
	struct mover *m = &mover;
	int a[2], b[2];
	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, a), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, b), 0);
	struct stream *all[] = { &m->a, &m->b, &m->a_to, &m->b_to };
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		stream_init(all[i], loop);
	assert_true(stream_open(&m->a, a[0], STREAM_WRITABLE, move_other, &m->told_a));
	assert_true(stream_open(&m->b, b[0], STREAM_WRITABLE, move_other, &m->told_b));
	loop_turn(loop, 0);
	assert_int_equal(m->told_a + m->told_b, 0);
	assert_int_equal(write(a[1], "x", 1), 1);
	assert_int_equal(write(b[1], "x", 1), 1);
	loop_turn(loop, 0);
	assert_int_equal(m->told_a, 1);
	assert_int_equal(m->told_b, 1);
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		stream_close(all[i]);
	close(a[1]);
	close(b[1]);
}

static int
connect_to_nobody(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof at;
	int holder = socket(AF_INET, SOCK_STREAM, 0);          /* does not listen */
	assert_int_equal(bind(holder, (struct sockaddr *)&at, sizeof at), 0);
	assert_int_equal(getsockname(holder, (struct sockaddr *)&at, &len), 0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), -1);
	assert_int_equal(errno, EINPROGRESS);
	close(holder);
	return fd;
}

static void
test_connect_that_is_refused(void **state)
{
	(void)state;
	stream_close(&stream);
	assert_true(stream_open(&stream, connect_to_nobody(), 0, on_ready, &calls));
	for (int i = 0; i < 100 && !(stream.ready & STREAM_WRITABLE); i++)
		loop_turn(loop, 10);
	assert_int_equal(calls, 1);
	assert_int_equal(stream_take_error(&stream), ECONNREFUSED);
	assert_int_equal(stream.error, ECONNREFUSED);
	assert_int_equal(stream_take_error(&stream), 0);
	expect_read(sizeof seen, STREAM_ERROR, "");
}

static void
test_connected_has_no_error(void **state)
{
	(void)state;
	assert_int_equal(stream_take_error(&stream), 0);
	assert_int_equal(stream_handshake(&stream), STREAM_OK);
	assert_true(stream_can_splice_in(&stream) && stream_can_splice_out(&stream));
}

static void
on_warning(int severity, const char *text)
{
	(void)severity, (void)text;
}

static void
test_a_descriptor_that_epoll_refuses_is_closed(void **state)
{
	int fd = open("/dev/null", O_RDWR);
	(void)state;
	stream_close(&stream);
	event_set_log_callback(on_warning);
	assert_false(stream_open(&stream, fd, RW, on_ready, &calls));
	assert_int_equal(errno, EPERM);
	assert_false(stream_is_open(&stream));
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	event_set_log_callback(NULL);
}

#define TCP(test) cmocka_unit_test_setup_teardown(test, set_up_tcp, tear_down)
#define ON_BOTH(test)                                                                              \
	{ #test " (TCP)", test, set_up_tcp, tear_down, NULL },                                     \
	{ #test " (Unix)", test, set_up_unix, tear_down, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		ON_BOTH(test_bits_come_with_edges_and_go_with_short_reads),
		ON_BOTH(test_bits_that_the_owner_knows_are_not_told_again),
		ON_BOTH(test_one_byte_at_a_time),
		ON_BOTH(test_fin_behind_data_in_one_edge),
		ON_BOTH(test_fin_after_the_read),
		ON_BOTH(test_fin_of_an_edge_that_came_before_the_read),
		TCP(test_reset_behind_data_in_one_edge),
		TCP(test_reset_behind_data_met_by_a_write_first),
		TCP(test_a_look_at_a_living_socket_tells_nobody),
		TCP(test_reset_alone),
		TCP(test_reset_after_a_half_close),
		ON_BOTH(test_full_socket_and_its_edge),
		ON_BOTH(test_half_close_by_us),
		ON_BOTH(test_half_close_by_the_peer),
		ON_BOTH(test_write_to_a_peer_that_left_raises_no_signal),
		TCP(test_peer_sees_our_reset),
		ON_BOTH(test_closed_by_its_own_callback),
		ON_BOTH(test_move_keeps_bits_and_loses_no_edge),
		TCP(test_move_takes_an_untold_event_along),
		TCP(test_connect_that_is_refused),
		TCP(test_connected_has_no_error),
		TCP(test_a_descriptor_that_epoll_refuses_is_closed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
