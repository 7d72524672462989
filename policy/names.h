/*
 * names: which names a document gives to its objects, found before anything is parsed, so that
 * objects may name each other in any order.
 *
 * Listeners, auth blocks, sets and rules have a namespace each; upstreams, pools and chains share
 * one with "direct" and "reject". A list of names lives in its policy's arena and is immutable once
 * collected.
 */
#ifndef POLICY_NAMES_H
#define POLICY_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/policy.h"

struct json_value;
struct parse_context;

enum name_space { NAMES_LISTENERS, NAMES_AUTH, NAMES_ROUTES, NAMES_SETS, NAMES_RULES };

struct name_entry {
	const char *name;
	const struct json_value *value; /* the object, while the document is parsed */
	enum name_space space;
	struct policy_route leads_to; /* index: in the object's own list; kind: of NAMES_ROUTES */
};

struct policy_names {
	struct name_entry *list; /* sorted by space, then name */
	size_t n;
};

/** Of the document's root. Reports reserved and repeated names; values that are no names are left
 * out, for whoever parses them. */
bool names_collect(struct parse_context *c, const struct json_value *root);
/** The tree goes: from now on entries have no value. NULL is fine. */
void names_forget_values(const struct policy_names *names);

/** The entry, or NULL. */
const struct name_entry *names_find(
    const struct policy_names *names, enum name_space space, const char *name);

/** What a route may be where it stands. */
enum { ROUTE_MAY_DIRECT = 1, ROUTE_MAY_REJECT = 2 };

/** Reads a route's name. False: reported. */
bool names_parse_route(struct parse_context *c, const struct json_value *v, unsigned may,
    struct policy_route *out, const char **name);

#endif
