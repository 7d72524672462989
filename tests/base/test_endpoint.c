/*
 * Tests of base/endpoint: every spelling of a place, and what is none. Addresses are held against
 * the C library's inet_aton.
 */
#include "base/endpoint.h"

#include <setjmp.h>
#include <stdarg.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

#include "base/hash.h"

struct text_case {
	const char *text;
	enum endpoint_error want;
	const char *to;
};

static void
check_host(const struct text_case *c, size_t len)
{
	struct endpoint e = { .port = 7 };
	char out[ENDPOINT_TEXT_MAX];
	enum endpoint_error err = endpoint_set_host(&e, c->text, len);
	if (err != c->want)
		fail_msg("\"%s\": %s", c->text, endpoint_error_text(err));
	assert_int_equal(e.port, 7);
	if (err != ENDPOINT_OK)
		assert_int_equal(e.kind, ENDPOINT_NONE);
	else
		assert_string_equal(endpoint_host_to_text(&e, out, sizeof out), c->to);
}

static const struct text_case hosts[] = {
	{ "192.0.2.1", ENDPOINT_OK, "192.0.2.1" },
	{ "192.0.2.1.", ENDPOINT_OK, "192.0.2.1" },
	{ "127.1", ENDPOINT_OK, "127.0.0.1" },
	{ "127.0.1", ENDPOINT_OK, "127.0.0.1" },
	{ "10.1.65535", ENDPOINT_OK, "10.1.255.255" },
	{ "2130706433", ENDPOINT_OK, "127.0.0.1" },
	{ "0x7f000001", ENDPOINT_OK, "127.0.0.1" },
	{ "0X7F.1", ENDPOINT_OK, "127.0.0.1" },
	{ "017700000001", ENDPOINT_OK, "127.0.0.1" },
	{ "0177.0.0.01", ENDPOINT_OK, "127.0.0.1" },
	{ "0000000000000000000000000000000000000001.1", ENDPOINT_OK, "1.0.0.1" },
	{ "0", ENDPOINT_OK, "0.0.0.0" },
	{ "4294967295", ENDPOINT_OK, "255.255.255.255" },
	{ "4294967296", ENDPOINT_BAD_ADDRESS, NULL },
	{ "18446744073709551617", ENDPOINT_BAD_ADDRESS, NULL },
	{ "256.0.0.1", ENDPOINT_BAD_ADDRESS, NULL },
	{ "1.2.3.256", ENDPOINT_BAD_ADDRESS, NULL },
	{ "1.2.65536", ENDPOINT_BAD_ADDRESS, NULL },
	{ "1.16777216", ENDPOINT_BAD_ADDRESS, NULL },
	{ "1.2.3.4.5", ENDPOINT_BAD_ADDRESS, NULL },
	{ "08", ENDPOINT_BAD_ADDRESS, NULL },
	{ "0x", ENDPOINT_BAD_ADDRESS, NULL },
	{ "1.0x", ENDPOINT_BAD_ADDRESS, NULL },
	{ "a.1", ENDPOINT_BAD_ADDRESS, NULL },
	{ "example.0xff", ENDPOINT_BAD_ADDRESS, NULL },
	{ "1a", ENDPOINT_OK, "1a" },
	{ "0xg", ENDPOINT_OK, "0xg" },
	{ "1.2.3.4a", ENDPOINT_OK, "1.2.3.4a" },
	{ "1.example", ENDPOINT_OK, "1.example" },
	{ "::", ENDPOINT_OK, "::" },
	{ "::1", ENDPOINT_OK, "::1" },
	{ "2001:DB8:0:0::1", ENDPOINT_OK, "2001:db8::1" },
	{ "::ffff:127.0.0.1", ENDPOINT_OK, "127.0.0.1" },
	{ "::ffff:7f00:1", ENDPOINT_OK, "127.0.0.1" },
	{ "0:0:0:0:0:ffff:7f00:0001", ENDPOINT_OK, "127.0.0.1" },
	{ "::127.0.0.1", ENDPOINT_OK, "::127.0.0.1" },
	{ "::ffff:127.1", ENDPOINT_BAD_BYTE, NULL },
	{ "fe80::1%eth0", ENDPOINT_BAD_BYTE, NULL },
	{ "::1::", ENDPOINT_BAD_BYTE, NULL },
	{ "1:2:3:4:5:6:7:8:9", ENDPOINT_BAD_BYTE, NULL },
	{ "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb", ENDPOINT_BAD_BYTE, NULL },
	{ "[::1]", ENDPOINT_BAD_BYTE, NULL },
	{ "example.com", ENDPOINT_OK, "example.com" },
	{ "EXAMPLE.Com.", ENDPOINT_OK, "example.com" },
	{ "under_score.example", ENDPOINT_OK, "under_score.example" },
	{ "b\303\274cher.example", ENDPOINT_OK, "b\303\274cher.example" },
	{ "", ENDPOINT_EMPTY, NULL },
	{ ".", ENDPOINT_EMPTY, NULL },
	{ "..", ENDPOINT_EMPTY, NULL },
	{ "a..", ENDPOINT_EMPTY, NULL },
	{ "a..b", ENDPOINT_EMPTY, NULL },
	{ ".a", ENDPOINT_EMPTY, NULL },
	{ "a b", ENDPOINT_BAD_BYTE, NULL },
	{ "a\r\nHost: b", ENDPOINT_BAD_BYTE, NULL },
	{ "a\177", ENDPOINT_BAD_BYTE, NULL },
	{ "user@host", ENDPOINT_BAD_BYTE, NULL },
	{ "host/path", ENDPOINT_BAD_BYTE, NULL },
	{ "127.0.0.1 ", ENDPOINT_BAD_BYTE, NULL },
};

static void
test_hosts(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(hosts); i++)
		check_host(&hosts[i], strlen(hosts[i].text));
}

static void
test_nul_is_refused_everywhere(void **state)
{
	(void)state;
	check_host(&(struct text_case){ "127.0.0.1\0", ENDPOINT_BAD_BYTE, NULL }, 10);
	check_host(&(struct text_case){ "::1\0", ENDPOINT_BAD_BYTE, NULL }, 4);
	check_host(&(struct text_case){ "a\0b", ENDPOINT_BAD_BYTE, NULL }, 3);
	check_host(&(struct text_case){ "\0", ENDPOINT_BAD_BYTE, NULL }, 1);
	struct endpoint e = { 0 };
	assert_int_equal(endpoint_from_text(&e, "a\0b:1", 5), ENDPOINT_BAD_BYTE);
	assert_int_equal(endpoint_from_text(&e, "[::1\0]:1", 8), ENDPOINT_BAD_BYTE);
	assert_int_equal(endpoint_from_text(&e, "a:1\0", 4), ENDPOINT_BAD_PORT);
}

static void
test_lengths_around_the_limit(void **state)
{
	(void)state;
	char text[300];
	for (size_t len = 253; len <= 258; len++) {
		struct endpoint e = { 0 };
		memset(text, 'a', sizeof text);
		enum endpoint_error want = len <= 255 ? ENDPOINT_OK : ENDPOINT_TOO_LONG;
		assert_int_equal(endpoint_set_host(&e, text, len), want);
		assert_int_equal(e.name_len, len <= 255 ? len : 0);
		text[len] = '.';
		assert_int_equal(endpoint_set_host(&e, text, len + 1), want);
		assert_int_equal(e.name_len, len <= 255 ? len : 0);
	}
}

/*
 * Texts of the letters that addresses have: what inet_aton takes is that address here, and nothing
 * else is one.
 */
static void
test_same_addresses_as_inet_aton(void **state)
{
	static const char letters[] = "00112578a.f..xx9";
	struct random r;
	unsigned n_taken = 0;
	(void)state;
	random_seed(&r, 41);
	for (unsigned round = 0; round < 200000; round++) {
		char text[16];
		size_t len = 1 + random_below(&r, 12);
		for (size_t i = 0; i < len; i++)
			text[i] = letters[random_below(&r, sizeof letters - 1)];
		text[len] = '\0';
		struct in_addr libc;
		struct endpoint e = { 0 };
		bool taken = inet_aton(text, &libc) != 0;
		bool ours = endpoint_set_host(&e, text, len) == ENDPOINT_OK &&
		    endpoint_is_address(&e);
		if (taken != ours && text[len - 1] != '.')
			fail_msg("\"%s\": inet_aton says %d", text, taken);
		if (taken)
			assert_memory_equal(e.addr, &libc, 4);
		n_taken += taken;
	}
	assert_true(n_taken > 1000);
}

static const struct text_case endpoints[] = {
	{ "example.com:80", ENDPOINT_OK, "example.com:80" },
	{ "Example.com.:00443", ENDPOINT_OK, "example.com:443" },
	{ "127.1:0", ENDPOINT_OK, "127.0.0.1:0" },
	{ "[::1]:65535", ENDPOINT_OK, "[::1]:65535" },
	{ "[::ffff:1.2.3.4]:53", ENDPOINT_OK, "1.2.3.4:53" },
	{ "", ENDPOINT_EMPTY, NULL },
	{ ":80", ENDPOINT_EMPTY, NULL },
	{ "[]:80", ENDPOINT_EMPTY, NULL },
	{ "a", ENDPOINT_BAD_PORT, NULL },
	{ "a:", ENDPOINT_BAD_PORT, NULL },
	{ "a:65536", ENDPOINT_BAD_PORT, NULL },
	{ "a:000080", ENDPOINT_BAD_PORT, NULL },
	{ "a:+80", ENDPOINT_BAD_PORT, NULL },
	{ "a: 80", ENDPOINT_BAD_PORT, NULL },
	{ "a:80 ", ENDPOINT_BAD_PORT, NULL },
	{ "a:0x50", ENDPOINT_BAD_PORT, NULL },
	{ "[::1]", ENDPOINT_BAD_PORT, NULL },
	{ "[::1]80", ENDPOINT_BAD_PORT, NULL },
	{ "[::1]:", ENDPOINT_BAD_PORT, NULL },
	{ "[::1]:x", ENDPOINT_BAD_PORT, NULL },
	{ "::1:80", ENDPOINT_BAD_ADDRESS, NULL },
	{ "a:b:80", ENDPOINT_BAD_ADDRESS, NULL },
	{ "[::1", ENDPOINT_BAD_ADDRESS, NULL },
	{ "[", ENDPOINT_BAD_ADDRESS, NULL },
	{ "[127.0.0.1]:80", ENDPOINT_BAD_ADDRESS, NULL },
	{ "[example.com]:80", ENDPOINT_BAD_ADDRESS, NULL },
	{ "[fe80::1%1]:80", ENDPOINT_BAD_BYTE, NULL },
	{ "1.2.3.4.5:80", ENDPOINT_BAD_ADDRESS, NULL },
	{ "a]:80", ENDPOINT_BAD_BYTE, NULL },
};

static void
test_endpoints(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(endpoints); i++) {
		const struct text_case *c = &endpoints[i];
		struct endpoint e = { .kind = ENDPOINT_NONE, .port = 7 };
		char out[ENDPOINT_TEXT_MAX];
		enum endpoint_error err = endpoint_from_text(&e, c->text, strlen(c->text));
		if (err != c->want)
			fail_msg("\"%s\": %s", c->text, endpoint_error_text(err));
		if (err == ENDPOINT_OK) {
			assert_string_equal(endpoint_to_text(&e, out, sizeof out), c->to);
		} else {
			assert_int_equal(e.kind, ENDPOINT_NONE);
			assert_int_equal(e.port, 7);
		}
	}
}

static void
test_port(void **state)
{
	(void)state;
	uint16_t port = 9;
	assert_true(endpoint_read_port("0", 1, &port) && port == 0);
	assert_true(endpoint_read_port("65535", 5, &port) && port == 65535);
	assert_true(endpoint_read_port("803", 2, &port) && port == 80);
	static const char *const bad[] = { "", "65536", "99999", "000001", "-1", "8a", "99999999" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(endpoint_read_port(bad[i], strlen(bad[i]), &port));
	assert_int_equal(port, 80);
}

static void
test_text_is_cut_at_the_buffer(void **state)
{
	(void)state;
	struct endpoint e = { 0 };
	char whole[ENDPOINT_TEXT_MAX], out[ENDPOINT_TEXT_MAX];
	assert_int_equal(endpoint_from_text(&e, "[2001:db8::1]:443", 17), ENDPOINT_OK);
	endpoint_to_text(&e, whole, sizeof whole);
	for (size_t cap = 1; cap <= 20; cap++) {
		memset(out, '#', sizeof out);
		endpoint_to_text(&e, out, cap);
		assert_int_equal(strlen(out), cap <= 17 ? cap - 1 : 17);
		assert_memory_equal(out, whole, strlen(out));
		assert_int_equal(out[cap], '#');
	}
	memset(&e, 0, sizeof e);
	assert_string_equal(endpoint_to_text(&e, out, sizeof out), "");
	assert_string_equal(endpoint_host_to_text(&e, out, sizeof out), "");
}

static void
test_longest_text_fits(void **state)
{
	(void)state;
	char text[ENDPOINT_NAME_MAX + 7], out[ENDPOINT_TEXT_MAX];
	memset(text, 'n', ENDPOINT_NAME_MAX);
	strcpy(text + ENDPOINT_NAME_MAX, ":65535");
	struct endpoint e = { 0 };
	assert_int_equal(endpoint_from_text(&e, text, strlen(text)), ENDPOINT_OK);
	assert_string_equal(endpoint_to_text(&e, out, sizeof out), text);
}

static struct endpoint
made_of(const char *text)
{
	struct endpoint e = { 0 };
	assert_int_equal(endpoint_from_text(&e, text, strlen(text)), ENDPOINT_OK);
	return e;
}

static void
test_kinds_of_addresses(void **state)
{
	static const struct {
		const char *text;
		bool loopback, wildcard;
	} cases[] = {
		{ "127.0.0.1:1", true, false },         { "127.255.0.9:1", true, false },
		{ "128.0.0.1:1", false, false },        { "[::1]:1", true, false },
		{ "[::ffff:127.0.0.1]:1", true, false }, { "[::2]:1", false, false },
		{ "0.0.0.0:1", false, true },           { "[::]:1", false, true },
		{ "[::ffff:0.0.0.0]:1", false, true },  { "0.0.0.1:1", false, false },
		{ "localhost:1", false, false },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct endpoint e = made_of(cases[i].text);
		assert_int_equal(endpoint_is_loopback(&e), cases[i].loopback);
		assert_int_equal(endpoint_is_wildcard(&e), cases[i].wildcard);
	}
	struct endpoint none = { 0 };
	assert_false(endpoint_is_wildcard(&none) || endpoint_is_loopback(&none));
}

/* Over what was another kind before, in memory that holds anything. */
static void
test_copies_are_equal(void **state)
{
	static const char *const texts[] = { "a.longer.name.example:443", "192.0.2.1:80", "x:1", "[2001:db8::1]:65535", "b.c:2" };
	struct endpoint copy, e;
	(void)state;
	memset(&copy, 0xff, sizeof copy);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		char text[ENDPOINT_TEXT_MAX];
		memset(&e, 0, sizeof e);
		assert_int_equal(endpoint_from_text(&e, texts[i], strlen(texts[i])), ENDPOINT_OK);
		endpoint_copy(&copy, &e);
		assert_true(endpoint_equal(&copy, &e));
		assert_string_equal(copy.name, e.name);
		assert_string_equal(endpoint_to_text(&copy, text, sizeof text), texts[i]);
	}
	endpoint_clear(&e);
	endpoint_copy(&copy, &e);
	assert_true(endpoint_equal(&copy, &e));
	assert_string_equal(copy.name, "");
}

static void
test_equality(void **state)
{
	(void)state;
	struct endpoint a = made_of("Example.com:80"), b = made_of("example.COM.:80");
	struct endpoint c = made_of("example.com:81"), d = made_of("example.org:80");
	assert_true(endpoint_equal(&a, &b));
	assert_false(endpoint_equal(&a, &c));
	assert_true(endpoint_same_host(&a, &c));
	assert_false(endpoint_same_host(&a, &d));
	struct endpoint v4 = made_of("1.2.3.4:80"), mapped = made_of("[::ffff:1.2.3.4]:80");
	struct endpoint v6 = made_of("[102:304::]:80");
	assert_true(endpoint_equal(&v4, &mapped));
	assert_false(endpoint_same_host(&v4, &v6));
	endpoint_set_ipv4(&a, v4.addr, 80);    /* a name before: nothing of it may be left */
	assert_true(endpoint_equal(&a, &v4));
	assert_int_equal(a.name_len, 0);
	assert_string_equal(a.name, "");
	struct endpoint none = { 0 }, also_none = { 0 };
	assert_true(endpoint_equal(&none, &also_none));
	assert_false(endpoint_equal(&none, &v4));
}

static void
test_sockaddr_and_back(void **state)
{
	static const char *const texts[] = { "192.0.2.1:80", "[2001:db8::1]:443" };
	static const int families[] = { AF_INET, AF_INET6 };
	struct sockaddr_storage ss;
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct endpoint e = made_of(texts[i]), back = made_of("left.over:1");
		socklen_t len = endpoint_to_sockaddr(&e, &ss);
		assert_int_equal(ss.ss_family, families[i]);
		endpoint_from_sockaddr(&back, (struct sockaddr *)&ss, len);
		assert_true(endpoint_equal(&e, &back));
		endpoint_from_sockaddr(&back, (struct sockaddr *)&ss, len - 1);
		assert_int_equal(back.kind, ENDPOINT_NONE);
	}
	struct endpoint name = made_of("example.com:80");
	assert_int_equal(endpoint_to_sockaddr(&name, &ss), 0);
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	endpoint_from_sockaddr(&name, (struct sockaddr *)&un, sizeof un);
	assert_int_equal(name.kind, ENDPOINT_NONE);
	assert_int_equal(name.port, 0);
}

static void
test_mapped_sockaddr_is_unmapped(void **state)
{
	(void)state;
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(80) };
	struct endpoint e = { 0 }, want = made_of("192.0.2.7:80");
	assert_int_equal(inet_pton(AF_INET6, "::ffff:192.0.2.7", &in6.sin6_addr), 1);
	endpoint_from_sockaddr(&e, (struct sockaddr *)&in6, sizeof in6);
	assert_true(endpoint_equal(&e, &want));
}

static void
test_every_error_has_its_text(void **state)
{
	(void)state;
	for (int a = ENDPOINT_OK; a <= ENDPOINT_BAD_ADDRESS; a++) {
		for (int b = ENDPOINT_OK; b < a; b++)
			assert_string_not_equal(endpoint_error_text((enum endpoint_error)a),
			    endpoint_error_text((enum endpoint_error)b));
	}
}

/* Two addresses to listen on. */
static void
test_collide(void **state)
{
	(void)state;
	static const struct {
		const char *a, *b;
		bool collide;
	} cases[] = {
		{ "127.0.0.1:80", "127.0.0.1:80", true }, { "127.0.0.1:80", "127.0.0.1:81", false },
		{ "127.0.0.1:80", "127.0.0.2:80", false }, { "0.0.0.0:80", "127.0.0.1:80", true },
		{ "0.0.0.0:80", "127.0.0.1:81", false }, { "0.0.0.0:80", "[::1]:80", false },
		{ "[::]:80", "[::1]:80", true }, { "[::]:80", "0.0.0.0:80", false },
		{ "a.example:80", "a.example:80", false },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct endpoint a, b;
		assert_int_equal(endpoint_from_text(&a, cases[i].a, strlen(cases[i].a)), ENDPOINT_OK);
		assert_int_equal(endpoint_from_text(&b, cases[i].b, strlen(cases[i].b)), ENDPOINT_OK);
		assert_int_equal(endpoint_collide(&a, &b), cases[i].collide);
		assert_int_equal(endpoint_collide(&b, &a), cases[i].collide);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hosts),
		cmocka_unit_test(test_nul_is_refused_everywhere),
		cmocka_unit_test(test_lengths_around_the_limit),
		cmocka_unit_test(test_same_addresses_as_inet_aton),
		cmocka_unit_test(test_endpoints),
		cmocka_unit_test(test_port),
		cmocka_unit_test(test_text_is_cut_at_the_buffer),
		cmocka_unit_test(test_longest_text_fits),
		cmocka_unit_test(test_kinds_of_addresses),
		cmocka_unit_test(test_equality),
		cmocka_unit_test(test_copies_are_equal),
		cmocka_unit_test(test_sockaddr_and_back),
		cmocka_unit_test(test_mapped_sockaddr_is_unmapped),
		cmocka_unit_test(test_every_error_has_its_text),
		cmocka_unit_test(test_collide),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
