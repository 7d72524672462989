/*
 * sections: the readers of the document's top-level keys, one table line each in policy.c. Each
 * fills its part of the policy given as object, with defaults where the document says nothing, and
 * needs names_collect before it.
 */
#ifndef POLICY_SECTIONS_H
#define POLICY_SECTIONS_H

#include "policy/parse.h"

/* parse_front.c: what clients meet. */
parse_field_fn parse_listeners, parse_admin, parse_log, parse_limits, parse_timeouts;
/* parse_auth.c */
parse_field_fn parse_auths;
/* parse_network.c: object is a struct policy_auth. */
parse_field_fn parse_networks;
/* parse_gssapi.c: object is a struct policy_gssapi, a struct policy_upstream_gssapi. */
parse_field_fn parse_gssapi, parse_upstream_gssapi;
/* Its target, where the object left it to the proxy's URL. */
bool parse_gssapi_target(struct parse_context *c, const struct endpoint *proxy, struct policy_upstream_gssapi *g);
/* parse_upstream.c */
parse_field_fn parse_upstreams;
/* parse_route.c: what requests are sent along. parse_rules needs listeners and sets. */
parse_field_fn parse_chains, parse_sets, parse_rules, parse_default_route;
/* parse_pool.c */
parse_field_fn parse_pools;
/* parse_health.c: a pool's health object, into a struct policy_health with its defaults. */
parse_field_fn parse_health;
void parse_health_defaults(struct policy_health *h);
/* parse_dns.c */
parse_field_fn parse_dns;

/* policy_check.c: what only the whole shows: paths that turn in circles or are too long, addresses
 * used twice, open doors. */
void policy_check(struct parse_context *c, const struct json_value *root);

#endif
