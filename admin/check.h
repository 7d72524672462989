/*
 * check: whether `run` would serve a policy, as far as can be told without binding or dialling
 * anything.
 */
#ifndef ADMIN_CHECK_H
#define ADMIN_CHECK_H

#include "base/base.h"
#include "policy/policy.h"

/**
 * policy_load, and what a router makes of the policy before it serves. NULL and at least one
 * error.
 */
struct policy *check_load(const struct policy_source *from,
			  struct policy_errors *errors) WARN_UNUSED;
/** The same from a file. */
struct policy *check_load_file(const char *path, struct policy_errors *errors) WARN_UNUSED;

#endif
