/*
 * random: each member with a chance in proportion to its weight.
 *
 * The weights are kept as a Fenwick tree (P. Fenwick, 1994), so that a draw and a change cost O(log
 * n) each.
 */
#include "upstream/balance.h"

#include <stdlib.h>

#include "base/hash.h"

struct balancer {
	uint32_t *sums;                        /* the tree, from 1 to n */
	uint32_t *weights;                     /* of each slot; 0: not in */
	uint32_t n, top;                       /* top: the largest power of two <= n */
	uint32_t total;
	struct random random;
};

static void
random_destroy(struct balancer *b)
{
	free(b->weights);
	free(b->sums);
	free(b);
}

static struct balancer *
random_create(struct board_entry *const *entries, const uint32_t *weights, uint32_t n)
{
	(void)entries, (void)weights;
	struct balancer *b = calloc(1, sizeof *b);
	if (b == NULL)
		return NULL;
	b->n = n;
	for (b->top = 1; b->top <= n / 2; b->top *= 2)
		;
	b->sums = calloc((size_t)n + 1, sizeof *b->sums);
	b->weights = calloc(n, sizeof *b->weights);
	if (b->sums == NULL || b->weights == NULL) {
		random_destroy(b);
		return NULL;
	}
	random_seed(&b->random, 0);
	return b;
}

/* Unsigned arithmetic wraps as it should when delta is "minus weight". */
static void
add_weight(struct balancer *b, uint32_t slot, uint32_t delta)
{
	for (uint32_t i = slot + 1; i <= b->n; i += i & (0 - i))
		b->sums[i] += delta;
	b->weights[slot] += delta;
	b->total += delta;
}

static void
random_put_in(struct balancer *b, uint32_t slot, uint32_t weight)
{
	add_weight(b, slot, weight);
}

static void
random_take_out(struct balancer *b, uint32_t slot)
{
	add_weight(b, slot, 0 - b->weights[slot]);
}

/* The first slot up to which the weights add up to more than what was drawn. */
static uint32_t
random_choose(struct balancer *b, uint64_t hash)
{
	(void)hash;
	uint32_t left = random_below(&b->random, b->total), at = 0;
	for (uint32_t step = b->top; step > 0; step /= 2) {
		if (at + step <= b->n && b->sums[at + step] <= left) {
			at += step;
			left -= b->sums[at];
		}
	}
	return at;
}

const struct balance_ops balance_random = {
	.name = "random",
	.create = random_create,
	.destroy = random_destroy,
	.put_in = random_put_in,
	.take_out = random_take_out,
	.choose = random_choose,
};
