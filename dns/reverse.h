/*
 * reverse: the name of an address, by a PTR record under in-addr.arpa or ip6.arpa (RFC 1035 section
 * 3.5, RFC 3596 section 2.5). Asked of the resolver's servers, `dns.rules` included, and kept in its
 * cache.
 * Life: reverse_start -> callback or reverse_cancel.
 */
#ifndef DNS_REVERSE_H
#define DNS_REVERSE_H

#include <stddef.h>
#include <stdint.h>

#include "base/endpoint.h"
#include "dns/resolver.h"

enum { REVERSE_NAME_MAX = 73 }; /* of what is asked, with NUL: 32 nibbles and "ip6.arpa" */

struct reverse;                        /* one look-up under way */

/* name: a host name, valid during the call; "" unless DNS_OK. */
typedef void reverse_cb(enum dns_error err, const char *name, void *arg);

/** The name that is asked for the address. Returns out. */
const char *reverse_name(const struct endpoint *address, char out[REVERSE_NAME_MAX]);

/**
 * @param timeout_ms  over all attempts, > 0
 * @return a handle, or NULL when out of memory (cb is then never called)
 * cb comes exactly once, from the loop, never from inside this call, and not after
 * reverse_cancel(); the handle ends with either. It must not free the resolver.
 */
struct reverse *reverse_start(struct resolver *r, const struct endpoint *address,
			      uint64_t timeout_ms, reverse_cb *cb, void *arg);
void reverse_cancel(struct reverse *q);                /* NULL is fine */

#endif
