/*
 * cache: a name_table for finding and a list in order of use for making room.
 */
#include "dns/cache.h"

#include "base/list.h"
#include "dns/name_table.h"

#include <stdlib.h>
#include <string.h>

struct cache_entry {
	struct name_node node;
	struct list use;
	struct cache_outcome outcomes[RECORD_ALL];
	char name[];
};

struct cache {
	struct cache_limits limits;
	struct name_table table;
	struct list use;                       /* used last first */
};

struct cache *
cache_new(const struct cache_limits *limits)
{
	struct cache *c = calloc(1, sizeof *c);
	if (c == NULL)
		return NULL;
	c->limits = *limits;
	list_init(&c->use);
	return c;
}

static void
outcome_clear(struct cache_outcome *o)
{
	free(o->addrs);
	free(o->target);
	*o = (struct cache_outcome){ 0 };
}

static void
entry_free(struct cache_entry *e)
{
	for (size_t i = 0; i < RECORD_ALL; i++)
		outcome_clear(&e->outcomes[i]);
	free(e);
}

static void
entry_drop(struct cache *c, struct cache_entry *e)
{
	name_table_remove(&c->table, &e->node);
	list_remove(&e->use);
	entry_free(e);
}

static void
entry_use(struct cache *c, struct cache_entry *e)
{
	list_remove(&e->use);
	list_insert_before(c->use.next, &e->use);
}

static struct cache_entry *
entry_find(const struct cache *c, const char *name)
{
	struct name_node *node = name_table_find(&c->table, name);
	return node == NULL ? NULL : CONTAINER_OF(node, struct cache_entry, node);
}

static void
drop_beyond(struct cache *c, size_t max)
{
	while (c->table.n > max)
		entry_drop(c, LIST_OBJECT(c->use.prev, struct cache_entry, use));
}

static struct cache_entry *
entry_add(struct cache *c, const char *name)
{
	size_t size = strlen(name) + 1;
	drop_beyond(c, c->limits.max_entries - 1);
	struct cache_entry *e = calloc(1, sizeof *e + size);
	if (e == NULL)
		return NULL;
	memcpy(e->name, name, size);
	e->node.name = e->name;
	if (!name_table_add(&c->table, &e->node)) {
		entry_free(e);
		return NULL;
	}
	list_init(&e->use);
	entry_use(c, e);
	return e;
}

void
cache_free(struct cache *c)
{
	if (c == NULL)
		return;
	drop_beyond(c, 0);
	name_table_free(&c->table);
	free(c);
}

void
cache_set_limits(struct cache *c, const struct cache_limits *limits)
{
	c->limits = *limits;
	drop_beyond(c, limits->max_entries);
}

/* 0: not to be kept. */
static uint64_t
ttl_of(const struct cache_limits *limits, const struct answer *a)
{
	uint64_t ttl = (uint64_t)a->ttl_s * 1000;
	if (answer_is_negative(a))
		return ttl < limits->negative_ttl_ms ? ttl : limits->negative_ttl_ms;
	if (a->kind != ANSWER_ADDRESSES)
		return 0;
	if (ttl < limits->min_ttl_ms)
		ttl = limits->min_ttl_ms;
	return ttl < limits->max_ttl_ms ? ttl : limits->max_ttl_ms;
}

/* False: out of memory. */
static bool
outcome_fill(struct cache_outcome *o, enum record record, const struct answer *a)
{
	if (record == RECORD_PTR)
		return (o->target = strdup(a->target)) != NULL;
	if ((o->addrs = malloc(a->n * sizeof *o->addrs)) == NULL)
		return false;
	memcpy(o->addrs, a->addrs, a->n * sizeof *o->addrs);
	return true;
}

static void
outcome_set(struct cache_outcome *o, enum record record, const struct answer *a, uint64_t expires_ms)
{
	outcome_clear(o);
	if (a->n > 0 && !outcome_fill(o, record, a))
		return;
	o->n = a->n;
	o->expires_ms = expires_ms;
}

void
cache_put(struct cache *c, const char *name, enum record record, const struct answer *a,
	  uint64_t now_ms)
{
	uint64_t ttl = ttl_of(&c->limits, a);
	if (ttl == 0 || c->limits.max_entries == 0)
		return;
	struct cache_entry *e = entry_find(c, name);
	if (e == NULL && (e = entry_add(c, name)) == NULL)
		return;
	outcome_set(&e->outcomes[record], record, a, now_ms + ttl);
	entry_use(c, e);
}

const struct cache_outcome *
cache_outcome(const struct cache_entry *e, enum record record, uint64_t now_ms)
{
	const struct cache_outcome *o = &e->outcomes[record];
	return now_ms < o->expires_ms ? o : NULL;
}

static bool
entry_is_live(const struct cache_entry *e, uint64_t now_ms)
{
	for (enum record record = 0; record < RECORD_ALL; record++)
		if (cache_outcome(e, record, now_ms) != NULL)
			return true;
	return false;
}

const struct cache_entry *
cache_find(struct cache *c, const char *name, uint64_t now_ms)
{
	struct cache_entry *e = entry_find(c, name);
	if (e == NULL)
		return NULL;
	if (!entry_is_live(e, now_ms)) {
		entry_drop(c, e);
		return NULL;
	}
	entry_use(c, e);
	return e;
}

const char *
cache_name(const struct cache_entry *e)
{
	return e->name;
}

void
cache_each(const struct cache *c, uint64_t now_ms, cache_each_cb *each, void *arg)
{
	LIST_FOR_EACH(&c->use, node) {
		const struct cache_entry *e = LIST_OBJECT(node, struct cache_entry, use);
		if (entry_is_live(e, now_ms))
			each(e, arg);
	}
}

size_t
cache_drop(struct cache *c, const char *name)
{
	size_t before = c->table.n;
	struct cache_entry *e;
	if (name == NULL)
		drop_beyond(c, 0);
	else if ((e = entry_find(c, name)) != NULL)
		entry_drop(c, e);
	return before - c->table.n;
}

size_t
cache_len(const struct cache *c)
{
	return c->table.n;
}
