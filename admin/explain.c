#include "admin/explain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/call.h"
#include "admin/handlers.h"
#include "admin/json.h"
#include "base/idn.h"
#include "policy/decide.h"
#include "router/control.h"
#include "socks/command.h"
#include "upstream/fleet.h"

enum { REASON_MAX = 1024 };

/* ---- the question ---- */

static bool
read_protocol(const char *text, uint8_t *out)
{
	for (int p = PROTOCOL_SOCKS4; p < PROTOCOL_N; p++)
		if (strcmp(text, socks_protocol_text(p)) == 0) {
			*out = (uint8_t)p;
			return true;
		}
	return false;
}

static bool
read_command(const char *text, uint8_t *out)
{
	for (int c = SOCKS_CONNECT; c <= SOCKS_UDP; c++)
		if (strcmp(text, socks_command_text(c)) == 0) {
			*out = (uint8_t)c;
			return true;
		}
	return false;
}

static bool
read_listener(const char *name, const struct policy *p, uint32_t *out)
{
	*out = p->n_listeners == 1 ? 0 : UINT32_MAX;
	if (name == NULL)
		return true;
	for (uint32_t i = 0; i < p->n_listeners; i++)
		if (strcmp(p->listeners[i].name, name) == 0) {
			*out = i;
			return true;
		}
	return false;
}

const char *
explain_read(struct explain_question *q, const struct explain_words *words, const struct policy *p,
	     bool *unknown, char *why, size_t cap)
{
	*unknown = false;
	*q = (struct explain_question){ .protocol = PROTOCOL_SOCKS5, .command = SOCKS_CONNECT };
	if (words->to == NULL)
		return "to: expected HOST:PORT";
	enum endpoint_error bad = endpoint_from_text(&q->to, words->to, strlen(words->to));
	if (bad != ENDPOINT_OK) {
		snprintf(why, cap, "to: expected HOST:PORT: %s", endpoint_error_text(bad));
		return why;
	}
	if (words->client != NULL &&
	    (endpoint_set_host(&q->client, words->client, strlen(words->client)) != ENDPOINT_OK ||
	     !endpoint_is_address(&q->client)))
		return "client: expected an IP address";
	if (words->protocol != NULL && !read_protocol(words->protocol, &q->protocol))
		return "protocol: expected socks4, socks4a, socks5 or http";
	if (words->command != NULL && !read_command(words->command, &q->command))
		return "command: expected connect, bind or udp";
	if (q->to.port == 0 && q->command == SOCKS_CONNECT)
		return "to: expected HOST:PORT with a port from 1 to 65535";
	if (words->user != NULL)
		policy_split_user(words->user, strlen(words->user), q->user, sizeof q->user,
				  q->session, sizeof q->session);
	if (read_listener(words->listener, p, &q->listener))
		return NULL;
	*unknown = true;
	snprintf(why, cap, "there is no listener \"%s\"", words->listener);
	return why;
}

/* ---- deciding ---- */

static struct policy_request
request_of(const struct explain_question *q, const struct explain_addresses *a)
{
	return (struct policy_request){
		.listener = q->listener,
		.protocol = q->protocol,
		.command = q->command,
		.client = &q->client,
		.user = q->user,
		.to = &q->to,
		.addrs = a->list,
		.n_addrs = a->n,
		.resolve_failed = a->asked && a->n == 0,
	};
}

/* One that no pool chose is taken though it can't do it, only to say so. */
static bool
path_can(const struct explain_question *q, struct fleet *f, const struct path *path)
{
	for (unsigned i = 0; i < path->n_hops; i++)
		if (!fleet_route_can(f, (struct policy_route){ ROUTE_UPSTREAM, path->hops[i] }, q->command,
				     i + 1u == path->n_hops))
			return false;
	return true;
}

static bool
find_path(const struct explain_question *q, struct fleet *f, struct policy_route route,
	  struct path *path)
{
	struct endpoint ascii;
	struct pick_key key = {
		.client = &q->client, .user = q->user, .session = q->session, .command = q->command,
		.to = idn_known_form(&q->to, &ascii)
	};
	*path = (struct path){ 0 };
	return route.kind != ROUTE_REJECT && fleet_preview_path(f, route, &key, path) == PICK_OK &&
	       path_can(q, f, path);
}

/* Does the last hop want addresses? Without a way now, what the route says of all its ways. */
static bool
path_needs_addresses(const struct explain_question *q, struct fleet *f, struct policy_route route)
{
	const struct policy *p = fleet_policy(f);
	struct path path;
	if (q->to.kind != ENDPOINT_NAME || route.kind == ROUTE_REJECT)
		return false;
	if (!find_path(q, f, route, &path))
		return policy_route_needs_addresses(p, route);
	if (path.n_hops == 0)
		return true;
	return policy_route_needs_addresses(
	    p, (struct policy_route){ ROUTE_UPSTREAM, path.hops[path.n_hops - 1] });
}

bool
explain_needs_addresses(const struct explain_question *q, struct fleet *f)
{
	struct policy_decision d;
	struct policy_request r = request_of(q, &(struct explain_addresses){ 0 });
	if (q->to.kind != ENDPOINT_NAME)
		return false;
	policy_decide(fleet_policy(f), &r, &d);
	return d.kind == DECIDE_NEEDS_ADDRESSES || path_needs_addresses(q, f, d.route);
}

/* ---- the answer ---- */

static const char *
rule_name(const struct policy *p, int rule)
{
	return rule < 0 ? "default" : p->rules[rule].name;
}

static json_t *
tried_json(const struct policy *p, const struct policy_request *r, int decided)
{
	size_t n = decided < 0 ? p->n_rules : (size_t)decided + 1;
	json_t *tried = json_array();
	for (size_t i = 0; tried != NULL && i < n; i++) {
		char reason[REASON_MAX];
		(void)policy_rule_explain(p, i, r, reason, sizeof reason);
		json_t *one = json_pack("{s:o, s:b, s:o}", "rule", json_text(p->rules[i].name),
					"matched", (int)i == decided, "reason", json_text(reason));
		if (json_array_append_new(tried, one) != 0) {
			json_decref(tried);
			return NULL;
		}
	}
	return tried;
}

/* Each address, and the rule on addresses that forbids to dial it, whatever the other rules made
 * of the name. */
static json_t *
addresses_json(const struct policy *p, const struct policy_request *r)
{
	json_t *list = json_array();
	for (size_t i = 0; list != NULL && i < r->n_addrs; i++) {
		char text[ENDPOINT_TEXT_MAX];
		int by = policy_address_rejected(p, r, &r->addrs[i]);
		json_t *one =
		    json_pack("{s:o, s:o}", "address",
			      json_text(endpoint_host_to_text(&r->addrs[i], text, sizeof text)),
			      "rejected_by", by < 0 ? json_null() : json_text(p->rules[by].name));
		if (json_array_append_new(list, one) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

/* Who is among the candidates, and as what: `command` is asked of the last one on the way. */
struct candidates {
	json_t *list;
	struct fleet *fleet;
	enum socks_command command;
};

static bool
add_candidate(struct candidates *c, const char *name, const char *state, const char *reason,
	      const char *pool)
{
	json_t *one = json_pack("{s:o, s:s, s:b, s:o}", "name", json_text(name), "state", state,
				"usable", reason[0] == '\0', "reason", json_text_or_null(reason));
	if (one != NULL && pool != NULL)
		(void)json_object_set_new(one, "pool", json_text(pool));
	return json_array_append_new(c->list, one) == 0;
}

/* What the route is can be the reason, whatever its state; else the one given. */
static const char *
reason_of(const struct candidates *c, struct policy_route route, bool last, const char *reason)
{
	if (fleet_route_can(c->fleet, route, c->command, last))
		return reason;
	return c->command == SOCKS_UDP ? "carries no datagrams" : "knows no BIND";
}

static bool add_candidates(struct candidates *c, struct policy_route route, bool last);

static bool
add_members(struct candidates *c, uint32_t pool, bool last)
{
	const struct policy_pool *conf = &fleet_policy(c->fleet)->pools[pool];
	struct member_view *views = calloc(conf->n_members + 1, sizeof *views);
	bool ok = views != NULL;
	if (ok)
		(void)fleet_pool_members(c->fleet, pool, views, conf->n_members);
	for (size_t i = 0; ok && i < conf->n_members; i++) {
		struct policy_route route = conf->members[i].route;
		ok = add_candidate(c, views[i].name, views[i].state,
				   reason_of(c, route, last, views[i].reason), conf->name) &&
		     (route.kind == ROUTE_UPSTREAM || add_candidates(c, route, last));
	}
	free(views);
	return ok;
}

/* All that may be picked along the route, inner pools after the member that they are. */
static bool
add_candidates(struct candidates *c, struct policy_route route, bool last)
{
	const struct policy *p = fleet_policy(c->fleet);
	const struct policy_chain *chain = route.kind == ROUTE_CHAIN ? &p->chains[route.index] : NULL;
	bool ok = true;
	if (route.kind == ROUTE_UPSTREAM) {
		const char *state = board_state_text(fleet_upstream(c->fleet, route.index));
		return add_candidate(c, p->upstreams[route.index].name, state,
				     reason_of(c, route, last,
					       fleet_route_usable(c->fleet, route) ? "" : state),
				     NULL);
	}
	if (route.kind == ROUTE_POOL)
		return add_members(c, route.index, last);
	for (size_t i = 0; chain != NULL && ok && i < chain->n_hops; i++)
		ok = add_candidates(c, chain->hops[i], last && i + 1 == chain->n_hops);
	return ok;
}

static json_t *
candidates_json(struct fleet *f, struct policy_route route, enum socks_command command)
{
	struct candidates c = { .list = json_array(), .fleet = f, .command = command };
	if (c.list != NULL && !add_candidates(&c, route, true)) {
		json_decref(c.list);
		return NULL;
	}
	return c.list;
}

/* Are all addresses of the name, which would be dialled, forbidden by rules? */
static bool
nothing_to_dial(const struct explain_question *q, struct fleet *f, struct policy_route route,
		const struct policy_request *r)
{
	size_t i = 0;
	if (r->n_addrs == 0 || !path_needs_addresses(q, f, route))
		return false;
	while (i < r->n_addrs && policy_address_rejected(fleet_policy(f), r, &r->addrs[i]) >= 0)
		i++;
	return i == r->n_addrs;
}

/* Empty where there is no way now. */
static json_t *
path_json(const struct explain_question *q, struct fleet *f, struct policy_route route,
	  const struct policy_request *r)
{
	struct path path;
	json_t *list = json_array();
	if (list == NULL || !find_path(q, f, route, &path) || nothing_to_dial(q, f, route, r))
		return list;
	if (path.n_hops == 0)
		(void)json_array_append_new(list, json_string("direct"));
	for (unsigned i = 0; i < path.n_hops; i++)
		if (json_array_append_new(
			list, json_text(fleet_policy(f)->upstreams[path.hops[i]].name)) != 0) {
			json_decref(list);
			return NULL;
		}
	return list;
}

static const char *
resolve_text(const struct explain_question *q, struct policy_route route, bool asked)
{
	if (asked)
		return "local";
	return q->to.kind == ENDPOINT_NAME && route.kind != ROUTE_REJECT ? "remote" : "none";
}

json_t *
explain_json(const struct explain_question *q, struct fleet *f,
	     const struct explain_addresses *addresses)
{
	const struct policy *p = fleet_policy(f);
	struct policy_request r = request_of(q, addresses);
	struct policy_decision d;
	policy_decide(p, &r, &d);
	return json_pack(
	    "{s:o, s:o, s:o, s:s, s:o, s:o, s:o}", "rule", json_text(rule_name(p, d.rule)), "route",
	    json_text(policy_route_name(p, d.route)), "tried", tried_json(p, &r, d.rule), "resolve",
	    resolve_text(q, d.route, addresses->asked), "addresses", addresses_json(p, &r),
	    "candidates", candidates_json(f, d.route, q->command), "path",
	    path_json(q, f, d.route, &r));
}

/* ---- the call ---- */

/* A question while `to` is looked up. */
struct explain_call {
	struct waiting *waiting;
	struct explain_question question;
};

static void
on_resolved(bool ok, const struct endpoint *addrs, size_t n, void *arg)
{
	struct explain_call *x = arg;
	struct call *c = waiting_take(x->waiting);
	struct explain_addresses addresses = { .list = addrs, .n = ok ? n : 0, .asked = true };
	if (c != NULL) {
		call_answer_json(c, 200, explain_json(&x->question, call_fleet(c), &addresses));
		waiting_done(x->waiting);
	}
	free(x);
}

static void
look_up(struct call *c, const struct explain_question *q)
{
	struct explain_call *x = calloc(1, sizeof *x);
	if (x == NULL) {
		call_answer_problem(c, 503, "out of memory");
		return;
	}
	x->question = *q;
	if ((x->waiting = call_wait(c)) != NULL)
		control_resolve(call_control(c), q->to.name, on_resolved, x);
	else
		free(x);
}

void
handle_explain(struct call *c)
{
	struct explain_words words = {
		.to = call_argument(c, "to"),
		.client = call_argument(c, "client"),
		.user = call_argument(c, "user"),
		.listener = call_argument(c, "listener"),
		.protocol = call_argument(c, "protocol"),
		.command = call_argument(c, "command"),
	};
	struct explain_question q;
	bool unknown;
	char why[256];
	const char *wrong = explain_read(&q, &words, call_policy(c), &unknown, why, sizeof why);
	if (wrong != NULL)
		call_answer_problem(c, unknown ? 404 : 400, "%s", wrong);
	else if (explain_needs_addresses(&q, call_fleet(c)))
		look_up(c, &q);
	else
		call_answer_json(c, 200,
				 explain_json(&q, call_fleet(c), &(struct explain_addresses){ 0 }));
}
