/*
 * facts: what is known of one request: what the access line, the API and the counters tell of it. Filled in as it comes to light.
 *
 * While the handshake lasts the strings are in the session's `shake`; facts_pack copies all into one block of just the size needed,
 * which a relaying session keeps.
 */
#ifndef ROUTER_FACTS_H
#define ROUTER_FACTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "policy/policy.h"
#include "upstream/dialer.h"

/* Did other members join the first one that was asked, and which one decided? */
enum race { RACE_NONE, RACE_FIRST, RACE_LATE };

struct facts {
	/* How far from the facts themselves what the functions below tell lies: half of a block would be pointers otherwise. */
	int16_t user_at, to_at, detail_at, hops_at;
	uint8_t n_hops, n_timed;               /* the first n_timed of them have done their part */
	uint8_t protocol, command;             /* enum socks_protocol, enum socks_command; 0: not known */
	uint8_t stage;                         /* enum dial_stage */
	int8_t hop_at_fault;                   /* index in hops; -1: none */
	uint8_t attempts;
	uint8_t race;                          /* enum race */
	uint16_t code;                         /* what the client was answered: REP, CD or HTTP status; UINT16_MAX: nothing */
	bool decided;                          /* rule and route are known */
	int32_t rule;                          /* -1: default_route */
	struct policy_route route;
	uint32_t handshake_us, resolve_us, total_us;
};

/* Where the strings and hops are, for facts_init: all within 32 KiB of the facts. */
struct facts_memory {
	const char *user, *to, *detail;
	const struct dial_hop_time *hops;
};
void facts_init(struct facts *f, const struct facts_memory *m);
/** One block of memory, free() ends it. NULL: out of memory. */
struct facts *facts_pack(const struct facts *f);

static inline const char *
facts_user(const struct facts *f)              /* "" where there is none */
{
	return (const char *)f + f->user_at;
}

static inline const char *
facts_to(const struct facts *f)                /* "" where nothing was asked for */
{
	return (const char *)f + f->to_at;
}

static inline const char *
facts_detail(const struct facts *f)            /* why it failed, or "" */
{
	return (const char *)f + f->detail_at;
}

static inline const struct dial_hop_time *
facts_hops(const struct facts *f)              /* the path of the attempt that decided */
{
	return (const struct dial_hop_time *)(const void *)((const char *)f + f->hops_at);
}

/** "default" for the default route. */
const char *facts_rule_name(const struct facts *f, const struct policy *p);
/** "direct" (UINT32_MAX) or the upstream's name. */
const char *facts_upstream_name(const struct policy *p, uint32_t upstream);
const char *facts_hop_name(const struct facts *f, const struct policy *p, unsigned hop);
/** The keys of an access line that facts know. */
void facts_log(const struct facts *f, const struct policy *p, struct log_line *line);

#endif
