/*
 * address: an IPv4 or IPv6 address without a port, as answers and the cache keep it: 17 bytes,
 * where an endpoint has 276.
 *
 * IPv4-mapped IPv6 addresses become IPv4 at once, as in endpoints. A plain value.
 */
#ifndef DNS_ADDRESS_H
#define DNS_ADDRESS_H
#include "base/endpoint.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct dns_address {
	uint8_t kind;                          /* ENDPOINT_IPV4 or ENDPOINT_IPV6 */
	uint8_t bytes[16];                     /* network order; IPv4: the first four, the rest 0 */
};

static inline struct dns_address
dns_address_v4(const uint8_t bytes[4])
{
	struct dns_address a = { .kind = ENDPOINT_IPV4 };
	memcpy(a.bytes, bytes, 4);
	return a;
}

static inline struct dns_address
dns_address_v6(const uint8_t bytes[16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	if (memcmp(bytes, mapped, sizeof mapped) == 0)
		return dns_address_v4(bytes + sizeof mapped);
	struct dns_address a = { .kind = ENDPOINT_IPV6 };
	memcpy(a.bytes, bytes, 16);
	return a;
}

/** e is an address. */
static inline struct dns_address
dns_address_of(const struct endpoint *e)
{
	return e->kind == ENDPOINT_IPV4 ? dns_address_v4(e->addr) : dns_address_v6(e->addr);
}

/** With port 0. */
static inline void
dns_address_to_endpoint(const struct dns_address *a, struct endpoint *e)
{
	if (a->kind == ENDPOINT_IPV4)
		endpoint_set_ipv4(e, a->bytes, 0);
	else
		endpoint_set_ipv6(e, a->bytes, 0);
}

static inline bool
dns_address_equal(const struct dns_address *a, const struct dns_address *b)
{
	return a->kind == b->kind && memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

#endif
