#include "socks/proxy_header.h"

#include <stdio.h>
#include <string.h>

#include <arpa/inet.h>

#include "base/reader.h"

enum {
	V1_SHORTEST = 15, /* "PROXY UNKNOWN" CRLF */
	V2_HEAD = 16,     /* up to and with the length of what follows */
	V2_COMMAND = 12,  /* where it stands */
};

enum { V2_LOCAL = 0x20, V2_PROXY = 0x21, V2_UNSPEC = 0, V2_TCP4 = 0x11, V2_TCP6 = 0x21 };

static const char v1_sign[6] = {'P', 'R', 'O', 'X', 'Y', ' '};
static const uint8_t v2_sign[V2_COMMAND] = {'\r', '\n', '\r', '\n', 0,   '\r',
					    '\n', 'Q',  'U',  'I',  'T', '\n'};

static bool
begins_like(const uint8_t *in, size_t len, const void *sign, size_t sign_len)
{
	return memcmp(in, sign, len < sign_len ? len : sign_len) == 0;
}

/* ---- version 1 ---- */

struct words {
	const char *at, *end;
};

/* The next word, up to a space or the end, NUL-terminated. False: there is none, or it is too long.
 */
static bool
take_word(struct words *w, char *out, size_t cap)
{
	const char *space = memchr(w->at, ' ', (size_t)(w->end - w->at));
	const char *end = space != NULL ? space : w->end;
	size_t len = (size_t)(end - w->at);
	if (len == 0 || len >= cap)
		return false;
	memcpy(out, w->at, len);
	out[len] = '\0';
	w->at = space != NULL ? end + 1 : end;
	return space == NULL || w->at < w->end;
}

static bool
take_address(struct words *w, int family, struct endpoint *out)
{
	char text[INET6_ADDRSTRLEN];
	uint8_t addr[16];
	if (!take_word(w, text, sizeof text) || inet_pton(family, text, addr) != 1)
		return false;
	if (family == AF_INET)
		endpoint_set_ipv4(out, addr, 0);
	else
		endpoint_set_ipv6(out, addr, 0);
	return true;
}

static bool
take_port(struct words *w, struct endpoint *out)
{
	char text[6];
	return take_word(w, text, sizeof text) && (text[0] != '0' || text[1] == '\0') &&
	       endpoint_read_port(text, strlen(text), &out->port);
}

/* With whatever stands behind it, which doesn't count. */
static bool
is_unknown(const struct words *w)
{
	static const char unknown[7] = {'U', 'N', 'K', 'N', 'O', 'W', 'N'};
	size_t len = (size_t)(w->end - w->at);
	return len >= sizeof unknown && memcmp(w->at, unknown, sizeof unknown) == 0 &&
	       (len == sizeof unknown || w->at[sizeof unknown] == ' ');
}

/* What stands between "PROXY " and CRLF. */
static bool
read_v1(struct words w, struct proxy_header *out)
{
	char kind[8];
	if (is_unknown(&w))
		return true;
	if (memchr(w.at, '\0', (size_t)(w.end - w.at)) != NULL || !take_word(&w, kind, sizeof kind))
		return false;
	int family = strcmp(kind, "TCP4") == 0   ? AF_INET
		     : strcmp(kind, "TCP6") == 0 ? AF_INET6
						 : AF_UNSPEC;
	out->has_addresses = family != AF_UNSPEC && take_address(&w, family, &out->from) &&
			     take_address(&w, family, &out->to) && take_port(&w, &out->from) &&
			     take_port(&w, &out->to) && w.at == w.end && w.end[-1] != ' ';
	return out->has_addresses;
}

static enum parse_result
parse_v1(const uint8_t *in, size_t len, struct proxy_header *out, size_t *used)
{
	const uint8_t *end = memchr(in, '\n', len < PROXY_V1_MAX ? len : PROXY_V1_MAX);
	if (end == NULL)
		return len < PROXY_V1_MAX ? PARSE_MORE : PARSE_BAD;
	*used = (size_t)(end - in) + 1;
	if (*used < V1_SHORTEST || end[-1] != '\r')
		return PARSE_BAD;
	struct words w = {(const char *)in + sizeof v1_sign, (const char *)end - 1};
	return read_v1(w, out) ? PARSE_OK : PARSE_BAD;
}

/* ---- version 2 ---- */

/* Of LOCAL nothing else counts. Families and transports that are none of ours are taken as UNKNOWN;
 * unassigned ones are faults. */
static bool
read_v2(uint8_t command, uint8_t kind, struct reader r, struct proxy_header *out)
{
	size_t size = kind == V2_TCP4 ? 4 : 16;
	if (command == V2_LOCAL)
		return true;
	if (command != V2_PROXY || kind >> 4 > 3 || (kind & 15) > 2)
		return false;
	if (kind != V2_TCP4 && kind != V2_TCP6)
		return true;
	const uint8_t *from = read_bytes(&r, size), *to = read_bytes(&r, size);
	uint16_t from_port = read_u16(&r), to_port = read_u16(&r);
	if (r.truncated)
		return false;
	if (kind == V2_TCP4) {
		endpoint_set_ipv4(&out->from, from, from_port);
		endpoint_set_ipv4(&out->to, to, to_port);
	} else {
		endpoint_set_ipv6(&out->from, from, from_port);
		endpoint_set_ipv6(&out->to, to, to_port);
	}
	return out->has_addresses = true;
}

static size_t
v2_total(const uint8_t *in)
{
	return V2_HEAD + (size_t)(in[14] << 8 | in[15]);
}

static enum parse_result
parse_v2(const uint8_t *in, size_t len, struct proxy_header *out, size_t *used)
{
	if (len < V2_HEAD)
		return PARSE_MORE;
	size_t total = v2_total(in);
	if (total > PROXY_HEADER_MAX)
		return PARSE_BAD;
	if (len < total)
		return PARSE_MORE;
	*used = total;
	struct reader r = reader_of(in + V2_HEAD, total - V2_HEAD);
	return read_v2(in[V2_COMMAND], in[V2_COMMAND + 1], r, out) ? PARSE_OK : PARSE_BAD;
}

/* ---- both ---- */

enum parse_result
proxy_header_parse(const uint8_t *in, size_t len, struct proxy_header *out, size_t *used)
{
	*out = (struct proxy_header){.has_addresses = false};
	if (len == 0)
		return PARSE_MORE;
	if (begins_like(in, len, v1_sign, sizeof v1_sign))
		return parse_v1(in, len, out, used);
	if (begins_like(in, len, v2_sign, sizeof v2_sign))
		return parse_v2(in, len, out, used);
	return PARSE_BAD;
}

size_t
proxy_header_wants(const uint8_t *in, size_t len)
{
	if (len < V1_SHORTEST)
		return V1_SHORTEST - len;
	if (in[0] == v2_sign[0])
		return (len < V2_HEAD ? (size_t)V2_HEAD : v2_total(in)) - len;
	return in[len - 1] == '\r' ? 1 : 2;
}

/* ---- writing ---- */

/* The address in the header's family; an IPv4 one among IPv6 ones is mapped. */
static void
put_address(const struct endpoint *e, bool v6, uint8_t out[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	bool map = v6 && e->kind == ENDPOINT_IPV4;
	if (map)
		memcpy(out, mapped, sizeof mapped);
	memcpy(out + (map ? sizeof mapped : 0), e->addr, e->kind == ENDPOINT_IPV4 ? 4 : 16);
}

static size_t
write_v1(char *out, size_t cap, bool v6, const struct endpoint *from, const struct endpoint *to)
{
	char texts[2][INET6_ADDRSTRLEN];
	uint8_t addr[16];
	const struct endpoint *ends[2] = {from, to};
	for (int i = 0; i < 2; i++) {
		put_address(ends[i], v6, addr);
		inet_ntop(v6 ? AF_INET6 : AF_INET, addr, texts[i], sizeof texts[i]);
	}
	return (size_t)snprintf(out, cap, "PROXY TCP%d %s %s %u %u\r\n", v6 ? 6 : 4, texts[0],
				texts[1], (unsigned)from->port, (unsigned)to->port);
}

static void
write_v2(struct writer *w, bool v6, const struct endpoint *from, const struct endpoint *to)
{
	size_t size = v6 ? 16 : 4;
	uint8_t addr[16];
	write_u8(w, V2_PROXY);
	write_u8(w, v6 ? V2_TCP6 : V2_TCP4);
	write_u16(w, (uint16_t)(2 * size + 4));
	put_address(from, v6, addr);
	write_bytes(w, addr, size);
	put_address(to, v6, addr);
	write_bytes(w, addr, size);
	write_u16(w, from->port);
	write_u16(w, to->port);
}

size_t
proxy_header_write(uint8_t *out, size_t cap, unsigned version, const struct endpoint *from,
		   const struct endpoint *to)
{
	uint8_t header[PROXY_HEADER_WRITTEN_MAX + 1];
	struct writer w = writer_of(header, sizeof header);
	bool known = from != NULL && endpoint_is_address(from) && endpoint_is_address(to);
	bool v6 = known && (from->kind == ENDPOINT_IPV6 || to->kind == ENDPOINT_IPV6);
	size_t len;
	if (version == 1 && known) {
		len = write_v1((char *)header, sizeof header, v6, from, to);
	} else if (version == 1) {
		write_bytes(&w, "PROXY UNKNOWN\r\n", V1_SHORTEST);
		len = w.len;
	} else {
		write_bytes(&w, v2_sign, sizeof v2_sign);
		if (known)
			write_v2(&w, v6, from, to);
		else
			write_bytes(&w, (uint8_t[4]){from == NULL ? V2_LOCAL : V2_PROXY, V2_UNSPEC}, 4);
		len = w.len;
	}
	if (len > cap)
		return 0;
	memcpy(out, header, len);
	return len;
}
