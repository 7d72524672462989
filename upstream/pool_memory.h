/*
 * pool_memory: what a pool knows beyond one policy: the sticky table, who fails for which host,
 * the budgets of retries and races, and how often it has chosen each member. It hangs on the pool's
 * board entry, so the pool of the next policy by the same name goes on with it.
 */
#ifndef UPSTREAM_POOL_MEMORY_H
#define UPSTREAM_POOL_MEMORY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "upstream/avoid.h"
#include "upstream/board.h"
#include "upstream/budget.h"
#include "upstream/sticky.h"

/* How often the pool has chosen a member, by the member's name; who holds it adds, relaxed. */
struct pick_count;

struct pool_memory {
	struct sticky *sticky;
	struct avoid *avoid;
	pthread_mutex_t mutex;                 /* over what follows; may be taken with a pool's held */
	struct budget budget;
	struct extra_budget extra;
	struct pick_count *picks;              /* by name; those that are held */
};

/** The entry's, made if it has none; lives as long as the entry. NULL: out of memory. */
struct pool_memory *pool_memory_of(struct board_entry *pool) WARN_UNUSED;

/** A member's count: the one that is held already (by the pool of the policy before), or a new one. NULL: out of memory. */
struct pick_count *pick_count_hold(struct pool_memory *m, const char *name) WARN_UNUSED;
void pick_count_release(struct pool_memory *m, struct pick_count *c); /* NULL is fine */
void pick_count_add(struct pick_count *c);
uint64_t pick_count_get(const struct pick_count *c);

#endif
