/*
 * socks5: reads and writes the messages of RFC 1928 and RFC 1929. No state, no I/O.
 */
#include "socks/socks5.h"

#include <string.h>

#include "base/reader.h"
#include "socks/command.h"

enum { ATYP_IPV4 = 1, ATYP_NAME = 3, ATYP_IPV6 = 4 };

enum address_result { ADDRESS_OK, ADDRESS_CUT, ADDRESS_BAD_TYPE, ADDRESS_BAD_NAME };

static const struct {
	uint8_t method;                                /* enum socks5_method */
	uint8_t bit;                                   /* enum auth_method */
} methods[] = {                                        /* weakest first */
	{ SOCKS5_METHOD_NONE, AUTH_NONE },
	{ SOCKS5_METHOD_USERPASS, AUTH_USERPASS },
	{ SOCKS5_METHOD_GSSAPI, AUTH_GSSAPI },
};

static size_t
written(const struct writer *w)
{
	return w->overflow ? 0 : w->len;
}

/*
 * ATYP, address and port, as requests, replies and datagrams have them. After BAD_NAME the reader
 * is behind them all the same.
 */
static enum address_result
read_address(struct reader *r, struct endpoint *e)
{
	uint8_t type = read_u8(r);
	size_t len;
	if (r->truncated)
		return ADDRESS_CUT;
	switch (type) {
	case ATYP_IPV4: len = 4; break;
	case ATYP_IPV6: len = 16; break;
	case ATYP_NAME: len = read_u8(r); break;
	default: return ADDRESS_BAD_TYPE;
	}
	const uint8_t *host = read_bytes(r, len);
	uint16_t port = read_u16(r);
	if (r->truncated)
		return ADDRESS_CUT;
	endpoint_clear(e);
	e->port = port;
	if (type == ATYP_IPV4)
		endpoint_set_ipv4(e, host, port);
	else if (type == ATYP_IPV6)
		endpoint_set_ipv6(e, host, port);
	else if (endpoint_set_host(e, (const char *)host, len) != ENDPOINT_OK)
		return ADDRESS_BAD_NAME;
	return ADDRESS_OK;
}

static void
write_address(struct writer *w, const struct endpoint *e)
{
	static const struct endpoint none;
	if (e == NULL)
		e = &none;
	switch (e->kind) {
	case ENDPOINT_IPV6:
		write_u8(w, ATYP_IPV6);
		write_bytes(w, e->addr, 16);
		break;
	case ENDPOINT_NAME:
		write_u8(w, ATYP_NAME);
		write_u8(w, e->name_len);
		write_bytes(w, e->name, e->name_len);
		break;
	default:                                       /* IPv4, or nothing: zeros */
		write_u8(w, ATYP_IPV4);
		write_bytes(w, e->kind == ENDPOINT_IPV4 ? e->addr : none.addr, 4);
	}
	write_u16(w, e->port);
}

enum parse_result
socks5_parse_greeting(const uint8_t *in, size_t len, unsigned *offered, size_t *used)
{
	struct reader r = reader_of(in, len);
	uint8_t version = read_u8(&r);
	if (len > 0 && version != SOCKS5_VERSION)
		return PARSE_BAD;
	size_t n = read_u8(&r);
	const uint8_t *list = read_bytes(&r, n);
	if (list == NULL)
		return PARSE_MORE;
	*offered = 0;
	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		if (memchr(list, methods[i].method, n) != NULL)
			*offered |= methods[i].bit;
	*used = reader_offset(&r);
	return PARSE_OK;
}

size_t
socks5_write_choice(uint8_t *out, size_t cap, enum socks5_method method)
{
	struct writer w = writer_of(out, cap);
	write_u8(&w, SOCKS5_VERSION);
	write_u8(&w, (uint8_t)method);
	return written(&w);
}

enum parse_result
socks5_parse_userpass(const uint8_t *in, size_t len, struct credentials *c, size_t *used)
{
	struct reader r = reader_of(in, len);
	uint8_t version = read_u8(&r);
	if (len > 0 && version != SOCKS5_USERPASS_VERSION)
		return PARSE_BAD;
	c->username_len = read_u8(&r);
	c->username = read_bytes(&r, c->username_len);
	c->password_len = read_u8(&r);
	c->password = read_bytes(&r, c->password_len);
	if (r.truncated)
		return PARSE_MORE;
	*used = reader_offset(&r);
	return PARSE_OK;
}

size_t
socks5_write_status(uint8_t *out, size_t cap, bool good)
{
	struct writer w = writer_of(out, cap);
	write_u8(&w, SOCKS5_USERPASS_VERSION);
	write_u8(&w, good ? 0 : 1);
	return written(&w);
}

enum parse_result
socks5_parse_request(const uint8_t *in, size_t len, struct socks5_request *req, size_t *used)
{
	struct reader r = reader_of(in, len);
	uint8_t version = read_u8(&r);
	req->command = read_u8(&r);
	req->fault = VERDICT_MALFORMED;
	endpoint_clear(&req->to);
	if (len > 0 && version != SOCKS5_VERSION)
		return PARSE_BAD;
	(void)read_u8(&r);                             /* RSV: not ours to judge */
	enum address_result result = read_address(&r, &req->to);
	if (result == ADDRESS_CUT)
		return PARSE_MORE;
	if (result == ADDRESS_BAD_TYPE)
		req->fault = VERDICT_ADDRESS_UNKNOWN;
	*used = reader_offset(&r);
	return result == ADDRESS_OK ? PARSE_OK : PARSE_BAD;
}

/* A request and a reply have one shape; what is a command in one is a REP in the other. */
static size_t
write_message(uint8_t *out, size_t cap, uint8_t code, const struct endpoint *e)
{
	struct writer w = writer_of(out, cap);
	write_u8(&w, SOCKS5_VERSION);
	write_u8(&w, code);
	write_u8(&w, 0);
	write_address(&w, e);
	return written(&w);
}

size_t
socks5_write_reply(uint8_t *out, size_t cap, uint8_t rep, const struct endpoint *bound)
{
	return write_message(out, cap, rep, bound);
}

size_t
socks5_write_request(uint8_t *out, size_t cap, uint8_t command, const struct endpoint *to)
{
	return write_message(out, cap, command, to);
}

size_t
socks5_write_greeting(uint8_t *out, size_t cap, unsigned offered)
{
	uint8_t list[ARRAY_LEN(methods)];
	uint8_t n = 0;
	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		if (offered & methods[i].bit)
			list[n++] = methods[i].method;
	struct writer w = writer_of(out, cap);
	write_u8(&w, SOCKS5_VERSION);
	write_u8(&w, n);
	write_bytes(&w, list, n);
	return written(&w);
}

enum parse_result
socks5_parse_choice(const uint8_t *in, size_t len, uint8_t *method, size_t *used)
{
	struct reader r = reader_of(in, len);
	uint8_t version = read_u8(&r);
	if (len > 0 && version != SOCKS5_VERSION)
		return PARSE_BAD;
	*method = read_u8(&r);
	*used = reader_offset(&r);
	return r.truncated ? PARSE_MORE : PARSE_OK;
}

size_t
socks5_write_userpass(uint8_t *out, size_t cap, const char *username, const char *password)
{
	size_t username_len = strlen(username), password_len = strlen(password);
	if (username_len > SOCKS5_TEXT_MAX || password_len > SOCKS5_TEXT_MAX)
		return 0;
	struct writer w = writer_of(out, cap);
	write_u8(&w, SOCKS5_USERPASS_VERSION);
	write_u8(&w, (uint8_t)username_len);
	write_bytes(&w, username, username_len);
	write_u8(&w, (uint8_t)password_len);
	write_bytes(&w, password, password_len);
	return written(&w);
}

enum parse_result
socks5_parse_status(const uint8_t *in, size_t len, bool *good, size_t *used)
{
	struct reader r = reader_of(in, len);
	uint8_t version = read_u8(&r);
	if (len > 0 && version != SOCKS5_USERPASS_VERSION && version != SOCKS5_VERSION)
		return PARSE_BAD;
	*good = read_u8(&r) == 0 && !r.truncated;
	*used = reader_offset(&r);
	return r.truncated ? PARSE_MORE : PARSE_OK;
}

enum parse_result
socks5_parse_reply(const uint8_t *in, size_t len, struct socks5_reply *reply, size_t *used)
{
	struct reader r = reader_of(in, len);
	uint8_t version = read_u8(&r);
	if (len > 0 && version != SOCKS5_VERSION)
		return PARSE_BAD;
	*reply = (struct socks5_reply){ .rep = read_u8(&r) };
	if (r.truncated)
		return PARSE_MORE;
	if (reply->rep == 0) {
		(void)read_u8(&r);                     /* RSV */
		enum address_result result = read_address(&r, &reply->bound);
		if (result == ADDRESS_CUT)
			return PARSE_MORE;
		if (result == ADDRESS_BAD_TYPE)
			return PARSE_BAD;
		/* some send an empty one; the tunnel stands all the same */
		if (result == ADDRESS_BAD_NAME)
			reply->bound = (struct endpoint){ .kind = ENDPOINT_NONE };
	}
	*used = reader_offset(&r);
	return PARSE_OK;
}

enum parse_result
socks5_parse_udp(const uint8_t *in, size_t len, struct socks5_udp *header, size_t *used)
{
	struct reader r = reader_of(in, len);
	(void)read_u16(&r);                            /* RSV */
	header->frag = read_u8(&r);
	if (read_address(&r, &header->to) != ADDRESS_OK)
		return PARSE_BAD;
	*used = reader_offset(&r);
	return PARSE_OK;
}

size_t
socks5_write_udp(uint8_t *out, size_t cap, uint8_t frag, const struct endpoint *to)
{
	struct writer w = writer_of(out, cap);
	write_u16(&w, 0);
	write_u8(&w, frag);
	write_address(&w, to);
	return written(&w);
}
