/*
 * socks4: reads and writes the messages of SOCKS4 and 4a. No state, no I/O.
 */
#include "socks/socks4.h"

#include <string.h>

#include "base/reader.h"

/* A text that ends with NUL, of at most SOCKS4_TEXT_MAX bytes. */
static enum parse_result
read_text(struct reader *r, const char **text, size_t *len)
{
	size_t left = reader_left(r);
	size_t look = left > SOCKS4_TEXT_MAX ? SOCKS4_TEXT_MAX + 1 : left;
	const uint8_t *start = r->data + reader_offset(r);
	const uint8_t *end = memchr(start, 0, look);
	if (end == NULL)
		return look > SOCKS4_TEXT_MAX ? PARSE_BAD : PARSE_MORE;
	*len = (size_t)(end - start);
	*text = (const char *)read_bytes(r, *len + 1);
	return PARSE_OK;
}

static enum parse_result
read_name(struct reader *r, struct endpoint *to)
{
	const char *name;
	size_t len;
	enum parse_result result = read_text(r, &name, &len);
	if (result == PARSE_OK && endpoint_set_host(to, name, len) != ENDPOINT_OK)
		return PARSE_BAD;
	return result;
}

enum parse_result
socks4_parse_request(const uint8_t *in, size_t len, struct socks4_request *req, size_t *used)
{
	struct reader r = reader_of(in, len);
	uint8_t version = read_u8(&r);
	if (len > 0 && version != SOCKS4_VERSION)
		return PARSE_BAD;
	*req = (struct socks4_request){ .command = read_u8(&r) };
	uint16_t port = read_u16(&r);
	const uint8_t *addr = read_bytes(&r, 4);
	if (addr == NULL)
		return PARSE_MORE;
	endpoint_set_ipv4(&req->to, addr, port);
	enum parse_result result = read_text(&r, &req->userid, &req->userid_len);
	req->is_4a = addr[0] == 0 && addr[1] == 0 && addr[2] == 0 && addr[3] != 0;
	if (result == PARSE_OK && req->is_4a)
		result = read_name(&r, &req->to);
	*used = reader_offset(&r);
	return result;
}

size_t
socks4_write_reply(uint8_t *out, size_t cap, uint8_t code, const struct endpoint *bound)
{
	static const uint8_t none[4];
	bool has_bound = bound != NULL && bound->kind == ENDPOINT_IPV4;
	struct writer w = writer_of(out, cap);
	write_u8(&w, 0);                               /* VN of a reply is 0, not 4 */
	write_u8(&w, code);
	write_u16(&w, has_bound ? bound->port : 0);
	write_bytes(&w, has_bound ? bound->addr : none, 4);
	return w.overflow ? 0 : w.len;
}

size_t
socks4_write_request(uint8_t *out, size_t cap, uint8_t command, const struct endpoint *to,
    const char *userid)
{
	static const uint8_t name_follows[4] = { 0, 0, 0, 1 };
	bool is_name = to->kind == ENDPOINT_NAME;
	size_t userid_len = strlen(userid);
	if (userid_len > SOCKS4_TEXT_MAX || (!is_name && to->kind != ENDPOINT_IPV4))
		return 0;
	struct writer w = writer_of(out, cap);
	write_u8(&w, SOCKS4_VERSION);
	write_u8(&w, command);
	write_u16(&w, to->port);
	write_bytes(&w, is_name ? name_follows : to->addr, 4);
	write_bytes(&w, userid, userid_len + 1);
	if (is_name)
		write_bytes(&w, to->name, to->name_len + 1u);
	return w.overflow ? 0 : w.len;
}

enum parse_result
socks4_parse_reply(const uint8_t *in, size_t len, struct socks4_reply *reply, size_t *used)
{
	struct reader r = reader_of(in, len);
	uint8_t version = read_u8(&r);
	if (len > 0 && version != 0 && version != SOCKS4_VERSION)
		return PARSE_BAD;
	*reply = (struct socks4_reply){ .code = read_u8(&r) };
	if (r.truncated)
		return PARSE_MORE;
	if (reply->code == SOCKS4_GRANTED) {
		uint16_t port = read_u16(&r);
		const uint8_t *addr = read_bytes(&r, 4);
		if (addr == NULL)
			return PARSE_MORE;
		endpoint_set_ipv4(&reply->bound, addr, port);
	}
	*used = reader_offset(&r);
	return PARSE_OK;
}
