/*
 * attempt_names: the names that an attempt meets: the destination's, whose addresses the dial keeps
 * for all its attempts, and those of upstreams. See attempt.h.
 */
#include "upstream/attempt.h"

#include <stdlib.h>

#include "base/clock.h"
#include "dns/resolver.h"
#include "upstream/dial.h"

static void on_resolved(enum dns_error err, const struct endpoint *addrs, size_t n, void *arg);

void
dial_free_addresses(struct addresses *known)
{
	free(known->list);
	*known = (struct addresses){NULL, 0};
}

bool
dial_keep_addresses(struct dial *x, struct addresses *known, const struct endpoint *addrs, size_t n,
		    uint16_t port)
{
	bool ask = known == &x->destination && x->request.address_rejected != NULL;
	known->list = malloc(n * sizeof *known->list);
	known->n = 0;
	if (known->list == NULL)
		return false;
	for (size_t i = 0; i < n; i++) {
		struct endpoint *e = &known->list[known->n];
		*e = addrs[i];
		e->port = port;
		if (!ask || !x->request.address_rejected(e, x->arg))
			known->n++;
	}
	return true;
}

const struct addresses *
attempt_addresses(const struct attempt *a, const struct endpoint *name)
{
	if (name == &a->dial->request.to)
		return a->dial->destination.list == NULL ? NULL : &a->dial->destination;
	return a->looked_up == name && a->hop.list != NULL ? &a->hop : NULL;
}

static void
fail_look_up(struct attempt *a, enum dns_error err)
{
	const char *detail = dns_error_text(err);
	if (a->looked_up != &a->dial->request.to)
		attempt_fail_hop(a, VERDICT_UPSTREAM_FAILED, a->connected ? a->at + 1u : a->at,
				 "unreachable", detail);
	else if (err == DNS_NOT_FOUND)
		attempt_fail(a, VERDICT_NAME_UNKNOWN, -1, detail);
	else
		attempt_fail(a, err == DNS_TIMEOUT ? VERDICT_TIMEOUT : VERDICT_HOST_UNREACHABLE, -1,
			     detail);
}

void
attempt_fail_look_up(struct attempt *a)
{
	fail_look_up(a, DNS_TIMEOUT);
}

/* Takes the outcome of a look-up. False: the attempt ended with it. */
static bool
take_answer(struct attempt *a, enum dns_error err, const struct endpoint *addrs, size_t n)
{
	struct dial *x = a->dial;
	struct addresses *known = a->looked_up == &x->request.to ? &x->destination : &a->hop;
	uint64_t took = clock_now_us() - a->lookup_us;
	a->result.resolve_us += (uint32_t)took;
	a->mark_us += took;
	a->since_us += took;
	if (err != DNS_OK) {
		fail_look_up(a, err);
		return false;
	}
	if (known->list != NULL && known == &x->destination)
		return true; /* by another attempt, and what it connects to is in there */
	dial_free_addresses(known);
	if (dial_keep_addresses(x, known, addrs, n, a->looked_up->port))
		return true;
	attempt_fail_no_memory(a);
	return false;
}

bool
attempt_look_up(struct attempt *a, const struct endpoint *name)
{
	struct endpoint addrs[RESOLVE_ADDRS_MAX];
	size_t n = 0;
	struct dial *x = a->dial;
	a->stage = DIAL_RESOLVE;
	a->looked_up = name;
	a->lookup_us = clock_now_us();
	if (name == &x->request.to && x->given.n > 0)
		return take_answer(a, DNS_OK, x->given.list, x->given.n);
	enum dns_error err =
	    resolve_now(x->dialer->resolver, name->name, addrs, ARRAY_LEN(addrs), &n);
	if (err != DNS_TIMEOUT)
		return take_answer(a, err, addrs, n);
	a->resolve = resolve_start(x->dialer->resolver, name->name, x->request.timeout_ms,
				   on_resolved, a);
	if (a->resolve == NULL)
		attempt_fail_no_memory(a);
	return false;
}

static void
on_resolved(enum dns_error err, const struct endpoint *addrs, size_t n, void *arg)
{
	struct attempt *a = arg;
	a->resolve = NULL;
	if (take_answer(a, err, addrs, n))
		attempt_resolved(a);
	attempt_go_on(a);
}

void
attempt_stop_look_up(struct attempt *a)
{
	resolve_cancel(a->resolve);
	a->resolve = NULL;
	dial_free_addresses(&a->hop);
}
