/*
 * health_plan: what a policy's pools want to have checked, and along which way. Pure.
 *
 * Every upstream and chain that a pool with health leads to, through pools inside it too, is one
 * check with that pool's settings. The way to it is the whole one: the hops of a chain, and where a
 * pool is met only behind other hops of a chain (never first), those hops before it.
 */
#ifndef UPSTREAM_HEALTH_PLAN_H
#define UPSTREAM_HEALTH_PLAN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/base.h"
#include "policy/policy.h"
#include "upstream/fleet.h"

/* The hops to take: upstreams, and pools that choose one when the check is made. */
struct check_way {
	size_t n;                              /* 1 to PATH_HOPS_MAX */
	struct policy_route steps[PATH_HOPS_MAX];
};

/** False ends the plan. */
typedef bool health_plan_cb(const struct policy_health *conf, const struct check_way *way,
			    void *arg);

/**
 * Calls each for every check, the same one more than once if pools overlap. False: out of memory,
 * or each said so.
 */
bool health_plan(const struct policy *p, health_plan_cb *each, void *arg) WARN_UNUSED;

#endif
