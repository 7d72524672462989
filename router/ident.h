/*
 * ident: asks a client's own host who holds the client's end of a connection (RFC 1413), and
 * judges the answer.
 *
 * One TCP connection to port 113 for each question, made from the address that the client reached,
 * since identd looks the connection up by both of its hosts. Embedded events on the worker's loop;
 * nothing waits. What comes back is a stranger's text: one line, bounded, about our two ports.
 * Life: ident_start -> callback or ident_cancel.
 */
#ifndef ROUTER_IDENT_H
#define ROUTER_IDENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"
#include "base/endpoint.h"
#include "policy/policy.h"
#include "socks/verdict.h"

struct ident; /* one question under way */
struct loop;

enum ident_outcome {
	IDENT_NAMED,   /* it says a user */
	IDENT_UNNAMED, /* it answers ERROR: it can't or won't say one */
	IDENT_SILENT,  /* unreachable, out of time, or no answer to this question */
};

struct ident_question {
	const struct endpoint *client;  /* an address and its port */
	const struct endpoint *reached; /* where it connected to */
	bool reached_is_ours; /* false: a proxy before us told it; we ask from any address */
	uint16_t port;        /* of identd: IDENT_PORT */
	uint64_t timeout_ms;  /* over all */
};

/* user: NUL-terminated, valid during the call; "" unless NAMED. */
typedef void ident_cb(enum ident_outcome outcome, const char *user, void *arg);

/**
 * What is asked about is copied. NULL: out of memory (cb is then never called).
 * cb comes exactly once, from the loop, never from inside this call, and not after ident_cancel();
 * the handle ends with either.
 */
struct ident *ident_start(struct loop *l, const struct ident_question *q, ident_cb *cb, void *arg);
void ident_cancel(struct ident *i); /* NULL is fine */

/**
 * What the outcome means for a client of this network. claimed: the user that the client itself
 * names, "" where it names none.
 * @return GRANTED, IDENT_UNREACHABLE, or IDENT_DIFFERS: not one of the network's users, or not whom
 * it claims to be
 */
enum verdict ident_judge(const struct policy_network *n, enum ident_outcome outcome,
			 const char *user, const char *claimed) WARN_UNUSED;

#endif
