/*
 * hosts: the policy's names, the file's, and the file as it changes. And resolv.conf, which is read
 * the same way.
 */
#include "dns/hosts.h"

#include "base/hash.h"
#include "base/text.h"
#include "dns/resolv_conf.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/test_hosts.XXXXXX";
static char path[64];

static void
write_file(const char *text, size_t len)
{
	char fresh[80];
	snprintf(fresh, sizeof fresh, "%s.new", path);
	FILE *f = fopen(fresh, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(rename(fresh, path), 0);
}

static void
write_text(const char *text)
{
	write_file(text, strlen(text));
}

/* "127.0.0.1 ::1"; "" when it isn't there. */
static const char *
found(struct hosts *h, const char *name, uint64_t now_ms)
{
	static char text[1024];
	char host[ENDPOINT_TEXT_MAX];
	const struct dns_address *addrs;
	struct endpoint e;
	size_t len = 0, n = hosts_find(h, name, now_ms, &addrs);

	text[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		dns_address_to_endpoint(&addrs[i], &e);
		text_append(text, sizeof text, &len, i > 0 ? " %s" : "%s", endpoint_host_to_text(&e, host, sizeof host));
	}
	return text;
}

static void
test_file(void **state)
{
	static const struct { const char *name, *want; } names[] = {
		{ "a.test", "192.0.2.1 2001:db8::1" }, { "alias", "192.0.2.1" }, { "upper.test", "192.0.2.3" },
		{ "dot.test", "192.0.2.3" }, { "short.test", "127.0.0.1" }, { "hex.test", "127.0.0.1" },
		{ "mapped.test", "127.0.0.1" }, { "zero.test", "0.0.0.0" }, { "remark", "" }, { "bad.test", "" },
		{ "scope.test", "" }, { "192.0.2.77", "" },
		{ "nul", "192.0.2.7" }, { "behind.test", "" },         /* a NUL ends the text */
		{ "127.1", "" }, { "none.test", "" }, { "", "" }, { "localhost", "::1 127.0.0.1" },
		{ "x.localhost", "::1 127.0.0.1" }, { "xlocalhost", "" },
	};
	static const char text[] =
		"# remark\n192.0.2.1 a.test alias # remark\n\n  \t\n2001:db8::1\ta.test\r\n192.0.2.1 a.test\n"
		"192.0.2.3 UPPER.test dot.test.\n127.1 short.test\n0x7f000001 hex.test\n::ffff:127.0.0.1 mapped.test\n"
		"0.0.0.0 zero.test\nbad.test 192.0.2.4\n999.1.1.1 bad.test\nfe80::1%lo scope.test\n192.0.2.5\n"
		"192.0.2.6 192.0.2.77\n192.0.2.7 nul\0.test\n192.0.2.9 behind.test";
	struct hosts *h = hosts_new(NULL, 0, path);

	(void)state;
	write_file(text, sizeof text - 1);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const char *got = found(h, names[i].name, 5000);
		if (strcmp(got, names[i].want) != 0)
			fail_msg("%s: \"%s\", not \"%s\"", names[i].name, got, names[i].want);
	}
	write_text("192.0.2.8 first.test\n192.0.2.9 last.test");
	assert_string_equal(found(h, "last.test", 6000), "192.0.2.9");
	hosts_free(h);
}

static void
test_changes(void **state)
{
	struct hosts *h = hosts_new(NULL, 0, path);

	(void)state;
	unlink(path);
	assert_string_equal(found(h, "a.test", 1000), "");
	write_text("192.0.2.1 a.test\n");
	assert_string_equal(found(h, "a.test", 1999), "");     /* looked at less than a second ago */
	assert_string_equal(found(h, "a.test", 2000), "192.0.2.1");
	write_text("192.0.2.2 a.test\n");
	assert_string_equal(found(h, "a.test", 2500), "192.0.2.1");
	assert_string_equal(found(h, "a.test", 3000), "192.0.2.2");
	assert_string_equal(found(h, "a.test", 4000), "192.0.2.2");
	unlink(path);
	assert_string_equal(found(h, "a.test", 5000), "");
	assert_string_equal(found(h, "a.test", 6000), "");
	assert_int_equal(mkdir(path, 0700), 0);                /* no regular file: no change */
	assert_string_equal(found(h, "a.test", 7000), "");
	assert_int_equal(rmdir(path), 0);
	hosts_free(h);
}

static void
test_too_long(void **state)
{
	static const char first[] = "192.0.2.1 first.test\n", last[] = "192.0.2.2 last.test\n";
	char *text = malloc(HOSTS_BYTES_MAX + sizeof last);
	struct hosts *h = hosts_new(NULL, 0, path);

	(void)state;
	assert_non_null(text);
	memset(text, '\n', HOSTS_BYTES_MAX);
	memcpy(text, first, sizeof first - 1);
	memcpy(text + HOSTS_BYTES_MAX - 16, last, sizeof last - 1);    /* "192.0.2.2 last.t" is within */
	write_file(text, HOSTS_BYTES_MAX - 16 + sizeof last - 1);
	assert_string_equal(found(h, "first.test", 1000), "192.0.2.1");
	assert_string_equal(found(h, "last.t", 1000), "");
	assert_string_equal(found(h, "last.test", 1000), "");
	hosts_free(h);
	free(text);
}

static void
test_policy(void **state)
{
	struct endpoint addrs[HOSTS_ADDRS_MAX + 3];
	struct policy_dns_host list[2] = {
		{ .name = "a.test", .addrs = addrs, .n_addrs = 2 },
		{ .name = "many.test", .addrs = addrs, .n_addrs = ARRAY_LEN(addrs) },
	};
	const struct dns_address *got;

	(void)state;
	memset(addrs, 0, sizeof addrs);
	for (size_t i = 0; i < ARRAY_LEN(addrs); i++)
		endpoint_set_ipv4(&addrs[i], (const uint8_t[]){ 10, 0, 0, (uint8_t)i }, 0);
	write_text("192.0.2.1 a.test b.test\n");
	struct hosts *h = hosts_new(list, 2, path);
	memset(addrs, 0xff, sizeof addrs);             /* copied */
	assert_string_equal(found(h, "a.test", 1000), "10.0.0.0 10.0.0.1");
	assert_string_equal(found(h, "b.test", 1000), "192.0.2.1");
	assert_int_equal(hosts_find(h, "many.test", 1000, &got), HOSTS_ADDRS_MAX);
	hosts_free(h);
	hosts_free(NULL);
}

static void
test_resolv_conf(void **state)
{
	static const struct { const char *text, *want; } files[] = {
		{ "nameserver 192.0.2.53\n", "192.0.2.53:53" },
		{ "nameserver\t2001:db8::53 # x\nnameserver 127.0.0.53", "[2001:db8::53]:53 127.0.0.53:53" },
		{ "search a.test\noptions ndots:5\nnameserver 192.0.2.1;x\r\n", "192.0.2.1:53" },
		{ "#nameserver 192.0.2.1\n;nameserver 192.0.2.1\n nameserver 192.0.2.1\n", "" },
		{ "nameservers 192.0.2.1\nnameserver192.0.2.1\nnameserver\nnameserver \nnameserver ns.test\n", "" },
		{ "nameserver fe80::1%eth0\nnameserver 192.0.2.1\n", "192.0.2.1:53" },
		{ "nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n", "10.0.0.1:53 10.0.0.2:53" },
		{ "", "" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		struct endpoint servers[2] = { { 0 } };
		char text[256] = "", one[ENDPOINT_TEXT_MAX];
		size_t len = 0, n = resolv_conf_read(files[i].text, servers, ARRAY_LEN(servers));
		for (size_t k = 0; k < n; k++)
			text_append(text, sizeof text, &len, k > 0 ? " %s" : "%s",
				    endpoint_to_text(&servers[k], one, sizeof one));
		if (strcmp(text, files[i].want) != 0)
			fail_msg("%s: \"%s\", not \"%s\"", files[i].text, text, files[i].want);
	}
}

static int
make_dir(void **state)
{
	(void)state;
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(path, sizeof path, "%s/hosts", dir);
	return 0;
}

static int
remove_dir(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_policy),
		cmocka_unit_test(test_resolv_conf),
	};
	hash_start();
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
