/*
 * attempt_end: how an attempt ends: what the end says of the hops and of the destination, on the
 * board and to the pools, and whether another attempt follows. See attempt.h.
 */
#include "upstream/attempt.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "upstream/dial.h"

bool
dial_avoid(struct dial *x, struct pick pick)
{
	for (unsigned i = 0; i < x->tried.n; i++)
		if (x->tried.list[i].pool == pick.pool && x->tried.list[i].member == pick.member)
			return true;
	if (x->tried.n == ARRAY_LEN(x->tried.list))
		return false;
	x->tried.list[x->tried.n++] = pick;
	return true;
}

/* Does the pool that made this pick (UINT8_MAX: none did), which led to that hop, allow another attempt? It will avoid that choice. */
static bool
may_try_again(struct attempt *a, uint8_t chosen_by, unsigned hop)
{
	struct dial *x = a->dial;
	if (x->request.fixed != NULL || chosen_by == UINT8_MAX)
		return false;
	struct pick pick = a->result.path.picks[chosen_by];
	if (hop < a->result.path.n_hops && x->tried.n_failed < ARRAY_LEN(x->tried.failed))
		x->tried.failed[x->tried.n_failed++] = a->result.path.hops[hop];
	uint32_t n_tries = x->n_attempts - x->n_raced - x->n_passed;
	if (n_tries > fleet_policy(x->request.fleet)->pools[pick.pool].retry_attempts ||
	    !dial_avoid(x, pick))
		return false;
	return fleet_may_retry(x->request.fleet, pick.pool);
}

/*
 * Did the last hop show that it does not do what is asked of it, or not for us? Many know no BIND
 * and no UDP: some say so, ssh hangs up. An association is asked for without a destination, so
 * there a rejection is no answer about one.
 */
static bool
is_incapable(const struct attempt *a, enum verdict v)
{
	enum socks_command command = a->dial->request.command;
	if (command == SOCKS_CONNECT || a->stage != DIAL_HANDSHAKE || a->at + 1u != a->result.path.n_hops)
		return false;
	return v == VERDICT_UPSTREAM_NO_COMMAND ||
	       (v == VERDICT_UPSTREAM_REJECTED && command == SOCKS_UDP) ||
	       (v == VERDICT_UPSTREAM_FAILED && !a->result.late && a->result.code == 0 && a->shake->hop.authenticated);
}

/* Is there a pool that chose the last hop? It will avoid that choice. Nothing has failed, so this is
 * no retry that counts. */
static bool
may_pass_over(struct attempt *a)
{
	const struct path *p = &a->result.path;
	uint8_t pick = p->hop_pick[p->n_hops - 1];
	if (a->dial->request.fixed != NULL || pick == UINT8_MAX || !dial_avoid(a->dial, p->picks[pick]))
		return false;
	a->dial->n_passed++;
	return true;
}

static void
count_failure(struct attempt *a, int fault)
{
	const struct path *p = &a->result.path;
	uint8_t pick = p->hop_pick[fault];
	if (a->dial->request.fixed == NULL)
		fleet_note_failure(a->dial->request.fleet, pick == UINT8_MAX ? UINT32_MAX : p->picks[pick].pool,
				   p->hops[fault]);
}

/* The hops that did their part: all before the nth. */
static void
count_successes(struct attempt *a, unsigned n)
{
	for (unsigned i = 0; i < n && a->dial->request.fixed == NULL; i++)
		fleet_note_success(a->dial->request.fleet, a->result.path.hops[i]);
}

/* The destination can't be had, from where it was tried. */
static bool
is_of_destination(enum verdict v)
{
	return v >= VERDICT_NAME_UNKNOWN && v <= VERDICT_TIMEOUT;
}

/* Did the exit say that it can't have the destination? A site may have blocked it. */
static bool
exit_failed(const struct attempt *a, enum verdict v)
{
	if (attempt_is_direct(a))
		return a->result.stage == DIAL_CONNECT && is_of_destination(v);
	return a->result.stage == DIAL_HANDSHAKE && a->at + 1u == a->result.path.n_hops &&
	       (is_of_destination(v) || v == VERDICT_UPSTREAM_REJECTED);
}

/* Time is ours, so a direct way's is no answer. */
static bool
is_answer(const struct attempt *a, enum verdict v)
{
	return exit_failed(a, v) && !(attempt_is_direct(a) && v == VERDICT_TIMEOUT);
}

/* For the pool that chose the hop at fault, or the exit. */
static void
note_destination_failed(struct attempt *a, enum verdict v, int fault)
{
	const struct path *p = &a->result.path;
	uint8_t pick = p->n_picks > 0 ? p->n_picks - 1 : UINT8_MAX; /* "direct" is no hop */
	bool at_fault = fault >= 0 && verdict_blames_upstream(v);
	if (a->dial->request.fixed != NULL || (!at_fault && !exit_failed(a, v)))
		return;
	if (p->n_hops > 0)
		pick = p->hop_pick[fault >= 0 ? fault : p->n_hops - 1];
	if (pick != UINT8_MAX)
		fleet_note_destination(a->dial->request.fleet, p->picks[pick], &a->dial->request.key, false);
}

/* The connection that was kept ready had died before it was asked. That blames nobody. */
static bool
was_dead(const struct attempt *a, enum verdict v)
{
	return a->from_warm && a->at == 0 && a->stage == DIAL_HANDSHAKE &&
	       v == VERDICT_UPSTREAM_FAILED && a->result.code == 0 && a->result.status == 0;
}

/* The same path once more; what the first try took of it is kept. */
static void
attempt_again(struct attempt *a)
{
	struct path path = a->result.path;
	a->result.path.held = false; /* not given back */
	attempt_stop(a);
	a->result.path = path;
	attempt_begin(a);
}

void
attempt_fail(struct attempt *a, enum verdict v, int fault, const char *detail)
{
	if (was_dead(a, v)) {
		a->fresh = true;
		attempt_again(a);
		return;
	}
	if (pipeline_may_be_why(a, v)) {
		pipeline_suspect(a);
		attempt_again(a);
		return;
	}
	bool incapable = is_incapable(a, v);
	a->result.verdict = v;
	a->result.stage = a->stage;
	a->result.hop_at_fault = fault;
	snprintf(a->detail, sizeof a->detail, "%s", detail);
	attempt_stop(a); /* detail may have lain in what goes here */
	a->stage = DIAL_DONE;
	if (!race_has_others(a))
		race_call_off(a->dial);
	a->decides = fault < 0 && is_answer(a, v);
	if (incapable) {
		if (may_pass_over(a))
			attempt_start(a);
		return;
	}
	note_destination_failed(a, v, fault);
	if (fault < 0 || !verdict_blames_upstream(v)) {
		if (a->result.stage == DIAL_HANDSHAKE && v != VERDICT_INTERNAL)
			count_successes(a, a->at + 1u); /* the destination's answer, through all of them */
		return;
	}
	count_failure(a, fault);
	if (may_try_again(a, a->result.path.hop_pick[fault], (unsigned)fault))
		attempt_start(a);
}

const char *
attempt_hop_text(const struct attempt *a, unsigned at, char *out, size_t cap)
{
	const char *name = attempt_upstream(a, at)->name;
	if (a->result.path.n_hops == 1)
		snprintf(out, cap, "upstream %s", name);
	else
		snprintf(out, cap, "hop %u (%s)", at + 1, name);
	return out;
}

void
attempt_fail_hop(struct attempt *a, enum verdict v, unsigned at, const char *what, const char *why)
{
	char hop[POLICY_NAME_MAX + 32], detail[sizeof a->detail];
	snprintf(detail, sizeof detail, "%s %s: %s", attempt_hop_text(a, at, hop, sizeof hop), what, why);
	attempt_fail(a, v, (int)at, detail);
}

void
attempt_fail_no_memory(struct attempt *a)
{
	attempt_fail(a, VERDICT_INTERNAL, -1, strerrordesc_np(ENOMEM));
}

void
attempt_fail_forbidden(struct attempt *a)
{
	attempt_fail(a, VERDICT_REJECTED, -1, "every address of the name is forbidden");
}

/* Who chose where the first connection goes; "direct" is no hop. */
static uint8_t
first_pick(const struct path *p)
{
	if (p->n_hops > 0)
		return p->hop_pick[0];
	return p->n_picks > 0 ? p->n_picks - 1 : UINT8_MAX;
}

/* Not the fault of anybody there. But the way to another member, or by another line, has ports of its own. */
static void
fail_without_port(struct attempt *a)
{
	if (!attempt_is_direct(a))
		port_rest_warn(&a->dial->dialer->rest, attempt_upstream(a, a->at)->name, loop_now(a->dial->dialer->loop));
	attempt_fail(a, VERDICT_INTERNAL, -1, "no local port or address is free for it");
	if (a->stage == DIAL_DONE && may_try_again(a, first_pick(&a->result.path), 0))
		attempt_start(a);
}

void
attempt_fail_connect(struct attempt *a, int error)
{
	if (error == EADDRNOTAVAIL) {
		fail_without_port(a);
		return;
	}
	enum verdict v = connect_verdict(error);
	const char *text = strerrordesc_np(error);
	if (text == NULL)
		text = "unknown error";
	if (v != VERDICT_INTERNAL && !attempt_is_direct(a))
		attempt_fail_hop(a, VERDICT_UPSTREAM_FAILED, a->at, "unreachable", text);
	else
		attempt_fail(a, v, -1, text);
}

void
attempt_fail_without_way(struct attempt *a, const char *why)
{
	if (a->result.attempts == 0)
		attempt_fail(a, VERDICT_NO_UPSTREAM, -1, why);
	a->stage = DIAL_DONE;
}

static void
note_session(struct board_entry *e, uint64_t connect_us)
{
	atomic_fetch_add_explicit(&e->sessions_total, 1, memory_order_relaxed);
	if (connect_us > 0)
		board_note_connect(e, connect_us);
}

static void
note_on_board(struct attempt *a)
{
	struct fleet *f = a->dial->request.fleet;
	const struct path *p = &a->result.path;
	if (a->dial->request.fixed != NULL)
		return;
	if (a->from_warm)
		a->reached_us[0] = 0; /* no time was measured */
	if (p->n_hops == 0)
		note_session(fleet_direct(f), a->reached_us[0]);
	for (unsigned i = 0; i < p->n_hops; i++)
		note_session(fleet_upstream(f, p->hops[i]), a->reached_us[i]);
	if (p->n_hops > 0)
		fleet_note_connect(f, p, a->reached_us[p->n_hops - 1]);
	pipeline_remember(a);
}

void
attempt_grant(struct attempt *a)
{
	attempt_settle(a);
	if (!race_win(a)) {
		attempt_fail_no_memory(a);
		return;
	}
	stream_set_callback(a->stream, NULL, NULL);
	a->stage = DIAL_DONE;
	a->result.verdict = VERDICT_GRANTED;
	a->result.stage = DIAL_DONE;
	if (a->shake != NULL) {
		a->result.early = buffer_bytes(&a->shake->in);
		a->result.early_len = buffer_len(&a->shake->in);
	}
	note_on_board(a);
	count_successes(a, a->result.path.n_hops);
	const struct dial_request *r = &a->dial->request;
	for (unsigned i = 0; i < a->result.path.n_picks && r->fixed == NULL; i++)
		fleet_note_destination(r->fleet, a->result.path.picks[i], &r->key, true);
}
