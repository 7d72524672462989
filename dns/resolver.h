/*
 * resolver: turns host names into addresses, for one worker.
 *
 * Wraps c-ares channels (one for each list of servers) and a cache; hosts come from the policy and
 * from /etc/hosts, read by us. Waiters for the same name share the queries. A and AAAA are asked
 * together. Confined to the thread that created it.
 * Life: resolver_new -> resolve_start * n -> resolver_free (cancels what is left, calls nobody).
 */
#ifndef DNS_RESOLVER_H
#define DNS_RESOLVER_H
#include "base/endpoint.h"
#include "policy/policy.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct counters;
struct loop;
struct resolver;
struct resolve;                                        /* one look-up under way */

enum dns_error {
	DNS_OK,
	DNS_NOT_FOUND,         /* NXDOMAIN, or no address of a wanted family */
	DNS_TIMEOUT,           /* no answer in time */
	DNS_FAILED,            /* SERVFAIL, refused, no server to be reached, too many waiters */
};

enum { RESOLVE_ADDRS_MAX = 32 };

const char *dns_error_text(enum dns_error err);

/* err: DNS_OK and n > 0 addresses (port 0, valid during the call only), or why not and n = 0. */
typedef void resolve_cb(enum dns_error err, const struct endpoint *addrs, size_t n, void *arg);

/**
 * NULL: out of memory, or c-ares refused the servers. conf must live as long as the resolver (hold
 * the policy).
 */
struct resolver *resolver_new(struct loop *l, const struct policy_dns *conf);
void resolver_free(struct resolver *r);                /* NULL is fine */
/**
 * Takes up another policy's dns block; the cache is kept where servers, hosts and rules are the
 * same, else emptied. Look-ups under way end as begun.
 */
bool resolver_reconfigure(struct resolver *r, const struct policy_dns *conf);

/**
 * Looks a name up (RFC 1035), in the order in which addresses should be tried (RFC 6724,
 * interleaved by RFC 8305 section 4).
 * @param name        NUL-terminated, at most 253 bytes, lower case without trailing dot; copied.
 *                    A literal is no name.
 * @param timeout_ms  over all attempts, > 0
 * @return a handle, or NULL when out of memory (cb is then never called)
 * cb comes exactly once, from the loop, never from inside this call, and not after
 * resolve_cancel(); the handle ends with either.
 */
struct resolve *resolve_start(struct resolver *r, const char *name, uint64_t timeout_ms,
			      resolve_cb *cb, void *arg);
void resolve_cancel(struct resolve *q);                /* NULL is fine */
/**
 * Answers from hosts and cache only, at once: DNS_OK and up to cap addresses; DNS_NOT_FOUND cached
 * as such; DNS_TIMEOUT: not known here.
 */
enum dns_error resolve_now(struct resolver *r, const char *name, struct endpoint *addrs, size_t cap,
			   size_t *n);

/**
 * From now on counts DNS_QUERIES (A and AAAA each), DNS_CACHE_HITS and DNS_FAILURES (look-ups that
 * ended in anything but DNS_OK) there. c belongs to the resolver's thread and outlives it.
 */
void resolver_count_in(struct resolver *r, struct counters *c);

/*
 * For the API: calls each for every live entry (n = 0: a negative one, else ttl_ms is of the
 * addresses, whatever is known not to be there); of a name that stands for an
 * address, with the host's name.
 */
typedef void resolver_each(const char *name, const struct endpoint *addrs, size_t n,
			   uint64_t ttl_ms, void *arg);
void resolver_cache_each(struct resolver *r, resolver_each *each, void *arg);
/** name NULL: all. Returns how many entries went. */
size_t resolver_cache_drop(struct resolver *r, const char *name);

#endif
