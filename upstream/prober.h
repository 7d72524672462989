/*
 * prober: what the proxy at the end of a path can do, found out by asking it: one trial after
 * another, each on a connection of its own.
 *
 * A trial is judged by the proxy's own answers; nothing is counted on the board. Confined to its
 * thread.
 * Life: prober_start -> callback or prober_cancel; the handle ends with either.
 */
#ifndef UPSTREAM_PROBER_H
#define UPSTREAM_PROBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "base/endpoint.h"
#include "upstream/dialer.h"

enum probe_trial {
	PROBE_HANDSHAKE,       /* up to its authentication, with our credentials */
	PROBE_METHOD_NONE,     /* would it take a client with this method alone? SOCKS5 only */
	PROBE_METHOD_USERPASS,
	PROBE_METHOD_GSSAPI,
	PROBE_CONNECT_NAME,
	PROBE_CONNECT_IPV4,
	PROBE_CONNECT_IPV6,
	PROBE_BIND,            /* for anybody; then we connect, and it has to say so */
	PROBE_BIND_NAME,       /* for the destination, as far as its first reply */
	PROBE_BIND_IPV4,
	PROBE_BIND_IPV6,
	PROBE_UDP,             /* an association */
	PROBE_UDP_NAME,        /* a datagram to the destination, and its answer */
	PROBE_UDP_IPV4,
	PROBE_UDP_IPV6,
	PROBE_TRIALS
};
/** "handshake", "method none", "CONNECT by name". */
const char *probe_trial_text(enum probe_trial t);

/* SKIPPED: it was not tried, or can't be told from here; why is in `detail`. */
enum probe_answer { PROBE_SKIPPED, PROBE_YES, PROBE_NO };

struct probe_result {
	enum probe_answer answer;
	enum verdict verdict;
	int hop_at_fault;      /* in the path; -1: none, or the destination */
	uint32_t total_us, resolve_us, connect_us, tls_us;
	uint8_t n_hops;
	uint32_t hop_us[PATH_HOPS_MAX + 1]; /* of each hop that has done its part */
	char detail[200];      /* why not; for a YES what is worth knowing; "" */
};

struct probe_plan {
	struct fleet *fleet;   /* a reference is taken */
	struct path path;      /* a fixed one, of at least one hop */
	struct endpoint to;    /* kind NONE: nothing is asked of the destination */
	unsigned trials;       /* bits, 1 << enum probe_trial */
	uint64_t timeout_ms;   /* of each trial */
};

/* By trial. Valid during the call. */
typedef void prober_cb(const struct probe_result results[PROBE_TRIALS], void *arg);

struct prober;

/** NULL: out of memory. cb comes once, from the loop, never from inside this call. */
struct prober *prober_start(struct loop *l, struct dialer *d, struct resolver *r,
			    const struct probe_plan *plan, prober_cb *cb, void *arg) WARN_UNUSED;
void prober_cancel(struct prober *p); /* NULL is fine */

#endif
