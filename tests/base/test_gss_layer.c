/*
 * test_gss_layer: streams whose bytes are sealed messages, over TCP on loopback: one end is a stream, the other a bare socket or a
 * stream too. The sealing itself is a toy.
 */
#include "base/loop.h"
#include "base/stream.h"
#include "tests/base/tcp_pair.h"
#include "tests/base/toy_gss.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

enum { FRAME_OVERHEAD = GSS_HEADER + TOY_OVERHEAD, TURN_MS = 10000 };

struct bench {
	struct loop *loop;
	struct stream stream;
	int peer;
	struct gss_context *sealer;            /* the peer's */
};

static void
ignore(struct stream *s, void *arg)
{
	(void)s, (void)arg;
}

static struct gss_layer_options
options(void)
{
	return (struct gss_layer_options){ .context = toy_context(), .secret = true, .prefix = { 1, 3 } };
}

static int
set_up_unsealed(void **state)
{
	static struct bench bench;
	int pair[2];
	tcp_pair(pair);
	bench = (struct bench){ .loop = loop_new(), .peer = pair[1], .sealer = toy_context() };
	assert_non_null(bench.loop);
	stream_init(&bench.stream, bench.loop);
	assert_true(stream_open(&bench.stream, pair[0], STREAM_READABLE | STREAM_WRITABLE, ignore, NULL));
	*state = &bench;
	return 0;
}

static int
set_up(void **state)
{
	struct gss_layer_options o = options();
	set_up_unsealed(state);
	assert_true(stream_start_gss(&((struct bench *)*state)->stream, &o, NULL, 0));
	return 0;
}

static int
tear_down(void **state)
{
	struct bench *b = *state;
	stream_close(&b->stream);
	gss_context_free(b->sealer);
	if (b->peer >= 0)
		close(b->peer);
	loop_free(b->loop);
	assert_int_equal(toy_contexts(), 0);
	return 0;
}

/* A frame as the peer makes it; malloc'ed. */
static uint8_t *
frame_of(struct bench *b, const void *bytes, size_t len, size_t *frame_len)
{
	size_t n;
	uint8_t *frame = gss_context_wrap(b->sealer, true, bytes, len, GSS_HEADER, &n);
	assert_non_null(frame);
	memcpy(frame, (uint8_t[]){ 1, 3, (uint8_t)(n >> 8), (uint8_t)n }, GSS_HEADER);
	*frame_len = GSS_HEADER + n;
	return frame;
}

static int
waiting_bytes(int fd)
{
	int n = 0;
	assert_int_equal(ioctl(fd, FIONREAD, &n), 0);
	return n;
}

/* TCP takes its time, on loopback too: all has come when this returns. */
static void
peer_sends(struct bench *b, const void *bytes, size_t len)
{
	int all = waiting_bytes(b->stream.fd) + (int)len;
	assert_int_equal(send(b->peer, bytes, len, 0), len);
	for (int i = 0; i < 5000 && waiting_bytes(b->stream.fd) < all; i++)
		(void)poll(NULL, 0, 1);
	assert_int_equal(waiting_bytes(b->stream.fd), all);
}

static void
peer_says(struct bench *b, const char *text)
{
	size_t len;
	uint8_t *frame = frame_of(b, text, strlen(text), &len);
	peer_sends(b, frame, len);
	free(frame);
}

/* Turns the loop until the stream may be read. */
static void
wait_readable(struct bench *b)
{
	while (!(b->stream.ready & STREAM_READABLE))
		loop_turn(b->loop, TURN_MS);
}

static void
expect_read(struct bench *b, const char *text)
{
	char got[64];
	size_t n, len = 0;
	while (len < strlen(text)) {
		wait_readable(b);
		enum stream_status status = stream_read(&b->stream, got + len, sizeof got - len, &n);
		assert_true(status == STREAM_OK || status == STREAM_AGAIN);
		len += n;
	}
	assert_int_equal(len, strlen(text));
	assert_memory_equal(got, text, len);
}

static void
expect_end(struct bench *b, enum stream_status how)
{
	uint8_t byte;
	size_t n;
	enum stream_status status;
	do {
		wait_readable(b);
		status = stream_read(&b->stream, &byte, 1, &n);
	} while (status == STREAM_AGAIN);
	assert_int_equal(status, how);
	assert_int_equal(stream_read(&b->stream, &byte, 1, &n), how);
	assert_false(b->stream.ready & STREAM_READABLE);
	if (how == STREAM_ERROR)
		assert_int_equal(b->stream.error, EPROTO);
}

static void
test_byte_by_byte(void **state)
{
	struct bench *b = *state;
	size_t len, n;
	char got[8];
	uint8_t *frame = frame_of(b, "hello", 5, &len);
	for (size_t i = 0; i + 1 < len; i++) {
		peer_sends(b, frame + i, 1);
		wait_readable(b);
		assert_int_equal(stream_read(&b->stream, got, sizeof got, &n), STREAM_AGAIN);
		assert_false(b->stream.ready & STREAM_READABLE);
	}
	peer_sends(b, frame + len - 1, 1);
	expect_read(b, "hello");
	free(frame);
}

/* What lies inside makes no event: the bit stays as long as a whole message is there, and no longer. */
static void
test_messages_that_came_together(void **state)
{
	struct bench *b = *state;
	char got[64];
	size_t len, n, lens[3];
	uint8_t *frames[3], all[128];
	for (len = n = 0; n < 3; len += lens[n++]) {
		frames[n] = frame_of(b, "0123456789" + n, 4, &lens[n]);
		memcpy(all + len, frames[n], lens[n]);
		free(frames[n]);
	}
	peer_sends(b, all, len - 1);
	wait_readable(b);
	for (int i = 0; i < 2; i++) {
		assert_true(b->stream.ready & STREAM_READABLE);
		assert_int_equal(stream_read(&b->stream, got, 3, &n), STREAM_OK);
		assert_int_equal(n, 3);
		assert_true(b->stream.ready & STREAM_READABLE);
		assert_int_equal(stream_read(&b->stream, got, sizeof got, &n), STREAM_OK);
		assert_int_equal(n, 1);
	}
	assert_int_equal(stream_read(&b->stream, got, sizeof got, &n), STREAM_AGAIN);
	assert_false(b->stream.ready & STREAM_READABLE);
	peer_sends(b, all + len - 1, 1);
	expect_read(b, "2345");
}

static void
test_end(void **state)
{
	struct bench *b = *state;
	peer_says(b, "one");
	peer_says(b, "two");
	shutdown(b->peer, SHUT_WR);
	expect_read(b, "onetwo");
	expect_end(b, STREAM_EOF);
}

static void
test_end_within_a_message(void **state)
{
	struct bench *b = *state;
	size_t len;
	uint8_t *frame = frame_of(b, "cut", 3, &len);
	peer_sends(b, frame, len - 1);
	shutdown(b->peer, SHUT_WR);
	expect_end(b, STREAM_ERROR);
	free(frame);
}

static void
test_end_within_a_header(void **state)
{
	struct bench *b = *state;
	peer_sends(b, "\x01\x03", 2);
	shutdown(b->peer, SHUT_WR);
	expect_end(b, STREAM_ERROR);
}

/* Each is told at the byte that shows it, behind what was good before it. */
static void
test_what_is_no_message(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} bad[] = {
		{ "G", 1 }, { "\x01\x02", 2 }, { "\x01\x03\x00\x00", 4 }, { "\x01\x03\x00\x02xx", 6 },
		{ "\x01\x03\x00\x03\x07\x01x", 7 },
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct bench *b;
		set_up(state);
		b = *state;
		peer_says(b, "good");
		peer_sends(b, bad[i].bytes, bad[i].len);
		expect_read(b, "good");
		expect_end(b, STREAM_ERROR);
		tear_down(state);
	}
}

static void
test_empty_messages(void **state)
{
	struct bench *b = *state;
	for (int i = 0; i < GSS_LAYER_EMPTY_MAX; i++)
		peer_says(b, "");
	peer_says(b, "word");
	expect_read(b, "word");
	for (int i = 0; i <= GSS_LAYER_EMPTY_MAX; i++)
		peer_says(b, "");
	expect_end(b, STREAM_ERROR);
}

static void
test_the_longest_message(void **state)
{
	static uint8_t sent[GSS_TOKEN_MAX - TOY_OVERHEAD], got[sizeof sent];
	struct bench *b = *state;
	size_t len, n, at = 0, given = 0;
	for (size_t i = 0; i < sizeof sent; i++)
		sent[i] = (uint8_t)(i * 7 + i / 251);
	uint8_t *frame = frame_of(b, sent, sizeof sent, &len);
	while (given < sizeof got) {
		ssize_t put = at < len ? send(b->peer, frame + at, len - at, MSG_DONTWAIT) : 0;
		at += put > 0 ? (size_t)put : 0;
		wait_readable(b);
		enum stream_status status = stream_read(&b->stream, got + given, sizeof got - given, &n);
		assert_true(status == STREAM_OK || status == STREAM_AGAIN);
		given += n;
	}
	assert_memory_equal(got, sent, sizeof sent);
	free(frame);
}

/* ---- writing ---- */

/* Opens what the stream has sent; the bytes that are inside. */
struct opened {
	struct gss_layer *layer;
	size_t len;
	uint8_t bytes[3 << 20];
};

static void
open_more(struct bench *b, struct opened *o)
{
	size_t cap, n;
	for (;;) {
		uint8_t *room = gss_layer_room(o->layer, &cap);
		ssize_t got = recv(b->peer, room, cap < 7000 ? cap : 7000, MSG_DONTWAIT);
		gss_layer_filled(o->layer, got > 0 ? (size_t)got : 0);
		if (got <= 0)
			return;
		while (gss_layer_read(o->layer, o->bytes + o->len, sizeof o->bytes - o->len, &n) == GSS_LAYER_OK)
			o->len += n;
	}
}

/* A socket that fills: what was not counted goes again, and all arrives once. */
static void
test_short_writes(void **state)
{
	static uint8_t data[2 << 20];
	static struct opened opened;
	struct bench *b = *state;
	struct gss_layer_options o = options();
	size_t at = 0, n;
	int small = 4096, n_short = 0;
	opened = (struct opened){ .layer = gss_layer_new(&o) };
	setsockopt(b->stream.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 11 + i / 253);
	while (at < sizeof data) {
		size_t len = sizeof data - at;
		if (!(b->stream.ready & STREAM_WRITABLE)) {
			open_more(b, &opened);
			loop_turn(b->loop, TURN_MS);
			continue;
		}
		enum stream_status status = stream_write(&b->stream, data + at, len, &n);
		assert_true(status == STREAM_OK || (status == STREAM_AGAIN && n == 0));
		assert_true((n == len) == ((b->stream.ready & STREAM_WRITABLE) != 0));
		n_short += n < len;
		at += n;
	}
	assert_true(n_short > 0);
	assert_int_equal(stream_shut_write(&b->stream), STREAM_OK);
	while (opened.len < sizeof data)
		open_more(b, &opened);
	assert_memory_equal(opened.bytes, data, sizeof data);
	assert_false(gss_layer_is_cut(opened.layer));
	gss_layer_free(opened.layer);
}

static void
test_a_message_for_each_write(void **state)
{
	struct bench *b = *state;
	uint8_t got[64];
	size_t n;
	assert_int_equal(stream_write(&b->stream, "ab", 2, &n), STREAM_OK);
	assert_int_equal(n, 2);
	for (int i = 0; i < 5000 && waiting_bytes(b->peer) < FRAME_OVERHEAD + 2; i++)
		(void)poll(NULL, 0, 1);
	assert_int_equal(recv(b->peer, got, sizeof got, 0), FRAME_OVERHEAD + 2);
	assert_memory_equal(got, "\x01\x03\x00\x05\x00\x01", 6);
}

static void
test_what_cannot_be_sealed(void **state)
{
	struct bench *b = *state;
	size_t n;
	toy_break(stream_gss_context(&b->stream));
	assert_int_equal(stream_write(&b->stream, "x", 1, &n), STREAM_ERROR);
	assert_int_equal(b->stream.error, EPROTO);
	assert_int_equal(n, 0);
}

static void
test_a_context_that_cannot_seal(void **state)
{
	struct bench *b = *state;
	struct gss_layer_options o = options();
	toy_break(o.context);
	assert_false(stream_start_gss(&b->stream, &o, NULL, 0));
	assert_null(stream_gss_context(&b->stream));
	assert_int_equal(toy_contexts(), 1);
}

/* ---- the beginning ---- */

static void
test_early_bytes(void **state)
{
	for (size_t cut = 0; cut < 30; cut++) {
		struct gss_layer_options o = options();
		struct bench *b;
		size_t len, second;
		uint8_t all[64];
		set_up_unsealed(state);
		b = *state;
		uint8_t *frames[2] = { frame_of(b, "first", 5, &len), frame_of(b, "second", 6, &second) };
		memcpy(all, frames[0], len);
		memcpy(all + len, frames[1], second);
		size_t early = cut < len + second ? cut : len + second;
		b->stream.ready = STREAM_WRITABLE;
		assert_true(stream_start_gss(&b->stream, &o, all, early));
		assert_int_equal((b->stream.ready & STREAM_READABLE) != 0, early >= len);
		if (early < len + second)
			peer_sends(b, all + early, len + second - early);
		expect_read(b, "firstsecond");
		free(frames[0]);
		free(frames[1]);
		tear_down(state);
	}
}

/* The owner has read all, the end too, before it knew that it was sealed. */
static void
test_early_bytes_and_the_end(void **state)
{
	struct bench *b = *state;
	struct gss_layer_options o = options();
	uint8_t early[64];
	size_t n, len = 0;
	peer_says(b, "all");
	shutdown(b->peer, SHUT_WR);
	enum stream_status status;
	while ((status = stream_read(&b->stream, early + len, sizeof early - len, &n)) != STREAM_EOF) {
		len += n;
		if (status == STREAM_AGAIN)
			wait_readable(b);
	}
	assert_true(stream_start_gss(&b->stream, &o, early, len));
	expect_read(b, "all");
	expect_end(b, STREAM_EOF);
}

static void
test_the_end_alone_was_read_early(void **state)
{
	struct bench *b = *state;
	struct gss_layer_options o = options();
	uint8_t byte;
	size_t n;
	shutdown(b->peer, SHUT_WR);
	while (stream_read(&b->stream, &byte, 1, &n) != STREAM_EOF)
		wait_readable(b);
	assert_true(stream_start_gss(&b->stream, &o, "\x01", 1));
	expect_end(b, STREAM_ERROR);
}

/* ---- more ---- */

static void
test_nothing_is_spliced(void **state)
{
	struct bench *b = *state;
	assert_false(stream_can_splice_in(&b->stream));
	assert_false(stream_can_splice_out(&b->stream));
}

static void
test_it_moves(void **state)
{
	struct bench *b = *state;
	struct stream other;
	size_t n;
	char got[8];
	peer_says(b, "one");
	peer_says(b, "two");
	wait_readable(b);
	assert_int_equal(stream_read(&b->stream, got, 1, &n), STREAM_OK);
	stream_init(&other, b->loop);
	assert_true(stream_move(&other, &b->stream));
	assert_null(stream_gss_context(&b->stream));
	assert_true(stream_move(&b->stream, &other));
	expect_read(b, "netwo");
}

/* An idle layer holds no buffer, each of which is larger than what malloc keeps for itself. */
static void
test_idle_it_holds_nothing(void **state)
{
	struct bench *b = *state;
	static uint8_t data[50000], got[60000];
	size_t n, len;
	size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
	uint8_t *frame = frame_of(b, data, 30000, &len);
	peer_sends(b, frame, len);
	free(frame);
	for (size_t at = 0; at < 30000; at += n) {
		wait_readable(b);
		assert_true(stream_read(&b->stream, got, sizeof got, &n) <= STREAM_AGAIN);
	}
	assert_int_equal(stream_read(&b->stream, got, sizeof got, &n), STREAM_AGAIN);
	assert_int_equal(stream_write(&b->stream, data, sizeof data, &n), STREAM_OK);
	assert_int_equal(n, sizeof data);
	assert_true(mallinfo2().uordblks + mallinfo2().hblkhd < before + 8192);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define TEST_UNSEALED(name) cmocka_unit_test_setup_teardown(name, set_up_unsealed, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_byte_by_byte),
		TEST(test_messages_that_came_together),
		TEST(test_end),
		TEST(test_end_within_a_message),
		TEST(test_end_within_a_header),
		cmocka_unit_test(test_what_is_no_message),
		TEST(test_empty_messages),
		TEST(test_the_longest_message),
		TEST(test_short_writes),
		TEST(test_a_message_for_each_write),
		TEST(test_what_cannot_be_sealed),
		TEST_UNSEALED(test_a_context_that_cannot_seal),
		cmocka_unit_test(test_early_bytes),
		TEST_UNSEALED(test_early_bytes_and_the_end),
		TEST_UNSEALED(test_the_end_alone_was_read_early),
		TEST(test_nothing_is_spliced),
		TEST(test_it_moves),
		TEST(test_idle_it_holds_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
