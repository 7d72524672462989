/*
 * decide: which rule a request meets, and why. Pure: no look-up, no clock, no state; explain and
 * replay call the same functions.
 *
 * Rules are tried in order, but not by scanning: a rule_index made with the policy finds the
 * candidates by hash and prefix, so the cost does not grow with the number of rules or the size of
 * sets.
 *
 * A destination that is a name and the rules on addresses (ip_cidr, sets of type ip):
 * - They see no address until a rule with "resolve": true asks: the first such rule whose other
 *   keys hold and whose result hangs on addresses. The decision is then DECIDE_NEEDS_ADDRESSES.
 *   From that rule on, all rules see the addresses; those before it never do, so that a decision
 *   does not depend on what happens to be known.
 * - Where no address is seen, or the look-up failed, an address key does not hold; within `not` it
 *   makes the `not` hold, as in HAProxy and sing-box. So {"not": {"ip_cidr": [...]}} is met by
 *   every unresolved name: such a rule wants "resolve": true.
 * - With several addresses, one that is in the block is enough.
 * - Whatever the rules made of the name, each address about to be dialled for it goes through
 *   policy_address_rejected.
 */
#ifndef POLICY_DECIDE_H
#define POLICY_DECIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/endpoint.h"
#include "policy/policy.h"

struct policy_request {
	uint32_t listener;             /* in policy->listeners; UINT32_MAX: unknown, matches none */
	uint8_t protocol;              /* enum socks_protocol */
	uint8_t command;               /* enum socks_command */
	const struct endpoint *client; /* kind NONE for a Unix socket */
	const char *user;              /* verified, without "+session"; NULL or "": none */
	const char *userid;            /* SOCKS4, unverified; NULL or "": none */
	const struct endpoint *to;
	const struct endpoint *addrs;  /* of to, where it is a name that was looked up */
	size_t n_addrs;
	bool resolve_failed;           /* looked up in vain: no rule asks again */
};

enum decision_kind {
	DECIDED,
	DECIDE_NEEDS_ADDRESSES,        /* look `to` up and call again */
};

struct policy_decision {
	enum decision_kind kind;
	int rule;                      /* its index, or that of the one that asks; -1: none */
	struct policy_route route;     /* of that rule, or the default route */
};

/** Never fails. Median cost is under 1 us with a million domains and 10,000 rules. */
void policy_decide(const struct policy *p, const struct policy_request *r,
		   struct policy_decision *out);

/**
 * Does this hold for the route of every destination? r->to is not looked at. For UDP ASSOCIATE,
 * which is asked for before a destination is known; false where that can't be told without one.
 */
bool policy_every_route(const struct policy *p, const struct policy_request *r,
			bool (*holds)(const struct policy *p, struct policy_route route));

/**
 * May this address be dialled for the name r->to? Every reject rule on ip_cidr or an ip set,
 * wherever it stands in the order, is held against it, the rest of the rule as in r. Where r->to is
 * an address, policy_decide has seen it: the answer is yes.
 * @return the index of the first rule that forbids it, or -1
 */
int policy_address_rejected(const struct policy *p, const struct policy_request *r,
			    const struct endpoint *addr);

/**
 * One rule's reason, for explain: each key that held, or the first that kept it from matching, as a
 * short sentence in out.
 * @return whether it matches r, whatever stands before it; false too where it waits for addresses
 */
bool policy_rule_explain(const struct policy *p, size_t rule, const struct policy_request *r,
			 char *out, size_t cap);

/* Hits per rule are counted by the worker, not here. */

/**
 * Takes a client's user name apart at its first '+': "alice+s1" is user "alice", session "s1". Both
 * are cut at their cap (0: not wanted) and NUL-terminated. A name with a NUL in it is nobody's:
 * both are empty.
 */
void policy_split_user(const char *username, size_t len, char *user, size_t user_cap, char *session,
		       size_t session_cap);

#endif
