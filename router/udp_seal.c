#include "router/udp_seal.h"

#include <stdlib.h>
#include <string.h>

#include "base/gss_context.h"
#include "socks/gssapi.h"

/* The bytes of a datagram are the pool's, and nobody else's, until the next batch. */
bool
udp_seal_open(const struct udp_seal *s, struct udp_datagram *d)
{
	struct gssapi_message m;
	size_t used, at, n;
	if (gssapi_parse(d->bytes, d->len, &m, &used) != PARSE_OK || m.type != GSSAPI_DATA || used != d->len ||
	    !gss_context_unwrap(s->context, s->secret, GSS_ANY_ORDER, (uint8_t *)(uintptr_t)m.token, m.len, &at, &n))
		return false;
	d->bytes = m.token + at;
	d->len = n;
	return true;
}

/* Header and payload in one piece. */
static uint8_t *
join(const struct udp_parcel *parcel, size_t *len)
{
	*len = parcel->prefix_len + parcel->header_len + parcel->payload_len;
	uint8_t *plain = malloc(*len + 1), *end = plain;
	if (plain == NULL)
		return NULL;
	if (parcel->prefix_len > 0)
		end = mempcpy(end, parcel->prefix, parcel->prefix_len);
	if (parcel->header_len > 0)
		end = mempcpy(end, parcel->header, parcel->header_len);
	if (parcel->payload_len > 0)
		memcpy(end, parcel->payload, parcel->payload_len);
	return plain;
}

bool
udp_seal_send(const struct udp_seal *s, struct udp_pool *p, struct udp_socket *to_socket, const struct udp_parcel *parcel,
	      const struct udp_address *to, enum counter sent)
{
	size_t len, token_len = 0;
	uint8_t *plain = join(parcel, &len);
	uint8_t *sealed = plain != NULL ? gss_context_wrap(s->context, s->secret, plain, len, GSSAPI_HEADER, &token_len) : NULL;
	bool ok = sealed != NULL && token_len <= GSSAPI_TOKEN_MAX;
	free(plain);
	if (ok) {
		const struct udp_parcel whole = { .payload = sealed, .payload_len = GSSAPI_HEADER + token_len };
		gssapi_write_header(sealed, GSSAPI_DATA, (uint16_t)token_len);
		udp_send(p, to_socket, &whole, to, sent);
		udp_flush(p);
	}
	free(sealed);
	return ok;
}
