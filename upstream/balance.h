/*
 * balance: how one tier of a pool chooses among its members: a table of functions for each
 * algorithm, each in a file of its own.
 *
 * A balancer knows the members of its tier as slots 0 to n-1. Only those that are `in` can be
 * chosen: usable, with a free slot, of weight > 0; the pool puts them in and takes them out as that
 * changes, so choosing never scans. A choice is made in two steps: choose() says who, and changes
 * nothing that matters; took() follows when the member was really taken. All calls come with the
 * pool's mutex held; nothing here locks, waits or allocates after create().
 */
#ifndef UPSTREAM_BALANCE_H
#define UPSTREAM_BALANCE_H

#include <stdint.h>

#include "upstream/board.h"

/* 256 of the document, in 16 parts where a pool has slow_start. */
enum { BALANCE_WEIGHT_MAX = 256 * 16 };

struct balancer;

struct balance_ops {
	const char *name;                      /* as the policy spells it */
	/**
	 * entries[slot]: what the member's sessions are counted on; valid as long as the balancer.
	 * weights[slot]: as the policy has it; what counts is what put_in says.
	 */
	struct balancer *(*create)(struct board_entry *const *entries, const uint32_t *weights,
	                           uint32_t n);
	void (*destroy)(struct balancer *b);
	/** weight: 1 to BALANCE_WEIGHT_MAX. The slot is not in. */
	void (*put_in)(struct balancer *b, uint32_t slot, uint32_t weight);
	/** The slot is in. */
	void (*take_out)(struct balancer *b, uint32_t slot);
	/** Who is next; at least one slot is in. hash: of the request's key, where the pool has a
	 * hash_key. */
	uint32_t (*choose)(struct balancer *b, uint64_t hash);
	/** The chosen one was taken; NULL: it makes no difference. */
	void (*took)(struct balancer *b, uint32_t slot);
	/** Its sessions changed otherwise; the slot may be out. NULL: it makes no difference. */
	void (*load_changed)(struct balancer *b, uint32_t slot);
};

extern const struct balance_ops balance_round_robin, balance_least_connections, balance_random;
extern const struct balance_ops balance_first, balance_two_choices, balance_least_latency;
extern const struct balance_ops balance_consistent_hash;

#endif
