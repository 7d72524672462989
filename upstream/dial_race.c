/*
 * dial_race: several attempts of one dial side by side, where a pool races its members: when the
 * next one joins, who wins, and how the others end. See dial.h.
 *
 *   0            delay         2 * delay
 *   |--- first ----------------------------
 *                |--- second --------------      up to `count` of them; the first that is
 *                              |--- third -      granted ends the others
 *
 * The race is that of the first pool on the path that has one, counted from the outside and from
 * the first hop on; each attempt goes the whole way, so in a chain all hops are dialled again. Only
 * a CONNECT is raced. A further attempt takes a slot that is free, and never waits for one.
 *
 * Who loses has done nothing wrong: no failure is counted. But it was waited for, and for
 * least_latency it is at least so slow. Who fails is as at fault as ever, and the pool's retry puts
 * another attempt in its place; where that is used up, those that still run decide.
 */
#include "upstream/dial.h"

#include "base/clock.h"

static const struct policy_pool *
pool_of(const struct dial *x, uint32_t pool)
{
	return &fleet_policy(x->request.fleet)->pools[pool];
}

/* The pick in the pool whose race it is; NULL: the path does not lead through it. */
static const struct pick *
pick_of(const struct attempt *a)
{
	const struct path *p = &a->result.path;
	for (unsigned i = 0; i < p->n_picks; i++)
		if (p->picks[i].pool == a->dial->race_pool)
			return &p->picks[i];
	return NULL;
}

static struct attempt *
attempt_at(struct list *link)
{
	return LIST_OBJECT(link, struct attempt, link);
}

static unsigned
count_running(const struct dial *x)
{
	unsigned n = 0;
	for (const struct list *l = x->attempts.next; l != &x->attempts; l = l->next)
		n++;
	return n;
}

bool
race_has_others(const struct attempt *a)
{
	return a->link.next != a->link.prev; /* both are the list's head */
}

void
race_avoid_others(struct attempt *a)
{
	struct dial *x = a->dial;
	for (struct list *l = x->attempts.next; l != &x->attempts; l = l->next) {
		const struct pick *pick = l != &a->link ? pick_of(attempt_at(l)) : NULL;
		if (pick != NULL)
			(void)dial_avoid(x, *pick);
	}
}

/* ---- another one joins ---- */

/* Takes the slots of a path that leads to none of those that run. False: there is none now. */
static bool
pick_beside(struct dial *x, struct path *path)
{
	for (struct list *l = x->attempts.next; l != &x->attempts; l = l->next) {
		const struct pick *pick = pick_of(attempt_at(l));
		if (pick == NULL || !dial_avoid(x, *pick))
			return false;
	}
	x->request.key.races = true;
	bool found = fleet_pick_path(x->request.fleet, x->request.route, &x->request.key, &x->tried,
				     path) == PICK_OK;
	x->request.key.races = false;
	return found;
}

/* NULL: there is no budget, no way, or no memory for it. */
static struct racer *
racer_new(struct dial *x, struct path *path)
{
	struct fleet *f = x->request.fleet;
	if (!fleet_take_race(f, x->race_pool))
		return NULL;
	struct racer *r = slab_take(&x->dialer->racer_slab);
	if (r == NULL || !pick_beside(x, path)) {
		slab_give_back(&x->dialer->racer_slab, r);
		fleet_give_back_race(f, x->race_pool);
		return NULL;
	}
	stream_init(&r->stream, x->dialer->loop);
	attempt_init(&r->attempt, x, &r->stream);
	return r;
}

static void
on_delay(struct deadline *d)
{
	struct dial *x = CONTAINER_OF(d, struct dial, race);
	const struct policy_race *race = &pool_of(x, x->race_pool)->race;
	struct path path;
	struct racer *r = racer_new(x, &path);
	if (r == NULL)
		return;
	x->n_raced++;
	if (count_running(x) < race->count)
		loop_set_deadline(x->dialer->loop, d, race->delay_ms);
	attempt_take(&r->attempt, &path);
	attempt_go_on(&r->attempt);
}

void
race_init(struct dial *x)
{
	list_init(&x->attempts);
	deadline_init(&x->race, on_delay);
}

void
race_plan(struct attempt *a)
{
	struct dial *x = a->dial;
	const struct path *p = &a->result.path;
	if (race_has_others(a) || x->request.command != SOCKS_CONNECT ||
	    x->request.until != DIAL_UNTIL_TUNNEL || x->request.fixed != NULL)
		return;
	for (unsigned i = 0; i < p->n_picks; i++) {
		const struct policy_race *race = &pool_of(x, p->picks[i].pool)->race;
		if (race->count == 0)
			continue;
		x->race_pool = p->picks[i].pool;
		loop_set_deadline(x->dialer->loop, &x->race, race->delay_ms);
		return;
	}
}

void
race_call_off(struct dial *x)
{
	loop_clear_deadline(x->dialer->loop, &x->race);
}

/* ---- and goes ---- */

void
race_leave(struct attempt *a)
{
	struct dial *x = a->dial;
	list_remove(&a->link);
	attempt_drop(a);
	if (a != &x->first)
		slab_give_back(&x->dialer->racer_slab, CONTAINER_OF(a, struct racer, attempt));
}

static void
note_loser(const struct attempt *a)
{
	const struct pick *pick = pick_of(a);
	if (pick != NULL && a->stage != DIAL_RESOLVE)
		fleet_note_loser(a->dial->request.fleet, *pick, clock_now_us() - a->since_us);
}

void
race_end(struct attempt *a)
{
	struct dial *x = a->dial;
	race_call_off(x);
	for (struct list *l = x->attempts.next, *next; l != &x->attempts; l = next) {
		next = l->next;
		if (l == &a->link)
			continue;
		attempt_stop(attempt_at(l));
		race_leave(attempt_at(l));
	}
}

bool
race_win(struct attempt *a)
{
	struct dial *x = a->dial;
	if (x->n_raced > 0) {
		race_avoid_others(a);
		for (struct list *l = x->attempts.next; l != &x->attempts; l = l->next)
			if (l != &a->link)
				note_loser(attempt_at(l));
		fleet_note_winner(x->request.fleet, &a->result.path, &x->tried, &x->request.key);
	}
	race_end(a);
	if (a->stream == x->out)
		return true;
	if (!stream_move(x->out, a->stream))
		return false;
	a->stream = x->out;
	return true;
}

void
race_stop(struct dial *x)
{
	for (struct list *l = x->attempts.next; l != &x->attempts; l = l->next)
		attempt_stop(attempt_at(l));
}

void
race_free(struct dial *x)
{
	race_call_off(x);
	while (!list_empty(&x->attempts))
		race_leave(attempt_at(x->attempts.next));
}
