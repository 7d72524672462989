/*
 * resolv_conf: the name servers that the system's resolver configuration names (resolv.conf(5)).
 * Search lists and options are not read: names are asked as they are, and the policy has timeouts
 * of its own.
 */
#ifndef DNS_RESOLV_CONF_H
#define DNS_RESOLV_CONF_H
#include "base/endpoint.h"

#include <stddef.h>

enum { RESOLV_CONF_BYTES_MAX = 64 << 10 };

/**
 * The servers in the file's order, at most cap, with port 53. Addresses with a scope id are passed
 * over.
 */
size_t resolv_conf_read(const char *text, struct endpoint *servers, size_t cap);

#endif
