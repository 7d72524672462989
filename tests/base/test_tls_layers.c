/*
 * test_tls_layers: layers on a TLS stream, each on the one before: TLS, and what a GSS context seals.
 */
#include "base/tls.h"
#include "base/stream.h"
#include "tests/base/tls_pair.h"
#include "tests/base/toy_gss.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* ---- TLS within TLS ---- */

static void
test_two_layers(void **state)
{
	(void)state;
	pair_stack_tls();
	pair_exchange(500001);
	pair_half_close(&client, &server);
}

static void
test_two_layers_cut_short(void **state)
{
	(void)state;
	pair_stack_tls();
	pair_send_text(&client, "last wo");
	stream_close(&client);
	pair_expect_text(&server, "last wo");
	pair_expect_end(&server, STREAM_ERROR);
}

/* What ends the outer layer comes behind the end of the inner one, and must be read before the socket is closed. */
static void
test_the_end_of_the_outer_layer(void **state)
{
	(void)state;
	pair_stack_tls();
	assert_int_equal(stream_shut_write(&server), STREAM_OK);
	pair_expect_end(&client, STREAM_EOF);
	assert_false(stream_ended_above(&client));     /* it may write yet */
	assert_int_equal(stream_shut_write(&client), STREAM_OK);
	assert_true(stream_ended_above(&client));

	stream_strip(&client);
	assert_false(stream_ended_above(&client));
	pair_expect_end(&client, STREAM_EOF);
}

static void
test_one_layer_ends_with_its_socket(void **state)
{
	(void)state;
	assert_int_equal(stream_shut_write(&server), STREAM_OK);
	pair_expect_end(&client, STREAM_EOF);
	assert_int_equal(stream_shut_write(&client), STREAM_OK);
	assert_false(stream_ended_above(&client));
}

static void
test_second_layer_is_verified_for_itself(void **state)
{
	enum stream_status c, s;
	(void)state;
	pair_start_tls(&client, client_context, "other.example");
	pair_start_tls(&server, server_context, NULL);
	pair_shake_hands(&c, &s);
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
	pair_stack_tls();
	seal_both();
}

static void
test_layers_in_any_order(void **state)
{
	(void)state;
	seal_both();
	pair_exchange(200001);
	seal_both();
	pair_exchange(200001);
	pair_stack_tls();
	pair_exchange(200001);
	assert_false(stream_can_splice_in(&client) || stream_can_splice_out(&client));
	seal_both();
	pair_exchange(500001);
	pair_half_close(&client, &server);
	stream_close(&client);
	assert_int_equal(toy_contexts(), 0);
}

static void
test_layers_half_closed_by_the_server(void **state)
{
	(void)state;
	stack_all();
	pair_half_close(&server, &client);
}

static void
test_layers_after_moves(void **state)
{
	(void)state;
	stack_all();
	pair_exchange_after_moves();
}

static void
test_layers_cut_short(void **state)
{
	(void)state;
	stack_all();
	pair_send_text(&client, "last wo");
	stream_close(&client);
	pair_expect_text(&server, "last wo");
	pair_expect_end(&server, STREAM_ERROR);
}

/* What lies in the middle is not the peer's: its end is an error above. */
static void
test_a_layer_below_is_forged(void **state)
{
	(void)state;
	seal(&client, false);
	seal(&server, true);
	pair_start_tls(&client, client_context, "good.example");
	pair_start_tls(&server, server_context, NULL);
	enum stream_status c, s;
	pair_shake_hands(&c, &s);
	assert_int_equal(s, STREAM_ERROR);
	assert_int_equal(server.error, EPROTO);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		ON_BOTH(test_two_layers),
		ON_BOTH(test_two_layers_cut_short),
		ON_BOTH(test_the_end_of_the_outer_layer),
		ON_BOTH(test_one_layer_ends_with_its_socket),
		ON_PAIR(test_second_layer_is_verified_for_itself),
		ON_BOTH(test_layers_in_any_order),
		ON_BOTH(test_layers_half_closed_by_the_server),
		ON_PAIR(test_layers_after_moves),
		ON_BOTH(test_layers_cut_short),
		ON_PAIR(test_a_layer_below_is_forged),
	};
	return cmocka_run_group_tests(tests, pair_start_group, pair_end_group);
}
