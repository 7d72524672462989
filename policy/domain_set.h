/*
 * domain_set: many domain names, each alone or with all names below it, and whether a name is among
 * them.
 *
 * One piece of memory holds all names, one open-addressed table finds them by the hash of a suffix;
 * a look-up walks the name's labels from the right and hashes each byte once. Hashes are keyed by
 * the process (base/hash.h), since lists come from strangers. Names are compared as an endpoint
 * holds them: lower case, no trailing dot.
 *
 * A line or a value:
 *   example.com, .example.com      the name and everything below it
 *   =www.example.com               this name only
 * and in files also:
 *   0.0.0.0 ads.example ads2.example
 *                                  a hosts file's line: these names only. What a hosts file says of
 *                                  its own machine (localhost, broadcasthost, ip6-..., an address
 *                                  as name) is passed over.
 *   address=/a.example/0.0.0.0, server=/a.example/b.example/, local=/a.example/
 *                                  dnsmasq's: these names and everything below them
 *
 * Life: domain_set_new -> domain_set_add_... * n -> domain_set_seal -> look-ups from any thread ->
 * domain_set_free.
 */
#ifndef POLICY_DOMAIN_SET_H
#define POLICY_DOMAIN_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "base/endpoint.h"
#include "policy/set_file.h"

enum { DOMAIN_LABELS_MAX = (ENDPOINT_NAME_MAX + 1) / 2 };

enum domain_scope { DOMAIN_EXACT = 1, DOMAIN_BELOW = 2 };      /* BELOW: the name itself too */

/* The process's secret for hashing names. */
struct domain_key {
	uint64_t seed, factor;
};
struct domain_key domain_key_get(void);

/* Both halves of a product: hashing's one step, under a factor that strangers don't know. */
static inline uint64_t
domain_fold(uint64_t value, uint64_t factor)
{
	unsigned __int128 product = (unsigned __int128)value * factor;
	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* A name taken apart: hash[i] is that of the suffix that starts at start[i], which has i + 1
 * labels. */
struct domain_path {
	const char *name;              /* not copied */
	size_t len;
	struct domain_key key;
	unsigned n;                    /* labels */
	uint8_t start[DOMAIN_LABELS_MAX];
	uint64_t hash[DOMAIN_LABELS_MAX];
};

/** name: as an endpoint holds it, at most ENDPOINT_NAME_MAX bytes. An empty one has no labels. */
void domain_path_of(struct domain_path *path, struct domain_key key, const char *name, size_t len);

/**
 * Brings a name that people wrote into an endpoint's form (out: kind NAME). Returns NULL, or what
 * is wrong with it.
 */
const char *domain_read(struct endpoint *out, const char *text, size_t len);

struct domain_set;

/** NULL: out of memory. */
struct domain_set *domain_set_new(void);
void domain_set_free(struct domain_set *s);            /* NULL is fine */

/** Adds one value. Returns NULL, or what is wrong with it. */
const char *domain_set_add_value(struct domain_set *s, const char *text, size_t len);
/**
 * Adds a line of a file: a value, a hosts line or a dnsmasq line, without comment and blanks
 * around it. The same.
 */
const char *domain_set_add_line(struct domain_set *s, const char *text, size_t len);
/** Adds a file; faults go to report. True: there was none. */
bool domain_set_add_file(struct domain_set *s, const char *path, set_report_fn *report,
			 void *arg) WARN_UNUSED;
/** Makes the table; nothing can be added after. False: out of memory. */
bool domain_set_seal(struct domain_set *s) WARN_UNUSED;

/** Is the name, or one that it is below of, in the sealed set? */
bool domain_set_has(const struct domain_set *s, const struct domain_path *path);
bool domain_set_has_name(const struct domain_set *s, const char *name, size_t len);

/** Names in the sealed set, each counted once. */
size_t domain_set_count(const struct domain_set *s);
/** Memory held. */
size_t domain_set_bytes(const struct domain_set *s);

#endif
