/*
 * sticky: which member a key's requests went to last: one table for each pool, shared by all
 * workers, kept across reloads.
 *
 * Bounded: with max entries in it the one that was used longest ago makes room. Keys are strangers'
 * text, so the hash is keyed. Members stand by name, as indexes change with the policy. Under a
 * mutex of its own, held for a look-up; it may be taken with a pool's mutex held.
 * Life: sticky_new -> find / set * n -> sticky_free.
 */
#ifndef UPSTREAM_STICKY_H
#define UPSTREAM_STICKY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "policy/policy.h"

struct sticky;

/* NULL: out of memory. */
struct sticky *sticky_new(void) WARN_UNUSED;
void sticky_free(struct sticky *s);            /* NULL is fine */

/**
 * The member of a key, if it has one that has not expired.
 * @param until_ms  > 0: it is used now, and stays until then
 */
bool sticky_find(struct sticky *s, const char *key, uint64_t now_ms, uint64_t until_ms,
                 char member[POLICY_NAME_MAX + 1]) WARN_UNUSED;
/** From now on this member. max: > 0 entries in all. Out of memory: as it was. */
void sticky_set(struct sticky *s, const char *key, const char *member, uint64_t now_ms,
                uint64_t until_ms, size_t max);
/** key NULL: all. Returns how many there were. */
size_t sticky_drop(struct sticky *s, const char *key);
size_t sticky_count(struct sticky *s);

/* Of an entry: what there is, valid during the call only. */
typedef void sticky_each_cb(const char *key, const char *member, uint64_t left_ms, void *arg);
/** Those that have not expired, most recently used first. With the table's mutex held: short. */
void sticky_each(struct sticky *s, uint64_t now_ms, sticky_each_cb *each, void *arg);

#endif
