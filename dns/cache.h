/*
 * cache: what name servers said, for as long as they said it holds. One entry a name, with an
 * outcome for each record: A, AAAA, and PTR, of the names that stand for addresses.
 *
 * Keeps answers and "there is none" (NXDOMAIN, NODATA), never failures: a blip must not become an
 * outage. Bounded: the name that was used least recently makes room. Time is a parameter. Confined
 * to one thread.
 * Life: cache_new -> cache_put / cache_find * n -> cache_free.
 */
#ifndef DNS_CACHE_H
#define DNS_CACHE_H
#include "dns/address.h"
#include "dns/answer.h"

#include <stddef.h>
#include <stdint.h>

struct cache;

struct cache_limits {
	uint32_t max_entries;                  /* 0: nothing is kept */
	uint64_t min_ttl_ms, max_ttl_ms;       /* what a positive answer's TTL is moved into */
	uint64_t negative_ttl_ms;              /* the most for a negative one; as much without SOA */
};

struct cache_outcome {
	uint64_t expires_ms;                   /* 0: not known */
	size_t n;                              /* 0: there is none */
	struct dns_address *addrs;             /* NULL of a PTR */
	char *target;                          /* of a PTR: the host's name; else NULL */
};

struct cache_entry;

/** NULL: out of memory. */
struct cache *cache_new(const struct cache_limits *limits);
void cache_free(struct cache *c);              /* NULL is fine */
/** Entries that are there keep the time that they have; too many go at once. */
void cache_set_limits(struct cache *c, const struct cache_limits *limits);

/** Keeps the answer, if it is of a kind and a TTL to be kept. Out of memory: it isn't kept. */
void cache_put(struct cache *c, const char *name, enum record record, const struct answer *a,
	       uint64_t now_ms);
/**
 * NULL: nothing is known. Counts as use. The entry is valid until the next call that takes a cache
 * that is not const.
 */
const struct cache_entry *cache_find(struct cache *c, const char *name, uint64_t now_ms);
/** What is known of a record; NULL: nothing (any more). */
const struct cache_outcome *cache_outcome(const struct cache_entry *e, enum record record,
					  uint64_t now_ms);
const char *cache_name(const struct cache_entry *e);

typedef void cache_each_cb(const struct cache_entry *e, void *arg);
/**
 * Calls each for every entry of which something is known at now_ms, the one used last first. It
 * must not change the cache.
 */
void cache_each(const struct cache *c, uint64_t now_ms, cache_each_cb *each, void *arg);
/** name NULL: all. Returns how many entries went. */
size_t cache_drop(struct cache *c, const char *name);
/** Entries held, those out of date too. */
size_t cache_len(const struct cache *c);

#endif
