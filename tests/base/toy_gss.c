#include "tests/base/toy_gss.h"

#include <stdlib.h>

struct gss_context {
	uint8_t sent, taken;
	bool broken;
};

static unsigned contexts;

struct gss_context *
toy_context(void)
{
	struct gss_context *c = calloc(1, sizeof *c);
	contexts += c != NULL;
	return c;
}

void
toy_break(struct gss_context *c)
{
	c->broken = true;
}

unsigned
toy_contexts(void)
{
	return contexts;
}

void
gss_context_free(struct gss_context *c)
{
	contexts -= c != NULL;
	free(c);
}

size_t
gss_context_wrap_max(struct gss_context *c, bool secret)
{
	(void)secret;
	return c->broken ? 0 : GSS_TOKEN_MAX - TOY_OVERHEAD;
}

static uint8_t
sum_of(const uint8_t *bytes, size_t len)
{
	uint8_t sum = 1;
	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum * 3 + bytes[i]);
	return sum;
}

uint8_t *
gss_context_wrap(struct gss_context *c, bool secret, const void *bytes, size_t len, size_t room,
    size_t *token_len)
{
	uint8_t *out = c->broken ? NULL : malloc(room + len + TOY_OVERHEAD);
	if (out == NULL)
		return NULL;
	uint8_t *token = out + room;
	token[0] = c->sent++;
	token[1] = secret;
	for (size_t i = 0; i < len; i++)
		token[2 + i] = ((const uint8_t *)bytes)[i] ^ 0x5a;
	token[2 + len] = sum_of(token, 2 + len);
	*token_len = len + TOY_OVERHEAD;
	return out;
}

bool
gss_context_unwrap(struct gss_context *c, bool secret, enum gss_order order, uint8_t *token, size_t len,
    size_t *at, size_t *n)
{
	if (len < TOY_OVERHEAD || token[len - 1] != sum_of(token, len - 1) || token[1] != secret ||
	    (order == GSS_IN_ORDER && token[0] != c->taken))
		return false;
	c->taken++;
	*at = 2;
	*n = len - TOY_OVERHEAD;
	for (size_t i = 0; i < *n; i++)
		token[*at + i] ^= 0x5a;
	return true;
}
