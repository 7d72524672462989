/*
 * fleet: see fleet.h. What exists (nodes), what is known of it (status, worked out upwards from the
 * leaves), how it is made and freed, and how the API sees it. How a request finds its path is in
 * path.c.
 */
#include "upstream/fleet.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/tls.h"
#include "upstream/fleet_nodes.h"
#include "upstream/kinds.h"
#include "upstream/outlier.h"
#include "upstream/pool_memory.h"

/* ---- nodes ---- */

struct node *
fleet_node(const struct fleet *f, struct policy_route r)
{
	switch (r.kind) {
	case ROUTE_UPSTREAM:
		return &f->nodes[r.index];
	case ROUTE_POOL:
		return &f->nodes[f->policy->n_upstreams + r.index];
	case ROUTE_CHAIN:
		return &f->nodes[f->policy->n_upstreams + f->policy->n_pools + r.index];
	default:
		return f->direct;
	}
}

/* ---- status, from the leaves upwards; with f->mutex held ---- */

static struct pool_status
chain_status(const struct fleet *f, const struct policy_chain *c)
{
	struct pool_status all = { true, true };
	for (size_t i = 0; i < c->n_hops; i++) {
		struct pool_status hop = fleet_node(f, c->hops[i])->status;
		all.usable = all.usable && hop.usable;
		all.room = all.room && hop.room;
	}
	return all;
}

static struct pool_status
node_status(const struct fleet *f, const struct node *n)
{
	switch (n->route.kind) {
	case ROUTE_UPSTREAM:
		return (struct pool_status){ .usable = board_usable(n->entry),
			                     .room = board_has_slot(n->entry, n->max) };
	case ROUTE_POOL:
		return pool_get_status(n->pool);
	case ROUTE_CHAIN:
		return chain_status(f, &f->policy->chains[n->route.index]);
	default:
		return (struct pool_status){ true, true };
	}
}

/* The operator's weight goes before the document's. */
static uint32_t
member_weight(const struct node *n, const struct policy_member *m)
{
	int set = atomic_load_explicit(&n->entry->weight, memory_order_relaxed);
	return set >= 0 ? (uint32_t)set : m->weight;
}

static void refresh(struct fleet *f, struct node *n);

static void
tell_parents(struct fleet *f, const struct node *n)
{
	for (uint32_t i = 0; i < n->n_parents; i++) {
		const struct parent *up = &f->parents[n->first_parent + i];
		if (up->node->route.kind == ROUTE_POOL) {
			const struct policy_pool *conf = &f->policy->pools[up->node->route.index];
			pool_set_member(up->node->pool, up->member, n->status,
			                member_weight(n, &conf->members[up->member]));
		}
		refresh(f, up->node);
	}
}

/* Parents of an upstream are told in any case, since its weight may be what changed. Routes hold
 * no cycles. */
static void
refresh(struct fleet *f, struct node *n)
{
	struct pool_status now = node_status(f, n);
	bool same = now.usable == n->status.usable && now.room == n->status.room;
	n->status = now;
	if (!same || n->route.kind == ROUTE_UPSTREAM)
		tell_parents(f, n);
}

void
fleet_look_again(struct fleet *f, struct node *n)
{
	pthread_mutex_lock(&f->mutex);
	refresh(f, n);
	pthread_mutex_unlock(&f->mutex);
}

static void
on_entry_changed(struct board_watch *w)
{
	struct node *n = CONTAINER_OF(w, struct node, watch);
	fleet_look_again(n->fleet, n);
}

void
fleet_state_changed(struct fleet *f, uint32_t upstream, const char *why)
{
	assert(upstream < f->policy->n_upstreams);
	board_tell(f->nodes[upstream].entry, why);
}

/* ---- TLS ---- */

static bool
same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool
same_tls(const struct policy_tls *a, const struct policy_tls *b)
{
	return a->verify == b->verify && same_text(a->ca, b->ca) && same_text(a->key, b->key) &&
	       same_text(a->certificate, b->certificate);
}

/* Upstreams with the same settings share a context: reading the system's certificates takes tens
 * of milliseconds. */
static struct tls_context *
context_for(struct fleet *f, const struct policy_tls *conf, char *why, size_t cap)
{
	for (size_t i = 0; i < f->n_contexts; i++) {
		if (same_tls(f->contexts[i].conf, conf))
			return f->contexts[i].tls;
	}
	struct shared_tls *more = realloc(f->contexts, (f->n_contexts + 1) * sizeof *more);
	if (more == NULL) {
		snprintf(why, cap, "out of memory");
		return NULL;
	}
	f->contexts = more;
	const struct tls_options options = { .ca_file = conf->ca,
		                             .certificate_file = conf->certificate,
		                             .key_file = conf->key,
		                             .verify = conf->verify };
	struct tls_context *tls = tls_context_new(&options, why, cap);
	if (tls != NULL)
		f->contexts[f->n_contexts++] = (struct shared_tls){ conf, tls };
	return tls;
}

static bool
tls_new_all(struct fleet *f, char *why, size_t cap)
{
	for (size_t i = 0; i < f->policy->n_upstreams; i++) {
		const struct policy_upstream *u = &f->policy->upstreams[i];
		if (u->scheme != SCHEME_SOCKS5_TLS && u->scheme != SCHEME_HTTPS)
			continue;
		char text[256] = "";
		f->nodes[i].tls = context_for(f, &u->tls, text, sizeof text);
		if (f->nodes[i].tls == NULL) {
			snprintf(why, cap, "upstream %s: %s", u->name, text);
			return false;
		}
	}
	return true;
}

/* ---- made and freed ---- */

/* Another address under the old name begins anew on the board. */
static void
identity_of(const struct policy_upstream *u, char *out, size_t cap)
{
	static const char *const schemes[] = {"socks4", "socks4a", "socks5", "socks5+tls",
					      "http",   "https",   "direct"};
	char at[ENDPOINT_TEXT_MAX] = "";
	if (u->scheme == SCHEME_DIRECT)
		endpoint_host_to_text(&u->source, at, sizeof at);
	else
		endpoint_to_text(&u->at, at, sizeof at);
	snprintf(out, cap, "%s://%s%s%s", schemes[u->scheme], at, u->interface != NULL ? "%" : "",
	         u->interface != NULL ? u->interface : "");
}

static bool
node_init(struct fleet *f, struct node *n, struct policy_route r)
{
	static const char *const kind_texts[] = {
	    [ROUTE_DIRECT] = "direct", [ROUTE_POOL] = "pool", [ROUTE_CHAIN] = "chain"};
	char identity[ENDPOINT_TEXT_MAX + 64];
	n->fleet = f;
	n->route = r;
	list_init(&n->watch.link);
	n->watch.changed = on_entry_changed;
	if (r.kind == ROUTE_UPSTREAM) {
		n->max = f->policy->upstreams[r.index].max_connections;
		identity_of(&f->policy->upstreams[r.index], identity, sizeof identity);
	} else {
		snprintf(identity, sizeof identity, "%s", kind_texts[r.kind]);
	}
	n->entry = board_hold(f->board, policy_route_name(f->policy, r), identity);
	return n->entry != NULL;
}

static bool
nodes_new(struct fleet *f)
{
	const struct policy *p = f->policy;
	f->n_nodes = p->n_upstreams + p->n_pools + p->n_chains + 1;
	f->nodes = calloc(f->n_nodes, sizeof *f->nodes);
	if (f->nodes == NULL)
		return false;
	f->direct = &f->nodes[f->n_nodes - 1];
	static const enum route_kind kinds[] = {ROUTE_UPSTREAM, ROUTE_POOL, ROUTE_CHAIN,
						ROUTE_DIRECT};
	const size_t counts[] = { p->n_upstreams, p->n_pools, p->n_chains, 1 };
	struct node *n = f->nodes;
	for (size_t kind = 0; kind < ARRAY_LEN(kinds); kind++) {
		for (uint32_t i = 0; i < counts[kind]; i++) {
			if (!node_init(f, n++, (struct policy_route){ (uint8_t)kinds[kind], i }))
				return false;
		}
	}
	return true;
}

static bool
pool_node_new(struct fleet *f, struct node *n)
{
	const struct policy_pool *conf = &f->policy->pools[n->route.index];
	struct board_entry **entries = calloc(conf->n_members + 1, sizeof *entries);
	uint32_t *max = calloc(conf->n_members + 1, sizeof *max);
	if (entries != NULL && max != NULL) {
		for (size_t i = 0; i < conf->n_members; i++) {
			const struct node *member = fleet_node(f, conf->members[i].route);
			entries[i] = member->entry;
			max[i] = member->max;
		}
		struct pool_memory *memory = pool_memory_of(n->entry);
		if (memory != NULL)
			n->pool = pool_new(conf, n->route.index, memory, entries, max);
	}
	free(max);
	free(entries);
	return n->pool != NULL;
}

/* Calls each for every "parent leads to child". */
typedef void edge_cb(struct fleet *f, struct node *child, struct node *parent, uint32_t member);

static void
for_each_edge(struct fleet *f, edge_cb *each)
{
	for (size_t i = 0; i < f->n_nodes; i++) {
		struct node *n = &f->nodes[i];
		if (n->route.kind == ROUTE_POOL) {
			const struct policy_pool *p = &f->policy->pools[n->route.index];
			for (uint32_t m = 0; m < p->n_members; m++)
				each(f, fleet_node(f, p->members[m].route), n, m);
		} else if (n->route.kind == ROUTE_CHAIN) {
			const struct policy_chain *c = &f->policy->chains[n->route.index];
			for (uint32_t h = 0; h < c->n_hops; h++)
				each(f, fleet_node(f, c->hops[h]), n, h);
		}
	}
}

static void
count_edge(struct fleet *f, struct node *child, struct node *parent, uint32_t member)
{
	(void)parent, (void)member;
	child->n_parents++;
	f->n_edges++;
}

static void
add_edge(struct fleet *f, struct node *child, struct node *parent, uint32_t member)
{
	f->parents[child->first_parent + child->n_parents++] = (struct parent){ parent, member };
}

static bool
edges_new(struct fleet *f)
{
	for_each_edge(f, count_edge);
	f->parents = calloc(f->n_edges + 1, sizeof *f->parents);
	if (f->parents == NULL)
		return false;
	uint32_t at = 0;
	for (size_t i = 0; i < f->n_nodes; i++) {
		f->nodes[i].first_parent = at;
		at += f->nodes[i].n_parents;
		f->nodes[i].n_parents = 0;
	}
	for_each_edge(f, add_edge);
	return true;
}

/* Leaves first, so that nothing is taken for usable before what it needs is. */
static void
start_watching(struct fleet *f)
{
	fleet_look_again(f, f->direct);
	for (size_t i = 0; i < f->policy->n_upstreams; i++) {
		board_watch(f->nodes[i].entry, &f->nodes[i].watch);
		fleet_look_again(f, &f->nodes[i]);
	}
}

static bool
fleet_build(struct fleet *f, char *why, size_t cap)
{
	snprintf(why, cap, "out of memory");
	if (!nodes_new(f) || !edges_new(f))
		return false;
	for (size_t i = 0; i < f->n_nodes; i++) {
		if (f->nodes[i].route.kind == ROUTE_POOL && !pool_node_new(f, &f->nodes[i]))
			return false;
	}
	if (!tls_new_all(f, why, cap))
		return false;
	start_watching(f);
	return true;
}

static void
fleet_free(struct fleet *f)
{
	for (size_t i = 0; f->nodes != NULL && i < f->n_nodes; i++) {
		struct node *n = &f->nodes[i];
		if (n->entry == NULL)
			continue;
		board_unwatch(n->entry, &n->watch);
	}
	for (size_t i = 0; f->nodes != NULL && i < f->n_nodes; i++) {
		pool_free(f->nodes[i].pool);
		board_release(f->board, f->nodes[i].entry);
	}
	for (size_t i = 0; i < f->n_contexts; i++)
		tls_context_free(f->contexts[i].tls);
	free(f->contexts);
	free(f->parents);
	free(f->nodes);
	pthread_mutex_destroy(&f->mutex);
	policy_unref(f->policy);
	free(f);
}

struct fleet *
fleet_new(struct policy *p, struct board *b, char *why, size_t cap)
{
	struct fleet *f = calloc(1, sizeof *f);
	if (f == NULL || pthread_mutex_init(&f->mutex, NULL) != 0) {
		snprintf(why, cap, "out of memory");
		free(f);
		return NULL;
	}
	atomic_init(&f->refs, 1);
	f->policy = policy_ref(p);
	f->board = b;
	if (!fleet_build(f, why, cap)) {
		fleet_free(f);
		return NULL;
	}
	return f;
}

struct fleet *
fleet_ref(struct fleet *f)
{
	atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
	return f;
}

void
fleet_unref(struct fleet *f)
{
	if (f != NULL && atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) == 1)
		fleet_free(f);
}

/* ---- what others see ---- */

struct policy *
fleet_policy(const struct fleet *f)
{
	return f->policy;
}

struct board_entry *
fleet_upstream(const struct fleet *f, uint32_t upstream)
{
	return fleet_node(f, (struct policy_route){ ROUTE_UPSTREAM, upstream })->entry;
}

struct board_entry *
fleet_pool(const struct fleet *f, uint32_t pool)
{
	return fleet_node(f, (struct policy_route){ ROUTE_POOL, pool })->entry;
}

struct board_entry *
fleet_chain(const struct fleet *f, uint32_t chain)
{
	return fleet_node(f, (struct policy_route){ ROUTE_CHAIN, chain })->entry;
}

struct board_entry *
fleet_direct(const struct fleet *f)
{
	return f->direct->entry;
}

struct tls_context *
fleet_tls(const struct fleet *f, uint32_t upstream)
{
	return f->nodes[upstream].tls;
}

bool
fleet_may_retry(struct fleet *f, uint32_t pool)
{
	return pool_may_retry(fleet_node(f, (struct policy_route){ ROUTE_POOL, pool })->pool);
}

/* ---- what a pool remembers ---- */

static struct pool *
pool_of(struct fleet *f, uint32_t pool)
{
	return fleet_node(f, (struct policy_route){ ROUTE_POOL, pool })->pool;
}

void
fleet_note_destination(struct fleet *f, struct pick pick, const struct pick_key *key, bool served)
{
	pool_note_destination(pool_of(f, pick.pool), pick.member, key, served);
}

/* ---- races ---- */

bool
fleet_take_race(struct fleet *f, uint32_t pool)
{
	return pool_take_race(pool_of(f, pool));
}

void
fleet_give_back_race(struct fleet *f, uint32_t pool)
{
	pool_give_back_race(pool_of(f, pool));
}

void
fleet_note_winner(struct fleet *f, const struct path *path, const struct tried *others,
                  const struct pick_key *key)
{
	for (unsigned i = 0; i < path->n_picks; i++)
		pool_note_winner(pool_of(f, path->picks[i].pool), path->picks[i].member,
		                 others->list, others->n, key);
}

void
fleet_note_loser(struct fleet *f, struct pick pick, uint64_t us)
{
	const struct policy_pool *pool = &f->policy->pools[pick.pool];
	board_note_waited(fleet_node(f, pool->members[pick.member].route)->entry, us);
}

/* ---- queues ---- */

enum join_result
fleet_join_queue(struct fleet *f, uint32_t pool, struct pool_waiter *w, bool insist)
{
	enum join_result result = pool_join(pool_of(f, pool), w, insist);
	if (result == JOIN_FULL && f->policy->pools[pool].queue.max > 0)
		board_note_queue_full(fleet_pool(f, pool));
	return result;
}

bool
fleet_leave_queue(struct fleet *f, uint32_t pool, struct pool_waiter *w)
{
	return pool_leave(pool_of(f, pool), w);
}

void
fleet_end_turn(struct fleet *f, uint32_t pool, struct pool_waiter *w, bool again)
{
	pool_end_turn(pool_of(f, pool), w, again);
}

uint32_t
fleet_pool_waiting(struct fleet *f, uint32_t pool)
{
	return pool_waiting(pool_of(f, pool));
}

/* ---- outliers ---- */

static bool
is_ejected(const struct fleet *f, struct policy_route r)
{
	if (r.kind == ROUTE_UPSTREAM)
		return atomic_load(&fleet_node(f, r)->entry->ejection) != EJECTION_NONE;
	if (r.kind != ROUTE_CHAIN)
		return false;
	const struct policy_chain *c = &f->policy->chains[r.index];
	for (size_t i = 0; i < c->n_hops; i++)
		if (is_ejected(f, c->hops[i]))
			return true;
	return false;
}

/* Counted with the one that would go. */
static bool
can_spare_one_more(const struct fleet *f, const struct policy_pool *p)
{
	uint64_t ejected = 1;
	for (size_t i = 0; i < p->n_members; i++)
		ejected += is_ejected(f, p->members[i].route);
	return ejected * 100 <= (uint64_t)p->outlier.max_ejected_percent * p->n_members;
}

static void
note_trial(struct board *b, uint64_t at_ms)
{
	atomic_uint_least64_t *next = board_next_trial(b);
	uint64_t was = atomic_load(next);
	while (at_ms < was && !atomic_compare_exchange_weak(next, &was, at_ms))
		;
}

static void
tell_ejected(struct board_entry *e, const struct policy_outlier *conf, bool by_trial)
{
	char why[96] = "its trial failed";
	if (!by_trial)
		snprintf(why, sizeof why, "%u requests failed within %ju ms", (unsigned)conf->failures,
		         (uintmax_t)conf->window_ms);
	board_tell(e, why);
}

void
fleet_note_failure(struct fleet *f, uint32_t pool, uint32_t upstream)
{
	struct board_entry *e = fleet_upstream(f, upstream);
	board_note_failure(e);
	const struct policy_pool *p = pool != UINT32_MAX ? &f->policy->pools[pool] : NULL;
	uint64_t now = clock_now_ms();
	if (p == NULL || p->outlier.failures == 0 || !outlier_note_failure(e, &p->outlier, now))
		return;
	pthread_mutex_lock(board_ejecting(f->board));
	unsigned state = atomic_load(&e->ejection);
	bool eject = state == EJECTION_TRIED || (state == EJECTION_NONE && can_spare_one_more(f, p));
	if (eject)
		note_trial(f->board, outlier_eject(e, &p->outlier, now));
	pthread_mutex_unlock(board_ejecting(f->board));
	if (eject)
		tell_ejected(e, &p->outlier, state == EJECTION_TRIED);
}

void
fleet_note_connect(struct fleet *f, const struct path *path, uint64_t us)
{
	for (unsigned i = 0; us > 0 && i < path->n_picks; i++) {
		const struct policy_pool *p = &f->policy->pools[path->picks[i].pool];
		struct policy_route member = p->members[path->picks[i].member].route;
		if (member.kind == ROUTE_CHAIN || member.kind == ROUTE_POOL)
			board_note_connect(fleet_node(f, member)->entry, us);
	}
}

void
fleet_note_success(struct fleet *f, uint32_t upstream)
{
	struct board_entry *e = fleet_upstream(f, upstream);
	if (atomic_load_explicit(&e->ejection, memory_order_relaxed) == EJECTION_TRIED &&
	    outlier_note_success(e, clock_now_ms()))
		board_tell(e, "it served its trial");
}

void
fleet_revive(struct fleet *f)
{
	uint64_t next = atomic_load_explicit(board_next_trial(f->board), memory_order_relaxed);
	if (next == UINT64_MAX || next > clock_now_ms())
		return;
	uint64_t now = clock_now_ms(), later = UINT64_MAX;
	atomic_store(board_next_trial(f->board), UINT64_MAX);
	for (size_t i = 0; i < f->policy->n_upstreams; i++)
		if (outlier_revive(f->nodes[i].entry, now, &later))
			board_tell(f->nodes[i].entry, "");
	note_trial(f->board, later);
}

/* ---- sticky tables, by hand ---- */

static struct sticky *
sticky_of(struct fleet *f, uint32_t pool)
{
	return ((struct pool_memory *)fleet_pool(f, pool)->kept)->sticky;
}

void
fleet_each_pin(struct fleet *f, uint32_t pool, fleet_pin_cb *each, void *arg)
{
	sticky_each(sticky_of(f, pool), clock_now_ms(), each, arg);
}

bool
fleet_pin(struct fleet *f, uint32_t pool, const char *key, const char *member)
{
	const struct policy_pool *conf = &f->policy->pools[pool];
	uint64_t now = clock_now_ms();
	for (size_t i = 0; i < conf->n_members; i++)
		if (strcmp(conf->members[i].name, member) == 0) {
			sticky_set(sticky_of(f, pool), key, member, now, now + conf->sticky.ttl_ms,
			           conf->sticky.max_entries);
			return true;
		}
	return false;
}

size_t
fleet_unpin(struct fleet *f, uint32_t pool, const char *key)
{
	return sticky_drop(sticky_of(f, pool), key);
}

bool
fleet_route_usable(struct fleet *f, struct policy_route route)
{
	if (route.kind == ROUTE_REJECT)
		return true;
	fleet_revive(f);
	pthread_mutex_lock(&f->mutex);
	bool usable = fleet_node(f, route)->status.usable;
	pthread_mutex_unlock(&f->mutex);
	return usable;
}

bool
fleet_route_can(const struct fleet *f, struct policy_route route, enum socks_command command,
                bool last)
{
	return kind_route_can(f->policy, route, command, last);
}

static const char *
reason_of(const struct node *n, const struct pool_member_view *v)
{
	if (!v->status.usable)
		return n->route.kind == ROUTE_UPSTREAM ? board_state_text(n->entry)
						       : "no usable upstream";
	if (v->weight == 0)
		return "weight 0";
	return v->status.room ? "" : "no free slot";
}

static void
view_member(struct fleet *f, uint32_t pool, uint32_t member, struct member_view *out)
{
	const struct policy_member *conf = &f->policy->pools[pool].members[member];
	const struct node *n = fleet_node(f, conf->route);
	struct pool_member_view v;
	pool_get_member(fleet_node(f, (struct policy_route){ ROUTE_POOL, pool })->pool, member, &v);
	bool leaf = n->route.kind == ROUTE_UPSTREAM;
	*out = (struct member_view){
		.name = conf->name,
		.state = leaf ? board_state_text(n->entry) : v.status.usable ? "up" : "down",
		.weight = v.weight,
		.tier = conf->tier,
		.sessions_open = board_sessions(n->entry),
		.picks = v.picks,
		.reason = reason_of(n, &v),
	};
	out->usable = out->reason[0] == '\0';
}

size_t
fleet_pool_members(struct fleet *f, uint32_t pool, struct member_view *out, size_t cap)
{
	size_t n = f->policy->pools[pool].n_members;
	for (uint32_t i = 0; i < n && i < cap; i++)
		view_member(f, pool, i, &out[i]);
	return n;
}
