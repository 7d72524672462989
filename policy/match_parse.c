/*
 * match_parse: a rule's `match` object, read into a struct rule_match of the policy's arena. Faults
 * are reported through parse.h.
 */
#include "policy/match.h"

#include "policy/match_keys.h"
#include "policy/parse.h"
#include "policy/policy.h"
#include "socks/command.h"

#include <stdlib.h>
#include <string.h>

/* ---- lists ---- */

static int
compare_texts(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* One text of a list, brought into form and copied; NULL: reported. */
typedef const char *text_fn(struct parse_context *c, const struct json_value *v);

static bool
read_texts(struct parse_context *c, const struct json_value *v, const char *of_what, text_fn *read,
	   struct match_texts *out)
{
	if (!parse_is_list(c, v, of_what))
		return false;
	out->list = parse_take(c, v->n, sizeof *out->list);
	if (out->list == NULL)
		return false;
	bool fine = true;
	for (const struct json_value *e = v->first; e != NULL; e = e->next) {
		const char *text = read(c, e);
		fine &= text != NULL;
		if (text != NULL)
			out->list[out->n++] = text;
	}
	return fine;
}

/* For those that are looked up as a whole. */
static bool
read_sorted_texts(struct parse_context *c, const struct json_value *v, const char *of_what,
		  text_fn *read, struct match_texts *out)
{
	bool fine = read_texts(c, v, of_what, read, out);
	if (out->n > 1)
		qsort(out->list, out->n, sizeof *out->list, compare_texts);
	return fine;
}

static const char *
read_domain(struct parse_context *c, const struct json_value *v, size_t skip)
{
	struct endpoint name = { .kind = ENDPOINT_NONE };
	const char *why = domain_read(&name, v->text + skip, v->text_len - skip);
	if (why != NULL) {
		char quoted[128];
		parse_error(c, v, "expected a domain, found %s: %s",
			    parse_quote(v->text, quoted, sizeof quoted), why);
		return NULL;
	}
	const char *copy = arena_copy_text(c->arena, name.name, name.name_len);
	if (copy == NULL)
		parse_error_memory(c);
	return copy;
}

static const char *
read_exact_domain(struct parse_context *c, const struct json_value *v)
{
	return parse_string(c, v) == NULL ? NULL : read_domain(c, v, 0);
}

/* ".example.com" is taken for "example.com", as most programs do. */
static const char *
read_suffix(struct parse_context *c, const struct json_value *v)
{
	return parse_string(c, v) == NULL ? NULL
					  : read_domain(c, v, v->text[0] == '.' && v->text_len > 1);
}

/* Any piece of a name: lower case, as names are when they are compared. */
static const char *
read_keyword(struct parse_context *c, const struct json_value *v)
{
	const char *text = parse_string(c, v);
	char *lower = text == NULL ? NULL : arena_copy_text(c->arena, text, v->text_len);
	for (char *p = lower; p != NULL && *p != '\0'; p++) {
		if ((unsigned char)*p <= 0x20 || *p == 0x7f) {
			parse_error_expected(c, v, "a piece of a domain, without spaces");
			return NULL;
		}
		if (*p >= 'A' && *p <= 'Z')
			*p |= 0x20;
	}
	return lower;
}

typedef int index_fn(struct parse_context *c, const struct json_value *v);

static bool
read_indexes(struct parse_context *c, const struct json_value *v, const char *of_what,
	     index_fn *find, struct match_indexes *out)
{
	if (!parse_is_list(c, v, of_what))
		return false;
	out->list = parse_take(c, v->n, sizeof *out->list);
	if (out->list == NULL)
		return false;
	bool fine = true;
	for (const struct json_value *e = v->first; e != NULL; e = e->next) {
		int index = find(c, e);
		fine &= index >= 0;
		if (index >= 0)
			out->list[out->n++] = (uint32_t)index;
	}
	return fine;
}

/* ---- keys ---- */

const struct parse_word match_protocol_words[] = {
	{ "socks4", PROTOCOL_BIT(PROTOCOL_SOCKS4), false },
	{ "socks4a", PROTOCOL_BIT(PROTOCOL_SOCKS4A), false },
	{ "socks5", PROTOCOL_BIT(PROTOCOL_SOCKS5), false },
	{ "http", PROTOCOL_BIT(PROTOCOL_HTTP), false },
	{ NULL, 0, false },
};

const struct parse_word match_command_words[] = {
	{ "connect", 1u << SOCKS_CONNECT, false },
	{ "bind", 1u << SOCKS_BIND, false },
	{ "udp", 1u << SOCKS_UDP, false },
	{ NULL, 0, false },
};

static bool
read_listener(struct parse_context *c, const struct json_value *v, void *object)
{
	struct rule_match *m = object;
	m->keys |= MATCH_LISTENER;
	return read_indexes(c, v, "listeners' names", parse_listener_name, &m->listeners);
}

static bool
read_protocol(struct parse_context *c, const struct json_value *v, void *object)
{
	struct rule_match *m = object;
	m->keys |= MATCH_PROTOCOL;
	return parse_words(c, v, match_protocol_words, &m->protocols);
}

static bool
read_command(struct parse_context *c, const struct json_value *v, void *object)
{
	struct rule_match *m = object;
	m->keys |= MATCH_COMMAND;
	return parse_words(c, v, match_command_words, &m->commands);
}

/* 443 or "1024-2047". */
static bool
read_port_range(const struct json_value *v, struct port_range *out)
{
	if (json_is(v, SCAN_NUMBER)) {
		if (!v->integer || v->number < 1 || v->number > UINT16_MAX)
			return false;
		out->from = out->to = (uint16_t)v->number;
		return true;
	}
	const char *dash = json_is(v, SCAN_STRING) ? memchr(v->text, '-', v->text_len) : NULL;
	if (dash == NULL)
		return false;
	size_t from_len = (size_t)(dash - v->text);
	return endpoint_read_port(v->text, from_len, &out->from) && out->from >= 1 &&
	       endpoint_read_port(dash + 1, v->text_len - from_len - 1, &out->to) &&
	       out->from <= out->to;
}

static bool
read_port(struct parse_context *c, const struct json_value *v, void *object)
{
	struct rule_match *m = object;
	m->keys |= MATCH_PORT;
	if (!parse_is_list(c, v, "ports"))
		return false;
	m->ports.list = parse_take(c, v->n, sizeof *m->ports.list);
	if (m->ports.list == NULL)
		return false;
	bool fine = true;
	for (const struct json_value *e = v->first; e != NULL; e = e->next) {
		bool taken = read_port_range(e, &m->ports.list[m->ports.n]);
		if (!taken)
			parse_error_expected(c, e,
					     "a port from 1 to 65535 or a range \"a-b\" of them");
		m->ports.n += taken;
		fine &= taken;
	}
	return fine;
}

static bool
read_client_cidr(struct parse_context *c, const struct json_value *v, void *object)
{
	struct rule_match *m = object;
	m->keys |= MATCH_CLIENT_CIDR;
	return parse_prefixes(c, v, &m->clients.list, &m->clients.n);
}

static bool
read_user(struct parse_context *c, const struct json_value *v, void *object)
{
	struct rule_match *m = object;
	m->keys |= MATCH_USER;
	return read_sorted_texts(c, v, "user names", parse_string, &m->users);
}

static bool
read_userid(struct parse_context *c, const struct json_value *v, void *object)
{
	struct rule_match *m = object;
	m->keys |= MATCH_USERID;
	return read_sorted_texts(c, v, "user ids", parse_string, &m->userids);
}

static bool
read_domains(struct parse_context *c, const struct json_value *v, void *object)
{
	struct rule_match *m = object;
	m->keys |= MATCH_DOMAIN;
	return read_sorted_texts(c, v, "domains", read_exact_domain, &m->domains);
}

static bool
read_domain_suffix(struct parse_context *c, const struct json_value *v, void *object)
{
	struct rule_match *m = object;
	m->keys |= MATCH_DOMAIN_SUFFIX;
	return read_sorted_texts(c, v, "domains", read_suffix, &m->suffixes);
}

static bool
read_domain_keyword(struct parse_context *c, const struct json_value *v, void *object)
{
	struct rule_match *m = object;
	m->keys |= MATCH_DOMAIN_KEYWORD;
	return read_texts(c, v, "pieces of domains", read_keyword, &m->keywords);
}

static bool
read_ip_cidr(struct parse_context *c, const struct json_value *v, void *object)
{
	struct rule_match *m = object;
	m->keys |= MATCH_IP_CIDR;
	m->hangs_on_address = true;
	return parse_prefixes(c, v, &m->addresses.list, &m->addresses.n);
}

static bool
read_set(struct parse_context *c, const struct json_value *v, void *object)
{
	struct rule_match *m = object;
	m->keys |= MATCH_SET;
	bool fine = read_indexes(c, v, "sets' names", parse_set_name, &m->sets);
	for (size_t i = 0; i < m->sets.n; i++)
		m->hangs_on_address |= c->policy->sets[m->sets.list[i]].type == SET_IP;
	return fine;
}

/* The document's depth is bounded by the scanner (POLICY_DEPTH_MAX), and so is this recursion. */
static bool
read_not(struct parse_context *c, const struct json_value *v, void *object)
{
	struct rule_match *m = object;
	m->keys |= MATCH_NOT;
	bool fine = rule_match_parse(c, v, &m->inverse);
	m->hangs_on_address |= m->inverse != NULL && m->inverse->hangs_on_address;
	return fine;
}

static const struct parse_field fields[] = {
	{ .key = "listener", .kind = PARSE_CUSTOM, .read = read_listener },
	{ .key = "protocol", .kind = PARSE_CUSTOM, .read = read_protocol },
	{ .key = "command", .kind = PARSE_CUSTOM, .read = read_command },
	{ .key = "client_cidr", .kind = PARSE_CUSTOM, .read = read_client_cidr },
	{ .key = "user", .kind = PARSE_CUSTOM, .read = read_user },
	{ .key = "userid", .kind = PARSE_CUSTOM, .read = read_userid },
	{ .key = "domain", .kind = PARSE_CUSTOM, .read = read_domains },
	{ .key = "domain_suffix", .kind = PARSE_CUSTOM, .read = read_domain_suffix },
	{ .key = "domain_keyword", .kind = PARSE_CUSTOM, .read = read_domain_keyword },
	{ .key = "domain_regex", .kind = PARSE_LATER },
	{ .key = "ip_cidr", .kind = PARSE_CUSTOM, .read = read_ip_cidr },
	{ .key = "set", .kind = PARSE_CUSTOM, .read = read_set },
	{ .key = "port", .kind = PARSE_CUSTOM, .read = read_port },
	{ .key = "time", .kind = PARSE_LATER },
	{ .key = "not", .kind = PARSE_CUSTOM, .read = read_not },
};

bool
rule_match_parse(struct parse_context *c, const struct json_value *v, const struct rule_match **out)
{
	struct rule_match *m = parse_take(c, 1, sizeof *m);
	*out = m;
	return m != NULL && parse_object(c, v, fields, ARRAY_LEN(fields), m);
}
