/*
 * Tests of policy_load: what a sound document becomes, and that no cut or change of one does harm.
 * See test_policy_faults.c for what is said of the others.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include "marked.h"
#include "policy/policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char everything[] =
    "{\"$schema\": \"./sockroute.schema.json\", \"comment\": \"all keys\", \"workers\": 3,\n"
    "\"log\": {\"level\": \"debug\", \"format\": \"json\", \"access\": false, \"comment\": "
    "\"x\"},\n"
    "\"listeners\": [{\"name\": \"front\", \"listen\": \"localhost:1080\", \"protocols\": "
    "[\"socks5\", \"http\"]},\n"
    " {\"listen\": \"0.0.0.0:1081\", \"auth\": \"staff\", \"max_connections\": 7, "
    "\"max_connections_per_client\": 2},\n"
    " {\"listen\": \"unix:door\"}, {\"listen\": \"[::]:1082\", \"allow_open\": true}],\n"
    "\"auth\": [{\"name\": \"staff\", \"methods\": [\"userpass\"], \"users_file\": "
    "\"users.json\",\n"
    "  \"users\": [{\"name\": \"zoe\", \"password_hash\": \"" MARKED_HASH
    "\"}, {\"name\": \"al\", \"password_hash\": \"" MARKED_HASH "\"}]}],\n"
    "\"admin\": {\"listen\": \"0.0.0.0:9080\", \"token_file\": \"secret\"},\n"
    "\"dns\": {\"servers\": [\"192.0.2.53\", \"[2001:db8::53]:5353\"], \"timeout\": \"1500ms\", "
    "\"attempts\": 3, \"family\": \"ipv6_only\",\n"
    "  \"hosts\": {\"comment\": \"ours\", \"DB.internal.\": [\"10.0.0.5\", \"::1\"]},\n"
    "  \"rules\": [{\"domain_suffix\": [\".Corp.example\"], \"servers\": [\"10.0.0.53\"]}],\n"
    "  \"cache\": {\"max_entries\": 5, \"min_ttl\": \"1s\", \"max_ttl\": \"2m\", \"negative_ttl\": "
    "\"0s\"}},\n"
    "\"upstreams\": [{\"name\": \"paris\", \"url\": \"socks5h://al%69ce:s%40crt@192.0.2.10\", "
    "\"max_connections\": 500},\n"
    " {\"name\": \"tokyo\", \"url\": \"socks5+tls://Tokyo.example.:1443\", \"username\": "
    "\"{user}\", \"password_file\": \"secret\",\n"
    "   \"tls\": {\"server_name\": \"t.example\", \"verify\": false}},\n"
    " {\"name\": \"corp\", \"url\": \"https://[2001:db8::1]\", \"source_address\": "
    "\"2001:db8::2\", \"interface\": \"eth1\", \"mark\": 9},\n"
    " {\"name\": \"old\", \"url\": \"socks4://fred@192.0.2.30:1\"}, {\"name\": \"link\", \"url\": "
    "\"direct://\", \"mark\": 4294967295},\n"
    " {\"name\": \"local\", \"url\": \"http://10.0.0.1\", \"resolve\": \"local\"}],\n"
    "\"pools\": [{\"name\": \"abroad\", \"members\": [\"paris\", {\"name\": \"tokyo\", \"weight\": "
    "3}, {\"name\": \"old\", \"tier\": 1}],\n"
    "   \"balance\": \"least_connections\", \"retry\": {\"attempts\": 4},\n"
    "   \"health\": {\"check\": \"tunnel\", \"target\": \"example.com:80\", \"interval\": \"5s\", "
    "\"timeout\": \"1s\", \"rise\": 1, \"fall\": 9,"
    "     \"jitter\": \"0%\"}},\n"
    " {\"name\": \"plain\", \"members\": [\"inner\", \"direct\"]}, {\"name\": \"inner\", "
    "\"members\": [\"link\", \"old\", \"local\"]}],\n"
    "\"chains\": [{\"name\": \"far\", \"hops\": [\"corp\", \"abroad\", \"corp\"]}, {\"name\": "
    "\"far4\", \"hops\": [\"far\", \"old\"]}],\n"
    "\"sets\": [{\"name\": \"lan\", \"type\": \"ip\", \"values\": [\"10.0.0.0/8\", "
    "\"fc00::/7\"]},\n"
    "  {\"name\": \"ads\", \"type\": \"domain\", \"file\": \"ads.txt\"}],\n"
    "\"rules\": [{\"name\": \"lan\", \"match\": {\"set\": [\"lan\"]}, \"route\": \"direct\", "
    "\"resolve\": true},\n"
    "  {\"match\": {\"listener\": [\"listener-2\"]}, \"route\": \"reject\"}, {\"route\": "
    "\"far4\"}],\n"
    "\"default_route\": \"abroad\", \"limits\": {\"max_connections\": 100000},\n"
    "\"timeouts\": {\"handshake\": \"1s\", \"connect\": \"2s\", \"bind\": \"0s\", \"idle\": "
    "\"1h\", \"drain\": \"4s\", \"udp_idle\": \"5s\"}}";

static void
check_text(const struct endpoint *e, const char *want)
{
	char text[ENDPOINT_TEXT_MAX];
	assert_string_equal(endpoint_to_text(e, text, sizeof text), want);
}

static void
check_front(const struct policy *p)
{
	char path[300];
	assert_int_equal(p->n_listeners, 4);
	assert_string_equal(p->listeners[0].name, "front");
	check_text(&p->listeners[0].listen, "127.0.0.1:1080");
	assert_string_equal(p->listeners[0].listen_text, "localhost:1080");
	assert_int_equal(
	    p->listeners[0].protocols, PROTOCOL_BIT(PROTOCOL_SOCKS5) | PROTOCOL_BIT(PROTOCOL_HTTP));
	assert_int_equal(p->listeners[0].auth, -1);
	assert_string_equal(p->listeners[1].name, "listener-1");
	assert_int_equal(p->listeners[1].auth, 0);
	assert_int_equal(p->listeners[1].max_connections, 7);
	assert_int_equal(p->listeners[1].max_connections_per_client, 2);
	assert_int_equal(p->listeners[1].protocols, PROTOCOL_BIT(PROTOCOL_SOCKS4) |
	                                                PROTOCOL_BIT(PROTOCOL_SOCKS4A) |
	                                                PROTOCOL_BIT(PROTOCOL_SOCKS5));
	snprintf(path, sizeof path, "%s/door", marked_dir());
	assert_string_equal(p->listeners[2].unix_path, path);
	assert_int_equal(p->listeners[2].listen.kind, ENDPOINT_NONE);
	assert_true(p->listeners[3].allow_open);
	assert_true(p->admin.enabled);
	assert_string_equal(p->admin.token, "s3cret");
	assert_int_equal(p->auths[0].methods, AUTH_USERPASS);
	assert_int_equal(p->auths[0].n_users, 3);
	assert_string_equal(policy_find_user(&p->auths[0], "bob")->password_hash, MARKED_HASH);
	assert_string_equal(policy_find_user(&p->auths[0], "al")->name, "al");
	assert_string_equal(policy_find_user(&p->auths[0], "zoe")->name, "zoe");
	assert_null(policy_find_user(&p->auths[0], "carol"));
}

/* By name, where no network before has the address; a name is asked for only where it can decide. */
static void
test_networks_by_name(void **state)
{
	struct policy *p = marked_load_sound(
	    "{\"auth\": [{\"name\": \"a\", \"methods\": [\"ident\"], \"networks\": ["
	    "{\"ip_cidr\": [\"10.1.0.0/16\"]}, "
	    "{\"domain\": [\"B.Example.\", \"a.example\"], \"domain_suffix\": [\".lab.test\"]}, "
	    "{\"ip_cidr\": [\"10.2.0.0/16\"]}, {\"domain_suffix\": [\"test\"], \"ip_cidr\": [\"10.3.0.0/16\"]}]}], "
	    "\"default_route\": \"direct\"}");
	const struct policy_auth *a = &p->auths[0];
	static const struct {
		const char *client, *name;
		int network;   /* -2: its name is wanted */
	} cases[] = {
		{ "10.1.0.1:5", NULL, 0 },       { "10.1.0.1:5", "a.example", 0 },   { "10.9.0.1:5", NULL, -2 },
		{ "10.2.0.1:5", NULL, -2 },      { "10.2.0.1:5", "", 2 },            { "10.2.0.1:5", "a.example", 1 },
		{ "10.9.0.1:5", "b.example", 1 }, { "10.9.0.1:5", "x.b.example", -1 }, { "10.9.0.1:5", "lab.test", 1 },
		{ "10.9.0.1:5", "x.y.lab.test", 1 }, { "10.9.0.1:5", "xlab.test", 3 },  { "10.9.0.1:5", "test", 3 },
		{ "10.9.0.1:5", "atest", -1 },   { "10.9.0.1:5", "", -1 },           { "10.3.0.1:5", "", 3 },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct endpoint at;
		bool wants_name;
		assert_int_equal(endpoint_from_text(&at, cases[i].client, strlen(cases[i].client)), ENDPOINT_OK);
		const struct policy_network *n = policy_find_network(a, &at, cases[i].name, &wants_name);
		int got = n != NULL ? (int)(n - a->networks) : wants_name ? -2 : -1;
		if (got != cases[i].network)
			fail_msg("%s, %s: %d", cases[i].client, cases[i].name != NULL ? cases[i].name : "?", got);
	}
	policy_unref(p);
}

static void
test_networks(void **state)
{
	struct policy *p = marked_load_sound(
	    "{\"auth\": [{\"name\": \"a\", \"methods\": [\"ident\"], \"networks\": ["
	    "{\"ip_cidr\": [\"10.1.0.0/16\", \"::1\"], \"users\": [\"zoe\", \"bob\"]}, "
	    "{\"ip_cidr\": [\"10.0.0.0/8\"]}], \"ident\": {\"timeout\": \"250ms\"}}], "
	    "\"default_route\": \"direct\"}");
	const struct policy_auth *a = &p->auths[0];
	static const struct {
		const char *client;
		int network;
	} clients[] = { { "10.1.255.1:5", 0 }, { "[::1]:5", 0 }, { "10.2.0.1:5", 1 },
		{ "11.0.0.1:5", -1 }, { "[::2]:5", -1 } };
	struct endpoint at;
	bool wants_name;
	(void)state;
	assert_int_equal(a->methods, AUTH_IDENT);
	assert_int_equal(a->ident_timeout_ms, 250);
	for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
		assert_int_equal(
		    endpoint_from_text(&at, clients[i].client, strlen(clients[i].client)),
		    ENDPOINT_OK);
		assert_ptr_equal(policy_find_network(a, &at, NULL, &wants_name),
		    clients[i].network < 0 ? NULL : &a->networks[clients[i].network]);
	}
	at = (struct endpoint){ .kind = ENDPOINT_NONE };
	assert_null(policy_find_network(a, &at, NULL, &wants_name));
	assert_false(wants_name);
	assert_true(policy_network_has_user(&a->networks[0], "bob"));
	assert_true(policy_network_has_user(&a->networks[0], "zoe"));
	assert_false(policy_network_has_user(&a->networks[0], "bo"));
	assert_false(policy_network_has_user(&a->networks[0], ""));
	assert_false(a->networks[0].anybody);
	assert_true(a->networks[1].anybody);
	assert_false(policy_network_has_user(&a->networks[1], "bob"));
	policy_unref(p);
}

static void
check_dns(const struct policy_dns *d)
{
	assert_int_equal(d->n_servers, 2);
	check_text(&d->servers[0], "192.0.2.53:53");
	check_text(&d->servers[1], "[2001:db8::53]:5353");
	assert_int_equal(d->timeout_ms, 1500);
	assert_int_equal(d->attempts, 3);
	assert_int_equal(d->family, DNS_IPV6_ONLY);
	assert_int_equal(d->n_hosts, 1);
	assert_string_equal(d->hosts[0].name, "db.internal");
	assert_int_equal(d->hosts[0].n_addrs, 2);
	assert_string_equal(d->rules[0].suffixes[0], "corp.example");
	assert_int_equal(d->cache_max_entries, 5);
	assert_int_equal(d->cache_min_ttl_ms, 1000);
	assert_int_equal(d->cache_max_ttl_ms, 120000);
	assert_int_equal(d->cache_negative_ttl_ms, 0);
}

static void
check_upstreams(const struct policy_upstream *u)
{
	assert_string_equal(u[0].url, "socks5h://al%69ce:***@192.0.2.10");
	assert_int_equal(u[0].scheme, SCHEME_SOCKS5);
	check_text(&u[0].at, "192.0.2.10:1080");
	assert_string_equal(u[0].username, "alice");
	assert_string_equal(u[0].password, "s@crt");
	assert_false(u[0].per_client_credentials);
	assert_int_equal(u[0].max_connections, 500);
	assert_int_equal(u[1].scheme, SCHEME_SOCKS5_TLS);
	check_text(&u[1].at, "tokyo.example:1443");
	assert_string_equal(u[1].password, "s3cret");
	assert_true(u[1].per_client_credentials);
	assert_string_equal(u[1].tls.server_name, "t.example");
	assert_false(u[1].tls.verify);
	check_text(&u[2].at, "[2001:db8::1]:443");
	assert_true(u[2].tls.verify);
	assert_string_equal(u[2].interface, "eth1");
	assert_int_equal(u[2].source.kind, ENDPOINT_IPV6);
	assert_int_equal(u[2].mark, 9);
	assert_null(u[3].password);
	assert_int_equal(u[4].scheme, SCHEME_DIRECT);
	assert_int_equal(u[4].at.kind, ENDPOINT_NONE);
	assert_true(u[5].resolve_local);
	check_text(&u[5].at, "10.0.0.1:1080");
}

static void
check_pools(const struct policy *p)
{
	const struct policy_pool *abroad = &p->pools[0];
	assert_int_equal(abroad->n_members, 3);
	assert_int_equal(abroad->members[0].weight, 1);
	assert_int_equal(abroad->members[1].weight, 3);
	assert_int_equal(abroad->members[2].tier, 1);
	assert_int_equal(abroad->members[2].route.kind, ROUTE_UPSTREAM);
	assert_int_equal(abroad->members[2].route.index, 3);
	assert_int_equal(abroad->balance, BALANCE_LEAST_CONNECTIONS);
	assert_int_equal(abroad->retry_attempts, 4);
	assert_int_equal(abroad->health.check, HEALTH_TUNNEL);
	check_text(&abroad->health.target, "example.com:80");
	assert_int_equal(abroad->health.interval_ms, 5000);
	assert_int_equal(abroad->health.fall, 9);
	assert_int_equal(abroad->health.jitter_percent, 0);
	assert_int_equal(p->pools[1].retry_attempts, 2);
	assert_int_equal(p->pools[1].health.check, HEALTH_NONE);
	assert_int_equal(p->pools[1].members[1].route.kind, ROUTE_DIRECT);
	assert_int_equal(p->chains[1].hops[0].kind, ROUTE_CHAIN);
	assert_int_equal(p->chains[1].hops[0].index, 0);
}

/* Each route's name, and whether a name must be resolved before it can be sent along. */
static void
check_routes(const struct policy *p)
{
	static const struct {
		const char *name;
		bool needs_addresses;
	} routes[] = {
		{ "direct", true },
		{ "reject", false },
		{ "paris", false },
		{ "old", true },
		{ "link", true },
		{ "local", true },
		{ "abroad", false },
		{ "inner", true },
		{ "plain", true },
		{ "far", false },
		{ "far4", true },
	};
	struct policy_route r;
	for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
		assert_true(policy_find_route(p, routes[i].name, &r));
		assert_string_equal(policy_route_name(p, r), routes[i].name);
		assert_int_equal(policy_route_needs_addresses(p, r), routes[i].needs_addresses);
	}
	assert_false(policy_find_route(p, "lan", &r));
	assert_string_equal(policy_route_name(p, p->default_route), "abroad");
}

static void
test_every_key(void **state)
{
	(void)state;
	struct policy *p = marked_load_sound(everything);
	assert_int_equal(p->workers, 3);
	assert_int_equal(p->log.level, LOG_DEBUG);
	assert_int_equal(p->log.format, LOG_JSON);
	assert_false(p->log.access);
	check_front(p);
	check_dns(&p->dns);
	check_upstreams(p->upstreams);
	check_pools(p);
	check_routes(p);
	assert_int_equal(p->sets[0].n_entries, 2);
	assert_int_equal(p->sets[1].n_entries, 2);
	assert_string_equal(p->rules[1].name, "rule-1");
	assert_true(p->rules[0].resolve);
	assert_null(p->rules[2].match);
	assert_string_equal(p->rules[2].route_name, "far4");
	assert_int_equal(p->limits.max_connections, 100000);
	assert_int_equal(p->timeouts.bind_ms, 0);
	assert_int_equal(p->timeouts.udp_idle_ms, 5000);
	assert_int_equal(strlen(p->etag), 16);
	assert_int_equal(p->text_len, strlen(everything));
	assert_memory_equal(p->text, everything, p->text_len);
	struct policy *same = policy_ref(p);
	policy_unref(p);
	assert_string_equal(same->source, "test");
	policy_unref(same);
	policy_unref(NULL);
}

/* Every cut of it is a clear error: no crash, no leak, nothing half-loaded. */
static void
test_every_cut(void **state)
{
	(void)state;
	char *text = strdup(everything);
	assert_non_null(text);
	for (size_t len = strlen(everything) - 1; len > 0; len--) {
		struct policy_errors errors;
		text[len] = '\0';
		assert_null(marked_load(text, NULL, &errors));
		assert_true(errors.n > 0);
		policy_errors_free(&errors);
	}
	free(text);
}

/* One value after the other becomes another: nothing but an error or a policy may come of it. */
static void
test_every_value_replaced(void **state)
{
	(void)state;
	static const char *const others[] = { "null", "-1", "\"x\"", "[]", "{}", "[null]",
		"{\"a\":1}", "18446744073709551615" };
	for (const char *at = strchr(everything, ':'); at != NULL; at = strchr(at + 1, ':')) {
		for (size_t i = 0; i < ARRAY_LEN(others); i++) {
			struct policy_errors errors;
			size_t head = (size_t)(at + 1 - everything), tail = strcspn(at + 1, ",}]");
			char *text = malloc(strlen(everything) + 64);
			assert_non_null(text);
			sprintf(text, "%.*s%s%s", (int)head, everything, others[i], at + 1 + tail);
			struct policy *p = marked_load(text, NULL, &errors);
			assert_true((p == NULL) == (errors.n > 0));
			policy_unref(p);
			policy_errors_free(&errors);
			free(text);
		}
	}
}

static void
test_defaults(void **state)
{
	(void)state;
	struct policy *p = marked_load_sound("{\"default_route\": \"reject\"}");
	assert_int_equal(p->default_route.kind, ROUTE_REJECT);
	assert_int_equal(p->log.level, LOG_INFO);
	assert_true(p->log.access);
	assert_false(p->admin.enabled);
	assert_int_equal(p->dns.timeout_ms, 2000);
	assert_int_equal(p->dns.attempts, 2);
	assert_int_equal(p->dns.cache_max_entries, 10000);
	assert_int_equal(p->dns.cache_max_ttl_ms, 3600000);
	assert_int_equal(p->dns.cache_negative_ttl_ms, 10000);
	assert_int_equal(p->timeouts.handshake_ms, 10000);
	assert_int_equal(p->timeouts.connect_ms, 10000);
	assert_int_equal(p->timeouts.bind_ms, 120000);
	assert_int_equal(p->timeouts.idle_ms, 600000);
	assert_int_equal(p->timeouts.drain_ms, 30000);
	assert_int_equal(p->timeouts.udp_idle_ms, 60000);
	policy_unref(p);
}

/* What DNS, other hops and certificates know; the URL is shown as it was written. */
static void
test_names_in_other_scripts(void **state)
{
	(void)state;
	struct policy *p = marked_load_sound(
	    "{\"upstreams\": [{\"name\": \"u\", \"url\": \"https://B\xc3\xbc" "cher.example:99\", "
	    "\"tls\": {\"server_name\": \"G\\u00f6tt.example\"}}], \"default_route\": \"u\"}");
	check_text(&p->upstreams[0].at, "xn--bcher-kva.example:99");
	assert_string_equal(p->upstreams[0].url, "https://B\xc3\xbc" "cher.example:99");
	assert_string_equal(p->upstreams[0].tls.server_name, "xn--gtt-sna.example");
	policy_unref(p);
}

static void
test_document_of_the_command_line(void **state)
{
	(void)state;
	static const char *const listen[] = { "127.0.0.1:5", "unix:/tmp/\"x\"" }, *const urls[] = {
		"socks5://a:1", "http://b:2"
	};
	char *text = policy_default_text(NULL, 0, NULL, 0, NULL);
	struct policy *p = marked_load_sound(text);
	check_text(&p->listeners[0].listen, "127.0.0.1:1080");
	check_text(&p->admin.listen, "127.0.0.1:9080");
	assert_int_equal(p->default_route.kind, ROUTE_DIRECT);
	policy_unref(p);
	free(text);
	text = policy_default_text(listen, 2, urls, 1, "127.0.0.1:6");
	p = marked_load_sound(text);
	assert_int_equal(p->n_listeners, 2);
	assert_string_equal(p->listeners[1].unix_path, "/tmp/\"x\"");
	assert_int_equal(p->default_route.kind, ROUTE_UPSTREAM);
	check_text(&p->admin.listen, "127.0.0.1:6");
	policy_unref(p);
	free(text);
	text = policy_default_text(listen, 2, urls, 2, "off");
	p = marked_load_sound(text);
	assert_false(p->admin.enabled);
	assert_int_equal(p->default_route.kind, ROUTE_POOL);
	assert_int_equal(p->pools[0].n_members, 2);
	policy_unref(p);
	free(text);
}

static void
test_files(void **state)
{
	(void)state;
	char path[300];
	struct policy_errors errors;
	marked_write_file("policy.json", "{\"sets\": [{\"name\": \"ads\", \"type\": \"domain\", "
	                                 "\"file\": \"ads.txt\"}], \"default_route\": \"direct\"}");
	snprintf(path, sizeof path, "%s/policy.json", marked_dir());
	policy_errors_init(&errors);
	struct policy *p = policy_load_file(path, NULL, &errors);
	assert_non_null(p);
	assert_string_equal(p->source, path);
	assert_string_equal(p->dir, marked_dir());
	policy_unref(p);
	snprintf(path, sizeof path, "%s/absent.json", marked_dir());
	assert_null(policy_load_file(path, NULL, &errors));
	assert_null(policy_load_file(marked_dir(), NULL, &errors));
	assert_int_equal(errors.n, 2);
	assert_string_equal(errors.list[0].pointer, "");
	assert_int_equal(errors.list[0].line, 0);
	assert_non_null(strstr(errors.list[0].message, "No such file"));
	policy_errors_free(&errors);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_networks), cmocka_unit_test(test_networks_by_name),
		cmocka_unit_test(test_every_key),
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_every_value_replaced),
		cmocka_unit_test(test_defaults), cmocka_unit_test(test_names_in_other_scripts),
		cmocka_unit_test(test_document_of_the_command_line),
		cmocka_unit_test(test_files),
	};
	return cmocka_run_group_tests(tests, marked_make_files, marked_remove_files);
}
