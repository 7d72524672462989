/*
 * hosts: names whose addresses need no name server: the policy's `dns.hosts`, then /etc/hosts, then
 * localhost (RFC 6761 section 6.3).
 *
 * The file is read here, when it has changed, and looked at once a second at most; addresses in it
 * may have any spelling that inet_aton(3) takes. Time is a parameter. Confined to one thread.
 * Life: hosts_new -> hosts_find * n -> hosts_free.
 */
#ifndef DNS_HOSTS_H
#define DNS_HOSTS_H
#include "policy/policy.h"
#include "dns/address.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	HOSTS_ADDRS_MAX = 32,                  /* of one name; more are left out */
	HOSTS_BYTES_MAX = 8 << 20,             /* of the file; what is behind is not read */
};

struct hosts;

/**
 * list is copied. path: the file, which need not be there; must live as long. NULL: out of memory.
 */
struct hosts *hosts_new(const struct policy_dns_host *list, size_t n, const char *path);
void hosts_free(struct hosts *h);              /* NULL is fine */
/**
 * The name's addresses (> 0), valid until the next call; 0: it isn't there. *addrs is set if > 0.
 */
size_t hosts_find(struct hosts *h, const char *name, uint64_t now_ms,
		  const struct dns_address **addrs);

#endif
