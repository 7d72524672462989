/*
 * preamble: what comes before a client's handshake where its listener asks for it: a PROXY header,
 * then TLS.
 *
 * Where it is asked for, nothing else is taken. The header is read to its last byte and no further,
 * since TLS reads the socket itself. TLS begins with the client's first bytes, when the worker's
 * gate lets it. Embedded in the shake; no memory of its own. The worker's thread.
 */
#ifndef ROUTER_PREAMBLE_H
#define ROUTER_PREAMBLE_H

#include <stdbool.h>

#include "base/base.h"
#include "router/tls_gate.h"
#include "socks/proxy_header.h"

struct buffer;
struct stream;
struct tls_context;

enum preamble_status {
	PREAMBLE_PASSED, /* or there is none: the handshake begins */
	PREAMBLE_MORE,
	PREAMBLE_LEFT,       /* the client ended or reset the connection */
	PREAMBLE_BAD_HEADER, /* no PROXY header */
	PREAMBLE_BAD_TLS,    /* no TLS, or no certificate that we trust */
	PREAMBLE_NO_MEMORY,
};

struct preamble {
	bool passed, wants_header, in_tls;
	struct tls_context *tls;   /* to begin after the header; NULL: none, or begun */
	struct tls_pass pass;      /* to take its steps */
	struct proxy_header proxy; /* once it came */
};

/**
 * tls: NULL for a plain listener; valid until PASSED. told: for its pass through the gate; where that says "go", preamble_step is
 * to be called.
 */
void preamble_init(struct preamble *p, bool wants_header, struct tls_context *tls, struct tls_gate *gate, tls_pass_cb *told,
    void *arg);
/** It goes no further. Again is fine. */
void preamble_release(struct preamble *p);
/** Goes as far as the client lets it. in: empty when it passes, as when it began. */
enum preamble_status preamble_step(struct preamble *p, struct stream *client,
				   struct buffer *in) WARN_UNUSED;

#endif
