/*
 * idn: the form in ASCII (A-labels, "xn--...") of a name with other characters, as browsers and curl make it: UTS #46 without the
 * transitional mappings, then IDNA 2008 (RFC 5891), by libidn2. Pure.
 */
#ifndef BASE_IDN_H
#define BASE_IDN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/base.h"
#include "base/endpoint.h"

/** Has it bytes that are not ASCII? */
static inline bool
idn_is_foreign(const char *name, size_t len)
{
	unsigned char all = 0;
	for (size_t i = 0; i < len; i++)
		all |= (unsigned char)name[i];
	return all >= 0x80;
}

/**
 * Of a foreign name (NUL-terminated) that an endpoint may hold. out: a name, port 0. False: it has no such form (no UTF-8, a
 * character or an order that no name has, too long), or one that is no name (an address); out is left as it was.
 */
bool idn_to_ascii(const char *name, struct endpoint *out) WARN_UNUSED;

/** The same by which it is known wherever it is compared: a foreign name's form in ASCII, in `room` then, where it has one; else e. */
const struct endpoint *idn_known_form(const struct endpoint *e, struct endpoint *room);

#endif
