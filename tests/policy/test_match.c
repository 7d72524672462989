/*
 * The match object: each key against requests, what is refused in the document, and the reasons
 * that explain gives.
 */
#include "policy/match.h"
#include "tests/policy/request.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

/* Rule 0 has the match under test. */
static char *
document(const char *match, bool resolve)
{
	char *text = NULL;
	int n = asprintf(
	    &text,
	    "{\"listeners\": [{\"name\": \"front\", \"listen\": \"127.0.0.1:1080\"}, {\"name\": "
	    "\"staff\", \"listen\": \"127.0.0.1:1081\"}],"
	    "\"sets\": [{\"name\": \"ads\", \"type\": \"domain\", \"values\": [\"ads.example\", "
	    "\"=one.example\"]},"
	    "{\"name\": \"lan\", \"type\": \"ip\", \"values\": [\"10.0.0.0/8\", \"fc00::/7\"]}],"
	    "\"rules\": [{\"match\": %s, \"resolve\": %s, \"route\": \"direct\"}], "
	    "\"default_route\": \"reject\"}",
	    match, resolve ? "true" : "false");
	assert_true(n > 0);
	return text;
}

static struct policy *
policy_of(const char *match, bool resolve)
{
	char *text = document(match, resolve);
	struct policy *p = test_policy(text);
	if (p == NULL)
		fail_msg("%s", match);
	free(text);
	return p;
}

static const struct {
	const char *match, *to;
	bool holds;
} destinations[] = {
	{ "{}", "a.example:80", true },
	{ "{\"comment\": \"all\"}", "192.0.2.1:80", true },
	{ "{\"domain\": [\"a.example\"]}", "a.example:80", true },
	{ "{\"domain\": [\"A.Example.\"]}", "a.example:80", true },
	{ "{\"domain\": [\"a.example\"]}", "A.EXAMPLE.:80", true },
	{ "{\"domain\": [\"a.example\"]}", "b.a.example:80", false },
	{ "{\"domain\": [\"a.example\"]}", "example:80", false },
	{ "{\"domain\": [\"c.example\", \"a.example\", \"b.example\"]}", "b.example:80", true },
	{ "{\"domain\": [\"a.example\"]}", "192.0.2.1:80", false },
	{ "{\"domain_suffix\": [\"example.com\"]}", "example.com:80", true },
	{ "{\"domain_suffix\": [\"example.com\"]}", "a.b.example.com:80", true },
	{ "{\"domain_suffix\": [\"example.com\"]}", "notexample.com:80", false },
	{ "{\"domain_suffix\": [\"example.com\"]}", "example.com.evil:80", false },
	{ "{\"domain_suffix\": [\".Example.com.\"]}", "WWW.example.COM.:80", true },
	{ "{\"domain_suffix\": [\"com\"]}", "example.com:80", true },
	{ "{\"domain_suffix\": [\"com\"]}", "192.0.2.1:80", false },
	{ "{\"domain_keyword\": [\"TRACK\"]}", "tracker.example:80", true },
	{ "{\"domain_keyword\": [\"track\"]}", "tr.ack.example:80", false },
	{ "{\"domain_keyword\": [\"0.2\"]}", "192.0.2.1:80", false },
	{ "{\"domain_keyword\": [\"x\", \"r.e\"]}", "tracker.example:80", true },
	{ "{\"ip_cidr\": [\"192.0.2.0/24\"]}", "192.0.2.255:80", true },
	{ "{\"ip_cidr\": [\"192.0.2.0/24\"]}", "192.0.3.0:80", false },
	{ "{\"ip_cidr\": [\"192.0.2.0/24\"]}", "[::ffff:192.0.2.7]:80", true },
	{ "{\"ip_cidr\": [\"127.0.0.0/8\"]}", "127.1:80", true },
	{ "{\"ip_cidr\": [\"127.0.0.0/8\"]}", "0x7f000001:80", true },
	{ "{\"ip_cidr\": [\"127.0.0.0/8\"]}", "2130706433:80", true },
	{ "{\"ip_cidr\": [\"::ffff:127.0.0.0/104\"]}", "127.0.0.1:80", true },
	{ "{\"ip_cidr\": [\"127.0.0.0/8\"]}", "0.0.0.0:80", true },
	{ "{\"ip_cidr\": [\"127.0.0.0/8\"]}", "[::ffff:0.0.0.0]:80", true },
	{ "{\"ip_cidr\": [\"127.0.0.0/8\"]}", "[::]:80", false },
	{ "{\"ip_cidr\": [\"::1\"]}", "[::]:80", true },
	{ "{\"ip_cidr\": [\"0.0.0.0/32\"]}", "0.0.0.0:80", true },
	{ "{\"ip_cidr\": [\"10.0.0.0/8\"]}", "0.0.0.0:80", false },
	{ "{\"not\": {\"ip_cidr\": [\"127.0.0.0/8\"]}}", "0.0.0.0:80", false },
	{ "{\"ip_cidr\": [\"2001:db8::/32\", \"10.0.0.0/8\"]}", "[2001:db8::1]:80", true },
	{ "{\"ip_cidr\": [\"10.0.0.0/8\"]}", "a.example:80", false },
	{ "{\"not\": {\"ip_cidr\": [\"10.0.0.0/8\"]}}", "a.example:80", true },
	{ "{\"not\": {\"ip_cidr\": [\"10.0.0.0/8\"]}}", "10.0.0.1:80", false },
	{ "{\"set\": [\"ads\"]}", "x.ads.example:80", true },
	{ "{\"set\": [\"ads\"]}", "one.example:80", true },
	{ "{\"set\": [\"ads\"]}", "x.one.example:80", false },
	{ "{\"set\": [\"ads\"]}", "10.0.0.1:80", false },
	{ "{\"set\": [\"lan\"]}", "10.0.0.1:80", true },
	{ "{\"set\": [\"lan\"]}", "[fd00::1]:80", true },
	{ "{\"set\": [\"lan\", \"ads\"]}", "ads.example:80", true },
	{ "{\"set\": [\"lan\", \"ads\"]}", "10.0.0.1:80", true },
	{ "{\"set\": [\"lan\", \"ads\"]}", "192.0.2.1:80", false },
	{ "{\"port\": [443]}", "a.example:443", true },
	{ "{\"port\": [443]}", "a.example:444", false },
	{ "{\"port\": [25, \"465-587\"]}", "a.example:465", true },
	{ "{\"port\": [25, \"465-587\"]}", "a.example:587", true },
	{ "{\"port\": [25, \"465-587\"]}", "a.example:588", false },
	{ "{\"port\": [25, \"465-587\"]}", "a.example:464", false },
	{ "{\"port\": [\"1-65535\"]}", "a.example:65535", true },
	{ "{\"port\": [\"1-65535\"]}", "a.example:0", false },
	{ "{\"port\": [\"80-80\"]}", "a.example:80", true },
	{ "{\"port\": [80], \"domain\": [\"a.example\"]}", "a.example:80", true },
	{ "{\"port\": [80], \"domain\": [\"a.example\"]}", "a.example:81", false },
	{ "{\"port\": [80], \"domain\": [\"a.example\"]}", "b.example:80", false },
	{ "{\"domain\": [\"a.example\"], \"domain_suffix\": [\"test\"]}", "a.example:80", false },
	{ "{\"not\": {}}", "a.example:80", false },
	{ "{\"not\": {\"not\": {}}}", "a.example:80", true },
	{ "{\"port\": [80], \"not\": {\"domain_suffix\": [\"a.example\"]}}", "b.example:80", true },
	{ "{\"port\": [80], \"not\": {\"domain_suffix\": [\"a.example\"]}}", "x.a.example:80", false },
	{ "{\"not\": {\"port\": [80], \"domain\": [\"a.example\"]}}", "a.example:81", true },
	{ "{\"not\": {\"port\": [80], \"not\": {\"domain\": [\"a.example\"]}}}", "a.example:80", true },
	{ "{\"not\": {\"port\": [80], \"not\": {\"domain\": [\"a.example\"]}}}", "b.example:80", false },
};

static bool
decides(const struct policy *p, const struct policy_request *r)
{
	struct policy_decision d;
	policy_decide(p, r, &d);
	assert_int_equal(d.kind, DECIDED);
	assert_int_equal(d.route.kind, d.rule == 0 ? ROUTE_DIRECT : ROUTE_REJECT);
	return d.rule == 0;
}

static void
test_destinations(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(destinations); i++) {
		struct test_request q;
		struct policy *p = policy_of(destinations[i].match, false);
		assert_true(test_request_init(&q, destinations[i].to, NULL, NULL));
		if (decides(p, &q.r) != destinations[i].holds)
			fail_msg("%s and %s", destinations[i].match, destinations[i].to);
		policy_unref(p);
	}
}

/* What is said of the client. */
static const struct {
	const char *match;
	uint32_t listener;
	uint8_t protocol, command;
	const char *client, *user, *userid;
	bool holds;
} clients[] = {
	{ "{\"listener\": [\"staff\"]}", 1, PROTOCOL_SOCKS5, SOCKS_CONNECT, NULL, NULL, NULL, true },
	{ "{\"listener\": [\"staff\"]}", 0, PROTOCOL_SOCKS5, SOCKS_CONNECT, NULL, NULL, NULL, false },
	{ "{\"listener\": [\"staff\", \"front\"]}", 0, PROTOCOL_SOCKS5, SOCKS_CONNECT, NULL, NULL, NULL, true },
	{ "{\"listener\": [\"staff\", \"front\"]}", UINT32_MAX, PROTOCOL_SOCKS5, SOCKS_CONNECT, NULL, NULL, NULL, false },
	{ "{\"protocol\": [\"socks4\", \"http\"]}", 0, PROTOCOL_HTTP, SOCKS_CONNECT, NULL, NULL, NULL, true },
	{ "{\"protocol\": [\"socks4\", \"http\"]}", 0, PROTOCOL_SOCKS4A, SOCKS_CONNECT, NULL, NULL, NULL, false },
	{ "{\"protocol\": [\"socks4\", \"http\"]}", 0, PROTOCOL_NONE, SOCKS_CONNECT, NULL, NULL, NULL, false },
	{ "{\"protocol\": [\"socks4\"]}", 0, 255, SOCKS_CONNECT, NULL, NULL, NULL, false },
	{ "{\"command\": [\"bind\", \"udp\"]}", 0, PROTOCOL_SOCKS5, SOCKS_UDP, NULL, NULL, NULL, true },
	{ "{\"command\": [\"bind\", \"udp\"]}", 0, PROTOCOL_SOCKS5, SOCKS_CONNECT, NULL, NULL, NULL, false },
	{ "{\"command\": [\"connect\"]}", 0, PROTOCOL_SOCKS5, 255, NULL, NULL, NULL, false },
	{ "{\"client_cidr\": [\"10.0.0.0/8\"]}", 0, PROTOCOL_SOCKS5, SOCKS_CONNECT, "10.9.9.9", NULL, NULL, true },
	{ "{\"client_cidr\": [\"10.0.0.0/8\"]}", 0, PROTOCOL_SOCKS5, SOCKS_CONNECT, "::ffff:10.9.9.9", NULL, NULL, true },
	{ "{\"client_cidr\": [\"10.0.0.0/8\"]}", 0, PROTOCOL_SOCKS5, SOCKS_CONNECT, "11.9.9.9", NULL, NULL, false },
	{ "{\"client_cidr\": [\"0.0.0.0/0\", \"::/0\"]}", 0, PROTOCOL_SOCKS5, SOCKS_CONNECT, NULL, NULL, NULL, false },
	{ "{\"user\": [\"bob\", \"alice\"]}", 0, PROTOCOL_SOCKS5, SOCKS_CONNECT, NULL, "alice", NULL, true },
	{ "{\"user\": [\"alice\"]}", 0, PROTOCOL_SOCKS5, SOCKS_CONNECT, NULL, "Alice", NULL, false },
	{ "{\"user\": [\"alice\"]}", 0, PROTOCOL_SOCKS5, SOCKS_CONNECT, NULL, "alic", NULL, false },
	{ "{\"user\": [\"alice\"]}", 0, PROTOCOL_SOCKS5, SOCKS_CONNECT, NULL, "", NULL, false },
	{ "{\"user\": [\"alice\"]}", 0, PROTOCOL_SOCKS5, SOCKS_CONNECT, NULL, NULL, "alice", false },
	{ "{\"userid\": [\"alice\"]}", 0, PROTOCOL_SOCKS4, SOCKS_CONNECT, NULL, NULL, "alice", true },
	{ "{\"userid\": [\"alice\"]}", 0, PROTOCOL_SOCKS4, SOCKS_CONNECT, NULL, "alice", NULL, false },
	{ "{\"not\": {\"user\": [\"alice\"]}}", 0, PROTOCOL_SOCKS5, SOCKS_CONNECT, NULL, NULL, NULL, true },
};

static void
test_clients(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
		struct test_request q;
		struct policy *p = policy_of(clients[i].match, false);
		assert_true(test_request_init(&q, "a.example:80", clients[i].client, NULL));
		q.r.listener = clients[i].listener;
		q.r.protocol = clients[i].protocol;
		q.r.command = clients[i].command;
		q.r.user = clients[i].user;
		q.r.userid = clients[i].userid;
		if (decides(p, &q.r) != clients[i].holds)
			fail_msg("%zu: %s", i, clients[i].match);
		q.r.client = NULL;
		if (clients[i].client == NULL && decides(p, &q.r) != clients[i].holds)
			fail_msg("%zu: %s without a client", i, clients[i].match);
		policy_unref(p);
	}
}

static const struct {
	const char *match, *pointer, *message;         /* message: a part of it */
} faults[] = {
	{ "[]", "/rules/0/match", "an object" },
	{ "null", "/rules/0/match", "an object" },
	{ "{\"ports\": [80]}", "/rules/0/match/ports", "did you mean \"port\"" },
	{ "{\"domain_regex\": [\"a.*\"]}", "/rules/0/match/domain_regex", "" },
	{ "{\"time\": {}}", "/rules/0/match/time", "" },
	{ "{\"port\": 80}", "/rules/0/match/port", "list of ports" },
	{ "{\"port\": []}", "/rules/0/match/port", "list of ports" },
	{ "{\"port\": [0]}", "/rules/0/match/port/0", "a port from 1 to 65535" },
	{ "{\"port\": [80, 65536]}", "/rules/0/match/port/1", "a port from 1 to 65535" },
	{ "{\"port\": [-1]}", "/rules/0/match/port/0", "found -1" },
	{ "{\"port\": [80.5]}", "/rules/0/match/port/0", "found 80.5" },
	{ "{\"port\": [\"80\"]}", "/rules/0/match/port/0", "" },
	{ "{\"port\": [\"90-80\"]}", "/rules/0/match/port/0", "" },
	{ "{\"port\": [\"0-80\"]}", "/rules/0/match/port/0", "" },
	{ "{\"port\": [\"80-65536\"]}", "/rules/0/match/port/0", "" },
	{ "{\"port\": [\"80-\"]}", "/rules/0/match/port/0", "" },
	{ "{\"port\": [\"-80\"]}", "/rules/0/match/port/0", "" },
	{ "{\"port\": [\"80 - 90\"]}", "/rules/0/match/port/0", "" },
	{ "{\"port\": [true]}", "/rules/0/match/port/0", "" },
	{ "{\"ip_cidr\": [\"10.0.0.0/33\"]}", "/rules/0/match/ip_cidr/0", "0 to 32" },
	{ "{\"ip_cidr\": [\"a.example\"]}", "/rules/0/match/ip_cidr/0", "found \"a.example\"" },
	{ "{\"ip_cidr\": [7]}", "/rules/0/match/ip_cidr/0", "found 7" },
	{ "{\"ip_cidr\": \"10.0.0.0/8\"}", "/rules/0/match/ip_cidr", "list" },
	{ "{\"client_cidr\": [\"10/8\"]}", "/rules/0/match/client_cidr/0", "" },
	{ "{\"domain\": [\"192.0.2.1\"]}", "/rules/0/match/domain/0", "an IP address, not a domain" },
	{ "{\"domain\": [\"*.example\"]}", "/rules/0/match/domain/0", "no wildcards" },
	{ "{\"domain\": [\"turn\\u202edaer.example\"]}", "/rules/0/match/domain/0", "no form in ASCII" },
	{ "{\"domain_suffix\": [\"a\\u2474.example\"]}", "/rules/0/match/domain_suffix/0", "not a domain" },
	{ "{\"domain\": [\"\"]}", "/rules/0/match/domain/0", "" },
	{ "{\"domain\": [\".a.example\"]}", "/rules/0/match/domain/0", "empty" },
	{ "{\"domain_suffix\": [\".\"]}", "/rules/0/match/domain_suffix/0", "empty" },
	{ "{\"domain_suffix\": [\"a..b\"]}", "/rules/0/match/domain_suffix/0", "empty" },
	{ "{\"domain_suffix\": [null]}", "/rules/0/match/domain_suffix/0", "" },
	{ "{\"domain_keyword\": [\"\"]}", "/rules/0/match/domain_keyword/0", "" },
	{ "{\"domain_keyword\": [\"a b\"]}", "/rules/0/match/domain_keyword/0", "without spaces" },
	{ "{\"user\": [\"\"]}", "/rules/0/match/user/0", "" },
	{ "{\"userid\": [1]}", "/rules/0/match/userid/0", "" },
	{ "{\"set\": [\"asd\"]}", "/rules/0/match/set/0", "did you mean \"ads\"" },
	{ "{\"listener\": [\"stuff\"]}", "/rules/0/match/listener/0", "did you mean \"staff\"" },
	{ "{\"protocol\": [\"socks6\"]}", "/rules/0/match/protocol/0", "did you mean" },
	{ "{\"command\": [\"CONNECT\"]}", "/rules/0/match/command/0", "" },
	{ "{\"not\": []}", "/rules/0/match/not", "an object" },
	{ "{\"not\": {\"not\": {\"port\": [0]}}}", "/rules/0/match/not/not/port/0", "" },
	{ "{\"port\": [80], \"port\": [81]}", "/rules/0/match/port", "" },
};

static void
test_faults(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		struct policy_errors errors;
		char *text = document(faults[i].match, false);
		struct policy_source from = { .text = text, .len = strlen(text), .name = "test" };
		policy_errors_init(&errors);
		struct policy *p = policy_load(&from, &errors);
		if (p != NULL || errors.n != 1)
			fail_msg("%s: %zu errors", faults[i].match, errors.n);
		if (strcmp(errors.list[0].pointer, faults[i].pointer) != 0 ||
		    strstr(errors.list[0].message, faults[i].message) == NULL)
			fail_msg("%s: %s: %s", faults[i].match, errors.list[0].pointer,
				 errors.list[0].message);
		policy_errors_free(&errors);
		free(text);
	}
}

static void
test_all_faults_at_once(void **state)
{
	(void)state;
	struct policy_errors errors;
	char *text = document("{\"port\": [0, 80, 70000], \"ip_cidr\": [\"x\", \"10.0.0.0/8\"], \"sett\": 1, \"not\": {\"user\": 1}}", false);
	struct policy_source from = { .text = text, .len = strlen(text), .name = "test" };
	policy_errors_init(&errors);
	assert_null(policy_load(&from, &errors));
	assert_int_equal(errors.n, 5);
	policy_errors_free(&errors);
	free(text);
}

/* As deep as the scanner lets a document be: the object under "rules" is at level 3, its match at
 * 4. */
static void
test_deep_not(void **state)
{
	(void)state;
	char match[2048] = "";
	unsigned n = POLICY_DEPTH_MAX - 4;
	for (unsigned i = 0; i < n; i++)
		strcat(match, "{\"not\": ");
	strcat(match, "{}");
	for (unsigned i = 0; i < n; i++)
		strcat(match, "}");
	struct policy *p = policy_of(match, false);
	struct test_request q;
	char reason[4096];
	assert_true(test_request_init(&q, "a.example:80", NULL, NULL));
	assert_int_equal(decides(p, &q.r), n % 2 == 0);
	assert_int_equal(policy_rule_explain(p, 0, &q.r, reason, sizeof reason), n % 2 == 0);
	assert_true(strlen(reason) > 0);
	policy_unref(p);
}

static const struct {
	const char *match;
	bool resolve;
	const char *to, *addrs;
	bool holds;
	const char *reason;
} reasons[] = {
    {"{}", false, "a.example:80", NULL, true, "matches every request"},
    {"{\"port\": [80, \"100-200\"]}", false, "a.example:80", NULL, true,
     "port 80 is one of 80, 100-200"},
    {"{\"port\": [80]}", false, "a.example:81", NULL, false, "port 81 is none of 80"},
    {"{\"port\": [1, 2, 3, 4, 5, 6]}", false, "a.example:6", NULL, true,
     "port 6 is one of 1, 2, 3, 4 and 2 more"},
    {"{\"user\": [\"alice\"]}", false, "a.example:80", NULL, true,
     "user \"alice\" is one of alice"},
    {"{\"userid\": [\"alice\"]}", false, "a.example:80", NULL, false, "no userid given: it is none of alice"},
    {"{\"listener\": [\"staff\"]}", false, "a.example:80", NULL, false,
     "listener front is none of staff"},
    {"{\"protocol\": [\"socks5\", \"http\"], \"command\": [\"connect\"]}", false, "a.example:80",
     NULL, true, "protocol socks5 is one of socks5, http; command connect is one of connect"},
    {"{\"client_cidr\": [\"10.0.0.0/8\"]}", false, "a.example:80", NULL, true,
     "client 10.0.0.1 is one of 10.0.0.0/8"},
    {"{\"domain\": [\"b.example\", \"a.example\"]}", false, "a.example:80", NULL, true,
     "\"a.example\" is one of a.example, b.example"},
    {"{\"domain_suffix\": [\"example\"]}", false, "a.example:80", NULL, true,
     "\"a.example\" is or is below example"},
    {"{\"domain_suffix\": [\"test\"]}", false, "192.0.2.1:80", NULL, false,
     "192.0.2.1 is not and is not below test"},
    {"{\"domain_keyword\": [\"exam\"]}", false, "a.example:80", NULL, true,
     "\"a.example\" has in it exam"},
    {"{\"ip_cidr\": [\"10.0.0.0/8\"]}", false, "10.1.2.3:80", NULL, true,
     "10.1.2.3 is in 10.0.0.0/8"},
    {"{\"ip_cidr\": [\"10.0.0.0/8\"]}", false, "a.example:80", NULL, false,
     "\"a.example\" (no address seen) is not in 10.0.0.0/8"},
    {"{\"ip_cidr\": [\"10.0.0.0/8\"]}", false, "a.example:80", "10.0.0.1", false,
     "\"a.example\" (no address seen) is not in 10.0.0.0/8"},
    {"{\"ip_cidr\": [\"10.0.0.0/8\"]}", true, "a.example:80", NULL, false,
     "\"a.example\" (no address seen) must be resolved to know whether it is in 10.0.0.0/8"},
    {"{\"ip_cidr\": [\"10.0.0.0/8\"]}", true, "a.example:80", "192.0.2.1 10.0.0.1", true,
     "\"a.example\" (192.0.2.1, 10.0.0.1) is in 10.0.0.0/8"},
    {"{\"ip_cidr\": [\"10.0.0.0/8\"]}", true, "a.example:80", "192.0.2.1", false,
     "\"a.example\" (192.0.2.1) is not in 10.0.0.0/8"},
    {"{\"set\": [\"ads\", \"lan\"]}", false, "a.ads.example:80", NULL, true,
     "\"a.ads.example\" (no address seen) is in set ads, lan"},
    {"{\"port\": [80], \"not\": {\"domain\": [\"a.example\"]}}", false, "a.example:80", NULL, false,
     "not fails (\"a.example\" is one of a.example)"},
    {"{\"port\": [80], \"not\": {\"domain\": [\"a.example\"]}}", false, "b.example:80", NULL, true,
     "port 80 is one of 80; not holds (\"b.example\" is none of a.example)"},
    {"{\"not\": {\"set\": [\"lan\"]}}", true, "b.example:80", NULL, false,
     "not is open (\"b.example\" (no address seen) must be resolved to know whether it is in set "
     "lan)"},
    {"{\"port\": [80], \"user\": [\"bob\"]}", false, "a.example:80", NULL, false,
     "user \"alice\" is none of bob"},
};

static void
test_reasons(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
		struct test_request q;
		char reason[512];
		struct policy *p = policy_of(reasons[i].match, reasons[i].resolve);
		assert_true(test_request_init(&q, reasons[i].to, "10.0.0.1", reasons[i].addrs));
		q.r.user = "alice";
		bool holds = policy_rule_explain(p, 0, &q.r, reason, sizeof reason);
		if (holds != reasons[i].holds || strcmp(reason, reasons[i].reason) != 0)
			fail_msg("%s: %d: %s", reasons[i].match, holds, reason);
		policy_unref(p);
	}
}

/* Cut at every length, it stays whole characters of UTF-8. */
static void
test_reason_cut(void **state)
{
	(void)state;
	struct test_request q;
	struct policy *p = policy_of("{\"user\": [\"J\xc3\xb6rg\xe2\x82\xac\xf0\x9f\x98\x80\"]}", false);
	char whole[256], cut[256];
	assert_true(test_request_init(&q, "a.example:80", NULL, NULL));
	q.r.user = "x\xff\n";
	assert_false(policy_rule_explain(p, 0, &q.r, whole, sizeof whole));
	assert_string_equal(
	    whole, "user \"x\\xff\\x0a\" is none of J\xc3\xb6rg\xe2\x82\xac\xf0\x9f\x98\x80");
	for (size_t cap = 1; cap <= strlen(whole) + 1; cap++) {
		assert_false(policy_rule_explain(p, 0, &q.r, cut, cap));
		size_t len = strlen(cut);
		assert_true(len < cap && memcmp(cut, whole, len) == 0);
		assert_true(((unsigned char)whole[len] & 0xc0) != 0x80);
	}
	assert_string_equal(cut, whole);
	policy_unref(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_destinations),
		cmocka_unit_test(test_clients),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_all_faults_at_once),
		cmocka_unit_test(test_deep_not),
		cmocka_unit_test(test_reasons),
		cmocka_unit_test(test_reason_cut),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
