/*
 * dialer: picks a path, looks names up, connects, tries another member where that helps, and tells
 * how it ended. The hops' handshakes are in dial_walk.c; the picture of a dial's stages is in
 * dial.h.
 */
#include "upstream/dialer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "dns/resolver.h"
#include "upstream/dial.h"
#include "upstream/kinds.h"
#include "upstream/warm.h"

static void attempt_start(struct dial *x);
static void attempt_begin(struct dial *x);
static void end_without_way(struct dial *x, const char *why);
static void on_ready(struct stream *s, void *arg);
static void on_resolved(enum dns_error err, const struct endpoint *addrs, size_t n, void *arg);

const char *
dial_stage_text(enum dial_stage s)
{
	static const char *const texts[] = {"pick", "resolve",   "connect",
					    "tls",  "handshake", "done"};
	return (size_t)s < ARRAY_LEN(texts) ? texts[s] : "unknown";
}

const struct policy_upstream *
dial_upstream(const struct dial *x, unsigned at)
{
	return &fleet_policy(x->request.fleet)->upstreams[x->result.path.hops[at]];
}

/* No proxy on the way. A direct:// upstream stands alone: the policy takes none into a chain. */
static bool
is_direct(const struct dial *x)
{
	return x->result.path.n_hops == 0 || dial_upstream(x, 0)->scheme == SCHEME_DIRECT;
}

static void
free_addresses(struct addresses *a)
{
	free(a->list);
	*a = (struct addresses){NULL, 0};
}

/* ---- the end of an attempt ---- */

/* Ends what is under way beside the stream. */
static void
attempt_settle(struct dial *x)
{
	dial_wait_end(x);
	resolve_cancel(x->resolve);
	x->resolve = NULL;
	loop_clear_deadline(x->dialer->loop, &x->deadline);
	free_addresses(&x->hop);
}

/* Ends it in vain: all that it took is given back. */
static void
attempt_stop(struct dial *x)
{
	attempt_settle(x);
	connector_cancel(&x->connector);
	stream_close(x->stream);
	walk_drop(x);
	fleet_give_back_path(x->request.fleet, &x->result.path);
	x->result.path.held = false;
}

/* Does the pool that chose the hop at fault allow another attempt? It will avoid that choice. */
static bool
may_try_again(struct dial *x, int fault)
{
	const struct path *p = &x->result.path;
	if (x->request.fixed != NULL || p->hop_pick[fault] == UINT8_MAX)
		return false;
	struct pick pick = p->picks[p->hop_pick[fault]];
	if (x->result.attempts > fleet_policy(x->request.fleet)->pools[pick.pool].retry_attempts ||
	    x->tried.n == ARRAY_LEN(x->tried.list) || !fleet_may_retry(x->request.fleet, pick.pool))
		return false;
	x->tried.list[x->tried.n++] = pick;
	return true;
}

static void
count_failure(struct dial *x, int fault)
{
	const struct path *p = &x->result.path;
	uint8_t pick = p->hop_pick[fault];
	if (x->request.fixed == NULL)
		fleet_note_failure(x->request.fleet, pick == UINT8_MAX ? UINT32_MAX : p->picks[pick].pool,
				   p->hops[fault]);
}

/* The hops that did their part: all before the nth. */
static void
count_successes(struct dial *x, unsigned n)
{
	for (unsigned i = 0; i < n && x->request.fixed == NULL; i++)
		fleet_note_success(x->request.fleet, x->result.path.hops[i]);
}

/* The destination can't be had, from where it was tried. */
static bool
is_of_destination(enum verdict v)
{
	return v >= VERDICT_NAME_UNKNOWN && v <= VERDICT_TIMEOUT;
}

/* Did the exit say that it can't have the destination? A site may have blocked it. */
static bool
exit_failed(const struct dial *x, enum verdict v)
{
	if (is_direct(x))
		return x->result.stage == DIAL_CONNECT && is_of_destination(v);
	return x->result.stage == DIAL_HANDSHAKE && x->at + 1u == x->result.path.n_hops &&
	       (is_of_destination(v) || v == VERDICT_UPSTREAM_REJECTED);
}

/* For the pool that chose the hop at fault, or the exit. */
static void
note_destination_failed(struct dial *x, enum verdict v, int fault)
{
	const struct path *p = &x->result.path;
	uint8_t pick = p->n_picks > 0 ? p->n_picks - 1 : UINT8_MAX; /* "direct" is no hop */
	bool at_fault = fault >= 0 && verdict_blames_upstream(v);
	if (x->request.fixed != NULL || (!at_fault && !exit_failed(x, v)))
		return;
	if (p->n_hops > 0)
		pick = p->hop_pick[fault >= 0 ? fault : p->n_hops - 1];
	if (pick != UINT8_MAX)
		fleet_note_destination(x->request.fleet, p->picks[pick], &x->request.key, false);
}

/* The connection that was kept ready had died before it was asked. That blames nobody. */
static bool
was_dead(const struct dial *x, enum verdict v)
{
	return x->from_warm && x->at == 0 && x->stage == DIAL_HANDSHAKE &&
	       v == VERDICT_UPSTREAM_FAILED && x->result.code == 0 && x->result.status == 0;
}

/* The same path once more; what the first try took of it is kept. */
static void
attempt_again(struct dial *x)
{
	struct path path = x->result.path;
	x->result.path.held = false; /* not given back */
	attempt_stop(x);
	x->result.path = path;
	attempt_begin(x);
}

void
dial_fail(struct dial *x, enum verdict v, int fault, const char *detail)
{
	if (was_dead(x, v)) {
		x->fresh = true;
		attempt_again(x);
		return;
	}
	if (pipeline_may_be_why(x, v)) {
		pipeline_suspect(x);
		attempt_again(x);
		return;
	}
	x->result.verdict = v;
	x->result.stage = x->stage;
	x->result.hop_at_fault = fault;
	snprintf(x->detail, sizeof x->detail, "%s", detail);
	attempt_stop(x); /* detail may have lain in what goes here */
	x->stage = DIAL_DONE;
	note_destination_failed(x, v, fault);
	if (fault < 0 || !verdict_blames_upstream(v)) {
		if (x->result.stage == DIAL_HANDSHAKE && v != VERDICT_INTERNAL)
			count_successes(x, x->at + 1u); /* the destination's answer, through all of them */
		return;
	}
	count_failure(x, fault);
	if (may_try_again(x, fault))
		attempt_start(x);
}

const char *
dial_hop_text(const struct dial *x, unsigned at, char *out, size_t cap)
{
	const char *name = dial_upstream(x, at)->name;
	if (x->result.path.n_hops == 1)
		snprintf(out, cap, "upstream %s", name);
	else
		snprintf(out, cap, "hop %u (%s)", at + 1, name);
	return out;
}

/* A hop is at fault for which there are no other words than why. */
static void
fail_hop(struct dial *x, enum verdict v, unsigned at, const char *what, const char *why)
{
	char hop[POLICY_NAME_MAX + 32], detail[sizeof x->detail];
	snprintf(detail, sizeof detail, "%s %s: %s", dial_hop_text(x, at, hop, sizeof hop), what, why);
	dial_fail(x, v, (int)at, detail);
}

void
dial_fail_no_memory(struct dial *x)
{
	dial_fail(x, VERDICT_INTERNAL, -1, strerrordesc_np(ENOMEM));
}

void
dial_fail_forbidden(struct dial *x)
{
	dial_fail(x, VERDICT_REJECTED, -1, "every address of the name is forbidden");
}

static void
note_session(struct board_entry *e, uint64_t connect_us)
{
	atomic_fetch_add_explicit(&e->sessions_total, 1, memory_order_relaxed);
	if (connect_us > 0)
		board_note_connect(e, connect_us);
}

static void
note_on_board(struct dial *x)
{
	struct fleet *f = x->request.fleet;
	const struct path *p = &x->result.path;
	if (x->request.fixed != NULL)
		return;
	if (x->from_warm)
		x->reached_us[0] = 0; /* no time was measured */
	if (p->n_hops == 0)
		note_session(fleet_direct(f), x->reached_us[0]);
	for (unsigned i = 0; i < p->n_hops; i++)
		note_session(fleet_upstream(f, p->hops[i]), x->reached_us[i]);
	if (p->n_hops > 0)
		fleet_note_connect(f, p, x->reached_us[p->n_hops - 1]);
	pipeline_remember(x);
}

void
dial_grant(struct dial *x)
{
	attempt_settle(x);
	stream_set_callback(x->stream, NULL, NULL);
	x->stage = DIAL_DONE;
	x->result.verdict = VERDICT_GRANTED;
	x->result.stage = DIAL_DONE;
	if (x->shake != NULL) {
		x->result.early = buffer_bytes(&x->shake->in);
		x->result.early_len = buffer_len(&x->shake->in);
	}
	note_on_board(x);
	count_successes(x, x->result.path.n_hops);
	for (unsigned i = 0; i < x->result.path.n_picks && x->request.fixed == NULL; i++)
		fleet_note_destination(x->request.fleet, x->result.path.picks[i], &x->request.key, true);
}

void
dial_note_hop_time(struct dial *x, uint32_t upstream)
{
	uint64_t now = clock_now_us();
	x->result.hops[x->result.n_hop_times++] =
	    (struct dial_hop_time){upstream, (uint32_t)(now - x->mark_us)};
	x->mark_us = now;
}

/* ---- names ---- */

/* Copies addresses, with port; of the destination's only those that may be dialled. False: out of
 * memory. */
static bool
keep_addresses(struct dial *x, struct addresses *a, const struct endpoint *addrs, size_t n,
	       uint16_t port)
{
	bool ask = a == &x->destination && x->request.address_rejected != NULL;
	a->list = malloc(n * sizeof *a->list);
	a->n = 0;
	if (a->list == NULL)
		return false;
	for (size_t i = 0; i < n; i++) {
		struct endpoint *e = &a->list[a->n];
		*e = addrs[i];
		e->port = port;
		if (!ask || !x->request.address_rejected(e, x->arg))
			a->n++;
	}
	return true;
}

const struct addresses *
dial_addresses(const struct dial *x, const struct endpoint *name)
{
	if (name == &x->request.to)
		return x->destination.list == NULL ? NULL : &x->destination;
	return x->looked_up == name && x->hop.list != NULL ? &x->hop : NULL;
}

static void
fail_look_up(struct dial *x, enum dns_error err)
{
	const char *detail = dns_error_text(err);
	if (x->looked_up != &x->request.to)
		fail_hop(x, VERDICT_UPSTREAM_FAILED, x->connected ? x->at + 1u : x->at,
			 "unreachable", detail);
	else if (err == DNS_NOT_FOUND)
		dial_fail(x, VERDICT_NAME_UNKNOWN, -1, detail);
	else
		dial_fail(x, err == DNS_TIMEOUT ? VERDICT_TIMEOUT : VERDICT_HOST_UNREACHABLE, -1,
			  detail);
}

/* Takes the outcome of a look-up. False: the attempt ended with it. */
static bool
take_answer(struct dial *x, enum dns_error err, const struct endpoint *addrs, size_t n)
{
	struct addresses *a = x->looked_up == &x->request.to ? &x->destination : &x->hop;
	uint64_t took = clock_now_us() - x->lookup_us;
	x->result.resolve_us += (uint32_t)took;
	x->mark_us += took;
	x->since_us += took;
	if (err != DNS_OK) {
		fail_look_up(x, err);
		return false;
	}
	free_addresses(a);
	if (keep_addresses(x, a, addrs, n, x->looked_up->port))
		return true;
	dial_fail_no_memory(x);
	return false;
}

bool
dial_look_up(struct dial *x, const struct endpoint *name)
{
	struct endpoint addrs[RESOLVE_ADDRS_MAX];
	size_t n = 0;
	x->stage = DIAL_RESOLVE;
	x->looked_up = name;
	x->lookup_us = clock_now_us();
	if (name == &x->request.to && x->given.n > 0)
		return take_answer(x, DNS_OK, x->given.list, x->given.n);
	enum dns_error err =
	    resolve_now(x->dialer->resolver, name->name, addrs, ARRAY_LEN(addrs), &n);
	if (err != DNS_TIMEOUT)
		return take_answer(x, err, addrs, n);
	x->resolve =
	    resolve_start(x->dialer->resolver, name->name, x->request.timeout_ms, on_resolved, x);
	if (x->resolve == NULL)
		dial_fail_no_memory(x);
	return false;
}

/* ---- the end, told ---- */

static void
dial_free(struct dial *x)
{
	list_remove(&x->link);
	loop_undefer(x->dialer->loop, &x->ended);
	walk_drop(x);
	free_addresses(&x->given);
	free_addresses(&x->destination);
	fleet_unref(x->request.fleet);
	slab_give_back(&x->dialer->dial_slab, x);
}

static void
tell(struct dial *x)
{
	x->telling = true;
	x->cb(&x->result, x->arg);
	dial_free(x);
}

/* Goes on as far as it can without waiting, and tells the end where it came: x may be gone after.
 */
static void
go_on(struct dial *x)
{
	while ((x->stage == DIAL_TLS || x->stage == DIAL_HANDSHAKE) && walk_step(x))
		continue;
	if (x->stage == DIAL_DONE)
		tell(x);
}

static void
on_ready(struct stream *s, void *arg)
{
	(void)s;
	go_on(arg);
}

static void
on_deadline(struct deadline *d)
{
	struct dial *x = CONTAINER_OF(d, struct dial, deadline);
	if (x->stage == DIAL_PICK) {
		dial_wait_end(x);
		end_without_way(x, "no slot came free in time");
		go_on(x);
		return;
	}
	if (x->halved && x->stage != DIAL_HANDSHAKE) {
		x->halved = false; /* there is nothing to fall back from yet */
		loop_set_deadline(x->dialer->loop, d, x->request.timeout_ms / 2);
		return;
	}
	if (!x->halved)
		x->pipelined = 0; /* no time is left to try it in full */
	x->from_warm = false;     /* nor afresh */
	if (x->stage == DIAL_RESOLVE)
		fail_look_up(x, DNS_TIMEOUT);
	else if (is_direct(x))
		dial_fail(x, VERDICT_TIMEOUT, -1, "no answer in time");
	else
		fail_hop(x, VERDICT_UPSTREAM_FAILED, x->at,
			 x->stage == DIAL_CONNECT || x->deferred ? "unreachable" : "silent",
			 "no answer in time");
	go_on(x);
}

static void
on_ended(struct loop_task *t)
{
	go_on(CONTAINER_OF(t, struct dial, ended));
}

/* ---- connecting ---- */

void
dial_fail_connect(struct dial *x, int error)
{
	enum verdict v = connect_verdict(error);
	const char *text = strerrordesc_np(error);
	if (text == NULL)
		text = "unknown error";
	if (v != VERDICT_INTERNAL && !is_direct(x))
		fail_hop(x, VERDICT_UPSTREAM_FAILED, x->at, "unreachable", text);
	else
		dial_fail(x, v, -1, text);
}

/* A direct connection stands. */
static void
grant_direct(struct dial *x)
{
	if (x->result.path.n_hops > 0 && !walk_send_proxy(x))
		return;
	x->reached_us[0] = clock_now_us() - x->since_us;
	dial_note_hop_time(x, x->result.path.n_hops > 0 ? x->result.path.hops[0] : UINT32_MAX);
	dial_grant(x);
}

static void
on_connected(int error, const struct endpoint *peer, const struct endpoint *local, void *arg)
{
	struct dial *x = arg;
	if (error != 0) {
		dial_fail_connect(x, error);
		go_on(x);
		return;
	}
	x->connected = true;
	x->deferred = x->connector.plan.fast_open && connect_is_deferred(x->stream->fd);
	x->result.connect_us = (uint32_t)(clock_now_us() - x->since_us);
	x->result.peer = *peer;
	x->result.bound = *local;
	stream_set_callback(x->stream, on_ready, x);
	if (is_direct(x))
		grant_direct(x);
	else
		(void)walk_enter(x);
	go_on(x);
}

/* A BIND or an association that begins here. */
static void
grant_here(struct dial *x, const struct endpoint *addrs, size_t n_addrs)
{
	x->result.addrs = addrs;
	x->result.n_addrs = n_addrs;
	dial_note_hop_time(x, x->result.path.n_hops > 0 ? x->result.path.hops[0] : UINT32_MAX);
	dial_grant(x);
}

/* A connection to the first hop that was kept ready, if there is one. */
static bool
take_warm(struct dial *x)
{
	const struct path *p = &x->result.path;
	if (p->n_hops == 0 || x->fresh || x->request.fixed != NULL ||
	    x->request.until != DIAL_UNTIL_TUNNEL || x->request.command != SOCKS_CONNECT ||
	    !warm_take(x->dialer->warm, x->request.fleet, p->hops[0], x->stream, &x->result.peer,
		       &x->result.bound))
		return false;
	x->from_warm = x->connected = true;
	stream_set_callback(x->stream, on_ready, x);
	loop_defer(x->dialer->loop, &x->ended); /* goes on from there */
	return true;
}

/* The first connection: to the destination or the first proxy, over the line of the first hop, be
 * that a direct:// one or a proxy. */
static void
connect_first(struct dial *x)
{
	const struct endpoint *target =
	    is_direct(x) ? &x->request.to : &dial_upstream(x, x->at)->at;
	struct connect_plan plan = {.addrs = target, .n_addrs = 1};
	if (take_warm(x)) {
		(void)walk_talk(x);
		return;
	}
	if (target->kind == ENDPOINT_NAME) {
		if (dial_addresses(x, target) == NULL && !dial_look_up(x, target))
			return;
		plan.addrs = dial_addresses(x, target)->list;
		plan.n_addrs = dial_addresses(x, target)->n;
	}
	if (plan.n_addrs == 0) {
		dial_fail_forbidden(x);
		return;
	}
	if (is_direct(x) && x->request.command != SOCKS_CONNECT) {
		grant_here(x, plan.addrs, plan.n_addrs);
		return;
	}
	if (x->result.path.n_hops > 0) {
		plan.source = &dial_upstream(x, 0)->source;
		plan.interface = dial_upstream(x, 0)->interface;
		plan.mark = dial_upstream(x, 0)->mark;
		/* only who is there for a whole handshake is sure to say something */
		plan.fast_open = dial_upstream(x, 0)->fast_open &&
				 x->request.until == DIAL_UNTIL_TUNNEL;
	}
	x->stage = DIAL_CONNECT;
	connector_start(&x->connector, x->dialer->loop, &plan, x->stream, on_connected, x);
}

static void
on_resolved(enum dns_error err, const struct endpoint *addrs, size_t n, void *arg)
{
	struct dial *x = arg;
	x->resolve = NULL;
	if (take_answer(x, err, addrs, n)) {
		if (x->connected)
			(void)walk_talk(x);
		else
			connect_first(x);
	}
	go_on(x);
}

/* ---- an attempt ---- */

static enum pick_result
pick_path(struct dial *x, struct path *path)
{
	if (x->request.fixed != NULL) {
		*path = x->fixed;
		return PICK_OK;
	}
	return fleet_pick_path(x->request.fleet, x->request.route, &x->request.key, &x->tried,
			       path);
}

static const char *
why_no_way(const struct dial *x)
{
	switch ((enum route_kind)x->request.route.kind) {
	case ROUTE_UPSTREAM:
		return "it is down, taken out, or has no free slot";
	case ROUTE_CHAIN:
		return "a hop is down, taken out, or has no free slot";
	default:
		return "no member is usable and has a free slot";
	}
}

/* The first hop that has no part in such a command, unless it can be told itself; -1: none. */
static int
find_incapable(const struct dial *x)
{
	const struct path *p = &x->result.path;
	for (unsigned i = 0; i < p->n_hops; i++)
		if (!kind_can(dial_upstream(x, i)->scheme, x->request.command, i + 1u == p->n_hops))
			return (int)i;
	return -1;
}

/* Where nothing can be picked, the attempt before, if there was one, is the one that decided. */
static void
end_without_way(struct dial *x, const char *why)
{
	if (x->result.attempts == 0)
		dial_fail(x, VERDICT_NO_UPSTREAM, -1, why);
	x->stage = DIAL_DONE;
}

/* A new attempt, along a path that was picked. */
static void
attempt_take(struct dial *x, const struct path *path)
{
	x->result.path = *path;
	x->result.attempts++;
	x->in_full = x->fresh = false;
	x->suspects = 0;
	attempt_begin(x);
}

/* Along x->result.path, which is held. */
static void
attempt_begin(struct dial *x)
{
	uint64_t timeout_ms = x->request.timeout_ms;
	x->result = (struct dial_result){
	    .hop_at_fault = -1,
	    .attempts = x->result.attempts,
	    .path = x->result.path,
	    .resolve_us = x->result.resolve_us,
	    .detail = x->detail,
	};
	x->detail[0] = '\0';
	x->at = 0;
	x->n_said = 0;
	x->connected = x->deferred = x->from_warm = false;
	memset(x->reached_us, 0, sizeof x->reached_us);
	x->mark_us = x->since_us = clock_now_us();
	pipeline_plan(x);
	x->halved = x->pipelined != 0 && !x->pipeline_proven;
	loop_set_deadline(x->dialer->loop, &x->deadline,
			  x->halved || x->in_full ? timeout_ms / 2 : timeout_ms);
	int incapable = find_incapable(x);
	if (incapable < 0)
		connect_first(x);
	else
		dial_fail(x, VERDICT_UPSTREAM_NO_COMMAND, incapable,
			  "a hop on the way can't do it");
}

/* In a pool's queue until its turn comes, on_deadline, or the client leaves. */
static void
wait_in_queue(struct dial *x, uint32_t pool)
{
	x->stage = DIAL_PICK;
	loop_set_deadline(x->dialer->loop, &x->deadline,
			  fleet_policy(x->request.fleet)->pools[pool].queue.timeout_ms);
}

/* A slot that comes free between the pick and getting in line is tried for at once, but not again
 * and again. */
static void
attempt_start(struct dial *x)
{
	struct path path;
	enum pick_result result = pick_path(x, &path);
	const char *why = why_no_way(x);
	for (bool insist = false; result == PICK_BUSY; insist = true) {
		uint32_t pool = path.busy_pool;
		enum join_result joined = dial_wait_start(x, pool, insist);
		if (joined == JOIN_WAITS) {
			wait_in_queue(x, pool);
			return;
		}
		if (joined == JOIN_FULL)
			why = "no member has a free slot, and the queue is full";
		result = joined == JOIN_FULL ? PICK_NONE : pick_path(x, &path);
	}
	if (result == PICK_OK)
		attempt_take(x, &path);
	else
		end_without_way(x, why);
}

enum pick_result
dial_take_turn(struct dial *x)
{
	x->request.key.has_turn = true;
	enum pick_result result = pick_path(x, &x->turn);
	x->request.key.has_turn = false;
	return result;
}

void
dial_end_turn(struct dial *x, enum pick_result result)
{
	loop_clear_deadline(x->dialer->loop, &x->deadline);
	if (result == PICK_OK)
		attempt_take(x, &x->turn);
	else
		end_without_way(x, why_no_way(x));
	go_on(x);
}

/* ---- life ---- */

struct dialer *
dialer_new(struct loop *l, struct resolver *r)
{
	struct dialer *d = calloc(1, sizeof *d);
	if (d == NULL || (d->mailbox = mailbox_open(l, d)) == NULL) {
		free(d);
		return NULL;
	}
	d->loop = l;
	d->resolver = r;
	list_init(&d->dials);
	slab_init(&d->dial_slab, sizeof(struct dial));
	slab_init(&d->shake_slab, sizeof(struct shake));
	d->warm = warm_new(l, d);
	if (d->warm == NULL) {
		dialer_free(d);
		return NULL;
	}
	return d;
}

void
dialer_free(struct dialer *d)
{
	if (d == NULL)
		return;
	warm_free(d->warm);
	while (!list_empty(&d->dials))
		dial_cancel(LIST_OBJECT(d->dials.next, struct dial, link));
	mailbox_free(d->mailbox);
	slab_free(&d->dial_slab);
	slab_free(&d->shake_slab);
	free(d);
}

void
dialer_trim(struct dialer *d)
{
	slab_trim(&d->dial_slab);
	slab_trim(&d->shake_slab);
}

void
dialer_keep_warm(struct dialer *d, struct fleet *f, unsigned n_workers)
{
	warm_use(d->warm, f, n_workers);
}

/* Copies what the request points to. False: out of memory, or a name that no protocol carries. */
static bool
copy_request(struct dial *x, const struct dial_request *r)
{
	x->request = *r;
	x->request.key.to = &x->request.to;
	x->request.key.command = (uint8_t)r->command;
	x->request.key.user = x->user;
	x->request.key.session = x->session;
	snprintf(x->user, sizeof x->user, "%s", r->key.user == NULL ? "" : r->key.user);
	snprintf(x->session, sizeof x->session, "%s", r->key.session == NULL ? "" : r->key.session);
	if (r->key.client != NULL) {
		x->client = *r->key.client;
		x->request.key.client = &x->client;
	}
	if (r->fixed != NULL) {
		x->fixed = *r->fixed;
		x->request.fixed = &x->fixed;
	}
	x->request.addrs = NULL;
	x->request.n_addrs = 0;
	return r->n_addrs == 0 || keep_addresses(x, &x->given, r->addrs, r->n_addrs, r->to.port);
}

struct dial *
dial_start(struct dialer *d, const struct dial_request *request, struct stream *out, dial_cb *cb,
	   void *arg)
{
	struct dial *x = slab_take(&d->dial_slab);
	if (x == NULL)
		return NULL;
	x->dialer = d;
	x->stream = out;
	x->cb = cb;
	x->arg = arg;
	list_init(&x->link);
	list_append(&d->dials, &x->link);
	loop_task_init(&x->ended, on_ended);
	deadline_init(&x->deadline, on_deadline);
	x->result.detail = x->detail;
	bool copied = copy_request(x, request);
	fleet_ref(x->request.fleet);
	if (!copied) {
		dial_free(x);
		return NULL;
	}
	attempt_start(x);
	if (x->stage == DIAL_DONE)
		loop_defer(d->loop, &x->ended);
	return x;
}

void
dial_cancel(struct dial *x)
{
	if (x == NULL || x->telling)
		return;
	attempt_stop(x);
	dial_free(x);
}

bool
dial_waits(const struct dial *x)
{
	return x->wait != NULL;
}

enum dial_stage
dial_stage(const struct dial *x, struct path *path)
{
	*path = x->result.path;
	return x->stage;
}
