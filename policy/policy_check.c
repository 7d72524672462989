/*
 * policy_check: what only the whole policy shows: routes that lead back to themselves or are too
 * long, addresses used twice, doors left open. Parts that were read with faults, which have been
 * reported, are passed over: a member without a name, a hop that is "direct", a listener without an
 * address.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/sections.h"

#include "base/tls.h"
#include "policy/ip_set.h"
#include "policy/policy.h"
#include "socks/command.h"

/* ---- routes ---- */

enum walk_state { NOT_WALKED, ON_THE_WAY, WALKED, FAULTY };

/* What is known of a pool or a chain once it was walked: its longest path. */
struct walk {
	uint8_t state; /* enum walk_state */
	bool may_go_direct, needs_addresses;
	uint32_t hops, picks, chains, levels;
};

struct walker {
	struct parse_context *context;
	const struct json_value *root;
	struct walk *pools, *chains;
};

static bool walk_route(struct walker *w, struct policy_route r, unsigned depth, struct walk *out);

static struct walk *
walk_of(struct walker *w, struct policy_route r)
{
	return r.kind == ROUTE_POOL ? &w->pools[r.index] : &w->chains[r.index];
}

static const struct json_value *
element(const struct json_value *list, size_t index)
{
	const struct json_value *v = list->first;
	while (index-- > 0)
		v = v->next;
	return v;
}

/* Where the pool or chain names its k-th member or hop. */
static const struct json_value *
place_of(const struct walker *w, struct policy_route r, size_t k)
{
	bool pool = r.kind == ROUTE_POOL;
	const struct json_value *object =
	    element(json_member(w->root, pool ? "pools" : "chains"), r.index);
	return element(json_member(object, pool ? "members" : "hops"), k);
}

static void
walk_leaf(const struct policy *p, struct policy_route r, struct walk *out)
{
	const struct policy_upstream *u = r.kind == ROUTE_UPSTREAM ? &p->upstreams[r.index] : NULL;
	out->state = WALKED;
	out->hops = u != NULL;
	out->picks = out->chains = out->levels = 0;
	out->may_go_direct = u == NULL || u->scheme == SCHEME_DIRECT;
	out->needs_addresses = u == NULL || u->scheme == SCHEME_DIRECT ||
	                       u->scheme == SCHEME_SOCKS4 || u->resolve_local;
}

/* What the part adds to a whole that goes through one of its parts at a time. */
static void
add_choice(struct walk *all, const struct walk *part)
{
	all->may_go_direct |= part->may_go_direct;
	all->needs_addresses &= part->needs_addresses;
	all->hops = part->hops > all->hops ? part->hops : all->hops;
	all->picks = part->picks > all->picks ? part->picks : all->picks;
	all->chains = part->chains > all->chains ? part->chains : all->chains;
	all->levels = part->levels > all->levels ? part->levels : all->levels;
}

static bool
walk_pool(struct walker *w, struct policy_route r, unsigned depth, struct walk *out)
{
	const struct policy_pool *p = &w->context->policy->pools[r.index];
	struct walk all = { .state = WALKED, .needs_addresses = true };
	bool ok = true;
	for (size_t i = 0; i < p->n_members; i++) {
		struct walk one;
		if (p->members[i].name == NULL)
			continue;
		if (walk_route(w, p->members[i].route, depth + 1, &one)) {
			add_choice(&all, &one);
			continue;
		}
		if (one.state == ON_THE_WAY)
			parse_error(w->context, place_of(w, r, i),
			    "the pool \"%s\" contains itself by way of \"%s\"", p->name,
			    p->members[i].name);
		ok = false;
	}
	all.picks++;
	all.levels++;
	*out = all;
	return ok;
}

/* What the part adds to a whole that goes through all of its parts; the last one says what it
 * needs. */
static void
add_hop(struct walk *all, const struct walk *part)
{
	all->needs_addresses = part->needs_addresses;
	all->hops += part->hops;
	all->picks += part->picks;
	all->chains += part->chains;
	all->levels = part->levels > all->levels ? part->levels : all->levels;
}

static bool
walk_hop(struct walker *w, struct policy_route r, size_t k, unsigned depth, struct walk *all)
{
	const struct policy *p = w->context->policy;
	const struct policy_chain *c = &p->chains[r.index];
	const char *name = policy_route_name(p, c->hops[k]);
	struct walk one;
	bool ok = walk_route(w, c->hops[k], depth + 1, &one);
	if (!ok && one.state == ON_THE_WAY)
		parse_error(w->context, place_of(w, r, k),
		    "the chain \"%s\" contains itself by way of \"%s\"", c->name, name);
	if (!ok)
		return false;
	add_hop(all, &one);
	if (one.may_go_direct)
		parse_error(w->context, place_of(w, r, k),
		    "expected a hop that always is a proxy, found \"%s\", which may go direct",
		    name);
	return !one.may_go_direct;
}

static bool
walk_chain(struct walker *w, struct policy_route r, unsigned depth, struct walk *out)
{
	const struct policy_chain *c = &w->context->policy->chains[r.index];
	struct walk all = { .state = WALKED };
	bool ok = true;
	for (size_t i = 0; i < c->n_hops; i++)
		if (c->hops[i].kind != ROUTE_DIRECT)
			ok = walk_hop(w, r, i, depth, &all) && ok;
	all.chains++;
	all.levels++;
	*out = all;
	return ok;
}

/* Sums stay small: what exceeds the bounds is a fault at once, and a fault ends the walk of
 * whatever contains it. */
static bool
check_length(struct walker *w, struct policy_route r, const struct walk *found, unsigned depth)
{
	const char *name = policy_route_name(w->context->policy, r);
	if (found->hops > POLICY_HOPS_MAX)
		parse_error(w->context, place_of(w, r, 0)->parent,
		    "expected paths of at most %d hops, found one of %u along \"%s\"",
		    POLICY_HOPS_MAX, found->hops, name);
	else if (found->picks > POLICY_PICKS_MAX || found->chains > POLICY_CHAINS_MAX)
		parse_error(w->context, place_of(w, r, 0)->parent,
		    "expected paths through at most %d pools and %d chains, found more along "
		    "\"%s\"",
		    POLICY_PICKS_MAX, POLICY_CHAINS_MAX, name);
	else if (found->levels > POLICY_PICKS_MAX || depth > POLICY_PICKS_MAX)
		parse_error(w->context, place_of(w, r, 0)->parent,
		    "expected at most %d pools and chains within each other, found more along "
		    "\"%s\"",
		    POLICY_PICKS_MAX, name);
	else
		return true;
	return false;
}

/* One pool or chain, each walked once. Where it is already on the way, *out says so and its name is
 * reported by the caller. */
static bool
walk_route(struct walker *w, struct policy_route r, unsigned depth, struct walk *out)
{
	if (r.kind != ROUTE_POOL && r.kind != ROUTE_CHAIN) {
		walk_leaf(w->context->policy, r, out);
		return true;
	}
	struct walk *known = walk_of(w, r);
	*out = *known;
	if (known->state == ON_THE_WAY)
		known->state = FAULTY;
	if (known->state != NOT_WALKED)
		return known->state == WALKED;
	known->state = ON_THE_WAY;
	struct walk found = { .state = FAULTY };
	bool ok = depth > POLICY_PICKS_MAX ||
	          (r.kind == ROUTE_POOL ? walk_pool : walk_chain)(w, r, depth, &found);
	ok = ok && check_length(w, r, &found, depth);
	found.state = ok ? WALKED : FAULTY;
	*known = *out = found;
	return ok;
}

static void
check_routes(struct parse_context *c, const struct json_value *root)
{
	struct policy *p = c->policy;
	struct walker w = { c, root, calloc(p->n_pools + 1, sizeof *w.pools),
		calloc(p->n_chains + 1, sizeof *w.chains) };
	bool made = w.pools != NULL && w.chains != NULL;
	struct walk found;
	for (uint32_t i = 0; made && i < p->n_pools; i++)
		if (p->pools[i].name != NULL &&
		    walk_route(&w, (struct policy_route){ ROUTE_POOL, i }, 1, &found))
			p->pools[i].needs_addresses = found.needs_addresses;
	for (uint32_t i = 0; made && i < p->n_chains; i++)
		if (p->chains[i].name != NULL &&
		    walk_route(&w, (struct policy_route){ ROUTE_CHAIN, i }, 1, &found))
			p->chains[i].needs_addresses = found.needs_addresses;
	if (!made)
		parse_error_memory(c);
	free(w.pools);
	free(w.chains);
}

/* ---- addresses to listen on ---- */

static const struct json_value *
listen_of(const struct json_value *root, size_t listener)
{
	return json_member(element(json_member(root, "listeners"), listener), "listen");
}

static int
compare_listen(const struct policy_listener *a, const struct policy_listener *b)
{
	if (a->unix_path != NULL || b->unix_path != NULL)
		return strcmp(a->unix_path != NULL ? a->unix_path : "",
		    b->unix_path != NULL ? b->unix_path : "");
	if (a->listen.kind != b->listen.kind)
		return a->listen.kind < b->listen.kind ? -1 : 1;
	if (a->listen.port != b->listen.port)
		return a->listen.port < b->listen.port ? -1 : 1;
	return memcmp(a->listen.addr, b->listen.addr, a->listen.kind == ENDPOINT_IPV4 ? 4 : 16);
}

static int
by_listen(const void *a, const void *b)
{
	const struct policy_listener *x = *(const struct policy_listener *const *)a,
	                             *y = *(const struct policy_listener *const *)b;
	int order = compare_listen(x, y);
	return order != 0 ? order : x < y ? -1 : x > y;
}

static void
check_listen_once(struct parse_context *c, const struct json_value *root)
{
	struct policy *p = c->policy;
	const struct policy_listener **sorted = malloc((p->n_listeners + 1) * sizeof *sorted);
	size_t n = 0;
	if (sorted == NULL) {
		parse_error_memory(c);
		return;
	}
	for (size_t i = 0; i < p->n_listeners; i++)
		if (p->listeners[i].unix_path != NULL ||
		    endpoint_is_address(&p->listeners[i].listen))
			sorted[n++] = &p->listeners[i];
	qsort(sorted, n, sizeof *sorted, by_listen);
	for (size_t i = 1, first = 0; i < n; i++) {        /* first: of those of this kind and port */
		const struct policy_listener *it = sorted[i];
		const struct json_value *at = listen_of(root, (size_t)(it - p->listeners));
		if (compare_listen(sorted[i - 1], it) == 0)
			parse_error(c, at,
			    "found the address %s twice, expected each once: the listener \"%s\" "
			    "has it",
			    it->listen_text, sorted[i - 1]->name);
		else if (endpoint_collide(&sorted[first]->listen, &it->listen))
			parse_error(c, at,
			    "found %s, which the listener \"%s\" on %s has as well, expected each "
			    "address once",
			    it->listen_text, sorted[first]->name, sorted[first]->listen_text);
		else
			first = i;
	}
	free(sorted);
}

static void
check_admin(struct parse_context *c, const struct json_value *root)
{
	const struct policy *p = c->policy;
	const struct json_value *admin = json_member(root, "admin");
	char text[ENDPOINT_TEXT_MAX];
	if (!endpoint_is_address(&p->admin.listen))
		return;
	if (json_member(admin, "token") == NULL && json_member(admin, "token_file") == NULL &&
	    !endpoint_is_loopback(&p->admin.listen))
		parse_error(c, admin,
		    "the key \"token\" or \"token_file\" is missing: %s can be reached from other "
		    "hosts",
		    endpoint_to_text(&p->admin.listen, text, sizeof text));
	for (size_t i = 0; i < p->n_listeners; i++)
		if (endpoint_collide(&p->admin.listen, &p->listeners[i].listen))
			parse_error(c, json_member(admin, "listen"),
			    "found %s, expected an address that no listener has: \"%s\" has it",
			    endpoint_to_text(&p->admin.listen, text, sizeof text),
			    p->listeners[i].name);
}

/* A network of all addresses of a kind, from where nobody is asked. */
static bool
is_open_network(const struct policy_network *n)
{
	for (size_t i = 0; n->anybody && i < n->n_prefixes; i++)
		if (n->prefixes[i].bits == 0)
			return true;
	return false;
}

/* Does it let in whoever comes? Not where its auth block is unknown, which has been reported. */
static bool
lets_anybody_in(const struct policy *p, const struct policy_listener *l, const struct json_value *v)
{
	if (l->tls.client_ca != NULL)
		return false;
	if (l->auth < 0)
		return json_member(v, "auth") == NULL;
	const struct policy_auth *a = &p->auths[l->auth];
	for (size_t i = 0; i < a->n_networks; i++)
		if (is_open_network(&a->networks[i]))
			return true;
	return (a->methods & AUTH_NONE) != 0;
}

/* A listener that others reach and that lets anybody in, unless it says that this is meant. */
static void
check_open(struct parse_context *c, const struct json_value *root)
{
	const struct json_value *list = json_member(root, "listeners");
	const struct json_value *v = list != NULL ? list->first : NULL;
	const struct policy *p = c->policy;
	for (size_t i = 0; i < p->n_listeners; i++, v = v->next) {
		const struct policy_listener *l = &p->listeners[i];
		if (!endpoint_is_address(&l->listen) || endpoint_is_loopback(&l->listen) ||
		    l->allow_open || !lets_anybody_in(p, l, v))
			continue;
		parse_error(c, v,
		    "found a listener that other hosts reach and that lets anybody in, expected "
		    "\"auth\" %s or \"allow_open\": true",
		    l->auth < 0 ? "on it"
		    : (p->auths[l->auth].methods & AUTH_NONE) != 0
		        ? "without the method \"none\""
		        : "with narrower \"networks\"");
	}
}

/* ---- TLS ---- */

static void
check_listener_tls(struct parse_context *c, const struct json_value *root)
{
	const struct policy *p = c->policy;
	char why[512];
	for (size_t i = 0; i < p->n_listeners; i++) {
		const struct policy_listener_tls *tls = &p->listeners[i].tls;
		const struct tls_options options = policy_listener_tls_options(tls);
		if (tls->certificate == NULL)
			continue;
		struct tls_context *made = tls_context_new(&options, why, sizeof why);
		if (made == NULL)
			parse_error(c,
			    json_member(element(json_member(root, "listeners"), i), "tls"), "%s",
			    why);
		tls_context_free(made);
	}
}

static void
check_tls(struct parse_context *c, const struct json_value *root)
{
	const struct policy *p = c->policy;
	char why[512];
	for (size_t i = 0; i < p->n_upstreams; i++) {
		const struct policy_tls *tls = &p->upstreams[i].tls;
		const struct tls_options options = {
			.ca_file = tls->ca,
			.certificate_file = tls->certificate,
			.key_file = tls->key,
			.verify = tls->verify,
		};
		if ((tls->ca == NULL && tls->certificate == NULL) ||
		    (tls->certificate == NULL) != (tls->key == NULL))
			continue;
		struct tls_context *made = tls_context_new(&options, why, sizeof why);
		if (made == NULL)
			parse_error(c,
			    json_member(element(json_member(root, "upstreams"), i), "tls"), "%s",
			    why);
		tls_context_free(made);
	}
}

void
policy_check(struct parse_context *c, const struct json_value *root)
{
	check_routes(c, root);
	check_listen_once(c, root);
	check_admin(c, root);
	check_open(c, root);
	check_listener_tls(c, root);
	check_tls(c, root);
}
