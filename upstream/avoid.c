/*
 * avoid: see avoid.h. Chains in a fixed number of buckets, by host; one list by last use. A pool
 * where nothing has failed yet has no buckets.
 */
#include "upstream/avoid.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>

#include "base/hash.h"
#include "base/list.h"

enum { BUCKETS = 1024 };

struct record {
	struct list used;                      /* in avoid.used, most recently used last */
	struct record *next;                   /* in its bucket, the newest first */
	uint64_t hash;                         /* of the host */
	uint32_t failures;                     /* in a row */
	uint64_t until_ms;                     /* 0: not to be avoided yet */
	char member[POLICY_NAME_MAX + 1];
	char host[];
};

struct avoid {
	pthread_mutex_t mutex;                 /* over all of it */
	struct list used;
	struct record **buckets;               /* NULL: none yet */
	size_t n;
};

struct avoid *
avoid_new(void)
{
	struct avoid *a = calloc(1, sizeof *a);
	if (a == NULL || pthread_mutex_init(&a->mutex, NULL) != 0) {
		free(a);
		return NULL;
	}
	list_init(&a->used);
	return a;
}

void
avoid_free(struct avoid *a)
{
	if (a == NULL)
		return;
	LIST_FOR_EACH(&a->used, link)
		free(LIST_OBJECT(link, struct record, used));
	pthread_mutex_destroy(&a->mutex);
	free(a->buckets);
	free(a);
}

static struct record **
bucket_of(struct avoid *a, uint64_t hash)
{
	return &a->buckets[hash & (BUCKETS - 1)];
}

static bool
is_of(const struct record *r, uint64_t hash, const char *host)
{
	return r->hash == hash && strcmp(r->host, host) == 0;
}

/* NULL: there is none. */
static struct record *
find(struct avoid *a, uint64_t hash, const char *host, const char *member)
{
	struct record *r = a->buckets == NULL ? NULL : *bucket_of(a, hash);
	while (r != NULL && !(is_of(r, hash, host) && strcmp(r->member, member) == 0))
		r = r->next;
	return r;
}

static void
drop(struct avoid *a, struct record *r)
{
	struct record **at = bucket_of(a, r->hash);
	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	list_remove(&r->used);
	a->n--;
	free(r);
}

/* One more of this host, and one more at all. */
static void
make_room(struct avoid *a, uint64_t hash, const char *host)
{
	struct record *oldest = NULL;
	unsigned n = 0;
	for (struct record *r = *bucket_of(a, hash); r != NULL; r = r->next) {
		if (is_of(r, hash, host)) {
			oldest = r;
			n++;
		}
	}
	if (n >= AVOID_EACH_HOST_MAX)
		drop(a, oldest);
	else if (a->n >= AVOID_MAX)
		drop(a, LIST_OBJECT(a->used.next, struct record, used));
}

/* NULL: out of memory. */
static struct record *
add(struct avoid *a, uint64_t hash, const char *host, const char *member)
{
	size_t size = strlen(host) + 1;
	if (a->buckets == NULL && (a->buckets = calloc(BUCKETS, sizeof *a->buckets)) == NULL)
		return NULL;
	make_room(a, hash, host);
	struct record *r = calloc(1, sizeof *r + size);
	if (r == NULL)
		return NULL;
	r->hash = hash;
	memcpy(r->host, host, size);
	snprintf(r->member, sizeof r->member, "%s", member);
	list_append(&a->used, &r->used);
	r->next = *bucket_of(a, hash);
	*bucket_of(a, hash) = r;
	a->n++;
	return r;
}

static void
use(struct avoid *a, struct record *r)
{
	list_remove(&r->used);
	list_append(&a->used, &r->used);
}

void
avoid_note_failure(struct avoid *a, const char *host, const char *member, uint64_t now_ms,
                   const struct policy_avoid *conf)
{
	uint64_t hash = hash_keyed(host, strlen(host));
	pthread_mutex_lock(&a->mutex);
	struct record *r = find(a, hash, host, member);
	if (r == NULL)
		r = add(a, hash, host, member);
	if (r != NULL) {
		use(a, r);
		if (r->failures < conf->failures)
			r->failures++;
		if (r->failures >= conf->failures)
			r->until_ms = now_ms + conf->for_ms;
	}
	pthread_mutex_unlock(&a->mutex);
}

void
avoid_note_success(struct avoid *a, const char *host, const char *member)
{
	pthread_mutex_lock(&a->mutex);
	if (a->n > 0) {
		struct record *r = find(a, hash_keyed(host, strlen(host)), host, member);
		if (r != NULL)
			drop(a, r);
	}
	pthread_mutex_unlock(&a->mutex);
}

size_t
avoid_count(struct avoid *a)
{
	pthread_mutex_lock(&a->mutex);
	size_t n = a->n;
	pthread_mutex_unlock(&a->mutex);
	return n;
}

void
avoid_each(struct avoid *a, const char *host, uint64_t now_ms, avoid_each_cb *each, void *arg)
{
	pthread_mutex_lock(&a->mutex);
	uint64_t hash = a->n > 0 ? hash_keyed(host, strlen(host)) : 0;
	for (struct record *r = a->n > 0 ? *bucket_of(a, hash) : NULL; r != NULL; r = r->next) {
		if (r->until_ms > now_ms && is_of(r, hash, host)) {
			use(a, r);
			each(r->member, arg);
		}
	}
	pthread_mutex_unlock(&a->mutex);
}
