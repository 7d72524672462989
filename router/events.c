#include "router/events.h"

#include <stdlib.h>

#include <pthread.h>

#include "base/clock.h"

struct events {
	pthread_mutex_t lock;
	uint64_t next;
	events_posted_fn *watcher;
	void *watcher_arg;
	struct router_event ring[EVENTS_KEPT];        /* of number i: at i % EVENTS_KEPT; pages that were never used cost nothing */
};

struct events *
events_new(void)
{
	struct events *e = calloc(1, sizeof *e);
	if (e == NULL)
		return NULL;
	if (pthread_mutex_init(&e->lock, NULL) != 0) {
		free(e);
		return NULL;
	}
	e->next = 1;
	return e;
}

void
events_free(struct events *e)
{
	if (e == NULL)
		return;
	pthread_mutex_destroy(&e->lock);
	free(e);
}

void
events_post(struct events *e, const struct router_event *event)
{
	pthread_mutex_lock(&e->lock);
	struct router_event *place = &e->ring[e->next % EVENTS_KEPT];
	*place = *event;
	place->number = e->next++;
	place->at_ms = clock_wall_ms();
	if (e->watcher != NULL)
		e->watcher(e->watcher_arg);
	pthread_mutex_unlock(&e->lock);
}

uint64_t
events_next(struct events *e)
{
	pthread_mutex_lock(&e->lock);
	uint64_t next = e->next;
	pthread_mutex_unlock(&e->lock);
	return next;
}

size_t
events_read(struct events *e, uint64_t *from, struct router_event *out, size_t cap, uint64_t *lost)
{
	size_t n = 0;
	pthread_mutex_lock(&e->lock);
	uint64_t oldest = e->next > EVENTS_KEPT ? e->next - EVENTS_KEPT : 1;
	*lost = *from < oldest ? oldest - *from : 0;
	*from += *lost;
	while (n < cap && *from < e->next)
		out[n++] = e->ring[(*from)++ % EVENTS_KEPT];
	pthread_mutex_unlock(&e->lock);
	return n;
}

void
events_watch(struct events *e, events_posted_fn *fn, void *arg)
{
	pthread_mutex_lock(&e->lock);
	e->watcher = fn;
	e->watcher_arg = arg;
	pthread_mutex_unlock(&e->lock);
}
