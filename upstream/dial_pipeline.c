/*
 * dial_pipeline: a hop's whole handshake in one piece, and the first words to the next hop behind it,
 * before any answer. See attempt.h.
 *
 *   hop 1: greeting, credentials, request | hop 2: the same, through hop 1 | hop 3: ...
 *
 * What was said ahead is worked out again when its hop's turn comes, from the same values, and thrown
 * away: so the walk needs to know only how many hops have been spoken to.
 *
 * Not every proxy can take it: some read one message a time and lose the rest, some drop what follows
 * a request until they have answered it. An attempt that fails so is made again along the same path,
 * one message at a time. Where that goes well the board remembers it of the hop that failed and of
 * the one before it, which may have lost its bytes, for PIPELINE_MEMORY_MS. A peer that stays silent
 * is told apart only by time, so an attempt over hops of which nothing is known has half of its time.
 */
#include "upstream/dial.h"

#include "base/clock.h"
#include "upstream/credentials.h"
#include "upstream/kinds.h"

enum { PIPELINE_MEMORY_MS = 60 * 60 * 1000 };

static struct board_entry *
entry_of(const struct attempt *a, unsigned at)
{
	return fleet_upstream(a->dial->request.fleet, a->result.path.hops[at]);
}

static enum board_pipeline
known_of(const struct board_entry *e)
{
	unsigned known = atomic_load_explicit(&e->pipeline, memory_order_relaxed);
	uint64_t at = atomic_load_explicit(&e->pipeline_at_ms, memory_order_relaxed);
	if (known == PIPELINE_FAILS && clock_now_ms() >= at + PIPELINE_MEMORY_MS)
		return PIPELINE_UNKNOWN;
	return (enum board_pipeline)known;
}

void
pipeline_plan(struct attempt *a)
{
	a->pipelined = 0;
	a->pipeline_proven = true;
	if (a->dial->request.fixed != NULL || a->in_full || a->dial->request.command != SOCKS_CONNECT)
		return;
	for (unsigned i = 0; i < a->result.path.n_hops; i++) {
		if (!attempt_upstream(a, i)->pipeline || attempt_upstream(a, i)->auth_gssapi)
			continue;
		enum board_pipeline known = known_of(entry_of(a, i));
		if (known == PIPELINE_FAILS)
			continue;
		a->pipelined = (uint16_t)(a->pipelined | 1u << i);
		a->pipeline_proven = a->pipeline_proven && known == PIPELINE_WORKS;
	}
}

/* Where this hop shall lead, where that is known without asking anybody; else NULL. */
static const struct endpoint *
known_target(const struct attempt *a, unsigned at)
{
	const struct policy_upstream *u = attempt_upstream(a, at);
	bool last = at + 1u == a->result.path.n_hops;
	const struct endpoint *to = last ? &a->dial->request.to : &attempt_upstream(a, at + 1u)->at;
	bool as_it_is = to->kind != ENDPOINT_NAME ||
			(kind_ops(u->scheme)->carries_names && !u->resolve_local);
	return as_it_is ? to : NULL;
}

static bool
say_ahead(struct attempt *a, unsigned at)
{
	const struct policy_upstream *u = attempt_upstream(a, at);
	const struct endpoint *to = known_target(a, at);
	char username[HOP_USERNAME_MAX + 1], password[HOP_PASSWORD_MAX + 1];
	uint8_t bytes[HOP_OUT_MAX];
	struct buffer out;
	struct hop hop;
	if (to == NULL || u->send_proxy != 0 ||
	    fleet_tls(a->dial->request.fleet, a->result.path.hops[at]) != NULL ||
	    !credentials_expand(u->username, a->dial->user, a->dial->session, username, sizeof username) ||
	    !credentials_expand(u->password, a->dial->user, a->dial->session, password, sizeof password))
		return false;
	const struct hop_request request = {
		.command = SOCKS_CONNECT,
		.to = to,
		.username = username,
		.password = password,
		.pipeline = (a->pipelined & 1u << at) != 0,
		.gssapi = u->auth_gssapi,
	};
	buffer_init(&out, bytes, sizeof bytes);
	bool said = hop_start(&hop, kind_ops(u->scheme), &request, &out) == HOP_MORE &&
		    buffer_append(&a->shake->out, buffer_bytes(&out), buffer_len(&out));
	explicit_bzero(password, sizeof password);
	explicit_bzero(bytes, sizeof bytes);
	return said;
}

void
pipeline_say_ahead(struct attempt *a)
{
	if (a->dial->request.until != DIAL_UNTIL_TUNNEL)
		return;
	while (a->n_said < a->result.path.n_hops && (a->pipelined & 1u << (a->n_said - 1u)) != 0 &&
	       say_ahead(a, a->n_said))
		a->n_said++;
}

/* An answer in the protocol's own words, about what was asked, is no sign of it: only silence, an
 * early end, garbage, and a refusal of the one method that was offered are. */
bool
pipeline_may_be_why(const struct attempt *a, enum verdict v)
{
	unsigned concerned = 1u << a->at | (a->at > 0 ? 1u << (a->at - 1u) : 0);
	if (a->stage != DIAL_HANDSHAKE || (a->pipelined & concerned) == 0)
		return false;
	if (v == VERDICT_UPSTREAM_AUTH)
		return a->shake != NULL && a->shake->hop.step == 0 && a->result.status == 0;
	if (v == VERDICT_UPSTREAM_FAILED)
		return a->result.code == 0 && (a->result.status == 0 || a->result.status == 400);
	return v == VERDICT_UPSTREAM_GARBAGE;
}

void
pipeline_suspect(struct attempt *a)
{
	unsigned concerned = 1u << a->at | (a->at > 0 ? 1u << (a->at - 1u) : 0);
	a->suspects = (uint16_t)(a->pipelined & concerned);
	a->in_full = true;
}

static void
remember(struct attempt *a, unsigned at, enum board_pipeline known)
{
	struct board_entry *e = entry_of(a, at);
	if (known == PIPELINE_WORKS && atomic_load_explicit(&e->pipeline, memory_order_relaxed) == known)
		return; /* the usual case leaves the line as it is */
	atomic_store_explicit(&e->pipeline_at_ms, clock_now_ms(), memory_order_relaxed);
	atomic_store_explicit(&e->pipeline, known, memory_order_relaxed);
}

void
pipeline_remember(struct attempt *a)
{
	for (unsigned i = 0; i < a->result.path.n_hops; i++) {
		if ((a->suspects & 1u << i) != 0)
			remember(a, i, PIPELINE_FAILS);
		else if ((a->pipelined & 1u << i) != 0)
			remember(a, i, PIPELINE_WORKS);
	}
}
