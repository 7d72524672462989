/*
 * bind_wait: see the header.
 */
#include "upstream/bind_wait.h"

#include "base/buffer.h"
#include "base/loop.h"
#include "socks/hop.h"
#include "upstream/kinds.h"

#include <stdlib.h>

struct bind_wait {
	struct loop *loop;
	struct stream *stream;
	struct loop_task first; /* looks at what is there already */
	struct hop hop;
	struct buffer in;
	bind_wait_cb *cb;
	void *arg;
	uint8_t memory[HOP_IN_MAX];
};

static void
stop(struct bind_wait *b)
{
	loop_undefer(b->loop, &b->first);
	stream_set_callback(b->stream, NULL, NULL);
}

static void
tell(struct bind_wait *b)
{
	struct bind_wait_result r = {
		.verdict = b->hop.verdict,
		.peer = &b->hop.bound,
		.early = buffer_bytes(&b->in),
		.early_len = buffer_len(&b->in),
	};
	stop(b);
	b->cb(&r, b->arg);
	free(b);
}

/* False: nothing came. *eof: nothing more will. */
static bool
fetch(struct bind_wait *b, bool *eof)
{
	size_t n = 0, room = buffer_make_room(&b->in);
	*eof = room == 0;
	if (*eof)
		return true;
	if ((b->stream->ready & STREAM_READABLE) == 0)
		return false;
	switch (stream_read(b->stream, buffer_room(&b->in), room, &n)) {
	case STREAM_OK:
		buffer_filled(&b->in, n);
		return true;
	case STREAM_AGAIN:
		return false;
	case STREAM_EOF:
	case STREAM_ERROR:
		break;
	}
	*eof = true;
	return true;
}

static void
go_on(struct bind_wait *b, bool look_first)
{
	bool eof = false;
	while (look_first || fetch(b, &eof)) {
		look_first = false;
		if (hop_feed_second(&b->hop, &b->in, eof) != HOP_MORE) {
			tell(b);
			return;
		}
	}
}

static void
on_ready(struct stream *s, void *arg)
{
	(void)s;
	go_on(arg, false);
}

static void
on_first(struct loop_task *t)
{
	go_on(CONTAINER_OF(t, struct bind_wait, first), true);
}

struct bind_wait *
bind_wait_start(struct loop *l, enum upstream_scheme scheme, struct stream *s, const uint8_t *early,
		size_t early_len, bind_wait_cb *cb, void *arg)
{
	struct bind_wait *b = malloc(sizeof *b);
	if (b == NULL)
		return NULL;
	b->loop = l;
	b->stream = s;
	b->cb = cb;
	b->arg = arg;
	buffer_init(&b->in, b->memory, sizeof b->memory);
	if (!buffer_append(&b->in, early, early_len)) {
		free(b);
		return NULL;
	}
	loop_task_init(&b->first, on_first);
	hop_start_second(&b->hop, kind_ops(scheme));
	stream_set_callback(s, on_ready, b);
	loop_defer(l, &b->first);
	return b;
}

void
bind_wait_cancel(struct bind_wait *b)
{
	if (b == NULL)
		return;
	stop(b);
	free(b);
}
