/*
 * test_tls: contexts, who is accepted by whom, and TLS streams under edge triggering, with real TLS
 * at both ends.
 */
#include "base/tls.h"
#include "base/clock.h"
#include "base/loop.h"
#include "base/stream.h"
#include "tests/base/certificates.h"
#include "tests/base/tcp_pair.h"
#include "tests/base/toy_gss.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

static struct loop *loop;
static struct tls_context *client_context, *server_context;
static struct stream client, server;
static uint8_t block[65536];

/* ---- contexts ---- */

static struct tls_context *
context_of(bool is_server, const char *certificate, const char *key, const char *ca, bool verify,
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

static const struct {
	const char *what;
	bool server;
	const char *certificate, *key, *ca;
	bool verify;
	const char *alpn;
	const char *want[2];                   /* both are in the text; NULL: it works */
} contexts[] = {
	{ "server", true, "good.pem", "good.key", NULL, false, NULL, { NULL } },
	{ "key in the same file", true, "both.pem", NULL, NULL, false, NULL, { NULL } },
	{ "client, system's CAs", false, NULL, NULL, NULL, true, NULL, { NULL } },
	{ "client with a certificate", false, "client.pem", "client.key", "ca.pem", true, NULL, { NULL } },
	{ "missing certificate", true, "none.pem", "good.key", NULL, false, NULL,
	  { "certificate file", "none.pem: No such file" } },
	{ "missing key", true, "good.pem", "none.key", NULL, false, NULL, { "key file", "none.key: No such file" } },
	{ "missing CA", false, NULL, NULL, "none.pem", true, NULL, { "CA file", "none.pem: No such file" } },
	{ "missing client CA", true, "good.pem", "good.key", "none.pem", true, NULL,
	  { "CA file", "none.pem: No such file" } },
	{ "no PEM", true, "garbage.pem", "good.key", NULL, false, NULL, { "certificate file", "garbage.pem: " } },
	{ "no PEM as CA", false, NULL, NULL, "garbage.pem", true, NULL, { "CA file", "garbage.pem: " } },
	{ "no key in the file", true, "good.pem", NULL, NULL, false, NULL, { "key file", "good.pem: " } },
	{ "another's key", true, "good.pem", "ip.key", NULL, false, NULL, { "key file", "ip.key: key values mismatch" } },
	{ "locked key", true, "good.pem", "locked.key", NULL, false, NULL, { "key file", "locked.key: " } },
	{ "server without certificate", true, NULL, NULL, NULL, false, NULL, { "certificate file", "server" } },
	{ "key alone", false, NULL, "client.key", NULL, false, NULL, { "no certificate", "client.key" } },
	{ "client certificates, no CA", true, "good.pem", "good.key", NULL, true, NULL, { "CA file", "client" } },
	{ "empty ALPN", false, NULL, NULL, NULL, false, "", { "ALPN", "bytes" } },
};

static void
test_contexts(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(contexts); i++) {
		char why[256] = "";
		struct tls_context *c = context_of(contexts[i].server, contexts[i].certificate, contexts[i].key,
		    contexts[i].ca, contexts[i].verify, contexts[i].alpn, why, sizeof why);
		bool ok = contexts[i].want[0] == NULL ? c != NULL :
		    c == NULL && strstr(why, contexts[i].want[0]) != NULL && strstr(why, contexts[i].want[1]) != NULL;
		if (!ok)
			print_error("%s: \"%s\"\n", contexts[i].what, why);
		assert_true(ok);
		tls_context_free(c);
	}
}

static void
on_pipe(int signo)
{
	(void)signo;
}

static void
test_sigpipe_is_ignored_unless_somebody_handles_it(void **state)
{
	struct sigaction now;
	char why[256];
	(void)state;
	for (int i = 0; i < 2; i++) {
		signal(SIGPIPE, i == 0 ? SIG_DFL : on_pipe);
		tls_context_free(context_of(false, NULL, NULL, NULL, true, NULL, why, sizeof why));
		sigaction(SIGPIPE, NULL, &now);
		assert_true(now.sa_handler == (i == 0 ? SIG_IGN : on_pipe));
	}
	signal(SIGPIPE, SIG_IGN);
}

/* ---- two streams on one loop ---- */

static void
on_ready(struct stream *s, void *arg)
{
	(void)s;
	++*(unsigned *)arg;
}
static unsigned client_calls, server_calls;

static struct tls_context *
need_context(bool is_server, const char *certificate, const char *key, const char *ca, bool verify, const char *alpn)
{
	char why[256] = "";
	struct tls_context *c = context_of(is_server, certificate, key, ca, verify, alpn, why, sizeof why);
	if (c == NULL)
		fail_msg("%s", why);
	return c;
}

static bool over_tcp;                          /* where kernel TLS takes part, if there is any */

static void
open_streams(void)
{
	int pair[2];
	if (over_tcp)
		tcp_pair(pair);
	else
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	client_calls = server_calls = 0;
	stream_init(&client, loop);
	stream_init(&server, loop);
	assert_true(stream_open(&client, pair[0], STREAM_WRITABLE, on_ready, &client_calls));
	assert_true(stream_open(&server, pair[1], STREAM_WRITABLE, on_ready, &server_calls));
}

static void
start_tls(struct stream *s, struct tls_context *c, const char *host)
{
	struct tls *t = tls_new(c, s->fd, host);
	assert_non_null(t);
	stream_start_tls(s, t);
}

static void
close_streams(void)
{
	stream_close(&client);
	stream_close(&server);
}

/* TCP takes its time, on loopback too. */
static void
wait_turn(void)
{
	loop_turn(loop, 20);
}

/* A side goes on only when an edge told it so; with no edge left, what is still AGAIN is stuck. */
static void
shake_hands(enum stream_status *c, enum stream_status *s)
{
	unsigned client_seen = client_calls - 1, server_seen = server_calls - 1;
	*c = *s = STREAM_AGAIN;
	for (int turn = 0; turn < 50; turn++) {
		if (*c == STREAM_AGAIN && client_seen != client_calls) {
			client_seen = client_calls;
			*c = stream_handshake(&client);
		}
		if (*s == STREAM_AGAIN && server_seen != server_calls) {
			server_seen = server_calls;
			*s = stream_handshake(&server);
		}
		if (*c == STREAM_ERROR || *s == STREAM_ERROR || (*c == STREAM_OK && *s == STREAM_OK))
			return;
		wait_turn();
	}
}

/* The usual pair: the server as good.example, the client trusting its CA. */
static int
set_up(void **state)
{
	enum stream_status c, s;
	(void)state;
	loop = loop_new();
	client_context = need_context(false, NULL, NULL, "ca.pem", true, NULL);
	server_context = need_context(true, "good.pem", "good.key", NULL, false, NULL);
	open_streams();
	start_tls(&client, client_context, "good.example");
	start_tls(&server, server_context, NULL);
	shake_hands(&c, &s);
	return c == STREAM_OK && s == STREAM_OK ? 0 : -1;
}

static int
set_up_tcp(void **state)
{
	over_tcp = true;
	return set_up(state);
}

static int
tear_down(void **state)
{
	(void)state;
	over_tcp = false;
	close_streams();
	tls_context_free(client_context);
	tls_context_free(server_context);
	loop_free(loop);
	return 0;
}

static const struct {
	const char *what, *certificate, *key, *host, *ca;
	bool verify;
	const char *want;                      /* in the client's text; NULL: accepted */
} peers[] = {
	{ "name", "good.pem", "good.key", "good.example", "ca.pem", true, NULL },
	{ "name in capitals", "good.pem", "good.key", "GOOD.example", "ca.pem", true, NULL },
	{ "wildcard", "good.pem", "good.key", "a.wild.example", "ca.pem", true, NULL },
	{ "wildcard, two labels", "good.pem", "good.key", "a.b.wild.example", "ca.pem", true, "hostname mismatch" },
	{ "another name", "good.pem", "good.key", "bad.example", "ca.pem", true, "hostname mismatch" },
	{ "another name, not verified", "good.pem", "good.key", "bad.example", "ca.pem", false, NULL },
	{ "IPv4", "ip.pem", "ip.key", "127.0.0.1", "ca.pem", true, NULL },
	{ "IPv6", "ip.pem", "ip.key", "::1", "ca.pem", true, NULL },
	{ "another IPv4", "ip.pem", "ip.key", "127.0.0.2", "ca.pem", true, "IP address mismatch" },
	{ "IP where a name is certified", "good.pem", "good.key", "127.0.0.1", "ca.pem", true, "IP address mismatch" },
	{ "expired", "expired.pem", "expired.key", "good.example", "ca.pem", true, "certificate has expired" },
	{ "signed by itself", "stranger.pem", "stranger.key", "good.example", "ca.pem", true, "self-signed" },
	{ "signed by itself, not verified", "stranger.pem", "stranger.key", "good.example", "ca.pem", false, NULL },
	{ "unknown CA", "good.pem", "good.key", "good.example", "stranger.pem", true, "unable to get local issuer" },
	{ "unknown to the system", "good.pem", "good.key", "good.example", NULL, true, "unable to get local issuer" },
};

static void
test_peers(void **state)
{
	(void)state;
	loop = loop_new();
	for (size_t i = 0; i < ARRAY_LEN(peers); i++) {
		enum stream_status c, s;
		char subject[100];
		client_context = need_context(false, NULL, NULL, peers[i].ca, peers[i].verify, NULL);
		server_context = need_context(true, peers[i].certificate, peers[i].key, NULL, false, NULL);
		open_streams();
		start_tls(&client, client_context, peers[i].host);
		start_tls(&server, server_context, NULL);
		shake_hands(&c, &s);
		const char *text = tls_error_text(client.tls);
		bool ok = peers[i].want == NULL ? c == STREAM_OK && s == STREAM_OK :
		    c == STREAM_ERROR && client.error == EPROTO && strstr(text, peers[i].want) != NULL;
		if (!ok)
			print_error("%s: %d, \"%s\"\n", peers[i].what, (int)c, text);
		assert_true(ok);
		tls_peer_subject(client.tls, subject, sizeof subject);
		assert_int_equal(subject[0] != '\0', peers[i].want == NULL && peers[i].verify);
		close_streams();
		tls_context_free(client_context);
		tls_context_free(server_context);
	}
	loop_free(loop);
}

static void
test_nobody_to_verify_is_refused(void **state)
{
	struct tls_context *c = need_context(false, NULL, NULL, "ca.pem", true, NULL);
	(void)state;
	assert_null(tls_new(c, 0, NULL));
	assert_null(tls_new(c, 0, ""));
	tls_context_free(c);
	c = need_context(false, NULL, NULL, "ca.pem", false, NULL);
	struct tls *t = tls_new(c, 0, NULL);
	assert_non_null(t);
	tls_context_free(c);                   /* the connection lives on */
	tls_free(t);
	tls_free(NULL);
	tls_context_free(NULL);
}

/*
 * Reads as an owner does, turn by turn, until the wanted bytes are there or something else than
 * AGAIN comes.
 */
static enum stream_status
read_all(struct stream *s, uint8_t *out, size_t want, size_t *total)
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
			wait_turn();
	}
	return status;
}

static void
expect_text(struct stream *s, const char *text)
{
	uint8_t got[256];
	size_t n;
	read_all(s, got, strlen(text), &n);
	assert_int_equal(n, strlen(text));
	assert_memory_equal(got, text, n);
}

/* What comes next on s is an end of this kind. */
static void
expect_end(struct stream *s, enum stream_status want)
{
	uint8_t byte;
	size_t n;
	assert_int_equal(read_all(s, &byte, 1, &n), want);
	assert_int_equal(n, 0);
	assert_int_equal(stream_read(s, &byte, 1, &n), want);
}

static void
send_text(struct stream *s, const char *text)
{
	size_t n;
	assert_int_equal(stream_write(s, text, strlen(text), &n), STREAM_OK);
	assert_int_equal(n, strlen(text));
}

/*
 * Client certificate shown, trust of the server; under TLS 1.3 the client learns of a refusal only
 * by reading.
 */
static void
meet_with_client_certificate(const char *certificate, const char *key, bool required, bool accepted,
    const char *subject)
{
	enum stream_status c, s;
	char text[100];
	client_context = need_context(false, certificate, key, "ca.pem", true, NULL);
	server_context = need_context(true, "good.pem", "good.key", "ca.pem", required, NULL);
	open_streams();
	start_tls(&client, client_context, "good.example");
	start_tls(&server, server_context, NULL);
	shake_hands(&c, &s);
	assert_int_equal(s, accepted ? STREAM_OK : STREAM_ERROR);
	assert_string_equal(tls_peer_subject(server.tls, text, sizeof text), subject);
	if (accepted) {
		send_text(&server, "welcome");
		expect_text(&client, "welcome");
	} else {
		assert_true(tls_error_text(server.tls)[0] != '\0');
		loop_turn(loop, 0);
		expect_end(&client, STREAM_ERROR);
		assert_true(strstr(tls_error_text(client.tls), "alert") != NULL);
	}
	close_streams();
	tls_context_free(client_context);
	tls_context_free(server_context);
}

static void
test_client_certificates(void **state)
{
	(void)state;
	loop = loop_new();
	meet_with_client_certificate("client.pem", "client.key", true, true, "CN=alice");
	meet_with_client_certificate(NULL, NULL, true, false, "");
	meet_with_client_certificate("stranger.pem", "stranger.key", true, false, "");
	meet_with_client_certificate("client.pem", "client.key", false, true, "CN=alice");
	meet_with_client_certificate(NULL, NULL, false, true, "");
	loop_free(loop);
}

static void
test_alpn(void **state)
{
	static const struct { const char *client, *server; enum stream_status want; } offers[] = {
		{ "http/1.1", "http/1.1", STREAM_OK }, { "h2", "http/1.1", STREAM_ERROR },
		{ NULL, "http/1.1", STREAM_OK },       { "http/1.1", NULL, STREAM_OK },
		{ "http/1.1x", "http/1.1", STREAM_ERROR },
	};
	(void)state;
	loop = loop_new();
	for (size_t i = 0; i < ARRAY_LEN(offers); i++) {
		enum stream_status c, s;
		client_context = need_context(false, NULL, NULL, "ca.pem", true, offers[i].client);
		server_context = need_context(true, "good.pem", "good.key", NULL, false, offers[i].server);
		open_streams();
		start_tls(&client, client_context, "good.example");
		start_tls(&server, server_context, NULL);
		tls_context_free(client_context);
		tls_context_free(server_context);      /* its name is needed in the handshake still */
		shake_hands(&c, &s);
		assert_int_equal(s, offers[i].want);
		close_streams();
	}
	loop_free(loop);
}

/* ---- streams ---- */

static void
test_one_byte_writes_and_one_byte_reads(void **state)
{
	(void)state;
	static const char text[] = "one byte at a time";
	for (const char *c = text; *c != '\0'; c++)
		send_text(&client, (char[]){ *c, '\0' });
	expect_text(&server, text);
	/*
	 * One record, read by bytes: after the first no edge comes for the rest, the bit has to
	 * stay.
	 */
	send_text(&client, text);
	loop_turn(loop, 0);
	for (const char *c = text; *c != '\0'; c++) {
		size_t n;
		uint8_t byte;
		assert_true(server.ready & STREAM_READABLE);
		assert_int_equal(stream_read(&server, &byte, 1, &n), STREAM_OK);
		assert_int_equal(byte, *c);
	}
	assert_false(stream_can_splice_in(&server));   /* Unix sockets have no kernel TLS */
	assert_false(stream_can_splice_out(&server));
}

static uint8_t
pattern(size_t at, unsigned salt)
{
	return (uint8_t)((at * 2654435761u >> 11) + salt);
}

struct way {
	struct stream *from, *to;
	unsigned salt;
	size_t sent, got;
};

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
static void
exchange(size_t total)
{
	struct way up = { &client, &server, 1, 0, 0 }, down = { &server, &client, 77, 0, 0 };
	unsigned idle = 0;
	while (up.got < total || down.got < total) {
		bool moved = push(&up, total) | push(&down, total) | pull(&up) | pull(&down);
		idle = moved ? 0 : idle + 1;
		assert_true(idle < 50);
		if (moved)
			loop_turn(loop, 0);
		else
			wait_turn();
	}
}

static void
test_much_both_ways_at_once(void **state)
{
	(void)state;
	exchange(3000001);
}

static void
test_much_after_moves(void **state)
{
	struct stream elsewhere;
	(void)state;
	exchange(70001);
	stream_init(&elsewhere, loop);
	send_text(&client, "on its way");
	assert_true(stream_move(&elsewhere, &server));
	assert_null(server.tls);
	assert_true(stream_move(&server, &elsewhere));
	expect_text(&server, "on its way");
	exchange(70001);
}

static void
test_close_behind_data(void **state)
{
	(void)state;
	send_text(&client, "last words");
	assert_int_equal(stream_shut_write(&client), STREAM_OK);
	assert_int_equal(stream_shut_write(&client), STREAM_OK);
	stream_close(&client);
	expect_text(&server, "last words");
	expect_end(&server, STREAM_EOF);
}

static void
test_end_without_close_notify_is_an_error(void **state)
{
	(void)state;
	send_text(&client, "last wo");
	stream_close(&client);
	expect_text(&server, "last wo");
	expect_end(&server, STREAM_ERROR);
	assert_int_equal(server.error, EPROTO);
	assert_non_null(strstr(tls_error_text(server.tls), "without close_notify"));
}

static void
test_reset_behind_data(void **state)
{
	(void)state;
	send_text(&server, "never read");      /* a Unix socket closed over unread bytes resets */
	send_text(&client, "last words");
	stream_reset(&client);
	expect_text(&server, "last words");
	expect_end(&server, STREAM_ERROR);
	assert_int_equal(server.error, ECONNRESET);
}

static void
half_close(struct stream *first, struct stream *second)
{
	send_text(first, "question");
	assert_int_equal(stream_shut_write(first), STREAM_OK);
	expect_text(second, "question");
	expect_end(second, STREAM_EOF);
	send_text(second, "answer");
	expect_text(first, "answer");
	send_text(second, "and more");
	assert_int_equal(stream_shut_write(second), STREAM_OK);
	stream_close(second);
	expect_text(first, "and more");
	expect_end(first, STREAM_EOF);
}

static void
test_half_close_by_the_client(void **state)
{
	(void)state;
	half_close(&client, &server);
}

static void
test_half_close_by_the_server(void **state)
{
	(void)state;
	half_close(&server, &client);
}

static void
test_answer_is_read_though_the_peer_takes_no_more(void **state)
{
	enum stream_status status = STREAM_OK;
	size_t n;
	(void)state;
	send_text(&server, "413 too much");
	assert_int_equal(stream_shut_write(&server), STREAM_OK);
	stream_close(&server);
	for (int i = 0; i < 10 && status == STREAM_OK; i++)
		status = stream_write(&client, "x", 1, &n);
	assert_int_equal(status, STREAM_ERROR);
	assert_int_equal(client.error, EPIPE);
	expect_text(&client, "413 too much");
	expect_end(&client, STREAM_EOF);
	assert_int_equal(stream_shut_write(&client), STREAM_ERROR);
}

/* Fills a socket below its TLS, so that the next record has no room at all. */
static size_t
fill_below(struct stream *s)
{
	size_t total = 0;
	ssize_t n;
	while ((n = send(s->fd, block, sizeof block, MSG_NOSIGNAL)) > 0)
		total += (size_t)n;
	while ((n = send(s->fd, block, 1, MSG_NOSIGNAL)) > 0)
		total += (size_t)n;
	assert_int_equal(errno, EAGAIN);
	return total;
}

static void
empty_below(struct stream *reader, size_t total)
{
	while (total > 0) {
		ssize_t n = recv(reader->fd, block, total < sizeof block ? total : sizeof block, 0);
		assert_true(n > 0);
		total -= (size_t)n;
	}
}

static void
test_close_notify_waits_for_room(void **state)
{
	(void)state;
	size_t total = fill_below(&client);
	assert_int_equal(stream_shut_write(&client), STREAM_AGAIN);
	assert_false(client.write_shut);
	assert_false(client.ready & STREAM_WRITABLE);
	loop_turn(loop, 0);
	assert_int_equal(stream_shut_write(&client), STREAM_AGAIN);
	empty_below(&server, total);
	loop_turn(loop, 0);
	assert_true(client.ready & STREAM_WRITABLE);
	assert_int_equal(stream_shut_write(&client), STREAM_OK);
	expect_end(&server, STREAM_EOF);
}

static void
test_a_short_write_goes_on_where_it_stopped(void **state)
{
	size_t n, total = 0, got = 0;
	(void)state;
	memset(block, 'a', sizeof block);
	while (stream_write(&client, block, sizeof block, &n) == STREAM_OK) {
		total += n;
		assert_int_equal(!(client.ready & STREAM_WRITABLE), n < sizeof block);
	}
	assert_int_equal(n, 0);
	while (got < total && read_all(&server, block, sizeof block, &n) != STREAM_ERROR && n > 0)
		got += n;
	assert_true(client.ready & STREAM_WRITABLE);
	memset(block, 'a', sizeof block);
	assert_int_equal(stream_write(&client, block, sizeof block, &n), STREAM_OK);
	assert_true(n > 0);
}

/*
 * The peer asks for new keys while our socket is full. Our next write has to answer that first and
 * finds no room; a read after it then waits for room too, although OpenSSL has bytes, and must be
 * told when there is some.
 */
static void
test_a_read_that_has_to_write(void **state)
{
	int pair[2];
	size_t n;
	(void)state;
	close_streams();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	assert_true(stream_open(&client, pair[0], STREAM_WRITABLE, on_ready, &client_calls));
	start_tls(&client, client_context, "good.example");
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	SSL_CTX_use_certificate_chain_file(ctx, certificate_path("good.pem"));
	SSL_CTX_use_PrivateKey_file(ctx, certificate_path("good.key"), SSL_FILETYPE_PEM);
	SSL *peer = SSL_new(ctx);
	SSL_set_fd(peer, pair[1]);
	SSL_set_accept_state(peer);
	for (int i = 0; i < 20 && (stream_handshake(&client) != STREAM_OK || !SSL_is_init_finished(peer)); i++)
		(void)SSL_do_handshake(peer);
	assert_true(SSL_is_init_finished(peer));
	loop_turn(loop, 0);
	assert_int_equal(stream_read(&client, block, sizeof block, &n), STREAM_AGAIN);

	size_t total = fill_below(&client);
	assert_int_equal(SSL_key_update(peer, SSL_KEY_UPDATE_REQUESTED), 1);
	assert_int_equal(SSL_write(peer, "one record", 10), 10);
	loop_turn(loop, 0);
	expect_text(&client, "one ");          /* the rest is inside OpenSSL */
	assert_int_equal(stream_write(&client, "new keys", 8, &n), STREAM_AGAIN);
	assert_true(client.ready & STREAM_READABLE);
	assert_int_equal(stream_read(&client, block, sizeof block, &n), STREAM_AGAIN);
	assert_int_equal(client.ready & (STREAM_READABLE | STREAM_WRITABLE), 0);
	loop_turn(loop, 0);
	assert_int_equal(client.ready & (STREAM_READABLE | STREAM_WRITABLE), 0);

	server.fd = pair[1];                   /* only to be read empty */
	empty_below(&server, total);
	server.fd = -1;
	client_calls = 0;
	loop_turn(loop, 0);
	assert_int_equal(client_calls, 1);
	assert_int_equal(client.ready & (STREAM_READABLE | STREAM_WRITABLE), STREAM_READABLE | STREAM_WRITABLE);
	expect_text(&client, "record");
	assert_int_equal(SSL_read(peer, block, sizeof block), -1);     /* our answer to it, and nothing else */
	send_text(&client, "new keys");
	assert_int_equal(SSL_read(peer, block, sizeof block), 8);
	SSL_free(peer);
	SSL_CTX_free(ctx);
	close(pair[1]);
}

static void
test_garbage_is_an_error_with_a_text(void **state)
{
	(void)state;
	assert_int_equal(send(client.fd, "GET / HTTP/1.1\r\n\r\n", 18, 0), 18);
	expect_end(&server, STREAM_ERROR);
	assert_int_equal(server.error, EPROTO);
	assert_true(tls_error_text(server.tls)[0] != '\0');
}

static void
test_garbage_instead_of_a_handshake(void **state)
{
	(void)state;
	close_streams();
	open_streams();
	start_tls(&server, server_context, NULL);
	assert_int_equal(stream_handshake(&server), STREAM_AGAIN);
	send_text(&client, "GET / HTTP/1.1\r\n\r\n");
	loop_turn(loop, 0);
	assert_int_equal(stream_handshake(&server), STREAM_ERROR);
	assert_int_equal(stream_handshake(&server), STREAM_ERROR);
	assert_int_equal(server.error, EPROTO);
}

static void
test_left_within_the_handshake(void **state)
{
	(void)state;
	close_streams();
	open_streams();
	start_tls(&client, client_context, "good.example");
	assert_int_equal(stream_handshake(&client), STREAM_AGAIN);
	stream_close(&server);
	while (!(client.ready & STREAM_READABLE))
		wait_turn();
	assert_int_equal(stream_handshake(&client), STREAM_ERROR);
	assert_true(client.error != 0);
	assert_int_equal(stream_shut_write(&client), STREAM_ERROR);
}

/* ---- TLS within TLS ---- */

static void
stack_second_layer(void)
{
	enum stream_status c, s;
	start_tls(&client, client_context, "good.example");
	start_tls(&server, server_context, NULL);
	shake_hands(&c, &s);
	assert_int_equal(c, STREAM_OK);
	assert_int_equal(s, STREAM_OK);
}

static void
test_two_layers(void **state)
{
	(void)state;
	stack_second_layer();
	exchange(500001);
	half_close(&client, &server);
}

static void
test_two_layers_cut_short(void **state)
{
	(void)state;
	stack_second_layer();
	send_text(&client, "last wo");
	stream_close(&client);
	expect_text(&server, "last wo");
	expect_end(&server, STREAM_ERROR);
}

static void
test_second_layer_is_verified_for_itself(void **state)
{
	enum stream_status c, s;
	(void)state;
	start_tls(&client, client_context, "other.example");
	start_tls(&server, server_context, NULL);
	shake_hands(&c, &s);
	assert_int_equal(c, STREAM_ERROR);
	assert_non_null(strstr(tls_error_text(client.tls), "hostname mismatch"));
}

/* ---- within what is sealed ---- */

static void
seal(struct stream *s, bool secret)
{
	const struct gss_layer_options o = { .context = toy_context(), .secret = secret, .prefix = { 1, 3 } };
	assert_true(stream_start_gss(s, &o, NULL, 0));
}

static void
seal_both(void)
{
	seal(&client, true);
	seal(&server, true);
}

/* TLS | sealed | sealed | TLS | sealed: each lies on the one before. */
static void
stack_all(void)
{
	seal_both();
	seal_both();
	stack_second_layer();
	seal_both();
}

static void
test_layers_in_any_order(void **state)
{
	(void)state;
	seal_both();
	exchange(200001);
	seal_both();
	exchange(200001);
	stack_second_layer();
	exchange(200001);
	assert_false(stream_can_splice_in(&client) || stream_can_splice_out(&client));
	seal_both();
	exchange(500001);
	half_close(&client, &server);
	stream_close(&client);
	assert_int_equal(toy_contexts(), 0);
}

static void
test_layers_half_closed_by_the_server(void **state)
{
	(void)state;
	stack_all();
	half_close(&server, &client);
}

static void
test_layers_after_moves(void **state)
{
	(void)state;
	stack_all();
	test_much_after_moves(state);
}

static void
test_layers_cut_short(void **state)
{
	(void)state;
	stack_all();
	send_text(&client, "last wo");
	stream_close(&client);
	expect_text(&server, "last wo");
	expect_end(&server, STREAM_ERROR);
}

/* What lies in the middle is not the peer's: its end is an error above. */
static void
test_a_layer_below_is_forged(void **state)
{
	(void)state;
	seal(&client, false);
	seal(&server, true);
	start_tls(&client, client_context, "good.example");
	start_tls(&server, server_context, NULL);
	enum stream_status c, s;
	shake_hands(&c, &s);
	assert_int_equal(s, STREAM_ERROR);
	assert_int_equal(server.error, EPROTO);
}

#define ON_PAIR(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define ON_BOTH(test)                                                                              \
	{ #test " (Unix)", test, set_up, tear_down, NULL },                                        \
	{ #test " (TCP)", test, set_up_tcp, tear_down, NULL }

static int
start_group(void **state)
{
	(void)state;
	certificates_make();
	return 0;
}

static int
end_group(void **state)
{
	(void)state;
	certificates_remove();
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_contexts),
		cmocka_unit_test(test_sigpipe_is_ignored_unless_somebody_handles_it),
		cmocka_unit_test(test_peers),
		cmocka_unit_test(test_nobody_to_verify_is_refused),
		cmocka_unit_test(test_client_certificates),
		cmocka_unit_test(test_alpn),
		ON_PAIR(test_one_byte_writes_and_one_byte_reads),
		ON_BOTH(test_much_both_ways_at_once),
		ON_BOTH(test_much_after_moves),
		ON_BOTH(test_close_behind_data),
		ON_BOTH(test_end_without_close_notify_is_an_error),
		ON_BOTH(test_reset_behind_data),
		ON_BOTH(test_half_close_by_the_client),
		ON_BOTH(test_half_close_by_the_server),
		ON_PAIR(test_answer_is_read_though_the_peer_takes_no_more),
		ON_PAIR(test_close_notify_waits_for_room),
		ON_PAIR(test_a_short_write_goes_on_where_it_stopped),
		ON_PAIR(test_a_read_that_has_to_write),
		ON_BOTH(test_garbage_is_an_error_with_a_text),
		ON_PAIR(test_garbage_instead_of_a_handshake),
		ON_BOTH(test_left_within_the_handshake),
		ON_BOTH(test_two_layers),
		ON_BOTH(test_two_layers_cut_short),
		ON_PAIR(test_second_layer_is_verified_for_itself),
		ON_BOTH(test_layers_in_any_order),
		ON_BOTH(test_layers_half_closed_by_the_server),
		ON_PAIR(test_layers_after_moves),
		ON_BOTH(test_layers_cut_short),
		ON_PAIR(test_a_layer_below_is_forged),
	};
	return cmocka_run_group_tests(tests, start_group, end_group);
}
