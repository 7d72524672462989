/*
 * hints: what to try first, said on stderr when a router with an open loopback listener starts, in
 * lines that work as printed.
 */
#ifndef ADMIN_HINTS_H
#define ADMIN_HINTS_H

#include <stdio.h>

#include "policy/policy.h"

/**
 * Says nothing where the log is JSON (a machine reads it), or where there is no listener that
 * anyone here may use.
 */
void hints_print(const struct policy *p, FILE *out);

#endif
