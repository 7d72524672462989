#include "base/gss_layer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/gss_context.h"

/*
 * The read buffer, while a message is being given out and frames wait behind it:
 *
 *   in [ ... message ... trailer | frame | begun ...   ]
 *            plain_at            head          tail     cap
 */
struct gss_layer {
	struct gss_layer_options conf;
	size_t seal_max;
	uint8_t *in;                           /* NULL: nothing is there */
	size_t cap, head, tail;
	size_t plain_at, plain_len;            /* opened, not given out yet */
	unsigned n_empty;
	bool failed;
	uint8_t *out;                          /* a frame on its way; NULL: none is */
	size_t out_len, out_at, owed;          /* owed: the owner's bytes in it */
};

struct gss_layer *
gss_layer_new(const struct gss_layer_options *o)
{
	size_t most = gss_context_wrap_max(o->context, o->secret);
	struct gss_layer *l = most > 0 ? calloc(1, sizeof *l) : NULL;
	if (l == NULL) {
		gss_context_free(o->context);
		return NULL;
	}
	l->conf = *o;
	l->seal_max = most < GSS_LAYER_SEAL_MAX ? most : GSS_LAYER_SEAL_MAX;
	return l;
}

void
gss_layer_free(struct gss_layer *l)
{
	if (l == NULL)
		return;
	gss_context_free(l->conf.context);
	free(l->in);
	free(l->out);
	free(l);
}

struct gss_context *
gss_layer_context(const struct gss_layer *l)
{
	return l->conf.context;
}

bool
gss_layer_is_secret(const struct gss_layer *l)
{
	return l->conf.secret;
}

/* ---- frames that come ---- */

/* What lies at the head. OK: a whole frame, of a token of *len bytes. */
static enum gss_layer_status
look(const struct gss_layer *l, size_t *len)
{
	size_t n = l->tail - l->head;
	*len = 0;
	if (n == 0)
		return GSS_LAYER_MORE;
	const uint8_t *frame = l->in + l->head;
	if (frame[0] != l->conf.prefix[0] || (n > 1 && frame[1] != l->conf.prefix[1]))
		return GSS_LAYER_FAILED;
	if (n < GSS_HEADER)
		return GSS_LAYER_MORE;
	*len = (size_t)frame[2] << 8 | frame[3];
	if (*len == 0)
		return GSS_LAYER_FAILED;
	return n - GSS_HEADER >= *len ? GSS_LAYER_OK : GSS_LAYER_MORE;
}

static void
drop_empty_buffer(struct gss_layer *l)
{
	if (l->plain_len > 0 || l->head < l->tail)
		return;
	free(l->in);
	l->in = NULL;
	l->cap = l->head = l->tail = 0;
}

/* Opens the frame at the head, if there is one. OK: it has been taken; it may have been empty. */
static enum gss_layer_status
open_frame(struct gss_layer *l)
{
	size_t len, at;
	enum gss_layer_status status = look(l, &len);
	if (status != GSS_LAYER_OK)
		return status;
	uint8_t *token = l->in + l->head + GSS_HEADER;
	if (!gss_context_unwrap(l->conf.context, l->conf.secret, GSS_IN_ORDER, token, len, &at,
	    &l->plain_len))
		return GSS_LAYER_FAILED;
	l->plain_at = l->head + GSS_HEADER + at;
	l->head += GSS_HEADER + len;
	l->n_empty = l->plain_len > 0 ? 0 : l->n_empty + 1;
	return l->n_empty > GSS_LAYER_EMPTY_MAX ? GSS_LAYER_FAILED : GSS_LAYER_OK;
}

enum gss_layer_status
gss_layer_read(struct gss_layer *l, void *out, size_t cap, size_t *n)
{
	*n = 0;
	while (l->plain_len == 0) {
		enum gss_layer_status status = l->failed ? GSS_LAYER_FAILED : open_frame(l);
		l->failed = status == GSS_LAYER_FAILED;
		drop_empty_buffer(l);
		if (status != GSS_LAYER_OK)
			return status;
	}
	*n = l->plain_len < cap ? l->plain_len : cap;
	memcpy(out, l->in + l->plain_at, *n);
	l->plain_at += *n;
	l->plain_len -= *n;
	drop_empty_buffer(l);
	return GSS_LAYER_OK;
}

bool
gss_layer_has_more(const struct gss_layer *l)
{
	size_t len;
	return l->failed || l->plain_len > 0 || look(l, &len) != GSS_LAYER_MORE;
}

bool
gss_layer_is_cut(const struct gss_layer *l)
{
	return l->head < l->tail;
}

/* Room for all of the frame that is begun, or for as much as is read at once. */
static bool
make_room(struct gss_layer *l, size_t least)
{
	size_t len, begun = l->tail - l->head;
	(void)look(l, &len);
	size_t want = GSS_HEADER + len > begun + least ? GSS_HEADER + len : begun + least;
	if (want < GSS_LAYER_READ)
		want = GSS_LAYER_READ;
	assert(l->plain_len == 0);
	if (l->head > 0)
		memmove(l->in, l->in + l->head, begun);
	l->head = 0;
	l->tail = begun;
	if (want <= l->cap)
		return true;
	uint8_t *larger = realloc(l->in, want);
	if (larger == NULL)
		return false;
	l->in = larger;
	l->cap = want;
	return true;
}

bool
gss_layer_feed(struct gss_layer *l, const void *bytes, size_t len)
{
	if (len == 0)
		return true;
	if (!make_room(l, len))
		return false;
	memcpy(l->in + l->tail, bytes, len);
	l->tail += len;
	return true;
}

uint8_t *
gss_layer_room(struct gss_layer *l, size_t *cap)
{
	if (!make_room(l, 1))
		return NULL;
	*cap = l->cap - l->tail;
	return l->in + l->tail;
}

void
gss_layer_filled(struct gss_layer *l, size_t n)
{
	assert(n <= l->cap - l->tail);
	l->tail += n;
	drop_empty_buffer(l);
}

/* ---- frames that go ---- */

bool
gss_layer_seal(struct gss_layer *l, const void *bytes, size_t len)
{
	size_t n = len < l->seal_max ? len : l->seal_max, token_len;
	assert(l->out == NULL && len > 0);
	uint8_t *frame = gss_context_wrap(l->conf.context, l->conf.secret, bytes, n, GSS_HEADER,
	    &token_len);
	if (frame == NULL)
		return false;
	assert(token_len <= GSS_TOKEN_MAX);
	memcpy(frame, l->conf.prefix, sizeof l->conf.prefix);
	frame[2] = (uint8_t)(token_len >> 8);
	frame[3] = (uint8_t)token_len;
	l->out = frame;
	l->out_len = GSS_HEADER + token_len;
	l->out_at = 0;
	l->owed = n;
	return true;
}

const uint8_t *
gss_layer_pending(const struct gss_layer *l, size_t *len)
{
	if (l->out == NULL)
		return NULL;
	*len = l->out_len - l->out_at;
	return l->out + l->out_at;
}

size_t
gss_layer_sent(struct gss_layer *l, size_t n)
{
	assert(l->out != NULL && n <= l->out_len - l->out_at);
	l->out_at += n;
	if (l->out_at < l->out_len)
		return 0;
	free(l->out);
	l->out = NULL;
	return l->owed;
}
