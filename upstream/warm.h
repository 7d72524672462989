/*
 * warm: connections to upstreams, past TLS and authentication, opened ahead of need and kept ready.
 *
 * One for each dialer; a dial whose first hop has one takes it and asks at once. They belong to the
 * upstreams of one fleet: a new one begins with none, so no connection is ever used under other
 * credentials than it was opened with (an upstream whose credentials depend on the client has none).
 * One that the upstream closes, that is spoken to before it is asked, or that is older than
 * warm_max_age goes, and another takes its place; after a failure not before some time has passed.
 *
 * Each holds a slot of max_connections and is opened only where that leaves another one free; where
 * all are taken they are given up, looked at every WARM_LOOK_MS. Checks, dials of a fixed path and
 * other commands than CONNECT never take one. Confined to its thread.
 * Life: warm_new -> warm_use (each new fleet) -> warm_take * n -> warm_free.
 */
#ifndef UPSTREAM_WARM_H
#define UPSTREAM_WARM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "upstream/dialer.h"

enum { WARM_LOOK_MS = 250, WARM_RETRY_MS = 1000, WARM_RETRY_MAX_MS = 32000, WARM_DIAL_MS = 10000 };

struct warm;

/** NULL: out of memory. */
struct warm *warm_new(struct loop *l, struct dialer *d);
void warm_free(struct warm *w);                /* NULL is fine */
/**
 * Keeps connections to this fleet's upstreams from now on (a reference is taken), its share of what
 * each asks for: the n_workers-th part, rounded up. NULL: to none.
 */
void warm_use(struct warm *w, struct fleet *f, unsigned n_workers);
/**
 * Moves a connection that is ready into out (closed), with the addresses of its ends. False: there
 * is none. Its slot is given back: the dial has one of its own.
 */
bool warm_take(struct warm *w, const struct fleet *f, uint32_t upstream, struct stream *out,
	       struct endpoint *peer, struct endpoint *local) WARN_UNUSED;
/** Those that are ready, for tests and the API. */
size_t warm_ready(const struct warm *w, uint32_t upstream);

#endif
