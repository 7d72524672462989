/*
 * endpoint: one spelling for each place; see the header. Pure: no look-up, no state.
 */
#include "base/endpoint.h"

#include "base/text.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

/* How an IPv4 address looks as an IPv6 one (RFC 4291 section 2.5.5.2). */
static const uint8_t mapped_prefix[12] = { [10] = 0xff, [11] = 0xff };

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The value of a digit of any base up to 16; 16: it is none. */
static unsigned
digit_value(char c)
{
	if (is_digit(c))
		return (unsigned)(c - '0');
	if (c >= 'a' && c <= 'f')
		return (unsigned)(c - 'a' + 10);
	if (c >= 'A' && c <= 'F')
		return (unsigned)(c - 'A' + 10);
	return 16;
}

static bool
is_hex_prefixed(const char *text, size_t len)
{
	return len >= 2 && text[0] == '0' && (text[1] | 0x20) == 'x';
}

/* One part of an address as inet_aton(3) reads it: 0x is hexadecimal, a leading 0 octal. */
static bool
read_part(const char *text, size_t len, uint32_t *value)
{
	unsigned base = 10;
	if (is_hex_prefixed(text, len)) {
		base = 16;
		text += 2, len -= 2;
	} else if (len > 1 && text[0] == '0') {
		base = 8;
	}
	if (len == 0)
		return false;
	uint64_t v = 0;
	for (size_t i = 0; i < len; i++) {
		unsigned digit = digit_value(text[i]);
		if (digit >= base)
			return false;
		v = v * base + digit;
		if (v > UINT32_MAX)
			return false;
	}
	*value = (uint32_t)v;
	return true;
}

/* a.b.c.d, a.b.c, a.b or a: each part but the last is one byte, the last one fills what is left. */
static bool
read_ipv4(const char *text, size_t len, uint8_t addr[4])
{
	uint32_t high = 0;
	for (unsigned n = 0; n < 4; n++) {
		const char *dot = memchr(text, '.', len);
		size_t part_len = dot == NULL ? len : (size_t)(dot - text);
		uint32_t part;
		if (!read_part(text, part_len, &part))
			return false;
		if (dot == NULL) {
			if (part > UINT32_MAX >> 8 * n)
				return false;
			uint32_t all = htonl(high | part);
			memcpy(addr, &all, 4);
			return true;
		}
		if (part > 255)
			return false;
		high |= part << (24 - 8 * n);
		text = dot + 1;
		len -= part_len + 1;
	}
	return false;
}

/* Is the last label one that only an address has (all digits, or 0x and hexadecimal digits)? */
static bool
ends_in_number(const char *text, size_t len)
{
	size_t start = len;
	while (start > 0 && text[start - 1] != '.')
		start--;
	const char *label = text + start;
	size_t label_len = len - start;
	bool hex = is_hex_prefixed(label, label_len);
	for (size_t i = hex ? 2 : 0; i < label_len; i++) {
		if (hex ? digit_value(label[i]) == 16 : !is_digit(label[i]))
			return false;
	}
	return true;
}

static bool
read_ipv6(const char *text, size_t len, uint8_t addr[16])
{
	char z[INET6_ADDRSTRLEN];
	if (len >= sizeof z || memchr(text, '\0', len) != NULL)
		return false;
	memcpy(z, text, len);
	z[len] = '\0';
	return inet_pton(AF_INET6, z, addr) == 1;
}

/* What no name may hold: control bytes, blanks, and what separates a name from its neighbours. */
static bool
is_name_byte(char c)
{
	unsigned char u = (unsigned char)c;
	return u > 0x20 && u != 0x7f && strchr("[]/@%:", c) == NULL;
}

static enum endpoint_error
check_name(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (!is_name_byte(text[i]))
			return ENDPOINT_BAD_BYTE;
	}
	if (text[0] == '.' || text[len - 1] == '.' || memmem(text, len, "..", 2) != NULL)
		return ENDPOINT_EMPTY;
	return len > ENDPOINT_NAME_MAX ? ENDPOINT_TOO_LONG : ENDPOINT_OK;
}

static void
set_name(struct endpoint *e, const char *text, size_t len)
{
	e->kind = ENDPOINT_NAME;
	e->name_len = (uint8_t)len;
	memset(e->addr, 0, sizeof e->addr);
	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		e->name[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
	}
	e->name[len] = '\0';
}

enum endpoint_error
endpoint_set_host(struct endpoint *e, const char *text, size_t len)
{
	uint8_t addr[16];
	if (len > 0 && memchr(text, ':', len) != NULL && read_ipv6(text, len, addr)) {
		endpoint_set_ipv6(e, addr, e->port);
		return ENDPOINT_OK;
	}
	if (len > 0 && text[len - 1] == '.')
		len--;
	if (len == 0)
		return ENDPOINT_EMPTY;
	enum endpoint_error err = check_name(text, len);
	if (err != ENDPOINT_OK)
		return err;
	if (!ends_in_number(text, len)) {
		set_name(e, text, len);
		return ENDPOINT_OK;
	}
	if (!read_ipv4(text, len, addr))
		return ENDPOINT_BAD_ADDRESS;
	endpoint_set_ipv4(e, addr, e->port);
	return ENDPOINT_OK;
}

bool
endpoint_read_port(const char *text, size_t len, uint16_t *port)
{
	if (len < 1 || len > 5)
		return false;
	uint32_t v = 0;
	for (size_t i = 0; i < len; i++) {
		if (!is_digit(text[i]))
			return false;
		v = v * 10 + (uint32_t)(text[i] - '0');
	}
	if (v > UINT16_MAX)
		return false;
	*port = (uint16_t)v;
	return true;
}

/* "[v6]:port" */
static enum endpoint_error
from_bracketed(struct endpoint *e, const char *text, size_t len)
{
	uint8_t addr[16];
	uint16_t port;
	const char *close = memchr(text, ']', len);
	if (close == NULL)
		return ENDPOINT_BAD_ADDRESS;
	size_t host_len = (size_t)(close - text) - 1, after = host_len + 2;
	if (host_len == 0)
		return ENDPOINT_EMPTY;
	if (memchr(text + 1, '%', host_len) != NULL || memchr(text + 1, '\0', host_len) != NULL)
		return ENDPOINT_BAD_BYTE;
	if (!read_ipv6(text + 1, host_len, addr))
		return ENDPOINT_BAD_ADDRESS;
	if (after == len || text[after] != ':' ||
	    !endpoint_read_port(text + after + 1, len - after - 1, &port))
		return ENDPOINT_BAD_PORT;
	endpoint_set_ipv6(e, addr, port);
	return ENDPOINT_OK;
}

enum endpoint_error
endpoint_from_text(struct endpoint *e, const char *text, size_t len)
{
	if (len == 0)
		return ENDPOINT_EMPTY;
	if (text[0] == '[')
		return from_bracketed(e, text, len);
	const char *colon = memchr(text, ':', len);
	if (colon == NULL)
		return ENDPOINT_BAD_PORT;
	size_t host_len = (size_t)(colon - text), port_len = len - host_len - 1;
	if (memchr(colon + 1, ':', port_len) != NULL)
		return ENDPOINT_BAD_ADDRESS;
	uint16_t port;
	if (!endpoint_read_port(colon + 1, port_len, &port))
		return ENDPOINT_BAD_PORT;
	enum endpoint_error err = endpoint_set_host(e, text, host_len);
	if (err == ENDPOINT_OK)
		e->port = port;
	return err;
}

const char *
endpoint_error_text(enum endpoint_error err)
{
	switch (err) {
	case ENDPOINT_OK:
		return "fine";
	case ENDPOINT_EMPTY:
		return "the host, or a label of it, is empty";
	case ENDPOINT_TOO_LONG:
		return "the host name is longer than 255 bytes";
	case ENDPOINT_BAD_BYTE:
		return "a character that no host name can hold";
	case ENDPOINT_BAD_PORT:
		return "no port from 0 to 65535";
	case ENDPOINT_BAD_ADDRESS:
		return "no IP address (an IPv6 address before a port needs brackets)";
	}
	return "unknown";
}

void
endpoint_set_ipv4(struct endpoint *e, const uint8_t addr[4], uint16_t port)
{
	e->kind = ENDPOINT_IPV4;
	e->name_len = 0;
	e->name[0] = '\0';
	e->port = port;
	memset(e->addr, 0, sizeof e->addr);
	memcpy(e->addr, addr, 4);
}

void
endpoint_set_ipv6(struct endpoint *e, const uint8_t addr[16], uint16_t port)
{
	if (memcmp(addr, mapped_prefix, sizeof mapped_prefix) == 0) {
		endpoint_set_ipv4(e, addr + sizeof mapped_prefix, port);
		return;
	}
	e->kind = ENDPOINT_IPV6;
	e->name_len = 0;
	e->name[0] = '\0';
	e->port = port;
	memmove(e->addr, addr, sizeof e->addr);
}

/* inet_ntop(3) goes through printf, and every access line has two of these. */
static char *
write_ipv4(const uint8_t addr[4], char *out)
{
	for (int i = 0; i < 4; i++) {
		unsigned v = addr[i];
		if (v >= 100)
			*out++ = (char)('0' + v / 100);
		if (v >= 10)
			*out++ = (char)('0' + v / 10 % 10);
		*out++ = (char)('0' + v % 10);
		*out++ = '.';
	}
	return out - 1;
}

/* Returns the end; no NUL. At most ENDPOINT_NAME_MAX bytes. */
static char *
write_host(const struct endpoint *e, char *out)
{
	if (e->kind == ENDPOINT_IPV4)
		return write_ipv4(e->addr, out);
	if (e->kind == ENDPOINT_NAME)
		return mempcpy(out, e->name, e->name_len);
	if (e->kind == ENDPOINT_IPV6 && inet_ntop(AF_INET6, e->addr, out, INET6_ADDRSTRLEN) != NULL)
		return out + strlen(out);
	return out;
}

/* As endpoint_to_text, into ENDPOINT_TEXT_MAX bytes. */
static const char *
write_whole(const struct endpoint *e, char *out)
{
	bool brackets = e->kind == ENDPOINT_IPV6;
	char *at = out;
	if (brackets)
		*at++ = '[';
	at = write_host(e, at);
	if (brackets)
		*at++ = ']';
	if (e->kind != ENDPOINT_NONE) {
		*at++ = ':';
		at += text_write_number(at, e->port, 1);
	}
	*at = '\0';
	return out;
}

const char *
endpoint_host_to_text(const struct endpoint *e, char *out, size_t cap)
{
	char host[ENDPOINT_NAME_MAX + 1];
	*write_host(e, host) = '\0';
	text_copy(out, cap, host);
	return out;
}

const char *
endpoint_to_text(const struct endpoint *e, char *out, size_t cap)
{
	char all[ENDPOINT_TEXT_MAX];
	if (cap >= sizeof all)
		return write_whole(e, out);
	text_copy(out, cap, write_whole(e, all));
	return out;
}

bool
endpoint_is_loopback(const struct endpoint *e)
{
	static const uint8_t loopback6[16] = { [15] = 1 };
	if (e->kind == ENDPOINT_IPV4)
		return e->addr[0] == 127;
	return e->kind == ENDPOINT_IPV6 && memcmp(e->addr, loopback6, sizeof loopback6) == 0;
}

bool
endpoint_is_wildcard(const struct endpoint *e)
{
	static const uint8_t any[16];
	return endpoint_is_address(e) && memcmp(e->addr, any, sizeof any) == 0;
}

bool
endpoint_same_host(const struct endpoint *a, const struct endpoint *b)
{
	if (a->kind != b->kind)
		return false;
	switch (a->kind) {
	case ENDPOINT_NONE:
		return true;
	case ENDPOINT_NAME:
		return a->name_len == b->name_len && memcmp(a->name, b->name, a->name_len) == 0;
	default:
		return memcmp(a->addr, b->addr, a->kind == ENDPOINT_IPV4 ? 4 : 16) == 0;
	}
}

bool
endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
	return a->port == b->port && endpoint_same_host(a, b);
}

bool
endpoint_collide(const struct endpoint *a, const struct endpoint *b)
{
	if (!endpoint_is_address(a) || a->kind != b->kind || a->port != b->port)
		return false;
	return endpoint_is_wildcard(a) || endpoint_is_wildcard(b) || endpoint_same_host(a, b);
}

void
endpoint_from_sockaddr(struct endpoint *e, const struct sockaddr *sa, socklen_t len)
{
	if (len >= sizeof(struct sockaddr_in) && sa->sa_family == AF_INET) {
		struct sockaddr_in in;
		memcpy(&in, sa, sizeof in);
		endpoint_set_ipv4(e, (const uint8_t *)&in.sin_addr, ntohs(in.sin_port));
	} else if (len >= sizeof(struct sockaddr_in6) && sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;
		memcpy(&in6, sa, sizeof in6);
		endpoint_set_ipv6(e, in6.sin6_addr.s6_addr, ntohs(in6.sin6_port));
	} else {
		endpoint_clear(e);
	}
}

socklen_t
endpoint_to_sockaddr(const struct endpoint *e, struct sockaddr_storage *ss)
{
	if (e->kind == ENDPOINT_IPV4) {
		struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(e->port) };
		memcpy(&in.sin_addr, e->addr, sizeof in.sin_addr);
		memcpy(ss, &in, sizeof in);
		return sizeof in;
	}
	if (e->kind == ENDPOINT_IPV6) {
		struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(e->port) };
		memcpy(&in6.sin6_addr, e->addr, sizeof in6.sin6_addr);
		memcpy(ss, &in6, sizeof in6);
		return sizeof in6;
	}
	return 0;
}
