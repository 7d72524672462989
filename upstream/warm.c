/*
 * warm: connections to upstreams, opened ahead of need. See warm.h.
 *
 *   OPENING --authenticated--> READY --taken, closed, too old, slots all gone--> gone
 */
#include "upstream/warm.h"

#include <stdlib.h>

#include "base/loop.h"
#include "base/stream.h"

struct warm_set;

/* One connection. */
struct held {
	struct list link; /* in its set: opening, or ready with the oldest first */
	struct warm_set *set;
	struct dial *dial; /* while it opens */
	struct stream stream;
	struct endpoint peer, local;
	struct deadline age;
};

/* Of one upstream. */
struct warm_set {
	struct warm *warm;
	uint32_t upstream, wanted, max;
	uint64_t max_age_ms, retry_ms, not_before_ms;
	struct board_entry *entry;
	struct list opening, ready;
	size_t n_opening, n_ready;
	struct deadline look;
};

struct warm {
	struct loop *loop;
	struct dialer *dialer;
	struct fleet *fleet;
	struct warm_set *sets;
	size_t n_sets;
};

static void set_fill(struct warm_set *s);
static void set_wait(struct warm_set *s);

/* ---- one connection ---- */

static void
give_back(struct warm_set *s)
{
	atomic_fetch_sub_explicit(&s->entry->warm, 1, memory_order_relaxed);
	board_give_back_slot(s->entry);
}

/* Its slot goes back. */
static void
held_drop(struct held *h)
{
	struct warm_set *s = h->set;
	if (h->dial != NULL)
		s->n_opening--;
	else
		s->n_ready--;
	list_remove(&h->link);
	dial_cancel(h->dial);
	stream_close(&h->stream);
	loop_clear_deadline(s->warm->loop, &h->age);
	give_back(s);
	free(h);
}

/* Nothing may come before it is asked. TLS has words of its own, which reading takes. */
static bool
is_quiet(struct stream *s)
{
	uint8_t byte;
	size_t n;
	s->ready |= STREAM_READABLE;
	return stream_read(s, &byte, 1, &n) == STREAM_AGAIN;
}

static void
on_heard(struct stream *stream, void *arg)
{
	struct held *h = arg;
	struct warm_set *s = h->set;
	if ((stream->ready & (STREAM_READABLE | STREAM_HUP)) == 0 || is_quiet(stream))
		return;
	held_drop(h);
	set_wait(s);
	set_fill(s);
}

static void
on_old(struct deadline *d)
{
	struct held *h = CONTAINER_OF(d, struct held, age);
	struct warm_set *s = h->set;
	held_drop(h);
	set_fill(s);
}

/* ---- opening ---- */

static void
look_after(struct warm_set *s, uint64_t ms)
{
	if (!deadline_armed(&s->look))
		loop_set_deadline(s->warm->loop, &s->look, ms);
}

static void
on_opened(const struct dial_result *r, void *arg)
{
	struct held *h = arg;
	struct warm_set *s = h->set;
	if (r->verdict != VERDICT_GRANTED || r->early_len > 0) {
		held_drop(h); /* the dial is in its own callback: cancelling it does nothing */
		set_wait(s);
		set_fill(s);
		return;
	}
	h->dial = NULL;
	h->peer = r->peer;
	h->local = r->bound;
	list_remove(&h->link);
	list_append(&s->ready, &h->link);
	s->n_opening--;
	s->n_ready++;
	stream_set_callback(&h->stream, on_heard, h);
	loop_set_deadline(s->warm->loop, &h->age, s->max_age_ms);
	if (s->max > 0)
		look_after(s, WARM_LOOK_MS);
	on_heard(&h->stream, h); /* an end that came with the last answer makes no edge of its own */
}

/* False: nothing more can be opened now. */
static bool
open_one(struct warm_set *s)
{
	struct warm *w = s->warm;
	struct path path = { .n_hops = 1, .hops = { s->upstream }, .hop_pick = { UINT8_MAX } };
	struct dial_request request = {
		.fleet = w->fleet,
		.route = { ROUTE_UPSTREAM, s->upstream },
		.command = SOCKS_CONNECT,
		.timeout_ms = WARM_DIAL_MS,
		.fixed = &path,
		.until = DIAL_UNTIL_AUTHENTICATED,
	};
	struct held *h = calloc(1, sizeof *h);
	/* one more slot must be free beside it */
	if (h == NULL || (s->max > 0 && board_in_use(s->entry) + 1 >= s->max) ||
	    !board_take_slot(s->entry, s->max)) {
		free(h);
		return false;
	}
	atomic_fetch_add_explicit(&s->entry->warm, 1, memory_order_relaxed);
	h->set = s;
	stream_init(&h->stream, w->loop);
	deadline_init(&h->age, on_old);
	list_init(&h->link);
	list_append(&s->opening, &h->link);
	s->n_opening++;
	h->dial = dial_start(w->dialer, &request, &h->stream, on_opened, h);
	if (h->dial != NULL)
		return true;
	s->n_opening--;
	list_remove(&h->link);
	give_back(s);
	free(h);
	return false;
}

static void
set_fill(struct warm_set *s)
{
	uint64_t now = loop_now(s->warm->loop);
	bool ok = board_usable(s->entry) && now >= s->not_before_ms;
	while (ok && s->n_opening + s->n_ready < s->wanted)
		ok = open_one(s);
	if (s->n_opening + s->n_ready < s->wanted)
		look_after(s, now < s->not_before_ms ? s->not_before_ms - now : WARM_RETRY_MS);
}

/* One was of no use: the next not at once, and longer each time until one is. */
static void
set_wait(struct warm_set *s)
{
	s->not_before_ms = loop_now(s->warm->loop) + s->retry_ms;
	s->retry_ms = s->retry_ms * 2 < WARM_RETRY_MAX_MS ? s->retry_ms * 2 : WARM_RETRY_MAX_MS;
}

/* Gives way where all slots are taken, or the upstream is out; fills up where it is not. */
static void
on_look(struct deadline *d)
{
	struct warm_set *s = CONTAINER_OF(d, struct warm_set, look);
	bool usable = board_usable(s->entry);
	while (s->n_ready > 0 &&
	       (!usable || (s->max > 0 && board_in_use(s->entry) >= s->max)))
		held_drop(LIST_OBJECT(s->ready.next, struct held, link));
	set_fill(s);
	if (s->max > 0 && s->n_ready > 0)
		look_after(s, WARM_LOOK_MS);
}

/* ---- sets ---- */

static void
sets_free(struct warm *w)
{
	for (size_t i = 0; i < w->n_sets; i++) {
		struct warm_set *s = &w->sets[i];
		loop_clear_deadline(w->loop, &s->look);
		while (!list_empty(&s->opening))
			held_drop(LIST_OBJECT(s->opening.next, struct held, link));
		while (!list_empty(&s->ready))
			held_drop(LIST_OBJECT(s->ready.next, struct held, link));
	}
	free(w->sets);
	w->sets = NULL;
	w->n_sets = 0;
	fleet_unref(w->fleet);
	w->fleet = NULL;
}

static void
set_init(struct warm *w, struct warm_set *s, uint32_t upstream, unsigned n_workers)
{
	const struct policy_upstream *u = &fleet_policy(w->fleet)->upstreams[upstream];
	*s = (struct warm_set){
		.warm = w,
		.upstream = upstream,
		.wanted = (u->warm + n_workers - 1) / n_workers,
		.max = u->max_connections,
		.max_age_ms = u->warm_max_age_ms,
		.retry_ms = WARM_RETRY_MS,
		.entry = fleet_upstream(w->fleet, upstream),
	};
	list_init(&s->opening);
	list_init(&s->ready);
	deadline_init(&s->look, on_look);
}

void
warm_use(struct warm *w, struct fleet *f, unsigned n_workers)
{
	sets_free(w);
	if (f == NULL)
		return;
	const struct policy *p = fleet_policy(f);
	size_t n = 0;
	for (size_t i = 0; i < p->n_upstreams; i++)
		n += p->upstreams[i].warm > 0;
	if (n == 0 || (w->sets = calloc(n, sizeof *w->sets)) == NULL)
		return; /* dials open their own */
	w->fleet = fleet_ref(f);
	for (uint32_t i = 0; i < p->n_upstreams; i++)
		if (p->upstreams[i].warm > 0)
			set_init(w, &w->sets[w->n_sets++], i, n_workers);
	for (size_t i = 0; i < w->n_sets; i++)
		set_fill(&w->sets[i]);
}

static struct warm_set *
find_set(const struct warm *w, uint32_t upstream)
{
	size_t from = 0, to = w->n_sets;
	while (from < to) {
		size_t middle = from + (to - from) / 2;
		if (w->sets[middle].upstream < upstream)
			from = middle + 1;
		else
			to = middle;
	}
	return from < w->n_sets && w->sets[from].upstream == upstream ? &w->sets[from] : NULL;
}

bool
warm_take(struct warm *w, const struct fleet *f, uint32_t upstream, struct stream *out,
	  struct endpoint *peer, struct endpoint *local)
{
	struct warm_set *s = w->fleet == f ? find_set(w, upstream) : NULL;
	bool taken = false;
	while (s != NULL && !taken && s->n_ready > 0) {
		struct held *h = LIST_OBJECT(s->ready.next, struct held, link);
		taken = is_quiet(&h->stream) && stream_move(out, &h->stream);
		if (taken)
			s->retry_ms = WARM_RETRY_MS;
		*peer = h->peer;
		*local = h->local;
		held_drop(h);
	}
	if (s != NULL)
		set_fill(s);
	return taken;
}

size_t
warm_ready(const struct warm *w, uint32_t upstream)
{
	const struct warm_set *s = find_set(w, upstream);
	return s == NULL ? 0 : s->n_ready;
}

/* ---- life ---- */

struct warm *
warm_new(struct loop *l, struct dialer *d)
{
	struct warm *w = calloc(1, sizeof *w);
	if (w == NULL)
		return NULL;
	w->loop = l;
	w->dialer = d;
	return w;
}

void
warm_free(struct warm *w)
{
	if (w == NULL)
		return;
	sets_free(w);
	free(w);
}
