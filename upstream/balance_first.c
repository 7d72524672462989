/*
 * first: the first member, in the order of the document, that is usable and has a free slot. One
 * bit for each slot.
 */
#include "upstream/balance.h"

#include <stdlib.h>

struct balancer {
	uint64_t *in;                          /* bit per slot */
	uint32_t from;                         /* no word before this one has a bit */
};

static void
first_destroy(struct balancer *b)
{
	free(b->in);
	free(b);
}

static struct balancer *
first_create(struct board_entry *const *entries, const uint32_t *weights, uint32_t n)
{
	(void)entries, (void)weights;
	struct balancer *b = calloc(1, sizeof *b);
	if (b == NULL)
		return NULL;
	b->in = calloc((n + 63) / 64, sizeof *b->in);
	if (b->in == NULL) {
		first_destroy(b);
		return NULL;
	}
	return b;
}

static void
first_put_in(struct balancer *b, uint32_t slot, uint32_t weight)
{
	(void)weight;
	b->in[slot / 64] |= UINT64_C(1) << (slot % 64);
	if (slot / 64 < b->from)
		b->from = slot / 64;
}

static void
first_take_out(struct balancer *b, uint32_t slot)
{
	b->in[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
}

static uint32_t
first_choose(struct balancer *b, uint64_t hash)
{
	(void)hash;
	while (b->in[b->from] == 0)
		b->from++;
	return b->from * 64 + (uint32_t)__builtin_ctzll(b->in[b->from]);
}

const struct balance_ops balance_first = {
	.name = "first",
	.create = first_create,
	.destroy = first_destroy,
	.put_in = first_put_in,
	.take_out = first_take_out,
	.choose = first_choose,
};
