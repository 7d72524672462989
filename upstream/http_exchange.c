/*
 * http_exchange: one HTTP request and its judged answer over a stream. See http_exchange.h.
 */
#include "upstream/http_exchange.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/loop.h"
#include "base/stream.h"
#include "upstream/http_probe.h"

struct http_exchange {
	struct loop *loop;
	struct stream *stream;
	http_exchange_cb *cb;
	void *arg;
	struct deadline deadline;
	struct loop_task first; /* what can be done at once */
	struct http_probe probe;
	struct buffer out;
	uint8_t request[HTTP_PROBE_REQUEST_MAX];
};

void
http_exchange_cancel(struct http_exchange *x)
{
	if (x == NULL)
		return;
	loop_clear_deadline(x->loop, &x->deadline);
	loop_undefer(x->loop, &x->first);
	stream_set_callback(x->stream, NULL, NULL);
	free(x);
}

static void
end(struct http_exchange *x, bool good, const char *why)
{
	http_exchange_cb *cb = x->cb;
	void *arg = x->arg;
	char text[sizeof x->probe.why];
	snprintf(text, sizeof text, "%s", why);
	http_exchange_cancel(x);
	cb(good, text, arg);
}

static void
on_late(struct deadline *d)
{
	end(CONTAINER_OF(d, struct http_exchange, deadline), false, "no HTTP answer in time");
}

/* A server that is gone may still have said why, so that is for reading to find out. */
static void
send_request(struct http_exchange *x)
{
	size_t n;
	while (buffer_len(&x->out) > 0) {
		switch (stream_write(x->stream, buffer_bytes(&x->out), buffer_len(&x->out), &n)) {
		case STREAM_OK:
			buffer_take(&x->out, n);
			break;
		case STREAM_AGAIN:
			return;
		case STREAM_EOF:
		case STREAM_ERROR:
			buffer_take(&x->out, buffer_len(&x->out));
			break;
		}
	}
}

/* What has come, judged. MORE: wait. */
static enum http_probe_result
hear(struct http_exchange *x)
{
	struct buffer *in = &x->probe.in;
	enum http_probe_result r = HTTP_PROBE_MORE;
	while (r == HTTP_PROBE_MORE) {
		size_t n = 0, room = buffer_make_room(in);
		enum stream_status status = stream_read(x->stream, buffer_room(in), room, &n);
		if (status == STREAM_AGAIN)
			break;
		buffer_filled(in, n);
		r = http_probe_feed(&x->probe, status != STREAM_OK);
	}
	return r;
}

static void
go_on(struct http_exchange *x)
{
	send_request(x);
	enum http_probe_result r = hear(x);
	if (r != HTTP_PROBE_MORE)
		end(x, r == HTTP_PROBE_GOOD, x->probe.why);
}

static void
on_ready(struct stream *s, void *arg)
{
	(void)s;
	go_on(arg);
}

static void
on_first(struct loop_task *t)
{
	struct http_exchange *x = CONTAINER_OF(t, struct http_exchange, first);
	enum http_probe_result r = HTTP_PROBE_MORE;
	if (buffer_len(&x->probe.in) > 0)
		r = http_probe_feed(&x->probe, false);
	if (r == HTTP_PROBE_MORE)
		go_on(x);
	else
		end(x, r == HTTP_PROBE_GOOD, x->probe.why);
}

struct http_exchange *
http_exchange_start(struct loop *l, struct stream *s, const struct policy_health *conf,
		    const uint8_t *early, size_t early_len, uint64_t timeout_ms,
		    http_exchange_cb *cb, void *arg)
{
	struct http_exchange *x = calloc(1, sizeof *x);
	if (x == NULL)
		return NULL;
	x->loop = l;
	x->stream = s;
	x->cb = cb;
	x->arg = arg;
	deadline_init(&x->deadline, on_late);
	loop_task_init(&x->first, on_first);
	http_probe_init(&x->probe, conf);
	buffer_init(&x->out, x->request, sizeof x->request);
	buffer_filled(&x->out, http_probe_request(&x->probe, x->request));
	/* whoever says more than that before it is asked is no HTTP server */
	(void)buffer_append(&x->probe.in, early, early_len < HTTP_PROBE_IN_MAX ? early_len : 0);
	stream_set_callback(s, on_ready, x);
	loop_set_deadline(l, &x->deadline, timeout_ms);
	loop_defer(l, &x->first);
	return x;
}
