/*
 * match_text: why a rule's conditions hold or don't, in words, for explain: "port 443 is in 443,
 * 8443; user "alice" is in alice".
 */
#include "policy/match.h"

#include "base/text.h"
#include "policy/match_keys.h"
#include "policy/policy.h"
#include "policy/utf8.h"

#include <stdio.h>
#include <string.h>

enum { VALUES_SHOWN = 4, ADDRESSES_SHOWN = 4 };

/* Text under construction; cut quietly. */
struct words {
	char *out;
	size_t cap, len;
};

#define SAY(w, ...) text_append((w)->out, (w)->cap, &(w)->len, __VA_ARGS__)

/* ---- what the request has ---- */

static void
say_quoted(struct words *w, const char *what, const char *text)
{
	char quoted[128];
	if (text == NULL || text[0] == '\0')
		SAY(w, "no %s given: it", what);
	else
		SAY(w, "%s %s", what, parse_quote(text, quoted, sizeof quoted));
}

static void
say_host(struct words *w, const struct endpoint *e)
{
	char text[ENDPOINT_TEXT_MAX], quoted[128];
	if (e->kind == ENDPOINT_NAME)
		SAY(w, "%s", parse_quote(e->name, quoted, sizeof quoted));
	else
		SAY(w, "%s", endpoint_host_to_text(e, text, sizeof text));
}

/* A name with the addresses that rules see. */
static void
say_destination(struct words *w, const struct match_view *v)
{
	const struct endpoint *to = v->request->to;
	say_host(w, to);
	if (to->kind != ENDPOINT_NAME)
		return;
	if (v->n_addrs == 0)
		SAY(w, " (no address seen)");
	for (size_t i = 0; i < v->n_addrs && i < ADDRESSES_SHOWN; i++) {
		SAY(w, i == 0 ? " (" : ", ");
		say_host(w, &v->addrs[i]);
	}
	if (v->n_addrs > 0)
		SAY(w, v->n_addrs > ADDRESSES_SHOWN ? ", ...)" : ")");
}

static const char *
word_of(const struct parse_word *words, unsigned value)
{
	while (words->text != NULL && words->value != 1u << value % 32)
		words++;
	return words->text != NULL ? words->text : "unknown";
}

static void
say_subject(struct words *w, enum match_key key, const struct match_view *v)
{
	const struct policy_request *r = v->request;
	switch (key) {
	case MATCH_LISTENER:
		if (r->listener < v->policy->n_listeners)
			SAY(w, "listener %s", v->policy->listeners[r->listener].name);
		else
			SAY(w, "no listener given: it");
		break;
	case MATCH_PROTOCOL:
		SAY(w, "protocol %s", word_of(match_protocol_words, r->protocol));
		break;
	case MATCH_COMMAND:
		SAY(w, "command %s", word_of(match_command_words, r->command));
		break;
	case MATCH_PORT:
		SAY(w, "port %u", (unsigned)r->to->port);
		break;
	case MATCH_USER:
		say_quoted(w, "user", r->user);
		break;
	case MATCH_USERID:
		say_quoted(w, "userid", r->userid);
		break;
	case MATCH_CLIENT_CIDR:
		SAY(w, "client ");
		if (r->client != NULL && endpoint_is_address(r->client))
			say_host(w, r->client);
		else
			SAY(w, "without an address");
		break;
	case MATCH_IP_CIDR:
	case MATCH_SET:
		say_destination(w, v);
		break;
	case MATCH_DOMAIN:
	case MATCH_DOMAIN_SUFFIX:
	case MATCH_DOMAIN_KEYWORD:
	case MATCH_NOT:
		say_host(w, r->to);
		break;
	}
}

/* ---- what the rule has ---- */

static void
say_word(struct words *w, size_t *n, const char *text)
{
	if ((*n)++ < VALUES_SHOWN)
		SAY(w, "%s%s", *n == 1 ? "" : ", ", text);
}

static void
say_texts(struct words *w, size_t *n, const struct match_texts *t)
{
	for (size_t i = 0; i < t->n; i++)
		say_word(w, n, t->list[i]);
}

static void
say_prefixes(struct words *w, size_t *n, const struct match_prefixes *p)
{
	char text[IP_PREFIX_TEXT_MAX];
	for (size_t i = 0; i < p->n; i++)
		say_word(w, n,
			 *n < VALUES_SHOWN ? ip_prefix_to_text(&p->list[i], text, sizeof text)
					   : "");
}

static void
say_ports(struct words *w, size_t *n, const struct match_ports *p)
{
	char text[16];
	for (size_t i = 0; i < p->n; i++) {
		unsigned from = p->list[i].from, to = p->list[i].to;
		snprintf(text, sizeof text, from == to ? "%u" : "%u-%u", from, to);
		say_word(w, n, text);
	}
}

static void
say_bits(struct words *w, size_t *n, const struct parse_word *words, unsigned bits)
{
	for (; words->text != NULL; words++) {
		if ((words->value & bits) != 0)
			say_word(w, n, words->text);
	}
}

static void
say_sets(struct words *w, size_t *n, const struct rule_match *m, const struct match_view *v)
{
	for (size_t i = 0; i < m->sets.n; i++)
		say_word(w, n, v->policy->sets[m->sets.list[i]].name);
}

static void
say_listeners(struct words *w, size_t *n, const struct rule_match *m, const struct match_view *v)
{
	for (size_t i = 0; i < m->listeners.n; i++)
		say_word(w, n, v->policy->listeners[m->listeners.list[i]].name);
}

static void
say_values(struct words *w, enum match_key key, const struct rule_match *m,
	   const struct match_view *v)
{
	size_t n = 0;
	switch (key) {
	case MATCH_LISTENER: say_listeners(w, &n, m, v); break;
	case MATCH_PROTOCOL: say_bits(w, &n, match_protocol_words, m->protocols); break;
	case MATCH_COMMAND: say_bits(w, &n, match_command_words, m->commands); break;
	case MATCH_PORT: say_ports(w, &n, &m->ports); break;
	case MATCH_CLIENT_CIDR: say_prefixes(w, &n, &m->clients); break;
	case MATCH_USER: say_texts(w, &n, &m->users); break;
	case MATCH_USERID: say_texts(w, &n, &m->userids); break;
	case MATCH_DOMAIN: say_texts(w, &n, &m->domains); break;
	case MATCH_DOMAIN_SUFFIX: say_texts(w, &n, &m->suffixes); break;
	case MATCH_DOMAIN_KEYWORD: say_texts(w, &n, &m->keywords); break;
	case MATCH_IP_CIDR: say_prefixes(w, &n, &m->addresses); break;
	case MATCH_SET: say_sets(w, &n, m, v); break;
	case MATCH_NOT: break;
	}
	if (n > VALUES_SHOWN)
		SAY(w, " and %zu more", n - VALUES_SHOWN);
}

static const char *
relation(enum match_key key, bool holds)
{
	switch (key) {
	case MATCH_DOMAIN_SUFFIX:
		return holds ? "is or is below" : "is not and is not below";
	case MATCH_DOMAIN_KEYWORD:
		return holds ? "has in it" : "has not in it";
	case MATCH_SET:
		return holds ? "is in set" : "is not in set";
	case MATCH_IP_CIDR:
		return holds ? "is in" : "is not in";
	default:
		return holds ? "is one of" : "is none of";
	}
}

/* ---- sentences ---- */

static void
say_key(struct words *w, enum match_key key, enum truth holds, bool may_ask,
	const struct rule_match *m, const struct match_view *v)
{
	if (w->len > 0)
		SAY(w, "; ");
	say_subject(w, key, v);
	if (holds == TRUTH_UNKNOWN && may_ask)
		SAY(w, " must be resolved to know whether it %s ", relation(key, true));
	else
		SAY(w, " %s ", relation(key, holds == TRUTH_YES));
	say_values(w, key, m, v);
}

/* The text may have been cut within a character. */
static void
drop_cut_character(char *out)
{
	size_t len = strlen(out), at = len;
	while (at > 0 && len - at < 4 && ((unsigned char)out[at - 1] & 0xc0) == 0x80)
		at--;
	if (at > 0 && (unsigned char)out[at - 1] >= 0xc0 &&
	    utf8_length(out + at - 1, len - at + 1) != len - at + 1)
		out[at - 1] = '\0';
}

static enum truth explain_match(struct words *w, const struct rule_match *m, struct match_view *v,
				bool may_ask);

/* What is said of the match inside `not` is in brackets. Where the `not` fails, nothing else needs
 * saying. */
static enum truth
explain_not(struct words *w, const struct rule_match *m, struct match_view *v, bool may_ask)
{
	static const char *const verdict[] = { "not fails", "not is open", "not holds" };
	char inner[512] = "";
	struct words words = { .out = inner, .cap = sizeof inner };
	enum truth holds = TRUTH_YES - explain_match(&words, m, v, may_ask);
	drop_cut_character(inner);
	if (holds == TRUTH_NO)
		w->len = 0;
	SAY(w, "%s%s (%s)", w->len > 0 ? "; " : "", verdict[holds], inner);
	return holds;
}

static bool
fails(enum truth holds, bool may_ask)
{
	return holds == TRUTH_NO || (holds == TRUTH_UNKNOWN && !may_ask);
}

/* All keys that hold, or the one that does not: what was said before it is taken back. */
static enum truth
explain_match(struct words *w, const struct rule_match *m, struct match_view *v, bool may_ask)
{
	enum truth result = TRUTH_YES;
	for (size_t i = 0; m != NULL && i < match_n_key_checks; i++) {
		enum match_key key = match_key_checks[i].key;
		if ((m->keys & key) == 0)
			continue;
		enum truth holds = match_key_checks[i].holds(m, v);
		if (fails(holds, may_ask))
			w->len = 0;
		say_key(w, key, holds, may_ask, m, v);
		if (fails(holds, may_ask))
			return TRUTH_NO;
		if (holds < result)
			result = holds;
	}
	if (m != NULL && m->inverse != NULL) {
		enum truth holds = explain_not(w, m->inverse, v, may_ask);
		if (holds < result)
			result = holds;
	}
	if (w->len == 0)
		SAY(w, "matches every request");
	return result;
}

enum truth
rule_match_explain(const struct rule_match *m, struct match_view *v, bool may_ask, char *out,
		   size_t cap)
{
	struct words w = { .out = out, .cap = cap };
	out[0] = '\0';
	enum truth result = explain_match(&w, m, v, may_ask);
	drop_cut_character(out);
	return result;
}
