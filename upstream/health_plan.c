/*
 * health_plan: see health_plan.h. First the shortest way to each pool is found, from the routes
 * that requests take; then each pool's leaves are told with it.
 */
#include "upstream/health_plan.h"

#include <stdlib.h>

struct plan {
	const struct policy *policy;
	struct check_way *to_pool;             /* of each pool: the hops before it */
	bool *reached;                         /* of each pool */
	const struct policy_health *conf;      /* of the pool whose leaves are told */
	health_plan_cb *each;
	void *arg;
};

static bool
add_step(struct check_way *way, struct policy_route step)
{
	if (way->n == PATH_HOPS_MAX)
		return false;
	way->steps[way->n++] = step;
	return true;
}

/* Appends a chain's hops up to the nth; "direct" among them is no hop. False: longer than a path
 * can be. */
static bool
add_hops(const struct plan *x, struct check_way *way, const struct policy_chain *c, size_t n)
{
	bool ok = true;
	for (size_t i = 0; ok && i < n; i++) {
		struct policy_route hop = c->hops[i];
		if (hop.kind == ROUTE_CHAIN) {
			const struct policy_chain *inner = &x->policy->chains[hop.index];
			ok = add_hops(x, way, inner, inner->n_hops);
		} else if (hop.kind == ROUTE_UPSTREAM || hop.kind == ROUTE_POOL) {
			ok = add_step(way, hop);
		}
	}
	return ok;
}

/* ---- the ways to pools ---- */

static void reach(struct plan *x, struct policy_route r, const struct check_way *before);

static void
reach_pool(struct plan *x, uint32_t pool, const struct check_way *before)
{
	if (x->reached[pool] && x->to_pool[pool].n <= before->n)
		return;
	x->reached[pool] = true;
	x->to_pool[pool] = *before;
	for (size_t i = 0; i < x->policy->pools[pool].n_members; i++)
		reach(x, x->policy->pools[pool].members[i].route, before);
}

static void
reach_chain(struct plan *x, const struct policy_chain *c, const struct check_way *before)
{
	for (size_t i = 0; i < c->n_hops; i++) {
		struct check_way way = *before;
		if (!add_hops(x, &way, c, i))
			return;
		reach(x, c->hops[i], &way);
	}
}

static void
reach(struct plan *x, struct policy_route r, const struct check_way *before)
{
	if (r.kind == ROUTE_POOL)
		reach_pool(x, r.index, before);
	else if (r.kind == ROUTE_CHAIN)
		reach_chain(x, &x->policy->chains[r.index], before);
}

static void
reach_all(struct plan *x)
{
	const struct check_way nothing = { 0 };
	reach(x, x->policy->default_route, &nothing);
	for (size_t i = 0; i < x->policy->n_rules; i++)
		reach(x, x->policy->rules[i].route, &nothing);
	/* chains that no rule names yet */
	for (size_t i = 0; i < x->policy->n_chains; i++)
		reach_chain(x, &x->policy->chains[i], &nothing);
}

/* ---- the leaves ---- */

static bool
tell_leaf(struct plan *x, struct policy_route r, const struct check_way *before)
{
	struct check_way way = *before;
	bool fits = r.kind == ROUTE_UPSTREAM ? add_step(&way, r)
	                                     : add_hops(x, &way, &x->policy->chains[r.index],
	                                                x->policy->chains[r.index].n_hops);
	return !fits || way.n == 0 || x->each(x->conf, &way, x->arg);
}

static bool
tell_members(struct plan *x, uint32_t pool, const struct check_way *before)
{
	const struct policy_pool *p = &x->policy->pools[pool];
	bool ok = true;
	for (size_t i = 0; ok && i < p->n_members; i++) {
		struct policy_route r = p->members[i].route;
		if (r.kind == ROUTE_POOL)
			ok = tell_members(x, r.index, before);
		else if (r.kind != ROUTE_DIRECT)
			ok = tell_leaf(x, r, before);
	}
	return ok;
}

bool
health_plan(const struct policy *p, health_plan_cb *each, void *arg)
{
	struct plan x = { .policy = p, .each = each, .arg = arg };
	x.to_pool = calloc(p->n_pools + 1, sizeof *x.to_pool);
	x.reached = calloc(p->n_pools + 1, sizeof *x.reached);
	bool ok = x.to_pool != NULL && x.reached != NULL;
	if (ok)
		reach_all(&x);
	for (uint32_t i = 0; ok && i < p->n_pools; i++) {
		x.conf = &p->pools[i].health;
		if (x.conf->check != HEALTH_NONE)
			ok = tell_members(&x, i, &x.to_pool[i]);
	}
	free(x.reached);
	free(x.to_pool);
	return ok;
}
