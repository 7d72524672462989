/*
 * slot_heap: see slot_heap.h.
 */
#include "upstream/slot_heap.h"

#include <stdlib.h>

bool
slot_heap_init(struct slot_heap *h, uint32_t n_slots)
{
	*h = (struct slot_heap){ .slots = calloc(n_slots, sizeof *h->slots),
		                 .order = calloc(n_slots, sizeof *h->order) };
	if (h->slots == NULL || h->order == NULL)
		return false;
	for (uint32_t i = 0; i < n_slots; i++)
		h->slots[i].at = UINT32_MAX;
	return true;
}

void
slot_heap_free(struct slot_heap *h)
{
	free(h->order);
	free(h->slots);
}

static bool
less(const struct slot_heap *h, uint32_t left, uint32_t right)
{
	const struct slot_place *l = &h->slots[left], *r = &h->slots[right];
	if (l->cost < r->cost || l->cost > r->cost)
		return l->cost < r->cost;
	return l->turn != r->turn ? l->turn < r->turn : left < right;
}

static void
place(struct slot_heap *h, uint32_t at, uint32_t slot)
{
	h->order[at] = slot;
	h->slots[slot].at = at;
}

static void
sift_up(struct slot_heap *h, uint32_t slot)
{
	uint32_t at = h->slots[slot].at;
	while (at > 0) {
		uint32_t parent = (at - 1) / 2;
		if (!less(h, slot, h->order[parent]))
			break;
		place(h, at, h->order[parent]);
		at = parent;
	}
	place(h, at, slot);
}

static void
sift_down(struct slot_heap *h, uint32_t slot)
{
	uint32_t at = h->slots[slot].at;
	for (;;) {
		uint32_t child = 2 * at + 1;
		if (child >= h->n)
			break;
		if (child + 1 < h->n && less(h, h->order[child + 1], h->order[child]))
			child++;
		if (!less(h, h->order[child], slot))
			break;
		place(h, at, h->order[child]);
		at = child;
	}
	place(h, at, slot);
}

void
slot_heap_put(struct slot_heap *h, uint32_t slot, double cost)
{
	h->slots[slot].cost = cost;
	h->slots[slot].at = h->n++;
	sift_up(h, slot);
}

void
slot_heap_remove(struct slot_heap *h, uint32_t slot)
{
	uint32_t at = h->slots[slot].at, last = h->order[--h->n];
	h->slots[slot].at = UINT32_MAX;
	if (last == slot)
		return;
	place(h, at, last);
	sift_up(h, last);
	sift_down(h, last);
}

void
slot_heap_set_cost(struct slot_heap *h, uint32_t slot, double cost)
{
	h->slots[slot].cost = cost;
	sift_up(h, slot);
	sift_down(h, slot);
}

void
slot_heap_took(struct slot_heap *h, uint32_t slot, double cost)
{
	h->slots[slot].turn = ++h->turns;
	slot_heap_set_cost(h, slot, cost);
}
