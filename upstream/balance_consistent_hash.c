/*
 * consistent_hash: the same key goes to the same member, on every node that has the same policy.
 *
 * A Maglev table (D. Eisenbud and others, NSDI 2016, section 3.4), made from the members' names and
 * weights alone: each member in turn takes the next free place of its own permutation, in
 * proportion to its weight. What a member's state does is left to the choice, so that no key moves
 * but those of a member that can't be chosen: where the table names such a one, the key is hashed
 * again for another place, and again; a key whose member comes back goes back to it. A weight below
 * the table's (slow start, PATCH) lets that part of the member's keys pass by; one above it makes
 * the table anew.
 *
 * The results are pinned by golden vectors in the tests: a change here moves every user's keys.
 */
#include "upstream/balance.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

/* Seeds of hash_stable: part of what nodes must agree upon. */
enum { SEED_OFFSET = 1, SEED_SKIP = 2, SEED_AGAIN = 3, SEED_PART = 4 };
enum { AGAIN_MAX = 64, PLACES_EACH = 100, NOBODY = UINT32_MAX };

struct slot {
	uint64_t offset, skip;                 /* its permutation: (offset + i * skip) % size */
	uint32_t table_weight;                 /* what the table was made with */
	uint32_t weight;                       /* now; 0: not in */
};

struct turn {
	uint64_t credit;
	uint32_t next;                         /* place in its permutation */
};

struct balancer {
	struct slot *slots;
	uint64_t *in;                          /* bit per slot */
	uint32_t *table;
	struct turn *turns;                    /* while the table is made */
	uint32_t n, size;                      /* size: of the table, a prime */
};

static void
maglev_destroy(struct balancer *b)
{
	free(b->turns);
	free(b->table);
	free(b->in);
	free(b->slots);
	free(b);
}

/* At least PLACES_EACH places for each of n members, so that shares are right to 1 %; up to what a
 * table may cost. */
static uint32_t
table_size(uint32_t n)
{
	static const uint32_t primes[] = { 65537, 131071, 262147, 524309, 1048583, 4194319 };
	size_t i = 0;
	while (i + 1 < ARRAY_LEN(primes) && primes[i] / PLACES_EACH < n)
		i++;
	return primes[i];
}

/* Takes the next free place of the slot's permutation; there is one. */
static void
take_place(struct balancer *b, uint32_t slot)
{
	const struct slot *s = &b->slots[slot];
	struct turn *t = &b->turns[slot];
	uint32_t place;
	do
		place = (uint32_t)((s->offset + (uint64_t)t->next++ * s->skip) % b->size);
	while (b->table[place] != NOBODY);
	b->table[place] = slot;
}

/* Rounds in which about as many places go as there are members, to each by its weight. */
static void
make_table(struct balancer *b)
{
	uint64_t total = 0;
	memset(b->table, 0xff, b->size * sizeof *b->table);
	memset(b->turns, 0, b->n * sizeof *b->turns);
	for (uint32_t i = 0; i < b->n; i++)
		total += b->slots[i].table_weight;
	for (uint32_t taken = 0; total > 0 && taken < b->size;) {
		for (uint32_t i = 0; i < b->n && taken < b->size; i++) {
			struct turn *t = &b->turns[i];
			t->credit += (uint64_t)b->slots[i].table_weight * b->n;
			for (; t->credit >= total && taken < b->size; taken++) {
				t->credit -= total;
				take_place(b, i);
			}
		}
	}
}

static struct balancer *
maglev_create(struct board_entry *const *entries, const uint32_t *weights, uint32_t n)
{
	struct balancer *b = calloc(1, sizeof *b);
	if (b == NULL)
		return NULL;
	b->n = n;
	b->size = table_size(n);
	b->slots = calloc(n, sizeof *b->slots);
	b->in = calloc((n + 63) / 64, sizeof *b->in);
	b->table = calloc(b->size, sizeof *b->table);
	b->turns = calloc(n, sizeof *b->turns);
	if (b->slots == NULL || b->in == NULL || b->table == NULL || b->turns == NULL) {
		maglev_destroy(b);
		return NULL;
	}
	for (uint32_t i = 0; i < n; i++) {
		size_t len = strlen(entries[i]->name);
		b->slots[i].offset = hash_stable(entries[i]->name, len, SEED_OFFSET) % b->size;
		b->slots[i].skip = hash_stable(entries[i]->name, len, SEED_SKIP) % (b->size - 1) + 1;
		b->slots[i].table_weight = weights[i];
	}
	make_table(b);
	return b;
}

static void
maglev_put_in(struct balancer *b, uint32_t slot, uint32_t weight)
{
	struct slot *s = &b->slots[slot];
	s->weight = weight;
	b->in[slot / 64] |= UINT64_C(1) << (slot % 64);
	if (weight > s->table_weight) {
		s->table_weight = weight;
		make_table(b);
	}
}

static void
maglev_take_out(struct balancer *b, uint32_t slot)
{
	b->slots[slot].weight = 0;
	b->in[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
}

/* Is it in, and with all of its weight, or with the part to which this key belongs? */
static bool
takes(const struct slot *s, uint64_t hash)
{
	if (s->weight == 0 || s->weight >= s->table_weight)
		return s->weight > 0;
	uint64_t bytes = htole64(hash);
	uint64_t part = hash_stable(&bytes, sizeof bytes, SEED_PART) >> 32;
	return part * s->table_weight >> 32 < s->weight;
}

/* The first one in, from a slot on and round. */
static uint32_t
next_in(const struct balancer *b, uint32_t from)
{
	uint32_t words = (b->n + 63) / 64, word = from / 64;
	uint64_t bits = b->in[word] & (UINT64_MAX << (from % 64));
	while (bits == 0) {
		word = word + 1 < words ? word + 1 : 0;
		bits = b->in[word];
	}
	return word * 64 + (uint32_t)__builtin_ctzll(bits);
}

/* At most AGAIN_MAX places; where hardly anyone is in, whoever follows. */
static uint32_t
maglev_choose(struct balancer *b, uint64_t hash)
{
	uint64_t at = hash;
	for (unsigned i = 0; i < AGAIN_MAX; i++) {
		uint32_t slot = b->table[at % b->size];
		if (slot < b->n && takes(&b->slots[slot], at))
			return slot;
		const uint64_t again[] = { htole64(hash), htole64(i) };
		at = hash_stable(again, sizeof again, SEED_AGAIN);
	}
	return next_in(b, (uint32_t)(hash % b->n));
}

const struct balance_ops balance_consistent_hash = {
	.name = "consistent_hash",
	.create = maglev_create,
	.destroy = maglev_destroy,
	.put_in = maglev_put_in,
	.take_out = maglev_take_out,
	.choose = maglev_choose,
};
