#include "socks/gssapi.h"

#include "base/reader.h"

enum parse_result
gssapi_parse(const uint8_t *in, size_t len, struct gssapi_message *m, size_t *used)
{
	struct reader r = reader_of(in, len);
	uint8_t version = read_u8(&r);
	*m = (struct gssapi_message){ .type = read_u8(&r) };
	if (len > 0 && version != GSSAPI_VERSION)
		return PARSE_BAD;
	if (len >= 2 && m->type == GSSAPI_ABORT) {
		*used = reader_offset(&r);
		return PARSE_OK;
	}
	m->len = read_u16(&r);
	if (r.truncated)
		return PARSE_MORE;
	if (m->len == 0)
		return PARSE_BAD;
	m->token = read_bytes(&r, m->len);
	*used = reader_offset(&r);
	return r.truncated ? PARSE_MORE : PARSE_OK;
}

size_t
gssapi_write(uint8_t *out, size_t cap, enum gssapi_type type, const uint8_t *token, size_t len)
{
	struct writer w = writer_of(out, cap);
	write_u8(&w, GSSAPI_VERSION);
	write_u8(&w, (uint8_t)type);
	if (type != GSSAPI_ABORT) {
		if (len == 0 || len > GSSAPI_TOKEN_MAX)
			return 0;
		write_u16(&w, (uint16_t)len);
		write_bytes(&w, token, len);
	}
	return w.overflow ? 0 : w.len;
}

void
gssapi_write_header(uint8_t *out, enum gssapi_type type, uint16_t len)
{
	out[0] = GSSAPI_VERSION;
	out[1] = (uint8_t)type;
	out[2] = (uint8_t)(len >> 8);
	out[3] = (uint8_t)len;
}

int
gssapi_agree(uint8_t asked, enum gssapi_protection least)
{
	if (asked > GSSAPI_SELECTIVE)
		return -1;
	enum gssapi_protection level = asked == GSSAPI_SELECTIVE ? GSSAPI_CONFIDENTIALITY : asked;
	return level >= least ? (int)level : -1;
}
