/*
 * revision: one policy with all that lives as long as it is in use: its fleet, the fronts of its listeners, the hits of its rules.
 *
 * Made by the control thread, posted to every worker, immutable but for the hits: each worker writes its own row (relaxed, no
 * read-modify-write), readers add the rows up. The last reference frees: workers hold one each while sessions need it.
 */
#ifndef ROUTER_REVISION_H
#define ROUTER_REVISION_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "policy/policy.h"
#include "router/front.h"
#include "upstream/fleet.h"

struct tls_context;

struct revision {
	atomic_int refs;
	struct policy *policy;
	struct fleet *fleet;
	struct front **fronts;                 /* one for each of policy->listeners */
	struct tls_context **tls;              /* of each listener; NULL: plain */
	unsigned n_workers;
	size_t hits_stride;                    /* counters in a worker's row, a multiple of a cache line */
	atomic_uint_least64_t *hits;           /* [worker][rule]; rule n_rules is the default route */
};

/** Takes the references of policy, fleet and of each front, on failure too. fronts is copied. NULL: out of memory. */
struct revision *revision_new(struct policy *p, struct fleet *f, struct front **fronts, unsigned n_workers);
/** Loads the listeners' certificates, before anybody uses it. Returns the listener at fault (why is told), or n_listeners. */
size_t revision_load_tls(struct revision *r, char *why, size_t cap) WARN_UNUSED;
struct revision *revision_ref(struct revision *r);
void revision_unref(struct revision *r);       /* NULL is fine */

/** By worker's own thread only. rule -1: the default route. */
static inline void
revision_hit(struct revision *r, unsigned worker, int rule)
{
	size_t column = rule < 0 ? r->policy->n_rules : (size_t)rule;
	atomic_uint_least64_t *cell = &r->hits[worker * r->hits_stride + column];
	atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + 1, memory_order_relaxed);
}

/** Over all workers. rule == n_rules: the default route. */
uint64_t revision_sum_hits(const struct revision *r, size_t rule);

#endif
