/*
 * zones: which channel answers a name: that of the `dns.rules` entry with the longest suffix that
 * matches on label borders, else that of `dns.servers`. Made of a policy once and never changed;
 * nothing of the policy is kept.
 * Life: zones_new -> zones_find * n -> zones_free (not from inside an ask_cb).
 */
#ifndef DNS_ZONES_H
#define DNS_ZONES_H
#include "policy/policy.h"

struct channel;
struct loop;
struct zones;

/**
 * resolv_conf: path of the file that stands in for an empty dns.servers; must live as long. NULL:
 * out of memory, or c-ares refused the servers.
 */
struct zones *zones_new(struct loop *l, const struct policy_dns *conf, const char *resolv_conf);
void zones_free(struct zones *z);              /* NULL is fine; see channel_free */
/** Never NULL. */
struct channel *zones_find(const struct zones *z, const char *name);

#endif
