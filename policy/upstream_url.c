/*
 * upstream_url: see upstream_url.h.
 */
#include "policy/upstream_url.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "policy/arena.h"

static const struct {
	const char *text;
	enum upstream_scheme scheme;
	uint16_t port;
} schemes[] = {
	{ "socks4", SCHEME_SOCKS4, 1080 },
	{ "socks4a", SCHEME_SOCKS4A, 1080 },
	{ "socks5", SCHEME_SOCKS5, 1080 },
	{ "socks5h", SCHEME_SOCKS5, 1080 },
	{ "http", SCHEME_HTTP, 1080 },
	{ "https", SCHEME_HTTPS, 443 },
	{ "socks5+tls", SCHEME_SOCKS5_TLS, 1080 },
	{ "direct", SCHEME_DIRECT, 0 },
};

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool
percent_decode(const char *text, size_t len, char *out, size_t cap)
{
	size_t n = 0;
	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		if (c == '%') {
			int high = i + 1 < len ? hex_digit(text[i + 1]) : -1,
			    low = i + 2 < len ? hex_digit(text[i + 2]) : -1;
			if (high < 0 || low < 0)
				return false;
			c = (char)(high << 4 | low);
			i += 2;
		}
		if (c == '\0' || n + 1 >= cap)
			return false;
		out[n++] = c;
	}
	out[n] = '\0';
	return true;
}

void
percent_encode(const char *text, char *out, size_t cap)
{
	static const char kept[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-"
	                           "._~{}";
	size_t len = 0;
	out[0] = '\0';
	for (; *text != '\0'; text++)
		text_append(out, cap, &len, strchr(kept, *text) != NULL ? "%c" : "%%%02X",
		    (unsigned char)*text);
}

/* The parts of a URL, as spans of its text. */
struct spans {
	const char *scheme, *authority, *at_sign; /* at_sign: NULL without user information */
	size_t scheme_len, authority_len;
	const char *behind; /* what follows the authority */
};

static bool
split_url(const char *text, struct spans *s)
{
	const char *mark = strstr(text, "://");
	if (mark == NULL)
		return false;
	s->scheme = text;
	s->scheme_len = (size_t)(mark - text);
	s->authority = mark + 3;
	s->authority_len = strcspn(s->authority, "/?#");
	s->behind = s->authority + s->authority_len;
	s->at_sign = memrchr(s->authority, '@', s->authority_len);
	return true;
}

bool
upstream_url_find_password(const char *text, size_t *at, size_t *len)
{
	struct spans s;
	if (!split_url(text, &s) || s.at_sign == NULL)
		return false;
	const char *colon = memchr(s.authority, ':', (size_t)(s.at_sign - s.authority));
	if (colon == NULL)
		return false;
	*at = (size_t)(colon + 1 - text);
	*len = (size_t)(s.at_sign - colon - 1);
	return true;
}

char *
upstream_url_mask(struct arena *a, const char *text, const char *mask)
{
	size_t at, len;
	if (!upstream_url_find_password(text, &at, &len))
		return arena_copy_text(a, text, strlen(text));
	return arena_print(a, "%.*s%s%s", (int)at, text, mask, text + at + len);
}

static const char *
read_scheme(struct upstream_url *out, const struct spans *s, uint16_t *port, char *why, size_t cap)
{
	size_t len = 0;
	for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
		if (strlen(schemes[i].text) != s->scheme_len ||
		    memcmp(schemes[i].text, s->scheme, s->scheme_len) != 0)
			continue;
		out->scheme = schemes[i].scheme;
		*port = schemes[i].port;
		snprintf(out->scheme_text, sizeof out->scheme_text, "%s", schemes[i].text);
		return NULL;
	}
	why[0] = '\0';
	text_append(why, cap, &len, "expected one of the schemes");
	for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
		text_append(why, cap, &len, "%s %s", i > 0 ? "," : "", schemes[i].text);
	text_append(why, cap, &len, ", found another one");
	return why;
}

static const char *
read_credentials(struct upstream_url *out, const struct spans *s)
{
	size_t len = (size_t)(s->at_sign - s->authority);
	const char *colon = memchr(s->authority, ':', len);
	size_t username_len = colon != NULL ? (size_t)(colon - s->authority) : len;
	out->has_username = true;
	out->has_password = colon != NULL;
	if (username_len == 0)
		return "expected a user name before the '@', found none";
	if (!percent_decode(s->authority, username_len, out->username, sizeof out->username))
		return "expected a user name of at most 255 bytes in which every '%' begins %XX "
		       "other than %00";
	if (colon != NULL &&
	    !percent_decode(colon + 1, len - username_len - 1, out->password, sizeof out->password))
		return "expected a password of at most 255 bytes in which every '%' begins %XX "
		       "other than %00";
	return NULL;
}

static const char *
read_host(struct upstream_url *out, const struct spans *s, uint16_t port, char *why, size_t cap)
{
	const char *host = s->at_sign != NULL ? s->at_sign + 1 : s->authority;
	size_t len = (size_t)(s->behind - host);
	char text[ENDPOINT_TEXT_MAX + 8];
	const char *bracket = memrchr(host, ']', len), *colon = memrchr(host, ':', len);
	bool has_port = colon != NULL && (bracket == NULL || colon > bracket);
	if (len >= sizeof text - 8)
		return "expected a host of at most 255 bytes";
	if (has_port)
		snprintf(text, sizeof text, "%.*s", (int)len, host);
	else
		snprintf(text, sizeof text, "%.*s:%u", (int)len, host, port);
	enum endpoint_error err = endpoint_from_text(&out->at, text, strlen(text));
	if (err == ENDPOINT_OK && out->at.port > 0)
		return NULL;
	snprintf(why, cap, "expected HOST:PORT with a port from 1 to 65535 in the URL (%s)",
	    err == ENDPOINT_OK ? "the port is 0" : endpoint_error_text(err));
	return why;
}

const char *
upstream_url_read(struct upstream_url *out, const char *text, char *why, size_t cap)
{
	struct spans s;
	uint16_t port = 0;
	memset(out, 0, sizeof *out);
	if (!split_url(text, &s))
		return "expected a URL such as \"socks5://HOST:PORT\", found no \"://\"";
	const char *wrong = read_scheme(out, &s, &port, why, cap);
	if (wrong != NULL)
		return wrong;
	if (*s.behind != '\0')
		return "expected nothing behind HOST:PORT, found a path, a query or a fragment (a "
		       "'/', '?' or '#' in a password is written "
		       "%2F, %3F or %23)";
	if (out->scheme == SCHEME_DIRECT)
		return s.authority_len == 0 ? NULL
		                            : "expected nothing behind \"direct://\": it has "
		                              "neither a host nor credentials";
	if (s.at_sign != NULL && (wrong = read_credentials(out, &s)) != NULL)
		return wrong;
	return read_host(out, &s, port, why, cap);
}
