/*
 * name_table: chained buckets, a power of two of them, doubled when there are more names than
 * buckets.
 */
#include "dns/name_table.h"

#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS_MIN = 16 };

static struct name_node **
bucket_of(const struct name_table *t, uint64_t hash)
{
	return &t->buckets[hash & (t->n_buckets - 1)];
}

/* Out of memory is no failure where buckets are there already: chains get longer. */
static bool
make_room(struct name_table *t)
{
	if (t->n < t->n_buckets)
		return true;
	struct name_table bigger = { .n_buckets = BUCKETS_MIN, .n = t->n };
	if (t->n_buckets > 0)
		bigger.n_buckets = t->n_buckets * 2;
	bigger.buckets = calloc(bigger.n_buckets, sizeof *bigger.buckets);
	if (bigger.buckets == NULL)
		return t->n_buckets > 0;
	for (size_t i = 0; i < t->n_buckets; i++) {
		for (struct name_node *node = t->buckets[i], *next; node != NULL; node = next) {
			struct name_node **bucket = bucket_of(&bigger, node->hash);
			next = node->next;
			node->next = *bucket;
			*bucket = node;
		}
	}
	free(t->buckets);
	*t = bigger;
	return true;
}

bool
name_table_add(struct name_table *t, struct name_node *node)
{
	if (!make_room(t))
		return false;
	node->hash = hash_keyed(node->name, strlen(node->name));
	struct name_node **bucket = bucket_of(t, node->hash);
	node->next = *bucket;
	*bucket = node;
	t->n++;
	return true;
}

struct name_node *
name_table_find(const struct name_table *t, const char *name)
{
	if (t->n == 0)
		return NULL;
	uint64_t hash = hash_keyed(name, strlen(name));
	struct name_node *node = *bucket_of(t, hash);
	while (node != NULL && (node->hash != hash || strcmp(node->name, name) != 0))
		node = node->next;
	return node;
}

void
name_table_remove(struct name_table *t, struct name_node *node)
{
	struct name_node **at = bucket_of(t, node->hash);
	while (*at != node)
		at = &(*at)->next;
	*at = node->next;
	t->n--;
}

struct name_node *
name_table_take(struct name_table *t)
{
	for (size_t i = 0; t->n > 0 && i < t->n_buckets; i++) {
		struct name_node *node = t->buckets[i];
		if (node == NULL)
			continue;
		t->buckets[i] = node->next;
		t->n--;
		return node;
	}
	return NULL;
}

void
name_table_free(struct name_table *t)
{
	free(t->buckets);
	*t = (struct name_table){ 0 };
}
