#include "router/clients.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

#define HASH_FUNCTION(key, len, out) ((out) = (unsigned)hash_keyed(key, len))
#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(entry) ((entry)->count = 0)
#include <uthash.h>

enum { SHARDS = 16 };

struct client_key {
	const void *listener;
	uint8_t addr[16];
	uint8_t kind;
};

struct client {
	struct client_key key;
	uint32_t count;
	UT_hash_handle hh;
};

struct shard {
	pthread_mutex_t lock;
	struct client *table;
};

struct clients {
	struct shard shards[SHARDS];
};

struct clients *
clients_new(void)
{
	struct clients *c = calloc(1, sizeof *c);
	if (c == NULL)
		return NULL;
	for (int i = 0; i < SHARDS; i++)
		pthread_mutex_init(&c->shards[i].lock, NULL);
	return c;
}

void
clients_free(struct clients *c)
{
	if (c == NULL)
		return;
	for (int i = 0; i < SHARDS; i++) {
		struct client *e, *next;
		HASH_ITER (hh, c->shards[i].table, e, next) {
			HASH_DEL(c->shards[i].table, e);
			free(e);
		}
		pthread_mutex_destroy(&c->shards[i].lock);
	}
	free(c);
}

static struct client_key
key_of(const void *listener, const struct endpoint *client)
{
	struct client_key key;
	memset(&key, 0, sizeof key);            /* padding is hashed too */
	key.listener = listener;
	key.kind = client->kind;
	if (endpoint_is_address(client))
		memcpy(key.addr, client->addr, client->kind == ENDPOINT_IPV4 ? 4 : 16);
	return key;
}

static struct shard *
shard_of(struct clients *c, const struct client_key *key)
{
	return &c->shards[hash_keyed(key, sizeof *key) >> 32 & (SHARDS - 1)];
}

static struct client *
client_add(struct shard *s, const struct client_key *key)
{
	struct client *e = calloc(1, sizeof *e);
	if (e == NULL)
		return NULL;
	e->key = *key;
	e->count = 1;
	HASH_ADD(hh, s->table, key, sizeof e->key, e);
	if (e->count == 1)
		return e;
	free(e);
	return NULL;
}

bool
clients_take(struct clients *c, const void *listener, const struct endpoint *client, uint32_t max)
{
	struct client_key key = key_of(listener, client);
	struct shard *s = shard_of(c, &key);
	struct client *e;
	bool ok = false;
	pthread_mutex_lock(&s->lock);
	HASH_FIND(hh, s->table, &key, sizeof key, e);
	if (e == NULL) {
		ok = max > 0 && client_add(s, &key) != NULL;
	} else if (e->count < max) {
		e->count++;
		ok = true;
	}
	pthread_mutex_unlock(&s->lock);
	return ok;
}

void
clients_give_back(struct clients *c, const void *listener, const struct endpoint *client)
{
	struct client_key key = key_of(listener, client);
	struct shard *s = shard_of(c, &key);
	struct client *e;
	pthread_mutex_lock(&s->lock);
	HASH_FIND(hh, s->table, &key, sizeof key, e);
	if (e != NULL && --e->count == 0) {
		HASH_DEL(s->table, e);
		free(e);
	}
	pthread_mutex_unlock(&s->lock);
}

size_t
clients_count(struct clients *c)
{
	size_t n = 0;
	for (int i = 0; i < SHARDS; i++) {
		pthread_mutex_lock(&c->shards[i].lock);
		n += HASH_COUNT(c->shards[i].table);
		pthread_mutex_unlock(&c->shards[i].lock);
	}
	return n;
}
