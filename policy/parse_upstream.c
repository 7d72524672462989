/*
 * parse_upstream: one proxy server that we are a client of: its URL, credentials, and how it is
 * dialled.
 */
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "policy/sections.h"

#include "base/base.h"
#include "base/idn.h"
#include "policy/secrets.h"
#include "policy/upstream_url.h"

enum { CONNECTIONS_MAX = 100000000, WARM_MAX = 1000 };

#define HOURS (60u * 60 * 1000)

struct upstream_parse {
	struct policy_upstream upstream;
	struct upstream_url url;
	const char *password_file;
};

/* A name in the policy is known by its form in ASCII, which is what DNS, other hops and certificates have. */
static bool
to_ascii(struct parse_context *c, const struct json_value *v, const char *name, struct endpoint *out)
{
	if (idn_to_ascii(name, out))
		return true;
	parse_error(c, v, "expected a host whose name has a form in ASCII (IDNA 2008), found one that has none");
	return false;
}

static bool
read_url(struct parse_context *c, const struct json_value *v, void *object)
{
	struct upstream_parse *u = object;
	char why[256];
	if (v->type != SCAN_STRING || v->faulty) {
		parse_error_expected(c, v, "a URL, as a string");
		return false;
	}
	const char *wrong = upstream_url_read(&u->url, v->text, why, sizeof why);
	if (wrong != NULL) {
		parse_error(c, v, "%s", wrong);
		return false;
	}
	u->upstream.scheme = u->url.scheme;
	u->upstream.at = u->url.at;
	if (idn_is_foreign(u->url.at.name, u->url.at.name_len)) {
		if (!to_ascii(c, v, u->url.at.name, &u->upstream.at))
			return false;
		u->upstream.at.port = u->url.at.port;
	}
	u->upstream.url = upstream_url_mask(c->arena, v->text, SECRET_MASK);
	if (u->upstream.url == NULL)
		parse_error_memory(c);
	return u->upstream.url != NULL;
}

static bool
read_source(struct parse_context *c, const struct json_value *v, void *object)
{
	struct upstream_parse *u = object;
	return parse_address(c, v, &u->upstream.source);
}

static bool
read_resolve(struct parse_context *c, const struct json_value *v, void *object)
{
	static const struct parse_word words[] = { { .text = "local", .value = true },
		{ .text = NULL } };
	struct upstream_parse *u = object;
	unsigned local;
	if (!parse_word(c, v, words, &local))
		return false;
	u->upstream.resolve_local = true;
	return true;
}

#define AT(member) .offset = offsetof(struct policy_tls, member)
static const struct parse_field tls_fields[] = {
	{ .key = "server_name", .kind = PARSE_TEXT, AT(server_name), .min = 1, .max = 253 },
	{ .key = "ca", .kind = PARSE_PATH, AT(ca) },
	{ .key = "certificate", .kind = PARSE_PATH, AT(certificate) },
	{ .key = "key", .kind = PARSE_PATH, AT(key) },
	{ .key = "verify", .kind = PARSE_BOOL, AT(verify) },
};
#undef AT

static bool
know_server_name(struct parse_context *c, const struct json_value *v, struct policy_tls *tls)
{
	struct endpoint ascii;
	if (v == NULL || !idn_is_foreign(tls->server_name, strlen(tls->server_name)))
		return true;
	if (!to_ascii(c, v, tls->server_name, &ascii))
		return false;
	tls->server_name = arena_copy_text(c->arena, ascii.name, ascii.name_len);
	if (tls->server_name == NULL)
		parse_error_memory(c);
	return tls->server_name != NULL;
}

static bool
read_tls(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_tls *tls = &((struct upstream_parse *)object)->upstream.tls;
	if (!parse_object(c, v, tls_fields, ARRAY_LEN(tls_fields), tls))
		return false;
	if ((tls->certificate == NULL) != (tls->key == NULL)) {
		parse_error(c, v,
		    "the key \"%s\" is missing: a certificate and its key come together",
		    tls->key == NULL ? "key" : "certificate");
		return false;
	}
	return know_server_name(c, json_member(v, "server_name"), tls);
}

static bool
read_auth(struct parse_context *c, const struct json_value *v, void *object)
{
	static const struct parse_word words[] = { { .text = "gssapi", .value = true },
		{ .text = NULL } };
	struct upstream_parse *u = object;
	unsigned gssapi;
	return u->upstream.auth_gssapi = parse_word(c, v, words, &gssapi);
}

static bool
read_gssapi(struct parse_context *c, const struct json_value *v, void *object)
{
	struct upstream_parse *u = object;
	return parse_upstream_gssapi(c, v, &u->upstream.gssapi);
}

#define AT(member) .offset = offsetof(struct upstream_parse, member)
static const struct parse_field upstream_fields[] = {
	{ .key = "name", .kind = PARSE_NAME, .flags = PARSE_REQUIRED, AT(upstream.name) },
	{ .key = "url", .kind = PARSE_CUSTOM, .flags = PARSE_REQUIRED, .read = read_url },
	{ .key = "username",
	    .kind = PARSE_TEXT,
	    AT(upstream.username),
	    .min = 1,
	    .max = CREDENTIAL_MAX },
	{ .key = "password", .kind = PARSE_SECRET, AT(upstream.password), .max = CREDENTIAL_MAX },
	{ .key = "password_file", .kind = PARSE_PATH, AT(password_file) },
	{ .key = "resolve", .kind = PARSE_CUSTOM, .read = read_resolve },
	{ .key = "max_connections",
	    .kind = PARSE_U32,
	    AT(upstream.max_connections),
	    .max = CONNECTIONS_MAX },
	{ .key = "source_address", .kind = PARSE_CUSTOM, .read = read_source },
	{ .key = "interface",
	    .kind = PARSE_TEXT,
	    AT(upstream.interface),
	    .min = 1,
	    .max = IF_NAMESIZE - 1 },
	{ .key = "mark", .kind = PARSE_U32, AT(upstream.mark), .max = UINT32_MAX },
	{ .key = "tls", .kind = PARSE_CUSTOM, .read = read_tls },
	{ .key = "pipeline", .kind = PARSE_BOOL, AT(upstream.pipeline) },
	{ .key = "warm", .kind = PARSE_U32, AT(upstream.warm), .max = WARM_MAX },
	{ .key = "warm_max_age",
	    .kind = PARSE_DURATION,
	    AT(upstream.warm_max_age_ms),
	    .min = 1000,
	    .max = 24 * HOURS },
	{ .key = "fast_open", .kind = PARSE_BOOL, AT(upstream.fast_open) },
	{ .key = "send_proxy",
	    .kind = PARSE_U32,
	    AT(upstream.send_proxy),
	    .min = 1,
	    .max = 2 },
	{ .key = "auth", .kind = PARSE_CUSTOM, .read = read_auth },
	{ .key = "gssapi", .kind = PARSE_CUSTOM, .read = read_gssapi },
};
#undef AT

/* ---- what the keys say together ---- */

static bool
has_tls(enum upstream_scheme scheme)
{
	return scheme == SCHEME_SOCKS5_TLS || scheme == SCHEME_HTTPS;
}

/* Of two keys that say the same, or that this URL can't have: reports at the later one. */
static bool
check_said_once(struct parse_context *c, const struct json_value *v, const struct upstream_parse *u)
{
	const struct json_value *username = json_member(v, "username"),
	                        *password = json_member(v, "password");
	const struct json_value *file = json_member(v, "password_file");
	bool ok = true;
	if (password != NULL && file != NULL) {
		parse_error_at_key(
		    c, file, "found both \"password\" and \"password_file\", expected one of them");
		ok = false;
	}
	if (u->url.has_username && username != NULL) {
		parse_error_at_key(c, username,
		    "found a user name in the URL and in \"username\", expected one of them");
		ok = false;
	}
	if (u->url.has_password && (password != NULL || file != NULL)) {
		const struct json_value *at = password != NULL ? password : file;
		parse_error_at_key(c, at,
		    "found a password in the URL and in \"%s\", expected one of them", at->key);
		ok = false;
	}
	return ok;
}

/* Takes the URL's credentials and the file's over. Strings of the URL live only as long as the
 * parse. */
static bool
take_credentials(struct parse_context *c, const struct json_value *v, struct upstream_parse *u)
{
	struct policy_upstream *p = &u->upstream;
	if (u->url.has_username && (p->username = arena_copy_text(c->arena, u->url.username,
	                                strlen(u->url.username))) == NULL)
		parse_error_memory(c);
	if (u->url.has_password && (p->password = arena_copy_text(c->arena, u->url.password,
	                                strlen(u->url.password))) == NULL)
		parse_error_memory(c);
	if (u->password_file != NULL) {
		p->password = parse_read_secret(
		    c, json_member(v, "password_file"), u->password_file, CREDENTIAL_MAX);
		if (p->password == NULL)
			return false;
	}
	const char *texts[] = { p->username, p->password };
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (texts[i] != NULL &&
		    (strstr(texts[i], "{user}") != NULL || strstr(texts[i], "{session}") != NULL))
			p->per_client_credentials = true;
	return true;
}

/* What is wrong with these credentials for this scheme; NULL: nothing. */
static const char *
fault_of_credentials(const struct policy_upstream *p)
{
	bool socks4 = p->scheme == SCHEME_SOCKS4 || p->scheme == SCHEME_SOCKS4A;
	bool http = p->scheme == SCHEME_HTTP || p->scheme == SCHEME_HTTPS;
	if (p->scheme == SCHEME_DIRECT && (p->username != NULL || p->password != NULL))
		return "found credentials for direct://, expected none: there is no proxy to take "
		       "them";
	if (socks4 && p->password != NULL)
		return "found a password, expected none: SOCKS4 carries a user name only";
	if (p->password != NULL && p->username == NULL)
		return "found a password without a user name, expected both";
	if (http && p->username != NULL && strchr(p->username, ':') != NULL)
		return "found a ':' in the user name, expected none: HTTP's Basic credentials "
		       "can't carry it";
	return NULL;
}

/* What is opened ahead of need can't know for whom. */
static const char *
fault_of_warm(const struct policy_upstream *p)
{
	if (p->warm == 0)
		return NULL;
	if (p->scheme == SCHEME_DIRECT)
		return "found \"warm\" for direct://, expected none: there is no proxy to wait at";
	if (p->per_client_credentials)
		return "found \"warm\" with {user} or {session} in the credentials, expected none: "
		       "they are not known ahead of the request";
	if (p->send_proxy != 0)
		return "found \"warm\" with \"send_proxy\", expected one of them: the client is not "
		       "known ahead of the request";
	return NULL;
}

/* Nothing goes out before the first bytes do, and those must be a handshake's. */
static const char *
fault_of_fast_open(const struct policy_upstream *p)
{
	if (!p->fast_open)
		return NULL;
	if (p->scheme == SCHEME_DIRECT)
		return "found \"fast_open\" for direct://, expected none: a destination may want to "
		       "speak first";
	if (p->send_proxy != 0)
		return "found \"fast_open\" with \"send_proxy\", expected one of them: the PROXY "
		       "header goes alone";
	return NULL;
}

static bool
check_gssapi(struct parse_context *c, const struct json_value *v, const struct upstream_parse *u)
{
	const struct policy_upstream *p = &u->upstream;
	const struct json_value *auth = json_member(v, "auth"), *gssapi = json_member(v, "gssapi");
	if (auth == NULL && gssapi != NULL)
		parse_error_at_key(c, gssapi,
		    "found \"gssapi\", expected \"auth\": \"gssapi\", which alone asks for it");
	else if (auth != NULL && p->scheme != SCHEME_SOCKS5 && p->scheme != SCHEME_SOCKS5_TLS)
		parse_error_at_key(c, auth,
		    "found \"auth\" for the scheme \"%s\", expected it for socks5 and socks5+tls "
		    "only",
		    u->url.scheme_text);
	else if (auth != NULL && p->username != NULL)
		parse_error_at_key(c, auth,
		    "found \"auth\": \"gssapi\" with a user name, expected one of them: the "
		    "proxy knows us by our principal");
	else
		return true;
	return false;
}

static bool
check_together(struct parse_context *c, const struct json_value *v, const struct upstream_parse *u)
{
	const struct policy_upstream *p = &u->upstream;
	const struct json_value *tls = json_member(v, "tls"), *source = json_member(v, "source_"
	                                                                               "address");
	const char *fault = fault_of_credentials(p);
	bool ok = fault == NULL;
	if (fault != NULL)
		parse_error(c, v, "%s", fault);
	fault = fault_of_warm(p);
	if (fault != NULL) {
		parse_error_at_key(c, json_member(v, "warm"), "%s", fault);
		ok = false;
	}
	fault = fault_of_fast_open(p);
	if (fault != NULL) {
		parse_error_at_key(c, json_member(v, "fast_open"), "%s", fault);
		ok = false;
	}
	ok = check_gssapi(c, v, u) && ok;
	if (tls != NULL && !has_tls(p->scheme)) {
		parse_error_at_key(c, tls,
		    "found \"tls\" for the scheme \"%s\", expected it for socks5+tls and https "
		    "only",
		    u->url.scheme_text);
		ok = false;
	}
	if (source != NULL && endpoint_is_address(&p->at) && p->source.kind != p->at.kind) {
		parse_error_expected(c, source,
		    p->at.kind == ENDPOINT_IPV4 ? "an IPv4 address, as the upstream has one"
		                                : "an IPv6 address, as the upstream has one");
		ok = false;
	}
	return ok;
}

static bool
read_upstream(struct parse_context *c, const struct json_value *v, void *object)
{
	struct upstream_parse u = { .upstream.tls.verify = true,
		.upstream.warm_max_age_ms = 60000,
		.upstream.gssapi.protection = GSSAPI_CONFIDENTIALITY };
	bool ok = parse_object(c, v, upstream_fields, ARRAY_LEN(upstream_fields), &u);
	ok = check_said_once(c, v, &u) && ok;
	ok = take_credentials(c, v, &u) && ok;
	if (ok)
		ok = check_together(c, v, &u);
	if (ok && u.upstream.auth_gssapi)
		ok = parse_gssapi_target(c, &u.upstream.at, &u.upstream.gssapi);
	explicit_bzero(&u.url, sizeof u.url);
	*(struct policy_upstream *)object = u.upstream;
	return ok;
}

bool
parse_upstreams(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy *p = object;
	void *list = NULL;
	bool ok = parse_list(
	    c, v, "upstreams", sizeof *p->upstreams, read_upstream, &list, &p->n_upstreams);
	p->upstreams = list;
	return ok;
}
