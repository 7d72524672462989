#include "router/relay.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct pipe {
	struct list link;
	int read_end, write_end;
	size_t len, cap;
};

struct leftover {
	size_t len, at;
	uint8_t bytes[];
};

enum pump {
	PUMP_WAITS,            /* for an event */
	PUMP_MORE,             /* gave way: there may be more */
	PUMP_ENDED,
};

/* ---- pool ---- */

static void on_turn(struct loop_task *t);

bool
relay_pool_init(struct relay_pool *p, struct loop *l, struct counters *c, relay_end_cb *on_end)
{
	*p = (struct relay_pool){ .loop = l, .counters = c, .on_end = on_end, .max_pipes = RELAY_PIPES_MAX, .buffer = malloc(RELAY_BUFFER_BYTES) };
	list_init(&p->free_pipes);
	list_init(&p->busy);
	loop_task_init(&p->turn, on_turn);
	return p->buffer != NULL;
}

static void
pipe_close(struct relay_pool *p, struct pipe *pipe)
{
	close(pipe->read_end);
	close(pipe->write_end);
	free(pipe);
	p->n_pipes--;
}

void
relay_pool_bound(struct relay_pool *p, unsigned max_pipes)
{
	p->max_pipes = max_pipes < RELAY_PIPES_MAX ? max_pipes : RELAY_PIPES_MAX;
}

void
relay_pool_shrink(struct relay_pool *p)
{
	struct list *node;
	while ((node = list_take_first(&p->free_pipes)) != NULL) {
		p->n_free_pipes--;
		pipe_close(p, LIST_OBJECT(node, struct pipe, link));
	}
}

void
relay_pool_free(struct relay_pool *p)
{
	if (p->buffer != NULL) {
		relay_pool_shrink(p);
		loop_undefer(p->loop, &p->turn);
	}
	free(p->buffer);
	p->buffer = NULL;
}

static struct pipe *
pipe_new(struct relay_pool *p)
{
	int ends[2];
	struct pipe *pipe = malloc(sizeof *pipe);
	if (pipe == NULL)
		return NULL;
	if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0) {
		free(pipe);
		return NULL;
	}
	*pipe = (struct pipe){ .read_end = ends[0], .write_end = ends[1] };
	list_init(&pipe->link);
	/* Past the kernel's quota for pipes this fails or stays small: then the pipe is what it is. */
	if (p->n_pipes < RELAY_PIPES_LARGE)
		(void)fcntl(ends[1], F_SETPIPE_SZ, RELAY_PIPE_BYTES);
	int size = fcntl(ends[1], F_GETPIPE_SZ);
	pipe->cap = size > 0 ? (size_t)size : 4096;
	p->n_pipes++;
	return pipe;
}

/* NULL: none is to be had; the caller copies. */
static struct pipe *
pipe_take(struct relay_pool *p)
{
	struct list *node = list_take_first(&p->free_pipes);
	if (node != NULL) {
		p->n_free_pipes--;
		return LIST_OBJECT(node, struct pipe, link);
	}
	return p->n_pipes < p->max_pipes ? pipe_new(p) : NULL;
}

/* Only an empty pipe serves again: what is left in one belongs to a session that is gone. */
static void
pipe_give_back(struct relay_pool *p, struct pipe *pipe)
{
	if (pipe->len > 0 || p->n_free_pipes >= RELAY_PIPES_LARGE / 2) {
		pipe_close(p, pipe);
		return;
	}
	list_insert_before(p->free_pipes.next, &pipe->link);   /* last in, first out: its pages are warm */
	p->n_free_pipes++;
}

/* ---- leftovers ---- */

/* Written by the worker alone: no read-modify-write is needed. */
static void
pool_holds(struct relay_pool *p, uint64_t more)
{
	uint64_t held = atomic_load_explicit(&p->held_bytes, memory_order_relaxed);
	atomic_store_explicit(&p->held_bytes, held + more, memory_order_relaxed);
}

static bool
flow_keep(struct relay_pool *p, struct flow *f, const uint8_t *bytes, size_t len)
{
	struct leftover *o = malloc(sizeof *o + len);
	if (o == NULL)
		return false;
	o->len = len;
	o->at = 0;
	memcpy(o->bytes, bytes, len);
	f->leftover = o;
	pool_holds(p, len);
	return true;
}

static void
flow_drop_leftover(struct relay_pool *p, struct flow *f)
{
	if (f->leftover == NULL)
		return;
	pool_holds(p, (uint64_t)0 - f->leftover->len);
	free(f->leftover);
	f->leftover = NULL;
}

static void
flow_drop_pipe(struct relay_pool *p, struct flow *f)
{
	if (f->pipe == NULL)
		return;
	pipe_give_back(p, f->pipe);
	f->pipe = NULL;
}

static void
flow_release(struct relay_pool *p, struct flow *f)
{
	flow_drop_leftover(p, f);
	flow_drop_pipe(p, f);
}

/* ---- one flow ---- */

/* A flow with what it runs between, put together for the time of one pump: a session keeps none of this. */
struct way {
	struct relay_pool *pool;
	struct flow *flow;
	const struct flow *other;
	struct stream *from, *to;
};

/* The destination can't be written to any more: what is under way is lost, the source is no longer read. */
static void
flow_give_up(const struct way *w)
{
	flow_release(w->pool, w->flow);
	w->flow->done = true;
	w->flow->broken = true;
}

/* True when nothing is left. */
static bool
flow_flush_leftover(const struct way *w)
{
	struct leftover *o = w->flow->leftover;
	while (o->at < o->len) {
		size_t n = 0;
		if (!(w->to->ready & STREAM_WRITABLE))
			return false;
		switch (stream_write(w->to, o->bytes + o->at, o->len - o->at, &n)) {
		case STREAM_OK:
			o->at += n;
			flow_count(w->flow, n);
			break;
		case STREAM_AGAIN:
			return false;
		default:
			flow_give_up(w);
			return true;
		}
	}
	flow_drop_leftover(w->pool, w->flow);
	return true;
}

static bool
flow_flush_pipe(const struct way *w)
{
	struct pipe *pipe = w->flow->pipe;
	while (pipe->len > 0) {
		if (!(w->to->ready & STREAM_WRITABLE))
			return false;
		ssize_t n = splice(pipe->read_end, NULL, w->to->fd, NULL, pipe->len,
				   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (n > 0) {
			pipe->len -= (size_t)n;
			flow_count(w->flow, (size_t)n);
		} else if (n < 0 && errno == EINTR) {
			continue;
		} else if (n < 0 && errno == EAGAIN) {
			w->to->ready &= (uint8_t)~STREAM_WRITABLE;
			return false;
		} else {
			w->to->error = (short)(n < 0 ? errno : EPIPE);
			flow_give_up(w);
			return true;
		}
	}
	return true;
}

static bool
flow_flush(const struct way *w)
{
	if (w->flow->leftover != NULL && !flow_flush_leftover(w))
		return false;
	return w->flow->pipe == NULL || flow_flush_pipe(w);
}

/* What has been read and not delivered, when memory for it fails, can only end the flow. */
static void
flow_deliver(const struct way *w, const uint8_t *bytes, size_t len)
{
	size_t n = 0;
	if (w->to->ready & STREAM_WRITABLE) {
		switch (stream_write(w->to, bytes, len, &n)) {
		case STREAM_OK:
			flow_count(w->flow, n);
			break;
		case STREAM_AGAIN:
			n = 0;
			break;
		default:
			flow_give_up(w);
			return;
		}
	}
	if (n < len && !flow_keep(w->pool, w->flow, bytes + n, len - n))
		flow_give_up(w);
}

static bool
flow_can_splice(const struct way *w)
{
	return !w->flow->no_splice && stream_can_splice_in(w->from) && stream_can_splice_out(w->to);
}

/* One read and one send through the worker's buffer. Returns the bytes that were read. */
static size_t
flow_copy(const struct way *w)
{
	size_t n = 0;
	switch (stream_read(w->from, w->pool->buffer, RELAY_BUFFER_BYTES, &n)) {
	case STREAM_OK:
		w->flow->bulk = n == RELAY_BUFFER_BYTES && flow_can_splice(w);
		flow_deliver(w, w->pool->buffer, n);
		return n;
	case STREAM_AGAIN:
		return 0;
	case STREAM_EOF:
		w->flow->ended = true;
		return 0;
	default:
		w->flow->ended = w->flow->broken = true;
		return 0;
	}
}

/* One splice into the pipe; the pump flushes it. Returns the bytes that were moved. */
static size_t
flow_splice(const struct way *w)
{
	if (w->flow->pipe == NULL && (w->flow->pipe = pipe_take(w->pool)) == NULL) {
		w->flow->bulk = false;
		return flow_copy(w);
	}
	ssize_t n = splice(w->from->fd, NULL, w->flow->pipe->write_end, NULL, w->flow->pipe->cap,
			   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	if (n > 0) {
		w->flow->pipe->len = (size_t)n;
		w->flow->bulk = n >= RELAY_BULK_LEAST;
		return (size_t)n;
	}
	if (n == 0 && w->from->tls == NULL) {
		w->flow->ended = true;
	} else if (n < 0 && errno == EAGAIN) {
		/* The pipe was empty, so it is the source that has nothing. */
		w->from->ready &= (uint8_t)~STREAM_READABLE;
	} else if (n == 0 || errno == EINVAL) {
		/* Not for splicing; of TLS, what isn't data, and whether its end was told. */
		w->flow->no_splice = true;
		w->flow->bulk = false;
		flow_drop_pipe(w->pool, w->flow);
	} else if (errno != EINTR) {
		w->from->error = (short)errno;
		w->flow->ended = w->flow->broken = true;
	}
	return 0;
}

/*
 * All is delivered and the source is at its end: say so to the destination. Where the other direction has ended too, the close
 * that follows at once says it as well (nothing is unread then, so it is a FIN), and saves a system call; TLS must say it itself.
 */
static enum pump
flow_finish(const struct way *w)
{
	flow_release(w->pool, w->flow);
	bool close_says_it = w->other->done && w->other->ended && w->to->tls == NULL;
	if (!w->flow->broken && !close_says_it && stream_shut_write(w->to) == STREAM_AGAIN)
		return PUMP_WAITS;
	w->flow->done = true;
	return PUMP_ENDED;
}

/* To seal or open costs ten times what TLS does, so such a flow gives way sooner. */
static size_t
turn_bytes(const struct way *w)
{
	bool sealed = w->from->gss != NULL || w->to->gss != NULL;
	return sealed ? RELAY_TURN_SEALED_BYTES : RELAY_TURN_BYTES;
}

static enum pump
flow_pump(const struct way *w)
{
	size_t moved = 0;
	while (!w->flow->done) {
		if (!flow_flush(w))
			return PUMP_WAITS;
		if (w->flow->done)
			break;
		if (w->flow->ended)
			return flow_finish(w);
		if (!(w->to->ready & STREAM_WRITABLE))
			return PUMP_WAITS;      /* reading now would only fill memory */
		if (!(w->from->ready & STREAM_READABLE)) {
			flow_drop_pipe(w->pool, w->flow);
			return PUMP_WAITS;
		}
		if (moved >= turn_bytes(w))
			return PUMP_MORE;
		size_t n = w->flow->bulk ? flow_splice(w) : flow_copy(w);
		size_t cost = n > RELAY_READ_LEAST ? n : RELAY_READ_LEAST;
		moved += cost;
		w->pool->spent += cost;
	}
	return PUMP_ENDED;
}

/* ---- both ---- */

static bool
relay_is_over(const struct relay *r)
{
	if (r->up.done && r->down.done)
		return true;
	/* A source that broke ends the session: the other direction's reader is gone. */
	return (r->up.done && r->up.ended && r->up.broken) || (r->down.done && r->down.ended && r->down.broken);
}

static enum relay_end
relay_how(const struct relay *r)
{
	if (!r->up.broken && !r->down.broken)
		return RELAY_DONE;
	/* up reads from the client and writes to the upstream; `ended` tells which of the two broke. */
	if (r->up.broken)
		return r->up.ended ? RELAY_CLIENT_BROKE : RELAY_UPSTREAM_BROKE;
	return r->down.ended ? RELAY_UPSTREAM_BROKE : RELAY_CLIENT_BROKE;
}

static int16_t
distance(const struct relay *r, const struct stream *s)
{
	ptrdiff_t far = (const char *)s - (const char *)r;
	assert(far >= INT16_MIN && far <= INT16_MAX);
	return (int16_t)far;
}

static struct stream *
stream_at(struct relay *r, int16_t far)
{
	return (struct stream *)(void *)((char *)r + far);
}

uint64_t
relay_idle_ms(const struct relay *r, struct loop *l)
{
	return (uint32_t)loop_now(l) - r->active_ms;
}

/* Nothing is under way and nothing came: most often the event was for the other direction. */
static bool
flow_rests(const struct flow *f, const struct stream *from)
{
	return f->leftover == NULL && f->pipe == NULL && !f->ended && !(from->ready & STREAM_READABLE);
}

static enum pump
relay_pump(struct relay *r, bool is_up)
{
	struct flow *f = is_up ? &r->up : &r->down;
	if (f->done)
		return PUMP_ENDED;
	if (flow_rests(f, stream_at(r, is_up ? r->client_at : r->upstream_at)))
		return PUMP_WAITS;
	struct way w = {
		.pool = r->pool,
		.flow = f,
		.other = is_up ? &r->down : &r->up,
		.from = stream_at(r, is_up ? r->client_at : r->upstream_at),
		.to = stream_at(r, is_up ? r->upstream_at : r->client_at),
	};
	uint64_t before = f->bytes;
	enum pump p = flow_pump(&w);
	if (f->bytes != before) {
		counter_add(r->pool->counters, is_up ? COUNTER_BYTES_UP : COUNTER_BYTES_DOWN, f->bytes - before);
		r->active_ms = (uint32_t)loop_now(r->pool->loop);
	}
	return p;
}

static void
relay_go_on_later(struct relay *r)
{
	if (!list_linked(&r->link))
		list_append(&r->pool->busy, &r->link);
	loop_defer(r->pool->loop, &r->pool->turn);
}

static void
relay_run(struct relay *r)
{
	enum pump up = relay_pump(r, true);
	enum pump down = relay_pump(r, false);
	if (relay_is_over(r)) {
		enum relay_end how = relay_how(r);
		relay_end_cb *on_end = r->pool->on_end;
		relay_stop(r);
		on_end(r, how);
		return;
	}
	if (up == PUMP_MORE || down == PUMP_MORE)
		relay_go_on_later(r);
}

static void
on_ready(struct stream *s, void *arg)
{
	struct relay *r = arg;
	(void)s;
	if (r->pool == NULL)
		return;
	if (r->up.bulk || r->down.bulk)
		relay_go_on_later(r);
	else
		relay_run(r);
}

/* One that gives way again has spent its turn, so this ends. */
static void
on_turn(struct loop_task *t)
{
	struct relay_pool *p = CONTAINER_OF(t, struct relay_pool, turn);
	uint64_t from = p->spent;
	struct list *node;
	while (p->spent - from < RELAY_TURN_BYTES && (node = list_take_first(&p->busy)) != NULL)
		relay_run(LIST_OBJECT(node, struct relay, link));
	if (!list_empty(&p->busy))
		loop_defer(p->loop, t);
}

static bool
flow_start(struct relay_pool *p, struct flow *f, const struct relay_head *head)
{
	*f = (struct flow){ .ended = head->ended };
	return head->len == 0 || flow_keep(p, f, head->bytes, head->len);
}

bool
relay_start(struct relay *r, struct relay_pool *p, struct stream *client, struct stream *upstream,
            const struct relay_head *to_upstream, const struct relay_head *to_client)
{
	*r = (struct relay){
		.pool = p,
		.client_at = distance(r, client),
		.upstream_at = distance(r, upstream),
		.active_ms = (uint32_t)loop_now(p->loop),
	};
	list_init(&r->link);
	if (!flow_start(p, &r->up, to_upstream) ||
	    !flow_start(p, &r->down, to_client)) {
		relay_stop(r);
		return false;
	}
	stream_set_callback(client, on_ready, r);
	stream_set_callback(upstream, on_ready, r);
	/* What is waiting already makes no new edge. */
	if (r->up.leftover != NULL || r->down.leftover != NULL || r->up.ended || r->down.ended ||
	    ((client->ready | upstream->ready) & STREAM_READABLE))
		relay_go_on_later(r);
	return true;
}

void
relay_stop(struct relay *r)
{
	if (r->pool == NULL)
		return;
	list_remove(&r->link);
	flow_release(r->pool, &r->up);
	flow_release(r->pool, &r->down);
	r->pool = NULL;                        /* an event that is still to come in this turn finds it over */
}
