/*
 * looks: who is to be looked at once more before long. Two generations in a ring: a round takes those that were put in before the
 * last one ended, so each waits for more than the time between two rounds and less than twice that.
 *
 *   seats[first .. aged): their turn is the next round    seats[aged .. next): put in since
 *
 * Who waits keeps the number of its seat and no more: every stream has one, and an idle session is to be small. The ring's memory
 * goes back when nobody is left. For one thread.
 * Life: zero-filled -> add, remove, rounds -> looks_free.
 */
#ifndef BASE_LOOKS_H
#define BASE_LOOKS_H

#include <stdbool.h>
#include <stdint.h>

/* Embedded by its owner; zero-filled: it doesn't wait. */
struct look {
	uint32_t seat : 31;
	uint32_t waits : 1;
};

struct looks {
	struct look **seats;           /* cap of them, a power of two, found by the low bits of the number; NULL: it left */
	uint32_t cap;
	uint32_t first, aged, next;    /* numbers of seats */
};

static inline bool
look_waits(const struct look *k)
{
	return k->waits;
}

/** One that waits already stays where it is. Out of memory: it doesn't wait. */
void looks_add(struct looks *q, struct look *k);
/** It doesn't wait: nothing happens. */
void looks_remove(struct looks *q, struct look *k);
/** In a round: the next one whose turn it is, taken out; NULL: no more. */
struct look *looks_take(struct looks *q);
/** Those put in so far have their turn in the next round. False: nobody is left. */
bool looks_end_round(struct looks *q);
void looks_free(struct looks *q);

#endif
