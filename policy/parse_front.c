/*
 * parse_front: listeners, admin, log, limits, timeouts: what clients and operators meet first.
 */
#include <string.h>
#include <sys/un.h>

#include "policy/sections.h"

#include "base/text.h"
#include "socks/command.h"

enum { CONNECTIONS_MAX = 100000000, TOKEN_MAX = 1024, DATAGRAM_MAX = 65536 };

#define HOURS (60u * 60 * 1000)

/* ---- listeners ---- */

static bool
read_unix_path(struct parse_context *c, const struct json_value *v, struct policy_listener *l)
{
	const char *path = v->text + strlen("unix:");
	if (*path == '\0') {
		parse_error_expected(c, v, "a path behind \"unix:\"");
		return false;
	}
	l->unix_path = *path == '/' ? arena_copy_text(c->arena, path, strlen(path))
	                            : arena_print(c->arena, "%s/%s", c->dir, path);
	if (l->unix_path == NULL) {
		parse_error_memory(c);
		return false;
	}
	if (strlen(l->unix_path) >= sizeof((struct sockaddr_un *)0)->sun_path) {
		parse_error(c, v, "expected a path of at most %zu bytes, found %s",
		    sizeof((struct sockaddr_un *)0)->sun_path - 1, l->unix_path);
		return false;
	}
	return true;
}

/* An address to listen on; "localhost" is 127.0.0.1, other names are not looked up. */
static bool
read_listen_endpoint(struct parse_context *c, const struct json_value *v, struct endpoint *out)
{
	static const uint8_t loopback[4] = { 127, 0, 0, 1 };
	struct endpoint found;
	if (!parse_endpoint(c, v, &found))
		return false;
	if (found.kind == ENDPOINT_NAME && strcmp(found.name, "localhost") == 0)
		endpoint_set_ipv4(&found, loopback, found.port);
	if (!endpoint_is_address(&found)) {
		parse_error_expected(
		    c, v, "an address to listen on, since names are not looked up");
		return false;
	}
	*out = found;
	return true;
}

static bool
read_listen(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_listener *l = object;
	l->line = v->line;
	l->column = v->column;
	if (v->type == SCAN_STRING && !v->faulty) {
		if ((l->listen_text = parse_string(c, v)) == NULL)
			return false;
		if (strncmp(v->text, "unix:", strlen("unix:")) == 0)
			return read_unix_path(c, v, l);
	}
	return read_listen_endpoint(c, v, &l->listen);
}

static bool
read_listener_auth(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_listener *l = object;
	return (l->auth = parse_auth_name(c, v)) >= 0;
}

static const struct parse_word protocol_words[] = {
	{ .text = "socks4", .value = PROTOCOL_BIT(PROTOCOL_SOCKS4) },
	{ .text = "socks4a", .value = PROTOCOL_BIT(PROTOCOL_SOCKS4A) },
	{ .text = "socks5", .value = PROTOCOL_BIT(PROTOCOL_SOCKS5) },
	{ .text = "http", .value = PROTOCOL_BIT(PROTOCOL_HTTP) },
	{ .text = NULL },
};

static bool
read_sockets_address(struct parse_context *c, const struct json_value *v, void *object)
{
	return parse_address(c, v, &((struct policy_sockets *)object)->address);
}

/* What nobody can send to is no address to tell. */
static bool
read_sockets_advertise(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_sockets *s = object;
	if (!parse_address(c, v, &s->advertise))
		return false;
	if (endpoint_is_wildcard(&s->advertise))
		parse_error_expected(c, v, "an address that others can reach");
	return !endpoint_is_wildcard(&s->advertise);
}

static bool
read_sockets_ports(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_sockets *s = object;
	const char *dash = v->type == SCAN_STRING ? strchr(v->text, '-') : NULL;
	size_t first_len = dash == NULL ? 0 : (size_t)(dash - v->text);
	if (dash != NULL && endpoint_read_port(v->text, first_len, &s->first_port) &&
	    endpoint_read_port(dash + 1, v->text_len - first_len - 1, &s->last_port) &&
	    s->first_port >= 1 && s->last_port >= s->first_port)
		return true;
	parse_error_expected(c, v, "a range \"a-b\" of ports from 1 to 65535");
	return false;
}

static bool
read_max_datagram(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_sockets *s = object;
	uint64_t bytes;
	if (v->type == SCAN_STRING && text_read_size(v->text, v->text_len, &bytes) && bytes >= 1 && bytes <= DATAGRAM_MAX) {
		s->max_datagram = (uint32_t)bytes;
		return true;
	}
	parse_error_expected(c, v, "a size from \"1B\" to \"64KiB\"");
	return false;
}

/* What UDP alone has comes last. */
static const struct parse_field sockets_fields[] = {
	{ .key = "ports", .kind = PARSE_CUSTOM, .read = read_sockets_ports },
	{ .key = "address", .kind = PARSE_CUSTOM, .read = read_sockets_address },
	{ .key = "advertise", .kind = PARSE_CUSTOM, .read = read_sockets_advertise },
	{ .key = "max_datagram", .kind = PARSE_CUSTOM, .read = read_max_datagram },
};
enum { BIND_FIELDS = ARRAY_LEN(sockets_fields) - 1 };

static bool
read_udp(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_listener *l = object;
	return parse_object(c, v, sockets_fields, ARRAY_LEN(sockets_fields), &l->udp);
}

static bool
read_bind(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_listener *l = object;
	return parse_object(c, v, sockets_fields, BIND_FIELDS, &l->bind);
}

#define AT(member) .offset = offsetof(struct policy_listener_tls, member)
static const struct parse_field listener_tls_fields[] = {
	{ .key = "certificate", .kind = PARSE_PATH, .flags = PARSE_REQUIRED, AT(certificate) },
	{ .key = "key", .kind = PARSE_PATH, AT(key) },
	{ .key = "client_ca", .kind = PARSE_PATH, AT(client_ca) },
};
#undef AT

static bool
read_listener_tls(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_listener *l = object;
	return parse_object(
	    c, v, listener_tls_fields, ARRAY_LEN(listener_tls_fields), &l->tls);
}

#define AT(member) .offset = offsetof(struct policy_listener, member)
static const struct parse_field listener_fields[] = {
	{ .key = "name", .kind = PARSE_NAME, AT(name) },
	{ .key = "listen", .kind = PARSE_CUSTOM, .flags = PARSE_REQUIRED, .read = read_listen },
	{ .key = "protocols", .kind = PARSE_WORDS, AT(protocols), .words = protocol_words },
	{ .key = "auth", .kind = PARSE_CUSTOM, .read = read_listener_auth },
	{ .key = "allow_open", .kind = PARSE_BOOL, AT(allow_open) },
	{ .key = "max_connections",
	    .kind = PARSE_U32,
	    AT(max_connections),
	    .max = CONNECTIONS_MAX },
	{ .key = "max_connections_per_client",
	    .kind = PARSE_U32,
	    AT(max_connections_per_client),
	    .max = CONNECTIONS_MAX },
	{ .key = "proxy_protocol", .kind = PARSE_BOOL, AT(proxy_protocol) },
	{ .key = "tls", .kind = PARSE_CUSTOM, .read = read_listener_tls },
	{ .key = "tor_resolve", .kind = PARSE_BOOL, AT(tor_resolve) },
	{ .key = "udp", .kind = PARSE_CUSTOM, .read = read_udp },
	{ .key = "bind", .kind = PARSE_CUSTOM, .read = read_bind },
};
#undef AT

static bool
read_listener(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_listener *l = object;
	l->auth = -1;
	l->protocols = PROTOCOL_BIT(PROTOCOL_SOCKS4) | PROTOCOL_BIT(PROTOCOL_SOCKS4A) |
	               PROTOCOL_BIT(PROTOCOL_SOCKS5);
	bool ok = parse_object(c, v, listener_fields, ARRAY_LEN(listener_fields), l);
	if (l->name == NULL && (l->name = arena_print(c->arena, "listener-%u", v->index)) == NULL)
		parse_error_memory(c);
	return ok && l->name != NULL;
}

bool
parse_listeners(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy *p = object;
	void *list = NULL;
	bool ok = parse_list(
	    c, v, "listeners", sizeof *p->listeners, read_listener, &list, &p->n_listeners);
	p->listeners = list;
	return ok;
}

/* ---- admin ---- */

static bool
read_admin_listen(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_admin *a = object;
	return read_listen_endpoint(c, v, &a->listen);
}

/* Fit to stand behind "Authorization: Bearer". */
static bool
check_token(struct parse_context *c, const struct json_value *at, const char *token)
{
	for (const char *p = token; *p != '\0'; p++) {
		if ((unsigned char)*p > 0x20 && (unsigned char)*p < 0x7f)
			continue;
		parse_error(c, at,
		    "expected a token of visible ASCII characters, found another byte in it");
		return false;
	}
	return true;
}

#define AT(member) .offset = offsetof(struct policy_admin, member)
static const struct parse_field admin_fields[] = {
	{ .key = "listen",
	    .kind = PARSE_CUSTOM,
	    .flags = PARSE_REQUIRED,
	    .read = read_admin_listen },
	{ .key = "token", .kind = PARSE_SECRET, AT(token), .min = 1, .max = TOKEN_MAX },
	{ .key = "token_file", .kind = PARSE_PATH, AT(token_file) },
};
#undef AT

static bool
read_token(struct parse_context *c, const struct json_value *v, struct policy_admin *a)
{
	const struct json_value *at = json_member(v, "token"), *file = json_member(v, "token_file");
	if (at != NULL && file != NULL) {
		parse_error_at_key(
		    c, file, "found both \"token\" and \"token_file\", expected one of them");
		return false;
	}
	if (a->token_file != NULL) {
		a->token = parse_read_secret(c, file, a->token_file, TOKEN_MAX);
		at = file;
		if (a->token == NULL)
			return false;
	}
	return a->token == NULL || check_token(c, at, a->token);
}

bool
parse_admin(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_admin *a = &((struct policy *)object)->admin;
	bool ok = parse_object(c, v, admin_fields, ARRAY_LEN(admin_fields), a);
	a->enabled = true;
	return read_token(c, v, a) && ok;
}

/* ---- log, limits, timeouts ---- */

static const struct parse_word level_words[] = {
	{ .text = "error", .value = LOG_ERROR },
	{ .text = "warn", .value = LOG_WARN },
	{ .text = "info", .value = LOG_INFO },
	{ .text = "debug", .value = LOG_DEBUG },
	{ .text = NULL },
};

static const struct parse_word format_words[] = {
	{ .text = "text", .value = LOG_TEXT },
	{ .text = "json", .value = LOG_JSON },
	{ .text = NULL },
};

#define AT(member) .offset = offsetof(struct policy_log, member)
static const struct parse_field log_fields[] = {
	{ .key = "level", .kind = PARSE_WORD, AT(level), .words = level_words },
	{ .key = "format", .kind = PARSE_WORD, AT(format), .words = format_words },
	{ .key = "access", .kind = PARSE_BOOL, AT(access) },
};
#undef AT

bool
parse_log(struct parse_context *c, const struct json_value *v, void *object)
{
	return parse_object(
	    c, v, log_fields, ARRAY_LEN(log_fields), &((struct policy *)object)->log);
}

static const struct parse_field limits_fields[] = {
	{ .key = "max_connections",
	    .kind = PARSE_U32,
	    .offset = offsetof(struct policy_limits, max_connections),
	    .max = CONNECTIONS_MAX },
};

bool
parse_limits(struct parse_context *c, const struct json_value *v, void *object)
{
	return parse_object(
	    c, v, limits_fields, ARRAY_LEN(limits_fields), &((struct policy *)object)->limits);
}

#define TIMEOUT(name, least, most)                                                                 \
	{                                                                                          \
		.key = #name, .kind = PARSE_DURATION,                                              \
		.offset = offsetof(struct policy_timeouts, name##_ms), .min = least, .max = most   \
	}
static const struct parse_field timeouts_fields[] = {
	TIMEOUT(handshake, 1, HOURS),
	TIMEOUT(connect, 1, HOURS),
	TIMEOUT(bind, 0, 1000ull * HOURS),
	TIMEOUT(idle, 0, 1000ull * HOURS),
	TIMEOUT(drain, 0, 1000ull * HOURS),
	TIMEOUT(udp_idle, 0, 1000ull * HOURS),
};

bool
parse_timeouts(struct parse_context *c, const struct json_value *v, void *object)
{
	return parse_object(c, v, timeouts_fields, ARRAY_LEN(timeouts_fields),
	    &((struct policy *)object)->timeouts);
}
