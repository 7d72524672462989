/*
 * wheel: the slots behind base/wheel.h. A deadline lies in the slot of the first tick at or after
 * its time, or, when that is further away than the wheel reaches, in the furthest slot. No slot
 * ever holds deadlines of two different rounds.
 *
 *   tick      tick + 1   ...   tick + WHEEL_SLOTS - 1
 *   handled   next             furthest
 */
#include "base/wheel.h"

#include <stddef.h>

/* Time enough: half a million years. */
static const uint64_t AT_MS_MASK = (UINT64_C(1) << 54) - 1;

enum { WORD_BITS = 64, WORDS = WHEEL_SLOTS / WORD_BITS };

_Static_assert(WHEEL_SLOTS == 1 << 10, "a deadline's slot has ten bits");
_Static_assert(WHEEL_SLOTS % WORD_BITS == 0, "the bit map has whole words");

static unsigned
slot_of(uint64_t tick)
{
	return (unsigned)(tick % WHEEL_SLOTS);
}

/* The first tick at or after at_ms: a slot that comes due then is never early. */
static uint64_t
tick_at_or_after(uint64_t at_ms)
{
	return at_ms / WHEEL_TICK_MS + (at_ms % WHEEL_TICK_MS != 0);
}

/* The tick at which a slot that holds something comes due: the next one that falls on it. */
static uint64_t
tick_of_slot(const struct wheel *w, unsigned slot)
{
	return w->tick + 1 + (slot - slot_of(w->tick + 1)) % WHEEL_SLOTS;
}

static void
mark_slot(struct wheel *w, unsigned slot)
{
	w->used[slot / WORD_BITS] |= UINT64_C(1) << slot % WORD_BITS;
}

static void
unmark_slot(struct wheel *w, unsigned slot)
{
	w->used[slot / WORD_BITS] &= ~(UINT64_C(1) << slot % WORD_BITS);
}

void
wheel_init(struct wheel *w, uint64_t now_ms)
{
	*w = (struct wheel){ .tick = now_ms / WHEEL_TICK_MS };
	for (size_t i = 0; i < WHEEL_SLOTS; i++)
		list_init(&w->slots[i]);
}

void
deadline_init(struct deadline *d, deadline_cb *fire)
{
	*d = (struct deadline){ .fire = fire };
	list_init(&d->link);
}

static void
place(struct wheel *w, struct deadline *d)
{
	uint64_t tick = tick_at_or_after(d->at_ms);
	if (tick <= w->tick)
		tick = w->tick + 1;
	if (tick > w->tick + WHEEL_SLOTS - 1)
		tick = w->tick + WHEEL_SLOTS - 1;
	d->slot = slot_of(tick) & (WHEEL_SLOTS - 1);
	list_append(&w->slots[slot_of(tick)], &d->link);
	mark_slot(w, slot_of(tick));
}

static void
unplace(struct wheel *w, struct deadline *d)
{
	unsigned slot = d->slot;
	list_remove(&d->link);
	if (list_empty(&w->slots[slot]))
		unmark_slot(w, slot);
}

void
wheel_set(struct wheel *w, struct deadline *d, uint64_t at_ms)
{
	d->at_ms = at_ms & AT_MS_MASK;
	if (deadline_armed(d)) {
		/* Its slot comes due first, and will move it on. */
		if (tick_at_or_after(at_ms) >= tick_of_slot(w, d->slot))
			return;
		unplace(w, d);
	} else {
		w->n++;
	}
	place(w, d);
}

void
wheel_clear(struct wheel *w, struct deadline *d)
{
	if (!deadline_armed(d))
		return;
	unplace(w, d);
	w->n--;
}

/* The first used slot's tick after w->tick; 0: all are empty. */
static uint64_t
next_used_tick(const struct wheel *w)
{
	uint64_t tick = w->tick + 1;
	for (unsigned i = 0; i <= WORDS; i++) {
		unsigned bit = slot_of(tick) % WORD_BITS;
		uint64_t word = w->used[slot_of(tick) / WORD_BITS] >> bit;
		if (word != 0)
			return tick + (unsigned)__builtin_ctzll(word);
		tick += WORD_BITS - bit;
	}
	return 0;
}

/* Moves what lies in slots up to and including `last` to `due`, earliest first. */
static void
collect(struct wheel *w, uint64_t last, struct list *due)
{
	uint64_t tick;
	while ((tick = next_used_tick(w)) != 0 && tick <= last) {
		list_move_all(due, &w->slots[slot_of(tick)]);
		unmark_slot(w, slot_of(tick));
	}
	w->tick = last;
}

void
wheel_turn(struct wheel *w, uint64_t now_ms)
{
	uint64_t last = now_ms / WHEEL_TICK_MS;
	if (last <= w->tick)
		return;

	struct list due, *node;
	list_init(&due);
	collect(w, last, &due);
	/* A callback may clear, or set later, what is still in `due`. */
	while ((node = list_take_first(&due)) != NULL) {
		struct deadline *d = LIST_OBJECT(node, struct deadline, link);
		if (d->at_ms > now_ms) {
			place(w, d);
			continue;
		}
		w->n--;
		d->fire(d);
	}
}

uint64_t
wheel_next_ms(const struct wheel *w)
{
	uint64_t tick = w->n > 0 ? next_used_tick(w) : 0;
	return tick == 0 ? UINT64_MAX : tick * WHEEL_TICK_MS;
}
