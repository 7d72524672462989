/*
 * parse_gssapi: Kerberos in the policy: of auth blocks, how clients prove who they are, and of
 * upstreams, how we do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/sections.h"

#include "base/base.h"
#include "policy/keytab.h"
#include "policy/upstream_url.h"

enum { REALM_MAX = 255 };

#define DEFAULT_SERVICE "rcmd"

static const struct parse_word protection_words[] = {
	{ .text = "none", .value = GSSAPI_NONE },
	{ .text = "integrity", .value = GSSAPI_INTEGRITY },
	{ .text = "confidentiality", .value = GSSAPI_CONFIDENTIALITY },
	{ .text = NULL },
};

/* ---- names ---- */

/* Nothing that would be seen differently in a log, a rule and a ticket. */
static bool
is_plain_text(const char *text, size_t len, const char *without)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] <= 0x20 || text[i] == 0x7f ||
		    strchr(without, text[i]) != NULL)
			return false;
	return len > 0;
}

static bool
read_name(struct parse_context *c, const struct json_value *v, const char *without,
    const char *what, const char **out)
{
	if (v->type == SCAN_STRING && !v->faulty && v->text_len <= CREDENTIAL_MAX &&
	    is_plain_text(v->text, v->text_len, without))
		return (*out = parse_string(c, v)) != NULL;
	parse_error_expected(c, v, what);
	return false;
}

/* "alice@EXAMPLE.COM": something, then the realm behind the last '@'. */
static bool
is_principal(const char *text, size_t len)
{
	const char *at = memrchr(text, '@', len);
	return is_plain_text(text, len, "") && at != NULL && at > text && at + 1 < text + len;
}

/* ---- key tables ---- */

static bool
check_keytab(struct parse_context *c, const struct json_value *at, const char *path,
    const char *whose)
{
	size_t len;
	char *bytes = parse_read_file(c, at, path, KEYTAB_BYTES_MAX, &len);
	if (bytes == NULL)
		return false;
	enum keytab_look look = keytab_find((const uint8_t *)bytes, len, whose);
	explicit_bzero(bytes, len);
	free(bytes);
	if (look == KEYTAB_BROKEN)
		parse_error(c, at, "the file %s is no key table of Kerberos", path);
	else if (look == KEYTAB_NO_KEY && whose == NULL)
		parse_error(c, at, "expected a key in the file %s, found none", path);
	else if (look == KEYTAB_NO_KEY)
		parse_error(c, at, "expected a key of %s in the file %s, found none", whose, path);
	return look == KEYTAB_GOOD;
}

/* A credential cache that is there now: it is renewed in its place. */
static bool
check_ccache(struct parse_context *c, const struct json_value *at, const char *path)
{
	size_t len;
	char *bytes = parse_read_file(c, at, path, KEYTAB_BYTES_MAX, &len);
	if (bytes != NULL)
		explicit_bzero(bytes, len);
	free(bytes);
	return bytes != NULL;
}

/* ---- of an auth block ---- */

static bool
read_service(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_gssapi *g = object;
	return read_name(c, v, "/@\\",
	    "the name of a service of 1 to 255 bytes, such as \"rcmd\", without its host",
	    &g->service);
}

static bool
read_realm(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_gssapi *g = object;
	return read_name(c, v, "/@\\", "a realm of 1 to 255 bytes, such as \"EXAMPLE.COM\"",
	    &g->realm);
}

static bool
read_mapping(struct parse_context *c, const struct json_value *v, struct policy_gssapi_name *out)
{
	size_t len = strlen(v->key);
	if (!is_principal(v->key, len)) {
		parse_error_at_key(c, v,
		    "expected a principal as the key, with its realm, such as "
		    "\"alice@EXAMPLE.COM\"");
		return false;
	}
	if ((out->principal = arena_copy_text(c->arena, v->key, len)) == NULL) {
		parse_error_memory(c);
		return false;
	}
	return read_name(c, v, "+", "a user name of 1 to 255 bytes without spaces or '+'",
	    &out->user);
}

static int
by_principal(const void *a, const void *b)
{
	return strcmp(((const struct policy_gssapi_name *)a)->principal,
	    ((const struct policy_gssapi_name *)b)->principal);
}

static bool
read_map(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_gssapi *g = object;
	bool ok = true;
	if (v->type != SCAN_OBJECT) {
		parse_error_expected(c, v, "an object of principals, each with its user");
		return false;
	}
	if ((g->map = parse_take(c, v->n, sizeof *g->map)) == NULL)
		return false;
	for (const struct json_value *e = v->first; e != NULL; e = e->next) {
		if (strcmp(e->key, "comment") == 0 && e->type == SCAN_STRING)
			continue;
		if (read_mapping(c, e, &g->map[g->n_map]))
			g->n_map++;
		else
			ok = false;
	}
	qsort(g->map, g->n_map, sizeof *g->map, by_principal);
	return ok;
}

#define AT(member) .offset = offsetof(struct policy_gssapi, member)
static const struct parse_field auth_fields[] = {
	{ .key = "keytab", .kind = PARSE_PATH, .flags = PARSE_REQUIRED, AT(keytab) },
	{ .key = "service", .kind = PARSE_CUSTOM, .read = read_service },
	{ .key = "protection", .kind = PARSE_WORD, AT(protection), .words = protection_words },
	{ .key = "realm", .kind = PARSE_CUSTOM, .read = read_realm },
	{ .key = "map", .kind = PARSE_CUSTOM, .read = read_map },
};
#undef AT

bool
parse_gssapi(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_gssapi *g = object;
	*g = (struct policy_gssapi){ .service = DEFAULT_SERVICE, .protection = GSSAPI_NONE };
	return parse_object(c, v, auth_fields, ARRAY_LEN(auth_fields), g) &&
	       check_keytab(c, json_member(v, "keytab"), g->keytab, g->service);
}

/* ---- of an upstream ---- */

static bool
read_target(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_upstream_gssapi *g = object;
	return read_name(c, v, "\\",
	    "a service of 1 to 255 bytes, such as \"rcmd\" or \"rcmd/proxy.example\"", &g->target);
}

static bool
read_principal(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_upstream_gssapi *g = object;
	return read_name(c, v, "", "a principal of 1 to 255 bytes, such as \"alice@EXAMPLE.COM\"",
	    &g->principal);
}

#define AT(member) .offset = offsetof(struct policy_upstream_gssapi, member)
static const struct parse_field upstream_fields[] = {
	{ .key = "keytab", .kind = PARSE_PATH, AT(keytab) },
	{ .key = "ccache", .kind = PARSE_PATH, AT(ccache) },
	{ .key = "principal", .kind = PARSE_CUSTOM, .read = read_principal },
	{ .key = "service", .kind = PARSE_CUSTOM, .read = read_target },
	{ .key = "protection", .kind = PARSE_WORD, AT(protection), .words = protection_words },
};
#undef AT

static bool
check_sources(struct parse_context *c, const struct json_value *v,
    const struct policy_upstream_gssapi *g)
{
	const struct json_value *ccache = json_member(v, "ccache");
	if (g->keytab != NULL && ccache != NULL) {
		parse_error_at_key(
		    c, ccache, "found both \"keytab\" and \"ccache\", expected one of them");
		return false;
	}
	if (g->keytab != NULL)
		return check_keytab(c, json_member(v, "keytab"), g->keytab, g->principal);
	return ccache == NULL || check_ccache(c, ccache, g->ccache);
}

/* MIT's name of the file. */
static bool
name_ccache(struct parse_context *c, struct policy_upstream_gssapi *g)
{
	if (g->ccache != NULL && (g->ccache = arena_print(c->arena, "FILE:%s", g->ccache)) == NULL)
		parse_error_memory(c);
	return !c->no_memory;
}

bool
parse_upstream_gssapi(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_upstream_gssapi *g = object;
	return parse_object(c, v, upstream_fields, ARRAY_LEN(upstream_fields), g) &&
	       check_sources(c, v, g) && name_ccache(c, g);
}

bool
parse_gssapi_target(struct parse_context *c, const struct endpoint *proxy,
    struct policy_upstream_gssapi *g)
{
	char host[ENDPOINT_TEXT_MAX];
	const char *service = g->target != NULL ? g->target : DEFAULT_SERVICE;
	if (strchr(service, '/') != NULL)
		return true;
	g->target = arena_print(
	    c->arena, "%s/%s", service, endpoint_host_to_text(proxy, host, sizeof host));
	if (g->target == NULL)
		parse_error_memory(c);
	return g->target != NULL;
}
