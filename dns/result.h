/*
 * result: how a look-up ended: addresses in the order in which to try them, or why there are none.
 * Shared by all who waited.
 *
 * Immutable; counted. Results without addresses are constants and need no memory. Confined to one
 * thread.
 */
#ifndef DNS_RESULT_H
#define DNS_RESULT_H
#include "dns/address_order.h"
#include "dns/resolver.h"

#include <stddef.h>

struct result {
	enum dns_error err;
	unsigned refs;                         /* 0: a constant */
	size_t n;
	struct dns_address addrs[];
};

/** One without addresses. err is not DNS_OK. */
struct result *result_without(enum dns_error err);
/**
 * Orders addrs (changing them, n <= ADDRESS_ORDER_MAX) and keeps the first RESOLVE_ADDRS_MAX. None
 * wanted: result_without(otherwise); out of memory: result_without(DNS_FAILED). The caller has one
 * reference.
 */
struct result *result_new(const struct address_sources *s, enum dns_family family,
			  struct dns_address *addrs, size_t n, enum dns_error otherwise);
struct result *result_ref(struct result *r);
void result_unref(struct result *r);           /* NULL is fine */
/** Writes up to cap addresses with port 0; returns how many. */
size_t result_to_endpoints(const struct result *r, struct endpoint *out, size_t cap);

#endif
