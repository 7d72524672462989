/*
 * dial: one request under way, as the files of the dialer share it: what was asked for, and the
 * attempt (attempt.h) that is made of it. For nobody else.
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

struct dialer {
	struct loop *loop;
	struct mailbox *mailbox; /* for turns in pools' queues, and steps of Kerberos */
	struct resolver *resolver;
	struct warm *warm;
	struct gss_pool *gss; /* for upstreams that want Kerberos; NULL: they can't be had */
	struct list dials;
	struct slab dial_slab, shake_slab;
};

struct dial {
	struct list link; /* in dialer.dials */
	struct dialer *dialer;
	dial_cb *cb;
	void *arg;
	struct addresses given; /* of request.to, as the caller knew them */
	/* of request.to, given or looked up, without those that are forbidden; once known they stay */
	struct addresses destination;
	struct tried tried;
	bool telling; /* the callback runs */
	struct attempt attempt;
	/* from attempt.result on the slab leaves what was there before */
	struct dial_request request; /* what it points to is copied below */
	struct path fixed;
	struct endpoint client;
	char user[256], session[256];
};

/* attempt_names.c */

/** Copies addresses, with port; of x->destination only those that may be dialled. False: out of
 * memory. */
bool dial_keep_addresses(struct dial *x, struct addresses *known, const struct endpoint *addrs,
			 size_t n, uint16_t port) WARN_UNUSED;
void dial_free_addresses(struct addresses *known);

/* dialer.c */

/** The attempt has ended: tells the owner. The dial is gone after. */
void dial_end(struct attempt *a);

#endif
