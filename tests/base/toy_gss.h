/*
 * toy_gss: base/gss_context.h without Kerberos, for tests and fuzzing of what lies on it: linked in its place. Established from the
 * start, and no secret to anybody:
 *
 *   token = number of the message | 1: secret | the message, each byte ^ 0x5a | sum of all before
 */
#ifndef TESTS_BASE_TOY_GSS_H
#define TESTS_BASE_TOY_GSS_H

#include <stddef.h>

#include "base/gss_context.h"

enum { TOY_OVERHEAD = 3 };

struct gss_context *toy_context(void);
/** From now on nothing can be sealed. */
void toy_break(struct gss_context *c);
/** How many contexts are there. */
unsigned toy_contexts(void);

#endif
