/*
 * errors: how the list of policy.h's errors is made: one call for each error, bounded in number and
 * in length.
 *
 * Messages may quote what the document says, cut; never a secret: whoever reports on one leaves the
 * value out.
 */
#ifndef POLICY_ERRORS_H
#define POLICY_ERRORS_H

#include <stdarg.h>

#include "policy/policy.h"

enum {
	POLICY_MESSAGE_MAX = 1024
}; /* bytes with NUL; what is longer is cut between two characters */

/** pointer: RFC 6901, copied. line, column 0, 0: not in the document. Beyond POLICY_ERRORS_MAX, or
 * without memory, it is only counted. */
void policy_errors_add(struct policy_errors *e, const char *pointer, unsigned line, unsigned column,
    const char *fmt, ...) PRINTF_LIKE(5, 6);
void policy_errors_add_va(struct policy_errors *e, const char *pointer, unsigned line,
    unsigned column, const char *fmt, va_list args)
    PRINTF_LIKE(5, 0);
/** By place in the document, those without one last; errors of one place stay in the order in which
 * they were found. */
void policy_errors_sort(struct policy_errors *e);
/** Were there any? */
static inline bool
policy_errors_any(const struct policy_errors *e)
{
	return e->n > 0 || e->dropped > 0;
}

#endif
