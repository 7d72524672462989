/*
 * rule_index: finds the rules that a request may meet, in their order, without looking at the
 * others.
 *
 * Each rule is filed under one of its keys, the one that the fewest requests and rules share: under
 * a hash of each of the key's values (a name, a suffix, a user, a port range or an address block
 * cut into blocks of powers of two, a set, a listener ...). A request looks up what it has (its
 * suffixes from the right, its address under each prefix length in use ...), and the lists found
 * are merged by rule number. Rules without such a key (keywords, `not`, no match) are in a list
 * that every request reads. What is found is a superset: the caller holds each candidate's whole
 * match against the request.
 *
 * A rule with "resolve" that is filed under an address is also found by names whose addresses are
 * not known yet. Immutable once made; used from any thread.
 */
#ifndef POLICY_RULE_INDEX_H
#define POLICY_RULE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "policy/domain_set.h"
#include "policy/match.h"
#include "policy/policy.h"

struct rule_index;

/** Of p->rules, once p is otherwise complete; refers to p. NULL: out of memory. */
struct rule_index *rule_index_new(const struct policy *p) WARN_UNUSED;
void rule_index_free(struct rule_index *x);            /* NULL is fine */
size_t rule_index_bytes(const struct rule_index *x);
struct domain_key rule_index_key(const struct rule_index *x);

/* Which rules: all, or only those that refuse addresses (route reject, and ip_cidr or a set of
 * type ip somewhere in the match). */
enum rule_choice { RULES_ALL, RULES_ON_ADDRESSES };

static inline bool
rule_refuses_addresses(const struct policy_rule *r)
{
	return r->route.kind == ROUTE_REJECT && r->match != NULL && r->match->hangs_on_address;
}

enum { CANDIDATE_LISTS_MAX = 192 };

struct candidate_list {
	const uint32_t *at, *end;      /* rule numbers, ascending */
};

struct candidates {
	const struct rule_index *index;
	const struct rule_filing *filing;
	uint32_t next;                 /* no rule before this one is given any more */
	uint32_t n_rules;
	size_t n_lists;                /* > CANDIDATE_LISTS_MAX: too many to merge, all rules are given */
	size_t n_unresolved;           /* the first of the lists: those of names without addresses */
	struct candidate_list lists[CANDIDATE_LISTS_MAX];
};

void candidates_start(struct candidates *c, const struct rule_index *x, enum rule_choice which,
		      struct match_view *v);
/** The next rule that the request may meet, ascending; -1: no more. */
int candidates_next(struct candidates *c);
/**
 * The view shows addresses since now: candidates after the one given last include those found by
 * them.
 */
void candidates_add_addresses(struct candidates *c, struct match_view *v);
/**
 * The first rule behind `after` with "resolve" and a match that looks at addresses; -1: no more.
 */
int rule_index_next_asking(const struct rule_index *x, int after);

#endif
