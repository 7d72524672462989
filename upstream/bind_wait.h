/*
 * bind_wait: the second reply to a BIND, awaited on the stream that a dial opened: the upstream says
 * who connected to it, and from then on the stream carries what they say.
 *
 * The wait takes the stream's callback; the stream stays the caller's. It has no deadline of its
 * own: how long a peer may take is the caller's to say.
 * Life: bind_wait_start -> callback once, or bind_wait_cancel.
 */
#ifndef UPSTREAM_BIND_WAIT_H
#define UPSTREAM_BIND_WAIT_H

#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "base/endpoint.h"
#include "base/stream.h"
#include "policy/policy.h"
#include "socks/verdict.h"

struct bind_wait;
struct loop;

struct bind_wait_result {
	enum verdict verdict;
	const struct endpoint *peer;           /* GRANTED: as the upstream says */
	const uint8_t *early;                  /* bytes that came behind; valid during the call */
	size_t early_len;
};

/* From the loop, never from inside bind_wait_start, nor after bind_wait_cancel. The handle ends with
 * it. */
typedef void bind_wait_cb(const struct bind_wait_result *r, void *arg);

/**
 * @param scheme  of the upstream that granted the BIND
 * @param early   bytes that came behind its first reply; copied
 * @return NULL: out of memory, or more early bytes than a second reply and HOP_IN_MAX take
 */
struct bind_wait *bind_wait_start(struct loop *l, enum upstream_scheme scheme, struct stream *s,
				  const uint8_t *early, size_t early_len, bind_wait_cb *cb,
				  void *arg) WARN_UNUSED;
void bind_wait_cancel(struct bind_wait *b);    /* NULL is fine */

#endif
