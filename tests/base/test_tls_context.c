/*
 * test_tls_context: contexts, and who is accepted by whom, with real TLS at both ends.
 */
#include "base/tls.h"
#include "base/loop.h"
#include "base/stream.h"
#include "tests/base/certificates.h"
#include "tests/base/tls_pair.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* ---- contexts ---- */

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
		struct tls_context *c = pair_context_of(contexts[i].server, contexts[i].certificate, contexts[i].key,
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
		tls_context_free(pair_context_of(false, NULL, NULL, NULL, true, NULL, why, sizeof why));
		sigaction(SIGPIPE, NULL, &now);
		assert_true(now.sa_handler == (i == 0 ? SIG_IGN : on_pipe));
	}
	signal(SIGPIPE, SIG_IGN);
}

/* ---- who is accepted by whom ---- */

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
	pair_loop = loop_new();
	for (size_t i = 0; i < ARRAY_LEN(peers); i++) {
		enum stream_status c, s;
		char subject[100];
		client_context = pair_context(false, NULL, NULL, peers[i].ca, peers[i].verify, NULL);
		server_context = pair_context(true, peers[i].certificate, peers[i].key, NULL, false, NULL);
		pair_open();
		pair_start_tls(&client, client_context, peers[i].host);
		pair_start_tls(&server, server_context, NULL);
		pair_shake_hands(&c, &s);
		const char *text = tls_error_text(client.tls);
		bool ok = peers[i].want == NULL ? c == STREAM_OK && s == STREAM_OK :
		    c == STREAM_ERROR && client.error == EPROTO && strstr(text, peers[i].want) != NULL;
		if (!ok)
			print_error("%s: %d, \"%s\"\n", peers[i].what, (int)c, text);
		assert_true(ok);
		tls_peer_subject(client.tls, subject, sizeof subject);
		assert_int_equal(subject[0] != '\0', peers[i].want == NULL && peers[i].verify);
		pair_close();
		tls_context_free(client_context);
		tls_context_free(server_context);
	}
	loop_free(pair_loop);
}

static void
test_nobody_to_verify_is_refused(void **state)
{
	struct tls_context *c = pair_context(false, NULL, NULL, "ca.pem", true, NULL);
	(void)state;
	assert_null(tls_new(c, 0, NULL));
	assert_null(tls_new(c, 0, ""));
	tls_context_free(c);
	c = pair_context(false, NULL, NULL, "ca.pem", false, NULL);
	struct tls *t = tls_new(c, 0, NULL);
	assert_non_null(t);
	tls_context_free(c);                   /* the connection lives on */
	tls_free(t);
	tls_free(NULL);
	tls_context_free(NULL);
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
	client_context = pair_context(false, certificate, key, "ca.pem", true, NULL);
	server_context = pair_context(true, "good.pem", "good.key", "ca.pem", required, NULL);
	pair_open();
	pair_start_tls(&client, client_context, "good.example");
	pair_start_tls(&server, server_context, NULL);
	pair_shake_hands(&c, &s);
	assert_int_equal(s, accepted ? STREAM_OK : STREAM_ERROR);
	assert_string_equal(tls_peer_subject(server.tls, text, sizeof text), subject);
	if (accepted) {
		pair_send_text(&server, "welcome");
		pair_expect_text(&client, "welcome");
	} else {
		assert_true(tls_error_text(server.tls)[0] != '\0');
		loop_turn(pair_loop, 0);
		pair_expect_end(&client, STREAM_ERROR);
		assert_true(strstr(tls_error_text(client.tls), "alert") != NULL);
	}
	pair_close();
	tls_context_free(client_context);
	tls_context_free(server_context);
}

static void
test_client_certificates(void **state)
{
	(void)state;
	pair_loop = loop_new();
	meet_with_client_certificate("client.pem", "client.key", true, true, "CN=alice");
	meet_with_client_certificate(NULL, NULL, true, false, "");
	meet_with_client_certificate("stranger.pem", "stranger.key", true, false, "");
	meet_with_client_certificate("client.pem", "client.key", false, true, "CN=alice");
	meet_with_client_certificate(NULL, NULL, false, true, "");
	loop_free(pair_loop);
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
	pair_loop = loop_new();
	for (size_t i = 0; i < ARRAY_LEN(offers); i++) {
		enum stream_status c, s;
		client_context = pair_context(false, NULL, NULL, "ca.pem", true, offers[i].client);
		server_context = pair_context(true, "good.pem", "good.key", NULL, false, offers[i].server);
		pair_open();
		pair_start_tls(&client, client_context, "good.example");
		pair_start_tls(&server, server_context, NULL);
		tls_context_free(client_context);
		tls_context_free(server_context);      /* its name is needed in the handshake still */
		pair_shake_hands(&c, &s);
		assert_int_equal(s, offers[i].want);
		pair_close();
	}
	loop_free(pair_loop);
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
	};
	return cmocka_run_group_tests(tests, pair_start_group, pair_end_group);
}
