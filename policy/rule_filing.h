/*
 * rule_filing: how a rule_index keeps rules under hashes of what a request must have to meet them.
 * For rule_index.c, which finds, and rule_filing.c, which makes.
 *
 *   slots:  { hash of (kind of key, value) -> where its rules begin, how many }
 *   rules:  | 3 17 204 | 0 | 5 6 | ...     rule numbers, ascending within a list
 *
 * A range of ports and a block of addresses are filed under their prefix: its length and its
 * leading bits. Which lengths are in use is kept in bits, so a request looks up its port and
 * addresses cut to those lengths only. Two values with the same hash cost a wasted check, no wrong
 * answer, since candidates are only candidates.
 */
#ifndef POLICY_RULE_FILING_H
#define POLICY_RULE_FILING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/endpoint.h"
#include "base/hash.h"
#include "policy/domain_set.h"
#include "policy/policy.h"
#include "policy/rule_index.h"

enum atom_kind {
	ATOM_ALWAYS,                   /* every request has it */
	ATOM_UNRESOLVED,               /* a name whose addresses may become known */
	ATOM_LISTENER,
	ATOM_PROTOCOL,
	ATOM_COMMAND,
	ATOM_PORT,
	ATOM_CLIENT4,
	ATOM_CLIENT6,
	ATOM_USER,
	ATOM_USERID,
	ATOM_DOMAIN,
	ATOM_SUFFIX,
	ATOM_ADDRESS4,
	ATOM_ADDRESS6,
	ATOM_SET,
	ATOM_N
};

enum { PORT_BITS = 16, MASK_WORDS = 3 };

/* bits of an address, the first one on top; IPv4 fills the upper half of high. */
struct address_bits {
	uint64_t high, low;
};

struct slot {
	uint64_t atom;
	uint32_t first, n;             /* n 0: empty */
};

struct slot_table {
	struct slot *slots;
	size_t mask, used;             /* mask + 1 slots, a power of two */
};

struct rule_filing {
	struct slot_table table;
	uint32_t *rules;
	size_t n_rules;
	uint32_t *sets;                /* those under which a rule is filed */
	size_t n_sets;
	/* Of PORT, CLIENT and ADDRESS the prefix lengths in use, bit by bit; of others bit 0: in use. */
	uint64_t lengths[ATOM_N][MASK_WORDS];
};

/**
 * Files the rules of p that are chosen, into a zeroed filing. False: out of memory;
 * rule_filing_free either way.
 */
bool rule_filing_make(struct rule_filing *f, const struct policy *p, struct domain_key k,
		      enum rule_choice which) WARN_UNUSED;
void rule_filing_free(struct rule_filing *f);
size_t rule_filing_bytes(const struct rule_filing *f);

/* ---- atoms: hashes of kinds and values ---- */

static inline uint64_t
atom_of(struct domain_key k, enum atom_kind kind, unsigned length, uint64_t value)
{
	uint64_t h = domain_fold(k.seed ^ ((uint64_t)kind << 8 | length), k.factor);
	return domain_fold(h ^ value, k.factor);
}

static inline uint64_t
address_atom(struct domain_key k, enum atom_kind kind, unsigned length, struct address_bits a)
{
	uint64_t high = length == 0 ? 0 : length >= 64 ? UINT64_MAX : ~(UINT64_MAX >> length);
	uint64_t low = length <= 64    ? 0
		       : length == 128 ? UINT64_MAX
				       : ~(UINT64_MAX >> (length - 64));
	return domain_fold(atom_of(k, kind, length, a.high & high) ^ (a.low & low), k.factor);
}

static inline uint64_t
port_atom(struct domain_key k, unsigned length, unsigned port)
{
	return atom_of(k, ATOM_PORT, length, port >> (PORT_BITS - length));
}

static inline uint64_t
text_atom(struct domain_key k, enum atom_kind kind, const char *text)
{
	return atom_of(k, kind, 0, hash_keyed(text, strlen(text)));
}

static inline uint64_t
domain_atom(struct domain_key k, enum atom_kind kind, const char *name)
{
	struct domain_path path;
	domain_path_of(&path, k, name, strlen(name));
	return atom_of(k, kind, 0, path.hash[path.n - 1]);
}

static inline struct address_bits
bits_of(uint8_t kind, const uint8_t *addr)
{
	struct address_bits a = { 0, 0 };
	for (size_t i = 0; i < (kind == ENDPOINT_IPV4 ? 4 : 8); i++)
		a.high |= (uint64_t)addr[i] << (56 - 8 * i);
	for (size_t i = 0; kind == ENDPOINT_IPV6 && i < 8; i++)
		a.low |= (uint64_t)addr[8 + i] << (56 - 8 * i);
	return a;
}

/** The slot of this atom, or the empty one where it would go. */
static inline struct slot *
find_slot(const struct slot_table *t, uint64_t atom)
{
	size_t i = atom & t->mask;
	while (t->slots[i].n != 0 && t->slots[i].atom != atom)
		i = (i + 1) & t->mask;
	return &t->slots[i];
}

#endif
