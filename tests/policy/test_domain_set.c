/*
 * The domain set: which lines it takes and which it names as faults, which names are in it, and against a plain list.
 */
#include "base/hash.h"
#include "policy/domain_set.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SET_OF(...) set_of((const char *const[]){ __VA_ARGS__, NULL })

static struct domain_set *
set_of(const char *const *lines)
{
	struct domain_set *s = domain_set_new();
	assert_non_null(s);
	for (size_t i = 0; lines[i] != NULL; i++) {
		const char *why = domain_set_add_line(s, lines[i], strlen(lines[i]));
		if (why != NULL)
			fail_msg("%s: %s", lines[i], why);
	}
	assert_true(domain_set_seal(s));
	return s;
}

static bool
has(const struct domain_set *s, const char *name)
{
	return domain_set_has_name(s, name, strlen(name));
}

static const struct {
	const char *line, *name;
	bool in;
} lines[] = {
	{ "example.com", "example.com", true },
	{ "example.com", "www.example.com", true },
	{ "example.com", "a.b.c.example.com", true },
	{ "example.com", "notexample.com", false },
	{ "example.com", "example.com.evil", false },
	{ "example.com", "example", false },
	{ "example.com", "com", false },
	{ "example.com", "xample.com", false },
	{ "example.com", "", false },
	{ "Example.COM", "example.com", true },
	{ "example.com.", "www.example.com", true },
	{ ".example.com", "example.com", true },
	{ ".example.com", "www.example.com", true },
	{ "=www.example.com", "www.example.com", true },
	{ "=www.example.com", "a.www.example.com", false },
	{ "=www.example.com", "example.com", false },
	{ "=WWW.Example.com.", "www.example.com", true },
	{ "com", "example.com", true },
	{ "com", "com", true },
	{ "_sip._tcp.example", "a._sip._tcp.example", true },
	{ "0.0.0.0 ads.example ads2.example", "ads.example", true },
	{ "0.0.0.0 ads.example\tads2.example", "ads2.example", true },
	{ "0.0.0.0 ads.example", "x.ads.example", false },
	{ "::1\tads.example", "ads.example", true },
	{ "127.0.0.1  localhost ADS.example", "ads.example", true },
	{ "127.0.0.1 localhost", "localhost", false },
	{ "127.0.0.1 localhost", "a.localhost", false },
	{ "ff02::1 ip6-allnodes", "ip6-allnodes", false },
	{ "fe80::1%lo0 localhost x.example", "x.example", true },
	{ "0.0.0.0 0.0.0.0", "0.0.0.0", false },
	{ "localhost", "localhost", true },
	{ "address=/ads.example/0.0.0.0", "ads.example", true },
	{ "address=/ads.example/0.0.0.0", "x.ads.example", true },
	{ "address=/ads.example/", "ads.example", true },
	{ "address=/a.example/b.example/::", "y.b.example", true },
	{ "address=/a.example/b.example/::", "y.a.example", true },
	{ "address=/a.example/b.example/::", "example", false },
	{ "server=/a.example/192.0.2.1#5353", "a.example", true },
	{ "server=/a.example/", "a.example", true },
	{ "local=/a.example/", "z.a.example", true },
};

static void
test_lines(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		struct domain_set *s = SET_OF(lines[i].line);
		if (has(s, lines[i].name) != lines[i].in)
			fail_msg("\"%s\": \"%s\" should be %s", lines[i].line, lines[i].name,
				 lines[i].in ? "in" : "out");
		domain_set_free(s);
	}
}

static const char *const bad_lines[] = {
    "=",
    ".",
    "..",
    "a..b",
    "=.a",
    "..a",
    "a b",
    "example.com www.example.com",
    "192.0.2.1",
    "=192.0.2.1",
    "127.1",
    "2001:db8::1",
    "*.example.com",
    "*",
    "a/b",
    "http://a.example",
    "a:80",
    "[::1]",
    "a@b",
    "a.example..",
    "0.0.0.0 a..b",
    "0.0.0.0 ok.example a*b",
    "address=",
    "address=/",
    "address=x",
    "address=//",
    "address=//1.1.1.1",
    "address=/#/1.1.1.1",
    "server=192.0.2.1",
    "server=/a b/",
    "local=/192.0.2.1/",
    "||ads.example^",
    "x=y",
    "a,b",
    "a;b",
    "\"a\"",
};

static void
test_bad_lines(void **state)
{
	(void)state;
	char long_name[300];
	memset(long_name, 'a', sizeof long_name);
	struct domain_set *s = domain_set_new();
	assert_non_null(s);
	for (size_t i = 0; i < ARRAY_LEN(bad_lines); i++) {
		if (domain_set_add_line(s, bad_lines[i], strlen(bad_lines[i])) == NULL)
			fail_msg("taken: %s", bad_lines[i]);
	}
	assert_non_null(domain_set_add_line(s, "a\0b", 3));
	assert_non_null(domain_set_add_value(s, "", 0));
	assert_non_null(domain_set_add_value(s, "0.0.0.0 a.example", 17));
	assert_non_null(domain_set_add_value(s, long_name, 256));
	assert_null(domain_set_add_value(s, long_name, 255));
	domain_set_free(s);
}

/* An empty set, one whose only name is given twice, and a name both exact and not. */
static void
test_few(void **state)
{
	(void)state;
	struct domain_set *s = domain_set_new();
	assert_non_null(s);
	assert_true(domain_set_seal(s));
	assert_false(has(s, "a.example"));
	assert_false(has(s, ""));
	assert_int_equal(domain_set_count(s), 0);
	domain_set_free(s);

	s = SET_OF("a.example", "A.example.");
	assert_int_equal(domain_set_count(s), 1);
	assert_true(has(s, "b.a.example"));
	domain_set_free(s);

	s = SET_OF("=a.example", "b.example", "a.example");
	assert_int_equal(domain_set_count(s), 2);
	assert_true(has(s, "x.a.example"));
	assert_true(has(s, "b.example"));
	domain_set_free(s);
}

/* 128 labels are the most that a name can have. */
static void
test_many_labels(void **state)
{
	(void)state;
	char name[256];
	for (size_t i = 0; i < 255; i++)
		name[i] = i % 2 == 0 ? 'a' : '.';
	name[255] = '\0';
	struct domain_set *s = SET_OF("=a.a.a", "x.example");
	assert_false(has(s, name));
	domain_set_free(s);
	s = domain_set_new();
	assert_null(domain_set_add_value(s, name, 255));
	assert_true(domain_set_seal(s));
	assert_true(has(s, name));
	assert_false(has(s, name + 2));
	domain_set_free(s);
	struct domain_path path;
	domain_path_of(&path, domain_key_get(), name, 255);
	assert_int_equal(path.n, DOMAIN_LABELS_MAX);
	domain_path_of(&path, domain_key_get(), "", 0);
	assert_int_equal(path.n, 0);
}

/* ---- against a plain list ---- */

static void
random_name(struct random *r, char *out, size_t cap)
{
	size_t len = 0;
	unsigned labels = 1 + random_below(r, 4);
	for (unsigned i = 0; i < labels && len + 4 < cap; i++) {
		if (i > 0)
			out[len++] = '.';
		for (unsigned n = 1 + random_below(r, 2); n > 0; n--)
			out[len++] = (char)('a' + random_below(r, 3));
	}
	out[len] = '\0';
}

static bool
is_below(const char *name, const char *of)
{
	size_t n = strlen(name), m = strlen(of);
	return n >= m && strcmp(name + n - m, of) == 0 && (n == m || name[n - m - 1] == '.');
}

static void
test_against_list(void **state)
{
	(void)state;
	struct random r;
	random_seed(&r, 7);
	for (unsigned round = 0; round < 300; round++) {
		char names[40][32];
		bool exact[40];
		size_t n = random_below(&r, 41);
		struct domain_set *s = domain_set_new();
		for (size_t i = 0; i < n; i++) {
			random_name(&r, names[i] + 1, 31);
			names[i][0] = '=';
			exact[i] = random_below(&r, 2) == 0;
			assert_null(domain_set_add_value(s, names[i] + !exact[i],
							 strlen(names[i] + !exact[i])));
		}
		assert_true(domain_set_seal(s));
		for (unsigned q = 0; q < 200; q++) {
			char name[32];
			bool want = false;
			random_name(&r, name, sizeof name);
			for (size_t i = 0; i < n; i++)
				want |= exact[i] ? strcmp(name, names[i] + 1) == 0
						 : is_below(name, names[i] + 1);
			if (has(s, name) != want)
				fail_msg("round %u: %s", round, name);
		}
		domain_set_free(s);
	}
}

/* ---- files ---- */

struct heard {
	char text[4096];
	unsigned n;
};

static void
on_fault(void *arg, const char *message)
{
	struct heard *h = arg;
	size_t len = strlen(h->text);
	snprintf(h->text + len, sizeof h->text - len, "%s\n", message);
	h->n++;
}

static char path[] = "/tmp/sockroute-set-XXXXXX";

static void
write_file(const void *bytes, size_t len)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static int
make_file(void **state)
{
	(void)state;
	int fd = mkstemp(path);
	return fd < 0 ? -1 : close(fd);
}

static int
remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

static void
test_file(void **state)
{
	(void)state;
	static const char text[] =
	    "\xef\xbb\xbf# a list\r\n\r\n  example.com  # and below\r\n\t=one.example\n#\n"
	    "0.0.0.0 ads.example # hosts\naddress=/x.example/#5\nlast.example";
	struct heard h = { .n = 0 };
	write_file(text, sizeof text - 1);
	struct domain_set *s = domain_set_new();
	assert_true(domain_set_add_file(s, path, on_fault, &h));
	assert_true(domain_set_seal(s));
	assert_int_equal(h.n, 0);
	assert_int_equal(domain_set_count(s), 5);
	assert_true(has(s, "www.example.com") && has(s, "one.example") && has(s, "ads.example"));
	assert_true(has(s, "a.x.example") && has(s, "last.example"));
	assert_true(domain_set_bytes(s) > 0);
	domain_set_free(s);
}

/* Every fault with its line, and what is right is taken all the same. */
static void
test_file_faults(void **state)
{
	(void)state;
	char text[20000], want[256];
	struct heard h = { .n = 0 };
	size_t len = (size_t)snprintf(text, sizeof text, "good.example\nbad name\n\n*.x\n");
	memset(text + len, 'a', 9000);
	len += 9000;
	len += (size_t)snprintf(text + len, sizeof text - len,
				"\nnul\x01here\nfine.example\n192.0.2.1");
	write_file(text, len);
	struct domain_set *s = domain_set_new();
	assert_false(domain_set_add_file(s, path, on_fault, &h));
	assert_int_equal(h.n, 5);
	snprintf(want, sizeof want, "%s:2: more than one word", path);
	assert_non_null(strstr(h.text, want));
	snprintf(want, sizeof want, "%s:4: no wildcards", path);
	assert_non_null(strstr(h.text, want));
	snprintf(want, sizeof want, "%s:5: the line is longer than", path);
	assert_non_null(strstr(h.text, want));
	snprintf(want, sizeof want, "%s:6: not a domain: \"nul?here\"", path);
	assert_non_null(strstr(h.text, want));
	snprintf(want, sizeof want, "%s:8: an IP address, not a domain: \"192.0.2.1\"", path);
	assert_non_null(strstr(h.text, want));
	assert_true(domain_set_seal(s));
	assert_int_equal(domain_set_count(s), 2);
	domain_set_free(s);
}

/* Lines longer than what is read at a time, wherever the blocks end. */
static void
test_file_blocks(void **state)
{
	(void)state;
	enum { SIZE = 400000 };
	char *text = malloc(SIZE + 64);
	assert_non_null(text);
	for (unsigned shift = 0; shift < 24; shift++) {
		struct heard h = { .n = 0 };
		size_t len = 0, n = 0;
		text[len++] = '#';
		for (unsigned i = 0; i < shift; i++)
			text[len++] = '-';
		text[len++] = '\n';
		while (len < 150000)
			len += (size_t)sprintf(text + len, "host%zu.example\n", n++);
		memset(text + len, 'b', 200000);
		len += 200000;
		len += (size_t)sprintf(text + len, "\nlast.example");
		write_file(text, len);
		struct domain_set *s = domain_set_new();
		assert_false(domain_set_add_file(s, path, on_fault, &h));
		assert_int_equal(h.n, 1);
		assert_true(domain_set_seal(s));
		assert_int_equal(domain_set_count(s), n + 1);
		assert_true(has(s, "host0.example") && has(s, "last.example"));
		domain_set_free(s);
	}
	free(text);
}

static void
test_file_that_is_none(void **state)
{
	(void)state;
	struct heard h = { .n = 0 };
	struct domain_set *s = domain_set_new();
	assert_false(domain_set_add_file(s, "/nonexistent/set.txt", on_fault, &h));
	assert_string_equal(h.text, "/nonexistent/set.txt: No such file or directory\n");
	assert_false(domain_set_add_file(s, "/dev/zero", on_fault, &h));
	assert_false(domain_set_add_file(s, "/tmp", on_fault, &h));
	assert_int_equal(h.n, 3);
	write_file("", 0);
	assert_true(domain_set_add_file(s, path, on_fault, &h));
	domain_set_free(s);
	domain_set_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_bad_lines),
		cmocka_unit_test(test_few),
		cmocka_unit_test(test_many_labels),
		cmocka_unit_test(test_against_list),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_file_faults),
		cmocka_unit_test(test_file_blocks),
		cmocka_unit_test(test_file_that_is_none),
	};
	hash_start();
	return cmocka_run_group_tests(tests, make_file, remove_file);
}
