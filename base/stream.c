/*
 * stream: base/stream.h over recv(2), send(2), tls.c and gss_layer.c. It keeps the bits; what to do
 * with them is the owner's.
 *
 * Why a look for resets, and not a second recv where an edge says READ and WRITE: that is how
 * libevent shows EPOLLERR, but an edge-triggered epoll reports all that is ready, so every arrival
 * on a writable socket says READ and WRITE.
 */
#include "base/stream.h"

#include "base/loop.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>

enum { STREAM_EVENTS = EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST };

static void on_look(struct look *k);

void
stream_init(struct stream *s, struct loop *l)
{
	/* The event is its first member, and whole once the stream is opened: event_assign asks nothing of it. */
	memset((char *)s + sizeof s->event, 0, sizeof *s - sizeof s->event);
	s->loop = l;
	s->fd = -1;
}

/* ---- edges ---- */

/* Tells the owner only what it does not know already. */
static void
latch(struct stream *s, uint8_t bits)
{
	uint8_t news = bits & (uint8_t)~s->ready;
	s->ready |= bits;
	if (news != 0 && s->on_ready != NULL)
		s->on_ready(s, s->arg);
}

static void
unlatch(struct stream *s, uint8_t bits)
{
	s->ready &= (uint8_t)~bits;
}

static uint8_t
bits_of_edge(const struct stream *s, short what)
{
	uint8_t bits = 0;
	if (what & EV_WRITE)
		bits |= STREAM_WRITABLE;
	if (what & EV_READ)
		bits |= STREAM_READABLE;
	if (what & EV_CLOSED)
		bits |= STREAM_READABLE | STREAM_HUP;
	if (s->read_wants_write && (what & EV_WRITE))
		bits |= STREAM_READABLE;
	if (s->write_wants_read && (what & EV_READ))
		bits |= STREAM_WRITABLE;
	return bits;
}

static void
on_event(evutil_socket_t fd, short what, void *arg)
{
	struct stream *s = arg;
	uint8_t bits = bits_of_edge(s, what);
	(void)fd;
	(void)loop_now(s->loop);
	/*
	 * A FIN that was read stays in every edge. One without it hides an error, so the owner has
	 * to look once more.
	 */
	if (s->read_end == STREAM_ERROR || (s->read_end == STREAM_EOF && (what & EV_CLOSED)))
		bits &= STREAM_WRITABLE;
	latch(s, bits);
}

static void
on_look(struct look *k)
{
	struct stream *s = CONTAINER_OF(k, struct stream, look);
	struct pollfd p = { .fd = s->fd, .events = POLLRDHUP };
	if (s->read_end == STREAM_OK && poll(&p, 1, 0) > 0)
		latch(s, STREAM_READABLE | STREAM_HUP);
}

/* ---- life ---- */

static bool
enlist(struct stream *s, int fd)
{
	return event_assign(&s->event, loop_base(s->loop), fd, STREAM_EVENTS, on_event, s) == 0 &&
	    event_add(&s->event, NULL) == 0;
}

bool
stream_open(struct stream *s, int fd, uint8_t ready, stream_cb *on_ready, void *arg)
{
	assert(!stream_is_open(s));
	stream_init(s, s->loop);
	if (!enlist(s, fd)) {
		int error = errno;
		close(fd);
		errno = error;
		return false;
	}
	s->fd = fd;
	s->ready = ready;
	s->on_ready = on_ready;
	s->arg = arg;
	return true;
}

void
stream_set_callback(struct stream *s, stream_cb *on_ready, void *arg)
{
	s->on_ready = on_ready;
	s->arg = arg;
}

/*
 * The second event on a descriptor costs libevent no system call, and neither does taking the first
 * one away. What the kernel said in this turn but `from` was not told yet would go with its event.
 */
bool
stream_move(struct stream *to, struct stream *from)
{
	assert(!stream_is_open(to) && stream_is_open(from) && to->loop == from->loop);
	struct event *old = &from->event;
	stream_init(to, from->loop);
	if (!enlist(to, from->fd))
		return false;
	short untold = old->ev_evcallback.evcb_flags & EVLIST_ACTIVE ? old->ev_res : 0;
	event_del(old);
	if (untold != 0)
		event_active(&to->event, untold, 0);
	if (look_waits(&from->look))
		loop_look_later(to->loop, &to->look, on_look);
	loop_look_off(from->loop, &from->look);

	to->tls = from->tls;
	to->gss = from->gss;
	to->on_ready = from->on_ready;
	to->arg = from->arg;
	to->fd = from->fd;
	to->error = from->error;
	to->ready = from->ready;
	to->read_end = from->read_end;
	to->write_shut = from->write_shut;
	to->broken = from->broken;
	to->read_wants_write = from->read_wants_write;
	to->write_wants_read = from->write_wants_read;
	stream_init(from, from->loop);
	return true;
}

void
stream_close(struct stream *s)
{
	if (!stream_is_open(s))
		return;
	loop_look_off(s->loop, &s->look);
	event_del(&s->event);
	gss_layer_free(s->gss);
	tls_free(s->tls);
	close(s->fd);
	s->gss = NULL;
	s->tls = NULL;
	s->fd = -1;
	s->ready = 0;
}

void
stream_reset(struct stream *s)
{
	struct linger at_once = { .l_onoff = 1, .l_linger = 0 };
	if (stream_is_open(s))
		(void)setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	stream_close(s);
}

/* ---- reading ---- */

static void
note_error(struct stream *s, int error)
{
	s->error = (short)error;
	if (error != EPIPE)
		s->broken = true;
}

static enum stream_status
end_reading(struct stream *s, enum stream_status how)
{
	s->read_end = how & 0xf;
	unlatch(s, STREAM_READABLE | STREAM_HUP);
	return how;
}

/* A reset after a FIN: recv(2) goes on saying 0. */
static enum stream_status
read_past_end(struct stream *s)
{
	bool told = s->ready & STREAM_READABLE;
	if (s->read_end == STREAM_EOF && told && stream_take_error(s) != 0)
		return end_reading(s, STREAM_ERROR);
	return end_reading(s, s->read_end);
}

static enum stream_status
read_plain(struct stream *s, void *out, size_t cap, size_t *n)
{
	ssize_t got;
	do
		got = recv(s->fd, out, cap, 0);
	while (got < 0 && errno == EINTR);
	if (got > 0) {
		*n = (size_t)got;
		if (*n < cap && !(s->ready & STREAM_HUP)) {
			unlatch(s, STREAM_READABLE);
			loop_look_later(s->loop, &s->look, on_look);
		}
		return STREAM_OK;
	}
	/* Whoever took the error of the socket left a 0 in its place. */
	if (got == 0)
		return end_reading(s, s->broken ? STREAM_ERROR : STREAM_EOF);
	if (errno == EAGAIN) {
		unlatch(s, STREAM_READABLE | STREAM_HUP);
		return STREAM_AGAIN;
	}
	note_error(s, errno);
	return end_reading(s, STREAM_ERROR);
}

static enum stream_status
read_tls(struct stream *s, void *out, size_t cap, size_t *n)
{
	s->read_wants_write = false;
	switch (tls_read(s->tls, out, cap, n)) {
	case TLS_OK:
		return STREAM_OK;
	case TLS_WANT_READ:
		unlatch(s, STREAM_READABLE | STREAM_HUP);
		return STREAM_AGAIN;
	case TLS_WANT_WRITE:
		s->read_wants_write = true;
		unlatch(s, STREAM_READABLE | STREAM_WRITABLE);
		return STREAM_AGAIN;
	case TLS_EOF:
		return end_reading(s, STREAM_EOF);
	case TLS_FAILED:
		break;
	}
	note_error(s, tls_error(s->tls));
	return end_reading(s, STREAM_ERROR);
}

/* What lies below the GSS layer. */
static enum stream_status
read_carrier(struct stream *s, void *out, size_t cap, size_t *n)
{
	*n = 0;
	return s->tls == NULL ? read_plain(s, out, cap, n) : read_tls(s, out, cap, n);
}

static enum stream_status
fail_reading(struct stream *s, int error)
{
	note_error(s, error);
	return end_reading(s, STREAM_ERROR);
}

/* No whole message is left, so the carrier's end is the end; if it lies within one it is a cut. */
static enum stream_status
read_frames_past_end(struct stream *s)
{
	bool cut = s->read_end == STREAM_EOF && gss_layer_is_cut(s->gss);
	return cut ? fail_reading(s, EPROTO) : read_past_end(s);
}

/* Fills the layer once. */
static enum stream_status
read_frames(struct stream *s)
{
	size_t cap, n;
	if (s->read_end != STREAM_OK)
		return read_frames_past_end(s);
	uint8_t *room = gss_layer_room(s->gss, &cap);
	if (room == NULL)
		return fail_reading(s, ENOMEM);
	enum stream_status status = read_carrier(s, room, cap, &n);
	gss_layer_filled(s->gss, n);
	return status == STREAM_EOF ? read_frames_past_end(s) : status;
}

static enum stream_status
read_gss(struct stream *s, void *out, size_t cap, size_t *n)
{
	enum stream_status status = STREAM_OK;
	do {
		switch (gss_layer_read(s->gss, out, cap, n)) {
		case GSS_LAYER_OK:
			if (gss_layer_has_more(s->gss))
				s->ready |= STREAM_READABLE;
			return STREAM_OK;
		case GSS_LAYER_FAILED:
			return fail_reading(s, EPROTO);
		case GSS_LAYER_MORE:
			status = read_frames(s);
		}
	} while (status == STREAM_OK);
	return status;
}

enum stream_status
stream_read(struct stream *s, void *out, size_t cap, size_t *n)
{
	assert(stream_is_open(s) && cap > 0);
	*n = 0;
	if (s->gss != NULL)
		return read_gss(s, out, cap, n);
	return s->read_end != STREAM_OK ? read_past_end(s) : read_carrier(s, out, cap, n);
}

/* ---- writing ---- */

enum stream_status
stream_waste(struct stream *s)
{
	uint8_t waste[512];
	size_t n;
	for (unsigned i = 0; i < STREAM_WASTE_READS && (s->ready & STREAM_READABLE); i++) {
		enum stream_status status = stream_read(s, waste, sizeof waste, &n);
		if (status != STREAM_OK)
			return status;
	}
	return s->ready & STREAM_READABLE ? STREAM_OK : STREAM_AGAIN;
}

static enum stream_status
fail_writing(struct stream *s, int error)
{
	note_error(s, error);
	unlatch(s, STREAM_WRITABLE);
	return STREAM_ERROR;
}

static enum stream_status
write_plain(struct stream *s, const void *bytes, size_t len, size_t *n)
{
	ssize_t put;
	do
		put = send(s->fd, bytes, len, MSG_NOSIGNAL);
	while (put < 0 && errno == EINTR);
	/* EINPROGRESS: fast open found no cookie after all, and the SYN went without the bytes. */
	if (put < 0 && errno != EAGAIN && errno != EINPROGRESS)
		return fail_writing(s, errno);
	*n = put > 0 ? (size_t)put : 0;
	if (*n < len)
		unlatch(s, STREAM_WRITABLE);
	return *n > 0 ? STREAM_OK : STREAM_AGAIN;
}

/* Record after record, so that a short count means here what it means there: the socket is full. */
static enum stream_status
write_tls(struct stream *s, const uint8_t *bytes, size_t len, size_t *n)
{
	enum tls_status status = TLS_OK;
	s->write_wants_read = false;
	while (*n < len && status == TLS_OK) {
		size_t put = 0;
		status = tls_write(s->tls, bytes + *n, len - *n, &put);
		*n += put;
	}
	if (status == TLS_FAILED) {
		/* What went before the failure is told first, the failure by the next call. */
		if (*n == 0)
			return fail_writing(s, tls_error(s->tls));
		return STREAM_OK;
	}
	s->write_wants_read = status == TLS_WANT_READ;
	if (*n < len)
		unlatch(s, STREAM_WRITABLE);
	return *n > 0 ? STREAM_OK : STREAM_AGAIN;
}

static enum stream_status
write_carrier(struct stream *s, const void *bytes, size_t len, size_t *n)
{
	*n = 0;
	return s->tls == NULL ? write_plain(s, bytes, len, n) : write_tls(s, bytes, len, n);
}

/* Sends what is pending; *n: how many of the owner's bytes that completes. OK: nothing is left. */
static enum stream_status
flush_gss(struct stream *s, size_t *n)
{
	enum stream_status status = STREAM_OK;
	const uint8_t *frame;
	size_t len, put;
	*n = 0;
	while (status == STREAM_OK && (frame = gss_layer_pending(s->gss, &len)) != NULL) {
		status = write_carrier(s, frame, len, &put);
		*n = gss_layer_sent(s->gss, put);
		/* Short, but not full: it failed behind that, and says so when asked again. */
		if (status == STREAM_OK && put < len && !(s->ready & STREAM_WRITABLE))
			status = STREAM_AGAIN;
	}
	return status;
}

/* Frame after frame, so that a short count means that the socket is full, as with TLS. */
static enum stream_status
write_gss(struct stream *s, const uint8_t *bytes, size_t len, size_t *n)
{
	enum stream_status status = STREAM_OK;
	while (status == STREAM_OK && *n < len) {
		size_t put = 0, ignored;
		if (gss_layer_pending(s->gss, &ignored) == NULL &&
		    !gss_layer_seal(s->gss, bytes + *n, len - *n))
			status = fail_writing(s, EPROTO);
		else
			status = flush_gss(s, &put);
		*n += put;
	}
	/* A failure is told by the next call where bytes went before it, and no edge would make that call. */
	if (*n > 0 && status == STREAM_ERROR)
		s->ready |= STREAM_WRITABLE;
	return *n > 0 ? STREAM_OK : status;
}

enum stream_status
stream_write(struct stream *s, const void *bytes, size_t len, size_t *n)
{
	assert(stream_is_open(s) && len > 0);
	*n = 0;
	return s->gss == NULL ? write_carrier(s, bytes, len, n) : write_gss(s, bytes, len, n);
}

enum stream_status
stream_shut_write(struct stream *s)
{
	size_t put;
	assert(stream_is_open(s));
	if (s->write_shut)
		return STREAM_OK;
	enum stream_status flushed = s->gss == NULL ? STREAM_OK : flush_gss(s, &put);
	if (flushed != STREAM_OK)
		return flushed;
	enum tls_status status = s->tls == NULL ? TLS_OK : tls_shut_write(s->tls);
	if (status == TLS_WANT_READ || status == TLS_WANT_WRITE) {
		s->write_wants_read = status == TLS_WANT_READ;
		unlatch(s, STREAM_WRITABLE);
		return STREAM_AGAIN;
	}
	s->write_shut = true;
	if (status != TLS_OK)
		return fail_writing(s, tls_error(s->tls));
	if (shutdown(s->fd, SHUT_WR) != 0)
		return fail_writing(s, errno);
	return STREAM_OK;
}

bool
stream_ended_above(const struct stream *s)
{
	return s->write_shut && s->read_end == STREAM_EOF && s->tls != NULL && tls_is_stacked(s->tls);
}

void
stream_strip(struct stream *s)
{
	assert(stream_ended_above(s));
	gss_layer_free(s->gss);
	s->gss = NULL;
	s->tls = tls_peel(s->tls);
	s->read_end = STREAM_OK;
	/* No edge comes for what waits already, nor for its end. */
	s->ready |= STREAM_READABLE | STREAM_HUP;
}

int
stream_take_error(struct stream *s)
{
	int error = 0;
	socklen_t len = sizeof error;
	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	if (error != 0)
		note_error(s, error);
	return error;
}

/* ---- TLS ---- */

/* What lay on top lies below from now on. */
static bool
sink_gss(struct stream *s)
{
	struct tls *sealed = s->gss == NULL ? NULL : tls_new_sealed(s->gss, s->fd, s->tls);
	if (s->gss != NULL && sealed == NULL)
		return false;
	if (sealed != NULL)
		s->tls = sealed;
	s->gss = NULL;
	return true;
}

bool
stream_start_tls(struct stream *s, struct tls *tls)
{
	if (!sink_gss(s)) {
		tls_free(tls);
		return false;
	}
	if (s->tls != NULL)
		tls_stack(tls, s->tls);
	s->tls = tls;
	return true;
}

enum stream_status
stream_handshake(struct stream *s)
{
	if (s->tls == NULL)
		return STREAM_OK;
	switch (tls_handshake(s->tls)) {
	case TLS_OK:
		return STREAM_OK;
	case TLS_WANT_READ:
		unlatch(s, STREAM_READABLE | STREAM_HUP);
		return STREAM_AGAIN;
	case TLS_WANT_WRITE:
		unlatch(s, STREAM_WRITABLE);
		return STREAM_AGAIN;
	case TLS_EOF:
	case TLS_FAILED:
		break;
	}
	note_error(s, tls_error(s->tls));
	return STREAM_ERROR;
}

/* ---- GSS-API ---- */

bool
stream_start_gss(struct stream *s, const struct gss_layer_options *o, const void *early,
    size_t early_len)
{
	assert(stream_is_open(s));
	struct gss_layer *layer = gss_layer_new(o);
	if (layer == NULL || !gss_layer_feed(layer, early, early_len) || !sink_gss(s)) {
		gss_layer_free(layer);
		return false;
	}
	s->gss = layer;
	/* An end that came before is told again, behind the early bytes. */
	if (gss_layer_has_more(layer) || s->read_end != STREAM_OK)
		s->ready |= STREAM_READABLE;
	return true;
}

struct gss_context *
stream_gss_context(const struct stream *s)
{
	return s->gss != NULL ? gss_layer_context(s->gss) : NULL;
}

bool
stream_gss_is_secret(const struct stream *s)
{
	return s->gss != NULL && gss_layer_is_secret(s->gss);
}

/* ---- splice ---- */

bool
stream_can_splice_in(const struct stream *s)
{
	return s->gss == NULL && (s->tls == NULL || tls_kernel_reads(s->tls));
}

bool
stream_can_splice_out(const struct stream *s)
{
	return s->gss == NULL && (s->tls == NULL || tls_kernel_writes(s->tls));
}
