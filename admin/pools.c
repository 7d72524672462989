/*
 * pools: pools, chains, rules and listeners: each as the document in force has it, secrets masked,
 * with what is live added.
 */
#include <stdlib.h>
#include <string.h>

#include "admin/call.h"
#include "admin/handlers.h"
#include "admin/json.h"
#include "admin/list.h"
#include "policy/policy.h"
#include "router/control.h"
#include "upstream/fleet.h"

/* Adds the live part to a configured object; i is its place in the policy. False: out of memory. */
typedef bool live_fn(struct call *c, size_t i, json_t *object);

/* The array of the document, a new reference; NULL: out of memory. An absent one is empty. */
static json_t *
configured(const struct call *c, const char *section)
{
	const char *text = call_policy(c)->public_text;
	json_t *document = json_loads(text, JSON_ALLOW_NUL, NULL);
	json_t *array = json_object_get(document, section);
	array = document == NULL ? NULL : array != NULL ? json_incref(array) : json_array();
	json_decref(document);
	return array;
}

static void
answer_section(struct call *c, const char *section, live_fn *live)
{
	struct page page;
	if (!page_read(c, &page))
		return;
	json_t *all = configured(c, section), *array = json_array();
	size_t n = json_array_size(all);
	bool ok = all != NULL && array != NULL;
	for (size_t i = page.offset; ok && i < n && i - page.offset < page.limit; i++) {
		json_t *object = json_array_get(all, i);
		ok = live(c, i, object) && json_array_append(array, object) == 0;
	}
	json_decref(all);
	if (!ok) {
		json_decref(array);
		array = NULL;
	}
	list_answer_array(c, section, n, array);
}

/* ---- pools ---- */

static json_t *
member_json(const struct member_view *m)
{
	return json_pack("{s:o, s:s, s:i, s:i, s:i, s:o, s:b, s:o}", "name", json_text(m->name),
			 "state", m->state, "weight", (int)m->weight, "tier", (int)m->tier,
			 "sessions_open", (int)m->sessions_open, "picks", json_count(m->picks),
			 "usable", m->usable, "reason", json_text_or_null(m->reason));
}

static json_t *
members_json(struct call *c, size_t pool)
{
	size_t n = call_policy(c)->pools[pool].n_members;
	struct member_view *views = calloc(n + 1, sizeof *views);
	json_t *array = views != NULL ? json_array() : NULL;
	if (array != NULL)
		(void)fleet_pool_members(call_fleet(c), (uint32_t)pool, views, n);
	for (size_t i = 0; array != NULL && i < n; i++)
		if (json_array_append_new(array, member_json(&views[i])) != 0) {
			json_decref(array);
			array = NULL;
		}
	free(views);
	return array;
}

static const char *const balance_texts[] = {
	[BALANCE_ROUND_ROBIN] = "round_robin",
	[BALANCE_LEAST_CONNECTIONS] = "least_connections",
	[BALANCE_RANDOM] = "random",
	[BALANCE_FIRST] = "first",
	[BALANCE_TWO_CHOICES] = "two_choices",
	[BALANCE_LEAST_LATENCY] = "least_latency",
	[BALANCE_CONSISTENT_HASH] = "consistent_hash",
};

static bool
add_pool(struct call *c, size_t i, json_t *object)
{
	const struct policy_pool *p = &call_policy(c)->pools[i];
	struct board_entry *e = fleet_pool(call_fleet(c), (uint32_t)i);
	bool usable =
	    fleet_route_usable(call_fleet(c), (struct policy_route){ ROUTE_POOL, (uint32_t)i });
	return json_object_set_new(object, "balance", json_string(balance_texts[p->balance])) ==
		   0 &&
	       json_object_set_new(object, "members", members_json(c, i)) == 0 &&
	       json_object_set_new(object, "usable", json_boolean(usable)) == 0 &&
	       json_object_set_new(object, "waiting",
				   json_count(fleet_pool_waiting(call_fleet(c), (uint32_t)i))) ==
		   0 &&
	       json_object_set_new(object, "sessions_open", json_count(board_in_use(e))) == 0;
}

void
handle_pools(struct call *c)
{
	answer_section(c, "pools", add_pool);
}

void
handle_pool(struct call *c)
{
	const struct policy *p = call_policy(c);
	for (size_t i = 0; i < p->n_pools; i++) {
		if (strcmp(p->pools[i].name, call_name(c)) != 0)
			continue;
		json_t *all = configured(c, "pools");
		json_t *object = json_incref(json_array_get(all, i));
		json_decref(all);
		if (object == NULL || !add_pool(c, i, object)) {
			json_decref(object);
			object = NULL;
		}
		call_answer_json(c, 200, object);
		return;
	}
	call_answer_problem(c, 404, "there is no pool \"%s\"", call_name(c));
}

/* ---- chains ---- */

static bool
add_chain(struct call *c, size_t i, json_t *object)
{
	struct board_entry *e = fleet_chain(call_fleet(c), (uint32_t)i);
	bool usable =
	    fleet_route_usable(call_fleet(c), (struct policy_route){ ROUTE_CHAIN, (uint32_t)i });
	return json_object_set_new(object, "usable", json_boolean(usable)) == 0 &&
	       json_object_set_new(object, "sessions_open", json_count(board_in_use(e))) == 0;
}

void
handle_chains(struct call *c)
{
	answer_section(c, "chains", add_chain);
}

/* ---- rules ---- */

static bool
add_rule(struct call *c, size_t i, json_t *object)
{
	const struct policy *p = call_policy(c);
	return json_object_set_new(object, "name", json_text(p->rules[i].name)) == 0 &&
	       json_object_set_new(object, "hits",
				   json_count(control_rule_hits(call_control(c), p, i))) == 0;
}

void
handle_rules(struct call *c)
{
	answer_section(c, "rules", add_rule);
}

/* ---- listeners ---- */

static bool
add_listener(struct call *c, size_t i, json_t *object)
{
	const struct policy *p = call_policy(c);
	struct control_listener live;
	control_get_listener(call_control(c), p, i, &live);
	return json_object_set_new(object, "name", json_text(p->listeners[i].name)) == 0 &&
	       json_object_set_new(object, "state",
				   json_string(live.listening ? "listening" : "closed")) == 0 &&
	       json_object_set_new(object, "sessions_open", json_count(live.open)) == 0 &&
	       json_object_set_new(object, "accepted_total", json_count(live.accepted)) == 0 &&
	       json_object_set_new(object, "refused_total", json_count(live.refused)) == 0;
}

void
handle_listeners(struct call *c)
{
	answer_section(c, "listeners", add_listener);
}
