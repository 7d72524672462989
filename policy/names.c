/*
 * names: see names.h.
 */
#include "policy/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/errors.h"
#include "policy/parse.h"

static const struct {
	const char *list, *default_name; /* where an object says none: "listener-0" */
	enum name_space space;
	enum route_kind kind;
} lists[] = {
	{ "listeners", "listener", NAMES_LISTENERS, ROUTE_DIRECT },
	{ "auth", NULL, NAMES_AUTH, ROUTE_DIRECT },
	{ "upstreams", NULL, NAMES_ROUTES, ROUTE_UPSTREAM },
	{ "pools", NULL, NAMES_ROUTES, ROUTE_POOL },
	{ "chains", NULL, NAMES_ROUTES, ROUTE_CHAIN },
	{ "sets", NULL, NAMES_SETS, ROUTE_DIRECT },
	{ "rules", "rule", NAMES_RULES, ROUTE_DIRECT },
};

static int
compare_name(enum name_space space, const char *name, const struct name_entry *e)
{
	return space != e->space ? (space < e->space ? -1 : 1) : strcmp(name, e->name);
}

/* Equal names in the order in which they stand in the document. */
static int
by_space_and_name(const void *a, const void *b)
{
	const struct name_entry *x = a, *y = b;
	int order = compare_name(x->space, x->name, y);
	return order != 0                          ? order
	       : x->value->start < y->value->start ? -1
	                                           : x->value->start > y->value->start;
}

static size_t
count_objects(const struct json_value *root)
{
	size_t n = 0;
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		const struct json_value *list = json_member(root, lists[i].list);
		n += list != NULL && list->type == SCAN_ARRAY ? list->n : 0;
	}
	return n;
}

/* The object's own name or the default one; NULL: it has none. */
static const char *
object_name(struct parse_context *c, const struct json_value *object, const char *default_name)
{
	const struct json_value *v = json_member(object, "name");
	if (v != NULL)
		return v->type == SCAN_STRING && !v->faulty && v->text_len > 0
		           ? arena_copy_text(c->arena, v->text, v->text_len)
		           : NULL;
	return default_name != NULL ? arena_print(c->arena, "%s-%u", default_name, object->index)
	                            : NULL;
}

static void
collect_list(struct parse_context *c, struct policy_names *names, const struct json_value *list,
    size_t which)
{
	for (const struct json_value *v = list->first; v != NULL; v = v->next) {
		const char *name = object_name(c, v, lists[which].default_name);
		if (name == NULL)
			continue;
		names->list[names->n++] = (struct name_entry){
			.name = name,
			.value = v,
			.space = lists[which].space,
			.leads_to = { (uint8_t)lists[which].kind, v->index },
		};
	}
}

static void
report_repeated(
    struct parse_context *c, const struct name_entry *first, const struct name_entry *again)
{
	const struct json_value *at = json_member(again->value, "name");
	char *where = json_pointer(first->value, NULL);
	parse_error(c, at != NULL ? at : again->value,
	    "the name \"%s\" is taken: %s, line %u, has it", again->name,
	    where != NULL ? where : "another object", first->value->line);
	free(where);
}

/* "default" is how logs, metrics and explain call the default route where a rule's name stands. */
static bool
is_reserved(const struct name_entry *e)
{
	if (e->space == NAMES_RULES)
		return strcmp(e->name, "default") == 0;
	return e->space == NAMES_ROUTES &&
	       (strcmp(e->name, "direct") == 0 || strcmp(e->name, "reject") == 0);
}

static bool
report_faults(struct parse_context *c, const struct policy_names *names)
{
	bool ok = true;
	const struct name_entry *first = names->list;
	for (size_t i = 0; i < names->n; i++) {
		const struct name_entry *e = &names->list[i];
		if (is_reserved(e)) {
			parse_error(c, json_member(e->value, "name"),
			    "the name \"%s\" is reserved, expected another one", e->name);
			ok = false;
		}
		if (compare_name(e->space, e->name, first) != 0) {
			first = e;
		} else if (e != first) {
			report_repeated(c, first, e);
			ok = false;
		}
	}
	return ok;
}

bool
names_collect(struct parse_context *c, const struct json_value *root)
{
	struct policy_names *names = parse_take(c, 1, sizeof *names);
	if (names == NULL ||
	    (names->list = parse_take(c, count_objects(root), sizeof *names->list)) == NULL)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		const struct json_value *list = json_member(root, lists[i].list);
		if (list != NULL && list->type == SCAN_ARRAY)
			collect_list(c, names, list, i);
	}
	qsort(names->list, names->n, sizeof *names->list, by_space_and_name);
	c->policy->names = names;
	return report_faults(c, names);
}

void
names_forget_values(const struct policy_names *names)
{
	for (size_t i = 0; names != NULL && i < names->n; i++)
		names->list[i].value = NULL;
}

const struct name_entry *
names_find(const struct policy_names *names, enum name_space space, const char *name)
{
	size_t low = 0, high = names->n;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (compare_name(space, name, &names->list[middle]) > 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < names->n && compare_name(space, name, &names->list[low]) == 0
	           ? &names->list[low]
	           : NULL;
}

/* ---- references ---- */

static const struct {
	const char *name;
	unsigned may;
	enum route_kind kind;
} reserved[] = {
	{ "direct", ROUTE_MAY_DIRECT, ROUTE_DIRECT },
	{ "reject", ROUTE_MAY_REJECT, ROUTE_REJECT },
};

/* What is expected where a route may be `may`; other namespaces have a word of their own. */
static const char *
expected_text(enum name_space space, unsigned may)
{
	static const char *const others[] = {
		[NAMES_LISTENERS] = "the name of a listener",
		[NAMES_AUTH] = "the name of an auth block",
		[NAMES_SETS] = "the name of a set",
		[NAMES_RULES] = "the name of a rule",
	};
	if (space != NAMES_ROUTES)
		return others[space];
	if ((may & ROUTE_MAY_REJECT) != 0)
		return "the name of an upstream, a pool or a chain, \"direct\" or \"reject\"";
	return may != 0 ? "the name of an upstream, a pool or a chain, or \"direct\""
	                : "the name of an upstream, a pool or a chain";
}

static void
report_unknown(
    struct parse_context *c, const struct json_value *v, enum name_space space, unsigned may)
{
	const struct policy_names *names = c->policy->names;
	const char **candidates = malloc((names->n + ARRAY_LEN(reserved)) * sizeof *candidates);
	char hint[128] = "", found[128];
	size_t n = 0;
	for (size_t i = 0; candidates != NULL && i < names->n; i++)
		if (names->list[i].space == space)
			candidates[n++] = names->list[i].name;
	for (size_t i = 0; candidates != NULL && i < ARRAY_LEN(reserved); i++)
		if ((may & reserved[i].may) != 0)
			candidates[n++] = reserved[i].name;
	if (candidates != NULL)
		parse_hint(c, v->text, candidates, n, hint, sizeof hint);
	free(candidates);
	parse_error(c, v, "expected %s, found %s, which does not exist%s",
	    expected_text(space, may), parse_quote(v->text, found, sizeof found), hint);
}

/* The entry that a string names, in a place where a route may be `may`. */
static const struct name_entry *
find_or_report(
    struct parse_context *c, const struct json_value *v, enum name_space space, unsigned may)
{
	if (v->type != SCAN_STRING || v->faulty) {
		parse_error_expected(c, v, expected_text(space, may));
		return NULL;
	}
	const struct name_entry *e = names_find(c->policy->names, space, v->text);
	if (e == NULL)
		report_unknown(c, v, space, may);
	return e;
}

static int
parse_index(struct parse_context *c, const struct json_value *v, enum name_space space)
{
	const struct name_entry *e = find_or_report(c, v, space, 0);
	return e != NULL ? (int)e->leads_to.index : -1;
}

int
parse_listener_name(struct parse_context *c, const struct json_value *v)
{
	return parse_index(c, v, NAMES_LISTENERS);
}

int
parse_auth_name(struct parse_context *c, const struct json_value *v)
{
	return parse_index(c, v, NAMES_AUTH);
}

int
parse_set_name(struct parse_context *c, const struct json_value *v)
{
	return parse_index(c, v, NAMES_SETS);
}

bool
names_parse_route(struct parse_context *c, const struct json_value *v, unsigned may,
    struct policy_route *out, const char **name)
{
	for (size_t i = 0; v->type == SCAN_STRING && i < ARRAY_LEN(reserved); i++) {
		if (strcmp(v->text, reserved[i].name) != 0)
			continue;
		if ((may & reserved[i].may) == 0) {
			parse_error_expected(c, v, expected_text(NAMES_ROUTES, may));
			return false;
		}
		*out = (struct policy_route){ (uint8_t)reserved[i].kind, 0 };
		*name = reserved[i].name;
		return true;
	}
	const struct name_entry *e = find_or_report(c, v, NAMES_ROUTES, may);
	if (e == NULL)
		return false;
	*out = e->leads_to;
	*name = e->name;
	return true;
}
