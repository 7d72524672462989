/*
 * dial: one request under way, as the files of the dialer share it: what was asked for, and the
 * attempts (attempt.h) that are made of it: one, or several side by side where a pool races its
 * members. For nobody else.
 */
#ifndef UPSTREAM_DIAL_H
#define UPSTREAM_DIAL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/list.h"
#include "base/mailbox.h"
#include "base/slab.h"
#include "upstream/attempt.h"
#include "upstream/dialer.h"
#include "upstream/port_rest.h"

struct dialer {
	struct loop *loop;
	struct mailbox *mailbox; /* for turns in pools' queues, and steps of Kerberos */
	struct resolver *resolver;
	struct warm *warm;
	struct port_rest rest;
	struct turn_share tls; /* of a turn, for the steps of TLS handshakes */
	struct gss_pool *gss; /* for upstreams that want Kerberos; NULL: they can't be had */
	struct list dials;
	struct slab dial_slab, racer_slab, shake_slab;
};

/* An attempt beside the first one. */
struct racer {
	struct attempt attempt;
	struct stream stream;
};

struct dial {
	struct list link; /* in dialer.dials */
	struct dialer *dialer;
	struct stream *out; /* the caller's */
	dial_cb *cb;
	void *arg;
	struct addresses given; /* of request.to, as the caller knew them */
	/* of request.to, given or looked up, without those that are forbidden; once known they stay */
	struct addresses destination;
	struct tried tried;
	uint8_t n_attempts, n_raced; /* of n_attempts those that were begun beside others */
	uint8_t n_passed;            /* of n_attempts those that ended with a choice passed over */
	bool telling;                /* the callback runs */
	uint32_t race_pool;          /* whose race it is, once `race` was set */
	struct deadline race;        /* when another attempt joins those that run */
	struct list attempts; /* those that run, the oldest first; at the end who decided */
	struct attempt first;        /* in the caller's stream */
	/* from first.result on the slab leaves what was there before */
	struct dial_request request; /* what it points to is copied below */
	struct path fixed;
	struct endpoint known_to; /* request.key.to, where the name came otherwise */
	struct endpoint client;
	char user[256], session[256];
};

/* attempt_names.c */

/** Copies addresses, with port; of x->destination only those that may be dialled. False: out of
 * memory. */
bool dial_keep_addresses(struct dial *x, struct addresses *known, const struct endpoint *addrs,
			 size_t n, uint16_t port) WARN_UNUSED;
void dial_free_addresses(struct addresses *known);

/* attempt_end.c */

/** This pick is out of the question for further attempts. False: no more can be remembered. */
bool dial_avoid(struct dial *x, struct pick pick);

/* dialer.c */

/** The attempt has ended: tells the owner, unless others still run. The dial may be gone after. */
void dial_end(struct attempt *a);

/* dial_race.c */

void race_init(struct dial *x);
/** The attempt, the only one, sets out on its path: when may another join it? */
void race_plan(struct attempt *a);
/** Does any other attempt of its dial run? */
bool race_has_others(const struct attempt *a);
/** No further attempt is to go where those that run are. */
void race_avoid_others(struct attempt *a);
/**
 * It is about to be granted: the others end, and what it connected is the caller's stream. False:
 * out of memory.
 */
bool race_win(struct attempt *a) WARN_UNUSED;
/** It has ended in vain: it goes, those that run stay. */
void race_leave(struct attempt *a);
/** It has ended, and with it all others. */
void race_end(struct attempt *a);
/** No other is to join. */
void race_call_off(struct dial *x);
/** Stops all attempts. */
void race_stop(struct dial *x);
/** Gives back what is left of the attempts, which have ended. */
void race_free(struct dial *x);

#endif
