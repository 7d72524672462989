/*
 * address_order: in which order the addresses of a name are to be tried: RFC 6724 section 6, then
 * families taking turns (RFC 8305 section 4).
 *
 * Of RFC 6724 the rules 1 (can it be reached), 2 (scope), 5 (label), 6 (precedence), 8 (smaller
 * scope) and 10 (as they came). The source addresses that rules 1, 2 and 5 ask for are found once
 * every few seconds for each kind of destination, not for each address: by connecting UDP sockets,
 * which sends nothing. The ordering itself is pure.
 */
#ifndef DNS_ADDRESS_ORDER_H
#define DNS_ADDRESS_ORDER_H
#include "policy/policy.h"
#include "dns/address.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ADDRESS_SOURCES_MS = 5000, ADDRESS_ORDER_MAX = 96 };

/* The kinds of destinations that the kernel may choose different sources for. */
enum address_source { SOURCE_IPV4, SOURCE_IPV6, SOURCE_IPV6_LOCAL, SOURCE_N };

/* Zero-filled: nothing is known, and no destination but loopback counts as reached. */
struct address_sources {
	struct dns_address from[SOURCE_N];     /* kind ENDPOINT_NONE: no route */
	uint64_t next_probe_ms;
};

/** Asks the kernel, unless that was done less than ADDRESS_SOURCES_MS ago. */
void address_sources_refresh(struct address_sources *s, uint64_t now_ms);
/** Is a connection to it likely to leave this machine at all (rule 1)? */
bool address_is_reachable(const struct address_sources *s, const struct dns_address *a);
/** Does the policy want it (only DNS_IPV4_ONLY and DNS_IPV6_ONLY refuse any)? */
bool address_is_wanted(enum dns_family family, const struct dns_address *a);
/**
 * Brings n <= ADDRESS_ORDER_MAX addresses in order: unwanted and double ones go, the family that
 * the policy prefers, or else the one of the best address, begins. Returns how many are left.
 */
size_t address_order(const struct address_sources *s, enum dns_family family,
		     struct dns_address *addrs, size_t n);

#endif
