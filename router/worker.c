#include "router/worker.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "dns/resolver.h"
#include "router/listener.h"
#include "router/session.h"
#include "router/shake.h"
#include "upstream/dialer.h"

enum { ID_BLOCK = 64, WORKER_TRIM_MS = 200 };

/* ---- leases ---- */

static struct lease *
lease_new(struct worker *w, struct revision *r)
{
	struct lease *l = calloc(1, sizeof *l);
	if (l == NULL)
		return NULL;
	l->revision = r;
	list_append(&w->leases, &l->link);
	return l;
}

static void
lease_drop(struct lease *l)
{
	list_remove(&l->link);
	revision_unref(l->revision);
	free(l);
}

struct lease *
worker_hold_lease(struct worker *w)
{
	w->lease->sessions++;
	return w->lease;
}

void
worker_release_lease(struct worker *w, struct lease *l)
{
	(void)w;
	if (--l->sessions == 0 && l->retired)
		lease_drop(l);
}

/* ---- listeners ---- */

static struct listener *
find_listener(const struct worker *w, const struct front *front, unsigned socket)
{
	LIST_FOR_EACH (&w->listeners, node) {
		struct listener *l = LIST_OBJECT(node, struct listener, link);
		if (l->front == front && l->socket == socket)
			return l;
	}
	return NULL;
}

static bool
revision_has(const struct revision *r, const struct front *front, uint32_t *index)
{
	for (size_t i = 0; i < r->policy->n_listeners; i++)
		if (r->fronts[i] == front) {
			*index = (uint32_t)i;
			return true;
		}
	return false;
}

/* Those that the new revision does not name are closed while the old one is in force: their backlog is served by it. */
static void
close_listeners(struct worker *w, const struct revision *keep)
{
	uint32_t index;
	LIST_FOR_EACH (&w->listeners, node) {
		struct listener *l = LIST_OBJECT(node, struct listener, link);
		if (keep == NULL || !revision_has(keep, l->front, &index))
			listener_close(l);
	}
}

static void
open_listeners(struct worker *w, const struct revision *r)
{
	LIST_FOR_EACH (&w->listeners, node) {
		struct listener *l = LIST_OBJECT(node, struct listener, link);
		(void)revision_has(r, l->front, &l->index);
	}
	for (size_t i = 0; i < r->policy->n_listeners; i++)
		for (unsigned k = w->number; k < r->fronts[i]->n_sockets; k += r->fronts[i]->n_workers)
			if (find_listener(w, r->fronts[i], k) == NULL && listener_open(w, r->fronts[i], k, (uint32_t)i) == NULL)
				log_say(LOG_ERROR, "worker %u can't serve listener %s: no memory", w->number,
					r->policy->listeners[i].name);
}

static void
resume_listeners(struct worker *w)
{
	LIST_FOR_EACH (&w->listeners, node)
		listener_resume(LIST_OBJECT(node, struct listener, link));
}

static void
on_resume(struct deadline *d)
{
	resume_listeners(CONTAINER_OF(d, struct worker, resume));
}

/* ---- revisions ---- */

static void
reconfigure_resolver(struct worker *w, struct revision *r)
{
	bool ok = true;
	if (w->resolver == NULL) {
		if ((w->resolver = resolver_new(w->loop, &r->policy->dns)) != NULL)
			resolver_count_in(w->resolver, &w->counters);
		ok = w->resolver != NULL && (w->dialer = dialer_new(w->loop, w->resolver)) != NULL;
		if (ok)
			dialer_use_gss(w->dialer, w->shared->initiators);
	} else {
		ok = resolver_reconfigure(w->resolver, &r->policy->dns);
	}
	if (!ok)
		log_say(LOG_ERROR, "worker %u can't take up the dns settings", w->number);
	revision_unref(w->resolver_revision);
	w->resolver_revision = revision_ref(r);
}

void
worker_use(struct worker *w, struct revision *r)
{
	struct lease *old = w->lease;
	struct lease *new = lease_new(w, r);
	if (new == NULL) {
		log_say(LOG_ERROR, "worker %u can't take up revision %llu: no memory", w->number,
			(unsigned long long)r->policy->revision);
		revision_unref(r);
		return;
	}
	reconfigure_resolver(w, r);
	dialer_keep_warm(w->dialer, w->draining ? NULL : r->fleet, w->shared->n_workers);
	if (old != NULL)
		close_listeners(w, r);
	w->lease = new;
	if (!w->draining)
		open_listeners(w, r);
	if (old != NULL) {
		old->retired = true;
		if (old->sessions == 0)
			lease_drop(old);
	}
}

/* ---- sessions ---- */

uint64_t
worker_next_session_id(struct worker *w)
{
	if (w->id == w->id_end) {
		w->id = atomic_fetch_add_explicit(&w->shared->next_id, ID_BLOCK, memory_order_relaxed);
		w->id_end = w->id + ID_BLOCK;
	}
	return w->id++;
}

unsigned
worker_sessions(const struct worker *w)
{
	return (unsigned)counter_get(&w->counters, COUNTER_SESSIONS_OPEN);
}

void
worker_session_gone(struct worker *w)
{
	if (deadline_armed(&w->resume)) {
		loop_clear_deadline(w->loop, &w->resume);
		resume_listeners(w);
	}
	if (w->draining && w->on_drained != NULL && worker_sessions(w) == 0) {
		void (*on_drained)(struct worker *) = w->on_drained;
		w->on_drained = NULL;
		on_drained(w);
	}
}

static void
tell_memory(struct worker *w)
{
	atomic_store_explicit(&w->memory_sessions,
			      slab_bytes(&w->sessions) + slab_bytes(&w->shakes) + slab_bytes(&w->taken),
			      memory_order_relaxed);
}

static void
trim_later(struct worker *w)
{
	w->trim_accepted = counter_get(&w->counters, COUNTER_SESSIONS_ACCEPTED);
	loop_set_deadline(w->loop, &w->trim, WORKER_TRIM_MS);
}

/* Under a sanitizer glibc's malloc serves nobody, and to be asked by two threads at once for the first time breaks it. */
static void
trim_malloc(void)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	malloc_trim(0);
#endif
}

static void
on_trim(struct deadline *d)
{
	struct worker *w = CONTAINER_OF(d, struct worker, trim);
	if (counter_get(&w->counters, COUNTER_SESSIONS_ACCEPTED) != w->trim_accepted) {
		trim_later(w);
		return;
	}
	slab_trim(&w->sessions);
	slab_trim(&w->shakes);
	slab_trim(&w->taken);
	dialer_trim(w->dialer);
	trim_malloc();
	tell_memory(w);
}

void
worker_memory_taken(struct worker *w)
{
	tell_memory(w);
	if (!deadline_armed(&w->trim))
		trim_later(w);
}

static void
worker_reap(struct loop_task *t)
{
	struct worker *w = CONTAINER_OF(t, struct worker, reap);
	struct list *closed = &w->by_state[SESSION_CLOSED];
	while (!list_empty(closed))
		session_free(LIST_OBJECT(closed->next, struct session, link));
	tell_memory(w);
	/* It may have been open since long before the last look. */
	if (!deadline_armed(&w->trim))
		trim_later(w);
}

void
worker_reap_later(struct worker *w)
{
	loop_defer(w->loop, &w->reap);
}

unsigned
worker_cut(struct worker *w)
{
	unsigned n = 0;
	for (int state = 0; state < SESSION_CLOSED; state++) {
		struct list *sessions = &w->by_state[state];
		for (; !list_empty(sessions); n++)
			session_close(LIST_OBJECT(sessions->next, struct session, link), END_DRAINED);
	}
	return n;
}

void
worker_drain(struct worker *w, void (*on_drained)(struct worker *w))
{
	if (w->draining)
		return;
	close_listeners(w, NULL);
	w->draining = true;
	dialer_keep_warm(w->dialer, NULL, w->shared->n_workers);
	if (worker_sessions(w) == 0)
		on_drained(w);
	else
		w->on_drained = on_drained;
}

/* ---- life ---- */

struct worker *
worker_new(struct shared *shared, unsigned number)
{
	struct worker *w = aligned_alloc(64, (sizeof *w + 63) / 64 * 64);
	if (w == NULL)
		return NULL;
	memset(w, 0, sizeof *w);
	w->number = number;
	w->shared = shared;
	list_init(&w->leases);
	list_init(&w->listeners);
	for (int i = 0; i < SESSION_STATES; i++)
		list_init(&w->by_state[i]);
	slab_init(&w->sessions, sizeof(struct session), sizeof(struct session));
	slab_init(&w->shakes, sizeof(struct shake), SHAKE_HEAD);
	slab_init(&w->taken, sizeof(struct taken), sizeof(struct taken));
	loop_task_init(&w->reap, worker_reap);
	deadline_init(&w->resume, on_resume);
	deadline_init(&w->trim, on_trim);
	udp_pool_init(&w->datagrams, &w->counters);
	udp_assemblies_init(&w->assemblies, &w->datagrams);
	random_seed(&w->random, 0);
	if ((w->loop = loop_new()) == NULL || (w->mailbox = mailbox_open(w->loop, w)) == NULL ||
	    !relay_pool_init(&w->relays, w->loop, &w->counters, session_on_relay_end)) {
		worker_free(w);
		return NULL;
	}
	tls_gate_init(&w->tls_gate, w->loop, &w->counters);
	return w;
}

void
worker_free(struct worker *w)
{
	if (w == NULL)
		return;
	mailbox_free(w->mailbox);
	worker_cut(w);
	if (w->loop != NULL) {
		worker_reap(&w->reap);
		loop_undefer(w->loop, &w->reap);
		loop_clear_deadline(w->loop, &w->resume);
		loop_clear_deadline(w->loop, &w->trim);
	}
	LIST_FOR_EACH (&w->listeners, node) {
		struct listener *l = LIST_OBJECT(node, struct listener, link);
		listener_abandon(l);
	}
	dialer_free(w->dialer);
	resolver_free(w->resolver);
	revision_unref(w->resolver_revision);
	LIST_FOR_EACH (&w->leases, node)
		lease_drop(LIST_OBJECT(node, struct lease, link));
	tls_gate_free(&w->tls_gate);
	relay_pool_free(&w->relays);
	udp_pool_free(&w->datagrams);
	slab_free(&w->sessions);
	slab_free(&w->shakes);
	slab_free(&w->taken);
	loop_free(w->loop);
	free(w);
}
