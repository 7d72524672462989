/*
 * rule_index: looks up what a request has, and merges the lists of rules found; see the header.
 */
#include "policy/rule_index.h"

#include "policy/rule_filing.h"

#include <stdlib.h>

struct rule_index {
	const struct policy *policy;
	struct domain_key key;
	struct rule_filing filings[2]; /* by enum rule_choice */
	uint32_t *asking;              /* rules with "resolve" whose result may hang on addresses */
	size_t n_asking;
};

static bool
list_asking(struct rule_index *x)
{
	x->asking = calloc(x->policy->n_rules + 1, sizeof *x->asking);
	for (uint32_t i = 0; x->asking != NULL && i < x->policy->n_rules; i++) {
		const struct policy_rule *r = &x->policy->rules[i];
		if (r->resolve && r->match != NULL && r->match->hangs_on_address)
			x->asking[x->n_asking++] = i;
	}
	return x->asking != NULL;
}

struct rule_index *
rule_index_new(const struct policy *p)
{
	struct rule_index *x = calloc(1, sizeof *x);
	if (x == NULL)
		return NULL;
	x->policy = p;
	x->key = domain_key_get();
	if (!rule_filing_make(&x->filings[RULES_ALL], p, x->key, RULES_ALL) ||
	    !rule_filing_make(&x->filings[RULES_ON_ADDRESSES], p, x->key, RULES_ON_ADDRESSES) ||
	    !list_asking(x)) {
		rule_index_free(x);
		return NULL;
	}
	return x;
}

void
rule_index_free(struct rule_index *x)
{
	if (x == NULL)
		return;
	for (size_t i = 0; i < ARRAY_LEN(x->filings); i++)
		rule_filing_free(&x->filings[i]);
	free(x->asking);
	free(x);
}

size_t
rule_index_bytes(const struct rule_index *x)
{
	size_t n = sizeof *x + x->n_asking * sizeof *x->asking;
	for (size_t i = 0; i < ARRAY_LEN(x->filings); i++)
		n += rule_filing_bytes(&x->filings[i]);
	return n;
}

struct domain_key
rule_index_key(const struct rule_index *x)
{
	return x->key;
}

int
rule_index_next_asking(const struct rule_index *x, int after)
{
	size_t low = 0, high = x->n_asking;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if ((int)x->asking[middle] <= after)
			low = middle + 1;
		else
			high = middle;
	}
	return low < x->n_asking ? (int)x->asking[low] : -1;
}

/* ---- finding ---- */

static inline bool
uses(const struct candidates *c, enum atom_kind kind)
{
	return c->filing->lengths[kind][0] != 0;
}

/* The list's part from rule c->next on. */
static inline void
look_up(struct candidates *c, uint64_t atom)
{
	const struct slot *s = find_slot(&c->filing->table, atom);
	if (s->n == 0)
		return;
	struct candidate_list list = {c->filing->rules + s->first,
				      c->filing->rules + s->first + s->n};
	if (*list.at < c->next) {
		const uint32_t *high = list.end;
		while (list.at < high) {
			const uint32_t *middle = list.at + (high - list.at) / 2;
			if (*middle < c->next)
				list.at = middle + 1;
			else
				high = middle;
		}
	}
	if (list.at == list.end)
		return;
	if (c->n_lists < CANDIDATE_LISTS_MAX)
		c->lists[c->n_lists] = list;
	c->n_lists++;
}

static void
look_up_address(struct candidates *c, enum atom_kind kind4, const struct endpoint *e)
{
	if (!endpoint_is_address(e))
		return;
	enum atom_kind kind = kind4 + (e->kind == ENDPOINT_IPV6);
	struct address_bits a = bits_of(e->kind, e->addr);
	for (unsigned word = 0; word < MASK_WORDS; word++) {
		for (uint64_t left = c->filing->lengths[kind][word]; left != 0; left &= left - 1) {
			unsigned length = word * 64 + (unsigned)__builtin_ctzll(left);
			look_up(c, address_atom(c->index->key, kind, length, a));
		}
	}
}

static void
look_up_port(struct candidates *c, unsigned port)
{
	for (uint64_t left = c->filing->lengths[ATOM_PORT][0]; left != 0; left &= left - 1)
		look_up(c, port_atom(c->index->key, (unsigned)__builtin_ctzll(left), port));
}

static void
look_up_text(struct candidates *c, enum atom_kind kind, const char *text)
{
	if (uses(c, kind) && text != NULL && text[0] != '\0')
		look_up(c, text_atom(c->index->key, kind, text));
}

static void
look_up_name(struct candidates *c, struct match_view *v)
{
	if (!uses(c, ATOM_DOMAIN) && !uses(c, ATOM_SUFFIX))
		return;
	const struct domain_path *path = match_view_path(v);
	if (path == NULL || path->n == 0)
		return;
	if (uses(c, ATOM_DOMAIN))
		look_up(c, atom_of(c->index->key, ATOM_DOMAIN, 0, path->hash[path->n - 1]));
	for (unsigned i = 0; uses(c, ATOM_SUFFIX) && i < path->n; i++)
		look_up(c, atom_of(c->index->key, ATOM_SUFFIX, 0, path->hash[i]));
}

static void
look_up_sets(struct candidates *c, struct match_view *v, enum set_type type)
{
	for (size_t i = 0; i < c->filing->n_sets; i++) {
		uint32_t set = c->filing->sets[i];
		if (v->policy->sets[set].type == type && match_view_in_set(v, set) == TRUTH_YES)
			look_up(c, atom_of(c->index->key, ATOM_SET, 0, set));
	}
}

static void
look_up_addresses(struct candidates *c, struct match_view *v)
{
	for (size_t i = 0; i < v->n_addrs; i++) {
		look_up_address(c, ATOM_ADDRESS4, &v->addrs[i]);
		if (match_view_meant(v, i) != &v->addrs[i])
			look_up_address(c, ATOM_ADDRESS4, match_view_meant(v, i));
	}
	look_up_sets(c, v, SET_IP);
}

static inline void
look_up_value(struct candidates *c, enum atom_kind kind, uint32_t value)
{
	if (uses(c, kind))
		look_up(c, atom_of(c->index->key, kind, 0, value));
}

void
candidates_start(struct candidates *c, const struct rule_index *x, enum rule_choice which,
		 struct match_view *v)
{
	const struct policy_request *r = v->request;
	c->index = x;
	c->filing = &x->filings[which];
	c->next = 0;
	c->n_rules = (uint32_t)x->policy->n_rules;
	c->n_lists = 0;
	c->n_unresolved = 0;
	if (v->can_ask && uses(c, ATOM_UNRESOLVED)) {
		look_up(c, atom_of(x->key, ATOM_UNRESOLVED, 0, 0));
		c->n_unresolved = c->n_lists;
	}
	look_up_value(c, ATOM_ALWAYS, 0);
	look_up_value(c, ATOM_LISTENER, r->listener);
	look_up_value(c, ATOM_PROTOCOL, r->protocol);
	look_up_value(c, ATOM_COMMAND, r->command);
	look_up_port(c, r->to->port);
	if (r->client != NULL)
		look_up_address(c, ATOM_CLIENT4, r->client);
	look_up_text(c, ATOM_USER, r->user);
	look_up_text(c, ATOM_USERID, r->userid);
	look_up_name(c, v);
	look_up_sets(c, v, SET_DOMAIN);
	look_up_addresses(c, v);
}

void
candidates_add_addresses(struct candidates *c, struct match_view *v)
{
	for (size_t i = 0; i < c->n_unresolved; i++)
		c->lists[i].at = c->lists[i].end;
	look_up_addresses(c, v);
}

int
candidates_next(struct candidates *c)
{
	if (c->n_lists > CANDIDATE_LISTS_MAX)
		return c->next < c->n_rules ? (int)c->next++ : -1;
	uint32_t least = UINT32_MAX;
	for (size_t i = 0; i < c->n_lists; i++) {
		if (c->lists[i].at < c->lists[i].end && *c->lists[i].at < least)
			least = *c->lists[i].at;
	}
	if (least == UINT32_MAX)
		return -1;
	for (size_t i = 0; i < c->n_lists; i++) {
		while (c->lists[i].at < c->lists[i].end && *c->lists[i].at == least)
			c->lists[i].at++;
	}
	c->next = least + 1;
	return (int)least;
}
