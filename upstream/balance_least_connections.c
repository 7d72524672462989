/*
 * least_connections: the member with the fewest sessions for its weight, the one about to come
 * included; among equals the one whose last turn is longest ago.
 *
 * A heap by (sessions + 1) / weight. The sessions are those on the member's board entry: what this
 * pool does to it is followed at once, and a heap's top is held against the entry before it is
 * believed. What others do (another pool, a chain, sessions from before a reload) is found by a
 * look at a few slots with each choice, round and round.
 */
#include "upstream/balance.h"

#include <stdlib.h>

#include "upstream/slot_heap.h"

enum { SWEEP_SLOTS = 4 };

struct slot {
	struct board_entry *entry;
	uint32_t load;                         /* sessions when last looked at */
	uint32_t weight;
};

struct balancer {
	struct slot *slots;
	struct slot_heap heap;
	uint32_t n;
	uint32_t sweep;                        /* the slot to look at next */
};

static void
least_destroy(struct balancer *b)
{
	slot_heap_free(&b->heap);
	free(b->slots);
	free(b);
}

static struct balancer *
least_create(struct board_entry *const *entries, const uint32_t *weights, uint32_t n)
{
	(void)weights;
	struct balancer *b = calloc(1, sizeof *b);
	if (b == NULL)
		return NULL;
	b->n = n;
	b->slots = calloc(n, sizeof *b->slots);
	if (b->slots == NULL || !slot_heap_init(&b->heap, n)) {
		least_destroy(b);
		return NULL;
	}
	for (uint32_t i = 0; i < n; i++)
		b->slots[i].entry = entries[i];
	return b;
}

/* Equal fractions give equal doubles, as a division is rounded correctly. */
static double
cost_of(const struct slot *s)
{
	return ((double)s->load + 1) / (double)s->weight;
}

/* True where the slot's sessions were others than thought. */
static bool
look_at(struct balancer *b, uint32_t slot)
{
	struct slot *s = &b->slots[slot];
	uint32_t now = board_in_use(s->entry);
	if (now == s->load || !slot_heap_has(&b->heap, slot))
		return false;
	s->load = now;
	slot_heap_set_cost(&b->heap, slot, cost_of(s));
	return true;
}

static void
least_put_in(struct balancer *b, uint32_t slot, uint32_t weight)
{
	struct slot *s = &b->slots[slot];
	s->load = board_in_use(s->entry);
	s->weight = weight;
	slot_heap_put(&b->heap, slot, cost_of(s));
}

static void
least_take_out(struct balancer *b, uint32_t slot)
{
	slot_heap_remove(&b->heap, slot);
}

static uint32_t
least_choose(struct balancer *b, uint64_t hash)
{
	(void)hash;
	for (uint32_t i = 0; i < SWEEP_SLOTS && i < b->n; i++) {
		b->sweep = b->sweep + 1 < b->n ? b->sweep + 1 : 0;
		(void)look_at(b, b->sweep);
	}
	for (uint32_t i = 0; i < b->n && look_at(b, slot_heap_least(&b->heap)); i++)
		;
	return slot_heap_least(&b->heap);
}

static void
least_took(struct balancer *b, uint32_t slot)
{
	struct slot *s = &b->slots[slot];
	s->load = board_in_use(s->entry);
	slot_heap_took(&b->heap, slot, cost_of(s));
}

static void
least_load_changed(struct balancer *b, uint32_t slot)
{
	(void)look_at(b, slot);
}

const struct balance_ops balance_least_connections = {
	.name = "least_connections",
	.create = least_create,
	.destroy = least_destroy,
	.put_in = least_put_in,
	.take_out = least_take_out,
	.choose = least_choose,
	.took = least_took,
	.load_changed = least_load_changed,
};
