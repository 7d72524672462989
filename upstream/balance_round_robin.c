/*
 * round_robin: each member in turn, in proportion to the weights and evenly spread, exactly.
 *
 * Members of the same weight form a ring; smooth weighted round robin chooses among the rings, a
 * ring counting for the sum of its members' weights. So a choice costs as much as there are
 * distinct weights, not members, and in any run of as many choices as all weights add up to, each
 * member comes exactly as often as its weight says.
 *
 *   weights 5 1 1:   ring of weight 5: a       credit 5, 2   a B a a a B a   with B = b, c in turn
 *                    ring of weight 1: b c
 */
#include "upstream/balance.h"

#include <stdlib.h>

#include "base/base.h"

enum { NOT_KNOWN = UINT32_MAX };

struct ring {
	uint32_t weight;                       /* of each member; 0: not in use */
	uint32_t n;                            /* members */
	uint32_t first;                        /* whose turn it is; valid if n > 0 */
};

struct slot {
	uint32_t prev, next;                   /* in its ring */
	uint32_t ring;
};

/* What every choice goes through, in a row: of each ring its weight times its members, 0 where
 * there are none. */
struct account {
	int64_t share, credit;
};

struct balancer {
	struct slot *slots;
	struct ring *rings;
	struct account *accounts;
	uint32_t n_rings, max_rings;
	int64_t total;                         /* of all shares */
	uint32_t next;                         /* the ring whose turn it is; NOT_KNOWN */
};

static void
round_robin_destroy(struct balancer *b)
{
	free(b->accounts);
	free(b->rings);
	free(b->slots);
	free(b);
}

static struct balancer *
round_robin_create(struct board_entry *const *entries, const uint32_t *weights, uint32_t n)
{
	(void)entries, (void)weights;
	struct balancer *b = calloc(1, sizeof *b);
	if (b == NULL)
		return NULL;
	b->max_rings = n < BALANCE_WEIGHT_MAX ? n : BALANCE_WEIGHT_MAX;
	b->slots = calloc(n, sizeof *b->slots);
	b->rings = calloc(b->max_rings, sizeof *b->rings);
	b->accounts = calloc(b->max_rings, sizeof *b->accounts);
	if (b->slots == NULL || b->rings == NULL || b->accounts == NULL) {
		round_robin_destroy(b);
		return NULL;
	}
	return b;
}

/*
 * A member came: credits that were earned among others are cut to what one round can bring and
 * centred, so that nobody waits longer than about two rounds for what happened before. (One that
 * goes and comes back at once changes nothing.)
 */
static void
settle_credits(struct balancer *b)
{
	int64_t sum = 0, present = 0;
	for (uint32_t i = 0; i < b->n_rings; i++) {
		sum += b->accounts[i].share > 0 ? b->accounts[i].credit : 0;
		present += b->accounts[i].share > 0;
	}
	for (uint32_t i = 0; i < b->n_rings; i++) {
		struct account *a = &b->accounts[i];
		a->credit -= a->share > 0 ? sum / present : 0;
		if (a->credit > b->total)
			a->credit = b->total;
		if (a->credit < -b->total)
			a->credit = -b->total;
	}
}

/* There is always one: as many rings as members, or as weights, and a ring without members is free
 * for another weight. */
static uint32_t
ring_for(struct balancer *b, uint32_t weight)
{
	uint32_t spare = b->n_rings;
	for (uint32_t i = 0; i < b->n_rings; i++) {
		if (b->rings[i].weight == weight)
			return i;
		if (b->rings[i].n == 0)
			spare = i;
	}
	if (b->n_rings < b->max_rings)
		spare = b->n_rings++;
	b->rings[spare] = (struct ring){ .weight = weight };
	b->accounts[spare] = (struct account){ 0 };
	return spare;
}

/* Its turn comes last in its ring. */
static void
round_robin_put_in(struct balancer *b, uint32_t slot, uint32_t weight)
{
	struct slot *s = &b->slots[slot];
	s->ring = ring_for(b, weight);
	struct ring *r = &b->rings[s->ring];
	if (r->n++ == 0) {
		s->prev = s->next = slot;
		r->first = slot;
	} else {
		s->next = r->first;
		s->prev = b->slots[r->first].prev;
		b->slots[s->prev].next = slot;
		b->slots[s->next].prev = slot;
	}
	b->accounts[s->ring].share += weight;
	b->total += weight;
	b->next = NOT_KNOWN;
	settle_credits(b);
}

static void
round_robin_take_out(struct balancer *b, uint32_t slot)
{
	struct slot *s = &b->slots[slot];
	struct ring *r = &b->rings[s->ring];
	b->slots[s->prev].next = s->next;
	b->slots[s->next].prev = s->prev;
	if (r->first == slot)
		r->first = s->next;
	r->n--;
	b->accounts[s->ring].share -= r->weight;
	b->total -= r->weight;
	b->next = NOT_KNOWN;
}

/* The ring with the most credit after each got `step` times its share; the first of equals. */
static uint32_t
find_next(struct balancer *b, int64_t step)
{
	uint32_t best = NOT_KNOWN;
	int64_t most = INT64_MIN;
	for (uint32_t i = 0; i < b->n_rings; i++) {
		struct account *a = &b->accounts[i];
		a->credit += step * a->share;
		if (a->share > 0 && a->credit + a->share > most) {
			most = a->credit + a->share;
			best = i;
		}
	}
	return best;
}

static uint32_t
round_robin_choose(struct balancer *b, uint64_t hash)
{
	(void)hash;
	if (b->next == NOT_KNOWN)
		b->next = find_next(b, 0);
	return b->rings[b->next].first;
}

/* The total comes off first; it is the same in the end, and the one pass over all finds who is
 * next. */
static void
round_robin_took(struct balancer *b, uint32_t slot)
{
	uint32_t ring = b->slots[slot].ring;
	b->accounts[ring].credit -= b->total;
	b->rings[ring].first = b->slots[slot].next;
	b->next = find_next(b, 1);
}

const struct balance_ops balance_round_robin = {
	.name = "round_robin",
	.create = round_robin_create,
	.destroy = round_robin_destroy,
	.put_in = round_robin_put_in,
	.take_out = round_robin_take_out,
	.choose = round_robin_choose,
	.took = round_robin_took,
};
