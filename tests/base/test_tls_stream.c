/*
 * test_tls_stream: TLS streams under edge triggering, with real TLS at both ends.
 */
#include "base/tls.h"
#include "base/loop.h"
#include "base/stream.h"
#include "tests/base/certificates.h"
#include "tests/base/tls_pair.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

static uint8_t block[65536];

static void
test_one_byte_writes_and_one_byte_reads(void **state)
{
	(void)state;
	static const char text[] = "one byte at a time";
	for (const char *c = text; *c != '\0'; c++)
		pair_send_text(&client, (char[]){ *c, '\0' });
	pair_expect_text(&server, text);
	/*
	 * One record, read by bytes: after the first no edge comes for the rest, the bit has to
	 * stay.
	 */
	pair_send_text(&client, text);
	loop_turn(pair_loop, 0);
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

static void
test_much_both_ways_at_once(void **state)
{
	(void)state;
	pair_exchange(3000001);
}

static void
test_much_after_moves(void **state)
{
	(void)state;
	pair_exchange_after_moves();
}

static void
test_close_behind_data(void **state)
{
	(void)state;
	pair_send_text(&client, "last words");
	assert_int_equal(stream_shut_write(&client), STREAM_OK);
	assert_int_equal(stream_shut_write(&client), STREAM_OK);
	stream_close(&client);
	pair_expect_text(&server, "last words");
	pair_expect_end(&server, STREAM_EOF);
}

static void
test_end_without_close_notify_is_an_error(void **state)
{
	(void)state;
	pair_send_text(&client, "last wo");
	stream_close(&client);
	pair_expect_text(&server, "last wo");
	pair_expect_end(&server, STREAM_ERROR);
	assert_int_equal(server.error, EPROTO);
	assert_non_null(strstr(tls_error_text(server.tls), "without close_notify"));
}

static void
test_reset_behind_data(void **state)
{
	(void)state;
	pair_send_text(&server, "never read");      /* a Unix socket closed over unread bytes resets */
	pair_send_text(&client, "last words");
	stream_reset(&client);
	pair_expect_text(&server, "last words");
	pair_expect_end(&server, STREAM_ERROR);
	assert_int_equal(server.error, ECONNRESET);
}

static void
test_half_close_by_the_client(void **state)
{
	(void)state;
	pair_half_close(&client, &server);
}

static void
test_half_close_by_the_server(void **state)
{
	(void)state;
	pair_half_close(&server, &client);
}

static void
test_answer_is_read_though_the_peer_takes_no_more(void **state)
{
	enum stream_status status = STREAM_OK;
	size_t n;
	(void)state;
	pair_send_text(&server, "413 too much");
	assert_int_equal(stream_shut_write(&server), STREAM_OK);
	stream_close(&server);
	for (int i = 0; i < 10 && status == STREAM_OK; i++)
		status = stream_write(&client, "x", 1, &n);
	assert_int_equal(status, STREAM_ERROR);
	assert_int_equal(client.error, EPIPE);
	pair_expect_text(&client, "413 too much");
	pair_expect_end(&client, STREAM_EOF);
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
	loop_turn(pair_loop, 0);
	assert_int_equal(stream_shut_write(&client), STREAM_AGAIN);
	empty_below(&server, total);
	loop_turn(pair_loop, 0);
	assert_true(client.ready & STREAM_WRITABLE);
	assert_int_equal(stream_shut_write(&client), STREAM_OK);
	pair_expect_end(&server, STREAM_EOF);
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
	while (got < total && pair_read(&server, block, sizeof block, &n) != STREAM_ERROR && n > 0)
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
	pair_close();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	assert_true(stream_open(&client, pair[0], STREAM_WRITABLE, pair_on_ready, &pair_client_calls));
	pair_start_tls(&client, client_context, "good.example");
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	SSL_CTX_use_certificate_chain_file(ctx, certificate_path("good.pem"));
	SSL_CTX_use_PrivateKey_file(ctx, certificate_path("good.key"), SSL_FILETYPE_PEM);
	SSL *peer = SSL_new(ctx);
	SSL_set_fd(peer, pair[1]);
	SSL_set_accept_state(peer);
	for (int i = 0; i < 20 && (stream_handshake(&client) != STREAM_OK || !SSL_is_init_finished(peer)); i++)
		(void)SSL_do_handshake(peer);
	assert_true(SSL_is_init_finished(peer));
	if (SSL_version(peer) < TLS1_3_VERSION) {       /* where the system's configuration allows no other: no new keys there */
		SSL_free(peer);
		SSL_CTX_free(ctx);
		close(pair[1]);
		skip();
	}
	loop_turn(pair_loop, 0);
	assert_int_equal(stream_read(&client, block, sizeof block, &n), STREAM_AGAIN);

	size_t total = fill_below(&client);
	assert_int_equal(SSL_key_update(peer, SSL_KEY_UPDATE_REQUESTED), 1);
	assert_int_equal(SSL_write(peer, "one record", 10), 10);
	loop_turn(pair_loop, 0);
	pair_expect_text(&client, "one ");          /* the rest is inside OpenSSL */
	assert_int_equal(stream_write(&client, "new keys", 8, &n), STREAM_AGAIN);
	assert_true(client.ready & STREAM_READABLE);
	assert_int_equal(stream_read(&client, block, sizeof block, &n), STREAM_AGAIN);
	assert_int_equal(client.ready & (STREAM_READABLE | STREAM_WRITABLE), 0);
	loop_turn(pair_loop, 0);
	assert_int_equal(client.ready & (STREAM_READABLE | STREAM_WRITABLE), 0);

	server.fd = pair[1];                   /* only to be read empty */
	empty_below(&server, total);
	server.fd = -1;
	pair_client_calls = 0;
	loop_turn(pair_loop, 0);
	assert_int_equal(pair_client_calls, 1);
	assert_int_equal(client.ready & (STREAM_READABLE | STREAM_WRITABLE), STREAM_READABLE | STREAM_WRITABLE);
	pair_expect_text(&client, "record");
	assert_int_equal(SSL_read(peer, block, sizeof block), -1);     /* our answer to it, and nothing else */
	pair_send_text(&client, "new keys");
	assert_int_equal(SSL_read(peer, block, sizeof block), 8);
	SSL_free(peer);
	SSL_CTX_free(ctx);
	close(pair[1]);
}

static void
test_garbage_is_an_error_with_a_text(void **state)
{
	(void)state;
	if (tls_kernel_writes(client.tls))      /* and would seal it */
		skip();
	assert_int_equal(send(client.fd, "GET / HTTP/1.1\r\n\r\n", 18, 0), 18);
	pair_expect_end(&server, STREAM_ERROR);
	assert_int_equal(server.error, EPROTO);
	assert_true(tls_error_text(server.tls)[0] != '\0');
}

static void
test_garbage_instead_of_a_handshake(void **state)
{
	(void)state;
	pair_close();
	pair_open();
	pair_start_tls(&server, server_context, NULL);
	assert_int_equal(stream_handshake(&server), STREAM_AGAIN);
	pair_send_text(&client, "GET / HTTP/1.1\r\n\r\n");
	loop_turn(pair_loop, 0);
	assert_int_equal(stream_handshake(&server), STREAM_ERROR);
	assert_int_equal(stream_handshake(&server), STREAM_ERROR);
	assert_int_equal(server.error, EPROTO);
}

static void
test_left_within_the_handshake(void **state)
{
	(void)state;
	pair_close();
	pair_open();
	pair_start_tls(&client, client_context, "good.example");
	assert_int_equal(stream_handshake(&client), STREAM_AGAIN);
	stream_close(&server);
	while (!(client.ready & STREAM_READABLE))
		pair_wait_turn();
	assert_int_equal(stream_handshake(&client), STREAM_ERROR);
	assert_true(client.error != 0);
	assert_int_equal(stream_shut_write(&client), STREAM_ERROR);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
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
	};
	return cmocka_run_group_tests(tests, pair_start_group, pair_end_group);
}
