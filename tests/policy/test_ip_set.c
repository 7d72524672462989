/*
 * IP prefixes and sets: what is read and what is refused, edges of blocks, and against a plain list.
 */
#include "base/hash.h"
#include "policy/ip_set.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct endpoint
address(const char *text)
{
	struct endpoint e = { .kind = ENDPOINT_NONE };
	assert_int_equal(endpoint_set_host(&e, text, strlen(text)), ENDPOINT_OK);
	return e;
}

static const struct {
	const char *text, *want;       /* want NULL: refused */
} prefixes[] = {
	{ "10.0.0.0/8", "10.0.0.0/8" },
	{ "10.1.2.3/8", "10.0.0.0/8" },
	{ "10.1.2.3", "10.1.2.3" },
	{ "10.1.2.3/32", "10.1.2.3" },
	{ "10.1.2.3/31", "10.1.2.2/31" },
	{ "0.0.0.0/0", "0.0.0.0/0" },
	{ "255.255.255.255/0", "0.0.0.0/0" },
	{ "fc00::/7", "fc00::/7" },
	{ "FDFF::1/7", "fc00::/7" },
	{ "2001:db8::1", "2001:db8::1" },
	{ "2001:db8::1/128", "2001:db8::1" },
	{ "2001:db8:ffff::/33", "2001:db8:8000::/33" },
	{ "::/0", "::/0" },
	{ "::ffff:10.0.0.0/104", "10.0.0.0/8" },
	{ "::ffff:10.1.2.3", "10.1.2.3" },
	{ "::ffff:0:0/96", "0.0.0.0/0" },
	{ "::ffff:10.0.0.0/95", "::fffe:0:0/95" },
	{ "", NULL },
	{ "/8", NULL },
	{ "10.0.0.0/", NULL },
	{ "10.0.0.0/33", NULL },
	{ "10.0.0.0/08", NULL },
	{ "10.0.0.0/-1", NULL },
	{ "10.0.0.0/+8", NULL },
	{ "10.0.0.0/ 8", NULL },
	{ "10.0.0.0/8/8", NULL },
	{ "10.0.0.0/255.0.0.0", NULL },
	{ "10.0.0.0/4294967304", NULL },
	{ "10/8", NULL },
	{ "127.1", NULL },
	{ "0x7f000001", NULL },
	{ "010.0.0.1", NULL },
	{ "10.0.0.256", NULL },
	{ "fc00::/129", NULL },
	{ "fc00::/1280", NULL },
	{ "[fc00::]/7", NULL },
	{ "fe80::1%eth0", NULL },
	{ "example.com", NULL },
	{ "10.0.0.1-10.0.0.9", NULL },
	{ "1111:1111:1111:1111:1111:1111:111.111.111.1111", NULL },
};

static void
test_prefixes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
		struct ip_prefix p;
		char text[IP_PREFIX_TEXT_MAX];
		const char *why = ip_prefix_read(&p, prefixes[i].text, strlen(prefixes[i].text));
		if ((why == NULL) != (prefixes[i].want != NULL))
			fail_msg("%s: %s", prefixes[i].text, why == NULL ? "taken" : why);
		if (why == NULL)
			assert_string_equal(ip_prefix_to_text(&p, text, sizeof text),
					    prefixes[i].want);
	}
	struct ip_prefix p;
	assert_non_null(ip_prefix_read(&p, "10.0.0.1\0", 9));
}

static const struct {
	const char *entry, *address;
	bool in;
} blocks[] = {
	{ "10.0.0.0/8", "10.0.0.0", true },
	{ "10.0.0.0/8", "10.255.255.255", true },
	{ "10.0.0.0/8", "11.0.0.0", false },
	{ "10.0.0.0/8", "9.255.255.255", false },
	{ "10.0.0.0/8", "::ffff:10.1.2.3", true },
	{ "10.0.0.0/8", "::10.1.2.3", false },
	{ "10.0.0.0/8", "10.1", true },
	{ "127.0.0.0/8", "0x7f000001", true },
	{ "127.0.0.1", "127.1", true },
	{ "127.0.0.1", "127.0.0.2", false },
	{ "0.0.0.0/0", "255.255.255.255", true },
	{ "0.0.0.0/0", "::1", false },
	{ "255.255.255.255", "255.255.255.255", true },
	{ "::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true },
	{ "::/0", "10.0.0.1", false },
	{ "fc00::/7", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true },
	{ "fc00::/7", "fe00::", false },
	{ "2001:db8::/64", "2001:db8::ffff:ffff:ffff:ffff", true },
	{ "2001:db8::/64", "2001:db8:0:1::", false },
	{ "2001:db8::/65", "2001:db8::7fff:ffff:ffff:ffff", true },
	{ "2001:db8::/65", "2001:db8::8000:0:0:0", false },
	{ "2001:db8::1", "2001:db8::1", true },
	{ "2001:db8::1", "2001:db8::2", false },
	{ "::ffff:10.0.0.0/104", "10.9.9.9", true },
};

static void
test_blocks(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
		struct endpoint e = address(blocks[i].address);
		struct ip_set *s = ip_set_new();
		struct ip_prefix p;
		assert_null(ip_set_add_value(s, blocks[i].entry, strlen(blocks[i].entry)));
		assert_null(ip_prefix_read(&p, blocks[i].entry, strlen(blocks[i].entry)));
		ip_set_seal(s);
		if (ip_set_has(s, &e) != blocks[i].in ||
		    ip_prefixes_have(&p, 1, &e) != blocks[i].in)
			fail_msg("%s in %s should be %d", blocks[i].address, blocks[i].entry,
				 blocks[i].in);
		ip_set_free(s);
	}
}

static void
test_no_address(void **state)
{
	(void)state;
	struct endpoint none = { .kind = ENDPOINT_NONE }, name = address("a.example");
	struct endpoint any = address("0.0.0.0");
	struct ip_set *s = ip_set_new();
	ip_set_seal(s);
	assert_false(ip_set_has(s, &any));
	assert_false(ip_prefixes_have(NULL, 0, &any));
	ip_set_free(s);
	s = ip_set_new();
	struct ip_prefix all[2];
	assert_null(ip_set_add_value(s, "0.0.0.0/0", 9));
	assert_null(ip_set_add_value(s, "::/0", 4));
	assert_null(ip_prefix_read(&all[0], "::/0", 4));
	assert_null(ip_prefix_read(&all[1], "0.0.0.0/0", 9));
	ip_set_seal(s);
	assert_int_equal(ip_set_count(s), 2);
	assert_int_equal(ip_prefixes_sort(all, 2), 2);
	assert_false(ip_set_has(s, &none) || ip_set_has(s, &name));
	assert_false(ip_prefixes_have(all, 2, &none) || ip_prefixes_have(all, 2, &name));
	assert_true(ip_set_has(s, &any) && ip_prefixes_have(all, 2, &any));
	ip_set_free(s);
	ip_set_free(NULL);
}

/* ---- against a plain list ---- */

/* Few distinct bits, so that blocks nest and touch. */
static struct endpoint
random_address(struct random *r)
{
	struct endpoint e = { .kind = ENDPOINT_NONE };
	uint8_t a[16] = { 0x20, 0x01 };
	for (size_t i = 2; i < 16; i++)
		a[i] = random_below(r, 3) == 0 ? (uint8_t)random_next(r)
		       : random_below(r, 2)    ? 0xff
					       : 0;
	if (random_below(r, 2))
		endpoint_set_ipv6(&e, a, 0);
	else
		endpoint_set_ipv4(&e, a + 4, 0);
	return e;
}

static bool
covers(const struct ip_prefix *p, const struct endpoint *e)
{
	if (p->kind != e->kind)
		return false;
	for (unsigned i = 0; i < p->bits; i++) {
		if (((p->addr[i / 8] ^ e->addr[i / 8]) >> (7 - i % 8) & 1) != 0)
			return false;
	}
	return true;
}

static void
test_against_list(void **state)
{
	(void)state;
	struct random r;
	random_seed(&r, 11);
	for (unsigned round = 0; round < 300; round++) {
		struct ip_prefix list[50], sorted[50];
		struct endpoint bases[50];
		size_t n = random_below(&r, 51);
		struct ip_set *s = ip_set_new();
		for (size_t i = 0; i < n; i++) {
			char text[IP_PREFIX_TEXT_MAX];
			bases[i] = i > 0 && random_below(&r, 2)
				       ? bases[random_below(&r, (uint32_t)i)]
				       : random_address(&r);
			sorted[i] = list[i] = ip_prefix_of(
			    &bases[i], random_below(&r, bases[i].kind == ENDPOINT_IPV4 ? 33 : 129));
			ip_prefix_to_text(&list[i], text, sizeof text);
			assert_null(ip_set_add_value(s, text, strlen(text)));
		}
		ip_set_seal(s);
		size_t n_sorted = ip_prefixes_sort(sorted, n);
		for (unsigned q = 0; q < 200; q++) {
			struct endpoint e = n > 0 && random_below(&r, 2)
						? bases[random_below(&r, (uint32_t)n)]
						: random_address(&r);
			bool want = false;
			if (random_below(&r, 2))
				e.addr[random_below(&r, e.kind == ENDPOINT_IPV4 ? 4 : 16)] ^=
				    (uint8_t)(1 << random_below(&r, 8));
			for (size_t i = 0; i < n; i++)
				want |= covers(&list[i], &e);
			assert_int_equal(ip_set_has(s, &e), want);
			assert_int_equal(ip_prefixes_have(sorted, n_sorted, &e), want);
		}
		ip_set_free(s);
	}
}

static void
on_fault(void *arg, const char *message)
{
	strncat(arg, message, 500);
	strcat(arg, "\n");
}

static void
test_file(void **state)
{
	(void)state;
	static const char text[] = "# blocks\n10.0.0.0/8\n192.0.2.1 # "
				   "one\r\n\nfc00::/7\n10.0.0.0/8 x\nexample.com\n1.2.3.4/40\n";
	char path[] = "/tmp/sockroute-ips-XXXXXX", heard[2048] = "", want[256];
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
	close(fd);
	struct ip_set *s = ip_set_new();
	assert_false(ip_set_add_file(s, path, on_fault, heard));
	ip_set_seal(s);
	assert_int_equal(ip_set_count(s), 3);
	snprintf(want, sizeof want, "%s:6: a prefix length", path);
	assert_non_null(strstr(heard, want));
	snprintf(want, sizeof want, "%s:7: not an IP address or a CIDR block: \"example.com\"\n",
		 path);
	assert_non_null(strstr(heard, want));
	snprintf(want, sizeof want, "%s:8: a prefix length is a number from 0 to 32", path);
	assert_non_null(strstr(heard, want));
	struct endpoint e = address("192.0.2.1");
	assert_true(ip_set_has(s, &e));
	assert_true(ip_set_bytes(s) > 0);
	ip_set_free(s);
	unlink(path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_prefixes),
		cmocka_unit_test(test_blocks),
		cmocka_unit_test(test_no_address),
		cmocka_unit_test(test_against_list),
		cmocka_unit_test(test_file),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
