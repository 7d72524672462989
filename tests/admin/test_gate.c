/*
 * Who may talk to the API: tokens, the Host header on loopback, other origins, bodies whose end
 * nobody knows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "admin/gate.h"

static const struct {
	const char *what, *authorization;
	bool want;
} tokens[] = {
	{ "right", "Bearer sesame", true },
	{ "scheme in another case", "bearer sesame", true },
	{ "more spaces", "Bearer   sesame", true },
	{ "none", NULL, false },
	{ "empty", "", false },
	{ "scheme only", "Bearer", false },
	{ "scheme and space", "Bearer ", false },
	{ "prefix", "Bearer sesam", false },
	{ "longer", "Bearer sesame1", false },
	{ "space behind", "Bearer sesame ", false },
	{ "another case", "Bearer Sesame", false },
	{ "prefix of the scheme", "B sesame", false },
	{ "longer scheme", "Bearers sesame", false },
	{ "another scheme", "Basic sesame", false },
	{ "no scheme", "sesame", false },
};

static void
test_tokens(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(tokens); i++) {
		print_message("%s\n", tokens[i].what);
		assert_int_equal(gate_token_matches(tokens[i].authorization, "sesame"),
				 tokens[i].want);
	}
}

static const struct {
	const char *host;
	bool want;
} hosts[] = {
	{ NULL, true },
	{ "localhost", true },
	{ "LocalHost:9080", true },
	{ "127.0.0.1", true },
	{ "127.0.0.1:9080", true },
	{ "127.9.9.9:1", true },
	{ "[::1]", true },
	{ "[::1]:9080", true },
	{ "[::ffff:127.0.0.1]:9080", true },
	{ "", false },
	{ ":9080", false },
	{ "evil.example", false },
	{ "evil.example:9080", false },
	{ "localhost.evil.example", false },
	{ "127.0.0.1.evil.example", false },
	{ "192.0.2.1", false },
	{ "0.0.0.0", false },
	{ "[::1", false },
	{ "[2001:db8::1]:9080", false },
	{ "local", false },
	{ "localhost2", false },
};

static void
test_hosts(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		print_message("%s\n", hosts[i].host != NULL ? hosts[i].host : "(none)");
		assert_int_equal(gate_host_is_local(hosts[i].host), hosts[i].want);
	}
}

static void
test_origins(void **state)
{
	(void)state;
	assert_false(gate_is_cross_origin(NULL, "127.0.0.1:9080"));
	assert_false(gate_is_cross_origin(NULL, NULL));
	assert_false(gate_is_cross_origin("http://127.0.0.1:9080", "127.0.0.1:9080"));
	assert_true(gate_is_cross_origin("http://127.0.0.1:9081", "127.0.0.1:9080"));
	assert_true(gate_is_cross_origin("http://127.0.0.1", "127.0.0.1:9080"));
	assert_true(gate_is_cross_origin("https://127.0.0.1:9080", "127.0.0.1:9080"));
	assert_true(gate_is_cross_origin("http://evil.example", "127.0.0.1:9080"));
	assert_true(gate_is_cross_origin("null", "127.0.0.1:9080"));
	assert_true(gate_is_cross_origin("", "127.0.0.1:9080"));
	assert_true(gate_is_cross_origin("http://127.0.0.1:9080", NULL));
}

static void
test_bodies(void **state)
{
	(void)state;
	assert_false(gate_body_is_ambiguous(NULL, NULL));
	assert_false(gate_body_is_ambiguous(NULL, "chunked"));
	assert_false(gate_body_is_ambiguous("0", NULL));
	assert_false(gate_body_is_ambiguous("12", NULL));
	assert_true(gate_body_is_ambiguous("12", "chunked"));
	assert_true(gate_body_is_ambiguous("", NULL));
	assert_true(gate_body_is_ambiguous("+1", NULL));
	assert_true(gate_body_is_ambiguous("-1", NULL));
	assert_true(gate_body_is_ambiguous("1, 1", NULL));
	assert_true(gate_body_is_ambiguous("0x10", NULL));
	assert_true(gate_body_is_ambiguous("99999999999999999999", NULL));
	assert_int_equal(gate_body_len(NULL), 0);
	assert_int_equal(gate_body_len("12"), 12);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_hosts),
		cmocka_unit_test(test_origins),
		cmocka_unit_test(test_bodies),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
