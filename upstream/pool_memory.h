/*
 * pool_memory: what a pool knows beyond one policy: the sticky table, who fails for which host,
 * and the retry budget. It hangs on the pool's board entry, so the pool of the next policy by the
 * same name goes on with it.
 */
#ifndef UPSTREAM_POOL_MEMORY_H
#define UPSTREAM_POOL_MEMORY_H

#include <pthread.h>

#include "upstream/avoid.h"
#include "upstream/board.h"
#include "upstream/budget.h"
#include "upstream/sticky.h"

struct pool_memory {
	struct sticky *sticky;
	struct avoid *avoid;
	pthread_mutex_t mutex;                 /* over the budget; may be taken with a pool's held */
	struct budget budget;
};

/** The entry's, made if it has none; lives as long as the entry. NULL: out of memory. */
struct pool_memory *pool_memory_of(struct board_entry *pool) WARN_UNUSED;

#endif
