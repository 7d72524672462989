/*
 * http_connect: reads and writes the heads of HTTP CONNECT and Basic credentials. No state, no I/O.
 */
#include "socks/http_connect.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/reader.h"

/* One line of a head, without its end. */
struct line {
	const char *text;
	size_t len;
};

/* The next line; false: its end has not come. */
static bool
next_line(struct reader *r, struct line *line)
{
	size_t left = reader_left(r);
	const char *start = (const char *)r->data + reader_offset(r);
	const char *end = left > 0 ? memchr(start, '\n', left) : NULL;
	if (end == NULL)
		return false;
	*line = (struct line){ .text = start, .len = (size_t)(end - start) };
	(void)read_bytes(r, line->len + 1);
	if (line->len > 0 && line->text[line->len - 1] == '\r')
		line->len--;
	return true;
}

static struct reader
head_reader(const uint8_t *in, size_t len)
{
	return reader_of(in, len > HTTP_HEAD_MAX ? HTTP_HEAD_MAX : len);
}

static enum parse_result
more_or_too_long(size_t len)
{
	return len >= HTTP_HEAD_MAX ? PARSE_BAD : PARSE_MORE;
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_token_char(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* How many bytes at the front are those of a token (RFC 9110 section 5.6.2). */
static size_t
token_len(const char *text, size_t len)
{
	size_t n = 0;
	while (n < len && is_token_char(text[n]))
		n++;
	return n;
}

/* "HTTP/1." and a digit. */
static bool
is_version(const char *text, size_t len)
{
	return len == 8 && memcmp(text, "HTTP/1.", 7) == 0 && is_digit(text[7]);
}

/* "METHOD target HTTP/1.x", with one space between them. */
static bool
read_request_line(const struct line *line, struct http_request *req)
{
	static const char connect[] = "CONNECT";
	size_t method_len = token_len(line->text, line->len);
	if (method_len == 0 || method_len == line->len || line->text[method_len] != ' ')
		return false;
	const char *target = line->text + method_len + 1;
	size_t left = line->len - method_len - 1;
	const char *space = memchr(target, ' ', left);
	if (space == NULL || space == target)
		return false;
	size_t target_len = (size_t)(space - target);
	if (!is_version(space + 1, left - target_len - 1))
		return false;
	req->is_connect = method_len == sizeof connect - 1 && memcmp(line->text, connect,
	    method_len) == 0;
	return !req->is_connect || endpoint_from_text(&req->to, target, target_len) == ENDPOINT_OK;
}

/* Fields hold text and tabs; a CR, NUL or other control byte in one is an attack or an accident. */
static bool
is_field_text(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (((unsigned char)text[i] < 0x20 && text[i] != '\t') || text[i] == 0x7f)
			return false;
	return true;
}

static struct line
trimmed(const char *text, size_t len)
{
	while (len > 0 && (*text == ' ' || *text == '\t'))
		text++, len--;
	while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
		len--;
	return (struct line){ .text = text, .len = len };
}

/* "Name: value". A folded line begins with a space and so has no name. */
static bool
read_field(const struct line *line, struct http_request *req)
{
	static const char wanted[] = "Proxy-Authorization";
	size_t name_len = token_len(line->text, line->len);
	if (name_len == 0 || name_len == line->len || line->text[name_len] != ':')
		return false;
	struct line value = trimmed(line->text + name_len + 1, line->len - name_len - 1);
	if (!is_field_text(value.text, value.len))
		return false;
	if (name_len != sizeof wanted - 1 || strncasecmp(line->text, wanted, name_len) != 0)
		return true;
	if (req->authorization != NULL)
		return false;
	req->authorization = value.text;
	req->authorization_len = value.len;
	return true;
}

enum parse_result
http_parse_request(const uint8_t *in, size_t len, struct http_request *req, size_t *used)
{
	struct reader r = head_reader(in, len);
	struct line line;
	*req = (struct http_request){ .is_connect = false };
	if (!next_line(&r, &line))
		return more_or_too_long(len);
	if (!read_request_line(&line, req))
		return PARSE_BAD;
	while (next_line(&r, &line)) {
		if (line.len == 0) {
			*used = reader_offset(&r);
			return PARSE_OK;
		}
		if (!read_field(&line, req))
			return PARSE_BAD;
	}
	return more_or_too_long(len);
}

static const char *
reason_phrase(uint16_t status)
{
	switch (status) {
	case 400: return "Bad Request";
	case 403: return "Forbidden";
	case 405: return "Method Not Allowed";
	case 407: return "Proxy Authentication Required";
	case 501: return "Not Implemented";
	case 502: return "Bad Gateway";
	case 504: return "Gateway Timeout";
	default: return "Service Unavailable";
	}
}

/* What that status must say besides (RFC 9110 sections 15.5.6 and 15.5.8). */
static const char *
extra_fields(uint16_t status)
{
	switch (status) {
	case 405: return "Allow: CONNECT\r\n";
	case 407: return "Proxy-Authenticate: Basic realm=\"sockroute\"\r\n";
	default: return "";
	}
}

static const char *
body_text(enum verdict v)
{
	switch (v) {
	case VERDICT_COMMAND_UNKNOWN: return "this proxy takes CONNECT only";
	case VERDICT_NO_PROTOCOL: return "this port speaks SOCKS, not HTTP";
	default: return verdict_text(v);
	}
}

size_t
http_write_answer(uint8_t *out, size_t cap, enum verdict v)
{
	uint16_t status = verdict_to_http(v);
	const char *body = body_text(v);
	int len;
	if (v == VERDICT_GRANTED)
		len = snprintf((char *)out, cap, "HTTP/1.1 200 Connection established\r\n\r\n");
	else
		len = snprintf((char *)out, cap,
		    "HTTP/1.1 %u %s\r\n%sContent-Type: text/plain\r\nContent-Length: %zu\r\n"
		    "Connection: close\r\n\r\n%s\n",
		    status, reason_phrase(status), extra_fields(status), strlen(body) + 1, body);
	return len > 0 && (size_t)len < cap ? (size_t)len : 0;
}

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* The value of a base64 digit, or -1. */
static int
base64_value(char c)
{
	const char *at = c != '\0' ? strchr(base64_digits, c) : NULL;
	return at != NULL ? (int)(at - base64_digits) : -1;
}

/* RFC 4648 section 4: padded, nothing between, unused bits zero. */
static bool
base64_decode(const char *text, size_t len, struct writer *w)
{
	size_t padding = 0;
	if (len == 0 || len % 4 != 0)
		return false;
	while (padding < 2 && text[len - 1 - padding] == '=')
		padding++;
	unsigned bits = 0;
	for (size_t i = 0; i < len - padding; i++) {
		int value = base64_value(text[i]);
		if (value < 0)
			return false;
		/* what was written before falls out at the top */
		bits = bits << 6 | (unsigned)value;
		if (i % 4 != 0)
			write_u8(w, (uint8_t)(bits >> (6 - i % 4 * 2)));
	}
	unsigned unused = padding == 2 ? 0xf : padding == 1 ? 0x3 : 0;
	return !w->overflow && (bits & unused) == 0;
}

static void
base64_encode(struct writer *w, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i += 3) {
		unsigned group = 0;
		for (size_t k = 0; k < 3; k++)
			group = group << 8 | (i + k < len ? bytes[i + k] : 0u);
		for (size_t k = 0; k < 4; k++)
			write_u8(w, i + k > len ? '=' :
			    (uint8_t)base64_digits[group >> (18 - 6 * k) & 63]);
	}
}

enum http_authorization
http_read_authorization(const char *value, size_t len, uint8_t plain[HTTP_BASIC_MAX],
    struct credentials *c)
{
	static const char basic[] = "Basic";
	size_t scheme_len = token_len(value, len);
	if (scheme_len != sizeof basic - 1 || strncasecmp(value, basic, scheme_len) != 0)
		return HTTP_OTHER_SCHEME;
	struct line digits = trimmed(value + scheme_len, len - scheme_len);
	struct writer w = writer_of(plain, HTTP_BASIC_MAX);
	if (!base64_decode(digits.text, digits.len, &w))
		return HTTP_BASIC_BAD;
	const uint8_t *colon = memchr(plain, ':', w.len);
	if (colon == NULL)
		return HTTP_BASIC_BAD;
	c->username = plain;
	c->username_len = (size_t)(colon - plain);
	c->password = colon + 1;
	c->password_len = w.len - c->username_len - 1;
	return c->username_len <= HTTP_CREDENTIAL_MAX && c->password_len <= HTTP_CREDENTIAL_MAX ?
	    HTTP_BASIC : HTTP_BASIC_BAD;
}

static void
write_text(struct writer *w, const char *text)
{
	write_bytes(w, text, strlen(text));
}

/* False: Basic can't carry them. */
static bool
write_credentials(struct writer *w, const char *username, const char *password)
{
	uint8_t plain[HTTP_BASIC_MAX];
	struct writer p = writer_of(plain, sizeof plain);
	if (strlen(username) > HTTP_CREDENTIAL_MAX || strlen(password) > HTTP_CREDENTIAL_MAX ||
	    strchr(username, ':') != NULL)
		return false;
	write_text(&p, username);
	write_u8(&p, ':');
	write_text(&p, password);
	write_text(w, "Proxy-Authorization: Basic ");
	base64_encode(w, plain, p.len);
	write_text(w, "\r\n");
	explicit_bzero(plain, sizeof plain);
	return true;
}

size_t
http_write_connect(uint8_t *out, size_t cap, const struct endpoint *to, const char *username,
    const char *password)
{
	char target[ENDPOINT_TEXT_MAX];
	struct writer w = writer_of(out, cap);
	endpoint_to_text(to, target, sizeof target);
	write_text(&w, "CONNECT ");
	write_text(&w, target);
	write_text(&w, " HTTP/1.1\r\nHost: ");
	write_text(&w, target);
	write_text(&w, "\r\n");
	if (username != NULL && username[0] != '\0' && !write_credentials(&w, username,
	    password == NULL ? "" : password))
		return 0;
	write_text(&w, "\r\n");
	return w.overflow ? 0 : w.len;
}

/* Could this be the beginning of "HTTP/1."? Tells a proxy of another kind at its first byte. */
static bool
may_be_status_line(const uint8_t *in, size_t len)
{
	static const char start[] = "HTTP/1.";
	size_t n = len < sizeof start - 1 ? len : sizeof start - 1;
	return n == 0 || memcmp(in, start, n) == 0;
}

/* "HTTP/1.x nnn", and a space and a reason where there is one. */
static bool
read_status_line(const struct line *line, uint16_t *status)
{
	const char *t = line->text;
	if (line->len < 12 || !is_version(t, 8) || t[8] != ' ' || (line->len > 12 && t[12] != ' '))
		return false;
	if (t[9] < '1' || t[9] > '5' || !is_digit(t[10]) || !is_digit(t[11]))
		return false;
	*status = (uint16_t)((t[9] - '0') * 100 + (t[10] - '0') * 10 + (t[11] - '0'));
	return true;
}

enum parse_result
http_parse_response(const uint8_t *in, size_t len, uint16_t *status, size_t *used)
{
	struct reader r = head_reader(in, len);
	struct line line;
	if (!may_be_status_line(in, len))
		return PARSE_BAD;
	if (!next_line(&r, &line))
		return more_or_too_long(len);
	if (!read_status_line(&line, status))
		return PARSE_BAD;
	bool whole = *status >= 300;
	while (!whole && next_line(&r, &line))
		whole = line.len == 0;
	*used = reader_offset(&r);
	return whole ? PARSE_OK : more_or_too_long(len);
}
