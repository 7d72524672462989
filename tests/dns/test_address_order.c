/*
 * address_order: the rules one by one, with sources given; the families' turns; the policy's wish.
 */
#include "dns/address_order.h"

#include "base/text.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

static struct dns_address
address_from(const char *text)
{
	struct endpoint e = { 0 };
	assert_int_equal(endpoint_set_host(&e, text, strlen(text)), ENDPOINT_OK);
	assert_true(endpoint_is_address(&e));
	return dns_address_of(&e);
}

static size_t
addresses_from(const char *text, struct dns_address *addrs)
{
	char copy[1024], *rest = NULL;
	size_t n = 0;
	assert_true(strlen(text) < sizeof copy);
	strcpy(copy, text);
	for (char *one = strtok_r(copy, " ", &rest); one != NULL; one = strtok_r(NULL, " ", &rest))
		addrs[n++] = address_from(one);
	return n;
}

/* Letters: 4, 6, and L (unique local): the machine has a source for these. T: its IPv6 is 6to4. */
static struct address_sources
sources_from(const char *letters)
{
	struct address_sources s = { 0 };
	if (strchr(letters, '4') != NULL)
		s.from[SOURCE_IPV4] = address_from("192.0.2.100");
	if (strchr(letters, '6') != NULL)
		s.from[SOURCE_IPV6] = s.from[SOURCE_IPV6_LOCAL] = address_from("2001:db8::100");
	if (strchr(letters, 'T') != NULL)
		s.from[SOURCE_IPV6] = s.from[SOURCE_IPV6_LOCAL] = address_from("2002:c000:264::1");
	if (strchr(letters, 'L') != NULL)
		s.from[SOURCE_IPV6_LOCAL] = address_from("fd12::100");
	return s;
}

static const struct {
	const char *what, *sources;
	enum dns_family family;
	const char *given, *want;
} orders[] = {
	{ "IPv6 has precedence", "46", DNS_AUTO, "198.51.100.1 2001:db8::1", "2001:db8::1 198.51.100.1" },
	{ "no route for IPv6", "4", DNS_AUTO, "2001:db8::1 198.51.100.1", "198.51.100.1 2001:db8::1" },
	{ "no route for IPv4", "6", DNS_AUTO, "198.51.100.1 2001:db8::1", "2001:db8::1 198.51.100.1" },
	{ "no route at all", "", DNS_AUTO, "198.51.100.1 2001:db8::1", "2001:db8::1 198.51.100.1" },
	{ "no default route, but private", "", DNS_AUTO, "2001:db8::1 10.0.0.1", "10.0.0.1 2001:db8::1" },
	{ "families take turns", "46", DNS_AUTO, "2001:db8::1 2001:db8::2 2001:db8::3 198.51.100.1 198.51.100.2",
	  "2001:db8::1 198.51.100.1 2001:db8::2 198.51.100.2 2001:db8::3" },
	{ "equal ones stay", "4", DNS_AUTO, "198.51.100.3 198.51.100.1 198.51.100.2", "198.51.100.3 198.51.100.1 198.51.100.2" },
	{ "6to4 source", "4T", DNS_AUTO, "2001:db8::1 198.51.100.1", "198.51.100.1 2001:db8::1" },
	{ "6to4 both", "4T", DNS_AUTO, "198.51.100.1 2002:c633:6401::1", "198.51.100.1 2002:c633:6401::1" },
	{ "unique local without a source of the kind", "46", DNS_AUTO, "fd00::1 198.51.100.1", "198.51.100.1 fd00::1" },
	{ "unique local with one", "46L", DNS_AUTO, "fd00::1 2001:db8::1", "2001:db8::1 fd00::1" },
	{ "link-local needs an interface", "46", DNS_AUTO, "fe80::1 198.51.100.1", "198.51.100.1 fe80::1" },
	{ "link-local IPv4", "4", DNS_AUTO, "169.254.1.1 198.51.100.1", "198.51.100.1 169.254.1.1" },
	{ "loopback", "46", DNS_AUTO, "127.0.0.1 ::1", "::1 127.0.0.1" },
	{ "loopback without routes", "", DNS_AUTO, "2001:db8::1 127.0.0.1", "127.0.0.1 2001:db8::1" },
	{ "Teredo comes late", "46", DNS_AUTO, "2001:0:1::1 2001:db8::1", "2001:db8::1 2001:0:1::1" },
	{ "twice the same", "46", DNS_AUTO, "198.51.100.1 ::ffff:198.51.100.1 198.51.100.1", "198.51.100.1" },
	{ "ipv4", "46", DNS_IPV4, "2001:db8::1 198.51.100.1 198.51.100.2", "198.51.100.1 2001:db8::1 198.51.100.2" },
	{ "ipv4, none", "46", DNS_IPV4, "2001:db8::1", "2001:db8::1" },
	{ "ipv6 without a route", "4", DNS_IPV6, "198.51.100.1 2001:db8::1", "2001:db8::1 198.51.100.1" },
	{ "ipv4_only", "46", DNS_IPV4_ONLY, "2001:db8::1 198.51.100.1 ::ffff:198.51.100.2", "198.51.100.1 198.51.100.2" },
	{ "ipv6_only", "46", DNS_IPV6_ONLY, "198.51.100.1 2001:db8::1 ::ffff:198.51.100.2", "2001:db8::1" },
	{ "ipv6_only, none", "46", DNS_IPV6_ONLY, "198.51.100.1", "" },
	{ "nothing", "46", DNS_AUTO, "", "" },
};

static void
test_orders(void **state)
{
	struct dns_address addrs[ADDRESS_ORDER_MAX];
	char text[1024], host[ENDPOINT_TEXT_MAX];
	struct endpoint e;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
		struct address_sources s = sources_from(orders[i].sources);
		size_t len = 0, n = addresses_from(orders[i].given, addrs);
		n = address_order(&s, orders[i].family, addrs, n);
		text[0] = '\0';
		for (size_t k = 0; k < n; k++) {
			dns_address_to_endpoint(&addrs[k], &e);
			text_append(text, sizeof text, &len, k > 0 ? " %s" : "%s",
				    endpoint_host_to_text(&e, host, sizeof host));
		}
		if (strcmp(text, orders[i].want) != 0)
			fail_msg("%s: %s, not %s", orders[i].what, text, orders[i].want);
	}
}

static void
test_most(void **state)
{
	struct dns_address addrs[ADDRESS_ORDER_MAX];
	struct address_sources s = sources_from("46");

	(void)state;
	for (unsigned i = 0; i < ADDRESS_ORDER_MAX; i++)
		addrs[i] = i % 3 == 0 ? dns_address_v4((const uint8_t[]){ 198, 51, 100, (uint8_t)i })
				      : dns_address_v6((const uint8_t[16]){ 0x20, 0x01, 0x0d, 0xb8, [15] = (uint8_t)i });
	assert_int_equal(address_order(&s, DNS_AUTO, addrs, ADDRESS_ORDER_MAX), ADDRESS_ORDER_MAX);
	for (unsigned i = 0; i < ADDRESS_ORDER_MAX / 3 * 2; i++)
		assert_int_equal(addrs[i].kind, i % 2 == 0 ? ENDPOINT_IPV6 : ENDPOINT_IPV4);
	assert_int_equal(addrs[ADDRESS_ORDER_MAX - 1].kind, ENDPOINT_IPV6);
}

/* Loopback is there with or without routes; the kernel is asked again only after a while. */
static void
test_refresh(void **state)
{
	struct address_sources s = { 0 };
	struct dns_address loopback = address_from("127.0.0.1");

	(void)state;
	address_sources_refresh(&s, 1000);
	assert_true(address_is_reachable(&s, &loopback));
	for (size_t i = 0; i < SOURCE_N; i++) {
		if (s.from[i].kind != ENDPOINT_NONE)
			assert_int_equal(s.from[i].kind, i == SOURCE_IPV4 ? ENDPOINT_IPV4 : ENDPOINT_IPV6);
	}
	struct dns_address mark = s.from[SOURCE_IPV4] = address_from("203.0.113.1");
	address_sources_refresh(&s, 1000 + ADDRESS_SOURCES_MS - 1);
	assert_true(dns_address_equal(&s.from[SOURCE_IPV4], &mark));
	address_sources_refresh(&s, 1000 + ADDRESS_SOURCES_MS);
	assert_false(dns_address_equal(&s.from[SOURCE_IPV4], &mark));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_orders),
		cmocka_unit_test(test_most),
		cmocka_unit_test(test_refresh),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
