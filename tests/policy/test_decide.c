/*
 * Deciding: order, resolving, addresses about to be dialled, and the rule index against a plain
 * walk over all rules.
 */
#include "base/hash.h"
#include "policy/rule_index.h"
#include "tests/policy/request.h"

#include <pthread.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

static struct policy *
policy_of_rules(const char *rules)
{
	char *text = NULL;
	int n = asprintf(&text,
	    "{\"listeners\": [{\"name\": \"front\", \"listen\": \"127.0.0.1:1080\"}],"
	    "\"upstreams\": [{\"name\": \"paris\", \"url\": \"socks5://192.0.2.10:1080\"}],"
	    "\"sets\": [{\"name\": \"ads\", \"type\": \"domain\", \"values\": [\"ads.example\"]},"
	    "{\"name\": \"lan\", \"type\": \"ip\", \"values\": [\"10.0.0.0/8\"]}],"
	    "\"rules\": [%s], \"default_route\": \"paris\"}",
	    rules);
	assert_true(n > 0);
	struct policy *p = test_policy(text);
	assert_non_null(p);
	free(text);
	return p;
}

enum { ASKS = 1000 };                  /* ASKS + i: rule i needs addresses */

static int
outcome(const struct policy *p, const struct policy_request *r)
{
	struct policy_decision d;
	policy_decide(p, r, &d);
	const struct policy_route *want = d.rule < 0 ? &p->default_route : &p->rules[d.rule].route;
	assert_int_equal(d.route.kind, want->kind);
	assert_int_equal(d.route.index, want->index);
	return d.kind == DECIDE_NEEDS_ADDRESSES ? ASKS + d.rule : d.rule;
}

#define LAN_DIRECT "{\"match\": {\"ip_cidr\": [\"10.0.0.0/8\"]}, \"route\": \"direct\"}"
#define LAN_RESOLVED "{\"match\": {\"ip_cidr\": [\"10.0.0.0/8\"]}, \"resolve\": true, \"route\": \"direct\"}"
#define SET_RESOLVED "{\"match\": {\"set\": [\"lan\", \"ads\"]}, \"resolve\": true, \"route\": \"direct\"}"
#define NOT_LAN "{\"match\": {\"not\": {\"ip_cidr\": [\"10.0.0.0/8\"]}}, \"route\": \"reject\"}"
#define NOT_LAN_RESOLVED "{\"match\": {\"not\": {\"ip_cidr\": [\"10.0.0.0/8\"]}}, \"resolve\": true, \"route\": \"reject\"}"
#define PORT_80 "{\"match\": {\"port\": [80]}, \"route\": \"reject\"}"
#define ALL "{\"route\": \"reject\"}"

static const struct {
	const char *rules, *to, *addrs;
	bool failed;
	int want;
} cases[] = {
	{ "", "a.example:80", NULL, false, -1 },
	{ ALL, "a.example:80", NULL, false, 0 },
	{ PORT_80 "," ALL, "a.example:80", NULL, false, 0 },
	{ PORT_80 "," ALL, "a.example:81", NULL, false, 1 },
	{ ALL "," PORT_80, "a.example:80", NULL, false, 0 },
	{ LAN_DIRECT, "10.0.0.1:80", NULL, false, 0 },
	{ LAN_DIRECT, "a.example:80", NULL, false, -1 },
	/* Nobody asked, so what happens to be known is not looked at. */
	{ LAN_DIRECT, "a.example:80", "10.0.0.1", false, -1 },
	{ LAN_RESOLVED, "a.example:80", NULL, false, ASKS + 0 },
	{ LAN_RESOLVED, "a.example:80", "10.0.0.1", false, 0 },
	{ LAN_RESOLVED, "a.example:80", "192.0.2.1 10.0.0.1", false, 0 },
	{ LAN_RESOLVED, "a.example:80", "192.0.2.1", false, -1 },
	{ LAN_RESOLVED, "a.example:80", NULL, true, -1 },
	{ LAN_RESOLVED, "10.0.0.1:80", NULL, false, 0 },
	{ LAN_RESOLVED, "192.0.2.1:80", NULL, false, -1 },
	/* A rule before the one that asks never sees addresses; one behind it does. */
	{ LAN_DIRECT "," LAN_RESOLVED, "a.example:80", "10.0.0.1", false, 1 },
	{ PORT_80 "," LAN_RESOLVED, "a.example:80", NULL, false, 0 },
	{ "{\"match\": {\"ip_cidr\": [\"192.0.2.0/24\"]}, \"resolve\": true, \"route\": \"paris\"}," LAN_DIRECT, "a.example:80",
	  "10.0.0.1", false, 1 },
	{ "{\"match\": {\"ip_cidr\": [\"192.0.2.0/24\"]}, \"resolve\": true, \"route\": \"paris\"},"
	  "{\"match\": {\"set\": [\"lan\"]}, \"route\": \"reject\"}",
	  "a.example:80", "10.0.0.1", false, 1 },
	/* It asks only where its other keys hold. */
	{ "{\"match\": {\"port\": [443], \"set\": [\"lan\"]}, \"resolve\": true, \"route\": \"direct\"}", "a.example:80", NULL, false, -1 },
	{ "{\"match\": {\"port\": [443], \"set\": [\"lan\"]}, \"resolve\": true, \"route\": \"direct\"}", "a.example:443", NULL, false,
	  ASKS + 0 },
	{ "{\"match\": {\"port\": [443]}, \"resolve\": true, \"route\": \"direct\"}", "a.example:443", NULL, false, 0 },
	{ SET_RESOLVED, "a.ads.example:80", NULL, false, 0 },
	{ SET_RESOLVED, "a.example:80", NULL, false, ASKS + 0 },
	{ SET_RESOLVED, "a.example:80", "10.1.1.1", false, 0 },
	{ SET_RESOLVED, "a.example:80", "11.1.1.1", false, -1 },
	{ SET_RESOLVED, "a.example:80", NULL, true, -1 },
	{ NOT_LAN, "a.example:80", NULL, false, 0 },
	{ NOT_LAN, "a.example:80", "10.0.0.1", false, 0 },
	{ NOT_LAN, "10.0.0.1:80", NULL, false, -1 },
	{ NOT_LAN_RESOLVED, "a.example:80", NULL, false, ASKS + 0 },
	{ NOT_LAN_RESOLVED, "a.example:80", "10.0.0.1", false, -1 },
	{ NOT_LAN_RESOLVED, "a.example:80", "192.0.2.1", false, 0 },
	{ NOT_LAN_RESOLVED, "a.example:80", NULL, true, 0 },
	{ "{\"match\": {\"not\": {\"port\": [443], \"set\": [\"lan\"]}}, \"resolve\": true, \"route\": \"reject\"}", "a.example:80", NULL,
	  false, 0 },
	{ "{\"match\": {\"not\": {\"port\": [443], \"set\": [\"lan\"]}}, \"resolve\": true, \"route\": \"reject\"}", "a.example:443", NULL,
	  false, ASKS + 0 },
	/* An unknown address and a rule behind that would hold: the order decides. */
	{ LAN_RESOLVED "," ALL, "a.example:80", NULL, false, ASKS + 0 },
	{ LAN_RESOLVED "," ALL, "a.example:80", "192.0.2.1", false, 1 },
};

static void
test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct test_request q;
		struct policy *p = policy_of_rules(cases[i].rules);
		assert_true(test_request_init(&q, cases[i].to, "192.0.2.99", cases[i].addrs));
		q.r.resolve_failed = cases[i].failed;
		int got = outcome(p, &q.r);
		if (got != cases[i].want)
			fail_msg("case %zu (%s, %s): %d, not %d", i, cases[i].rules, cases[i].to,
				 got, cases[i].want);
		policy_unref(p);
	}
}

/* Looked up, and there are none. */
static void
test_no_addresses(void **state)
{
	(void)state;
	struct test_request q;
	struct policy *p = policy_of_rules(LAN_RESOLVED);
	assert_true(test_request_init(&q, "a.example:80", NULL, NULL));
	q.r.addrs = q.addrs;
	assert_int_equal(outcome(p, &q.r), -1);
	q.to.kind = ENDPOINT_NONE;
	assert_int_equal(outcome(p, &q.r), -1);
	policy_unref(p);
}

static const struct {
	const char *rules, *to, *address, *user;
	int want;
} dialled[] = {
	{ "{\"match\": {\"ip_cidr\": [\"10.0.0.0/8\"]}, \"route\": \"reject\"}", "a.example:80", "10.0.0.1", "", 0 },
	{ "{\"match\": {\"ip_cidr\": [\"10.0.0.0/8\"]}, \"route\": \"reject\"}", "a.example:80", "::ffff:10.0.0.1", "", 0 },
	{ "{\"match\": {\"ip_cidr\": [\"10.0.0.0/8\"]}, \"route\": \"reject\"}", "a.example:80", "11.0.0.1", "", -1 },
	{ "{\"match\": {\"ip_cidr\": [\"10.0.0.0/8\"]}, \"route\": \"reject\"}", "10.0.0.1:80", "10.0.0.1", "", -1 },
	{ "{\"match\": {\"set\": [\"lan\"]}, \"route\": \"reject\"}", "a.example:80", "10.0.0.1", "", 0 },
	{ "{\"match\": {\"set\": [\"lan\"], \"not\": {\"user\": [\"alice\"]}}, \"route\": \"reject\"}", "a.example:80", "10.0.0.1", "", 0 },
	{ "{\"match\": {\"set\": [\"lan\"], \"not\": {\"user\": [\"alice\"]}}, \"route\": \"reject\"}", "a.example:80", "10.0.0.1", "alice",
	  -1 },
	{ "{\"match\": {\"set\": [\"lan\"], \"domain_suffix\": [\"test\"]}, \"route\": \"reject\"}", "a.example:80", "10.0.0.1", "", -1 },
	{ "{\"match\": {\"set\": [\"lan\"], \"domain_suffix\": [\"example\"]}, \"route\": \"reject\"}", "a.example:80", "10.0.0.1", "", 0 },
	{ "{\"match\": {\"set\": [\"lan\"], \"port\": [81]}, \"route\": \"reject\"}", "a.example:80", "10.0.0.1", "", -1 },
	{ "{\"match\": {\"set\": [\"lan\"]}, \"route\": \"direct\"}", "a.example:80", "10.0.0.1", "", -1 },
	{ "{\"route\": \"direct\"}, {\"route\": \"reject\"}, {\"match\": {\"set\": [\"lan\"]}, \"route\": \"reject\"}", "a.example:80",
	  "10.0.0.1", "", 2 },
	{ "{\"match\": {\"not\": {\"set\": [\"lan\"]}}, \"route\": \"reject\"}", "a.example:80", "192.0.2.1", "", 0 },
	{ "{\"match\": {\"not\": {\"set\": [\"lan\"]}}, \"route\": \"reject\"}", "a.example:80", "10.0.0.1", "", -1 },
	{ "{\"match\": {\"set\": [\"ads\"]}, \"route\": \"reject\"}", "a.ads.example:80", "10.0.0.1", "", -1 },
	{ "{\"match\": {\"domain\": [\"a.example\"]}, \"route\": \"reject\"}", "a.example:80", "10.0.0.1", "", -1 },
	{ "", "a.example:80", "10.0.0.1", "", -1 },
};

static void
test_dialled(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(dialled); i++) {
		struct test_request q;
		struct endpoint address = { .kind = ENDPOINT_NONE };
		struct policy *p = policy_of_rules(dialled[i].rules);
		assert_true(test_request_init(&q, dialled[i].to, NULL, NULL));
		assert_true(test_host(&address, dialled[i].address, strlen(dialled[i].address)));
		q.r.user = dialled[i].user;
		int got = policy_address_rejected(p, &q.r, &address);
		if (got != dialled[i].want)
			fail_msg("case %zu: %d, not %d", i, got, dialled[i].want);
		policy_unref(p);
	}
}

static const struct {
	const char *name;
	size_t len;
	const char *user, *session;
} users[] = {
	{ "alice", 5, "alice", "" },
	{ "alice+s1", 8, "alice", "s1" },
	{ "alice+s1+s2", 11, "alice", "s1+s2" },
	{ "alice+", 6, "alice", "" },
	{ "+s1", 3, "", "s1" },
	{ "", 0, "", "" },
	{ "alice\0x", 7, "", "" },
	{ "alice+s\0x", 9, "", "" },
	{ "alexander+session-1", 19, "alexand", "session" },
};

static void
test_split_user(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(users); i++) {
		char user[8], session[8];
		memset(user, 'x', sizeof user);
		memset(session, 'x', sizeof session);
		policy_split_user(users[i].name, users[i].len, user, sizeof user, session,
				  sizeof session);
		assert_string_equal(user, users[i].user);
		assert_string_equal(session, users[i].session);
		policy_split_user(users[i].name, users[i].len, NULL, 0, session, sizeof session);
		assert_string_equal(session, users[i].session);
	}
	char user[8];
	policy_split_user(NULL, 0, user, sizeof user, NULL, 0);
	assert_string_equal(user, "");
}

/* ---- a plain walk over all rules ---- */

/* Each key of a model's match is a set of bits, one for each word of its vocabulary. 0: the key is
 * not there. */
enum model_key {
	M_LISTENER,
	M_PROTOCOL,
	M_COMMAND,
	M_PORT,
	M_CLIENT,
	M_USER,
	M_USERID,
	M_DOMAIN,
	M_SUFFIX,
	M_KEYWORD,
	M_IP,
	M_SET,
	M_N
};

static const char *const key_texts[M_N] = {"listener",      "protocol",       "command", "port",
					   "client_cidr",   "user",           "userid",  "domain",
					   "domain_suffix", "domain_keyword", "ip_cidr", "set"};

enum { WORDS_MAX = 10 };

static const char *const words[M_N][WORDS_MAX] = {
	[M_LISTENER] = { "l0", "l1", "l2" },
	[M_PROTOCOL] = { "socks4", "socks4a", "socks5", "http" },
	[M_COMMAND] = { "connect", "bind", "udp" },
	[M_PORT] = { "1-65535", "80-80", "443-443", "25-600", "1024-2047", "81-8080", "65535-65535" },
	[M_CLIENT] = { "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "0.0.0.0/0", "::/0", "2001:db8::/32" },
	[M_USER] = { "alice", "bob", "carol" },
	[M_USERID] = { "alice", "dave" },
	[M_DOMAIN] = { "a.example", "b.example", "x.a.example", "example", "c.test", "notexample" },
	[M_SUFFIX] = { "a.example", "example", "x.a.example", "c.test", "test", "y.x.a.example" },
	[M_KEYWORD] = { "a", "x.", "test", "not" },
	[M_IP] = { "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3", "0.0.0.0/0", "::/0",
		"2001:db8::/32", "2001:db8:1::/48", "192.168.0.0/16" },
	[M_SET] = { "d0", "d1", "i0", "i1" },
};

static const char *const names[] = {"a.example",       "b.example", "x.a.example", "y.x.a.example",
				    "z.y.x.a.example", "example",   "notexample",  "nota.example",
				    "c.test",          "d.c.test",  "test",        "b"};
static const char *const addresses[] = {"10.0.0.1",    "10.1.0.1",      "10.1.2.1",
					"10.1.2.3",    "192.168.0.1",   "192.0.2.1",
					"2001:db8::1", "2001:db8:1::1", "2001:db9::1"};
static const uint16_t ports[] = { 0, 1, 25, 80, 443, 1024, 8080, 65535 };

struct model_match {
	unsigned bits[M_N];
	struct model_match *inverse;
};

struct model_rule {
	struct model_match match[3];   /* the first, and those that are nested in it */
	bool resolve, reject;
};

enum { RULES_MAX = 40 };

static size_t
vocabulary(enum model_key key)
{
	size_t n = 0;
	while (n < WORDS_MAX && words[key][n] != NULL)
		n++;
	return n;
}

static void
random_match(struct random *r, struct model_match *m, unsigned depth)
{
	memset(m, 0, sizeof *m);
	unsigned n_keys = random_below(r, 4);
	for (unsigned i = 0; i < n_keys; i++) {
		enum model_key key = random_below(r, M_N);
		unsigned all = (1u << vocabulary(key)) - 1;
		unsigned few = 1u << random_below(r, (uint32_t)vocabulary(key));
		m->bits[key] =
		    random_below(r, 3) == 0 ? ((unsigned)random_next(r) & all) | few : few;
	}
	if (depth < 2 && random_below(r, 4) == 0) {
		m->inverse = m + 1;
		random_match(r, m->inverse, depth + 1);
	}
}

static void
print_match(FILE *out, const struct model_match *m)
{
	const char *comma = "";
	fprintf(out, "{");
	for (int key = 0; key < M_N; key++) {
		if (m->bits[key] == 0)
			continue;
		fprintf(out, "%s\"%s\": [", comma, key_texts[key]);
		comma = "";
		for (size_t i = 0; i < vocabulary((enum model_key)key); i++) {
			if ((m->bits[key] & 1u << i) != 0) {
				fprintf(out, "%s\"%s\"", comma, words[key][i]);
				comma = ", ";
			}
		}
		fprintf(out, "]");
		comma = ", ";
	}
	if (m->inverse != NULL) {
		fprintf(out, "%s\"not\": ", comma);
		print_match(out, m->inverse);
	}
	fprintf(out, "}");
}

static struct policy *
policy_of_model(const struct model_rule *rules, size_t n)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	assert_non_null(out);
	fprintf(out, "{\"listeners\": [");
	for (unsigned i = 0; i < 3; i++)
		fprintf(out, "%s{\"name\": \"l%u\", \"listen\": \"127.0.0.1:%u\"}",
			i > 0 ? ", " : "", i, 1080 + i);
	fprintf(out, "], \"sets\": ["
		     "{\"name\": \"d0\", \"type\": \"domain\", \"values\": [\"a.example\", \"=c.test\"]},"
		     "{\"name\": \"d1\", \"type\": \"domain\", \"values\": [\"example\"]},"
		     "{\"name\": \"i0\", \"type\": \"ip\", \"values\": [\"10.0.0.0/8\"]},"
		     "{\"name\": \"i1\", \"type\": \"ip\", \"values\": [\"192.168.0.0/16\", \"2001:db8::/32\"]}], \"rules\": [");
	for (size_t i = 0; i < n; i++) {
		fprintf(out, "%s{\"match\": ", i > 0 ? ",\n" : "");
		print_match(out, rules[i].match);
		fprintf(out, ", \"resolve\": %s, \"route\": \"%s\"}",
			rules[i].resolve ? "true" : "false", rules[i].reject ? "reject" : "direct");
	}
	fprintf(out, "], \"default_route\": \"direct\"}");
	fclose(out);
	struct policy *p = test_policy(text);
	if (p == NULL)
		fail_msg("%s", text);
	free(text);
	return p;
}

struct model_view {
	const struct policy_request *r;
	const struct endpoint *addrs;
	size_t n_addrs;
	bool unknown;                  /* and the rule may ask */
};

static bool
is_below(const struct endpoint *to, const char *of)
{
	size_t n = to->name_len, m = strlen(of);
	return to->kind == ENDPOINT_NAME && n >= m && strcmp(to->name + n - m, of) == 0 &&
	       (n == m || to->name[n - m - 1] == '.');
}

static bool
in_prefix(const struct endpoint *e, const char *prefix)
{
	struct ip_prefix p;
	assert_null(ip_prefix_read(&p, prefix, strlen(prefix)));
	if (e->kind != p.kind)
		return false;
	for (unsigned i = 0; i < p.bits; i++) {
		if (((p.addr[i / 8] ^ e->addr[i / 8]) >> (7 - i % 8) & 1) != 0)
			return false;
	}
	return true;
}

static int
any_in_prefix(const struct model_view *v, const char *prefix)
{
	for (size_t i = 0; i < v->n_addrs; i++) {
		if (in_prefix(&v->addrs[i], prefix))
			return TRUTH_YES;
	}
	return v->unknown ? TRUTH_UNKNOWN : TRUTH_NO;
}

static int
model_in_set(const struct model_view *v, size_t set)
{
	const struct endpoint *to = v->r->to;
	int one, other;
	switch (set) {
	case 0:
		return is_below(to, "a.example") ||
			       (to->kind == ENDPOINT_NAME && strcmp(to->name, "c.test") == 0)
			   ? TRUTH_YES
			   : TRUTH_NO;
	case 1:
		return is_below(to, "example") ? TRUTH_YES : TRUTH_NO;
	case 2:
		return any_in_prefix(v, "10.0.0.0/8");
	default:
		one = any_in_prefix(v, "192.168.0.0/16");
		other = any_in_prefix(v, "2001:db8::/32");
		return one > other ? one : other;
	}
}

static int
model_word_holds(const struct model_view *v, enum model_key key, size_t i)
{
	const struct policy_request *r = v->r;
	const char *word = words[key][i];
	unsigned from, to;
	switch (key) {
	case M_LISTENER: return r->listener == i ? TRUTH_YES : TRUTH_NO;
	case M_PROTOCOL: return r->protocol == i + 1 ? TRUTH_YES : TRUTH_NO;
	case M_COMMAND: return r->command == i + 1 ? TRUTH_YES : TRUTH_NO;
	case M_PORT:
		assert_int_equal(sscanf(word, "%u-%u", &from, &to), 2);
		return from <= r->to->port && r->to->port <= to ? TRUTH_YES : TRUTH_NO;
	case M_CLIENT: return in_prefix(r->client, word) ? TRUTH_YES : TRUTH_NO;
	case M_USER: return r->user != NULL && strcmp(r->user, word) == 0 ? TRUTH_YES : TRUTH_NO;
	case M_USERID:
		return r->userid != NULL && strcmp(r->userid, word) == 0 ? TRUTH_YES : TRUTH_NO;
	case M_DOMAIN:
		return r->to->kind == ENDPOINT_NAME && strcmp(r->to->name, word) == 0 ? TRUTH_YES
										      : TRUTH_NO;
	case M_SUFFIX: return is_below(r->to, word) ? TRUTH_YES : TRUTH_NO;
	case M_KEYWORD:
		return r->to->kind == ENDPOINT_NAME && strstr(r->to->name, word) != NULL ? TRUTH_YES
											 : TRUTH_NO;
	case M_IP: return any_in_prefix(v, word);
	default: return model_in_set(v, i);
	}
}

/* TRUTH_NO, TRUTH_UNKNOWN or TRUTH_YES, which are in this order: all is the least, any the
 * greatest, not the other end. */
static int
model_holds(const struct model_match *m, const struct model_view *v)
{
	int all = TRUTH_YES;
	for (int key = 0; key < M_N; key++) {
		int any = m->bits[key] == 0 ? TRUTH_YES : TRUTH_NO;
		for (size_t i = 0; i < vocabulary((enum model_key)key); i++) {
			int holds = (m->bits[key] & 1u << i) != 0
					? model_word_holds(v, (enum model_key)key, i)
					: TRUTH_NO;
			any = holds > any ? holds : any;
		}
		all = any < all ? any : all;
	}
	if (m->inverse != NULL) {
		int inverse = TRUTH_YES - model_holds(m->inverse, v);
		all = inverse < all ? inverse : all;
	}
	return all;
}

/* Goes through all rules; each_rule: whether the rule holds, as explain would say. */
static int
model_decide(const struct model_rule *rules, size_t n, const struct policy_request *r,
	     bool *each_rule)
{
	bool is_name = r->to->kind == ENDPOINT_NAME, could = is_name && !r->resolve_failed;
	struct model_view v = { .r = r, .addrs = is_name ? NULL : r->to, .n_addrs = !is_name };
	int result = -1;
	for (size_t i = 0; i < n; i++) {
		v.unknown = could && rules[i].resolve;
		int holds = model_holds(rules[i].match, &v);
		if (holds == TRUTH_UNKNOWN && r->n_addrs > 0) {
			could = v.unknown = false;
			v.addrs = r->addrs;
			v.n_addrs = r->n_addrs;
			holds = model_holds(rules[i].match, &v);
		}
		each_rule[i] = holds == TRUTH_YES;
		if (result == -1 && holds == TRUTH_UNKNOWN)
			result = ASKS + (int)i;
		if (result == -1 && holds == TRUTH_YES)
			result = (int)i;
	}
	return result;
}

static bool
model_on_address(const struct model_match *m)
{
	return m->bits[M_IP] != 0 || (m->bits[M_SET] & 0xc) != 0 ||
	       (m->inverse != NULL && model_on_address(m->inverse));
}

static int
model_rejected(const struct model_rule *rules, size_t n, const struct policy_request *r,
	       const struct endpoint *address)
{
	struct model_view v = { .r = r, .addrs = address, .n_addrs = 1 };
	for (size_t i = 0; i < n && r->to->kind == ENDPOINT_NAME; i++) {
		if (rules[i].reject && model_on_address(rules[i].match) &&
		    model_holds(rules[i].match, &v) == TRUTH_YES)
			return (int)i;
	}
	return -1;
}

static const char *
pick(struct random *r, const char *const *list, size_t n)
{
	return list[random_below(r, (uint32_t)n)];
}

static void
random_request(struct random *r, struct test_request *q)
{
	char to[300], addrs[300] = "";
	const char *host = random_below(r, 3) > 0 ? pick(r, names, ARRAY_LEN(names))
						  : pick(r, addresses, ARRAY_LEN(addresses));
	snprintf(to, sizeof to, strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", host,
		 (unsigned)ports[random_below(r, ARRAY_LEN(ports))]);
	for (unsigned i = random_below(r, 2) ? random_below(r, 4) : 0; i > 0; i--) {
		strcat(addrs, pick(r, addresses, ARRAY_LEN(addresses)));
		strcat(addrs, " ");
	}
	assert_true(test_request_init(
	    q, to, random_below(r, 8) ? pick(r, addresses, ARRAY_LEN(addresses)) : NULL, addrs));
	q->r.listener = random_below(r, 5) ? random_below(r, 3) : UINT32_MAX;
	q->r.protocol = (uint8_t)random_below(r, PROTOCOL_N);
	q->r.command = (uint8_t)(1 + random_below(r, 3));
	q->r.user = random_below(r, 2) ? pick(r, words[M_USER], 3) : random_below(r, 2) ? "" : NULL;
	q->r.userid = random_below(r, 3) == 0 ? pick(r, words[M_USERID], 2) : NULL;
	q->r.resolve_failed = q->r.n_addrs == 0 && random_below(r, 3) == 0;
}

static void
compare(const struct policy *p, const struct model_rule *rules, size_t n,
	const struct test_request *q, const struct endpoint *address)
{
	char reason[1024], to[ENDPOINT_TEXT_MAX];
	bool each_rule[RULES_MAX];
	endpoint_to_text(&q->to, to, sizeof to);
	int want = model_decide(rules, n, &q->r, each_rule), got = outcome(p, &q->r);
	if (got != want)
		fail_msg("%s: %d, not %d, in\n%s", to, got, want, p->text);
	want = model_rejected(rules, n, &q->r, address);
	got = policy_address_rejected(p, &q->r, address);
	if (got != want)
		fail_msg("%s: rejected by %d, not %d, in\n%s", to, got, want, p->text);
	for (size_t i = 0; i < n; i++) {
		if (policy_rule_explain(p, i, &q->r, reason, sizeof reason) != each_rule[i])
			fail_msg("%s: rule %zu explained as %s, in\n%s", to, i, reason, p->text);
	}
}

static void
test_against_walk(void **state)
{
	(void)state;
	struct random r;
	random_seed(&r, 42);
	unsigned decided = 0, asked = 0, rejected = 0, total = 0;
	for (unsigned round = 0; round < 2000; round++) {
		struct model_rule rules[RULES_MAX];
		size_t n = 1 + random_below(&r, RULES_MAX);
		for (size_t i = 0; i < n; i++) {
			do
				random_match(&r, rules[i].match, 0);
			while (memcmp(rules[i].match[0].bits, (unsigned[M_N]){0},
				      sizeof rules[i].match[0].bits) == 0 &&
			       random_below(&r, 20) > 0);
			rules[i].resolve = random_below(&r, 3) == 0;
			rules[i].reject = random_below(&r, 2) == 0;
		}
		struct policy *p = policy_of_model(rules, n);
		for (unsigned k = 0; k < 20; k++) {
			struct test_request q;
			struct endpoint address = { .kind = ENDPOINT_NONE };
			const char *text = pick(&r, addresses, ARRAY_LEN(addresses));
			assert_true(test_host(&address, text, strlen(text)));
			random_request(&r, &q);
			compare(p, rules, n, &q, &address);
			int result = outcome(p, &q.r);
			total++;
			decided += result >= 0 && result < ASKS;
			asked += result >= ASKS;
			rejected += policy_address_rejected(p, &q.r, &address) >= 0;
		}
		policy_unref(p);
	}
	/* The walk has met all kinds of results, often. */
	assert_true(decided > total / 10 && asked > total / 40 && rejected > total / 20 &&
		    decided + asked < total);
}

/* ---- the index itself ---- */

static struct policy *
policy_of_printed(size_t n, void (*print)(FILE *out, size_t i))
{
	char *rules = NULL;
	size_t len;
	FILE *out = open_memstream(&rules, &len);
	assert_non_null(out);
	for (size_t i = 0; i < n; i++) {
		fprintf(out, i > 0 ? "," : "");
		print(out, i);
	}
	fclose(out);
	struct policy *p = policy_of_rules(rules);
	free(rules);
	return p;
}

static size_t
count_candidates(const struct policy *p, const struct policy_request *r)
{
	struct match_view view;
	struct candidates c;
	size_t n = 0;
	match_view_init(&view, p, r, rule_index_key(p->index));
	candidates_start(&c, p->index, RULES_ALL, &view);
	for (int last = -1, i; (i = candidates_next(&c)) >= 0; last = i, n++)
		assert_true(i > last);
	return n;
}

static void
print_pair(FILE *out, size_t i)
{
	fprintf(
	    out,
	    "{\"match\": {\"command\": [\"connect\"], \"listener\": [\"front\"], \"port\": "
	    "[\"1-65534\"],"
	    "\"domain_suffix\": [\"d%zu.example\"], \"user\": [\"u%zu\"]}, \"route\": \"direct\"}",
	    i % 10, i);
}

/* Of keys that all rules share, that few do and that none does, the last is the one to look under. */
static void
test_most_selective_key(void **state)
{
	(void)state;
	struct test_request q;
	struct policy *p = policy_of_printed(1000, print_pair);
	assert_true(test_request_init(&q, "d7.example:80", NULL, NULL));
	q.r.user = "u17";
	assert_int_equal(count_candidates(p, &q.r), 1);
	assert_int_equal(outcome(p, &q.r), 17);
	q.r.user = "u18";
	assert_int_equal(count_candidates(p, &q.r), 1);
	assert_int_equal(outcome(p, &q.r), -1);
	assert_true(rule_index_bytes(p->index) < 1000 * 200);
	policy_unref(p);
}

static void
print_range(FILE *out, size_t i)
{
	fprintf(out, "{\"match\": {\"port\": [\"%zu-%zu\"]}, \"route\": \"direct\"}", 65535 - i * 64 - 63, 65535 - i * 64);
}

static void
test_port_ranges(void **state)
{
	(void)state;
	struct policy *p = policy_of_printed(1000, print_range);
	for (unsigned port = 65535; port > 65535 - 1000 * 64; port -= 7) {
		struct test_request q;
		char to[32];
		snprintf(to, sizeof to, "a.example:%u", port);
		assert_true(test_request_init(&q, to, NULL, NULL));
		assert_int_equal(count_candidates(p, &q.r), 1);
		assert_int_equal(outcome(p, &q.r), (65535 - port) / 64);
	}
	policy_unref(p);
}

static void
print_nested(FILE *out, size_t i)
{
	if (i < 129)
		fprintf(out, "{\"match\": {\"ip_cidr\": [\"2001:db8::1/%zu\"], \"port\": [\"%zu-65535\"]}, \"route\": \"direct\"}", 128 - i, i + 1);
	else
		fprintf(out, "{\"match\": {\"client_cidr\": [\"2001:db8::1/%zu\"], \"user\": [\"nobody\", \"u%zu\"]}, \"route\": \"direct\"}",
		    257 - i, i % 7);
}

/* Every prefix length at once: more lists than are merged, so all rules are gone through. The
 * answers are the same. */
static void
test_too_many_lists(void **state)
{
	(void)state;
	struct policy *p = policy_of_printed(258, print_nested);
	struct test_request q;
	assert_true(test_request_init(&q, "[2001:db8::1]:1", "2001:db8::1", NULL));
	assert_int_equal(outcome(p, &q.r), 0);
	assert_true(test_request_init(&q, "[2001:db8::8000:0:0:1]:50", "2001:db8::1", NULL));
	assert_int_equal(outcome(p, &q.r), -1);
	q.r.user = "u3";
	q.to.port = 100;
	assert_int_equal(outcome(p, &q.r), 64);
	assert_int_equal(policy_address_rejected(p, &q.r, &q.to), -1);
	policy_unref(p);
}

/* ---- threads ---- */

static void *
decide_often(void *arg)
{
	const struct policy *p = arg;
	uintptr_t wrong = 0;
	for (unsigned i = 0; i < 2000; i++) {
		struct test_request q;
		wrong += !test_request_init(&q, i % 2 ? "a.ads.example:80" : "a.example:80", NULL,
					    i % 4 ? "10.0.0.1" : NULL);
		struct policy_decision d;
		policy_decide(p, &q.r, &d);
		wrong += i % 2
			     ? d.rule != 0
			     : d.kind != (i % 4 ? DECIDED : DECIDE_NEEDS_ADDRESSES) || d.rule != 1;
		wrong += policy_address_rejected(p, &q.r, &q.addrs[0]) != (i % 4 ? 1 : -1);
	}
	return (void *)wrong;
}

/* Nothing is written after loading: any number of threads may share a policy (run it under
 * ThreadSanitizer). */
static void
test_threads(void **state)
{
	(void)state;
	pthread_t threads[4];
	struct policy *p = policy_of_rules("{\"match\": {\"set\": [\"ads\"]}, \"route\": \"direct\"},"
					   "{\"match\": {\"set\": [\"lan\"]}, \"resolve\": true, \"route\": \"reject\"}");
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, decide_often, p), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
		void *wrong = NULL;
		assert_int_equal(pthread_join(threads[i], &wrong), 0);
		assert_null(wrong);
	}
	policy_unref(p);
}

/* ---- what is rejected whatever the destination ---- */

static bool
rejects(const struct policy *p, struct policy_route route)
{
	(void)p;
	return route.kind == ROUTE_REJECT;
}

static void
test_rejects_all(void **state)
{
	static const struct {
		const char *text;
		bool want;
	} rules[] = {
		{ "{\"route\": \"direct\"}", false },
		{ "{\"route\": \"reject\"}", true },
		{ "{\"match\": {\"port\": [53]}, \"route\": \"reject\"}", false },
		{ "{\"match\": {\"command\": [\"udp\"]}, \"route\": \"reject\"}", true },
		{ "{\"match\": {\"command\": [\"connect\"]}, \"route\": \"reject\"}", false },
		{ "{\"match\": {\"user\": [\"al\"], \"listener\": [\"front\"]}, \"route\": \"reject\"}", true },
		{ "{\"match\": {\"user\": [\"bo\"]}, \"route\": \"reject\"}", false },
		{ "{\"match\": {\"port\": [53]}, \"route\": \"direct\"}, {\"route\": \"reject\"}", false },
		{ "{\"match\": {\"port\": [53]}, \"route\": \"reject\"}, {\"route\": \"reject\"}", true },
		{ "{\"match\": {\"not\": {\"port\": [53]}}, \"route\": \"paris\"}, {\"route\": \"reject\"}", false },
		{ "{\"match\": {\"user\": [\"bo\"]}, \"route\": \"paris\"}, {\"route\": \"reject\"}", true },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		struct test_request q;
		struct policy *p = policy_of_rules(rules[i].text);
		assert_true(test_request_init(&q, "192.0.2.1:1", "10.0.0.1", NULL));
		q.r.command = SOCKS_UDP;
		q.r.user = "al";
		if (policy_every_route(p, &q.r, rejects) != rules[i].want)
			fail_msg("%s", rules[i].text);
		policy_unref(p);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_rejects_all),
		cmocka_unit_test(test_no_addresses),
		cmocka_unit_test(test_dialled),
		cmocka_unit_test(test_split_user),
		cmocka_unit_test(test_against_walk),
		cmocka_unit_test(test_most_selective_key),
		cmocka_unit_test(test_port_ranges),
		cmocka_unit_test(test_too_many_lists),
		cmocka_unit_test(test_threads),
	};
	hash_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
