/*
 * avoid: which members of a pool keep failing for which destination host: one table for each pool,
 * shared by all workers, kept across reloads.
 *
 * Bounded, as hosts are strangers' text: AVOID_MAX entries in all and AVOID_EACH_HOST_MAX for one
 * host (where more members fail than that it is the host), the one used longest ago makes room, and
 * the hash is keyed. Members stand by name, as indexes change with the policy. Under a mutex of its
 * own, held for a look-up; it may be taken with a pool's mutex held.
 * Life: avoid_new -> note_failure / note_success / each * n -> avoid_free.
 */
#ifndef UPSTREAM_AVOID_H
#define UPSTREAM_AVOID_H

#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "policy/policy.h"

enum { AVOID_MAX = 4096, AVOID_EACH_HOST_MAX = 32 };

struct avoid;

/* NULL: out of memory. */
struct avoid *avoid_new(void) WARN_UNUSED;
void avoid_free(struct avoid *a);              /* NULL is fine */

/**
 * One more failure in a row of the member for the host: from conf->failures on it is to be avoided
 * for conf->for_ms, and after that time the next failure says so again. Out of memory: as it was.
 */
void avoid_note_failure(struct avoid *a, const char *host, const char *member, uint64_t now_ms,
                        const struct policy_avoid *conf);
/** It did what it was asked for: nothing is held against it there. */
void avoid_note_success(struct avoid *a, const char *host, const char *member);
size_t avoid_count(struct avoid *a);

typedef void avoid_each_cb(const char *member, void *arg);
/** Those to be avoided for the host now, AVOID_EACH_HOST_MAX at most. With the mutex held: short. */
void avoid_each(struct avoid *a, const char *host, uint64_t now_ms, avoid_each_cb *each,
                void *arg);

#endif
