/*
 * Tests of upstream/health_plan: what is checked along which way, for policies made by hand.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "upstream/health_plan.h"

#include <stdio.h>
#include <string.h>

enum { A, B, CORP, EXIT };             /* upstreams */
enum { P, Q };                         /* pools */

#define UPSTREAM(i) { ROUTE_UPSTREAM, i }
#define POOL(i) { ROUTE_POOL, i }
#define CHAIN(i) { ROUTE_CHAIN, i }
#define DIRECT { ROUTE_DIRECT, 0 }

/* "A", "CORP>A", one for each line. */
struct told {
	char text[512];
	size_t most;
};

static bool
on_planned(const struct policy_health *conf, const struct check_way *way, void *arg)
{
	static const char *const names[] = { "A", "B", "CORP", "EXIT" };
	struct told *t = arg;
	if (t->most-- == 0)
		return false;
	assert_int_not_equal(conf->check, HEALTH_NONE);
	for (size_t i = 0; i < way->n; i++) {
		size_t len = strlen(t->text);
		const struct policy_route *r = &way->steps[i];
		snprintf(t->text + len, sizeof t->text - len, "%s%s", i > 0 ? ">" : "",
			 r->kind == ROUTE_UPSTREAM ? names[r->index]
			 : r->index == P           ? "(P)"
						   : "(Q)");
	}
	size_t len = strlen(t->text);
	snprintf(t->text + len, sizeof t->text - len, "\n");
	return true;
}

static struct policy_member p_members[4], q_members[4];
static struct policy_pool pools[2];
static struct policy_route hops[3][PATH_HOPS_MAX + 1];
static struct policy_chain chains[3];

static struct policy
empty_policy(void)
{
	memset(p_members, 0, sizeof p_members);
	memset(q_members, 0, sizeof q_members);
	memset(pools, 0, sizeof pools);
	memset(chains, 0, sizeof chains);
	pools[P].members = p_members;
	pools[Q].members = q_members;
	for (size_t i = 0; i < 3; i++)
		chains[i].hops = hops[i];
	return (struct policy){ .n_upstreams = 4, .pools = pools, .n_pools = 2, .chains = chains };
}

static void
add_member(struct policy_pool *p, struct policy_route r)
{
	p->members[p->n_members++].route = r;
}

static void
add_hop(struct policy_chain *c, struct policy_route r)
{
	c->hops[c->n_hops++] = r;
}

static void
assert_plan(const struct policy *p, const char *want)
{
	struct told t = { .most = 100 };
	assert_true(health_plan(p, on_planned, &t));
	assert_string_equal(t.text, want);
}

static void
test_leaves_of_pools_with_health(void **state)
{
	(void)state;
	struct policy p = empty_policy();
	add_member(&pools[P], (struct policy_route)UPSTREAM(A));
	add_member(&pools[P], (struct policy_route)DIRECT);
	add_member(&pools[P], (struct policy_route)POOL(Q));
	add_member(&pools[Q], (struct policy_route)UPSTREAM(B));
	assert_plan(&p, "");
	pools[P].health.check = HEALTH_CONNECT;
	assert_plan(&p, "A\nB\n");
	pools[Q].health.check = HEALTH_TUNNEL;
	assert_plan(&p, "A\nB\nB\n");
	struct told t = { .most = 1 };
	assert_false(health_plan(&p, on_planned, &t));
}

static void
test_chain_member_is_checked_whole(void **state)
{
	(void)state;
	struct policy p = empty_policy();
	p.n_chains = 2;
	pools[P].health.check = HEALTH_TUNNEL;
	add_hop(&chains[0], (struct policy_route)UPSTREAM(CORP));
	add_hop(&chains[0], (struct policy_route)POOL(Q));
	add_hop(&chains[0], (struct policy_route)CHAIN(1));
	add_hop(&chains[1], (struct policy_route)DIRECT);
	add_hop(&chains[1], (struct policy_route)UPSTREAM(EXIT));
	add_member(&pools[P], (struct policy_route)CHAIN(0));
	assert_plan(&p, "CORP>(Q)>EXIT\n");
}

static void
test_pool_behind_a_hop(void **state)
{
	(void)state;
	struct policy p = empty_policy();
	p.n_chains = 1;
	pools[P].health.check = HEALTH_CONNECT;
	add_member(&pools[P], (struct policy_route)UPSTREAM(A));
	add_member(&pools[P], (struct policy_route)UPSTREAM(B));
	add_hop(&chains[0], (struct policy_route)UPSTREAM(CORP));
	add_hop(&chains[0], (struct policy_route)POOL(P));
	p.default_route = (struct policy_route)CHAIN(0);
	assert_plan(&p, "CORP>A\nCORP>B\n");
	/* once some request goes there straight, the checks do too */
	struct policy_rule rule = { .route = POOL(P) };
	p.rules = &rule;
	p.n_rules = 1;
	assert_plan(&p, "A\nB\n");
	/* or straight from within a pool that is met first */
	rule.route = (struct policy_route)POOL(Q);
	add_member(&pools[Q], (struct policy_route)POOL(P));
	assert_plan(&p, "A\nB\n");
}

static void
test_way_too_long_is_left_out(void **state)
{
	(void)state;
	struct policy p = empty_policy();
	p.n_chains = 1;
	pools[P].health.check = HEALTH_CONNECT;
	for (int i = 0; i < PATH_HOPS_MAX; i++)
		add_hop(&chains[0], (struct policy_route)UPSTREAM(CORP));
	add_member(&pools[P], (struct policy_route)CHAIN(0));
	add_member(&pools[P], (struct policy_route)UPSTREAM(A));
	struct told t = { .most = 100 };
	assert_true(health_plan(&p, on_planned, &t));
	assert_int_equal(t.most, 98);
	add_hop(&chains[0], (struct policy_route)UPSTREAM(B));
	assert_plan(&p, "A\n");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_leaves_of_pools_with_health),
		cmocka_unit_test(test_chain_member_is_checked_whole),
		cmocka_unit_test(test_pool_behind_a_hop),
		cmocka_unit_test(test_way_too_long_is_left_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
