/*
 * least_latency: the member with the least expected wait: its peak-EWMA of connect times through
 * the whole path to it, times its sessions with the one about to come, for its weight.
 *
 * The average rises at once to a time above it and falls slowly (board.h); unused it decays, so
 * that a member that was slow once is tried again. All averages decay alike, so their order stays
 * while time passes and a heap can hold them: by the logarithm of the cost at a fixed moment. One
 * that was never measured comes before all others. What is told to the board elsewhere is found as
 * in least_connections: the top is held against the board before it is believed, and a few slots
 * are looked at with each choice.
 */
#include "upstream/balance.h"

#include <math.h>
#include <stdlib.h>

#include "upstream/slot_heap.h"

enum { SWEEP_SLOTS = 4 };

/* What an unmeasured member's logarithm is: below all that are possible. */
#define UNMEASURED (-1e6)

struct slot {
	struct board_entry *entry;
	uint32_t load, weight;
	double peak;                           /* board_peak() when last looked at */
};

struct balancer {
	struct slot *slots;
	struct slot_heap heap;
	uint32_t n, sweep;
};

static void
latency_destroy(struct balancer *b)
{
	slot_heap_free(&b->heap);
	free(b->slots);
	free(b);
}

static struct balancer *
latency_create(struct board_entry *const *entries, const uint32_t *weights, uint32_t n)
{
	(void)weights;
	struct balancer *b = calloc(1, sizeof *b);
	if (b == NULL)
		return NULL;
	b->n = n;
	b->slots = calloc(n, sizeof *b->slots);
	if (b->slots == NULL || !slot_heap_init(&b->heap, n)) {
		latency_destroy(b);
		return NULL;
	}
	for (uint32_t i = 0; i < n; i++)
		b->slots[i].entry = entries[i];
	return b;
}

static double
look_up_cost(struct slot *s)
{
	s->load = board_in_use(s->entry);
	s->peak = board_peak(s->entry);
	double base = s->peak > 0 ? s->peak : UNMEASURED;
	return base + log(((double)s->load + 1) / (double)s->weight);
}

static bool
is_as_seen(const struct slot *s)
{
	double peak = board_peak(s->entry);
	return s->load == board_in_use(s->entry) && !(peak < s->peak) && !(peak > s->peak);
}

/* True where the slot was otherwise than thought. */
static bool
look_at(struct balancer *b, uint32_t slot)
{
	struct slot *s = &b->slots[slot];
	if (!slot_heap_has(&b->heap, slot) || is_as_seen(s))
		return false;
	slot_heap_set_cost(&b->heap, slot, look_up_cost(s));
	return true;
}

static void
latency_put_in(struct balancer *b, uint32_t slot, uint32_t weight)
{
	b->slots[slot].weight = weight;
	slot_heap_put(&b->heap, slot, look_up_cost(&b->slots[slot]));
}

static void
latency_take_out(struct balancer *b, uint32_t slot)
{
	slot_heap_remove(&b->heap, slot);
}

static uint32_t
latency_choose(struct balancer *b, uint64_t hash)
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
latency_took(struct balancer *b, uint32_t slot)
{
	slot_heap_took(&b->heap, slot, look_up_cost(&b->slots[slot]));
}

static void
latency_load_changed(struct balancer *b, uint32_t slot)
{
	(void)look_at(b, slot);
}

const struct balance_ops balance_least_latency = {
	.name = "least_latency",
	.create = latency_create,
	.destroy = latency_destroy,
	.put_in = latency_put_in,
	.take_out = latency_take_out,
	.choose = latency_choose,
	.took = latency_took,
	.load_changed = latency_load_changed,
};
