/*
 * resolver: who waits for what. Hosts and cache answer at once, inquiries later; both ways end in
 * the list of those that are ready, and a task of the loop calls them back. So no callback comes
 * from inside any call, c-ares's or our own.
 *
 *   resolve_start --known, or refused--> ready --task--> called back
 *        \--not known--> waiting for an inquiry --settled, or own deadline--> ready
 */
#include "dns/resolver.h"

#include "base/counters.h"
#include "base/idn.h"
#include "base/list.h"
#include "base/loop.h"
#include "dns/cache.h"
#include "dns/errand.h"
#include "dns/hosts.h"
#include "dns/inquiry.h"
#include "dns/name_table.h"
#include "dns/result.h"
#include "dns/zones.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * What strangers can make us hold: names asked at the same time, those who wait for one. Beyond
 * them look-ups fail at once.
 */
enum { INQUIRIES_MAX = 4096, WAITERS_MAX = 1024 };

static const char hosts_path[] = "/etc/hosts";
static const char resolv_conf_path[] = "/etc/resolv.conf";

/* The servers of one policy. Goes when a later policy took over and its last inquiry has ended. */
struct epoch {
	struct list link;                      /* in retired; else unlinked */
	struct zones *zones;
	unsigned n_inquiries;
	bool fills_cache;                      /* its servers say what today's would */
};

struct resolver {
	struct loop *loop;
	const struct policy_dns *conf;
	struct hosts *hosts;
	struct cache *cache;
	struct epoch *epoch;
	struct list retired;
	struct address_sources sources;
	struct name_table table;               /* inquiries to join */
	struct list errands;
	struct list inquiries;                 /* all that are under way */
	unsigned n_inquiries;
	struct list ready, delivering;         /* look-ups with a result; those whose turn it is */
	struct loop_task deliver;
	bool *freed;                           /* while delivering: set when a callback frees us */
	struct counters *counters;             /* NULL: nobody wants to know */
};

struct resolve {
	struct list link;                      /* in inquiry->waiters, or in ready or delivering */
	struct resolver *resolver;
	struct inquiry *inquiry;               /* NULL: it is ready */
	struct result *result;                 /* when ready */
	struct deadline deadline;
	resolve_cb *cb;
	void *arg;
};

const char *
dns_error_text(enum dns_error err)
{
	static const char *const texts[] = {
		[DNS_OK] = "ok",
		[DNS_NOT_FOUND] = "name not found",
		[DNS_TIMEOUT] = "no answer from a name server in time",
		[DNS_FAILED] = "name servers failed",
	};
	return texts[err];
}

void
resolver_count_in(struct resolver *r, struct counters *c)
{
	r->counters = c;
}

static void
count(struct resolver *r, enum counter which, uint64_t n)
{
	if (r->counters != NULL)
		counter_add(r->counters, which, n);
}

/* ---- making and taking apart ---- */

static struct cache_limits
limits_of(const struct policy_dns *conf)
{
	return (struct cache_limits){
		.max_entries = conf->cache_max_entries,
		.min_ttl_ms = conf->cache_min_ttl_ms,
		.max_ttl_ms = conf->cache_max_ttl_ms,
		.negative_ttl_ms = conf->cache_negative_ttl_ms,
	};
}

static void
epoch_free(struct epoch *e)
{
	if (e == NULL)
		return;
	zones_free(e->zones);
	list_remove(&e->link);
	free(e);
}

static struct epoch *
epoch_new(struct loop *l, const struct policy_dns *conf)
{
	struct epoch *e = calloc(1, sizeof *e);
	if (e == NULL)
		return NULL;
	list_init(&e->link);
	e->fills_cache = true;
	e->zones = zones_new(l, conf, resolv_conf_path);
	if (e->zones == NULL) {
		epoch_free(e);
		return NULL;
	}
	return e;
}

static void on_deliver(struct loop_task *t);

struct resolver *
resolver_new(struct loop *l, const struct policy_dns *conf)
{
	struct cache_limits limits = limits_of(conf);
	struct resolver *r = calloc(1, sizeof *r);
	if (r == NULL)
		return NULL;
	r->loop = l;
	r->conf = conf;
	list_init(&r->retired);
	list_init(&r->errands);
	list_init(&r->inquiries);
	list_init(&r->ready);
	list_init(&r->delivering);
	loop_task_init(&r->deliver, on_deliver);
	if ((r->hosts = hosts_new(conf->hosts, conf->n_hosts, hosts_path)) == NULL ||
	    (r->cache = cache_new(&limits)) == NULL || (r->epoch = epoch_new(l, conf)) == NULL) {
		resolver_free(r);
		return NULL;
	}
	return r;
}

static void
resolve_free(struct resolve *q)
{
	loop_clear_deadline(q->resolver->loop, &q->deadline);
	list_remove(&q->link);
	result_unref(q->result);
	free(q);
}

static void
resolve_free_all(struct list *l)
{
	LIST_FOR_EACH(l, node)
		resolve_free(LIST_OBJECT(node, struct resolve, link));
}

void
resolver_free(struct resolver *r)
{
	if (r == NULL)
		return;
	if (r->freed != NULL)
		*r->freed = true;
	loop_undefer(r->loop, &r->deliver);
	epoch_free(r->epoch);                  /* from here on c-ares calls nobody */
	LIST_FOR_EACH(&r->retired, node)
		epoch_free(LIST_OBJECT(node, struct epoch, link));
	LIST_FOR_EACH(&r->inquiries, node) {
		struct inquiry *q = LIST_OBJECT(node, struct inquiry, link);
		resolve_free_all(&q->waiters);
		inquiry_free(q);
	}
	struct list *node;
	while ((node = list_take_first(&r->errands)) != NULL) {
		struct errand *e = LIST_OBJECT(node, struct errand, link);
		e->drop(e);
	}
	resolve_free_all(&r->ready);
	resolve_free_all(&r->delivering);
	name_table_free(&r->table);
	cache_free(r->cache);
	hosts_free(r->hosts);
	free(r);
}

/* ---- another policy ---- */

static bool
same_endpoints(const struct endpoint *a, size_t n_a, const struct endpoint *b, size_t n_b)
{
	if (n_a != n_b)
		return false;
	for (size_t i = 0; i < n_a; i++) {
		if (!endpoint_equal(&a[i], &b[i]))
			return false;
	}
	return true;
}

static bool
same_hosts(const struct policy_dns *a, const struct policy_dns *b)
{
	if (a->n_hosts != b->n_hosts)
		return false;
	for (size_t i = 0; i < a->n_hosts; i++) {
		const struct policy_dns_host *x = &a->hosts[i], *y = &b->hosts[i];
		if (strcmp(x->name, y->name) != 0 ||
		    !same_endpoints(x->addrs, x->n_addrs, y->addrs, y->n_addrs))
			return false;
	}
	return true;
}

static bool
same_rule(const struct policy_dns_rule *a, const struct policy_dns_rule *b)
{
	if (a->n_suffixes != b->n_suffixes ||
	    !same_endpoints(a->servers, a->n_servers, b->servers, b->n_servers))
		return false;
	for (size_t i = 0; i < a->n_suffixes; i++) {
		if (strcmp(a->suffixes[i], b->suffixes[i]) != 0)
			return false;
	}
	return true;
}

static bool
same_source(const struct policy_dns *a, const struct policy_dns *b)
{
	if (!same_endpoints(a->servers, a->n_servers, b->servers, b->n_servers) ||
	    !same_hosts(a, b) || a->n_rules != b->n_rules)
		return false;
	for (size_t i = 0; i < a->n_rules; i++) {
		if (!same_rule(&a->rules[i], &b->rules[i]))
			return false;
	}
	return true;
}

static void
drop_idle_epochs(struct resolver *r)
{
	LIST_FOR_EACH(&r->retired, node) {
		struct epoch *e = LIST_OBJECT(node, struct epoch, link);
		if (e->n_inquiries == 0)
			epoch_free(e);
	}
}

/* Inquiries under way go on for those who wait, but nobody joins them any more. */
static void
retire_epoch(struct resolver *r)
{
	LIST_FOR_EACH(&r->inquiries, node) {
		struct inquiry *q = LIST_OBJECT(node, struct inquiry, link);
		if (q->in_table)
			name_table_remove(&r->table, &q->node);
		q->in_table = false;
	}
	list_append(&r->retired, &r->epoch->link);
	loop_defer(r->loop, &r->deliver);      /* which drops it when nothing is under way */
}

static void
forget_all(struct resolver *r)
{
	cache_drop(r->cache, NULL);
	LIST_FOR_EACH(&r->retired, node)
		LIST_OBJECT(node, struct epoch, link)->fills_cache = false;
}

bool
resolver_reconfigure(struct resolver *r, const struct policy_dns *conf)
{
	struct cache_limits limits = limits_of(conf);
	struct hosts *hosts = hosts_new(conf->hosts, conf->n_hosts, hosts_path);
	struct epoch *epoch = hosts == NULL ? NULL : epoch_new(r->loop, conf);
	if (epoch == NULL) {
		hosts_free(hosts);
		return false;
	}
	retire_epoch(r);
	if (!same_source(r->conf, conf))
		forget_all(r);
	cache_set_limits(r->cache, &limits);
	hosts_free(r->hosts);
	r->hosts = hosts;
	r->epoch = epoch;
	r->conf = conf;
	return true;
}

/* ---- results ---- */

/* Takes the reference to the result over. */
static void
make_ready(struct resolve *q, struct result *result)
{
	struct resolver *r = q->resolver;

	loop_clear_deadline(r->loop, &q->deadline);
	list_remove(&q->link);
	if (q->inquiry != NULL)
		q->inquiry->n_waiters--;
	q->inquiry = NULL;
	q->result = result;
	list_append(&r->ready, &q->link);
	loop_defer(r->loop, &r->deliver);
}

static void
deliver(struct resolve *q)
{
	struct endpoint addrs[RESOLVE_ADDRS_MAX];
	size_t n = result_to_endpoints(q->result, addrs, RESOLVE_ADDRS_MAX);
	enum dns_error err = q->result->err;
	resolve_cb *cb = q->cb;
	void *arg = q->arg;

	if (err != DNS_OK)
		count(q->resolver, COUNTER_DNS_FAILURES, 1);
	resolve_free(q);
	cb(err, addrs, n, arg);
}

static void
on_deliver(struct loop_task *t)
{
	struct resolver *r = CONTAINER_OF(t, struct resolver, deliver);
	bool freed = false;
	struct list *node;

	r->freed = &freed;
	list_move_all(&r->delivering, &r->ready);
	while (!freed && (node = list_take_first(&r->delivering)) != NULL)
		deliver(LIST_OBJECT(node, struct resolve, link));
	if (freed)
		return;
	r->freed = NULL;
	drop_idle_epochs(r);
}

static void
on_deadline(struct deadline *d)
{
	struct resolve *q = CONTAINER_OF(d, struct resolve, deadline);
	make_ready(q, inquiry_result(q->inquiry));
}

/* What hosts and cache know at once; NULL: not all that the policy's family wants. */
static struct result *
known_result(struct resolver *r, const char *name, const struct cache_entry **entry)
{
	struct dns_address addrs[ADDRESS_ORDER_MAX];
	const struct dns_address *hosts;
	uint64_t now = loop_now(r->loop);
	size_t n = hosts_find(r->hosts, name, now, &hosts);

	*entry = NULL;
	if (n > 0) {
		memcpy(addrs, hosts, n * sizeof *addrs);
	} else {
		*entry = cache_find(r->cache, name, now);
		if (*entry == NULL)
			return NULL;
		for (enum record record = 0; record < RECORD_N; record++) {
			const struct cache_outcome *o = cache_outcome(*entry, record, now);
			if (!family_wants(r->conf->family, record))
				continue;
			if (o == NULL)
				return NULL;
			if (o->n > 0)
				memcpy(addrs + n, o->addrs, o->n * sizeof *addrs);
			n += o->n;
		}
		count(r, COUNTER_DNS_CACHE_HITS, 1);
	}
	address_sources_refresh(&r->sources, now);
	return result_new(&r->sources, r->conf->family, addrs, n, DNS_NOT_FOUND);
}

/* ---- inquiries ---- */

static void
on_answer(struct inquiry *q, enum record record, const struct answer *a)
{
	struct resolver *r = q->owner;
	if (q->epoch->fills_cache)
		cache_put(r->cache, q->name, record, a, loop_now(r->loop));
}

static void
on_settled(struct inquiry *q)
{
	struct result *result = inquiry_result(q);
	LIST_FOR_EACH(&q->waiters, node)
		make_ready(LIST_OBJECT(node, struct resolve, link), result_ref(result));
	result_unref(result);
}

static void
leave_epoch(struct resolver *r, struct epoch *e)
{
	if (--e->n_inquiries == 0 && e != r->epoch)
		loop_defer(r->loop, &r->deliver);
}

static void
on_ended(struct inquiry *q)
{
	struct resolver *r = q->owner;
	if (q->in_table)
		name_table_remove(&r->table, &q->node);
	r->n_inquiries--;
	leave_epoch(r, q->epoch);
	inquiry_free(q);
}

static const struct inquiry_ops ops = { on_answer, on_settled, on_ended };

/* NULL: out of memory, or too many. */
static struct inquiry *
inquire(struct resolver *r, const char *name, const struct cache_entry *known)
{
	if (r->n_inquiries >= INQUIRIES_MAX)
		return NULL;
	struct inquiry *q = inquiry_new(r->loop, name, r->conf->family, &r->sources, &ops);
	if (q == NULL)
		return NULL;
	if (!name_table_add(&r->table, &q->node)) {
		inquiry_free(q);
		return NULL;
	}
	q->in_table = true;
	q->owner = r;
	q->epoch = r->epoch;
	q->epoch->n_inquiries++;
	list_append(&r->inquiries, &q->link);
	r->n_inquiries++;
	count(r, COUNTER_DNS_QUERIES, inquiry_start(q, zones_find(r->epoch->zones, name), known));
	return q;
}

/* ---- errands ---- */

static void
on_errand_done(struct ask *ask)
{
	struct errand *e = CONTAINER_OF(ask, struct errand, ask);
	struct resolver *r = e->resolver;
	if (e->epoch->fills_cache)
		cache_put(r->cache, e->name, ask->record, &ask->answer, loop_now(r->loop));
	leave_epoch(r, e->epoch);
	r->n_inquiries--;
	list_remove(&e->link);
	e->done(e);
}

bool
errand_known(struct resolver *r, struct errand *e, enum record record)
{
	uint64_t now = loop_now(r->loop);
	const struct cache_entry *entry = cache_find(r->cache, e->name, now);
	const struct cache_outcome *o = entry != NULL ? cache_outcome(entry, record, now) : NULL;
	struct answer *a = &e->ask.answer;
	if (o == NULL)
		return false;
	count(r, COUNTER_DNS_CACHE_HITS, 1);
	a->kind = o->n > 0 ? ANSWER_ADDRESSES : ANSWER_NO_DATA;
	snprintf(a->target, sizeof a->target, "%s", o->target != NULL ? o->target : "");
	return true;
}

bool
errand_start(struct resolver *r, struct errand *e, enum record record)
{
	list_init(&e->link);
	if (r->n_inquiries >= INQUIRIES_MAX)
		return false;
	e->resolver = r;
	e->epoch = r->epoch;
	e->epoch->n_inquiries++;
	r->n_inquiries++;
	list_append(&r->errands, &e->link);
	count(r, COUNTER_DNS_QUERIES, 1);
	channel_ask(zones_find(r->epoch->zones, e->name), &e->ask, e->name, record, on_errand_done);
	return true;
}

struct loop *
resolver_loop(struct resolver *r)
{
	return r->loop;
}

static void
wait_for(struct resolve *q, struct inquiry *inquiry, uint64_t timeout_ms)
{
	if (inquiry->settled) {
		make_ready(q, inquiry_result(inquiry));
		return;
	}
	q->inquiry = inquiry;
	list_append(&inquiry->waiters, &q->link);
	inquiry->n_waiters++;
	loop_set_deadline(q->resolver->loop, &q->deadline, timeout_ms);
}

static void
begin(struct resolve *q, const char *name, uint64_t timeout_ms)
{
	struct resolver *r = q->resolver;
	const struct cache_entry *entry;
	struct result *known = known_result(r, name, &entry);
	if (known == NULL && !record_name_is_valid(name))
		known = result_without(DNS_NOT_FOUND);
	if (known != NULL) {
		make_ready(q, known);
		return;
	}
	struct name_node *node = name_table_find(&r->table, name);
	struct inquiry *inquiry = node == NULL ? inquire(r, name, entry)
					       : CONTAINER_OF(node, struct inquiry, node);
	if (inquiry == NULL || inquiry->n_waiters >= WAITERS_MAX)
		make_ready(q, result_without(DNS_FAILED));
	else
		wait_for(q, inquiry, timeout_ms);
}

/* ---- the door ---- */

/* Hosts, rules, cache and servers know a name in ASCII, where it has such a form. */
static const char *
known_form(const char *name, struct endpoint *ascii)
{
	return idn_is_foreign(name, strlen(name)) && idn_to_ascii(name, ascii) ? ascii->name : name;
}

struct resolve *
resolve_start(struct resolver *r, const char *name, uint64_t timeout_ms, resolve_cb *cb, void *arg)
{
	struct endpoint ascii;
	struct resolve *q = calloc(1, sizeof *q);
	if (q == NULL)
		return NULL;
	q->resolver = r;
	q->cb = cb;
	q->arg = arg;
	list_init(&q->link);
	deadline_init(&q->deadline, on_deadline);
	begin(q, known_form(name, &ascii), timeout_ms);
	return q;
}

void
resolve_cancel(struct resolve *q)
{
	if (q == NULL)
		return;
	if (q->inquiry != NULL)
		q->inquiry->n_waiters--;       /* it goes on: its answers are worth keeping */
	resolve_free(q);
}

enum dns_error
resolve_now(struct resolver *r, const char *name, struct endpoint *addrs, size_t cap, size_t *n)
{
	const struct cache_entry *entry;
	struct endpoint ascii;
	struct result *known = known_result(r, known_form(name, &ascii), &entry);

	*n = 0;
	if (known == NULL)
		return DNS_TIMEOUT;
	enum dns_error err = known->err;
	*n = result_to_endpoints(known, addrs, cap);
	result_unref(known);
	if (err != DNS_OK)
		count(r, COUNTER_DNS_FAILURES, 1);
	return err;
}

/* ---- for the API ---- */

struct each_entry {
	resolver_each *each;
	void *arg;
	uint64_t now_ms;
};

static bool
set_target(const char *target, struct endpoint *out)
{
	*out = (struct endpoint){ .kind = ENDPOINT_NONE };
	return endpoint_set_host(out, target, strlen(target)) == ENDPOINT_OK;
}

static void
on_entry(const struct cache_entry *e, void *arg)
{
	struct each_entry *to = arg;
	struct endpoint addrs[RECORD_N * ANSWER_ADDRS_MAX + 1];
	uint64_t expires_ms = UINT64_MAX;      /* of what is there, if anything is */
	size_t n = 0;

	for (enum record record = 0; record < RECORD_ALL; record++) {
		const struct cache_outcome *o = cache_outcome(e, record, to->now_ms);
		if (o == NULL || (o->n == 0 && n > 0))
			continue;
		if (n == 0 && o->n > 0)
			expires_ms = UINT64_MAX;
		if (o->expires_ms < expires_ms)
			expires_ms = o->expires_ms;
		if (record != RECORD_PTR)
			for (size_t i = 0; i < o->n; i++)
				dns_address_to_endpoint(&o->addrs[i], &addrs[n++]);
		else if (o->target != NULL && set_target(o->target, &addrs[n]))
			n++;
	}
	to->each(cache_name(e), addrs, n, expires_ms - to->now_ms, to->arg);
}

void
resolver_cache_each(struct resolver *r, resolver_each *each, void *arg)
{
	struct each_entry to = { each, arg, loop_now(r->loop) };
	cache_each(r->cache, to.now_ms, on_entry, &to);
}

size_t
resolver_cache_drop(struct resolver *r, const char *name)
{
	struct endpoint ascii;
	return cache_drop(r->cache, name != NULL ? known_form(name, &ascii) : NULL);
}
