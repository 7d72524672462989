/*
 * slot_heap: a binary heap of slots (0 to n-1) by cost, for balancers that always want the least
 * one. Among equal costs the slot whose last turn is longest ago comes first, then the lower one.
 *
 * Life: slot_heap_init -> put / remove / set_cost * n -> slot_heap_free. Allocates nothing between.
 */
#ifndef UPSTREAM_SLOT_HEAP_H
#define UPSTREAM_SLOT_HEAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"

struct slot_place {
	double cost;
	uint64_t turn;                         /* when it was taken last; 0: never */
	uint32_t at;                           /* in the order; UINT32_MAX: not in the heap */
};

struct slot_heap {
	struct slot_place *slots;
	uint32_t *order;                       /* the least first */
	uint32_t n;                            /* in the heap */
	uint64_t turns;
};

/** False: out of memory; slot_heap_free is still fine. */
bool slot_heap_init(struct slot_heap *h, uint32_t n_slots) WARN_UNUSED;
void slot_heap_free(struct slot_heap *h);

/** Not in the heap. */
void slot_heap_put(struct slot_heap *h, uint32_t slot, double cost);
/** In the heap. */
void slot_heap_remove(struct slot_heap *h, uint32_t slot);
/** In the heap. */
void slot_heap_set_cost(struct slot_heap *h, uint32_t slot, double cost);
/** It had its turn: behind all of the same cost. In the heap. */
void slot_heap_took(struct slot_heap *h, uint32_t slot, double cost);

static inline bool
slot_heap_has(const struct slot_heap *h, uint32_t slot)
{
	return h->slots[slot].at != UINT32_MAX;
}

/** There is one. */
static inline uint32_t
slot_heap_least(const struct slot_heap *h)
{
	return h->order[0];
}

#endif
