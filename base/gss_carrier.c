#include "base/gss_carrier.h"

#include <errno.h>
#include <stdlib.h>

#include <sys/socket.h>

#include "base/gss_layer.h"

struct gss_carrier {
	struct gss_layer *layer;
	struct tls *below;                     /* NULL: the socket */
	int fd, error;
};

struct gss_carrier *
gss_carrier_new(struct gss_layer *l, int fd, struct tls *below)
{
	struct gss_carrier *c = calloc(1, sizeof *c);
	if (c == NULL)
		return NULL;
	c->layer = l;
	c->fd = fd;
	c->below = below;
	return c;
}

void
gss_carrier_free(struct gss_carrier *c)
{
	if (c == NULL)
		return;
	gss_layer_free(c->layer);
	free(c);
}

int
gss_carrier_error(const struct gss_carrier *c)
{
	return c->error;
}

static enum tls_status
fail(struct gss_carrier *c, int error)
{
	c->error = error;
	return TLS_FAILED;
}

/* ---- what lies below ---- */

static enum tls_status
read_socket(struct gss_carrier *c, void *out, size_t cap, size_t *n)
{
	ssize_t got;
	do
		got = recv(c->fd, out, cap, 0);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN ? TLS_WANT_READ : fail(c, errno);
	*n = (size_t)got;
	return got == 0 ? TLS_EOF : TLS_OK;
}

static enum tls_status
write_socket(struct gss_carrier *c, const void *bytes, size_t len, size_t *n)
{
	ssize_t put;
	do
		put = send(c->fd, bytes, len, MSG_NOSIGNAL);
	while (put < 0 && errno == EINTR);
	if (put < 0)
		return errno == EAGAIN ? TLS_WANT_WRITE : fail(c, errno);
	*n = (size_t)put;
	return TLS_OK;
}

static enum tls_status
read_below(struct gss_carrier *c, void *out, size_t cap, size_t *n)
{
	*n = 0;
	if (c->below == NULL)
		return read_socket(c, out, cap, n);
	enum tls_status status = tls_read(c->below, out, cap, n);
	return status == TLS_FAILED ? fail(c, tls_error(c->below)) : status;
}

static enum tls_status
write_below(struct gss_carrier *c, const void *bytes, size_t len, size_t *n)
{
	*n = 0;
	if (c->below == NULL)
		return write_socket(c, bytes, len, n);
	enum tls_status status = tls_write(c->below, bytes, len, n);
	return status == TLS_FAILED ? fail(c, tls_error(c->below)) : status;
}

/* ---- messages ---- */

enum tls_status
gss_carrier_read(struct gss_carrier *c, void *out, size_t cap, size_t *n)
{
	for (;;) {
		size_t room, got;
		enum gss_layer_status status = gss_layer_read(c->layer, out, cap, n);
		if (status != GSS_LAYER_MORE)
			return status == GSS_LAYER_OK ? TLS_OK : fail(c, EPROTO);
		uint8_t *into = gss_layer_room(c->layer, &room);
		if (into == NULL)
			return fail(c, ENOMEM);
		enum tls_status below = read_below(c, into, room, &got);
		gss_layer_filled(c->layer, got);
		if (below == TLS_EOF && gss_layer_is_cut(c->layer))
			return fail(c, EPROTO);
		if (below != TLS_OK)
			return below;
	}
}

/* Until nothing is pending; *n: how many bytes of the owner's that completes. */
static enum tls_status
flush(struct gss_carrier *c, size_t *n)
{
	enum tls_status status = TLS_OK;
	const uint8_t *frame;
	size_t len, put;
	*n = 0;
	while (status == TLS_OK && (frame = gss_layer_pending(c->layer, &len)) != NULL) {
		status = write_below(c, frame, len, &put);
		if (put > 0)
			*n = gss_layer_sent(c->layer, put);
	}
	return status;
}

enum tls_status
gss_carrier_write(struct gss_carrier *c, const void *bytes, size_t len, size_t *n)
{
	size_t ignored;
	*n = 0;
	if (gss_layer_pending(c->layer, &ignored) == NULL && !gss_layer_seal(c->layer, bytes, len))
		return fail(c, EPROTO);
	return flush(c, n);
}

enum tls_status
gss_carrier_flush(struct gss_carrier *c)
{
	size_t ignored;
	return flush(c, &ignored);
}
