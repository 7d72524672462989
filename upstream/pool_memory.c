/*
 * pool_memory: see pool_memory.h.
 */
#define HASH_NONFATAL_OOM 1

#include "upstream/pool_memory.h"

#include <stdlib.h>
#include <string.h>

#include <uthash.h>

struct pick_count {
	UT_hash_handle hh;
	char *name;
	unsigned holders;
	atomic_uint_least64_t n;
};

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

/* ---- picks ---- */

static void
pick_count_free(struct pick_count *c)
{
	free(c->name);
	free(c);
}

static struct pick_count *
pick_count_new(struct pool_memory *m, const char *name)
{
	struct pick_count *c = calloc(1, sizeof *c);
	if (c == NULL)
		return NULL;
	if ((c->name = strdup(name)) != NULL)
		HASH_ADD_KEYPTR(hh, m->picks, c->name, strlen(c->name), c);
	if (c->name != NULL && c->hh.tbl != NULL)
		return c;
	pick_count_free(c);
	return NULL;
}

struct pick_count *
pick_count_hold(struct pool_memory *m, const char *name)
{
	struct pick_count *c;
	pthread_mutex_lock(&m->mutex);
	HASH_FIND_STR(m->picks, name, c);
	if (c == NULL)
		c = pick_count_new(m, name);
	if (c != NULL)
		c->holders++;
	pthread_mutex_unlock(&m->mutex);
	return c;
}

void
pick_count_release(struct pool_memory *m, struct pick_count *c)
{
	if (c == NULL)
		return;
	pthread_mutex_lock(&m->mutex);
	if (--c->holders == 0) {
		HASH_DEL(m->picks, c);
		pick_count_free(c);
	}
	pthread_mutex_unlock(&m->mutex);
}

void
pick_count_add(struct pick_count *c)
{
	atomic_fetch_add_explicit(&c->n, 1, memory_order_relaxed);
}

uint64_t
pick_count_get(const struct pick_count *c)
{
	return atomic_load_explicit(&c->n, memory_order_relaxed);
}
