#include "router/control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "dns/resolver.h"
#include "router/gather.h"
#include "router/publish.h"
#include "router/router.h"
#include "router/session.h"

/* ---- at once ---- */

static bool
is_stuck(const struct worker_thread *t, uint64_t now_ms)
{
	uint64_t sent = atomic_load(&t->ping_sent_ms);
	return sent > atomic_load(&t->ping_seen_ms) && now_ms > sent + STUCK_MS;
}

void
control_get_status(struct control *c, struct control_status *out)
{
	uint64_t now = clock_now_ms();
	*out = (struct control_status){
		.state = atomic_load(&c->state),
		.uptime_ms = now - c->started_ms,
		.workers = c->n_workers,
	};
	for (unsigned i = 0; i < c->n_workers; i++)
		out->stuck_workers += is_stuck(&c->threads[i], now);
}

struct fleet *
control_fleet(struct control *c)
{
	struct revision *r = router_hold_revision(c);
	struct fleet *f = fleet_ref(r->fleet);
	revision_unref(r);
	return f;
}

void
control_sum_counters(struct control *c, uint64_t out[COUNTER_N])
{
	memset(out, 0, COUNTER_N * sizeof *out);
	for (unsigned i = 0; i < c->n_workers; i++)
		for (int k = 0; k < COUNTER_N; k++)
			out[k] += counter_get(&c->threads[i].worker->counters, k);
}

void
control_sum_replies(struct control *c, uint64_t out[VERDICT_N])
{
	memset(out, 0, VERDICT_N * sizeof *out);
	for (unsigned i = 0; i < c->n_workers; i++)
		for (int k = 0; k < VERDICT_N; k++)
			out[k] += atomic_load_explicit(&c->threads[i].worker->replies[k], memory_order_relaxed);
}

void
control_sum_handshakes(struct control *c, struct histogram_sums *out)
{
	*out = (struct histogram_sums){ 0 };
	for (unsigned i = 0; i < c->n_workers; i++)
		histogram_sum(&c->threads[i].worker->handshakes, out);
}

void
control_sum_turns(struct control *c, struct histogram_sums *out)
{
	*out = (struct histogram_sums){ 0 };
	for (unsigned i = 0; i < c->n_workers; i++)
		histogram_sum(loop_turn_times(c->threads[i].worker->loop), out);
}

void
control_get_memory(struct control *c, struct control_memory *out)
{
	*out = (struct control_memory){ 0 };
	for (unsigned i = 0; i < c->n_workers; i++) {
		const struct worker *w = c->threads[i].worker;
		out->sessions += atomic_load_explicit(&w->memory_sessions, memory_order_relaxed);
		out->buffers += atomic_load_explicit(&w->relays.held_bytes, memory_order_relaxed);
	}
}

void
control_get_listener(struct control *c, const struct policy *p, size_t listener, struct control_listener *out)
{
	struct revision *r = router_hold_revision(c);
	*out = (struct control_listener){ 0 };
	if (r->policy == p && listener < p->n_listeners) {
		const struct front *f = r->fronts[listener];
		out->listening = atomic_load(&f->n_listening) > 0;
		out->open = atomic_load_explicit(&f->open, memory_order_relaxed);
		out->accepted = atomic_load_explicit(&f->accepted, memory_order_relaxed);
		out->refused = atomic_load_explicit(&f->refused, memory_order_relaxed);
	}
	revision_unref(r);
}

uint64_t
control_rule_hits(struct control *c, const struct policy *p, size_t rule)
{
	struct revision *r = router_hold_revision(c);
	uint64_t n = r->policy == p && rule <= p->n_rules ? revision_sum_hits(r, rule) : 0;
	revision_unref(r);
	return n;
}

struct events *
control_events(struct control *c)
{
	return c->events;
}

/* ---- policy ---- */

void
control_change_policy(struct control *c, const struct control_policy_change *change, control_policy_cb *cb, void *arg)
{
	publish_ask(c, change, cb, arg);
}

/* ---- sessions ---- */

struct listing {
	struct gather gather;
	struct control_filter filter;
	size_t limit, offset;
	control_connections_cb *cb;
	control_count_cb *count_cb;
	void *arg;
	struct control_connection *list;
	size_t n, total;
};

/* A worker's answer: the first few of those that match, by id. */
struct listed {
	size_t total, n;
	struct control_connection list[];
};

static int
by_session_id(const void *a, const void *b)
{
	const struct session *x = *(struct session *const *)a, *y = *(struct session *const *)b;
	return x->id < y->id ? -1 : x->id > y->id;
}

static int
by_connection_id(const void *a, const void *b)
{
	const struct control_connection *x = a, *y = b;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* malloc'ed; *n of them. NULL: none, or no memory. */
static struct session **
matching_sessions(struct worker *w, const struct control_filter *f, size_t *n)
{
	struct session **found = calloc(worker_sessions(w) + 1, sizeof *found);
	*n = 0;
	if (found == NULL)
		return NULL;
	for (int state = 0; state < SESSION_CLOSED; state++)
		LIST_FOR_EACH (&w->by_state[state], node) {
			struct session *s = CONTAINER_OF(node, struct session, link);
			if (session_matches(s, f))
				found[(*n)++] = s;
		}
	return found;
}

static void
list_ask(struct question *q, struct worker *w)
{
	const struct listing *l = CONTAINER_OF(q->gather, struct listing, gather);
	size_t total, wanted = l->offset + l->limit;
	struct session **found = matching_sessions(w, &l->filter, &total);
	if (found == NULL)
		return;
	size_t n = total < wanted ? total : wanted;
	struct listed *answer = malloc(sizeof *answer + n * sizeof answer->list[0]);
	if (answer != NULL) {
		qsort(found, total, sizeof *found, by_session_id);
		answer->total = total;
		answer->n = n;
		for (size_t i = 0; i < n; i++)
			session_describe(found[i], &answer->list[i]);
		q->answer = answer;
	}
	free(found);
}

static void
list_merge(struct gather *g, struct question *q)
{
	struct listing *l = CONTAINER_OF(g, struct listing, gather);
	const struct listed *a = q->answer;
	l->total += a->total;
	if (a->n == 0)
		return;
	struct control_connection *more = realloc(l->list, (l->n + a->n) * sizeof *more);
	if (more == NULL)
		return;
	memcpy(more + l->n, a->list, a->n * sizeof *more);
	l->list = more;
	l->n += a->n;
}

static void
list_done(struct gather *g, bool incomplete)
{
	struct listing *l = CONTAINER_OF(g, struct listing, gather);
	if (l->n > 0)
		qsort(l->list, l->n, sizeof *l->list, by_connection_id);
	size_t from = l->offset < l->n ? l->offset : l->n;
	size_t n = l->n - from < l->limit ? l->n - from : l->limit;
	l->cb(n > 0 ? l->list + from : NULL, n, l->total, incomplete, l->arg);
}

static void
listing_free(struct gather *g)
{
	struct listing *l = CONTAINER_OF(g, struct listing, gather);
	free(l->list);
	free(l);
}

static const struct gather_ops list_ops = {
	.ask = list_ask, .merge = list_merge, .done = list_done, .release = free, .free = listing_free,
};

void
control_list_connections(struct control *c, const struct control_filter *f, size_t limit, size_t offset,
                         control_connections_cb *cb, void *arg)
{
	struct listing *l = calloc(1, sizeof *l);
	if (l == NULL) {
		cb(NULL, 0, 0, true, arg);
		return;
	}
	l->filter = *f;
	l->limit = limit;
	l->offset = offset;
	l->cb = cb;
	l->arg = arg;
	gather_start(&l->gather, c, &list_ops);
}

static void
count_answer(struct question *q, size_t n)
{
	size_t *answer = malloc(sizeof *answer);
	if (answer != NULL)
		*answer = n;
	q->answer = answer;
}

static void
close_ask(struct question *q, struct worker *w)
{
	const struct listing *l = CONTAINER_OF(q->gather, struct listing, gather);
	size_t n;
	struct session **found = matching_sessions(w, &l->filter, &n);
	if (found == NULL)
		return;
	for (size_t i = 0; i < n; i++)
		session_close(found[i], END_DELETED);
	free(found);
	count_answer(q, n);
}

static void
count_merge(struct gather *g, struct question *q)
{
	CONTAINER_OF(g, struct listing, gather)->total += *(size_t *)q->answer;
}

static void
count_done(struct gather *g, bool incomplete)
{
	struct listing *l = CONTAINER_OF(g, struct listing, gather);
	l->count_cb(l->total, incomplete, l->arg);
}

static const struct gather_ops close_ops = {
	.ask = close_ask, .merge = count_merge, .done = count_done, .release = free, .free = listing_free,
};

void
control_close_connections(struct control *c, const struct control_filter *f, control_count_cb *cb, void *arg)
{
	struct listing *l = calloc(1, sizeof *l);
	if (l == NULL) {
		cb(0, true, arg);
		return;
	}
	l->filter = *f;
	l->count_cb = cb;
	l->arg = arg;
	gather_start(&l->gather, c, &close_ops);
}

/* ---- upstreams ---- */

bool
control_patch_upstream(struct control *c, const char *name, const struct control_patch *patch)
{
	struct fleet *f = control_fleet(c);
	const struct policy *p = fleet_policy(f);
	bool found = false;
	for (uint32_t i = 0; i < p->n_upstreams && !found; i++) {
		if (strcmp(p->upstreams[i].name, name) != 0)
			continue;
		struct board_entry *e = fleet_upstream(f, i);
		if (patch->state >= 0)
			atomic_store(&e->admin, (unsigned)patch->state);
		if (patch->weight >= 0)
			atomic_store(&e->weight, patch->weight);
		fleet_state_changed(f, i, "set by PATCH");
		found = true;
	}
	fleet_unref(f);
	return found;
}

/* ---- dns ---- */

struct dns_listing {
	struct gather gather;
	control_dns_cb *cb;
	control_count_cb *count_cb;
	void *arg;
	char name[ENDPOINT_NAME_MAX + 1];      /* to drop; "": all */
	struct control_dns_entry *list;
	size_t n, total;
};

struct dns_listed {
	struct control_dns_entry *list;
	size_t n, cap;
};

static void
add_dns_entry(const char *name, const struct endpoint *addrs, size_t n, uint64_t ttl_ms, void *arg)
{
	struct dns_listed *l = arg;
	if (l->n == l->cap) {
		size_t cap = l->cap > 0 ? l->cap * 2 : 64;
		struct control_dns_entry *more = realloc(l->list, cap * sizeof *more);
		if (more == NULL)
			return;
		l->list = more;
		l->cap = cap;
	}
	struct control_dns_entry *e = &l->list[l->n++];
	*e = (struct control_dns_entry){ .ttl_ms = ttl_ms };
	snprintf(e->name, sizeof e->name, "%s", name);
	for (; e->n < n && e->n < ARRAY_LEN(e->addrs); e->n++)
		e->addrs[e->n] = addrs[e->n];
}

static void
dns_ask(struct question *q, struct worker *w)
{
	struct dns_listed *l = calloc(1, sizeof *l);
	if (l != NULL)
		resolver_cache_each(w->resolver, add_dns_entry, l);
	q->answer = l;
}

static void
dns_release(void *answer)
{
	struct dns_listed *l = answer;
	free(l->list);
	free(l);
}

static void
dns_merge(struct gather *g, struct question *q)
{
	struct dns_listing *l = CONTAINER_OF(g, struct dns_listing, gather);
	const struct dns_listed *a = q->answer;
	if (a->n == 0)
		return;
	struct control_dns_entry *more = realloc(l->list, (l->n + a->n) * sizeof *more);
	if (more == NULL)
		return;
	memcpy(more + l->n, a->list, a->n * sizeof *more);
	l->list = more;
	l->n += a->n;
}

/* Of one name the entry that lives longest comes first. */
static int
by_dns_name(const void *a, const void *b)
{
	const struct control_dns_entry *x = a, *y = b;
	int order = strcmp(x->name, y->name);
	if (order != 0)
		return order;
	return x->ttl_ms > y->ttl_ms ? -1 : x->ttl_ms < y->ttl_ms;
}

static void
dns_done(struct gather *g, bool incomplete)
{
	struct dns_listing *l = CONTAINER_OF(g, struct dns_listing, gather);
	size_t n = 0;
	if (l->n > 0)
		qsort(l->list, l->n, sizeof *l->list, by_dns_name);
	for (size_t i = 0; i < l->n; i++)
		if (n == 0 || strcmp(l->list[n - 1].name, l->list[i].name) != 0)
			l->list[n++] = l->list[i];
	l->cb(l->list, n, incomplete, l->arg);
}

static void
dns_listing_free(struct gather *g)
{
	struct dns_listing *l = CONTAINER_OF(g, struct dns_listing, gather);
	free(l->list);
	free(l);
}

static const struct gather_ops dns_ops = {
	.ask = dns_ask, .merge = dns_merge, .done = dns_done, .release = dns_release, .free = dns_listing_free,
};

void
control_list_dns(struct control *c, control_dns_cb *cb, void *arg)
{
	struct dns_listing *l = calloc(1, sizeof *l);
	if (l == NULL) {
		cb(NULL, 0, true, arg);
		return;
	}
	l->cb = cb;
	l->arg = arg;
	gather_start(&l->gather, c, &dns_ops);
}

static void
dns_drop_ask(struct question *q, struct worker *w)
{
	const struct dns_listing *l = CONTAINER_OF(q->gather, struct dns_listing, gather);
	count_answer(q, resolver_cache_drop(w->resolver, l->name[0] != '\0' ? l->name : NULL));
}

static void
dns_drop_merge(struct gather *g, struct question *q)
{
	CONTAINER_OF(g, struct dns_listing, gather)->total += *(size_t *)q->answer;
}

static void
dns_drop_done(struct gather *g, bool incomplete)
{
	struct dns_listing *l = CONTAINER_OF(g, struct dns_listing, gather);
	l->count_cb(l->total, incomplete, l->arg);
}

static const struct gather_ops dns_drop_ops = {
	.ask = dns_drop_ask, .merge = dns_drop_merge, .done = dns_drop_done, .release = free, .free = dns_listing_free,
};

void
control_drop_dns(struct control *c, const char *name, control_count_cb *cb, void *arg)
{
	struct dns_listing *l = calloc(1, sizeof *l);
	if (l == NULL) {
		cb(0, true, arg);
		return;
	}
	snprintf(l->name, sizeof l->name, "%s", name != NULL ? name : "");
	l->count_cb = cb;
	l->arg = arg;
	gather_start(&l->gather, c, &dns_drop_ops);
}

/* ---- a look-up, and the drain: notes to the control thread ---- */

struct errand {
	struct message message;
	struct control *control;
	char name[ENDPOINT_NAME_MAX + 1];
	control_resolve_cb *cb;
	void *arg;
};

static void
on_resolved(enum dns_error err, const struct endpoint *addrs, size_t n, void *arg)
{
	struct errand *e = arg;
	e->cb(err == DNS_OK, addrs, n, e->arg);
	free(e);
}

static void
on_resolve_asked(struct message *m, void *owner, bool closing)
{
	struct errand *e = CONTAINER_OF(m, struct errand, message);
	struct control *c = owner;
	if (closing || resolve_start(c->resolver, e->name, CONTROL_DEADLINE_MS, on_resolved, e) == NULL)
		on_resolved(DNS_FAILED, NULL, 0, e);
}

void
control_resolve(struct control *c, const char *name, control_resolve_cb *cb, void *arg)
{
	struct errand *e = calloc(1, sizeof *e);
	if (e == NULL) {
		cb(false, NULL, 0, arg);
		return;
	}
	list_init(&e->message.link);
	e->message.handle = on_resolve_asked;
	snprintf(e->name, sizeof e->name, "%s", name);
	e->cb = cb;
	e->arg = arg;
	if (!mailbox_post(c->mailbox, &e->message))
		on_resolved(DNS_FAILED, NULL, 0, e);
}

static void
on_drain_asked(struct message *m, void *owner, bool closing)
{
	if (!closing)
		router_drain(owner);
	free(CONTAINER_OF(m, struct errand, message));
}

void
control_drain(struct control *c)
{
	struct errand *e = calloc(1, sizeof *e);
	if (e == NULL)
		return;
	list_init(&e->message.link);
	e->message.handle = on_drain_asked;
	if (!mailbox_post(c->mailbox, &e->message))
		free(e);
}
