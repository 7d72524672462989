/*
 * reference: targets that are dialled direct when a check has failed, to tell a dead upstream from a
 * line of our own that is down.
 *
 * One entry for each target: who asks while it is being dialled waits for that dial, and an answer
 * is good for REFERENCE_FRESH_MS, so that a thousand checks that fail at once are one dial.
 * Confined to its thread.
 * Life: references_new -> references_find, reference_ask * n -> references_free (all waits are over
 * or dropped by then).
 */
#ifndef UPSTREAM_REFERENCE_H
#define UPSTREAM_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"
#include "base/endpoint.h"
#include "base/list.h"
#include "upstream/dialer.h"

enum { REFERENCE_FRESH_MS = 1000 };

struct reference;
struct references;

/* Embedded by who asks; zeroed. */
struct reference_wait {
	struct list link;
	/* Once, from the loop, never from inside reference_ask, nor after reference_drop. */
	void (*told)(struct reference_wait *w, bool reachable);
};

/** NULL: out of memory. */
struct references *references_new(struct loop *l, struct dialer *d);
void references_free(struct references *all);  /* NULL is fine */
/** The one for a target; made where there is none. NULL: out of memory. It lives as long as all. */
struct reference *references_find(struct references *all, const struct endpoint *target);

/** Something that goes over our line worked just now. */
void reference_note_pass(struct reference *r, uint64_t now_ms);
/** When that was last; 0: never. */
uint64_t reference_passed_ms(const struct reference *r);
/** f: any fleet, for the dial's sake. False: out of memory, nobody will be told. */
bool reference_ask(struct reference *r, struct fleet *f, uint64_t timeout_ms,
		   struct reference_wait *w) WARN_UNUSED;
void reference_drop(struct reference_wait *w); /* not waiting: nothing happens */

#endif
