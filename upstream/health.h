/*
 * health: checks members of pools from the control thread, through the whole path to each, and
 * writes what it finds on the board.
 *
 * Each way that health_plan names is checked by itself, one check of one member at a time, with
 * jitter from the first round on. A check has an opinion of each upstream that it goes through by
 * name: `fall` failures in a row make it bad, `rise` successes good again (from the start, unknown,
 * the first success does). An upstream is DOWN while any check thinks ill of it. A failure counts
 * against the hop that caused it and for those before; what is our own fault (VERDICT_INTERNAL)
 * counts for nobody. What a pool chose on the way is that pool's business and is not judged.
 *
 * "handshake" goes as far as the last hop's authentication; where a protocol has none before the
 * request (SOCKS4, HTTP), as far as its TLS. "http" asks the target through the tunnel, as
 * upstream/http_probe.h says. A check with a `reference` that fails has that dialled direct: where it
 * can't be reached either, and nobody whose checks have the same reference has passed since this one
 * began to fail, it is our own line that is down, and the failure counts for nobody.
 * Confined to the control thread, with its own resolver and dialer there.
 * Life: health_new -> health_use (each new fleet) -> health_free.
 */
#ifndef UPSTREAM_HEALTH_H
#define UPSTREAM_HEALTH_H

#include "upstream/dialer.h"
#include "upstream/fleet.h"

struct health;

/* An upstream's state changed: for the log and for events. Must not call anything here. */
typedef void health_cb(const char *upstream, enum upstream_state before, enum upstream_state now,
		       const char *why, void *arg);

/** NULL: out of memory. */
struct health *health_new(struct loop *l, struct dialer *d, health_cb *on_change, void *arg);
/**
 * Checks this fleet's pools from now on; states, streaks and times of checks that stay as they were
 * are kept, and what nobody checks any more is unknown again. Takes a reference. Out of memory:
 * what could not be planned is not checked.
 */
void health_use(struct health *h, struct fleet *f);
void health_free(struct health *h);                    /* NULL is fine; cancels checks under way */

#endif
