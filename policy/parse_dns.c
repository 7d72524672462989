/*
 * parse_dns: which name servers are asked for what, fixed hosts, and the cache.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/sections.h"

#include "policy/domain_set.h"

enum { DNS_PORT = 53, CACHE_ENTRIES_MAX = 10000000, ATTEMPTS_MAX = 10 };

#define MINUTES (60u * 1000)
#define HOURS (60 * MINUTES)

/* "192.0.2.53", "2001:db8::53", "192.0.2.53:5353", "[2001:db8::53]:5353". */
static bool
read_server(struct parse_context *c, const struct json_value *v, struct endpoint *out)
{
	memset(out, 0, sizeof *out);
	if (v->type == SCAN_STRING && !v->faulty) {
		if (endpoint_set_host(out, v->text, v->text_len) == ENDPOINT_OK &&
		    endpoint_is_address(out)) {
			out->port = DNS_PORT;
			return true;
		}
		if (endpoint_from_text(out, v->text, v->text_len) == ENDPOINT_OK &&
		    endpoint_is_address(out) && out->port > 0)
			return true;
	}
	parse_error_expected(c, v, "an address such as \"192.0.2.53\" or \"[2001:db8::53]:5353\"");
	return false;
}

typedef bool read_endpoint_fn(
    struct parse_context *c, const struct json_value *v, struct endpoint *out);

/* A list of endpoints, not empty, none twice. */
static bool
read_endpoints(struct parse_context *c, const struct json_value *v, const char *of_what,
    read_endpoint_fn *read, struct endpoint **list, size_t *n)
{
	bool ok = parse_is_list(c, v, of_what);
	if (!ok || (*list = parse_take(c, v->n, sizeof **list)) == NULL)
		return false;
	for (const struct json_value *e = v->first; e != NULL; e = e->next) {
		struct endpoint *at = &(*list)[*n];
		if (!read(c, e, at)) {
			ok = false;
			continue;
		}
		for (size_t i = 0; i < *n; i++)
			if (endpoint_equal(at, &(*list)[i])) {
				parse_error(c, e, "found \"%s\" twice, expected each address once",
				    e->text);
				ok = false;
			}
		++*n;
	}
	return ok;
}

static bool
read_servers(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_dns *d = object;
	return read_endpoints(c, v, "name servers", read_server, &d->servers, &d->n_servers);
}

/* ---- hosts ---- */

static bool
read_host(struct parse_context *c, const struct json_value *v, struct policy_dns_host *host)
{
	struct endpoint name;
	const char *wrong = domain_read(&name, v->key, strlen(v->key));
	if (wrong != NULL) {
		parse_error_at_key(c, v, "expected a host name as the key: %s", wrong);
		return false;
	}
	if ((host->name = arena_copy_text(c->arena, name.name, name.name_len)) == NULL) {
		parse_error_memory(c);
		return false;
	}
	return read_endpoints(c, v, "addresses", parse_address, &host->addrs, &host->n_addrs);
}

static int
by_host_name(const void *a, const void *b)
{
	return strcmp(
	    ((const struct policy_dns_host *)a)->name, ((const struct policy_dns_host *)b)->name);
}

/* Keys that are spelled differently and mean the same. */
static bool
check_hosts(struct parse_context *c, const struct json_value *v, const struct policy_dns *d)
{
	bool ok = true;
	for (size_t i = 1; i < d->n_hosts; i++) {
		if (strcmp(d->hosts[i - 1].name, d->hosts[i].name) != 0)
			continue;
		parse_error(c, v,
		    "found the host \"%s\" twice (upper case and a trailing dot make no "
		    "difference), expected each once",
		    d->hosts[i].name);
		ok = false;
	}
	return ok;
}

static bool
read_hosts(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_dns *d = object;
	bool ok = true;
	if (v->type != SCAN_OBJECT) {
		parse_error_expected(c, v, "an object of host names, each with its addresses");
		return false;
	}
	if ((d->hosts = parse_take(c, v->n, sizeof *d->hosts)) == NULL)
		return false;
	for (const struct json_value *e = v->first; e != NULL; e = e->next) {
		if (strcmp(e->key, "comment") == 0 && e->type == SCAN_STRING)
			continue;
		if (read_host(c, e, &d->hosts[d->n_hosts]))
			d->n_hosts++;
		else
			ok = false;
	}
	qsort(d->hosts, d->n_hosts, sizeof *d->hosts, by_host_name);
	return check_hosts(c, v, d) && ok;
}

/* ---- rules ---- */

static bool
read_suffixes(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_dns_rule *r = object;
	struct endpoint name;
	bool ok = parse_is_list(c, v, "domain names");
	if (!ok || (r->suffixes = parse_take(c, v->n, sizeof *r->suffixes)) == NULL)
		return false;
	for (const struct json_value *e = v->first; e != NULL; e = e->next) {
		bool sound = e->type == SCAN_STRING && !e->faulty;
		size_t dot = sound && *e->text == '.';
		const char *wrong =
		    sound ? domain_read(&name, e->text + dot, e->text_len - dot) : NULL;
		if (wrong != NULL)
			parse_error(c, e, "expected a domain name: %s", wrong);
		else if (!sound)
			parse_error_expected(c, e, "a domain name");
		else if ((r->suffixes[r->n_suffixes] =
		                 arena_copy_text(c->arena, name.name, name.name_len)) != NULL)
			r->n_suffixes++;
		else
			parse_error_memory(c);
	}
	return r->n_suffixes == v->n;
}

static bool
read_rule_servers(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_dns_rule *r = object;
	return read_endpoints(c, v, "name servers", read_server, &r->servers, &r->n_servers);
}

static const struct parse_field rule_fields[] = {
	{ .key = "domain_suffix",
	    .kind = PARSE_CUSTOM,
	    .flags = PARSE_REQUIRED,
	    .read = read_suffixes },
	{ .key = "servers",
	    .kind = PARSE_CUSTOM,
	    .flags = PARSE_REQUIRED,
	    .read = read_rule_servers },
};

static bool
read_rule(struct parse_context *c, const struct json_value *v, void *object)
{
	return parse_object(c, v, rule_fields, ARRAY_LEN(rule_fields), object);
}

static bool
read_rules(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_dns *d = object;
	void *list = NULL;
	bool ok = parse_list(c, v, "rules", sizeof *d->rules, read_rule, &list, &d->n_rules);
	d->rules = list;
	return ok;
}

/* ---- the block ---- */

static bool
read_timeout(struct parse_context *c, const struct json_value *v, void *object)
{
	static const struct parse_field field = {
		.key = "timeout", .kind = PARSE_DURATION, .min = 1, .max = 10 * MINUTES
	};
	struct policy_dns *d = object;
	uint64_t ms;
	if (!parse_member(c, v, &field, &ms))
		return false;
	d->timeout_ms = (uint32_t)ms;
	return true;
}

static const struct parse_word family_words[] = {
	{ .text = "auto", .value = DNS_AUTO },
	{ .text = "ipv4", .value = DNS_IPV4 },
	{ .text = "ipv6", .value = DNS_IPV6 },
	{ .text = "ipv4_only", .value = DNS_IPV4_ONLY },
	{ .text = "ipv6_only", .value = DNS_IPV6_ONLY },
	{ .text = NULL },
};

#define AT(member) .offset = offsetof(struct policy_dns, member)
static const struct parse_field cache_fields[] = {
	{ .key = "max_entries",
	    .kind = PARSE_U32,
	    AT(cache_max_entries),
	    .max = CACHE_ENTRIES_MAX },
	{ .key = "min_ttl", .kind = PARSE_DURATION, AT(cache_min_ttl_ms), .max = 1000ull * HOURS },
	{ .key = "max_ttl", .kind = PARSE_DURATION, AT(cache_max_ttl_ms), .max = 1000ull * HOURS },
	{ .key = "negative_ttl",
	    .kind = PARSE_DURATION,
	    AT(cache_negative_ttl_ms),
	    .max = 1000ull * HOURS },
};

static bool
read_cache(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_dns *d = object;
	if (!parse_object(c, v, cache_fields, ARRAY_LEN(cache_fields), d))
		return false;
	if (d->cache_min_ttl_ms > d->cache_max_ttl_ms)
		parse_error(c, v, "expected \"min_ttl\" to be at most \"max_ttl\", found it above");
	return d->cache_min_ttl_ms <= d->cache_max_ttl_ms;
}

static const struct parse_field dns_fields[] = {
	{ .key = "servers", .kind = PARSE_CUSTOM, .read = read_servers },
	{ .key = "timeout", .kind = PARSE_CUSTOM, .read = read_timeout },
	{ .key = "attempts", .kind = PARSE_U32, AT(attempts), .min = 1, .max = ATTEMPTS_MAX },
	{ .key = "family", .kind = PARSE_WORD, AT(family), .words = family_words },
	{ .key = "hosts", .kind = PARSE_CUSTOM, .read = read_hosts },
	{ .key = "rules", .kind = PARSE_CUSTOM, .read = read_rules },
	{ .key = "cache", .kind = PARSE_CUSTOM, .read = read_cache },
};
#undef AT

bool
parse_dns(struct parse_context *c, const struct json_value *v, void *object)
{
	return parse_object(
	    c, v, dns_fields, ARRAY_LEN(dns_fields), &((struct policy *)object)->dns);
}
