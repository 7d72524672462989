/*
 * The relay between two TCP pairs on loopback: every byte, every end, whoever ends first and whatever is under way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/counters.h"
#include "base/loop.h"
#include "base/stream.h"
#include "router/relay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* client (ours) <-> near | relay | far <-> upstream (ours) */
struct fixture {
	struct loop *loop;
	struct counters counters;
	struct relay_pool pool;
	struct relay relay;
	struct stream near, far;
	int client, upstream;
	bool ended;
	enum relay_end how;
};

static void
tcp_pair(int pair[2])
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof at;
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
	pair[0] = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(pair[0], (struct sockaddr *)&at, sizeof at), 0);
	pair[1] = accept(listener, NULL, NULL);
	assert_true(pair[1] >= 0);
	close(listener);
	for (int i = 0; i < 2; i++)
		assert_int_equal(fcntl(pair[i], F_SETFL, O_NONBLOCK), 0);
}

static void
on_end(struct relay *r, enum relay_end how)
{
	struct fixture *f = CONTAINER_OF(r, struct fixture, relay);
	assert_false(f->ended);
	f->ended = true;
	f->how = how;
	/* As a session does: where both directions have ended, the close is what the second one's peer sees. */
	if (how == RELAY_DONE) {
		stream_close(&f->near);
		stream_close(&f->far);
	}
}

static void
nothing(struct stream *s, void *arg)
{
	(void)s, (void)arg;
}

static void
start(struct fixture *f, const struct relay_head *up, const struct relay_head *down)
{
	static const struct relay_head none;
	assert_true(relay_start(&f->relay, &f->pool, &f->near, &f->far, up != NULL ? up : &none,
				down != NULL ? down : &none));
}

static int
set_up(void **state)
{
	struct fixture *f = aligned_alloc(64, (sizeof *f + 63) / 64 * 64);
	int pair[2];
	assert_non_null(f);
	memset(f, 0, sizeof *f);
	f->loop = loop_new();
	assert_non_null(f->loop);
	assert_true(relay_pool_init(&f->pool, f->loop, &f->counters, on_end));
	stream_init(&f->near, f->loop);
	stream_init(&f->far, f->loop);
	tcp_pair(pair);
	f->client = pair[0];
	assert_true(stream_open(&f->near, pair[1], STREAM_READABLE | STREAM_WRITABLE, nothing, NULL));
	tcp_pair(pair);
	f->upstream = pair[0];
	assert_true(stream_open(&f->far, pair[1], STREAM_READABLE | STREAM_WRITABLE, nothing, NULL));
	*state = f;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;
	relay_stop(&f->relay);
	stream_close(&f->near);
	stream_close(&f->far);
	if (f->client >= 0)
		close(f->client);
	if (f->upstream >= 0)
		close(f->upstream);
	assert_int_equal(f->pool.held_bytes, 0);
	assert_int_equal(f->pool.n_pipes, f->pool.n_free_pipes);
	relay_pool_free(&f->pool);
	loop_free(f->loop);
	free(f);
	return 0;
}

static uint8_t
pattern(size_t i)
{
	return (uint8_t)(i * 31 + (i >> 8) * 7 + (i >> 16));
}

/* One side's progress in sending n bytes of the pattern and ending. */
struct sender {
	int fd;
	size_t at, n;
	bool ends, ended;
};

static void
sender_step(struct sender *s)
{
	static uint8_t bytes[60000];
	while (s->at < s->n) {
		size_t len = s->n - s->at < sizeof bytes ? s->n - s->at : sizeof bytes;
		for (size_t i = 0; i < len; i++)
			bytes[i] = pattern(s->at + i);
		ssize_t k = send(s->fd, bytes, len, MSG_NOSIGNAL);
		if (k < 0) {
			assert_int_equal(errno, EAGAIN);
			return;
		}
		s->at += (size_t)k;
	}
	if (s->ends && !s->ended) {
		assert_int_equal(shutdown(s->fd, SHUT_WR), 0);
		s->ended = true;
	}
}

/* Reads at most `most`; checks the pattern. True at EOF. */
static bool
receive(int fd, size_t *at, size_t most)
{
	static uint8_t bytes[65536];
	while (most > 0) {
		ssize_t k = recv(fd, bytes, most < sizeof bytes ? most : sizeof bytes, 0);
		if (k == 0)
			return true;
		if (k < 0) {
			assert_int_equal(errno, EAGAIN);
			return false;
		}
		for (ssize_t i = 0; i < k; i++)
			if (bytes[i] != pattern(*at + (size_t)i))
				fail_msg("byte %zu differs", *at + (size_t)i);
		*at += (size_t)k;
		most -= (size_t)k;
	}
	return false;
}

static void
exchange(struct fixture *f, size_t up, size_t down)
{
	struct sender client = { .fd = f->client, .n = up, .ends = true };
	struct sender upstream = { .fd = f->upstream, .n = down, .ends = true };
	size_t at_upstream = 0, at_client = 0;
	bool eof_up = false, eof_down = false;
	for (int turn = 0; turn < 20000 && !(eof_up && eof_down && f->ended); turn++) {
		sender_step(&client);
		sender_step(&upstream);
		loop_turn(f->loop, 1);
		eof_up = eof_up || receive(f->upstream, &at_upstream, SIZE_MAX);
		eof_down = eof_down || receive(f->client, &at_client, SIZE_MAX);
	}
	assert_int_equal(at_upstream, up);
	assert_int_equal(at_client, down);
	assert_true(f->ended);
	assert_int_equal(f->how, RELAY_DONE);
	assert_int_equal(f->relay.up.bytes, up);
	assert_int_equal(f->relay.down.bytes, down);
}

static void
test_sizes_both_ways(void **state)
{
	(void)state;
	static const size_t sizes[] = { 0, 1, 16383, 16384, 16385, 200000, 3000000 };
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
			void *fresh;
			set_up(&fresh);
			struct fixture *f = fresh;
			start(f, NULL, NULL);
			exchange(f, sizes[i], sizes[k]);
			assert_true(relay_holds_nothing(&f->relay));
			assert_int_equal(counter_get(&f->counters, COUNTER_BYTES_UP), sizes[i]);
			assert_int_equal(counter_get(&f->counters, COUNTER_BYTES_DOWN), sizes[k]);
			tear_down(&fresh);
		}
}

/* Turns until recv gives `want` (a count, or 0 for the end). */
static void
expect(struct fixture *f, int fd, const char *bytes)
{
	char got[64];
	ssize_t n = -1, want = (ssize_t)strlen(bytes);
	for (int i = 0; i < 200 && (n = recv(fd, got, sizeof got, 0)) < 0; i++)
		loop_turn(f->loop, 10);
	assert_int_equal(n, want);
	assert_memory_equal(got, bytes, (size_t)want);
}

static void
test_data_and_fin_before_the_loop_runs(void **state)
{
	struct fixture *f = *state;
	start(f, NULL, NULL);
	loop_turn(f->loop, 0);
	assert_int_equal(send(f->upstream, "bye", 3, 0), 3);
	assert_int_equal(shutdown(f->upstream, SHUT_WR), 0);
	expect(f, f->client, "bye");
	expect(f, f->client, "");
	assert_false(f->ended);                /* the client may still speak */
	assert_int_equal(send(f->client, "too", 3, 0), 3);
	expect(f, f->upstream, "too");
}

static void
test_heads_go_first(void **state)
{
	struct fixture *f = *state;
	struct relay_head up = { .bytes = (const uint8_t *)"early", .len = 5, .ended = true };
	struct relay_head down = { .bytes = (const uint8_t *)"reply", .len = 5 };
	start(f, &up, &down);
	expect(f, f->upstream, "early");
	expect(f, f->upstream, "");            /* the half-close that came before the route was up */
	expect(f, f->client, "reply");
}

static void
reset(int *fd)
{
	struct linger hard = { .l_onoff = 1 };
	assert_int_equal(setsockopt(*fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard), 0);
	close(*fd);
	*fd = -1;
}

static void
turn_until_ended(struct fixture *f)
{
	for (int i = 0; i < 200 && !f->ended; i++)
		loop_turn(f->loop, 10);
	assert_true(f->ended);
}

static void
test_reset_of_the_upstream_behind_data(void **state)
{
	struct fixture *f = *state;
	start(f, NULL, NULL);
	loop_turn(f->loop, 0);
	assert_int_equal(send(f->upstream, "last", 4, 0), 4);
	reset(&f->upstream);
	turn_until_ended(f);
	assert_int_equal(f->how, RELAY_UPSTREAM_BROKE);
	expect(f, f->client, "last");
}

static void
test_reset_of_the_client(void **state)
{
	struct fixture *f = *state;
	start(f, NULL, NULL);
	loop_turn(f->loop, 0);
	reset(&f->client);
	turn_until_ended(f);
	assert_int_equal(f->how, RELAY_CLIENT_BROKE);
}

/* The reader stops; what is under way is bounded; then it reads on: all comes without any timer. */
static void
test_stalled_reader_goes_on(void **state)
{
	struct fixture *f = *state;
	struct sender upstream = { .fd = f->upstream, .n = 30 << 20, .ends = true };
	size_t got = 0;
	bool eof = false;
	start(f, NULL, NULL);
	for (int i = 0; i < 400; i++) {
		sender_step(&upstream);
		loop_turn(f->loop, 0);
	}
	assert_true(upstream.at < upstream.n); /* the kernel's buffers are full too, so it did stall */
	assert_true(f->pool.held_bytes <= RELAY_BUFFER_BYTES);
	for (int turn = 0; turn < 200000 && !eof; turn++) {
		eof = receive(f->client, &got, 20000);
		sender_step(&upstream);
		loop_turn(f->loop, 0);
	}
	assert_true(eof);
	assert_int_equal(got, upstream.n);
}

/* Small segments fill a pipe by slots long before its bytes: that is no end of the data. */
static void
test_small_segments(void **state)
{
	struct fixture *f = *state;
	int mss = 88;
	(void)setsockopt(f->upstream, IPPROTO_TCP, TCP_MAXSEG, &mss, sizeof mss);
	start(f, NULL, NULL);
	exchange(f, 10, 2000000);
}

/* Without a pipe bytes are copied; pipes that wait for the next flow go where descriptors are short. */
static void
test_pipes_are_bounded_and_given_up(void **state)
{
	struct fixture *f = *state;
	relay_pool_bound(&f->pool, 0);
	start(f, NULL, NULL);
	struct sender upstream = { .fd = f->upstream, .n = 4 << 20 };
	size_t got = 0;
	for (int turn = 0; turn < 200000 && got < upstream.n; turn++) {
		sender_step(&upstream);
		loop_turn(f->loop, 0);
		(void)receive(f->client, &got, SIZE_MAX);
	}
	assert_int_equal(got, upstream.n);
	assert_int_equal(f->pool.n_pipes, 0);
	relay_pool_bound(&f->pool, RELAY_PIPES_MAX + 1);
	assert_int_equal(f->pool.max_pipes, RELAY_PIPES_MAX);
	upstream.n *= 2;
	for (int turn = 0; turn < 200000 && got < upstream.n; turn++) {
		sender_step(&upstream);
		loop_turn(f->loop, 0);
		(void)receive(f->client, &got, SIZE_MAX);
	}
	assert_int_equal(got, upstream.n);
	/* The turn that brought the last byte may leave it to the next one to see that there are no more. */
	for (int turn = 0; turn < 1000 && f->pool.n_free_pipes < f->pool.n_pipes; turn++)
		loop_turn(f->loop, 1);
	assert_true(f->pool.n_free_pipes > 0);
	relay_pool_shrink(&f->pool);
	assert_int_equal(f->pool.n_free_pipes, 0);
	assert_int_equal(f->pool.n_pipes, 0);
}

/* The destination goes while the client still sends: what it said before is delivered. */
static void
test_writer_fails_but_the_answer_arrives(void **state)
{
	struct fixture *f = *state;
	start(f, NULL, NULL);
	loop_turn(f->loop, 0);
	assert_int_equal(send(f->upstream, "413", 3, 0), 3);
	close(f->upstream);
	f->upstream = -1;
	for (int i = 0; i < 20 && !f->ended; i++) {
		(void)send(f->client, "more", 4, MSG_NOSIGNAL);
		loop_turn(f->loop, 5);
	}
	turn_until_ended(f);
	expect(f, f->client, "413");
}

/* A bulk flow gives way: a small one of the same loop gets its turn. */
static void
test_bulk_gives_way(void **state)
{
	struct fixture *f = *state;
	struct sender upstream = { .fd = f->upstream, .n = 64 << 20 };
	size_t got = 0;
	start(f, NULL, NULL);
	for (int turn = 0; turn < 2000 && got < upstream.n / 2; turn++) {
		uint64_t before = f->relay.down.bytes;
		sender_step(&upstream);
		loop_turn(f->loop, 0);
		assert_true(f->relay.down.bytes - before <= RELAY_TURN_BYTES + RELAY_PIPE_BYTES);
		(void)receive(f->client, &got, SIZE_MAX);
	}
	assert_true(got > 0);
}

/* Another relay of the same pool, with as much waiting for it as the kernel takes. */
struct bulky {
	struct relay relay;
	struct stream near, far;
	int client, upstream;
};

static void
bulky_open(struct fixture *f, struct bulky *b)
{
	static const struct relay_head none;
	int pair[2];
	stream_init(&b->near, f->loop);
	stream_init(&b->far, f->loop);
	tcp_pair(pair);
	b->client = pair[0];
	assert_true(stream_open(&b->near, pair[1], STREAM_READABLE | STREAM_WRITABLE, nothing, NULL));
	tcp_pair(pair);
	b->upstream = pair[0];
	assert_true(stream_open(&b->far, pair[1], STREAM_READABLE | STREAM_WRITABLE, nothing, NULL));
	struct sender s = { .fd = b->upstream, .n = 64 << 20 };
	sender_step(&s);
	assert_true(s.at > RELAY_TURN_BYTES / 8);
	assert_true(relay_start(&b->relay, &f->pool, &b->near, &b->far, &none, &none));
}

static void
bulky_close(struct bulky *b)
{
	relay_stop(&b->relay);
	stream_close(&b->near);
	stream_close(&b->far);
	close(b->client);
	close(b->upstream);
}

/* TCP takes its time, on loopback too. */
static void
wait_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 5000), 1);
}

static void
test_many_with_bulk_share_a_turn(void **state)
{
	struct fixture *f = *state;
	static struct bulky others[32];
	uint64_t before = 0;
	bool all = false;
	start(f, NULL, NULL);
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		bulky_open(f, &others[i]);
	for (int turn = 0; turn < 2000 && !all; turn++) {
		uint8_t answer;
		assert_int_equal(send(f->upstream, "x", 1, MSG_NOSIGNAL), 1);
		wait_readable(f->far.fd);
		loop_turn(f->loop, 0);
		uint64_t now = counter_get(&f->counters, COUNTER_BYTES_DOWN);
		assert_true(now - before <= 2 * RELAY_TURN_BYTES);
		before = now;
		/* What is small goes on in every turn, however many with bulk there are. */
		wait_readable(f->client);
		assert_int_equal(recv(f->client, &answer, 1, 0), 1);
		all = true;
		for (size_t i = 0; i < ARRAY_LEN(others); i++)
			all = all && others[i].relay.down.bytes > RELAY_TURN_BYTES / 8;
	}
	assert_true(all);
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		bulky_close(&others[i]);
}

static void
test_stop_calls_nobody(void **state)
{
	struct fixture *f = *state;
	start(f, &(struct relay_head){ .bytes = (const uint8_t *)"x", .len = 1 }, NULL);
	relay_stop(&f->relay);
	stream_set_callback(&f->near, nothing, NULL);
	stream_set_callback(&f->far, nothing, NULL);
	reset(&f->client);
	for (int i = 0; i < 10; i++)
		loop_turn(f->loop, 1);
	assert_false(f->ended);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes_both_ways),
		cmocka_unit_test_setup_teardown(test_data_and_fin_before_the_loop_runs, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_heads_go_first, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reset_of_the_upstream_behind_data, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reset_of_the_client, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_stalled_reader_goes_on, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_small_segments, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_pipes_are_bounded_and_given_up, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_writer_fails_but_the_answer_arrives, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bulk_gives_way, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_many_with_bulk_share_a_turn, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_stop_calls_nobody, set_up, tear_down),
	};
	return cmocka_run_group_tests_name("relay", tests, NULL, NULL);
}
