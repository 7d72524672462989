/*
 * least_connections: the member with the fewest sessions for its weight, the one about to come
 * included; among equals the one whose last turn is longest ago.
 *
 * least_latency: the member with the least expected wait: its peak-EWMA of connect times through
 * the whole path to it, times its sessions with the one about to come, for its weight. The average
 * rises at once to a time above it and falls slowly (board.h); unused it decays, so that a member
 * that was slow once is tried again. All averages decay alike, so their order stays while time
 * passes and a heap can hold them: by the logarithm of the cost at a fixed moment. One that was
 * never measured comes before all others.
 *
 * Both are a heap by cost. What a cost is made of stands on the member's board entry: what this
 * pool does to it is followed at once, and the heap's top is held against the entry before it is
 * believed. What others do (another pool, a chain, sessions from before a reload) is found by a
 * look at a few slots with each choice, round and round.
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
	uint32_t load;                         /* sessions when last looked at */
	uint32_t weight;
	double peak;                           /* board_peak() when last looked at; for latency */
};

/* What the two differ in. */
struct measure {
	double (*look_up_cost)(struct slot *s);
	bool (*is_as_seen)(const struct slot *s);
};

struct balancer {
	const struct measure *by;
	struct slot *slots;
	struct slot_heap heap;
	uint32_t n;
	uint32_t sweep;                        /* the slot to look at next */
};

/* Equal fractions give equal doubles, as a division is rounded correctly. */
static double
connections_cost(struct slot *s)
{
	s->load = board_in_use(s->entry);
	return ((double)s->load + 1) / (double)s->weight;
}

static bool
connections_are_as_seen(const struct slot *s)
{
	return s->load == board_in_use(s->entry);
}

static double
latency_cost(struct slot *s)
{
	s->peak = board_peak(s->entry);
	double base = s->peak > 0 ? s->peak : UNMEASURED;
	return base + log(connections_cost(s));
}

static bool
latency_is_as_seen(const struct slot *s)
{
	double peak = board_peak(s->entry);
	return connections_are_as_seen(s) && !(peak < s->peak) && !(peak > s->peak);
}

static const struct measure by_connections = { connections_cost, connections_are_as_seen };
static const struct measure by_latency = { latency_cost, latency_is_as_seen };

static void
least_destroy(struct balancer *b)
{
	slot_heap_free(&b->heap);
	free(b->slots);
	free(b);
}

static struct balancer *
least_create(const struct measure *by, struct board_entry *const *entries, uint32_t n)
{
	struct balancer *b = calloc(1, sizeof *b);
	if (b == NULL)
		return NULL;
	b->by = by;
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

static struct balancer *
create_by_connections(struct board_entry *const *entries, const uint32_t *weights, uint32_t n)
{
	(void)weights;
	return least_create(&by_connections, entries, n);
}

static struct balancer *
create_by_latency(struct board_entry *const *entries, const uint32_t *weights, uint32_t n)
{
	(void)weights;
	return least_create(&by_latency, entries, n);
}

/* True where the slot was otherwise than thought. */
static bool
look_at(struct balancer *b, uint32_t slot)
{
	struct slot *s = &b->slots[slot];
	if (!slot_heap_has(&b->heap, slot) || b->by->is_as_seen(s))
		return false;
	slot_heap_set_cost(&b->heap, slot, b->by->look_up_cost(s));
	return true;
}

static void
least_put_in(struct balancer *b, uint32_t slot, uint32_t weight)
{
	b->slots[slot].weight = weight;
	slot_heap_put(&b->heap, slot, b->by->look_up_cost(&b->slots[slot]));
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
	slot_heap_took(&b->heap, slot, b->by->look_up_cost(&b->slots[slot]));
}

static void
least_load_changed(struct balancer *b, uint32_t slot)
{
	(void)look_at(b, slot);
}

const struct balance_ops balance_least_connections = {
	.name = "least_connections",
	.create = create_by_connections,
	.destroy = least_destroy,
	.put_in = least_put_in,
	.take_out = least_take_out,
	.choose = least_choose,
	.took = least_took,
	.load_changed = least_load_changed,
};

const struct balance_ops balance_least_latency = {
	.name = "least_latency",
	.create = create_by_latency,
	.destroy = least_destroy,
	.put_in = least_put_in,
	.take_out = least_take_out,
	.choose = least_choose,
	.took = least_took,
	.load_changed = least_load_changed,
};
