/*
 * gss_pool: takes the steps of establishing GSS contexts off the loops: a few threads, made when
 * they are first needed, bounded queues, the answer by the asker's mailbox.
 *
 * Shared by the workers under one mutex, held for a look at the queues. An initiator may wait for a
 * KDC for many seconds, so initiators get a pool of their own: an acceptor only needs its disk and
 * must not queue behind them. Nor do those of one upstream wait for another's KDC: steps that wait
 * for the same have a lane (gss_context_lane) with a queue of its own. Lanes take turns, and where
 * all threads are taken one more is made for a lane that has none.
 * Life: gss_pool_new -> gss_step_start / gss_step_cancel (from loops) -> gss_pool_free (after the
 * loops have ended; waits a second for the steps that are being taken, which may hang on a KDC).
 * A mailbox goes after its steps were told or cancelled, or after the pool; steps may be cancelled
 * after the pool has gone, too.
 */
#ifndef BASE_GSS_POOL_H
#define BASE_GSS_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "base/gss_context.h"

struct endpoint;
struct gss_pool;
struct gss_step;                               /* one under way */
struct mailbox;

enum {
	GSS_POOL_QUEUE_MAX = 512,      /* of each lane */
	/* A proxy before us is one address, with many clients that may come at once. */
	GSS_POOL_PER_CLIENT_MAX = 256,
	GSS_POOL_THREADS_MAX = 64,     /* in all: beyond, lanes without one wait for one */
};

/** n_threads: at most, but for those of lanes that would have none. NULL: out of memory. */
struct gss_pool *gss_pool_new(unsigned n_threads);
void gss_pool_free(struct gss_pool *p);        /* NULL is fine */

/** token: to be sent, valid during the call only; NULL: there is none. */
typedef void gss_step_cb(enum gss_step_outcome outcome, const uint8_t *token, size_t len, void *arg);

/**
 * Takes the next step of c, which nobody touches until cb or gss_step_cancel.
 * @param in      the peer's token, copied; NULL for an initiator's first step
 * @param client  who asks, for fairness: one address has no more than GSS_POOL_PER_CLIENT_MAX in
 *                a queue; NULL: nobody in particular
 * @param box     the asking loop's mailbox
 * @return a handle, or NULL: the queue is full, no thread is to be had, or out of memory (cb is then
 * never called)
 * cb comes exactly once, from the loop, never from inside this call, and not after
 * gss_step_cancel(); the handle ends with either.
 */
struct gss_step *gss_step_start(struct gss_pool *p, struct gss_context *c, const void *in,
    size_t in_len, const struct endpoint *client, struct mailbox *box, gss_step_cb *cb,
    void *arg) WARN_UNUSED;
/** NULL is fine. The context and the mailbox may be freed right after. */
void gss_step_cancel(struct gss_step *s);

#endif
