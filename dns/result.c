/*
 * result: see the header.
 */
#include "dns/result.h"

#include <stdlib.h>
#include <string.h>

struct result *
result_without(enum dns_error err)
{
	/* Never written to: their count stays 0. One for each error, by its number. */
	static struct result constants[] = {
		[DNS_NOT_FOUND] = { .err = DNS_NOT_FOUND },
		[DNS_TIMEOUT] = { .err = DNS_TIMEOUT },
		[DNS_FAILED] = { .err = DNS_FAILED },
	};
	return &constants[err];
}

struct result *
result_new(const struct address_sources *s, enum dns_family family, struct dns_address *addrs,
	   size_t n, enum dns_error otherwise)
{
	n = address_order(s, family, addrs, n);
	if (n == 0)
		return result_without(otherwise);
	if (n > RESOLVE_ADDRS_MAX)
		n = RESOLVE_ADDRS_MAX;
	struct result *r = malloc(sizeof *r + n * sizeof *addrs);
	if (r == NULL)
		return result_without(DNS_FAILED);
	*r = (struct result){ .err = DNS_OK, .refs = 1, .n = n };
	memcpy(r->addrs, addrs, n * sizeof *addrs);
	return r;
}

struct result *
result_ref(struct result *r)
{
	if (r->refs > 0)
		r->refs++;
	return r;
}

void
result_unref(struct result *r)
{
	if (r != NULL && r->refs > 0 && --r->refs == 0)
		free(r);
}

size_t
result_to_endpoints(const struct result *r, struct endpoint *out, size_t cap)
{
	size_t n = r->n < cap ? r->n : cap;
	for (size_t i = 0; i < n; i++)
		dns_address_to_endpoint(&r->addrs[i], &out[i]);
	return n;
}
