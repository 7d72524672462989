#include "base/looks.h"

#include <stddef.h>
#include <stdlib.h>

enum { SEATS_MIN = 64 };

static struct look **
seat_of(const struct looks *q, uint32_t seat)
{
	return &q->seats[seat & (q->cap - 1)];
}

/* Seats keep their numbers, so nobody who waits has to be told. */
static bool
grow(struct looks *q)
{
	struct looks more = *q;
	more.cap = q->cap == 0 ? SEATS_MIN : q->cap * 2;
	if ((more.seats = calloc(more.cap, sizeof(struct look *))) == NULL)
		return false;
	for (uint32_t seat = q->first; seat != q->next; seat++)
		*seat_of(&more, seat) = *seat_of(q, seat);
	free(q->seats);
	*q = more;
	return true;
}

void
looks_add(struct looks *q, struct look *k)
{
	if (look_waits(k) || (q->next - q->first == q->cap && !grow(q)))
		return;
	*seat_of(q, q->next) = k;
	k->seat = q->next++ & INT32_MAX;
	k->waits = true;
}

void
looks_remove(struct looks *q, struct look *k)
{
	if (!look_waits(k))
		return;
	*seat_of(q, k->seat) = NULL;
	k->waits = false;
}

struct look *
looks_take(struct looks *q)
{
	while (q->first != q->aged) {
		struct look *k = *seat_of(q, q->first++);
		if (k != NULL) {
			k->waits = false;
			return k;
		}
	}
	return NULL;
}

bool
looks_end_round(struct looks *q)
{
	q->aged = q->next;
	if (q->first != q->next)
		return true;
	looks_free(q);
	return false;
}

void
looks_free(struct looks *q)
{
	free(q->seats);
	*q = (struct looks){ .cap = 0 };
}
