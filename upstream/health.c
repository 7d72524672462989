/*
 * health: see health.h. A check waits for its time, then perhaps for its turn, is dialled, judged,
 * and closed in good order.
 *
 *   WAITING --due--> QUEUED --a place is free--> DIALLING --granted--> CLOSING --> WAITING
 *                                                  |  `-> ASKING -^ |
 *                                                  `------failed----+-> DOUBTED --> WAITING
 * ASKING where HTTP is to be asked; DOUBTED while the reference is asked whether it is us.
 */
#include "upstream/health.h"

#define HASH_NONFATAL_OOM 1

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/stream.h"
#include "upstream/health_plan.h"
#include "upstream/http_exchange.h"
#include "upstream/reference.h"

enum {
	RUNNING_MAX = 256,             /* checks under way */
	/* the first round is over by then, or after so much for each; at most an interval */
	FIRST_ROUND_MS = 1000,
	FIRST_EACH_MS = 10,
	CLOSING_MS = 1000,             /* for the peer to end as well */
	KEY_MAX = PATH_HOPS_MAX * 20 + 2 * ENDPOINT_TEXT_MAX + 256,
	WHY_MAX = 256,
};

/* What is known of one upstream, over all checks that go through it. */
struct subject {
	struct board_entry *entry;             /* the table's key */
	bool busy;                             /* a check of it is under way */
	struct list opinions;
	UT_hash_handle hh;
};

/* What one check thinks of one upstream. */
struct opinion {
	struct list link;                      /* in its subject */
	struct subject *subject;               /* NULL: a step that is a pool, not judged */
	enum upstream_state state;             /* UNKNOWN, UP, DOWN */
	bool last_ok;
	bool untried;                          /* out from the start, by the policy's wish */
	uint32_t streak;                       /* results like the last one, in a row */
};

enum check_state {
	CHECK_WAITING,
	CHECK_QUEUED,
	CHECK_DIALLING,
	CHECK_ASKING,
	CHECK_DOUBTED,
	CHECK_CLOSING,
};

struct check {
	struct health *health;
	enum check_state state;
	struct policy_health conf;
	struct check_way way;
	struct opinion opinions[PATH_HOPS_MAX];        /* of each step of the way */
	uint8_t step_of[PATH_HOPS_MAX];        /* under way: the step that each hop came from */
	uint8_t n_hops;                        /* under way: hops whose state is looked at */
	struct list queued;                    /* in health->queue */
	struct deadline due;
	struct dial *dial;
	struct http_exchange *exchange;
	struct stream stream;
	uint64_t began_us, next_ms;
	uint64_t failing_since_ms;             /* the first failure since it passed; 0: it passed */
	/* the failure in doubt */
	enum verdict verdict;
	unsigned fault;                        /* hop */
	char why[WHY_MAX];
	struct reference *reference;           /* NULL: none */
	struct reference_wait wait;
	bool stays;                            /* while a new fleet is taken up */
	UT_hash_handle hh;
	char key[];
};

struct health {
	struct loop *loop;
	struct dialer *dialer;
	struct references *references;
	health_cb *on_change;
	void *arg;
	struct fleet *fleet;
	struct check *checks;
	struct subject *subjects;
	struct list queue;
	unsigned running;
	struct random random;
};

/* ---- opinions ---- */

static struct subject *
subject_for(struct health *h, struct board_entry *e)
{
	struct subject *s;
	HASH_FIND_PTR(h->subjects, &e, s);
	if (s != NULL)
		return s;
	s = calloc(1, sizeof *s);
	if (s == NULL)
		return NULL;
	s->entry = e;
	list_init(&s->opinions);
	HASH_ADD_PTR(h->subjects, entry, s);
	if (s->hh.tbl == NULL) {
		free(s);
		return NULL;
	}
	return s;
}

/* Nobody checks it any more: what was found may be as wrong as right by now. */
static void
subject_drop(struct health *h, struct subject *s)
{
	HASH_DEL(h->subjects, s);
	atomic_store_explicit(&s->entry->state, UPSTREAM_UNKNOWN, memory_order_relaxed);
	board_tell(s->entry, "nobody checks it any more");
	free(s);
}

/* Begins with what is on the board, which an earlier check with other settings may have found. */
static bool
opinion_init(struct health *h, struct opinion *o, struct policy_route step)
{
	list_init(&o->link);
	if (step.kind != ROUTE_UPSTREAM)
		return true;
	o->subject = subject_for(h, fleet_upstream(h->fleet, step.index));
	if (o->subject == NULL)
		return false;
	list_append(&o->subject->opinions, &o->link);
	o->state = board_state(o->subject->entry);
	return true;
}

static enum upstream_state
subject_state(const struct subject *s)
{
	enum upstream_state state = UPSTREAM_UNKNOWN;
	LIST_FOR_EACH(&s->opinions, link) {
		const struct opinion *o = LIST_OBJECT(link, struct opinion, link);
		if (o->state == UPSTREAM_DOWN)
			return UPSTREAM_DOWN;
		if (o->state == UPSTREAM_UP)
			state = UPSTREAM_UP;
	}
	return state;
}

static void
publish_state(struct health *h, struct subject *s, const char *why)
{
	struct board_entry *e = s->entry;
	enum upstream_state now = subject_state(s);
	enum upstream_state before = board_state(e);
	if (now == before)
		return;
	atomic_store_explicit(&e->state, now, memory_order_relaxed);
	board_tell(e, why);
	h->on_change(e->name, before, now, why, h->arg);
}

/* What is left of the opinions decides. */
static void
opinion_drop(struct health *h, struct opinion *o)
{
	if (o->subject == NULL)
		return;
	list_remove(&o->link);
	if (list_empty(&o->subject->opinions))
		subject_drop(h, o->subject);
	else
		publish_state(h, o->subject, "a check of it is no longer asked for");
}

static void
note_on_board(const struct opinion *o, enum verdict v, uint64_t us)
{
	struct board_entry *e = o->subject->entry;
	atomic_store_explicit(&e->check_at_ms, clock_wall_ms(), memory_order_relaxed);
	atomic_store_explicit(&e->check_us, us < UINT32_MAX ? (uint32_t)us : UINT32_MAX,
			      memory_order_relaxed);
	atomic_store_explicit(&e->check_verdict, v, memory_order_relaxed);
	atomic_store_explicit(&e->check_streak, o->streak, memory_order_relaxed);
}

static void
judge(struct check *c, struct opinion *o, enum verdict v, const char *why)
{
	if (o->subject == NULL)
		return;
	bool ok = v == VERDICT_GRANTED;
	o->streak = o->last_ok == ok ? o->streak + 1 : 1;
	o->last_ok = ok;
	if (ok && (o->state == UPSTREAM_UNKNOWN || o->untried || o->streak >= c->conf.rise))
		o->state = UPSTREAM_UP;
	o->untried = o->untried && !ok;
	if (!ok && o->streak >= c->conf.fall)
		o->state = UPSTREAM_DOWN;
	note_on_board(o, v, clock_now_us() - c->began_us);
	publish_state(c->health, o->subject, why);
}

/* ---- a check under way ---- */

static void set_running(struct check *c, bool running);
static void run_queue(struct health *h);

/* The last check passed, and what it is about is up. */
static bool
is_well(const struct check *c)
{
	const struct opinion *o = &c->opinions[c->way.n - 1];
	return c->failing_since_ms == 0 && (o->subject == NULL || o->state == UPSTREAM_UP);
}

/* At least half an interval lies between two checks, whatever the jitter. */
static uint64_t
interval_ms(struct check *c)
{
	uint64_t interval = is_well(c) ? c->conf.interval_ms : c->conf.fast_interval_ms;
	uint64_t spread = interval * c->conf.jitter_percent / 100;
	if (spread > interval / 2)
		spread = interval / 2;
	return spread == 0 ? interval
			   : interval - spread + random_next(&c->health->random) % (2 * spread + 1);
}

static void
wait_until(struct check *c, uint64_t at_ms)
{
	uint64_t now = loop_now(c->health->loop);
	c->state = CHECK_WAITING;
	c->next_ms = at_ms;
	loop_set_deadline(c->health->loop, &c->due, at_ms > now ? at_ms - now : 0);
}

/* Over, in whatever way: the next one, counted from when this one was due. */
static void
check_end(struct check *c)
{
	struct health *h = c->health;
	stream_close(&c->stream);
	uint64_t now = loop_now(h->loop), next = c->next_ms + interval_ms(c);
	wait_until(c, next > now ? next : now);
	set_running(c, false);
	run_queue(h);
}

/* Reads until the peer ends too, so that closing does not reset what it has under way. */
static void
on_closing(struct stream *s, void *arg)
{
	struct check *c = arg;
	uint8_t drop[1024];
	size_t n;
	enum stream_status status = STREAM_OK;
	for (int i = 0; i < 16 && status == STREAM_OK; i++)
		status = stream_read(s, drop, sizeof drop, &n);
	if (!s->write_shut && status == STREAM_AGAIN)
		(void)stream_shut_write(s);
	if (status != STREAM_AGAIN)
		check_end(c);
}

static void
check_close(struct check *c)
{
	c->state = CHECK_CLOSING;
	stream_set_callback(&c->stream, on_closing, c);
	if (stream_shut_write(&c->stream) == STREAM_ERROR) {
		check_end(c);
		return;
	}
	loop_set_deadline(c->health->loop, &c->due, CLOSING_MS);
	if (c->stream.ready & (STREAM_READABLE | STREAM_HUP))
		on_closing(&c->stream, c);
}

/* The hops before the one at fault have passed. */
static void
judge_failure(struct check *c)
{
	for (unsigned i = 0; i < c->fault; i++)
		judge(c, &c->opinions[c->step_of[i]], VERDICT_GRANTED, "check passed");
	judge(c, &c->opinions[c->step_of[c->fault]], c->verdict, c->why);
}

static void
check_pass(struct check *c)
{
	c->failing_since_ms = 0;
	if (c->reference != NULL)
		reference_note_pass(c->reference, loop_now(c->health->loop));
	for (unsigned i = 0; i < c->n_hops; i++)
		judge(c, &c->opinions[c->step_of[i]], VERDICT_GRANTED, "check passed");
	check_close(c);
}

/* Has anything passed since this check began to fail? Then our line is up, whatever the reference
 * says. */
static bool
line_was_up(const struct check *c)
{
	return reference_passed_ms(c->reference) >= c->failing_since_ms;
}

static void
on_reference(struct reference_wait *w, bool reachable)
{
	struct check *c = CONTAINER_OF(w, struct check, wait);
	if (reachable || line_was_up(c))
		judge_failure(c);
	check_end(c);
}

static void
check_fail(struct check *c, enum verdict v, unsigned fault, const char *detail)
{
	struct health *h = c->health;
	stream_close(&c->stream);
	if (c->failing_since_ms == 0)
		c->failing_since_ms = loop_now(h->loop);
	c->verdict = v;
	c->fault = fault;
	snprintf(c->why, sizeof c->why, "%s%s%s", verdict_text(v), detail[0] != '\0' ? ": " : "",
		 detail);
	if (c->reference != NULL && !line_was_up(c) &&
	    reference_ask(c->reference, h->fleet, c->conf.timeout_ms, &c->wait)) {
		c->state = CHECK_DOUBTED;
		return;
	}
	judge_failure(c);
	check_end(c);
}

static void
on_http_answer(bool good, const char *why, void *arg)
{
	struct check *c = arg;
	c->exchange = NULL;
	if (good)
		check_pass(c);
	else
		check_fail(c, VERDICT_UPSTREAM_FAILED, c->n_hops - 1u, why);
}

/* In what is left of the check's time. */
static void
check_ask(struct check *c, const struct dial_result *r)
{
	uint64_t took_ms = (clock_now_us() - c->began_us) / 1000;
	uint64_t left_ms = took_ms < c->conf.timeout_ms ? c->conf.timeout_ms - took_ms : 1;
	c->exchange = http_exchange_start(c->health->loop, &c->stream, &c->conf, r->early,
					  r->early_len, left_ms, on_http_answer, c);
	if (c->exchange == NULL)
		check_end(c); /* our own trouble */
	else
		c->state = CHECK_ASKING;
}

static void
on_checked(const struct dial_result *r, void *arg)
{
	struct check *c = arg;
	c->dial = NULL;
	/* what the last hop says of the target is the last hop's own failure */
	unsigned last = c->n_hops - 1u;
	bool before = r->hop_at_fault >= 0 && r->hop_at_fault < (int)last;
	if (r->verdict == VERDICT_INTERNAL || r->verdict == VERDICT_NO_UPSTREAM)
		check_end(c);
	else if (r->verdict != VERDICT_GRANTED)
		check_fail(c, r->verdict, before ? (unsigned)r->hop_at_fault : last, r->detail);
	else if (c->conf.check == HEALTH_HTTP)
		check_ask(c, r);
	else
		check_pass(c);
}

/* The hops of the way as they are now; a step that is a pool gives those that it would choose.
 * False: there is no way. */
static bool
find_hops(struct check *c, struct path *path)
{
	*path = (struct path){ 0 };
	for (size_t i = 0; i < c->way.n; i++) {
		struct path part = { .n_hops = 1, .hops = { c->way.steps[i].index } };
		const struct pick_key nobody = { 0 };
		if (c->way.steps[i].kind != ROUTE_UPSTREAM &&
		    fleet_preview_path(c->health->fleet, c->way.steps[i], &nobody, &part) !=
			PICK_OK)
			return false;
		for (unsigned hop = 0; hop < part.n_hops; hop++) {
			if (path->n_hops == PATH_HOPS_MAX)
				return false;
			c->step_of[path->n_hops] = (uint8_t)i;
			path->hop_pick[path->n_hops] = UINT8_MAX;
			path->hops[path->n_hops++] = part.hops[hop];
		}
	}
	c->n_hops = path->n_hops;
	return path->n_hops > 0;
}

static bool
check_start(struct check *c)
{
	static const enum dial_until until[] = {
		[HEALTH_CONNECT] = DIAL_UNTIL_CONNECTED,
		[HEALTH_HANDSHAKE] = DIAL_UNTIL_AUTHENTICATED,
		[HEALTH_TUNNEL] = DIAL_UNTIL_TUNNEL,
		[HEALTH_HTTP] = DIAL_UNTIL_TUNNEL,
	};
	struct health *h = c->health;
	struct path path;
	if (!find_hops(c, &path))
		return false;
	struct dial_request r = {
		.fleet = h->fleet,
		.command = SOCKS_CONNECT,
		.to = c->conf.target,
		.timeout_ms = c->conf.timeout_ms,
		.fixed = &path,
		.until = until[c->conf.check],
	};
	c->began_us = clock_now_us();
	c->dial = dial_start(h->dialer, &r, &c->stream, on_checked, c);
	return c->dial != NULL;
}

/* ---- when ---- */

/* The upstream that it is about; NULL where a pool chooses it. */
static struct subject *
target_of(const struct check *c)
{
	return c->opinions[c->way.n - 1].subject;
}

/* Is there a place for one more, and no other check of the same upstream under way? */
static bool
may_start(const struct check *c)
{
	const struct subject *s = target_of(c);
	return c->health->running < RUNNING_MAX && (s == NULL || !s->busy);
}

static void
set_running(struct check *c, bool running)
{
	struct subject *s = target_of(c);
	if (s != NULL)
		s->busy = running;
	c->health->running += running ? 1u : -1u;
}

/* No way there just now, or no memory: nobody's fault, and another try at the next interval. */
static void
start(struct check *c)
{
	list_remove(&c->queued);
	if (check_start(c)) {
		c->state = CHECK_DIALLING;
		set_running(c, true);
	} else {
		wait_until(c, loop_now(c->health->loop) + interval_ms(c));
	}
}

static void
run_queue(struct health *h)
{
	LIST_FOR_EACH(&h->queue, link) {
		struct check *c = LIST_OBJECT(link, struct check, queued);
		if (h->running >= RUNNING_MAX)
			break;
		if (may_start(c))
			start(c);
	}
}

static void
on_due(struct deadline *d)
{
	struct check *c = CONTAINER_OF(d, struct check, due);
	if (c->state == CHECK_CLOSING) {
		check_end(c);
		return;
	}
	c->state = CHECK_QUEUED;
	list_append(&c->health->queue, &c->queued);
	if (may_start(c))
		start(c);
}

/* ---- a fleet is taken up ---- */

static uint64_t
add_text(uint64_t hash, const char *text)
{
	return hash * 31 + (text == NULL ? 1 : hash_stable(text, strlen(text), 0));
}

/* Of what is asked by HTTP, which may be long. */
static uint64_t
http_hash(const struct policy_health *h)
{
	uint64_t hash = add_text(add_text(add_text(0, h->method), h->path), h->host);
	for (size_t i = 0; i < h->n_statuses; i++)
		hash = hash * 31 + h->statuses[i].from * 1000u + h->statuses[i].to;
	return add_text(hash, h->body);
}

/* All that makes a check the same one: what it goes through, by board entry, and how. */
static void
key_of(const struct fleet *f, const struct policy_health *conf, const struct check_way *way,
       char *out)
{
	char target[ENDPOINT_TEXT_MAX] = "", reference[ENDPOINT_TEXT_MAX] = "";
	size_t len = 0;
	for (size_t i = 0; i < way->n; i++) {
		struct policy_route step = way->steps[i];
		const struct board_entry *e = step.kind == ROUTE_UPSTREAM
		                                  ? fleet_upstream(f, step.index)
		                                  : fleet_pool(f, step.index);
		len += (size_t)snprintf(out + len, KEY_MAX - len, "%p ", (const void *)e);
	}
	if (conf->target.kind != ENDPOINT_NONE)
		endpoint_to_text(&conf->target, target, sizeof target);
	if (conf->reference.kind != ENDPOINT_NONE)
		endpoint_to_text(&conf->reference, reference, sizeof reference);
	snprintf(out + len, KEY_MAX - len, "%d %s %ju %ju %ju %u %u %u %d %s %jx", conf->check,
		 target, (uintmax_t)conf->interval_ms, (uintmax_t)conf->fast_interval_ms,
		 (uintmax_t)conf->timeout_ms, conf->rise, conf->fall, conf->jitter_percent,
		 conf->start_down, reference, (uintmax_t)http_hash(conf));
}

static void
check_free(struct check *c)
{
	struct health *h = c->health;
	if (c->state >= CHECK_DIALLING)
		set_running(c, false);
	dial_cancel(c->dial);
	http_exchange_cancel(c->exchange);
	reference_drop(&c->wait);
	stream_close(&c->stream);
	loop_clear_deadline(h->loop, &c->due);
	list_remove(&c->queued);
	for (size_t i = 0; i < c->way.n; i++)
		opinion_drop(h, &c->opinions[i]);
	free(c);
}

/* Whom nothing is known of is out until a check has passed: what it is about, not what lies before. */
static void
start_down(struct check *c)
{
	struct opinion *o = &c->opinions[c->way.n - 1];
	if (o->subject == NULL || o->state != UPSTREAM_UNKNOWN)
		return;
	o->state = UPSTREAM_DOWN;
	o->untried = true;
	publish_state(c->health, o->subject, "not checked yet");
}

static struct check *
check_new(struct health *h, const struct policy_health *conf, const struct check_way *way,
	  const char *key)
{
	struct check *c = calloc(1, sizeof *c + strlen(key) + 1);
	if (c == NULL)
		return NULL;
	memcpy(c->key, key, strlen(key) + 1);
	c->health = h;
	c->conf = *conf;
	c->way = *way;
	list_init(&c->queued);
	deadline_init(&c->due, on_due);
	stream_init(&c->stream, h->loop);
	list_init(&c->wait.link);
	c->wait.told = on_reference;
	if (conf->reference.kind != ENDPOINT_NONE)
		c->reference = references_find(h->references, &conf->reference);
	bool ok = conf->reference.kind == ENDPOINT_NONE || c->reference != NULL;
	for (size_t i = 0; i < way->n; i++)
		ok = opinion_init(h, &c->opinions[i], way->steps[i]) && ok;
	if (ok && conf->start_down)
		start_down(c);
	if (ok)
		HASH_ADD_KEYPTR(hh, h->checks, c->key, strlen(c->key), c);
	if (!ok || c->hh.tbl == NULL) {
		check_free(c);
		return NULL;
	}
	return c;
}

/* One that is there already goes on, under the indexes of the new policy. */
static bool
on_planned(const struct policy_health *conf, const struct check_way *way, void *arg)
{
	struct health *h = arg;
	char key[KEY_MAX];
	struct check *c;
	const struct policy_route *last = &way->steps[way->n - 1];
	if (conf->check == HEALTH_CONNECT && last->kind == ROUTE_UPSTREAM &&
	    fleet_policy(h->fleet)->upstreams[last->index].scheme == SCHEME_DIRECT)
		return true;                   /* there is nothing to connect to */
	key_of(h->fleet, conf, way, key);
	HASH_FIND(hh, h->checks, key, strlen(key), c);
	if (c == NULL)
		c = check_new(h, conf, way, key);
	if (c == NULL)
		return false;
	c->way = *way;
	c->conf = *conf; /* its texts are the new policy's; one that is under way has no use for the old ones */
	c->stays = true;
	return true;
}

/* The first round is spread evenly from now on, so that states are known soon and nobody meets all
 * checks at once. */
static void
schedule_new(struct health *h)
{
	uint64_t now = loop_now(h->loop), n = HASH_COUNT(h->checks), round = n * FIRST_EACH_MS;
	for (struct check *c = h->checks; c != NULL; c = c->hh.next) {
		if (c->next_ms != 0)
			continue;
		uint64_t most = round > FIRST_ROUND_MS ? round : FIRST_ROUND_MS;
		if (most > c->conf.interval_ms)
			most = c->conf.interval_ms;
		wait_until(c, now + random_next(&h->random) % (most + 1));
	}
}

static void
drop_others(struct health *h)
{
	struct check *c, *next;
	HASH_ITER(hh, h->checks, c, next)
	{
		if (c->stays) {
			c->stays = false;
			continue;
		}
		HASH_DEL(h->checks, c);
		check_free(c);
	}
}

void
health_use(struct health *h, struct fleet *f)
{
	struct fleet *before = h->fleet;
	h->fleet = fleet_ref(f);
	bool all = health_plan(fleet_policy(f), on_planned, h);
	drop_others(h);
	schedule_new(h);
	run_queue(h);
	if (!all)
		log_say(LOG_WARN, "out of memory: not all health checks are made");
	fleet_unref(before);
}

struct health *
health_new(struct loop *l, struct dialer *d, health_cb *on_change, void *arg)
{
	struct health *h = calloc(1, sizeof *h);
	if (h == NULL)
		return NULL;
	h->loop = l;
	h->dialer = d;
	h->on_change = on_change;
	h->arg = arg;
	list_init(&h->queue);
	random_seed(&h->random, 0);
	h->references = references_new(l, d);
	if (h->references == NULL) {
		free(h);
		return NULL;
	}
	return h;
}

void
health_free(struct health *h)
{
	if (h == NULL)
		return;
	drop_others(h);
	references_free(h->references);
	fleet_unref(h->fleet);
	free(h);
}
