/*
 * pool_memory: see pool_memory.h.
 */
#include "upstream/pool_memory.h"

#include <stdlib.h>

static void
memory_free(void *kept)
{
	struct pool_memory *m = kept;
	sticky_free(m->sticky);
	avoid_free(m->avoid);
	pthread_mutex_destroy(&m->mutex);
	free(m);
}

static struct pool_memory *
memory_new(void)
{
	struct pool_memory *m = calloc(1, sizeof *m);
	if (m == NULL)
		return NULL;
	m->sticky = sticky_new();
	m->avoid = avoid_new();
	if (m->sticky == NULL || m->avoid == NULL || pthread_mutex_init(&m->mutex, NULL) != 0) {
		sticky_free(m->sticky);
		avoid_free(m->avoid);
		free(m);
		return NULL;
	}
	return m;
}

struct pool_memory *
pool_memory_of(struct board_entry *pool)
{
	pthread_mutex_lock(&pool->lock);
	if (pool->kept == NULL && (pool->kept = memory_new()) != NULL)
		pool->free_kept = memory_free;
	struct pool_memory *m = pool->kept;
	pthread_mutex_unlock(&pool->lock);
	return m;
}
