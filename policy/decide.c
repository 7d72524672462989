/*
 * decide: walks the candidates of a request in the order of the rules; see the header for what each
 * rule gets to see.
 */
#include "policy/decide.h"

#include "policy/match.h"
#include "policy/rule_index.h"

#include <string.h>

static bool
has_addresses(const struct policy_request *r)
{
	return r->addrs != NULL && r->n_addrs > 0 && !r->resolve_failed;
}

static void
decide(const struct policy *p, int rule, enum decision_kind kind, struct policy_decision *out)
{
	out->kind = kind;
	out->rule = rule;
	out->route = rule < 0 ? p->default_route : p->rules[rule].route;
}

void
policy_decide(const struct policy *p, const struct policy_request *r, struct policy_decision *out)
{
	struct match_view view;
	struct candidates candidates;
	match_view_init(&view, p, r, rule_index_key(p->index));
	candidates_start(&candidates, p->index, RULES_ALL, &view);
	for (int i; (i = candidates_next(&candidates)) >= 0;) {
		const struct policy_rule *rule = &p->rules[i];
		enum truth holds = rule_match_holds(rule->match, &view, rule->resolve);
		if (holds == TRUTH_UNKNOWN && !has_addresses(r)) {
			decide(p, i, DECIDE_NEEDS_ADDRESSES, out);
			return;
		}
		if (holds == TRUTH_UNKNOWN) {
			match_view_show_addresses(&view, r->addrs, r->n_addrs);
			candidates_add_addresses(&candidates, &view);
			holds = rule_match_holds(rule->match, &view, rule->resolve);
		}
		if (holds == TRUTH_YES) {
			decide(p, i, DECIDED, out);
			return;
		}
	}
	decide(p, -1, DECIDED, out);
}

/* Does the rule meet the request whatever the destination? May it, with some? */
static enum truth
matches_any(const struct policy_rule *rule, struct match_view *v)
{
	static const unsigned about_the_client = MATCH_LISTENER | MATCH_PROTOCOL | MATCH_COMMAND |
						 MATCH_CLIENT_CIDR | MATCH_USER | MATCH_USERID;
	if (rule->match != NULL && (rule->match->keys & ~about_the_client) != 0)
		return TRUTH_UNKNOWN;
	return rule_match_holds(rule->match, v, false);
}

bool
policy_every_route(const struct policy *p, const struct policy_request *r,
		   bool (*holds)(const struct policy *p, struct policy_route route))
{
	static const struct endpoint nowhere;
	struct policy_request request = *r;
	struct match_view view;
	request.to = &nowhere;
	match_view_init(&view, p, &request, rule_index_key(p->index));
	for (size_t i = 0; i < p->n_rules; i++) {
		enum truth matches = matches_any(&p->rules[i], &view);
		bool held = matches != TRUTH_NO && holds(p, p->rules[i].route);
		if (matches == TRUTH_YES || (matches == TRUTH_UNKNOWN && !held))
			return held;
	}
	return holds(p, p->default_route);
}

int
policy_address_rejected(const struct policy *p, const struct policy_request *r,
			const struct endpoint *addr)
{
	struct match_view view;
	struct candidates candidates;
	if (endpoint_is_address(r->to))
		return -1;
	match_view_init(&view, p, r, rule_index_key(p->index));
	match_view_show_addresses(&view, addr, 1);
	candidates_start(&candidates, p->index, RULES_ON_ADDRESSES, &view);
	for (int i; (i = candidates_next(&candidates)) >= 0;) {
		if (rule_refuses_addresses(&p->rules[i]) &&
		    rule_match_holds(p->rules[i].match, &view, false) == TRUTH_YES)
			return i;
	}
	return -1;
}

/* Has this rule, or one before it, asked for the addresses that the request brings? */
static bool
sees_addresses(const struct policy *p, int rule, const struct policy_request *r,
	       struct match_view *v)
{
	if (!v->can_ask || !has_addresses(r))
		return false;
	for (int i = -1; (i = rule_index_next_asking(p->index, i)) >= 0 && i <= rule;) {
		if (rule_match_holds(p->rules[i].match, v, true) == TRUTH_UNKNOWN)
			return true;
	}
	return false;
}

bool
policy_rule_explain(const struct policy *p, size_t rule, const struct policy_request *r, char *out,
		    size_t cap)
{
	struct match_view view;
	match_view_init(&view, p, r, rule_index_key(p->index));
	if (sees_addresses(p, (int)rule, r, &view))
		match_view_show_addresses(&view, r->addrs, r->n_addrs);
	return rule_match_explain(p->rules[rule].match, &view, p->rules[rule].resolve, out, cap) ==
	       TRUTH_YES;
}

static void
copy_cut(char *out, size_t cap, const char *text, size_t len)
{
	if (cap == 0)
		return;
	size_t n = len < cap ? len : cap - 1;
	if (n > 0)
		memcpy(out, text, n);
	out[n] = '\0';
}

void
policy_split_user(const char *username, size_t len, char *user, size_t user_cap, char *session,
		  size_t session_cap)
{
	const char *plus = len == 0 ? NULL : memchr(username, '+', len);
	size_t user_len = plus == NULL ? len : (size_t)(plus - username);
	size_t session_len = plus == NULL ? 0 : len - user_len - 1;
	if (len > 0 && memchr(username, '\0', len) != NULL)
		user_len = session_len = 0;
	copy_cut(user, user_cap, username, user_len);
	copy_cut(session, session_cap, session_len > 0 ? plus + 1 : "", session_len);
}
