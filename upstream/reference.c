/*
 * reference: targets that are dialled direct when a check has failed. See reference.h.
 */
#include "upstream/reference.h"

#include <stdlib.h>

#include "base/loop.h"
#include "base/stream.h"

struct reference {
	struct list link; /* in references.all */
	struct references *owner;
	struct endpoint target;
	struct dial *dial; /* NULL: none under way */
	struct stream stream;
	struct list waits;
	struct loop_task tell; /* the answer at hand */
	uint64_t passed_ms, asked_ms;
	bool known, reachable;
};

struct references {
	struct loop *loop;
	struct dialer *dialer;
	struct list all;
};

struct references *
references_new(struct loop *l, struct dialer *d)
{
	struct references *all = calloc(1, sizeof *all);
	if (all == NULL)
		return NULL;
	all->loop = l;
	all->dialer = d;
	list_init(&all->all);
	return all;
}

void
references_free(struct references *all)
{
	if (all == NULL)
		return;
	while (!list_empty(&all->all)) {
		struct reference *r = LIST_OBJECT(all->all.next, struct reference, link);
		list_remove(&r->link);
		dial_cancel(r->dial);
		loop_undefer(all->loop, &r->tell);
		stream_close(&r->stream);
		free(r);
	}
	free(all);
}

/* Who asks from inside `told` waits for the next answer. */
static void
tell_all(struct reference *r)
{
	struct list now;
	list_init(&now);
	list_move_all(&now, &r->waits);
	while (!list_empty(&now)) {
		struct reference_wait *w = LIST_OBJECT(now.next, struct reference_wait, link);
		list_remove(&w->link);
		w->told(w, r->reachable);
	}
}

static void
on_tell(struct loop_task *t)
{
	tell_all(CONTAINER_OF(t, struct reference, tell));
}

struct reference *
references_find(struct references *all, const struct endpoint *target)
{
	LIST_FOR_EACH(&all->all, link) {
		struct reference *r = LIST_OBJECT(link, struct reference, link);
		if (endpoint_equal(&r->target, target))
			return r;
	}
	struct reference *r = calloc(1, sizeof *r);
	if (r == NULL)
		return NULL;
	r->owner = all;
	r->target = *target;
	list_init(&r->waits);
	list_init(&r->link);
	list_append(&all->all, &r->link);
	loop_task_init(&r->tell, on_tell);
	stream_init(&r->stream, all->loop);
	return r;
}

void
reference_note_pass(struct reference *r, uint64_t now_ms)
{
	r->passed_ms = now_ms;
}

uint64_t
reference_passed_ms(const struct reference *r)
{
	return r->passed_ms;
}

/* Trouble of our own (no descriptor) says nothing of the line: as if it could be reached, so that
 * the check's failure stands. */
static void
on_dialled(const struct dial_result *result, void *arg)
{
	struct reference *r = arg;
	r->dial = NULL;
	r->known = true;
	r->reachable = result->verdict == VERDICT_GRANTED || result->verdict == VERDICT_INTERNAL;
	r->asked_ms = loop_now(r->owner->loop);
	stream_close(&r->stream);
	tell_all(r);
}

bool
reference_ask(struct reference *r, struct fleet *f, uint64_t timeout_ms, struct reference_wait *w)
{
	static const struct path direct;
	struct loop *l = r->owner->loop;
	struct dial_request request = {
		.fleet = f,
		.command = SOCKS_CONNECT,
		.to = r->target,
		.timeout_ms = timeout_ms,
		.fixed = &direct,
	};
	bool fresh = r->known && loop_now(l) < r->asked_ms + REFERENCE_FRESH_MS;
	if (fresh)
		loop_defer(l, &r->tell);
	else if (r->dial == NULL)
		r->dial = dial_start(r->owner->dialer, &request, &r->stream, on_dialled, r);
	if (!fresh && r->dial == NULL)
		return false;
	list_init(&w->link);
	list_append(&r->waits, &w->link);
	return true;
}

void
reference_drop(struct reference_wait *w)
{
	if (w->told != NULL)
		list_remove(&w->link);
}
