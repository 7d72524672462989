/*
 * upstreams: what is known of each upstream, and what an operator may change of it until the next
 * policy.
 */
#include <string.h>

#include "admin/call.h"
#include "admin/handlers.h"
#include "admin/json.h"
#include "admin/list.h"
#include "policy/policy.h"
#include "router/control.h"
#include "socks/verdict.h"
#include "upstream/fleet.h"

enum { WEIGHT_MAX = 256 };

/* As PATCH set it, else as the first pool that has it as a member says, else 1. */
static int
weight_of(const struct policy *p, uint32_t upstream, const struct board_entry *e)
{
	int patched = atomic_load(&e->weight);
	if (patched >= 0)
		return patched;
	for (size_t i = 0; i < p->n_pools; i++)
		for (size_t k = 0; k < p->pools[i].n_members; k++) {
			const struct policy_member *m = &p->pools[i].members[k];
			if (m->route.kind == ROUTE_UPSTREAM && m->route.index == upstream)
				return (int)m->weight;
		}
	return 1;
}

static json_t *
check_json(const struct board_entry *e)
{
	int64_t at = atomic_load(&e->check_at_ms);
	enum verdict v = atomic_load(&e->check_verdict);
	if (at == 0)
		return json_null();
	return json_pack("{s:o, s:b, s:o, s:o}", "at", json_time(at), "ok", v == VERDICT_GRANTED,
			 "ms", json_ms(atomic_load(&e->check_us)), "error",
			 v == VERDICT_GRANTED ? json_null() : json_string(verdict_text(v)));
}

static json_t *
connect_json(const struct board_entry *e)
{
	return json_pack("{s:o, s:o, s:o}", "ewma", json_ms(atomic_load(&e->ewma_us)), "p50",
			 json_ms(board_connect_quantile(e, 0.5)), "p99",
			 json_ms(board_connect_quantile(e, 0.99)));
}

static json_t *
upstream_json(struct call *c, size_t i)
{
	const struct policy *p = call_policy(c);
	const struct board_entry *e = fleet_upstream(call_fleet(c), (uint32_t)i);
	return json_pack("{s:o, s:o, s:s, s:i, s:i, s:i, s:o, s:o, s:o, s:o, s:o}", "name",
			 json_text(p->upstreams[i].name), "url", json_text(p->upstreams[i].url),
			 "state", board_state_text(e), "weight", weight_of(p, (uint32_t)i, e),
			 "sessions_open", (int)board_sessions(e), "warm",
			 (int)atomic_load(&e->warm), "sessions_total",
			 json_count(atomic_load(&e->sessions_total)), "failures_total",
			 json_count(atomic_load(&e->failures_total)), "connect_ms", connect_json(e),
			 "bytes",
			 json_bytes(atomic_load(&e->bytes_up), atomic_load(&e->bytes_down)),
			 "last_check", check_json(e));
}

void
handle_upstreams(struct call *c)
{
	list_answer(c, "upstreams", call_policy(c)->n_upstreams, upstream_json);
}

static void
answer_upstream(struct call *c)
{
	const struct policy *p = call_policy(c);
	for (size_t i = 0; i < p->n_upstreams; i++)
		if (strcmp(p->upstreams[i].name, call_name(c)) == 0) {
			call_answer_json(c, 200, upstream_json(c, i));
			return;
		}
	call_answer_problem(c, 404, "there is no upstream \"%s\"", call_name(c));
}

void
handle_upstream(struct call *c)
{
	answer_upstream(c);
}

static bool
read_state(const json_t *v, int *out)
{
	static const char *const words[] = { [UPSTREAM_ENABLED] = "enabled",
					     [UPSTREAM_DRAINING] = "draining",
					     [UPSTREAM_DISABLED] = "disabled" };
	for (size_t i = 0; json_is_string(v) && i < ARRAY_LEN(words); i++)
		if (strcmp(json_string_value(v), words[i]) == 0) {
			*out = (int)i;
			return true;
		}
	return false;
}

/* What is wrong with it; NULL: nothing. */
static const char *
read_patch(json_t *body, struct control_patch *out)
{
	const char *key;
	json_t *v;
	*out = (struct control_patch){ .state = -1, .weight = -1 };
	json_object_foreach(body, key, v)
	{
		if (strcmp(key, "state") == 0) {
			if (!read_state(v, &out->state))
				return "state: expected \"enabled\", \"draining\" or \"disabled\"";
		} else if (strcmp(key, "weight") == 0) {
			if (!json_is_integer(v) || json_integer_value(v) < 0 ||
			    json_integer_value(v) > WEIGHT_MAX)
				return "weight: expected a number from 0 to 256";
			out->weight = (int)json_integer_value(v);
		} else {
			return "expected no keys but \"state\" and \"weight\"";
		}
	}
	return NULL;
}

void
handle_patch_upstream(struct call *c)
{
	struct control_patch patch;
	json_t *body = call_read_object(c);
	if (body == NULL)
		return;
	const char *wrong = read_patch(body, &patch);
	json_decref(body);
	if (wrong != NULL)
		call_answer_problem(c, 422, "%s", wrong);
	else if (!control_patch_upstream(call_control(c), call_name(c), &patch))
		call_answer_problem(c, 404, "there is no upstream \"%s\"", call_name(c));
	else
		answer_upstream(c);
}
