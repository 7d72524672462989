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

/* Header and payload in one piece; there is always memory to return. */
static uint8_t *
join(const uint8_t *header, size_t header_len, const uint8_t *payload, size_t payload_len)
{
	uint8_t *plain = malloc(header_len + payload_len + 1);
	if (plain == NULL)
		return NULL;
	if (header_len > 0)
		memcpy(plain, header, header_len);
	if (payload_len > 0)
		memcpy(plain + header_len, payload, payload_len);
	return plain;
}

uint8_t *
udp_seal_wrap(const struct udp_seal *s, const uint8_t *header, size_t header_len, const uint8_t *payload, size_t payload_len,
	      size_t *len)
{
	size_t token_len;
	uint8_t *plain = join(header, header_len, payload, payload_len);
	*len = header_len + payload_len;
	if (plain == NULL || s->context == NULL)
		return plain;
	uint8_t *sealed = gss_context_wrap(s->context, s->secret, plain, *len, GSSAPI_HEADER, &token_len);
	free(plain);
	if (sealed == NULL || token_len > GSSAPI_TOKEN_MAX) {
		free(sealed);
		return NULL;
	}
	gssapi_write_header(sealed, GSSAPI_DATA, (uint16_t)token_len);
	*len = GSSAPI_HEADER + token_len;
	return sealed;
}

bool
udp_seal_send(const struct udp_seal *s, struct udp_pool *p, struct udp_socket *to_socket, const struct udp_parcel *parcel,
	      const struct udp_address *to, enum counter sent)
{
	struct udp_parcel whole = { .prefix = NULL };
	whole.owned = udp_seal_wrap(s, parcel->header, parcel->header_len, parcel->payload, parcel->payload_len, &whole.payload_len);
	whole.payload = whole.owned;
	if (whole.owned == NULL)
		return false;
	udp_send(p, to_socket, &whole, to, sent);
	return true;
}
