/*
 * parse_route: what requests are sent along, and which: chains, sets, rules, the default route.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/sections.h"

#include "policy/domain_set.h"
#include "policy/ip_set.h"
#include "policy/match.h"
#include "policy/names.h"

/* ---- chains ---- */

static bool
read_hop(struct parse_context *c, const struct json_value *v, void *object)
{
	const char *name;
	return names_parse_route(c, v, 0, object, &name);
}

static bool
read_hops(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_chain *chain = object;
	void *list = NULL;
	bool ok = parse_is_list(c, v, "hops") &&
	          parse_list(c, v, "hops", sizeof *chain->hops, read_hop, &list, &chain->n_hops);
	chain->hops = list;
	return ok;
}

static const struct parse_field chain_fields[] = {
	{ .key = "name",
	    .kind = PARSE_NAME,
	    .flags = PARSE_REQUIRED,
	    .offset = offsetof(struct policy_chain, name) },
	{ .key = "hops", .kind = PARSE_CUSTOM, .flags = PARSE_REQUIRED, .read = read_hops },
};

static bool
read_chain(struct parse_context *c, const struct json_value *v, void *object)
{
	return parse_object(c, v, chain_fields, ARRAY_LEN(chain_fields), object);
}

bool
parse_chains(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy *p = object;
	void *list = NULL;
	bool ok = parse_list(c, v, "chains", sizeof *p->chains, read_chain, &list, &p->n_chains);
	p->chains = list;
	return ok;
}

/* ---- sets ---- */

struct set_parse {
	struct policy_set set;
	const struct json_value *values, *file;
};

static bool
read_values(struct parse_context *c, const struct json_value *v, void *object)
{
	((struct set_parse *)object)->values = v;
	if (v->type != SCAN_ARRAY)
		parse_error_expected(c, v, "a list of entries");
	return v->type == SCAN_ARRAY;
}

static bool
read_set_file(struct parse_context *c, const struct json_value *v, void *object)
{
	struct set_parse *s = object;
	s->file = v;
	return (s->set.file = parse_path(c, v)) != NULL;
}

static const struct parse_word set_type_words[] = {
	{ .text = "domain", .value = SET_DOMAIN },
	{ .text = "ip", .value = SET_IP },
	{ .text = "geoip", .later = true },
	{ .text = NULL },
};

static const struct parse_field set_fields[] = {
	{ .key = "name",
	    .kind = PARSE_NAME,
	    .flags = PARSE_REQUIRED,
	    .offset = offsetof(struct set_parse, set.name) },
	{ .key = "type",
	    .kind = PARSE_WORD,
	    .flags = PARSE_REQUIRED,
	    .offset = offsetof(struct set_parse, set.type),
	    .words = set_type_words },
	{ .key = "values", .kind = PARSE_CUSTOM, .read = read_values },
	{ .key = "file", .kind = PARSE_CUSTOM, .read = read_set_file },
	{ .key = "countries", .kind = PARSE_LATER },
};

static const char *
set_add_value(struct policy_set *set, const struct json_value *v)
{
	return set->type == SET_DOMAIN ? domain_set_add_value(set->domains, v->text, v->text_len)
	                               : ip_set_add_value(set->ips, v->text, v->text_len);
}

static bool
add_values(struct parse_context *c, struct policy_set *set, const struct json_value *values)
{
	const char *what = set->type == SET_DOMAIN ? "a domain name" : "an address or a CIDR block";
	char quoted[128];
	bool ok = true;
	for (const struct json_value *v = values->first; v != NULL; v = v->next) {
		bool sound = v->type == SCAN_STRING && !v->faulty;
		const char *wrong = sound ? set_add_value(set, v) : NULL;
		if (!sound)
			parse_error_expected(c, v, what);
		else if (wrong != NULL)
			parse_error(c, v, "expected %s, found %s: %s", what,
			    parse_quote(v->text, quoted, sizeof quoted), wrong);
		ok = ok && sound && wrong == NULL;
	}
	return ok;
}

struct file_report {
	struct parse_context *context;
	const struct json_value *at;
};

static void
on_file_fault(void *arg, const char *message)
{
	struct file_report *r = arg;
	parse_error(r->context, r->at, "%s", message);
}

static bool
fill_set(struct parse_context *c, struct set_parse *s)
{
	struct policy_set *set = &s->set;
	struct file_report r = { c, s->file };
	bool made;
	if (set->type == SET_DOMAIN)
		made = (set->domains = domain_set_new()) != NULL;
	else
		made = (set->ips = ip_set_new()) != NULL;
	if (!made) {
		parse_error_memory(c);
		return false;
	}
	if (s->values != NULL)
		return add_values(c, set, s->values);
	return set->type == SET_DOMAIN
	           ? domain_set_add_file(set->domains, set->file, on_file_fault, &r)
	           : ip_set_add_file(set->ips, set->file, on_file_fault, &r);
}

static bool
seal_set(struct parse_context *c, struct policy_set *set)
{
	if (set->type == SET_IP) {
		ip_set_seal(set->ips);
		set->n_entries = ip_set_count(set->ips);
	} else if (domain_set_seal(set->domains)) {
		set->n_entries = domain_set_count(set->domains);
	} else {
		parse_error_memory(c);
		return false;
	}
	return true;
}

static bool
read_set(struct parse_context *c, const struct json_value *v, void *object)
{
	struct set_parse s = { .values = NULL };
	bool ok = parse_object(c, v, set_fields, ARRAY_LEN(set_fields), &s);
	const struct json_value *values = json_member(v, "values"), *file = json_member(v, "file");
	if (v->type == SCAN_OBJECT && values == NULL && file == NULL)
		parse_error(c, v, "the key \"values\" or \"file\" is missing");
	else if (values != NULL && file != NULL)
		parse_error_at_key(
		    c, file, "found both \"values\" and \"file\", expected one of them");
	ok = ok && (values == NULL) != (file == NULL);
	ok = ok && fill_set(c, &s) && seal_set(c, &s.set);
	*(struct policy_set *)object = s.set;
	return ok;
}

bool
parse_sets(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy *p = object;
	void *list = NULL;
	bool ok = parse_list(c, v, "sets", sizeof *p->sets, read_set, &list, &p->n_sets);
	p->sets = list;
	return ok;
}

/* ---- rules ---- */

static bool
read_match(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_rule *r = object;
	return rule_match_parse(c, v, &r->match);
}

static bool
read_rule_route(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_rule *r = object;
	return names_parse_route(
	    c, v, ROUTE_MAY_DIRECT | ROUTE_MAY_REJECT, &r->route, &r->route_name);
}

static const struct parse_field rule_fields[] = {
	{ .key = "name", .kind = PARSE_NAME, .offset = offsetof(struct policy_rule, name) },
	{ .key = "match", .kind = PARSE_CUSTOM, .read = read_match },
	{ .key = "route", .kind = PARSE_CUSTOM, .flags = PARSE_REQUIRED, .read = read_rule_route },
	{ .key = "resolve", .kind = PARSE_BOOL, .offset = offsetof(struct policy_rule, resolve) },
	{ .key = "limits", .kind = PARSE_LATER },
};

static bool
read_rule(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_rule *r = object;
	bool ok = parse_object(c, v, rule_fields, ARRAY_LEN(rule_fields), r);
	if (r->name == NULL && (r->name = arena_print(c->arena, "rule-%u", v->index)) == NULL)
		parse_error_memory(c);
	return ok && r->name != NULL;
}

bool
parse_rules(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy *p = object;
	void *list = NULL;
	bool ok = parse_list(c, v, "rules", sizeof *p->rules, read_rule, &list, &p->n_rules);
	p->rules = list;
	return ok;
}

bool
parse_default_route(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy *p = object;
	return names_parse_route(
	    c, v, ROUTE_MAY_DIRECT | ROUTE_MAY_REJECT, &p->default_route, &p->default_route_name);
}
