/*
 * Tests of policy/secrets: what is masked, and what a "***" that comes back becomes.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include "marked.h"
#include "policy/policy.h"
#include "policy/upstream_url.h"

#include <stdlib.h>
#include <string.h>

#define HASH_A                                                                                     \
	"$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/"                                  \
	"jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/"
#define HASH_B "$5$saltsalt$rY9D8dFqbJFdX6rFZ3bC6QUCsVSfQ2NqaPIkeGdPqK6"
#define TOP                                                                                        \
	"{\n  \"admin\": {\"listen\": \"127.0.0.1:9080\", \"token\": \"t0ken\"},\n  \"auth\": "    \
	"[{\"name\": \"a\", \"methods\": [\"userpass\"], \"users\": ["
#define UPSTREAMS                                                                                  \
	"]}],\n  \"upstreams\": [\n    {\"name\": \"in-url\", \"url\": "                           \
	"\"socks5://u:p%40ss@10.0.0.1:1\"},\n"                                                     \
	"    {\"name\": \"beside\", \"url\": \"socks5://u@10.0.0.2:1\", \"password\": "            \
	"\"pa\\\"ss\"},\n"                                                                         \
	"    {\"name\": \"file\", \"url\": \"socks5://u@10.0.0.2:1\", \"password_file\": "         \
	"\"secret\"}],\n  \"default_route\": \"direct\"\n}\n"

static const char original[] = TOP
    "{\"name\": \"x\", \"password_hash\": \"" HASH_A "\"}, {\"name\": \"y\", \"password_hash\": "
                                                     "\"" HASH_B "\"}" UPSTREAMS;

static const char *const secrets[] = { "t0ken", "p%40ss", "pa\\\"ss", "p@ss", "pa\"ss", HASH_A,
	HASH_B, "fromfile" };

static void
test_masked(void **state)
{
	(void)state;
	struct policy *p = marked_load_sound(original);
	for (size_t i = 0; i < ARRAY_LEN(secrets); i++)
		if (strstr(p->public_text, secrets[i]) != NULL)
			fail_msg("%s shows %s", p->public_text, secrets[i]);
	assert_non_null(strstr(p->public_text, "\"url\": \"socks5://u:***@10.0.0.1:1\""));
	assert_non_null(strstr(p->public_text, "\"password\": \"***\""));
	assert_non_null(strstr(p->public_text, "\"token\": \"***\""));
	assert_non_null(strstr(p->public_text, "\"password_hash\": \"***\""));
	assert_non_null(strstr(p->public_text, "\"password_file\": \"secret\""));
	policy_unref(p);
}

static struct policy *
load_after(const char *text, const struct policy *before)
{
	struct policy_errors errors;
	struct policy *p = marked_load(text, before, &errors);
	if (p == NULL)
		fail_msg("%s: %s: %s", text, errors.list[0].pointer, errors.list[0].message);
	policy_errors_free(&errors);
	return p;
}

/* What GET shows can be sent back as it is, and the policy is the same. */
static void
test_round_trip(void **state)
{
	(void)state;
	struct policy *p = marked_load_sound(original);
	struct policy *q = load_after(p->public_text, p);
	assert_string_equal(q->admin.token, "t0ken");
	assert_string_equal(q->auths[0].users[0].password_hash, HASH_A);
	assert_string_equal(q->auths[0].users[1].password_hash, HASH_B);
	assert_string_equal(q->upstreams[0].password, "p@ss");
	assert_string_equal(q->upstreams[1].password, "pa\"ss");
	assert_string_equal(q->upstreams[2].password, "fromfile");
	assert_string_equal(q->public_text, p->public_text);
	assert_null(strstr(q->text, "***"));
	struct policy *r = load_after(q->text, NULL);
	assert_string_equal(r->public_text, p->public_text);
	assert_string_equal(r->etag, q->etag);
	assert_string_not_equal(p->etag, q->etag);
	policy_unref(r);
	policy_unref(q);
	policy_unref(p);
}

/* The text keeps its own shape; only the masks are replaced. */
static void
test_text_keeps_its_shape(void **state)
{
	(void)state;
	struct policy *p = marked_load_sound(original);
	struct policy *q = load_after("{ \"default_route\":\n\"beside\",   \"upstreams\": [\n "
	                              "{\"url\": \"http://x:***@[::1]:1\", \"name\":\"beside\"} , "
	                              "{\"name\": \"in-url\", \"url\": \"https://u@h\", "
	                              "\"password\":\t\"***\" }] }",
	    p);
	assert_int_equal(q->text_len, strlen(q->text));
	assert_string_equal(q->text, "{ \"default_route\":\n\"beside\",   \"upstreams\": [\n "
	                             "{\"url\": \"http://x:pa%22ss@[::1]:1\", \"name\":\"beside\"} "
	                             ", "
	                             "{\"name\": \"in-url\", \"url\": \"https://u@h\", "
	                             "\"password\":\t\"p@ss\" }] }");
	assert_string_equal(q->upstreams[0].password, "pa\"ss");
	assert_string_equal(q->upstreams[1].password, "p@ss");
	policy_unref(q);
	policy_unref(p);
}

static const struct {
	const char *text, *want;
} nothing_kept[] = {
	{ "{\"admin\": {\"listen\": \"127.0.0.1:1\", \"token\": ^\"***\"}, \"default_route\": "
	  "\"direct\"}",
	    "/admin/token: there is none to keep" },
	{ "{\"upstreams\": [{\"name\": \"other\", \"url\": ^\"socks5://u:***@h\"}], "
	  "\"default_route\": \"direct\"}",
	    "/upstreams/0/url: there is none to keep" },
	{ "{\"upstreams\": [{\"name\": \"file\", \"url\": \"socks5://u@h\", \"password\": "
	  "^\"***\"}], \"default_route\": \"direct\"}",
	    "/upstreams/0/password: there is none to keep" },
	{ "{\"auth\": [{\"name\": \"b\", \"methods\": [\"userpass\"], \"users\": [{\"name\": "
	  "\"x\", \"password_hash\": ^\"***\"}]}], "
	  "\"default_route\": \"direct\"}",
	    "/auth/0/users/0/password_hash: there is none to keep" },
	{ "{\"auth\": [{\"name\": \"a\", \"methods\": [\"userpass\"], \"users\": [{\"name\": "
	  "\"z\", \"password_hash\": ^\"***\"}]}], "
	  "\"default_route\": \"direct\"}",
	    "/auth/0/users/0/password_hash: there is none to keep" },
};

static void
test_nothing_to_keep(void **state)
{
	(void)state;
	struct policy *p = marked_load_sound("{\"upstreams\": [{\"name\": \"file\", \"url\": "
	                                     "\"socks5://u@h\"}], \"auth\": [{\"name\": \"a\", "
	                                     "\"methods\": [\"userpass\"], \"users\": []}], "
	                                     "\"default_route\": \"direct\"}");
	for (size_t i = 0; i < ARRAY_LEN(nothing_kept); i++) {
		marked_expect(nothing_kept[i].text, NULL, nothing_kept[i].want);
		marked_expect(nothing_kept[i].text, p, nothing_kept[i].want);
	}
	policy_unref(p);
}

/* A "***" that is no secret is a text like any other. */
static void
test_stars_elsewhere(void **state)
{
	(void)state;
	struct policy *p = marked_load_sound("{\"comment\": \"***\", \"upstreams\": [{\"name\": "
	                                     "\"***\", \"url\": \"socks5://***@h\"}], "
	                                     "\"default_route\": \"***\"}");
	assert_string_equal(p->upstreams[0].username, "***");
	assert_null(p->upstreams[0].password);
	assert_non_null(strstr(p->public_text, "socks5://***@h"));
	policy_unref(p);
}

/* Errors are shown to whoever asks, so they don't quote secrets, well-formed or not. */
static void
test_errors_show_no_secret(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"{\"upstreams\": [{\"name\": \"a\", \"url\": \"socks5://u:hunter2@h/\"}]}",
		"{\"upstreams\": [{\"name\": \"a\", \"url\": \"socks5://u:hunter2@\"}]}",
		"{\"upstreams\": [{\"name\": \"a\", \"url\": \"u:hunter2@h:1\"}]}",
		"{\"upstreams\": [{\"name\": \"a\", \"url\": \"hunter2://h:1\"}]}",
		"{\"upstreams\": [{\"name\": \"a\", \"url\": \"socks5://u:hunter2%@h:1\"}]}",
		"{\"upstreams\": [{\"name\": \"a\", \"url\": \"socks5://h\", \"password\": "
		"[\"hunter2\"]}]}",
		"{\"upstreams\": [{\"name\": \"a\", \"url\": \"socks4://u@h\", \"password\": "
		"\"hunter2\"}]}",
		"{\"admin\": {\"listen\": \"127.0.0.1:1\", \"token\": \"hunter2 hunter2\"}}",
		"{\"auth\": [{\"name\": \"a\", \"methods\": [\"userpass\"], \"users\": [{\"name\": "
		"\"a\", \"password_hash\": \"hunter2\"}]}]}",
		"{\"admin\": {\"token\": hunter2}}",
		"{\"admin\": {\"token\": \"hunter2\n\"}}",
	};
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct policy_errors errors;
		assert_null(marked_load(texts[i], NULL, &errors));
		char *lines = policy_errors_to_text(&errors, "x");
		if (strstr(lines, "hunter2") != NULL)
			fail_msg("%s", lines);
		free(lines);
		policy_errors_free(&errors);
	}
}

static void
test_percent(void **state)
{
	(void)state;
	char encoded[3 * CREDENTIAL_MAX + 1], decoded[CREDENTIAL_MAX + 1], all[CREDENTIAL_MAX + 1];
	for (int i = 1; i <= CREDENTIAL_MAX; i++)
		all[i - 1] = (char)i;
	all[CREDENTIAL_MAX] = '\0';
	percent_encode(all, encoded, sizeof encoded);
	assert_null(strpbrk(encoded, ":@/?#[] \""));
	assert_true(percent_decode(encoded, strlen(encoded), decoded, sizeof decoded));
	assert_string_equal(decoded, all);
	assert_false(percent_decode("%4", 2, decoded, sizeof decoded));
	assert_false(percent_decode("%4g", 3, decoded, sizeof decoded));
	assert_false(percent_decode("%00", 3, decoded, sizeof decoded));
	assert_false(percent_decode("abcd", 4, decoded, 4));
	assert_true(percent_decode("abc", 3, decoded, 4));
	percent_encode("{user}", encoded, sizeof encoded);
	assert_string_equal(encoded, "{user}");
}

static int
make_files(void **state)
{
	(void)state;
	marked_make_dir();
	marked_write_file("secret", "fromfile\n");
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_masked),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_text_keeps_its_shape),
		cmocka_unit_test(test_nothing_to_keep),
		cmocka_unit_test(test_stars_elsewhere),
		cmocka_unit_test(test_errors_show_no_secret),
		cmocka_unit_test(test_percent),
	};
	return cmocka_run_group_tests(tests, make_files, marked_remove_files);
}
