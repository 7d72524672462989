/*
 * test_verdict: the table of verdicts against chapter 4 of the contract, written out once more, and
 * the words for people.
 */
#include "socks/verdict.h"

#include "socks/command.h"
#include "socks/server.h"
#include "tests/socks/vectors.h"

static const struct {
	enum verdict verdict;
	unsigned rep, cd, http;
	bool blames_upstream;
} contract[] = {
	{ VERDICT_GRANTED, 0, 90, 200, false },
	{ VERDICT_REJECTED, 2, 91, 403, false },
	{ VERDICT_MALFORMED, 1, 91, 400, false },
	{ VERDICT_CUT_SHORT, 1, 91, 400, false },
	{ VERDICT_NO_PROTOCOL, 1, 91, 501, false },
	{ VERDICT_COMMAND_UNKNOWN, 7, 91, 405, false },
	{ VERDICT_ADDRESS_UNKNOWN, 8, 91, 400, false },
	{ VERDICT_NO_METHOD, 1, 91, 407, false },
	{ VERDICT_BAD_CREDENTIALS, 1, 91, 407, false },
	{ VERDICT_IDENT_UNREACHABLE, 2, 92, 403, false },
	{ VERDICT_IDENT_DIFFERS, 2, 93, 403, false },
	{ VERDICT_NO_UPSTREAM, 1, 91, 503, false },
	{ VERDICT_INTERNAL, 1, 91, 503, false },
	{ VERDICT_NAME_UNKNOWN, 4, 91, 502, false },
	{ VERDICT_HOST_UNREACHABLE, 4, 91, 502, false },
	{ VERDICT_NETWORK_UNREACHABLE, 3, 91, 502, false },
	{ VERDICT_REFUSED, 5, 91, 502, false },
	{ VERDICT_TIMEOUT, 6, 91, 504, false },
	{ VERDICT_UPSTREAM_FAILED, 1, 91, 503, true },
	{ VERDICT_UPSTREAM_GARBAGE, 1, 91, 503, true },
	{ VERDICT_UPSTREAM_AUTH, 1, 91, 503, true },
	{ VERDICT_UPSTREAM_REJECTED, 2, 91, 403, false },
	{ VERDICT_UPSTREAM_NO_COMMAND, 7, 91, 503, false },
	{ VERDICT_UPSTREAM_NO_ADDRESS, 8, 91, 503, false },
	{ VERDICT_UPSTREAM_TLS, 1, 91, 503, true },
};

static void
test_contract(void **state)
{
	(void)state;
	assert_int_equal(ARRAY_LEN(contract), VERDICT_N);
	for (size_t i = 0; i < ARRAY_LEN(contract); i++) {
		enum verdict v = contract[i].verdict;
		assert_int_equal(v, i);
		assert_int_equal(verdict_to_socks5(v), contract[i].rep);
		assert_int_equal(verdict_to_socks4(v), contract[i].cd);
		assert_int_equal(verdict_to_http(v), contract[i].http);
		assert_int_equal(verdict_blames_upstream(v), contract[i].blames_upstream);
	}
}

static void
test_texts_are_there_and_differ(void **state)
{
	(void)state;
	for (unsigned i = 0; i < VERDICT_N; i++) {
		assert_true(strlen(verdict_text(i)) > 0);
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(verdict_text(i), verdict_text(k));
	}
}

static void
test_code_of_each_protocol(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(contract); i++) {
		enum verdict v = contract[i].verdict;
		unsigned rep = v == VERDICT_NO_METHOD ? 0xff : contract[i].rep;
		assert_int_equal(socks_server_code(PROTOCOL_SOCKS5, v), rep);
		assert_int_equal(socks_server_code(PROTOCOL_SOCKS4, v), contract[i].cd);
		assert_int_equal(socks_server_code(PROTOCOL_SOCKS4A, v), contract[i].cd);
		assert_int_equal(socks_server_code(PROTOCOL_HTTP, v), contract[i].http);
		assert_int_equal(socks_server_code(PROTOCOL_NONE, v), 0);
	}
}

static void
test_what_others_answer(void **state)
{
	static const enum verdict by_rep[] = {
		VERDICT_GRANTED, VERDICT_UPSTREAM_FAILED, VERDICT_UPSTREAM_REJECTED,
		VERDICT_NETWORK_UNREACHABLE, VERDICT_HOST_UNREACHABLE, VERDICT_REFUSED,
		VERDICT_TIMEOUT, VERDICT_UPSTREAM_NO_COMMAND, VERDICT_UPSTREAM_NO_ADDRESS,
	};
	(void)state;
	for (unsigned rep = 0; rep <= 255; rep++) {
		enum verdict v = verdict_from_socks5((uint8_t)rep);
		bool known = rep < ARRAY_LEN(by_rep);
		assert_int_equal(v, known ? by_rep[rep] : VERDICT_UPSTREAM_FAILED);
		if (known)                     /* the last hop's word goes on to the client */
			assert_int_equal(verdict_to_socks5(v), rep);
		v = verdict_from_socks4((uint8_t)rep);
		assert_int_equal(v, rep == 90 ? VERDICT_GRANTED : VERDICT_UPSTREAM_FAILED);
	}
}

static void
test_what_http_answers(void **state)
{
	static const struct { uint16_t status; uint8_t rep; } contract_http[] = {
		{ 200, 0 }, { 204, 0 }, { 299, 0 }, { 403, 2 }, { 404, 4 }, { 502, 4 }, { 504, 6 },
		{ 199, 1 }, { 300, 1 }, { 302, 1 }, { 400, 1 }, { 405, 1 }, { 407, 1 }, { 500, 1 },
		{ 503, 1 },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(contract_http); i++) {
		enum verdict v = verdict_from_http(contract_http[i].status);
		assert_int_equal(verdict_to_socks5(v), contract_http[i].rep);
	}
	assert_int_equal(verdict_from_http(407), VERDICT_UPSTREAM_AUTH);
	assert_int_equal(verdict_from_http(503), VERDICT_UPSTREAM_FAILED);
}

static void
test_words(void **state)
{
	(void)state;
	assert_string_equal(socks_command_text(SOCKS_CONNECT), "connect");
	assert_string_equal(socks_command_text(SOCKS_BIND), "bind");
	assert_string_equal(socks_command_text(SOCKS_UDP), "udp");
	assert_string_equal(socks_command_text((enum socks_command)0), "unknown");
	assert_string_equal(socks_command_text((enum socks_command)4), "unknown");
	assert_string_equal(socks_command_text((enum socks_command)0xef), "unknown");
	assert_string_equal(socks_command_text(SOCKS_RESOLVE), "resolve");
	assert_string_equal(socks_command_text(SOCKS_RESOLVE_PTR), "resolve_ptr");
	assert_string_equal(socks_command_text((enum socks_command)0xf2), "unknown");
	assert_string_equal(socks_protocol_text(PROTOCOL_NONE), "unknown");
	assert_string_equal(socks_protocol_text(PROTOCOL_SOCKS4), "socks4");
	assert_string_equal(socks_protocol_text(PROTOCOL_SOCKS4A), "socks4a");
	assert_string_equal(socks_protocol_text(PROTOCOL_SOCKS5), "socks5");
	assert_string_equal(socks_protocol_text(PROTOCOL_HTTP), "http");
	assert_string_equal(socks_protocol_text(PROTOCOL_N), "unknown");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_contract),
		cmocka_unit_test(test_texts_are_there_and_differ),
		cmocka_unit_test(test_code_of_each_protocol),
		cmocka_unit_test(test_what_others_answer),
		cmocka_unit_test(test_what_http_answers),
		cmocka_unit_test(test_words),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
