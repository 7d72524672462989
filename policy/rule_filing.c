/*
 * rule_filing: files each rule under one of its keys; see rule_filing.h for the shape, rule_index.h
 * for the choice.
 *
 * Three passes over the rules: count every value of every key, choose each rule's key by those
 * counts and reserve its places, put the rules into them. A value is visited, hashed as an atom, by
 * one function in all three.
 */
#include "policy/rule_filing.h"

#include "policy/match.h"
#include "socks/command.h"

#include <stdlib.h>

/* ---- the table ---- */

static bool
table_init(struct slot_table *t, size_t n_slots)
{
	t->slots = calloc(n_slots, sizeof *t->slots);
	t->mask = n_slots - 1;
	t->used = 0;
	return t->slots != NULL;
}

static bool
table_grow(struct slot_table *t)
{
	struct slot_table bigger;
	if (!table_init(&bigger, (t->mask + 1) * 2))
		return false;
	for (size_t i = 0; i <= t->mask; i++) {
		if (t->slots[i].n != 0)
			*find_slot(&bigger, t->slots[i].atom) = t->slots[i];
	}
	bigger.used = t->used;
	free(t->slots);
	*t = bigger;
	return true;
}

/* At most half of the slots are in use. */
static bool
table_count(struct slot_table *t, uint64_t atom)
{
	if (t->used * 2 >= t->mask && !table_grow(t))
		return false;
	struct slot *s = find_slot(t, atom);
	t->used += s->n == 0;
	s->atom = atom;
	s->n++;
	return true;
}

/* ---- visiting what a rule has ---- */

struct maker {
	const struct policy *policy;
	struct domain_key key;
	struct rule_filing *filing;
	enum rule_choice which;
	struct slot_table counts;      /* of all atoms of all keys */
	unsigned
	    *chosen; /* by rule: the enum match_key that it is filed under, 0: always looked at */
	uint32_t rule;                 /* of the atoms that are being visited */
	uint32_t most;                 /* rules that share the most shared atom visited */
	bool failed;
};

/* kind and length tell where the filing notes that the atom is in use. */
typedef void visit_fn(struct maker *m, enum atom_kind kind, unsigned length, uint64_t atom);

static void
visit_texts(struct maker *m, enum atom_kind kind, const struct match_texts *t, visit_fn *visit)
{
	bool domain = kind == ATOM_DOMAIN || kind == ATOM_SUFFIX;
	for (size_t i = 0; i < t->n; i++)
		visit(m, kind, 0,
		      domain ? domain_atom(m->key, kind, t->list[i])
			     : text_atom(m->key, kind, t->list[i]));
}

static void
visit_indexes(struct maker *m, enum atom_kind kind, const struct match_indexes *list,
	      visit_fn *visit)
{
	for (size_t i = 0; i < list->n; i++)
		visit(m, kind, 0, atom_of(m->key, kind, 0, list->list[i]));
}

/* kind4: ATOM_CLIENT4 or ATOM_ADDRESS4; that of IPv6 is the next one. */
static void
visit_prefixes(struct maker *m, enum atom_kind kind4, const struct match_prefixes *p,
	       visit_fn *visit)
{
	for (size_t i = 0; i < p->n; i++) {
		const struct ip_prefix *prefix = &p->list[i];
		enum atom_kind kind = kind4 + (prefix->kind == ENDPOINT_IPV6);
		visit(
		    m, kind, prefix->bits,
		    address_atom(m->key, kind, prefix->bits, bits_of(prefix->kind, prefix->addr)));
	}
}

/* Cut into blocks of a power of two that begin at a multiple of it: 30 at most. */
static void
visit_ports(struct maker *m, const struct port_range *range, visit_fn *visit)
{
	unsigned from = range->from, end = range->to + 1u;
	while (from < end) {
		unsigned length = PORT_BITS, size = 1;
		while (from % (size * 2) == 0 && from + size * 2 <= end) {
			size *= 2;
			length--;
		}
		visit(m, ATOM_PORT, length, port_atom(m->key, length, from));
		from += size;
	}
}

static void
visit_bits(struct maker *m, enum atom_kind kind, unsigned bits, visit_fn *visit)
{
	for (unsigned i = 0; i < 32; i++) {
		if ((bits & 1u << i) != 0)
			visit(m, kind, 0, atom_of(m->key, kind, 0, i));
	}
}

static void
visit_key(struct maker *m, const struct rule_match *match, unsigned key, visit_fn *visit)
{
	switch (key) {
	case MATCH_LISTENER: visit_indexes(m, ATOM_LISTENER, &match->listeners, visit); break;
	case MATCH_PROTOCOL: visit_bits(m, ATOM_PROTOCOL, match->protocols, visit); break;
	case MATCH_COMMAND: visit_bits(m, ATOM_COMMAND, match->commands, visit); break;
	case MATCH_CLIENT_CIDR: visit_prefixes(m, ATOM_CLIENT4, &match->clients, visit); break;
	case MATCH_USER: visit_texts(m, ATOM_USER, &match->users, visit); break;
	case MATCH_USERID: visit_texts(m, ATOM_USERID, &match->userids, visit); break;
	case MATCH_DOMAIN: visit_texts(m, ATOM_DOMAIN, &match->domains, visit); break;
	case MATCH_DOMAIN_SUFFIX: visit_texts(m, ATOM_SUFFIX, &match->suffixes, visit); break;
	case MATCH_IP_CIDR: visit_prefixes(m, ATOM_ADDRESS4, &match->addresses, visit); break;
	case MATCH_SET: visit_indexes(m, ATOM_SET, &match->sets, visit); break;
	case MATCH_PORT:
		for (size_t i = 0; i < match->ports.n; i++)
			visit_ports(m, &match->ports.list[i], visit);
		break;
	default:
		break;
	}
}

/* ---- choosing a key ---- */

static double
share_of_prefixes(const struct match_prefixes *p)
{
	double share = 0;
	for (size_t i = 0; i < p->n; i++)
		share += p->list[i].bits < 63 ? 1.0 / (double)(UINT64_C(1) << p->list[i].bits) : 0;
	return share;
}

static double
share_of_ports(const struct match_ports *p)
{
	double n = 0;
	for (size_t i = 0; i < p->n; i++)
		n += p->list[i].to - p->list[i].from + 1;
	return n / 65536;
}

/* A guess at the part of all requests that have it. */
static double
share_of_key(const struct maker *m, const struct rule_match *match, unsigned key)
{
	switch (key) {
	case MATCH_LISTENER:
		return (double)match->listeners.n / (double)m->policy->n_listeners;
	case MATCH_PROTOCOL:
		return __builtin_popcount(match->protocols) / 4.0;
	case MATCH_COMMAND:
		return (match->commands & 1u << SOCKS_CONNECT) != 0 ? 1 : 0.1;
	case MATCH_PORT:
		return share_of_ports(&match->ports);
	case MATCH_CLIENT_CIDR:
		return share_of_prefixes(&match->clients);
	case MATCH_IP_CIDR:
		return share_of_prefixes(&match->addresses);
	case MATCH_SET:
		return 0.05;
	default:
		return 0;
	}
}

/* The rule has this atom, whichever key it will be filed under. */
static void
visit_count(struct maker *m, enum atom_kind kind, unsigned length, uint64_t atom)
{
	(void)kind, (void)length;
	m->failed |= !table_count(&m->counts, atom);
}

static void
visit_compare(struct maker *m, enum atom_kind kind, unsigned length, uint64_t atom)
{
	(void)kind, (void)length;
	const struct slot *s = find_slot(&m->counts, atom);
	if (s->n > m->most)
		m->most = s->n;
}

/* Where two are as good, the earlier one: it costs less to look up. */
static const unsigned filing_keys[] = {MATCH_DOMAIN,   MATCH_DOMAIN_SUFFIX, MATCH_USER,
				       MATCH_IP_CIDR,  MATCH_PORT,          MATCH_CLIENT_CIDR,
				       MATCH_USERID,   MATCH_SET,           MATCH_LISTENER,
				       MATCH_PROTOCOL, MATCH_COMMAND};

/* The key whose candidates a request would have to check the fewest of. */
static unsigned
choose_key(struct maker *m, const struct rule_match *match)
{
	double best_cost = 0;
	unsigned best = 0;
	for (size_t i = 0; i < ARRAY_LEN(filing_keys); i++) {
		if ((match->keys & filing_keys[i]) == 0)
			continue;
		m->most = 0;
		visit_key(m, match, filing_keys[i], visit_compare);
		double cost =
		    m->most + share_of_key(m, match, filing_keys[i]) * (double)m->policy->n_rules;
		if (best == 0 || cost < best_cost) {
			best = filing_keys[i];
			best_cost = cost;
		}
	}
	return best;
}

/* ---- filing ---- */

static void
visit_reserve(struct maker *m, enum atom_kind kind, unsigned length, uint64_t atom)
{
	m->filing->lengths[kind][length / 64] |= UINT64_C(1) << length % 64;
	m->failed |= !table_count(&m->filing->table, atom);
	m->filing->n_rules++;
}

/* `first` moves on to where the list's next rule goes; fill_lists moves it back. */
static void
visit_file(struct maker *m, enum atom_kind kind, unsigned length, uint64_t atom)
{
	(void)kind, (void)length;
	struct slot *s = find_slot(&m->filing->table, atom);
	m->filing->rules[s->first++] = m->rule;
}

static bool
on_ip_set(const struct policy *p, const struct rule_match *match)
{
	for (size_t i = 0; i < match->sets.n; i++) {
		if (p->sets[match->sets.list[i]].type == SET_IP)
			return true;
	}
	return false;
}

static void
visit_chosen(struct maker *m, uint32_t rule, visit_fn *visit)
{
	const struct policy_rule *r = &m->policy->rules[rule];
	unsigned key = m->chosen[rule];
	m->rule = rule;
	if (key == 0)
		visit(m, ATOM_ALWAYS, 0, atom_of(m->key, ATOM_ALWAYS, 0, 0));
	else
		visit_key(m, r->match, key, visit);
	if (r->resolve &&
	    (key == MATCH_IP_CIDR || (key == MATCH_SET && on_ip_set(m->policy, r->match))))
		visit(m, ATOM_UNRESOLVED, 0, atom_of(m->key, ATOM_UNRESOLVED, 0, 0));
}

static bool
is_chosen_rule(const struct maker *m, uint32_t rule)
{
	return m->which == RULES_ALL || rule_refuses_addresses(&m->policy->rules[rule]);
}

/* Notes which sets rules are filed under. */
static bool
collect_sets(struct maker *m)
{
	const struct policy *p = m->policy;
	m->filing->sets = calloc(p->n_sets + 1, sizeof *m->filing->sets);
	for (uint32_t i = 0; m->filing->sets != NULL && i < p->n_sets; i++) {
		if (find_slot(&m->filing->table, atom_of(m->key, ATOM_SET, 0, i))->n != 0)
			m->filing->sets[m->filing->n_sets++] = i;
	}
	return m->filing->sets != NULL;
}

/* Gives every list its place, one behind the other, and fills them in the order of the rules. */
static bool
fill_lists(struct maker *m)
{
	struct rule_filing *f = m->filing;
	uint32_t n_rules = (uint32_t)m->policy->n_rules, at = 0;
	f->rules = calloc(f->n_rules + 1, sizeof *f->rules);
	if (f->rules == NULL)
		return false;
	for (size_t i = 0; i <= f->table.mask; i++) {
		f->table.slots[i].first = at;
		at += f->table.slots[i].n;
	}
	for (uint32_t i = 0; i < n_rules; i++) {
		if (is_chosen_rule(m, i))
			visit_chosen(m, i, visit_file);
	}
	for (size_t i = 0; i <= f->table.mask; i++)
		f->table.slots[i].first -= f->table.slots[i].n;
	return true;
}

static void
count_all_atoms(struct maker *m, uint32_t rule)
{
	const struct rule_match *match = m->policy->rules[rule].match;
	for (size_t i = 0; match != NULL && i < ARRAY_LEN(filing_keys); i++) {
		if ((match->keys & filing_keys[i]) != 0)
			visit_key(m, match, filing_keys[i], visit_count);
	}
}

static bool
choose_keys(struct maker *m)
{
	uint32_t n_rules = (uint32_t)m->policy->n_rules;
	for (uint32_t i = 0; i < n_rules && !m->failed; i++) {
		if (is_chosen_rule(m, i))
			count_all_atoms(m, i);
	}
	for (uint32_t i = 0; i < n_rules && !m->failed; i++) {
		const struct rule_match *match = m->policy->rules[i].match;
		if (!is_chosen_rule(m, i))
			continue;
		m->chosen[i] = match == NULL ? 0 : choose_key(m, match);
		visit_chosen(m, i, visit_reserve);
	}
	return !m->failed && m->filing->n_rules <= UINT32_MAX;
}

bool
rule_filing_make(struct rule_filing *f, const struct policy *p, struct domain_key k,
		 enum rule_choice which)
{
	struct maker m = { .policy = p, .key = k, .filing = f, .which = which };
	m.chosen = calloc(p->n_rules + 1, sizeof *m.chosen);
	bool made = m.chosen != NULL && table_init(&m.counts, 16) && table_init(&f->table, 16) &&
		    choose_keys(&m) && collect_sets(&m) && fill_lists(&m);
	free(m.chosen);
	free(m.counts.slots);
	return made;
}

void
rule_filing_free(struct rule_filing *f)
{
	free(f->table.slots);
	free(f->rules);
	free(f->sets);
}

size_t
rule_filing_bytes(const struct rule_filing *f)
{
	return (f->table.mask + 1) * sizeof *f->table.slots + f->n_rules * sizeof *f->rules +
	       f->n_sets * sizeof *f->sets;
}
