/*
 * kinds: what the schemes of upstreams can do: which protocol each speaks and which commands it has
 * a part for. Tables; pure.
 */
#ifndef UPSTREAM_KINDS_H
#define UPSTREAM_KINDS_H

#include <stdbool.h>

#include "policy/policy.h"
#include "socks/command.h"
#include "socks/hop.h"

/** NULL: direct://, where nobody is spoken to. */
const struct hop_ops *kind_ops(enum upstream_scheme s);
/**
 * Can it do its part of a command? last: it is the one that is asked for the command itself.
 *
 * Whatever gives a tunnel may stand before the last hop of a BIND. UDP needs an association with
 * each hop. One behind TLS is not taken for it: datagrams would pass it in the clear, which is not
 * what its policy asked for.
 */
bool kind_can(const struct policy_upstream *u, enum socks_command command, bool last);
/**
 * The same of a route: is there a way along it on which every hop can? Whether it is usable now is
 * another question.
 */
bool kind_route_can(const struct policy *p, struct policy_route route, enum socks_command command,
		    bool last);

#endif
