/*
 * match: a request held against a rule's conditions; see the header. How it is put in words is in
 * match_text.c, how it is read from the document in match_parse.c.
 */
#include "policy/match.h"

#include "base/idn.h"
#include "policy/match_keys.h"
#include "socks/command.h"

#include <stdlib.h>
#include <string.h>

/* ---- the view ---- */

static void
forget_sets(struct match_view *v)
{
	memset(v->set_known, 0, sizeof v->set_known);
	memset(v->set_holds, 0, sizeof v->set_holds);
}

void
match_view_init(struct match_view *v, const struct policy *p, const struct policy_request *r,
		struct domain_key key)
{
	bool is_address = endpoint_is_address(r->to);
	v->policy = p;
	v->request = r;
	v->addrs = is_address ? r->to : NULL;
	v->n_addrs = is_address;
	v->can_ask = r->to->kind == ENDPOINT_NAME && !r->resolve_failed &&
		     (r->addrs == NULL || r->n_addrs > 0);
	v->has_path = v->has_name = false;
	v->path.key = key;
	forget_sets(v);
}

void
match_view_show_addresses(struct match_view *v, const struct endpoint *addrs, size_t n_addrs)
{
	v->addrs = addrs;
	v->n_addrs = n_addrs;
	v->can_ask = false;
	forget_sets(v);
}

const struct endpoint *
match_view_name(struct match_view *v)
{
	const struct endpoint *to = v->request->to;
	if (to->kind != ENDPOINT_NAME)
		return NULL;
	if (!v->has_name) {
		v->name = idn_known_form(to, &v->ascii);
		v->has_name = true;
	}
	return v->name;
}

const struct domain_path *
match_view_path(struct match_view *v)
{
	const struct endpoint *to = match_view_name(v);
	if (to == NULL)
		return NULL;
	if (!v->has_path) {
		domain_path_of(&v->path, v->path.key, to->name, to->name_len);
		v->has_path = true;
	}
	return &v->path;
}

const struct endpoint *
match_view_meant(const struct match_view *v, size_t i)
{
	static const struct endpoint loopback4 = { .kind = ENDPOINT_IPV4, .addr = { 127, 0, 0, 1 } };
	static const struct endpoint loopback6 = { .kind = ENDPOINT_IPV6, .addr = { [15] = 1 } };
	const struct endpoint *addr = &v->addrs[i];
	if (!endpoint_is_wildcard(addr) || v->request->command == SOCKS_BIND)
		return addr;
	return addr->kind == ENDPOINT_IPV4 ? &loopback4 : &loopback6;
}

static enum truth
in_ip_set(const struct match_view *v, const struct ip_set *s)
{
	for (size_t i = 0; i < v->n_addrs; i++) {
		if (ip_set_has(s, &v->addrs[i]) || ip_set_has(s, match_view_meant(v, i)))
			return TRUTH_YES;
	}
	return v->can_ask ? TRUTH_UNKNOWN : TRUTH_NO;
}

static enum truth
in_domain_set(struct match_view *v, const struct domain_set *s)
{
	const struct domain_path *path = match_view_path(v);
	return path != NULL && domain_set_has(s, path) ? TRUTH_YES : TRUTH_NO;
}

enum truth
match_view_in_set(struct match_view *v, uint32_t set)
{
	uint64_t bit = UINT64_C(1) << set % 64;
	size_t word = set / 64;
	bool remembered = set < MATCH_SETS_REMEMBERED;
	if (remembered && (v->set_known[word] & bit) != 0)
		return (v->set_holds[word] & bit) != 0 ? TRUTH_YES : TRUTH_NO;
	const struct policy_set *s = &v->policy->sets[set];
	enum truth result =
	    s->type == SET_DOMAIN ? in_domain_set(v, s->domains) : in_ip_set(v, s->ips);
	if (remembered && result != TRUTH_UNKNOWN) {
		v->set_known[word] |= bit;
		v->set_holds[word] |= result == TRUTH_YES ? bit : 0;
	}
	return result;
}

/* ---- lists ---- */

static bool
have_index(const struct match_indexes *x, uint32_t value)
{
	for (size_t i = 0; i < x->n; i++) {
		if (x->list[i] == value)
			return true;
	}
	return false;
}

static bool
have_text(const struct match_texts *t, const char *text)
{
	size_t low = 0, high = t->n;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(text, t->list[middle]);
		if (order == 0)
			return true;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return false;
}

static enum truth
truth_of(bool holds)
{
	return holds ? TRUTH_YES : TRUTH_NO;
}

/* ---- the keys ---- */

static enum truth
listener_holds(const struct rule_match *m, struct match_view *v)
{
	return truth_of(have_index(&m->listeners, v->request->listener));
}

static enum truth
protocol_holds(const struct rule_match *m, struct match_view *v)
{
	unsigned protocol = v->request->protocol;
	return truth_of(protocol < PROTOCOL_N && (m->protocols & PROTOCOL_BIT(protocol)) != 0);
}

static enum truth
command_holds(const struct rule_match *m, struct match_view *v)
{
	unsigned command = v->request->command;
	return truth_of(command < 32 && (m->commands & 1u << command) != 0);
}

static enum truth
port_holds(const struct rule_match *m, struct match_view *v)
{
	uint16_t port = v->request->to->port;
	for (size_t i = 0; i < m->ports.n; i++) {
		if (m->ports.list[i].from <= port && port <= m->ports.list[i].to)
			return TRUTH_YES;
	}
	return TRUTH_NO;
}

static enum truth
client_holds(const struct rule_match *m, struct match_view *v)
{
	const struct endpoint *client = v->request->client;
	return truth_of(client != NULL && ip_prefixes_have(m->clients.list, m->clients.n, client));
}

static enum truth
user_holds(const struct rule_match *m, struct match_view *v)
{
	return truth_of(v->request->user != NULL && have_text(&m->users, v->request->user));
}

static enum truth
userid_holds(const struct rule_match *m, struct match_view *v)
{
	return truth_of(v->request->userid != NULL && have_text(&m->userids, v->request->userid));
}

static enum truth
domain_holds(const struct rule_match *m, struct match_view *v)
{
	const struct endpoint *to = match_view_name(v);
	return truth_of(to != NULL && have_text(&m->domains, to->name));
}

static enum truth
domain_suffix_holds(const struct rule_match *m, struct match_view *v)
{
	const struct domain_path *path = match_view_path(v);
	for (size_t i = 0; path != NULL && i < path->n; i++) {
		if (have_text(&m->suffixes, path->name + path->start[i]))
			return TRUTH_YES;
	}
	return TRUTH_NO;
}

static enum truth
domain_keyword_holds(const struct rule_match *m, struct match_view *v)
{
	const struct endpoint *to = match_view_name(v);
	for (size_t i = 0; to != NULL && i < m->keywords.n; i++) {
		if (strstr(to->name, m->keywords.list[i]) != NULL || strstr(v->request->to->name, m->keywords.list[i]) != NULL)
			return TRUTH_YES;
	}
	return TRUTH_NO;
}

static enum truth
ip_cidr_holds(const struct rule_match *m, struct match_view *v)
{
	for (size_t i = 0; i < v->n_addrs; i++) {
		if (ip_prefixes_have(m->addresses.list, m->addresses.n, &v->addrs[i]) ||
		    ip_prefixes_have(m->addresses.list, m->addresses.n, match_view_meant(v, i)))
			return TRUTH_YES;
	}
	return v->can_ask ? TRUTH_UNKNOWN : TRUTH_NO;
}

/* Any is enough; one that is unknown leaves it open. */
static enum truth
set_holds(const struct rule_match *m, struct match_view *v)
{
	enum truth result = TRUTH_NO;
	for (size_t i = 0; i < m->sets.n && result != TRUTH_YES; i++) {
		enum truth in = match_view_in_set(v, m->sets.list[i]);
		if (in > result)
			result = in;
	}
	return result;
}

/* What is cheap to find out comes first. `not` is apart: it needs to know whether it may ask. */
const struct match_key_check match_key_checks[] = {
	{ MATCH_LISTENER, listener_holds },
	{ MATCH_PROTOCOL, protocol_holds },
	{ MATCH_COMMAND, command_holds },
	{ MATCH_PORT, port_holds },
	{ MATCH_USER, user_holds },
	{ MATCH_USERID, userid_holds },
	{ MATCH_CLIENT_CIDR, client_holds },
	{ MATCH_DOMAIN, domain_holds },
	{ MATCH_DOMAIN_SUFFIX, domain_suffix_holds },
	{ MATCH_DOMAIN_KEYWORD, domain_keyword_holds },
	{ MATCH_IP_CIDR, ip_cidr_holds },
	{ MATCH_SET, set_holds },
};
const size_t match_n_key_checks = ARRAY_LEN(match_key_checks);

enum truth
rule_match_holds(const struct rule_match *m, struct match_view *v, bool may_ask)
{
	enum truth result = TRUTH_YES;
	for (size_t i = 0; m != NULL && i < ARRAY_LEN(match_key_checks); i++) {
		if ((m->keys & match_key_checks[i].key) == 0)
			continue;
		enum truth holds = match_key_checks[i].holds(m, v);
		if (holds == TRUTH_NO || (holds == TRUTH_UNKNOWN && !may_ask))
			return TRUTH_NO;
		if (holds < result)
			result = holds;
	}
	if (m != NULL && m->inverse != NULL) {
		enum truth holds = TRUTH_YES - rule_match_holds(m->inverse, v, may_ask);
		if (holds < result)
			result = holds;
	}
	return result;
}
