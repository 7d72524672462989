/*
 * parse_network: blocks of addresses, and the networks of an auth block: who may come from where, by address or by name.
 */
#include <stdlib.h>
#include <string.h>

#include "policy/sections.h"

#include "base/base.h"
#include "policy/domain_set.h"
#include "policy/ip_set.h"
#include "policy/upstream_url.h"

static bool
read_prefix(struct parse_context *c, const struct json_value *v, struct ip_prefix *out)
{
	char quoted[128];
	if (parse_string(c, v) == NULL)
		return false;
	const char *why = ip_prefix_read(out, v->text, v->text_len);
	if (why != NULL)
		parse_error(c, v, "expected an IP address or a CIDR block, found %s: %s",
			    parse_quote(v->text, quoted, sizeof quoted), why);
	return why == NULL;
}

bool
parse_prefixes(struct parse_context *c, const struct json_value *v, struct ip_prefix **list,
	       size_t *n)
{
	if (!parse_is_list(c, v, "IP addresses and CIDR blocks"))
		return false;
	if ((*list = parse_take(c, v->n, sizeof **list)) == NULL)
		return false;
	bool fine = true;
	*n = 0;
	for (const struct json_value *e = v->first; e != NULL; e = e->next) {
		bool taken = read_prefix(c, e, &(*list)[*n]);
		*n += taken;
		fine &= taken;
	}
	*n = ip_prefixes_sort(*list, *n);
	return fine;
}

/* ---- networks ---- */

static bool
read_blocks(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_network *n = object;
	return parse_prefixes(c, v, &n->prefixes, &n->n_prefixes);
}

/* As identd must say it. A '+' would begin the session where a client says it itself. */
static bool
read_user(struct parse_context *c, const struct json_value *v, const char **out)
{
	bool sound = v->type == SCAN_STRING && !v->faulty && v->text_len >= 1 &&
		     v->text_len <= CREDENTIAL_MAX;
	for (size_t i = 0; sound && i < v->text_len; i++)
		sound = (unsigned char)v->text[i] > 0x20 && v->text[i] != 0x7f && v->text[i] != '+';
	if (sound)
		return (*out = parse_string(c, v)) != NULL;
	parse_error_expected(c, v, "a user name of 1 to 255 bytes without spaces or '+'");
	return false;
}

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool
read_users(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_network *n = object;
	char quoted[128];
	if (!parse_is_list(c, v, "user names") ||
	    (n->users = parse_take(c, v->n, sizeof *n->users)) == NULL)
		return false;
	bool fine = true;
	for (const struct json_value *e = v->first; e != NULL; e = e->next) {
		bool taken = read_user(c, e, &n->users[n->n_users]);
		n->n_users += taken;
		fine &= taken;
	}
	qsort(n->users, n->n_users, sizeof *n->users, by_text);
	for (size_t i = 1; i < n->n_users; i++)
		if (strcmp(n->users[i - 1], n->users[i]) == 0) {
			parse_error(c, v, "found the user %s twice, expected each once",
				    parse_quote(n->users[i], quoted, sizeof quoted));
			fine = false;
		}
	return fine;
}

/* A dot in front of a suffix says nothing more. */
static const char *
read_client_name(struct parse_context *c, const struct json_value *v, bool suffix)
{
	struct endpoint name = { .kind = ENDPOINT_NONE };
	char quoted[128];
	if (parse_string(c, v) == NULL)
		return NULL;
	size_t skip = suffix && v->text[0] == '.' && v->text_len > 1;
	const char *why = domain_read(&name, v->text + skip, v->text_len - skip);
	if (why != NULL) {
		parse_error(c, v, "expected a domain, found %s: %s", parse_quote(v->text, quoted, sizeof quoted), why);
		return NULL;
	}
	const char *copy = arena_copy_text(c->arena, name.name, name.name_len);
	if (copy == NULL)
		parse_error_memory(c);
	return copy;
}

static bool
read_client_names(struct parse_context *c, const struct json_value *v, bool suffixes, const char ***list, size_t *n)
{
	if (!parse_is_list(c, v, "domains") || (*list = parse_take(c, v->n, sizeof **list)) == NULL)
		return false;
	*n = 0;
	for (const struct json_value *e = v->first; e != NULL; e = e->next) {
		const char *name = read_client_name(c, e, suffixes);
		if (name != NULL)
			(*list)[(*n)++] = name;
	}
	qsort(*list, *n, sizeof **list, by_text);
	return *n == v->n;
}

static bool
read_client_domains(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_network *n = object;
	return read_client_names(c, v, false, &n->domains, &n->n_domains);
}

static bool
read_client_suffixes(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_network *n = object;
	return read_client_names(c, v, true, &n->suffixes, &n->n_suffixes);
}

static const struct parse_field network_fields[] = {
    {.key = "ip_cidr", .kind = PARSE_CUSTOM, .read = read_blocks},
    {.key = "domain", .kind = PARSE_CUSTOM, .read = read_client_domains},
    {.key = "domain_suffix", .kind = PARSE_CUSTOM, .read = read_client_suffixes},
    {.key = "users", .kind = PARSE_CUSTOM, .read = read_users},
};

static bool
read_network(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_network *n = object;
	bool ok = parse_object(c, v, network_fields, ARRAY_LEN(network_fields), n);
	if (v->type == SCAN_OBJECT && json_member(v, "ip_cidr") == NULL && json_member(v, "domain") == NULL &&
	    json_member(v, "domain_suffix") == NULL) {
		parse_error(c, v, "the key \"ip_cidr\" is missing, or \"domain\" or \"domain_suffix\"");
		ok = false;
	}
	n->anybody = v->type == SCAN_OBJECT && json_member(v, "users") == NULL;
	return ok;
}

bool
parse_networks(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_auth *a = object;
	void *list = NULL;
	if (!parse_is_list(c, v, "networks"))
		return false;
	bool ok =
	    parse_list(c, v, "networks", sizeof *a->networks, read_network, &list, &a->n_networks);
	a->networks = list;
	return ok;
}
