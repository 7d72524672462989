/*
 * path: how a request finds its way through a fleet: from a route through pools and chains down to
 * hops, slots taken on the way, and how they are given back.
 *
 * What a walk has taken stands on the path. A walk that fails has given back all that it took, so
 * whoever called it may try elsewhere.
 */
#include "upstream/fleet.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "upstream/fleet_nodes.h"
#include "upstream/kinds.h"

enum { NO_PICK = UINT8_MAX, SKIPS_AT_HAND = TRIED_MAX + 16 };

struct walk {
	struct fleet *fleet;
	const struct pick_key *key;
	struct path *path;
	bool take;                             /* false: look only */
	bool busy;                             /* a pool with a queue had no free slot: path->busy_pool */
	bool more_follow;                      /* other hops come behind the one in question */
	const struct tried *tried;             /* may be NULL */
	bool choosy;                           /* no upstream that failed, none twice: */
	bool has_chosen;                       /* one was passed over for that */
	/* members out of the question: tried before, or found without a way in this walk */
	struct pick *skips;
	size_t n_skips, cap_skips;
	struct pick at_hand[SKIPS_AT_HAND];
};

/* All but what lies at hand, which only n_skips makes valid. */
static void
walk_init(struct walk *w, struct fleet *f, struct path *path, bool take)
{
	memset(w, 0, offsetof(struct walk, at_hand));
	w->fleet = f;
	w->path = path;
	w->take = take;
	w->skips = w->at_hand;
	w->cap_skips = SKIPS_AT_HAND;
}

static bool
add_skip(struct walk *w, struct pick p)
{
	if (w->n_skips == w->cap_skips) {
		size_t cap = w->cap_skips * 4;
		struct pick *more = malloc(cap * sizeof *more);
		if (more == NULL)
			return false;
		memcpy(more, w->skips, w->n_skips * sizeof *more);
		if (w->skips != w->at_hand)
			free(w->skips);
		w->skips = more;
		w->cap_skips = cap;
	}
	w->skips[w->n_skips++] = p;
	return true;
}

/* The last slot went, or the one trial, or none was there: pools are to know it before the next
 * pick. */
static void
note_if_full(struct walk *w, struct node *n)
{
	bool full = n->max > 0 && !board_has_slot(n->entry, n->max);
	if (full || (n->route.kind == ROUTE_UPSTREAM && !board_usable(n->entry)))
		fleet_look_again(w->fleet, n);
}

/* Counts the request on a node; an upstream's count is its slots. */
static bool
take(struct walk *w, struct node *n)
{
	if (!w->take)
		return n->max == 0 || board_in_use(n->entry) < n->max;
	bool ok = board_take_slot(n->entry, n->max);
	note_if_full(w, n);
	return ok;
}

static void
untake(struct walk *w, struct node *n)
{
	if (w->take)
		board_give_back_slot(n->entry);
}

/*
 * Each walk_x takes a node and what lies below it, and says whether there was a way. counted: the
 * node itself was counted by the pool that chose it; on failure that is given back as well. pick:
 * the innermost one so far.
 */
static bool walk(struct walk *w, struct policy_route r, uint8_t pick, bool counted);

static bool
has_failed(const struct walk *w, uint32_t upstream)
{
	for (unsigned i = 0; w->tried != NULL && i < w->tried->n_failed; i++)
		if (w->tried->failed[i] == upstream)
			return true;
	return false;
}

/*
 * Does this pick's pool choose an upstream that stands on the way already? What the hops of a chain
 * name is meant, though, and a sticky pool's choice is another's too.
 */
static bool
is_chosen_twice(const struct walk *w, uint32_t upstream, uint8_t pick)
{
	const struct policy_pool *pool = &w->fleet->policy->pools[w->path->picks[pick].pool];
	if (pool->members[w->path->picks[pick].member].route.kind != ROUTE_UPSTREAM ||
	    pool->sticky.key != KEY_NONE)
		return false;
	for (unsigned i = 0; i < w->path->n_hops; i++)
		if (w->path->hops[i] == upstream)
			return true;
	return false;
}

/* One that no pool chose is tried all the same: its own answer tells more than "none is usable". */
static bool
is_passed_over(struct walk *w, const struct node *n, uint8_t pick)
{
	uint32_t upstream = n->route.index;
	if (pick == NO_PICK || w->key == NULL)
		return false;
	bool unwanted = w->choosy && (has_failed(w, upstream) || is_chosen_twice(w, upstream, pick));
	w->has_chosen |= unwanted;
	return unwanted ||
	       !kind_can(&w->fleet->policy->upstreams[upstream], w->key->command, !w->more_follow);
}

static bool
walk_upstream(struct walk *w, struct node *n, uint8_t pick, bool counted)
{
	struct path *p = w->path;
	if (is_passed_over(w, n, pick)) {
		if (counted)
			untake(w, n);
		return false;
	}
	if (!counted && (!board_usable(n->entry) || !take(w, n)))
		return false;
	assert(p->n_hops < PATH_HOPS_MAX);
	p->hops[p->n_hops] = n->route.index;
	p->hop_pick[p->n_hops++] = pick;
	return true;
}

static bool
walk_direct(struct walk *w, struct node *n, bool counted)
{
	if (!counted && !take(w, n))
		return false;
	w->path->n_direct++;
	return true;
}

/* Gives back what was taken behind the mark, newest first. */
static void
rewind_to(struct walk *w, const struct path *mark)
{
	struct path *p = w->path;
	struct fleet *f = w->fleet;
	while (p->n_hops > mark->n_hops)
		untake(w,
		       fleet_node(f, (struct policy_route){ROUTE_UPSTREAM, p->hops[--p->n_hops]}));
	while (p->n_chains > mark->n_chains)
		untake(w,
		       fleet_node(f, (struct policy_route){ROUTE_CHAIN, p->chains[--p->n_chains]}));
	for (; p->n_direct > mark->n_direct; p->n_direct--)
		untake(w, f->direct);
	while (p->n_picks > mark->n_picks) {
		struct pick *last = &p->picks[--p->n_picks];
		struct node *pool = fleet_node(f, (struct policy_route){ ROUTE_POOL, last->pool });
		untake(w, pool);
		if (w->take)
			pool_load_changed(pool->pool, last->member);
	}
}

static bool
walk_chain(struct walk *w, struct node *n, uint8_t pick, bool counted)
{
	struct path *p = w->path;
	const struct policy_chain *c = &w->fleet->policy->chains[n->route.index];
	const struct path mark = {.n_hops = p->n_hops,
				  .n_picks = p->n_picks,
				  .n_chains = p->n_chains,
				  .n_direct = p->n_direct};
	if (!counted && !take(w, n))
		return false;
	assert(p->n_chains < PATH_CHAINS_MAX);
	p->chains[p->n_chains++] = n->route.index;
	bool more_follow = w->more_follow;
	for (size_t i = 0; i < c->n_hops; i++) {
		w->more_follow = more_follow || i + 1 < c->n_hops;
		if (!walk(w, c->hops[i], pick, false)) {
			rewind_to(w, &mark);
			w->more_follow = more_follow;
			return false;
		}
	}
	w->more_follow = more_follow;
	return true;
}

/* The member was chosen and counted: on from there. If that fails the pick is as if it had not
 * been. */
static bool
walk_member(struct walk *w, struct node *pool, uint32_t member)
{
	struct path *p = w->path;
	struct node *n =
	    fleet_node(w->fleet, w->fleet->policy->pools[pool->route.index].members[member].route);
	uint8_t pick = p->n_picks++;
	assert(pick < PATH_PICKS_MAX);
	p->picks[pick] = (struct pick){ pool->route.index, member };
	if (w->take)
		note_if_full(w, n);
	if (walk(w, n->route, pick, true)) {
		if (w->take)
			pool_count_pick(pool->pool, member);
		return true;
	}
	p->n_picks--;
	if (w->take)
		pool_load_changed(pool->pool, member);
	return false;
}

/* Of several the outermost is told, as it is the last to find out. */
static void
note_busy(struct walk *w, const struct node *pool)
{
	if (w->fleet->policy->pools[pool->route.index].queue.max == 0)
		return;
	w->busy = true;
	w->path->busy_pool = pool->route.index;
}

/*
 * Each member is visited once: one that leads nowhere is skipped from then on. POOL_FULL means that
 * another request took the last slot just now; that can happen again and again only while others
 * get through, and the bound keeps even that finite.
 */
static bool
walk_pool(struct walk *w, struct node *n, bool counted)
{
	if (!counted && !take(w, n))
		return false;
	const struct policy_pool *conf = &w->fleet->policy->pools[n->route.index];
	for (size_t look = 0; look < 2 * conf->n_members + 8; look++) {
		uint32_t member;
		enum pool_result r =
		    pool_pick(n->pool, w->skips, w->n_skips, w->key, w->take, &member);
		if (r == POOL_BUSY)
			note_busy(w, n);
		if (r == POOL_NONE || r == POOL_BUSY)
			break;
		if (r == POOL_FULL) {
			fleet_look_again(w->fleet,
					 fleet_node(w->fleet, conf->members[member].route));
			continue;
		}
		if (walk_member(w, n, member))
			return true;
		if (!add_skip(w, (struct pick){ n->route.index, member }))
			break;
	}
	untake(w, n);
	return false;
}

static bool
walk(struct walk *w, struct policy_route r, uint8_t pick, bool counted)
{
	struct node *n = fleet_node(w->fleet, r);
	switch (r.kind) {
	case ROUTE_UPSTREAM:
		return walk_upstream(w, n, pick, counted);
	case ROUTE_POOL:
		return walk_pool(w, n, counted);
	case ROUTE_CHAIN:
		return walk_chain(w, n, pick, counted);
	default:
		return walk_direct(w, n, counted);
	}
}

static bool
walk_from_start(struct walk *w, struct policy_route route, bool choosy)
{
	w->choosy = choosy;
	w->n_skips = w->tried != NULL ? w->tried->n : 0;
	if (w->n_skips > 0)
		memcpy(w->skips, w->tried->list, w->n_skips * sizeof *w->skips);
	path_clear(w->path);
	return walk(w, route, NO_PICK, false);
}

/* Has the request been counted by this pool, on the way to an earlier hop or on a way before? */
static bool
is_counted(const struct tried *t, uint32_t pool)
{
	for (unsigned i = 0; i < t->n; i++)
		if (t->list[i].pool == pool)
			return true;
	for (unsigned i = 0; i < t->n_pools; i++)
		if (t->pools[i] == pool)
			return true;
	return false;
}

/* A pool counts a request once: a retry is none of its own, nor is another dial of a race. */
static void
count_request(struct fleet *f, const struct path *p, struct tried *t)
{
	for (unsigned i = 0; i < p->n_picks; i++) {
		uint32_t pool = p->picks[i].pool;
		if (is_counted(t, pool))
			continue;
		pool_note_request(fleet_node(f, (struct policy_route){ ROUTE_POOL, pool })->pool);
		if (t->n_pools < ARRAY_LEN(t->pools))
			t->pools[t->n_pools++] = pool;
	}
}

static enum pick_result
find_path(struct fleet *f, struct policy_route route, const struct pick_key *key,
          const struct tried *tried, bool take_slots, struct path *out)
{
	assert(route.kind != ROUTE_REJECT);
	fleet_revive(f);
	struct walk w;
	walk_init(&w, f, out, take_slots);
	w.key = key;
	w.tried = tried;
	bool found = walk_from_start(&w, route, true);
	if (!found && w.has_chosen) {
		w.busy = false;
		found = walk_from_start(&w, route, false);
	}
	out->held = found && take_slots;
	if (w.skips != w.at_hand)
		free(w.skips);
	if (found)
		return PICK_OK;
	return w.busy && fleet_route_usable(f, route) ? PICK_BUSY : PICK_NONE;
}

enum pick_result
fleet_pick_path(struct fleet *f, struct policy_route route, const struct pick_key *key,
                struct tried *tried, struct path *out)
{
	struct tried nothing;
	enum pick_result result = find_path(f, route, key, tried, true, out);
	if (tried == NULL) {
		nothing.n = nothing.n_pools = 0;
		tried = &nothing;
	}
	if (result == PICK_OK && !(key != NULL && key->races))
		count_request(f, out, tried);
	return result;
}

enum pick_result
fleet_preview_path(struct fleet *f, struct policy_route route, const struct pick_key *key,
                   struct path *out)
{
	return find_path(f, route, key, NULL, false, out);
}

struct path
fleet_first_hops(const struct path *path, unsigned n)
{
	assert(n <= path->n_hops);
	struct path part = { .n_hops = (uint8_t)n };
	memcpy(part.hops, path->hops, n * sizeof *part.hops);
	memset(part.hop_pick, NO_PICK, n);
	return part;
}

void
fleet_give_back_path(struct fleet *f, const struct path *path)
{
	static const struct path start;
	if (!path->held)
		return;
	struct path rest = *path;
	struct walk w;
	walk_init(&w, f, &rest, true);
	rewind_to(&w, &start);
}
