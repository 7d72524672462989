/*
 * tls_pair: see the header.
 */
#include "tests/base/tls_pair.h"
#include "base/loop.h"
#include "tests/base/certificates.h"
#include "tests/base/tcp_pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/socket.h>

struct loop *pair_loop;
struct tls_context *client_context, *server_context;
struct stream client, server;
unsigned pair_client_calls;
static unsigned server_calls;
static bool over_tcp;                          /* where kernel TLS takes part, if there is any */
static uint8_t block[65536];

/* ---- contexts ---- */

struct tls_context *
pair_context_of(bool is_server, const char *certificate, const char *key, const char *ca, bool verify,
    const char *alpn, char *why, size_t cap)
{
	struct tls_options o = {
		.server = is_server,
		.certificate_file = certificate != NULL ? certificate_path(certificate) : NULL,
		.key_file = key != NULL ? certificate_path(key) : NULL,
		.ca_file = ca != NULL ? certificate_path(ca) : NULL,
		.verify = verify,
		.alpn = alpn,
	};
	return tls_context_new(&o, why, cap);
}

struct tls_context *
pair_context(bool is_server, const char *certificate, const char *key, const char *ca, bool verify, const char *alpn)
{
	char why[256] = "";
	struct tls_context *c = pair_context_of(is_server, certificate, key, ca, verify, alpn, why, sizeof why);
	if (c == NULL)
		fail_msg("%s", why);
	return c;
}

/* ---- two streams on one loop ---- */

void
pair_on_ready(struct stream *s, void *arg)
{
	(void)s;
	++*(unsigned *)arg;
}

void
pair_open(void)
{
	int pair[2];
	if (over_tcp)
		tcp_pair(pair);
	else
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	pair_client_calls = server_calls = 0;
	stream_init(&client, pair_loop);
	stream_init(&server, pair_loop);
	assert_true(stream_open(&client, pair[0], STREAM_WRITABLE, pair_on_ready, &pair_client_calls));
	assert_true(stream_open(&server, pair[1], STREAM_WRITABLE, pair_on_ready, &server_calls));
}

void
pair_start_tls(struct stream *s, struct tls_context *c, const char *host)
{
	struct tls *t = tls_new(c, s->fd, host);
	assert_non_null(t);
	stream_start_tls(s, t);
}

void
pair_close(void)
{
	stream_close(&client);
	stream_close(&server);
}

/* TCP takes its time, on loopback too. */
void
pair_wait_turn(void)
{
	loop_turn(pair_loop, 20);
}

/* A side goes on only when an edge told it so; with no edge left, what is still AGAIN is stuck. */
void
pair_shake_hands(enum stream_status *c, enum stream_status *s)
{
	unsigned client_seen = pair_client_calls - 1, server_seen = server_calls - 1;
	*c = *s = STREAM_AGAIN;
	for (int turn = 0; turn < 50; turn++) {
		if (*c == STREAM_AGAIN && client_seen != pair_client_calls) {
			client_seen = pair_client_calls;
			*c = stream_handshake(&client);
		}
		if (*s == STREAM_AGAIN && server_seen != server_calls) {
			server_seen = server_calls;
			*s = stream_handshake(&server);
		}
		if (*c == STREAM_ERROR || *s == STREAM_ERROR || (*c == STREAM_OK && *s == STREAM_OK))
			return;
		pair_wait_turn();
	}
}

void
pair_stack_tls(void)
{
	enum stream_status c, s;
	pair_start_tls(&client, client_context, "good.example");
	pair_start_tls(&server, server_context, NULL);
	pair_shake_hands(&c, &s);
	assert_int_equal(c, STREAM_OK);
	assert_int_equal(s, STREAM_OK);
}

/* The usual pair: the server as good.example, the client trusting its CA. */
int
pair_set_up(void **state)
{
	enum stream_status c, s;
	(void)state;
	pair_loop = loop_new();
	client_context = pair_context(false, NULL, NULL, "ca.pem", true, NULL);
	server_context = pair_context(true, "good.pem", "good.key", NULL, false, NULL);
	pair_open();
	pair_start_tls(&client, client_context, "good.example");
	pair_start_tls(&server, server_context, NULL);
	pair_shake_hands(&c, &s);
	return c == STREAM_OK && s == STREAM_OK ? 0 : -1;
}

int
pair_set_up_tcp(void **state)
{
	over_tcp = true;
	return pair_set_up(state);
}

int
pair_tear_down(void **state)
{
	(void)state;
	over_tcp = false;
	pair_close();
	tls_context_free(client_context);
	tls_context_free(server_context);
	loop_free(pair_loop);
	return 0;
}

int
pair_start_group(void **state)
{
	(void)state;
	certificates_make();
	return 0;
}

int
pair_end_group(void **state)
{
	(void)state;
	certificates_remove();
	return 0;
}

/* ---- what is said and heard ---- */

/*
 * Reads as an owner does, turn by turn, until the wanted bytes are there or something else than
 * AGAIN comes.
 */
enum stream_status
pair_read(struct stream *s, uint8_t *out, size_t want, size_t *total)
{
	enum stream_status status = STREAM_AGAIN;
	*total = 0;
	for (int turn = 0; turn < 50 && *total < want; turn++) {
		while (*total < want && (s->ready & STREAM_READABLE)) {
			size_t n;
			status = stream_read(s, out + *total, want - *total, &n);
			*total += n;
			if (status == STREAM_EOF || status == STREAM_ERROR)
				return status;
		}
		if (*total < want)
			pair_wait_turn();
	}
	return status;
}

void
pair_expect_text(struct stream *s, const char *text)
{
	uint8_t got[256];
	size_t n;
	pair_read(s, got, strlen(text), &n);
	assert_int_equal(n, strlen(text));
	assert_memory_equal(got, text, n);
}

/* What comes next on s is an end of this kind. */
void
pair_expect_end(struct stream *s, enum stream_status want)
{
	uint8_t byte;
	size_t n;
	assert_int_equal(pair_read(s, &byte, 1, &n), want);
	assert_int_equal(n, 0);
	assert_int_equal(stream_read(s, &byte, 1, &n), want);
}

void
pair_send_text(struct stream *s, const char *text)
{
	size_t n;
	assert_int_equal(stream_write(s, text, strlen(text), &n), STREAM_OK);
	assert_int_equal(n, strlen(text));
}

/* ---- much, and ends ---- */

struct way {
	struct stream *from, *to;
	unsigned salt;
	size_t sent, got;
};

static uint8_t
pattern(size_t at, unsigned salt)
{
	return (uint8_t)((at * 2654435761u >> 11) + salt);
}

/*
 * One step of an owner that keeps what did not go and offers it again from another place in memory.
 */
static bool
push(struct way *w, size_t total)
{
	size_t n, len = total - w->sent < 40000 ? total - w->sent : 40000;
	uint8_t *bytes = malloc(len + 1);
	bool moved = false;
	if (len > 0 && (w->from->ready & STREAM_WRITABLE)) {
		for (size_t i = 0; i < len; i++)
			bytes[i] = pattern(w->sent + i, w->salt);
		enum stream_status status = stream_write(w->from, bytes, len, &n);
		assert_true(status == STREAM_OK || status == STREAM_AGAIN);
		assert_int_equal(!(w->from->ready & STREAM_WRITABLE), n < len);
		w->sent += n;
		moved = n > 0;
	}
	free(bytes);
	return moved;
}

static bool
pull(struct way *w)
{
	size_t n;
	if (!(w->to->ready & STREAM_READABLE))
		return false;
	enum stream_status status = stream_read(w->to, block, 5000, &n);
	assert_true(status == STREAM_OK || status == STREAM_AGAIN);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(block[i], pattern(w->got + i, w->salt));
	w->got += n;
	return n > 0;
}

/* Both ways at once, by edges alone, until both are through; stuck: fails. */
void
pair_exchange(size_t total)
{
	struct way up = { &client, &server, 1, 0, 0 }, down = { &server, &client, 77, 0, 0 };
	unsigned idle = 0;
	while (up.got < total || down.got < total) {
		bool moved = push(&up, total) | push(&down, total) | pull(&up) | pull(&down);
		idle = moved ? 0 : idle + 1;
		assert_true(idle < 50);
		if (moved)
			loop_turn(pair_loop, 0);
		else
			pair_wait_turn();
	}
}

/* With data on its way, from place to place. */
void
pair_exchange_after_moves(void)
{
	struct stream elsewhere;
	pair_exchange(70001);
	stream_init(&elsewhere, pair_loop);
	pair_send_text(&client, "on its way");
	assert_true(stream_move(&elsewhere, &server));
	assert_null(server.tls);
	assert_true(stream_move(&server, &elsewhere));
	pair_expect_text(&server, "on its way");
	pair_exchange(70001);
}

void
pair_half_close(struct stream *first, struct stream *second)
{
	pair_send_text(first, "question");
	assert_int_equal(stream_shut_write(first), STREAM_OK);
	pair_expect_text(second, "question");
	pair_expect_end(second, STREAM_EOF);
	pair_send_text(second, "answer");
	pair_expect_text(first, "answer");
	pair_send_text(second, "and more");
	assert_int_equal(stream_shut_write(second), STREAM_OK);
	stream_close(second);
	pair_expect_text(first, "and more");
	pair_expect_end(first, STREAM_EOF);
}
