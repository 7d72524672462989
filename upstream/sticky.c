/*
 * sticky: see sticky.h. Chains in buckets, doubled as the table fills, and one list by last use.
 */
#include "upstream/sticky.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>

#include "base/hash.h"
#include "base/list.h"

enum { BUCKETS_MIN = 64 };

struct pin {
	struct list used;                      /* in sticky.used, most recently used last */
	struct pin *next;                      /* in its bucket */
	uint64_t hash, until_ms;
	char member[POLICY_NAME_MAX + 1];
	char key[];
};

struct sticky {
	pthread_mutex_t mutex;                 /* over all of it */
	struct list used;
	struct pin **buckets;                  /* a power of two of them */
	size_t n_buckets, n;
};

struct sticky *
sticky_new(void)
{
	struct sticky *s = calloc(1, sizeof *s);
	if (s == NULL)
		return NULL;
	s->n_buckets = BUCKETS_MIN;
	s->buckets = calloc(s->n_buckets, sizeof *s->buckets);
	if (s->buckets == NULL || pthread_mutex_init(&s->mutex, NULL) != 0) {
		free(s->buckets);
		free(s);
		return NULL;
	}
	list_init(&s->used);
	return s;
}

static struct pin **
place_of(struct sticky *s, uint64_t hash, const char *key)
{
	struct pin **at = &s->buckets[hash & (s->n_buckets - 1)];
	while (*at != NULL && ((*at)->hash != hash || strcmp((*at)->key, key) != 0))
		at = &(*at)->next;
	return at;
}

static void
drop_at(struct sticky *s, struct pin **at)
{
	struct pin *p = *at;
	*at = p->next;
	list_remove(&p->used);
	s->n--;
	free(p);
}

static void
drop_oldest(struct sticky *s)
{
	struct pin *p = LIST_OBJECT(s->used.next, struct pin, used);
	drop_at(s, place_of(s, p->hash, p->key));
}

static size_t
drop_all(struct sticky *s)
{
	size_t n = s->n;
	while (s->n > 0)
		drop_oldest(s);
	return n;
}

void
sticky_free(struct sticky *s)
{
	if (s == NULL)
		return;
	drop_all(s);
	pthread_mutex_destroy(&s->mutex);
	free(s->buckets);
	free(s);
}

/* Without memory the chains get longer: slower, but right. */
static void
make_room(struct sticky *s)
{
	size_t n_buckets = s->n_buckets * 2;
	struct pin **buckets = s->n < s->n_buckets ? NULL : calloc(n_buckets, sizeof *buckets);
	if (buckets == NULL)
		return;
	LIST_FOR_EACH(&s->used, link) {
		struct pin *p = LIST_OBJECT(link, struct pin, used);
		p->next = buckets[p->hash & (n_buckets - 1)];
		buckets[p->hash & (n_buckets - 1)] = p;
	}
	free(s->buckets);
	s->buckets = buckets;
	s->n_buckets = n_buckets;
}

bool
sticky_find(struct sticky *s, const char *key, uint64_t now_ms, uint64_t until_ms,
            char member[POLICY_NAME_MAX + 1])
{
	uint64_t hash = hash_keyed(key, strlen(key));
	pthread_mutex_lock(&s->mutex);
	struct pin **at = place_of(s, hash, key), *p = *at;
	if (p != NULL && p->until_ms <= now_ms) {
		drop_at(s, at);
		p = NULL;
	}
	if (p != NULL) {
		memcpy(member, p->member, sizeof p->member);
		if (until_ms > 0) {
			p->until_ms = until_ms;
			list_remove(&p->used);
			list_append(&s->used, &p->used);
		}
	}
	pthread_mutex_unlock(&s->mutex);
	return p != NULL;
}

static struct pin *
add(struct sticky *s, uint64_t hash, const char *key)
{
	size_t size = strlen(key) + 1;
	struct pin *p = calloc(1, sizeof *p + size);
	if (p == NULL)
		return NULL;
	p->hash = hash;
	memcpy(p->key, key, size);
	list_init(&p->used);
	make_room(s);
	struct pin **bucket = &s->buckets[hash & (s->n_buckets - 1)];
	p->next = *bucket;
	*bucket = p;
	s->n++;
	return p;
}

void
sticky_set(struct sticky *s, const char *key, const char *member, uint64_t now_ms,
           uint64_t until_ms, size_t max)
{
	uint64_t hash = hash_keyed(key, strlen(key));
	pthread_mutex_lock(&s->mutex);
	struct pin *p = *place_of(s, hash, key);
	if (p == NULL) {
		while (s->n >= max)
			drop_oldest(s);
		/* what has expired goes as its turn comes, so an old burst does not stay */
		for (int i = 0; i < 2 && s->n > 0; i++)
			if (LIST_OBJECT(s->used.next, struct pin, used)->until_ms <= now_ms)
				drop_oldest(s);
		p = add(s, hash, key);
	}
	if (p != NULL) {
		p->until_ms = until_ms;
		snprintf(p->member, sizeof p->member, "%s", member);
		list_remove(&p->used);
		list_append(&s->used, &p->used);
	}
	pthread_mutex_unlock(&s->mutex);
}

size_t
sticky_drop(struct sticky *s, const char *key)
{
	size_t n = 0;
	pthread_mutex_lock(&s->mutex);
	if (key == NULL) {
		n = drop_all(s);
	} else {
		struct pin **at = place_of(s, hash_keyed(key, strlen(key)), key);
		if (*at != NULL) {
			drop_at(s, at);
			n = 1;
		}
	}
	pthread_mutex_unlock(&s->mutex);
	return n;
}

size_t
sticky_count(struct sticky *s)
{
	pthread_mutex_lock(&s->mutex);
	size_t n = s->n;
	pthread_mutex_unlock(&s->mutex);
	return n;
}

void
sticky_each(struct sticky *s, uint64_t now_ms, sticky_each_cb *each, void *arg)
{
	pthread_mutex_lock(&s->mutex);
	for (struct list *link = s->used.prev; link != &s->used; link = link->prev) {
		const struct pin *p = LIST_OBJECT(link, struct pin, used);
		if (p->until_ms > now_ms)
			each(p->key, p->member, p->until_ms - now_ms, arg);
	}
	pthread_mutex_unlock(&s->mutex);
}
