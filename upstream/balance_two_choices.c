/*
 * two_choices: of two members drawn at random the one with fewer sessions for its weight (the power
 * of two choices, M. Mitzenmacher, 1996); of equals the first drawn.
 *
 * The sessions are read from the board when the choice is made, so they are everybody's.
 */
#include "upstream/balance.h"

#include <stdlib.h>

#include "base/hash.h"

struct slot {
	struct board_entry *entry;
	uint32_t weight;
	uint32_t at;                           /* in `in` */
};

struct balancer {
	struct slot *slots;
	uint32_t *in;                          /* those that can be chosen, in any order */
	uint32_t n_in;
	struct random random;
};

static void
two_destroy(struct balancer *b)
{
	free(b->in);
	free(b->slots);
	free(b);
}

static struct balancer *
two_create(struct board_entry *const *entries, const uint32_t *weights, uint32_t n)
{
	(void)weights;
	struct balancer *b = calloc(1, sizeof *b);
	if (b == NULL)
		return NULL;
	b->slots = calloc(n, sizeof *b->slots);
	b->in = calloc(n, sizeof *b->in);
	if (b->slots == NULL || b->in == NULL) {
		two_destroy(b);
		return NULL;
	}
	for (uint32_t i = 0; i < n; i++)
		b->slots[i].entry = entries[i];
	random_seed(&b->random, 0);
	return b;
}

static void
two_put_in(struct balancer *b, uint32_t slot, uint32_t weight)
{
	b->slots[slot].weight = weight;
	b->slots[slot].at = b->n_in;
	b->in[b->n_in++] = slot;
}

static void
two_take_out(struct balancer *b, uint32_t slot)
{
	uint32_t at = b->slots[slot].at, last = b->in[--b->n_in];
	b->in[at] = last;
	b->slots[last].at = at;
}

static bool
has_less(const struct slot *a, const struct slot *b)
{
	return ((uint64_t)board_in_use(a->entry) + 1) * b->weight <
	       ((uint64_t)board_in_use(b->entry) + 1) * a->weight;
}

static uint32_t
two_choose(struct balancer *b, uint64_t hash)
{
	(void)hash;
	uint32_t first = random_below(&b->random, b->n_in);
	if (b->n_in == 1)
		return b->in[first];
	uint32_t second = random_below(&b->random, b->n_in - 1);
	second += second >= first;             /* two different ones, every pair as likely */
	uint32_t one = b->in[first], other = b->in[second];
	return has_less(&b->slots[other], &b->slots[one]) ? other : one;
}

const struct balance_ops balance_two_choices = {
	.name = "two_choices",
	.create = two_create,
	.destroy = two_destroy,
	.put_in = two_put_in,
	.take_out = two_take_out,
	.choose = two_choose,
};
