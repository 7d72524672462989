/*
 * pool: see pool.h. Members, tiers, and which members are in their tier's balancer; how to choose
 * among those is the balancer's.
 */
#include "upstream/pool.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>

#include "base/clock.h"
#include "base/hash.h"
#include "socks/command.h"
#include "upstream/balance.h"
#include "upstream/pool_key.h"
#include "upstream/pool_memory.h"

/* With slow_start weights are counted in parts, so that a weight of 1 can grow too; a pick brings a
 * few of those that grow up to date. */
enum { WEIGHT_PARTS = 16, RAMPS_EACH_PICK = 4 };

struct member {
	struct board_entry *entry;
	struct pick_count *picks;
	uint32_t max;
	uint32_t tier, slot;                   /* index of its tier, slot in the tier's balancer */
	uint32_t weight;
	struct pool_status status;
	bool in;                               /* in the balancer */
	uint32_t weight_in;                    /* with this weight */
	bool aside;                            /* skipped by the pick under way */
	bool avoided;                          /* by the pick under way, if another one can be had */
	bool was_down;                         /* it was usable before and is not now */
	uint64_t back_ms;                      /* slow start: since when it is back; 0: no matter */
	struct list ramping;                   /* in pool.ramping while it grows */
};

struct tier {
	uint32_t number;                       /* as in the document */
	uint32_t n;                            /* members */
	uint32_t n_usable;                     /* of weight > 0 */
	uint32_t n_in;
	uint32_t *members;                     /* by slot */
	struct balancer *balancer;
};

/* Members to be avoided by the pick under way; those that the balancer drew all the same are aside.
 * The others keep their places: their turns are not to be lost by requests for one host. */
struct avoided {
	unsigned n, n_drawn;
	uint32_t members[AVOID_EACH_HOST_MAX], drawn[AVOID_EACH_HOST_MAX];
};

struct pool {
	pthread_mutex_t mutex;                 /* over all that changes after pool_new() */
	const struct balance_ops *balance;
	uint32_t index, n_members, n_tiers;
	struct member *members;
	struct tier *tiers;                    /* lowest first */
	uint32_t *slots;                       /* what the tiers' member lists are cut from */
	enum pool_key hash_key;
	struct random random;                  /* for requests without the key */
	uint64_t slow_start_ms;
	struct list ramping;                   /* of members */
	const struct policy_pool *conf;
	struct pool_memory *memory;
	struct pool_queue queue;
	struct avoided *avoided;               /* while one picks */
	uint32_t tiers_open;                   /* to the pick under way: those before this one */
	uint32_t *by_name;                     /* members, sorted by name: with sticky or avoid */
};

static const struct balance_ops *const balances[] = {
	[BALANCE_ROUND_ROBIN] = &balance_round_robin,
	[BALANCE_LEAST_CONNECTIONS] = &balance_least_connections,
	[BALANCE_RANDOM] = &balance_random,
	[BALANCE_FIRST] = &balance_first,
	[BALANCE_TWO_CHOICES] = &balance_two_choices,
	[BALANCE_LEAST_LATENCY] = &balance_least_latency,
	[BALANCE_CONSISTENT_HASH] = &balance_consistent_hash,
};

/* ---- made and freed ---- */

static int
by_number(const void *a, const void *b)
{
	uint32_t left = ((const struct tier *)a)->number, right = ((const struct tier *)b)->number;
	return (left > right) - (left < right);
}

/* The distinct numbers of the members' tiers, sorted. */
static bool
tiers_new(struct pool *p, const struct policy_pool *conf)
{
	p->tiers = calloc(p->n_members + 1, sizeof *p->tiers);
	if (p->tiers == NULL)
		return false;
	for (uint32_t i = 0; i < p->n_members; i++)
		p->tiers[i].number = conf->members[i].tier;
	qsort(p->tiers, p->n_members, sizeof *p->tiers, by_number);
	for (uint32_t i = 0; i < p->n_members; i++) {
		if (i == 0 || p->tiers[i].number != p->tiers[p->n_tiers - 1].number)
			p->tiers[p->n_tiers++].number = p->tiers[i].number;
	}
	return true;
}

/* Gives each member its tier and slot; the tiers' lists lie one behind the other in p->slots. */
static void
tiers_fill(struct pool *p, const struct policy_pool *conf)
{
	for (uint32_t i = 0; i < p->n_members; i++) {
		const struct tier key = { .number = conf->members[i].tier };
		struct tier *t = bsearch(&key, p->tiers, p->n_tiers, sizeof *p->tiers, by_number);
		p->members[i].tier = (uint32_t)(t - p->tiers);
		p->members[i].slot = t->n++;
	}
	uint32_t *at = p->slots;
	for (uint32_t i = 0; i < p->n_tiers; i++) {
		p->tiers[i].members = at;
		at += p->tiers[i].n;
	}
	for (uint32_t i = 0; i < p->n_members; i++)
		p->tiers[p->members[i].tier].members[p->members[i].slot] = i;
}

/* What a weight of the document is for the balancer. */
static uint32_t
in_parts(const struct pool *p, uint32_t weight)
{
	return p->slow_start_ms > 0 ? weight * WEIGHT_PARTS : weight;
}

static bool
balancers_new(struct pool *p, struct board_entry *const *entries)
{
	struct board_entry **of_tier = calloc(p->n_members + 1, sizeof *of_tier);
	uint32_t *weights = calloc(p->n_members + 1, sizeof *weights);
	bool ok = of_tier != NULL && weights != NULL;
	for (uint32_t i = 0; ok && i < p->n_tiers; i++) {
		struct tier *t = &p->tiers[i];
		for (uint32_t slot = 0; slot < t->n; slot++) {
			of_tier[slot] = entries[t->members[slot]];
			weights[slot] = in_parts(p, p->members[t->members[slot]].weight);
		}
		t->balancer = p->balance->create(of_tier, weights, t->n);
		ok = t->balancer != NULL;
	}
	free(weights);
	free(of_tier);
	return ok;
}

/* Of members' names, with the conf at hand. */
static int
by_name(const void *a, const void *b, void *arg)
{
	const struct policy_member *members = arg;
	return strcmp(members[*(const uint32_t *)a].name, members[*(const uint32_t *)b].name);
}

static bool
names_new(struct pool *p)
{
	p->by_name = calloc(p->n_members + 1, sizeof *p->by_name);
	if (p->by_name == NULL)
		return false;
	for (uint32_t i = 0; i < p->n_members; i++)
		p->by_name[i] = i;
	qsort_r(p->by_name, p->n_members, sizeof *p->by_name, by_name, p->conf->members);
	return true;
}

bool
pool_find_member(const struct pool *p, const char *name, uint32_t *member)
{
	uint32_t low = 0, high = p->n_members;
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		int order = strcmp(name, p->conf->members[p->by_name[mid]].name);
		if (order == 0) {
			*member = p->by_name[mid];
			return true;
		}
		if (order < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return false;
}

struct pool *
pool_new(const struct policy_pool *conf, uint32_t index, struct pool_memory *memory,
         struct board_entry *const *entries, const uint32_t *max)
{
	struct pool *p = calloc(1, sizeof *p);
	if (p == NULL)
		return NULL;
	if (pthread_mutex_init(&p->mutex, NULL) != 0) {
		free(p);
		return NULL;
	}
	p->balance = balances[conf->balance];
	p->hash_key = conf->hash_key;
	p->slow_start_ms = conf->slow_start_ms;
	p->index = index;
	p->conf = conf;
	p->memory = memory;
	pool_queue_init(&p->queue);
	list_init(&p->ramping);
	random_seed(&p->random, 0);
	p->n_members = (uint32_t)conf->n_members;
	p->members = calloc(conf->n_members + 1, sizeof *p->members);
	p->slots = calloc(conf->n_members + 1, sizeof *p->slots);
	if (p->members == NULL || p->slots == NULL || !tiers_new(p, conf) ||
	    ((conf->sticky.key != KEY_NONE || conf->avoid.failures > 0) && !names_new(p)))
		goto fail;
	for (uint32_t i = 0; i < p->n_members; i++) {
		p->members[i].entry = entries[i];
		p->members[i].max = max[i];
		p->members[i].weight = conf->members[i].weight;
		list_init(&p->members[i].ramping);
		if ((p->members[i].picks = pick_count_hold(memory, conf->members[i].name)) == NULL)
			goto fail;
	}
	tiers_fill(p, conf);
	p->tiers_open = p->n_tiers;
	if (!balancers_new(p, entries))
		goto fail;
	return p;
fail:
	pool_free(p);
	return NULL;
}

void
pool_free(struct pool *p)
{
	if (p == NULL)
		return;
	for (uint32_t i = 0; i < p->n_tiers; i++) {
		if (p->tiers[i].balancer != NULL)
			p->balance->destroy(p->tiers[i].balancer);
	}
	for (uint32_t i = 0; p->members != NULL && i < p->n_members; i++)
		pick_count_release(p->memory, p->members[i].picks);
	free(p->by_name);
	free(p->tiers);
	free(p->slots);
	free(p->members);
	pthread_mutex_destroy(&p->mutex);
	free(p);
}

/* ---- what is known of members ---- */

/* Counted as what a tier has to offer? */
static bool
offers(const struct member *m)
{
	return m->status.usable && m->weight > 0 && !m->aside;
}

/* The weight that counts now; more than 0 if the weight is. */
static uint32_t
weight_now(const struct pool *p, const struct member *m, uint64_t now_ms)
{
	uint32_t full = in_parts(p, m->weight);
	if (m->back_ms == 0 || full == 0)
		return full;
	uint64_t for_ms = now_ms > m->back_ms ? now_ms - m->back_ms : 0;
	if (for_ms >= p->slow_start_ms)
		return full;
	uint64_t part = 1 + (full - 1) * for_ms / p->slow_start_ms;
	return (uint32_t)part;
}

/* Brings the tier's counts and the balancer in line with the member; `before`: offers() before the
 * change. */
static void
settle(struct pool *p, struct member *m, bool before)
{
	struct tier *t = &p->tiers[m->tier];
	bool now = offers(m), in = now && m->status.room;
	uint32_t weight = in && m->back_ms > 0 ? weight_now(p, m, clock_now_ms())
	                                       : in_parts(p, m->weight);
	t->n_usable += (uint32_t)now - (uint32_t)before;
	if (m->in && (!in || weight != m->weight_in)) {
		p->balance->take_out(t->balancer, m->slot);
		t->n_in--;
		m->in = false;
	}
	if (in && !m->in) {
		p->balance->put_in(t->balancer, m->slot, weight);
		t->n_in++;
		m->in = true;
		m->weight_in = weight;
	}
}

/* A member that was down and is back starts with little; one that was never up has no past to
 * recover from. */
static void
note_return(struct pool *p, struct member *m, bool usable)
{
	if (p->slow_start_ms == 0 || usable == m->status.usable)
		return;
	if (usable && m->was_down) {
		m->back_ms = clock_now_ms();
		list_append(&p->ramping, &m->ramping);
	} else if (!usable) {
		m->was_down = true;
		m->back_ms = 0;
		list_remove(&m->ramping);
	}
}

/* Gives the next few of those that grow the weight that they have by now. */
static void
grow(struct pool *p)
{
	uint64_t now = list_empty(&p->ramping) ? 0 : clock_now_ms();
	for (int i = 0; i < RAMPS_EACH_PICK && !list_empty(&p->ramping); i++) {
		struct member *m = LIST_OBJECT(p->ramping.next, struct member, ramping);
		list_remove(&m->ramping);
		if (now - m->back_ms >= p->slow_start_ms)
			m->back_ms = 0;
		else
			list_append(&p->ramping, &m->ramping);
		settle(p, m, offers(m));
	}
}

static void
set_aside(struct pool *p, struct member *m, bool aside)
{
	bool before = offers(m);
	m->aside = aside;
	settle(p, m, before);
}

/* The tier that counts; NULL: no member is usable. */
static struct tier *
active_tier(struct pool *p)
{
	for (uint32_t i = 0; i < p->tiers_open; i++) {
		if (p->tiers[i].n_usable > 0)
			return &p->tiers[i];
	}
	return NULL;
}

static struct pool_status
own_status(struct pool *p)
{
	const struct tier *t = active_tier(p);
	return (struct pool_status){ .usable = t != NULL, .room = t != NULL && t->n_in > 0 };
}

struct pool_status
pool_set_member(struct pool *p, uint32_t member, struct pool_status now, uint32_t weight)
{
	struct member *m = &p->members[member];
	assert(weight <= BALANCE_WEIGHT_MAX);
	pthread_mutex_lock(&p->mutex);
	bool before = offers(m), could = m->status.usable && m->status.room;
	note_return(p, m, now.usable);
	m->status = now;
	m->weight = weight;
	settle(p, m, before);
	struct pool_status own = own_status(p);
	if (!own.usable)
		pool_queue_wake_all(&p->queue);
	else if (!could && now.usable && now.room)
		pool_queue_next_turn(&p->queue, 0);
	pthread_mutex_unlock(&p->mutex);
	return own;
}

struct pool_status
pool_get_status(struct pool *p)
{
	pthread_mutex_lock(&p->mutex);
	struct pool_status own = own_status(p);
	pthread_mutex_unlock(&p->mutex);
	return own;
}

void
pool_get_member(struct pool *p, uint32_t member, struct pool_member_view *out)
{
	pthread_mutex_lock(&p->mutex);
	out->status = p->members[member].status;
	out->weight = p->members[member].weight;
	out->picks = pick_count_get(p->members[member].picks);
	pthread_mutex_unlock(&p->mutex);
}

void
pool_count_pick(struct pool *p, uint32_t member)
{
	pick_count_add(p->members[member].picks);
}

/* ---- who is avoided for a host ---- */

static void
on_avoided(const char *name, void *arg)
{
	struct pool *p = arg;
	struct avoided *a = p->avoided;
	uint32_t i;
	if (!pool_find_member(p, name, &i) || p->members[i].aside)
		return;
	p->members[i].avoided = true;
	a->members[a->n++] = i;
}

/* The host that failures are counted by. False: they are not, for this request. */
static bool
host_of(const struct pool *p, const struct pick_key *key, char host[POOL_KEY_MAX])
{
	return p->conf->avoid.failures > 0 && key != NULL &&
	       (key->command == 0 || key->command == SOCKS_CONNECT) &&
	       pool_key_text(KEY_DESTINATION_HOST, key, host) > 0;
}

static void
avoided_begin(struct pool *p, const struct pick_key *key, struct avoided *a)
{
	char host[POOL_KEY_MAX];
	a->n = a->n_drawn = 0;
	p->avoided = a;
	if (host_of(p, key, host))
		avoid_each(p->memory->avoid, host, clock_now_ms(), on_avoided, p);
}

/* Those whose turn it was have lost it, and come back in the same order. */
static void
avoided_end(struct pool *p, struct avoided *a)
{
	for (unsigned i = 0; i < a->n; i++)
		p->members[a->members[i]].avoided = false;
	for (unsigned i = 0; i < a->n_drawn; i++)
		set_aside(p, &p->members[a->drawn[i]], false);
	p->avoided = NULL;
}

void
pool_note_destination(struct pool *p, uint32_t member, const struct pick_key *key, bool served)
{
	char host[POOL_KEY_MAX];
	const char *name = p->conf->members[member].name;
	if (!host_of(p, key, host))
		return;
	if (served)
		avoid_note_success(p->memory->avoid, host, name);
	else
		avoid_note_failure(p->memory->avoid, host, name, clock_now_ms(), &p->conf->avoid);
}

/* ---- picks ---- */

/* Of the request's key. Requests that have none are spread. */
static uint64_t
hash_of(struct pool *p, const struct pick_key *key)
{
	char text[POOL_KEY_MAX];
	if (p->hash_key == KEY_NONE)
		return 0;
	size_t len = pool_key_text(p->hash_key, key, text);
	return len > 0 ? hash_stable(text, len, 0) : random_next(&p->random);
}

static enum pool_result pick_any(struct pool *p, const struct pick_key *key, bool take,
                                 uint32_t *member);

static enum pool_result
pick_in_tier(struct pool *p, struct tier *t, const struct pick_key *key, bool take,
             uint32_t *member)
{
	uint32_t slot = p->balance->choose(t->balancer, hash_of(p, key));
	*member = t->members[slot];
	struct member *m = &p->members[*member];
	if (m->avoided) {
		p->avoided->drawn[p->avoided->n_drawn++] = *member;
		set_aside(p, m, true);
		return pick_any(p, key, take, member);
	}
	if (!take)
		return POOL_PICKED;
	if (!board_take_slot(m->entry, m->max))
		return POOL_FULL;
	if (p->balance->took != NULL)
		p->balance->took(t->balancer, slot);
	return POOL_PICKED;
}

static void
skip_members(struct pool *p, const struct pick *skip, size_t n_skip, bool aside)
{
	for (size_t i = 0; i < n_skip; i++) {
		if (skip[i].pool == p->index && p->members[skip[i].member].aside != aside)
			set_aside(p, &p->members[skip[i].member], aside);
	}
}

/* ---- sticky ---- */

/* What the table says of a request. */
struct stickiness {
	char key[POOL_KEY_MAX];                /* "": it has none */
	bool pinned;                           /* to `member`, who is of this pool */
	uint32_t member;
};

static void
look_up_pin(struct pool *p, const struct pick_key *key, bool take, struct stickiness *s)
{
	const struct policy_sticky *conf = &p->conf->sticky;
	char name[POLICY_NAME_MAX + 1];
	s->pinned = false;
	if (pool_key_text(conf->key, key, s->key) == 0)
		return;
	uint64_t now = clock_now_ms();
	s->pinned = sticky_find(p->memory->sticky, s->key, now, take ? now + conf->ttl_ms : 0, name) &&
	            pool_find_member(p, name, &s->member);
}

static void
pin(struct pool *p, const struct stickiness *s, uint32_t member)
{
	const struct policy_sticky *conf = &p->conf->sticky;
	uint64_t now = clock_now_ms();
	sticky_set(p->memory->sticky, s->key, p->conf->members[member].name, now,
	           now + conf->ttl_ms, conf->max_entries);
}

/* Takes the member that the request is pinned to: the balancer is told that its load changed, and
 * keeps its turns for those that it chooses itself. */
static enum pool_result
pick_pinned(struct pool *p, uint32_t member, bool take)
{
	struct member *m = &p->members[member];
	if (!m->status.room)
		return POOL_BUSY;
	if (!take)
		return POOL_PICKED;
	if (!board_take_slot(m->entry, m->max))
		return POOL_FULL;
	if (p->balance->load_changed != NULL)
		p->balance->load_changed(p->tiers[m->tier].balancer, m->slot);
	return POOL_PICKED;
}

static enum pool_result
pick_any(struct pool *p, const struct pick_key *key, bool take, uint32_t *member)
{
	struct tier *t = active_tier(p);
	if (t == NULL)
		return POOL_NONE;
	return t->n_in > 0 ? pick_in_tier(p, t, key, take, member) : POOL_BUSY;
}

static enum pool_result
pick_sticky(struct pool *p, const struct pick_key *key, bool take, uint32_t *member)
{
	struct stickiness s;
	look_up_pin(p, key, take, &s);
	const struct member *m = s.pinned ? &p->members[s.member] : NULL;
	bool usable = m != NULL && m->status.usable && !m->aside;
	bool wanted = usable && !m->avoided; /* else another one stands in this once */
	if (s.pinned && !wanted && !p->conf->sticky.repin)
		return POOL_NONE;
	if (wanted) {
		enum pool_result result = pick_pinned(p, s.member, take);
		*member = s.member;
		if (result != POOL_BUSY || !p->conf->sticky.repin)
			return result;
	}
	enum pool_result result = pick_any(p, key, take, member);
	if (result == POOL_PICKED && take && !usable && s.key[0] != '\0' && !key->races)
		pin(p, &s, *member);
	return result;
}

static enum pool_result
pick_by_key(struct pool *p, const struct pick_key *key, bool take, uint32_t *member)
{
	return p->conf->sticky.key != KEY_NONE ? pick_sticky(p, key, take, member)
	                                       : pick_any(p, key, take, member);
}

/* Those to be avoided come last. */
static enum pool_result
pick_preferred(struct pool *p, const struct pick_key *key, bool take, uint32_t *member)
{
	struct avoided avoided;
	avoided_begin(p, key, &avoided);
	enum pool_result result = pick_by_key(p, key, take, member);
	avoided_end(p, &avoided);
	if (avoided.n > 0 && (result == POOL_NONE || result == POOL_BUSY))
		result = pick_by_key(p, key, take, member);
	return result;
}

void
pool_note_request(struct pool *p)
{
	pthread_mutex_lock(&p->memory->mutex);
	budget_note_request(&p->memory->budget, clock_now_ms());
	if (p->conf->race.count > 0)
		extra_note_request(&p->memory->extra, p->conf->race.max_extra_percent);
	pthread_mutex_unlock(&p->memory->mutex);
}

bool
pool_may_retry(struct pool *p)
{
	pthread_mutex_lock(&p->memory->mutex);
	bool may = budget_take_retry(&p->memory->budget, clock_now_ms(), p->conf->retry_budget_percent);
	pthread_mutex_unlock(&p->memory->mutex);
	return may;
}

bool
pool_take_race(struct pool *p)
{
	pthread_mutex_lock(&p->memory->mutex);
	bool may = extra_take(&p->memory->extra);
	pthread_mutex_unlock(&p->memory->mutex);
	return may;
}

void
pool_give_back_race(struct pool *p)
{
	pthread_mutex_lock(&p->memory->mutex);
	extra_give_back(&p->memory->extra);
	pthread_mutex_unlock(&p->memory->mutex);
}

static bool
took_part(const struct pool *p, const struct pick *skip, size_t n_skip, uint32_t member)
{
	for (size_t i = 0; i < n_skip; i++)
		if (skip[i].pool == p->index && skip[i].member == member)
			return true;
	return false;
}

void
pool_note_winner(struct pool *p, uint32_t member, const struct pick *skip, size_t n_skip,
                 const struct pick_key *key)
{
	struct stickiness s;
	if (p->conf->sticky.key == KEY_NONE)
		return;
	look_up_pin(p, key, false, &s);
	bool moves = !s.pinned || (s.member != member && took_part(p, skip, n_skip, s.member));
	if (s.key[0] != '\0' && moves)
		pin(p, &s, member);
}

/* A race goes to no tier behind those of its other dials: they may be slow, but they aren't dead. */
static uint32_t
tiers_for(const struct pool *p, const struct pick *skip, size_t n_skip, const struct pick_key *key)
{
	uint32_t n = 0;
	for (size_t i = 0; i < n_skip && key != NULL && key->races; i++)
		if (skip[i].pool == p->index && p->members[skip[i].member].tier >= n)
			n = p->members[skip[i].member].tier + 1;
	return n > 0 ? n : p->n_tiers;
}

enum pool_result
pool_pick(struct pool *p, const struct pick *skip, size_t n_skip, const struct pick_key *key,
          bool take, uint32_t *member)
{
	pthread_mutex_lock(&p->mutex);
	grow(p);
	skip_members(p, skip, n_skip, true);
	p->tiers_open = tiers_for(p, skip, n_skip, key);
	enum pool_result result;
	if (take && pool_queue_is_busy(&p->queue) && !(key != NULL && key->has_turn))
		result = own_status(p).usable ? POOL_BUSY : POOL_NONE;
	else
		result = pick_preferred(p, key, take, member);
	skip_members(p, skip, n_skip, false);
	p->tiers_open = p->n_tiers;
	pthread_mutex_unlock(&p->mutex);
	return result;
}

void
pool_load_changed(struct pool *p, uint32_t member)
{
	if (p->balance->load_changed == NULL)
		return;
	struct member *m = &p->members[member];
	pthread_mutex_lock(&p->mutex);
	p->balance->load_changed(p->tiers[m->tier].balancer, m->slot);
	pthread_mutex_unlock(&p->mutex);
}

/* ---- the queue ---- */

enum join_result
pool_join(struct pool *p, struct pool_waiter *w, bool insist)
{
	enum join_result result = JOIN_WAITS;
	pthread_mutex_lock(&p->mutex);
	struct pool_status own = own_status(p);
	bool free_now = !own.usable || (own.room && !pool_queue_is_busy(&p->queue));
	if (free_now && !insist)
		result = JOIN_TRY_AGAIN;
	else if (p->queue.n >= p->conf->queue.max)
		result = JOIN_FULL;
	else
		pool_queue_add(&p->queue, w);
	/* Those in front wait for members that there is no room in, though there is in others: no slot
	 * that comes free will wake anybody for those. */
	if (result == JOIN_WAITS && !insist && own.room)
		pool_queue_next_turn(&p->queue, w->number - 1);
	pthread_mutex_unlock(&p->mutex);
	return result;
}

bool
pool_leave(struct pool *p, struct pool_waiter *w)
{
	pthread_mutex_lock(&p->mutex);
	bool waited = w->state == WAITER_WAITING;
	if (waited)
		pool_queue_remove(&p->queue, w);
	if (waited && own_status(p).room)
		pool_queue_next_turn(&p->queue, 0);
	pthread_mutex_unlock(&p->mutex);
	return waited;
}

/* Where there is room the next one has its turn: after one who took a slot or left, the first; after
 * one for whom there was none, though there is room for others, the one behind it. */
void
pool_end_turn(struct pool *p, struct pool_waiter *w, bool again)
{
	pthread_mutex_lock(&p->mutex);
	pool_queue_end_turn(&p->queue, w);
	if (again)
		pool_queue_add(&p->queue, w);
	struct pool_status own = own_status(p);
	if (!own.usable)
		pool_queue_wake_all(&p->queue);
	else if (own.room)
		pool_queue_next_turn(&p->queue, again ? w->number : 0);
	pthread_mutex_unlock(&p->mutex);
}

uint32_t
pool_waiting(struct pool *p)
{
	pthread_mutex_lock(&p->mutex);
	uint32_t n = p->queue.n + p->queue.n_turns;
	pthread_mutex_unlock(&p->mutex);
	return n;
}
