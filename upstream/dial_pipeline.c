/*
 * dial_pipeline: a hop's whole handshake in one piece, and the first words to the next hop behind it,
 * before any answer. See dial.h.
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
entry_of(const struct dial *x, unsigned at)
{
	return fleet_upstream(x->request.fleet, x->result.path.hops[at]);
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
pipeline_plan(struct dial *x)
{
	x->pipelined = 0;
	x->pipeline_proven = true;
	if (x->request.fixed != NULL || x->in_full || x->request.command != SOCKS_CONNECT)
		return;
	for (unsigned i = 0; i < x->result.path.n_hops; i++) {
		if (!dial_upstream(x, i)->pipeline)
			continue;
		enum board_pipeline known = known_of(entry_of(x, i));
		if (known == PIPELINE_FAILS)
			continue;
		x->pipelined = (uint16_t)(x->pipelined | 1u << i);
		x->pipeline_proven = x->pipeline_proven && known == PIPELINE_WORKS;
	}
}

/* Where this hop shall lead, where that is known without asking anybody; else NULL. */
static const struct endpoint *
known_target(const struct dial *x, unsigned at)
{
	const struct policy_upstream *u = dial_upstream(x, at);
	bool last = at + 1u == x->result.path.n_hops;
	const struct endpoint *to = last ? &x->request.to : &dial_upstream(x, at + 1u)->at;
	bool as_it_is = to->kind != ENDPOINT_NAME ||
			(kind_ops(u->scheme)->carries_names && !u->resolve_local);
	return as_it_is ? to : NULL;
}

static bool
say_ahead(struct dial *x, unsigned at)
{
	const struct policy_upstream *u = dial_upstream(x, at);
	const struct endpoint *to = known_target(x, at);
	char username[HOP_USERNAME_MAX + 1], password[HOP_PASSWORD_MAX + 1];
	uint8_t bytes[HOP_OUT_MAX];
	struct buffer out;
	struct hop hop;
	if (to == NULL || u->send_proxy != 0 ||
	    fleet_tls(x->request.fleet, x->result.path.hops[at]) != NULL ||
	    !credentials_expand(u->username, x->user, x->session, username, sizeof username) ||
	    !credentials_expand(u->password, x->user, x->session, password, sizeof password))
		return false;
	const struct hop_request request = {
		.command = SOCKS_CONNECT,
		.to = to,
		.username = username,
		.password = password,
		.pipeline = (x->pipelined & 1u << at) != 0,
	};
	buffer_init(&out, bytes, sizeof bytes);
	bool said = hop_start(&hop, kind_ops(u->scheme), &request, &out) == HOP_MORE &&
		    buffer_append(&x->shake->out, buffer_bytes(&out), buffer_len(&out));
	explicit_bzero(password, sizeof password);
	explicit_bzero(bytes, sizeof bytes);
	return said;
}

void
pipeline_say_ahead(struct dial *x)
{
	if (x->request.until != DIAL_UNTIL_TUNNEL)
		return;
	while (x->n_said < x->result.path.n_hops && (x->pipelined & 1u << (x->n_said - 1u)) != 0 &&
	       say_ahead(x, x->n_said))
		x->n_said++;
}

/* An answer in the protocol's own words, about what was asked, is no sign of it: only silence, an
 * early end, garbage, and a refusal of the one method that was offered are. */
bool
pipeline_may_be_why(const struct dial *x, enum verdict v)
{
	unsigned concerned = 1u << x->at | (x->at > 0 ? 1u << (x->at - 1u) : 0);
	if (x->stage != DIAL_HANDSHAKE || (x->pipelined & concerned) == 0)
		return false;
	if (v == VERDICT_UPSTREAM_AUTH)
		return x->shake != NULL && x->shake->hop.step == 0 && x->result.status == 0;
	if (v == VERDICT_UPSTREAM_FAILED)
		return x->result.code == 0 && (x->result.status == 0 || x->result.status == 400);
	return v == VERDICT_UPSTREAM_GARBAGE;
}

void
pipeline_suspect(struct dial *x)
{
	unsigned concerned = 1u << x->at | (x->at > 0 ? 1u << (x->at - 1u) : 0);
	x->suspects = (uint16_t)(x->pipelined & concerned);
	x->in_full = true;
}

static void
remember(struct dial *x, unsigned at, enum board_pipeline known)
{
	struct board_entry *e = entry_of(x, at);
	if (known == PIPELINE_WORKS && atomic_load_explicit(&e->pipeline, memory_order_relaxed) == known)
		return; /* the usual case leaves the line as it is */
	atomic_store_explicit(&e->pipeline_at_ms, clock_now_ms(), memory_order_relaxed);
	atomic_store_explicit(&e->pipeline, known, memory_order_relaxed);
}

void
pipeline_remember(struct dial *x)
{
	for (unsigned i = 0; i < x->result.path.n_hops; i++) {
		if ((x->suspects & 1u << i) != 0)
			remember(x, i, PIPELINE_FAILS);
		else if ((x->pipelined & 1u << i) != 0)
			remember(x, i, PIPELINE_WORKS);
	}
}
