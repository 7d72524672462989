/*
 * attempt: picks a path, connects, keeps the time, and goes on with the hops' handshakes, which are
 * in dial_walk.c. The picture of the stages is in attempt.h.
 */
#include "upstream/attempt.h"

#include <string.h>

#include "base/clock.h"
#include "upstream/dial.h"
#include "upstream/kinds.h"
#include "upstream/warm.h"

const struct policy_upstream *
attempt_upstream(const struct attempt *a, unsigned at)
{
	return &fleet_policy(a->dial->request.fleet)->upstreams[a->result.path.hops[at]];
}

/* A direct:// upstream stands alone: the policy takes none into a chain. */
bool
attempt_is_direct(const struct attempt *a)
{
	return a->result.path.n_hops == 0 || attempt_upstream(a, 0)->scheme == SCHEME_DIRECT;
}

void
attempt_note_hop_time(struct attempt *a, uint32_t upstream, uint64_t now_us)
{
	a->result.hops[a->result.n_hop_times++] =
	    (struct dial_hop_time){upstream, (uint32_t)(now_us - a->mark_us)};
	a->mark_us = now_us;
}

/* ---- on from the loop ---- */

void
attempt_go_on(struct attempt *a)
{
	while ((a->stage == DIAL_TLS || a->stage == DIAL_HANDSHAKE) && walk_step(a))
		continue;
	if (a->stage == DIAL_DONE)
		dial_end(a);
}

static void
on_ready(struct stream *s, void *arg)
{
	(void)s;
	attempt_go_on(arg);
}

/* That a step of its handshake waits for its turn is our doing: the upstream has that time besides. */
static void
give_time_back(struct attempt *a)
{
	struct loop *l = a->dial->dialer->loop;
	uint64_t now_ms = loop_now(l), waited_ms = now_ms - a->tls_step.queued_ms;
	uint64_t due_ms = a->deadline.at_ms + waited_ms;
	a->tls_step.queued_ms = now_ms;
	loop_set_deadline(l, &a->deadline, due_ms > now_ms ? due_ms - now_ms : 0);
}

static void
on_deadline(struct deadline *d)
{
	struct attempt *a = CONTAINER_OF(d, struct attempt, deadline);
	if (turn_step_waits(&a->tls_step)) {
		give_time_back(a);
		return;
	}
	if (a->stage == DIAL_PICK) {
		attempt_wait_end(a);
		attempt_fail_without_way(a, "no slot came free in time");
		attempt_go_on(a);
		return;
	}
	if (a->halved && a->stage != DIAL_HANDSHAKE) {
		a->halved = false; /* there is nothing to fall back from yet */
		loop_set_deadline(a->dial->dialer->loop, d, a->dial->request.timeout_ms / 2);
		return;
	}
	if (!a->halved)
		a->pipelined = 0; /* no time is left to try it in full */
	a->from_warm = false;     /* nor afresh */
	if (a->stage == DIAL_RESOLVE)
		attempt_fail_look_up(a);
	else if (attempt_is_direct(a))
		attempt_fail(a, VERDICT_TIMEOUT, -1, "no answer in time");
	else {
		a->result.late = true;
		walk_fail_late(a);
	}
	attempt_go_on(a);
}

static void
on_ended(struct loop_task *t)
{
	attempt_go_on(CONTAINER_OF(t, struct attempt, ended));
}

static void
on_tls_step(struct turn_step *s)
{
	struct attempt *a = CONTAINER_OF(s, struct attempt, tls_step);
	give_time_back(a);
	attempt_go_on(a);
}

/* ---- connecting ---- */

/* A direct connection stands. */
static void
grant_direct(struct attempt *a, uint64_t now_us)
{
	if (a->result.path.n_hops > 0 && !walk_send_proxy(a))
		return;
	a->reached_us[0] = now_us - a->since_us;
	attempt_note_hop_time(a, a->result.path.n_hops > 0 ? a->result.path.hops[0] : UINT32_MAX, now_us);
	attempt_grant(a);
}

static void
on_connected(int error, const struct endpoint *peer, const struct endpoint *local, void *arg)
{
	struct attempt *a = arg;
	if (error != 0) {
		attempt_fail_connect(a, error);
		attempt_go_on(a);
		return;
	}
	a->connected = true;
	a->deferred = a->connector.deferred;
	uint64_t now_us = clock_now_us();
	a->result.connect_us = (uint32_t)(now_us - a->since_us);
	endpoint_copy(&a->result.peer, peer);
	endpoint_copy(&a->result.bound, local);
	stream_set_callback(a->stream, on_ready, a);
	if (attempt_is_direct(a))
		grant_direct(a, now_us);
	else
		(void)walk_enter(a);
	attempt_go_on(a);
}

/* A BIND or an association that begins here. */
static void
grant_here(struct attempt *a, const struct endpoint *addrs, size_t n_addrs)
{
	a->result.addrs = addrs;
	a->result.n_addrs = n_addrs;
	attempt_note_hop_time(a, a->result.path.n_hops > 0 ? a->result.path.hops[0] : UINT32_MAX, clock_now_us());
	attempt_grant(a);
}

/* A connection to the first hop that was kept ready, if there is one. */
static bool
take_warm(struct attempt *a)
{
	const struct path *p = &a->result.path;
	const struct dial_request *r = &a->dial->request;
	if (p->n_hops == 0 || a->fresh || r->fixed != NULL || r->until != DIAL_UNTIL_TUNNEL ||
	    r->command != SOCKS_CONNECT ||
	    !warm_take(a->dial->dialer->warm, r->fleet, p->hops[0], a->stream, &a->result.peer,
		       &a->result.bound))
		return false;
	a->from_warm = a->connected = true;
	stream_set_callback(a->stream, on_ready, a);
	loop_defer(a->dial->dialer->loop, &a->ended); /* goes on from there */
	return true;
}

/* The first connection: to the destination or the first proxy, over the line of the first hop, be
 * that a direct:// one or a proxy. */
static void
connect_first(struct attempt *a)
{
	const struct endpoint *target =
	    attempt_is_direct(a) ? &a->dial->request.to : &attempt_upstream(a, a->at)->at;
	struct connect_plan plan = {.addrs = target, .n_addrs = 1, .rest = &a->dial->dialer->rest};
	if (take_warm(a)) {
		(void)walk_talk(a);
		return;
	}
	if (target->kind == ENDPOINT_NAME) {
		if (attempt_addresses(a, target) == NULL && !attempt_look_up(a, target))
			return;
		plan.addrs = attempt_addresses(a, target)->list;
		plan.n_addrs = attempt_addresses(a, target)->n;
	}
	if (plan.n_addrs == 0) {
		attempt_fail_forbidden(a);
		return;
	}
	if (attempt_is_direct(a) && a->dial->request.command != SOCKS_CONNECT) {
		grant_here(a, plan.addrs, plan.n_addrs);
		return;
	}
	if (a->result.path.n_hops > 0) {
		plan.source = &attempt_upstream(a, 0)->source;
		plan.interface = attempt_upstream(a, 0)->interface;
		plan.mark = attempt_upstream(a, 0)->mark;
		/* only who is there for a whole handshake is sure to say something */
		plan.fast_open = attempt_upstream(a, 0)->fast_open &&
				 a->dial->request.until == DIAL_UNTIL_TUNNEL;
	}
	a->stage = DIAL_CONNECT;
	connector_start(&a->connector, a->dial->dialer->loop, &plan, a->stream, on_connected, a);
}

void
attempt_resolved(struct attempt *a)
{
	if (a->connected)
		(void)walk_talk(a);
	else
		connect_first(a);
}

/* ---- an attempt ---- */

static enum pick_result
pick_path(struct attempt *a, struct path *path)
{
	struct dial *x = a->dial;
	race_avoid_others(a);
	if (x->request.fixed != NULL) {
		*path = x->fixed;
		return PICK_OK;
	}
	return fleet_pick_path(x->request.fleet, x->request.route, &x->request.key, &x->tried, path);
}

static const char *
why_no_way(const struct attempt *a)
{
	switch ((enum route_kind)a->dial->request.route.kind) {
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
find_incapable(const struct attempt *a)
{
	const struct path *p = &a->result.path;
	for (unsigned i = 0; i < p->n_hops; i++)
		if (!kind_can(attempt_upstream(a, i), a->dial->request.command, i + 1u == p->n_hops))
			return (int)i;
	return -1;
}

void
attempt_take(struct attempt *a, const struct path *path)
{
	a->result.path = *path;
	a->result.attempts = ++a->dial->n_attempts;
	race_plan(a);
	a->in_full = a->fresh = false;
	a->suspects = 0;
	attempt_begin(a);
}

/* What is told of an attempt, but for its path and what all of them share. */
static void
result_begin(struct attempt *a)
{
	struct dial_result *r = &a->result;
	r->verdict = VERDICT_GRANTED;
	r->stage = DIAL_PICK;
	r->hop_at_fault = -1;
	r->code = 0;
	r->status = 0;
	r->addrs = NULL;
	r->n_addrs = 0;
	endpoint_clear(&r->bound);
	endpoint_clear(&r->peer);
	r->sealed = r->late = false;
	r->connect_us = r->tls_us = 0;
	r->n_hop_times = 0;
	r->early = NULL;
	r->early_len = 0;
	a->detail[0] = '\0';
}

void
attempt_begin(struct attempt *a)
{
	uint64_t timeout_ms = a->dial->request.timeout_ms;
	result_begin(a);
	a->at = 0;
	a->n_said = 0;
	a->connected = a->deferred = a->from_warm = false;
	memset(a->reached_us, 0, sizeof a->reached_us);
	a->mark_us = a->since_us = clock_now_us();
	pipeline_plan(a);
	a->halved = a->pipelined != 0 && !a->pipeline_proven;
	loop_set_deadline(a->dial->dialer->loop, &a->deadline,
			  a->halved || a->in_full ? timeout_ms / 2 : timeout_ms);
	int incapable = find_incapable(a);
	if (incapable < 0)
		connect_first(a);
	else
		attempt_fail(a, VERDICT_UPSTREAM_NO_COMMAND, incapable,
			  "a hop on the way can't do it");
}

/* In a pool's queue until its turn comes, on_deadline, or the client leaves. */
static void
wait_in_queue(struct attempt *a, uint32_t pool)
{
	a->stage = DIAL_PICK;
	loop_set_deadline(a->dial->dialer->loop, &a->deadline,
			  fleet_policy(a->dial->request.fleet)->pools[pool].queue.timeout_ms);
}

/* A slot that comes free between the pick and getting in line is tried for at once, but not again
 * and again. */
void
attempt_start(struct attempt *a)
{
	struct path path;
	enum pick_result result = pick_path(a, &path);
	const char *why = why_no_way(a);
	for (bool insist = false; result == PICK_BUSY && !race_has_others(a); insist = true) {
		uint32_t pool = path.busy_pool;
		enum join_result joined = attempt_wait_start(a, pool, insist);
		if (joined == JOIN_WAITS) {
			wait_in_queue(a, pool);
			return;
		}
		if (joined == JOIN_FULL)
			why = "no member has a free slot, and the queue is full";
		result = joined == JOIN_FULL ? PICK_NONE : pick_path(a, &path);
	}
	if (result == PICK_OK)
		attempt_take(a, &path);
	else
		attempt_fail_without_way(a, why);
}

enum pick_result
attempt_take_turn(struct attempt *a)
{
	a->dial->request.key.has_turn = true;
	enum pick_result result = pick_path(a, &a->turn);
	a->dial->request.key.has_turn = false;
	return result;
}

void
attempt_end_turn(struct attempt *a, enum pick_result result)
{
	loop_clear_deadline(a->dial->dialer->loop, &a->deadline);
	if (result == PICK_OK)
		attempt_take(a, &a->turn);
	else
		attempt_fail_without_way(a, why_no_way(a));
	attempt_go_on(a);
}

/* ---- life ---- */

void
attempt_init(struct attempt *a, struct dial *x, struct stream *s)
{
	a->dial = x;
	a->stream = s;
	list_init(&a->link);
	list_append(&x->attempts, &a->link);
	a->result.attempts = 0;
	a->result.resolve_us = 0;
	path_clear(&a->result.path);
	a->result.detail = a->detail;
	result_begin(a);
	loop_task_init(&a->ended, on_ended);
	turn_step_init(&a->tls_step, on_tls_step);
	deadline_init(&a->deadline, on_deadline);
}

void
attempt_settle(struct attempt *a)
{
	attempt_wait_end(a);
	attempt_stop_look_up(a);
	turn_step_drop(&a->tls_step);
	loop_clear_deadline(a->dial->dialer->loop, &a->deadline);
}

void
attempt_stop(struct attempt *a)
{
	attempt_settle(a);
	connector_cancel(&a->connector);
	stream_close(a->stream);
	walk_drop(a);
	fleet_give_back_path(a->dial->request.fleet, &a->result.path);
	a->result.path.held = false;
}

void
attempt_drop(struct attempt *a)
{
	loop_undefer(a->dial->dialer->loop, &a->ended);
	walk_drop(a);
}
