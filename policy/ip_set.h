/*
 * ip_set: blocks of IPv4 and IPv6 addresses, and whether an address is in one of them. Sorted
 * ranges, found by halving.
 *
 * An entry is an address or a CIDR block (RFC 4632, RFC 4291): "192.0.2.1", "10.0.0.0/8",
 * "fc00::/7". Addresses are written in full: 10/8, 127.1 and leading zeros are faults. Bits behind
 * the prefix are masked off, as HAProxy and sing-box do: 10.1.2.3/8 is 10.0.0.0/8. An IPv4-mapped
 * block (::ffff:10.0.0.0/104) is the IPv4 block; a shorter IPv6 prefix, ::/0 too, holds IPv6
 * addresses only.
 *
 * Life: ip_set_new -> ip_set_add_... * n -> ip_set_seal -> look-ups from any thread -> ip_set_free.
 */
#ifndef POLICY_IP_SET_H
#define POLICY_IP_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "base/endpoint.h"
#include "policy/set_file.h"

struct ip_prefix {
	uint8_t kind;                  /* ENDPOINT_IPV4 or ENDPOINT_IPV6 */
	uint8_t bits;                  /* 0-32 or 0-128 */
	uint8_t addr[16];              /* zero behind bits */
};

enum { IP_PREFIX_TEXT_MAX = 50 };      /* with NUL */

/** Returns NULL, or what is wrong with it (a static text). */
const char *ip_prefix_read(struct ip_prefix *out, const char *text, size_t len);
/** Writes it; returns out. cap: IP_PREFIX_TEXT_MAX never cuts. */
const char *ip_prefix_to_text(const struct ip_prefix *p, char *out, size_t cap);
/** The first `bits` bits of an address. */
struct ip_prefix ip_prefix_of(const struct endpoint *address, unsigned bits);

/** Sorts, and drops what lies within another one. Returns how many are left. */
size_t ip_prefixes_sort(struct ip_prefix *list, size_t n);
/** In a list sorted so. What is no address is in none. */
bool ip_prefixes_have(const struct ip_prefix *list, size_t n, const struct endpoint *address);

struct ip_set;

/** NULL: out of memory. */
struct ip_set *ip_set_new(void);
void ip_set_free(struct ip_set *s);                    /* NULL is fine */

/** Adds an entry. Returns NULL, or what is wrong with it. */
const char *ip_set_add_value(struct ip_set *s, const char *text, size_t len);
/** Adds a file of entries; faults go to report. True: there was none. */
bool ip_set_add_file(struct ip_set *s, const char *path, set_report_fn *report,
		     void *arg) WARN_UNUSED;
/** Sorts; nothing can be added after. */
void ip_set_seal(struct ip_set *s);

/** Is the address in the sealed set? What is no address is not. */
bool ip_set_has(const struct ip_set *s, const struct endpoint *address);

/** Entries as they were added. */
size_t ip_set_count(const struct ip_set *s);
/** Memory held. */
size_t ip_set_bytes(const struct ip_set *s);

#endif
