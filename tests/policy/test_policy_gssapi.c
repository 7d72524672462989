/*
 * Tests of Kerberos in the policy: its keys and their faults, key tables, and which user a
 * principal is.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include "marked.h"
#include "policy/keytab.h"
#include "policy/policy.h"
#include "socks/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DOC(keys) "{" keys ", \"default_route\": \"direct\"}"
#define AUTH(keys) DOC("\"auth\": [{\"name\": \"a\", " keys "}]")
#define GSSAPI(keys) AUTH("\"methods\": [\"gssapi\"], \"gssapi\": {" keys "}")
#define UPSTREAM(keys) DOC("\"upstreams\": [{\"name\": \"u\", " keys "}]")
#define CLIENT(keys)                                                                               \
	UPSTREAM("\"url\": \"socks5://a:1\", \"auth\": \"gssapi\", \"gssapi\": {" keys "}")

/* Version 2, a hole of three bytes, then keys of alice@R and of rcmd/h@R. */
static const uint8_t keytab[] = {
	5, 2,
	0xff, 0xff, 0xff, 0xfd, 9, 9, 9,
	0, 0, 0, 14, 0, 1, 0, 1, 'R', 0, 5, 'a', 'l', 'i', 'c', 'e', 7, 7, /* and the key */
	0, 0, 0, 18, 0, 2, 0, 1, 'R', 0, 4, 'r', 'c', 'm', 'd', 0, 1, 'h', 7, 7, 7, 7,
};
enum { FIRST_KEY_END = 2 + 7 + 4 + 14 };

static void
write_bytes_to(const char *name, const void *bytes, size_t len)
{
	char path[300];
	snprintf(path, sizeof path, "%s/%s", marked_dir(), name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

/* ---- key tables ---- */

static void
test_whose_keys(void **state)
{
	static const struct {
		const char *whose;
		enum keytab_look want;
	} cases[] = { { NULL, KEYTAB_GOOD }, { "alice", KEYTAB_GOOD }, { "alice@R", KEYTAB_GOOD },
		{ "rcmd", KEYTAB_GOOD }, { "rcmd/h", KEYTAB_GOOD }, { "rcmd/h@R", KEYTAB_GOOD },
		{ "ali", KEYTAB_NO_KEY }, { "alice@", KEYTAB_NO_KEY }, { "rcmd@R", KEYTAB_NO_KEY },
		{ "rcmd/", KEYTAB_NO_KEY }, { "rcmd/h@S", KEYTAB_NO_KEY }, { "h", KEYTAB_NO_KEY } };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(keytab_find(keytab, sizeof keytab, cases[i].whose), cases[i].want);
}

/* What is a part's own is not taken for what separates parts. */
static void
test_parts_with_signs(void **state)
{
	static const uint8_t odd[] = { 5, 2, 0, 0, 0, 14, 0, 1, 0, 1, 'R', 0, 6, 'r', 'c', 'm', 'd', '/',
		'h', 7 };
	(void)state;
	assert_int_equal(keytab_find(odd, sizeof odd, "rcmd"), KEYTAB_NO_KEY);
	assert_int_equal(keytab_find(odd, sizeof odd, "rcmd\\/h@R"), KEYTAB_GOOD);
}

/* Cut between entries it holds fewer, cut anywhere else it is none. */
static void
test_cut_keytab(void **state)
{
	(void)state;
	for (size_t len = 0; len < sizeof keytab; len++) {
		bool whole = len == 2 || len == 2 + 7 || len == FIRST_KEY_END;
		uint8_t *cut = malloc(len + 1); /* of its own, so that a look behind it shows */
		assert_non_null(cut);
		memcpy(cut, keytab, len);
		assert_int_equal(keytab_find(cut, len, "rcmd"), whole ? KEYTAB_NO_KEY : KEYTAB_BROKEN);
		free(cut);
	}
	static const uint8_t old[] = { 5, 1 }, ended[] = { 5, 2, 0, 0, 0, 0, 1, 2, 3 },
			     nameless[] = { 5, 2, 0, 0, 0, 4, 0, 0, 0, 0 },
			     longest_hole[] = { 5, 2, 0x80, 0, 0, 0 };
	assert_int_equal(keytab_find(old, sizeof old, NULL), KEYTAB_BROKEN);
	assert_int_equal(keytab_find(ended, sizeof ended, NULL), KEYTAB_NO_KEY);
	assert_int_equal(keytab_find(nameless, sizeof nameless, NULL), KEYTAB_BROKEN);
	assert_int_equal(keytab_find(longest_hole, sizeof longest_hole, NULL), KEYTAB_BROKEN);
}

/* ---- faults ---- */

static const struct {
	const char *text, *want;
} faults[] = {
	{ DOC("\"auth\": [^{\"name\": \"a\", \"methods\": [\"userpass\", \"gssapi\"], \"users\": []}]"),
	    "/auth/0: the method \"gssapi\" needs \"gssapi\"" },
	{ AUTH("\"methods\": [\"none\"], ^\"gssapi\": {\"keytab\": \"keys\"}"),
	    "/auth/0/gssapi: expected the method \"gssapi\"" },
	{ AUTH("\"methods\": [\"gssapi\"], \"gssapi\": ^\"keys\""), "/auth/0/gssapi: expected an object" },
	{ AUTH("\"methods\": [\"gssapi\"], \"gssapi\": ^{}"), "/auth/0/gssapi: the key \"keytab\" is missing" },
	{ GSSAPI("\"keytab\": ^\"absent\""), "/auth/0/gssapi/keytab: absent can't be read: No such file" },
	{ GSSAPI("\"keytab\": ^\".\""), "/auth/0/gssapi/keytab: it is no regular file" },
	{ GSSAPI("\"keytab\": ^\"text\""), "/auth/0/gssapi/keytab: no key table of Kerberos" },
	{ GSSAPI("\"keytab\": ^\"keys\", \"service\": \"socks\""),
	    "/auth/0/gssapi/keytab: expected a key of socks" },
	{ GSSAPI("\"keytab\": \"keys\", \"service\": ^\"rcmd/h\""),
	    "/auth/0/gssapi/service: without its host, found \"rcmd/h\"" },
	{ GSSAPI("\"keytab\": \"keys\", \"service\": ^\"\""), "/auth/0/gssapi/service: found \"\"" },
	{ GSSAPI("\"keytab\": \"keys\", \"protection\": ^\"privacy\""),
	    "/auth/0/gssapi/protection: expected one of \"none\", \"integrity\", \"confidentiality\"" },
	{ GSSAPI("\"keytab\": \"keys\", \"protection\": ^2"), "/auth/0/gssapi/protection: found 2" },
	{ GSSAPI("\"keytab\": \"keys\", \"realm\": ^\"A@B\""), "/auth/0/gssapi/realm: expected a realm" },
	{ GSSAPI("\"keytab\": \"keys\", ^\"relam\": \"A\""), "/auth/0/gssapi/relam: did you mean \"realm\"?" },
	{ GSSAPI("\"keytab\": \"keys\", \"map\": ^[]"), "/auth/0/gssapi/map: expected an object of principals" },
	{ GSSAPI("\"keytab\": \"keys\", \"map\": {^\"alice\": \"al\", ^\"@R\": \"al\", ^\"a@\": \"al\", "
		 "^\"a b@R\": \"al\"}"),
	    "/auth/0/gssapi/map/alice: with its realm|/auth/0/gssapi/map/@R: expected a "
	    "principal|/auth/0/gssapi/map/a@: expected|/auth/0/gssapi/map/a b@R: expected" },
	{ GSSAPI("\"keytab\": \"keys\", \"map\": {\"a@R\": ^\"a+b\", \"b@R\": ^\"\", \"c@R\": ^7}"),
	    "/auth/0/gssapi/map/a@R: without spaces or '+'|/auth/0/gssapi/map/b@R: a user "
	    "name|/auth/0/gssapi/map/c@R: found 7" },
	{ GSSAPI("\"keytab\": \"keys\", \"map\": {\"a@R\": \"a\", ^\"a@R\": \"b\"}"),
	    "/auth/0/gssapi/map/a@R: the key is repeated" },
	{ UPSTREAM("\"url\": \"socks5://a\", \"auth\": ^\"kerberos\""), "/upstreams/0/auth: expected one of \"gssapi\", found" },
	{ UPSTREAM("\"url\": \"socks5://a\", ^\"gssapi\": {}"),
	    "/upstreams/0/gssapi: expected \"auth\": \"gssapi\"" },
	{ UPSTREAM("\"url\": \"socks4://a\", ^\"auth\": \"gssapi\""),
	    "/upstreams/0/auth: for the scheme \"socks4\", expected it for socks5" },
	{ UPSTREAM("\"url\": \"https://a\", ^\"auth\": \"gssapi\""), "/upstreams/0/auth: \"https\"" },
	{ UPSTREAM("\"url\": \"direct://\", ^\"auth\": \"gssapi\""), "/upstreams/0/auth: \"direct\"" },
	{ UPSTREAM("\"url\": \"socks5://bob@a\", ^\"auth\": \"gssapi\""),
	    "/upstreams/0/auth: with a user name" },
	{ CLIENT("\"keytab\": \"keys\", ^\"ccache\": \"text\""), "/upstreams/0/gssapi/ccache: found both" },
	{ CLIENT("\"keytab\": ^\"absent\""), "/upstreams/0/gssapi/keytab: absent can't be read" },
	{ CLIENT("\"keytab\": ^\"no-keys\""), "/upstreams/0/gssapi/keytab: expected a key in the file" },
	{ CLIENT("\"keytab\": ^\"keys\", \"principal\": \"bob\""), "/upstreams/0/gssapi/keytab: a key of bob" },
	{ CLIENT("\"ccache\": ^\"absent\""), "/upstreams/0/gssapi/ccache: absent can't be read" },
	{ CLIENT("\"service\": ^\"a b\", \"principal\": ^\"\", \"protection\": ^\"all\", ^\"realm\": \"R\""),
	    "/upstreams/0/gssapi/service: expected a service|/upstreams/0/gssapi/principal: expected a "
	    "principal|/upstreams/0/gssapi/protection: expected one of|/upstreams/0/gssapi/realm: unknown" },
};

static void
test_faults(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(faults); i++)
		marked_expect(faults[i].text, NULL, faults[i].want);
}

/* ---- sound ones ---- */

static void
test_auth_block(void **state)
{
	(void)state;
	struct policy *p = marked_load_sound(GSSAPI("\"keytab\": \"keys\""));
	const struct policy_gssapi *g = &p->auths[0].gssapi;
	char path[300];
	snprintf(path, sizeof path, "%s/keys", marked_dir());
	assert_int_equal(p->auths[0].methods, AUTH_GSSAPI);
	assert_string_equal(g->keytab, path);
	assert_string_equal(g->service, "rcmd");
	assert_int_equal(g->protection, GSSAPI_NONE);
	assert_null(g->realm);
	assert_int_equal(g->n_map, 0);
	policy_unref(p);
	p = marked_load_sound(GSSAPI("\"comment\": \"all\", \"keytab\": \"keys\", \"service\": \"alice\", "
				     "\"protection\": \"confidentiality\", \"realm\": \"R\", \"map\": "
				     "{\"comment\": \"ours\", \"z@R\": \"y\", \"b@S\": \"c\"}"));
	g = &p->auths[0].gssapi;
	assert_string_equal(g->service, "alice");
	assert_int_equal(g->protection, GSSAPI_CONFIDENTIALITY);
	assert_string_equal(g->realm, "R");
	assert_int_equal(g->n_map, 2);
	assert_string_equal(g->map[0].principal, "b@S");
	assert_string_equal(g->map[1].user, "y");
	policy_unref(p);
}

static void
test_upstream(void **state)
{
	static const struct {
		const char *keys, *target;
	} targets[] = {
		{ "\"url\": \"socks5://Proxy.example.\"", "rcmd/proxy.example" },
		{ "\"url\": \"socks5+tls://[2001:db8::1]:5\"", "rcmd/2001:db8::1" },
		{ "\"url\": \"socks5h://10.0.0.1\", \"gssapi\": {\"service\": \"socks\"}", "socks/10.0.0.1" },
		{ "\"url\": \"socks5://a\", \"gssapi\": {\"service\": \"rcmd/b@R\"}", "rcmd/b@R" },
	};
	char text[300], path[300];
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		snprintf(text, sizeof text, UPSTREAM("\"auth\": \"gssapi\", %s"), targets[i].keys);
		struct policy *p = marked_load_sound(text);
		assert_true(p->upstreams[0].auth_gssapi);
		assert_string_equal(p->upstreams[0].gssapi.target, targets[i].target);
		assert_int_equal(p->upstreams[0].gssapi.protection, GSSAPI_CONFIDENTIALITY);
		assert_null(p->upstreams[0].gssapi.keytab);
		policy_unref(p);
	}
	struct policy *p = marked_load_sound(CLIENT("\"keytab\": \"keys\", \"principal\": \"alice\", "
						    "\"protection\": \"none\""));
	snprintf(path, sizeof path, "%s/keys", marked_dir());
	assert_string_equal(p->upstreams[0].gssapi.keytab, path);
	assert_string_equal(p->upstreams[0].gssapi.principal, "alice");
	assert_int_equal(p->upstreams[0].gssapi.protection, GSSAPI_NONE);
	policy_unref(p);
	p = marked_load_sound(CLIENT("\"ccache\": \"text\""));
	snprintf(path, sizeof path, "FILE:%s/text", marked_dir());
	assert_string_equal(p->upstreams[0].gssapi.ccache, path);
	policy_unref(p);
}

/* ---- users ---- */

static struct policy_gssapi_name names[] = { { "carol/admin@R", "root" }, { "x+y@S", "dave" } };

static const struct {
	const char *realm, *principal, *user; /* NULL: nobody */
	bool mapped;
} principals[] = {
	{ NULL, "alice@R", "alice@R", false },
	{ NULL, "carol/admin@R", "carol/admin@R", false },
	{ NULL, "alice", NULL, false },
	{ NULL, "@R", NULL, false },
	{ NULL, "alice@", NULL, false },
	{ NULL, "", NULL, false },
	{ NULL, "al+s1@R", NULL, false },
	{ NULL, "a b@R", NULL, false },
	{ "R", "alice@R", "alice", false },
	{ "R", "carol/admin@R", "carol/admin", false },
	{ "R", "alice@S", NULL, false },
	{ "R", "alice@RR", NULL, false },
	{ "R", "alice@r", NULL, false },
	{ "R", "alice\\@R@S", NULL, false },
	{ "R", "alice\\@S@R", "alice\\@S", false },
	{ "R", "al+s1@R", NULL, false },
	{ "R", "carol/admin@R", "root", true },
	{ "R", "x+y@S", "dave", true },
	{ "R", "x@S", NULL, true },
	{ NULL, "x+y@S", "dave", true },
	{ NULL, "x@S", "x@S", true },
};

static void
test_users(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(principals); i++) {
		const struct policy_gssapi g = { .realm = principals[i].realm, .map = names,
			.n_map = principals[i].mapped ? ARRAY_LEN(names) : 0 };
		char out[32];
		bool known = policy_gssapi_user(&g, principals[i].principal, out, sizeof out);
		assert_int_equal(known, principals[i].user != NULL);
		if (known)
			assert_string_equal(out, principals[i].user);
	}
}

/* Refused, never cut. */
static void
test_users_that_are_too_long(void **state)
{
	const struct policy_gssapi g = { .realm = "R" };
	char out[6];
	(void)state;
	assert_true(policy_gssapi_user(&g, "alice@R", out, sizeof out));
	assert_false(policy_gssapi_user(&g, "alicia@R", out, sizeof out));
}

static int
make_files(void **state)
{
	(void)state;
	marked_make_dir();
	marked_write_file("text", "no keys\n");
	write_bytes_to("keys", keytab, sizeof keytab);
	write_bytes_to("no-keys", keytab, 2);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whose_keys),
		cmocka_unit_test(test_parts_with_signs),
		cmocka_unit_test(test_cut_keytab),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_auth_block),
		cmocka_unit_test(test_upstream),
		cmocka_unit_test(test_users),
		cmocka_unit_test(test_users_that_are_too_long),
	};
	return cmocka_run_group_tests(tests, make_files, marked_remove_files);
}
