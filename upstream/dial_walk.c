/*
 * dial_walk: one hop's TLS and handshake after the other, over one stream, and whose fault it is
 * when one fails. See dial.h.
 *
 * Hops speak through the tables of socks/hop.h, so this is the same for all kinds and any order of
 * them. Bytes behind one hop's answer are the next one's; behind the last they are the
 * destination's and open the stream.
 */
#include "upstream/dial.h"

#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/tls.h"
#include "socks/proxy_header.h"
#include "upstream/credentials.h"
#include "upstream/kinds.h"

static bool
is_last(const struct dial *x)
{
	return x->at + 1 == x->result.path.n_hops;
}

/* ---- failures ---- */

static void
fail_here(struct dial *x, enum verdict v, const char *why)
{
	char hop[POLICY_NAME_MAX + 32], detail[sizeof x->detail];
	snprintf(detail, sizeof detail, "%s: %s", dial_hop_text(x, x->at, hop, sizeof hop), why);
	dial_fail(x, v, x->at, detail);
}

static bool
is_about_what_lies_beyond(enum verdict v)
{
	return v == VERDICT_NAME_UNKNOWN || v == VERDICT_HOST_UNREACHABLE ||
	       v == VERDICT_NETWORK_UNREACHABLE || v == VERDICT_REFUSED || v == VERDICT_TIMEOUT;
}

/* The same of a hop, which is nobody's destination. */
static const char *
beyond_text(enum verdict v)
{
	return v == VERDICT_REFUSED ? "it refuses connections" : verdict_text(v);
}

/*
 * The last hop's word about the destination goes to the client as it is. What a hop before it says
 * of the next one is that next one's fault, and what it will not do at all is its own; either is a
 * failing upstream to the client, who asked for neither.
 */
static void
fail_by_answer(struct dial *x, enum verdict v)
{
	char hop[POLICY_NAME_MAX + 32], next[POLICY_NAME_MAX + 32], detail[sizeof x->detail];
	const char *why = verdict_text(v);
	bool beyond = is_about_what_lies_beyond(v), last = is_last(x);
	if (v == VERDICT_INTERNAL) {
		dial_fail(x, v, -1, why);
		return;
	}
	dial_hop_text(x, x->at, hop, sizeof hop);
	if (last && (beyond || v == VERDICT_UPSTREAM_REJECTED)) {
		snprintf(detail, sizeof detail, "%s says: %s", hop, why);
		dial_fail(x, v, -1, detail);
		return;
	}
	if (beyond)
		snprintf(detail, sizeof detail, "%s says %s unreachable: %s", hop,
			 dial_hop_text(x, x->at + 1u, next, sizeof next), beyond_text(v));
	else
		snprintf(detail, sizeof detail, "%s: %s", hop, why);
	if (!last && v != VERDICT_UPSTREAM_AUTH && v != VERDICT_UPSTREAM_GARBAGE)
		v = VERDICT_UPSTREAM_FAILED;
	dial_fail(x, v, beyond ? x->at + 1 : x->at, detail);
}

/* Does this come only of a connection that did stand? EPROTO is TLS's own. */
static bool
is_of_talk(int error)
{
	return error == 0 || error == ECONNRESET || error == EPIPE || error == EPROTO ||
	       connect_verdict(error) == VERDICT_INTERNAL;
}

/* The connection that fast open said was there never was: as if connecting had said so. False: it
 * is not so. */
static bool
fail_deferred(struct dial *x)
{
	int error = x->stream->error;
	if (!x->deferred || is_of_talk(error))
		return false;
	x->stage = DIAL_CONNECT;
	dial_fail_connect(x, error);
	return true;
}

/* The first hop has answered: only now it is known how long the way to it takes. */
static void
note_heard(struct dial *x)
{
	if (!x->deferred)
		return;
	x->deferred = false;
	x->reached_us[0] = clock_now_us() - x->since_us;
}

/* ---- the PROXY header ---- */

/* It goes at once: nothing was sent before it that is not answered, so the socket has room. */
bool
walk_send_proxy(struct dial *x)
{
	static const struct endpoint nobody = { .kind = ENDPOINT_NONE };
	const struct policy_upstream *u = dial_upstream(x, x->at);
	struct endpoint reached = nobody;
	uint8_t header[PROXY_HEADER_WRITTEN_MAX];
	size_t sent = 0;
	if (u->send_proxy == 0)
		return true;
	if (x->request.tell_reached != NULL)
		x->request.tell_reached(&reached, x->arg);
	size_t len =
	    proxy_header_write(header, sizeof header, u->send_proxy, &x->client, &reached);
	if (stream_write(x->stream, header, len, &sent) == STREAM_OK && sent == len)
		return true;
	fail_here(x, VERDICT_UPSTREAM_FAILED, "it takes no PROXY header");
	return false;
}

/* ---- TLS ---- */

static bool
start_tls(struct dial *x, struct tls_context *context)
{
	const struct policy_upstream *u = dial_upstream(x, x->at);
	char text[ENDPOINT_TEXT_MAX];
	const char *host = u->tls.server_name != NULL
			       ? u->tls.server_name
			       : endpoint_host_to_text(&u->at, text, sizeof text);
	if (x->shake != NULL && buffer_len(&x->shake->in) > 0) {
		fail_here(x, VERDICT_UPSTREAM_GARBAGE, "it spoke before TLS began");
		return false;
	}
	struct tls *tls = tls_new(context, x->stream->fd, host);
	if (tls == NULL) {
		dial_fail_no_memory(x);
		return false;
	}
	stream_start_tls(x->stream, tls); /* within the TLS of a hop before, where there is one */
	x->stage = DIAL_TLS;
	x->tls_began_us = clock_now_us();
	return true;
}

static bool
step_tls(struct dial *x)
{
	switch (stream_handshake(x->stream)) {
	case STREAM_OK:
		note_heard(x);
		x->result.tls_us += (uint32_t)(clock_now_us() - x->tls_began_us);
		return walk_talk(x);
	case STREAM_AGAIN:
		return false;
	case STREAM_EOF:
	case STREAM_ERROR:
		break;
	}
	if (!fail_deferred(x))
		fail_here(x, VERDICT_UPSTREAM_TLS, tls_error_text(x->stream->tls));
	return false;
}

/* ---- the request to a hop ---- */

/* The first of them that this kind of hop can carry; NULL: none. */
static const struct endpoint *
choose_address(const struct addresses *a, const struct hop_ops *ops)
{
	for (size_t i = 0; i < a->n; i++)
		if (a->list[i].kind == ENDPOINT_IPV4 || ops->carries_ipv6)
			return &a->list[i];
	return NULL;
}

/* Where the hop shall lead: the next hop or the destination, by name or by an address of it. NULL:
 * awaited, or the attempt ended. */
static const struct endpoint *
ask_for(struct dial *x)
{
	const struct policy_upstream *u = dial_upstream(x, x->at);
	const struct hop_ops *ops = kind_ops(u->scheme);
	const struct endpoint *to = is_last(x) ? &x->request.to : &dial_upstream(x, x->at + 1u)->at;
	if (to->kind != ENDPOINT_NAME || (ops->carries_names && !u->resolve_local))
		return to;
	if (dial_addresses(x, to) == NULL && !dial_look_up(x, to))
		return NULL;
	const struct addresses *a = dial_addresses(x, to);
	if (a->n == 0) {
		dial_fail_forbidden(x);
		return NULL;
	}
	const struct endpoint *chosen = choose_address(a, ops);
	if (chosen == NULL)
		fail_by_answer(x, VERDICT_UPSTREAM_NO_ADDRESS);
	return chosen;
}

static bool
take_shake(struct dial *x)
{
	if (x->shake != NULL)
		return true;
	x->shake = slab_take(&x->dialer->shake_slab);
	if (x->shake == NULL) {
		dial_fail_no_memory(x);
		return false;
	}
	buffer_init(&x->shake->in, x->shake->in_bytes, sizeof x->shake->in_bytes);
	buffer_init(&x->shake->out, x->shake->out_bytes, sizeof x->shake->out_bytes);
	return true;
}

/* Only what a client put into them can make them so: the policy's own text was checked. */
static void
fail_credentials(struct dial *x)
{
	dial_fail(x, VERDICT_REJECTED, -1, "the upstream's protocol can't carry these credentials");
}

static bool
fill_in_credentials(struct dial *x)
{
	const struct policy_upstream *u = dial_upstream(x, x->at);
	struct shake *s = x->shake;
	if (credentials_expand(u->username, x->user, x->session, s->username, sizeof s->username) &&
	    credentials_expand(u->password, x->user, x->session, s->password, sizeof s->password))
		return true;
	fail_credentials(x);
	return false;
}

/* Nothing was said to the hop yet. */
static void
fail_to_ask(struct dial *x)
{
	enum verdict v = x->shake->hop.verdict;
	if (v == VERDICT_UPSTREAM_AUTH)
		fail_credentials(x);
	else
		fail_by_answer(x, v);
}

static bool hop_done(struct dial *x);

/* The last hop of a dial that ends with its authentication. */
static bool
is_held(const struct dial *x)
{
	return x->request.until == DIAL_UNTIL_AUTHENTICATED && is_last(x);
}

/* The first words to the hop at x->at, in `out`, unless they were said ahead. */
static bool
begin_handshake(struct dial *x)
{
	struct shake *s = x->shake;
	struct hop_request request = {
	    .command = is_last(x) ? x->request.command : SOCKS_CONNECT,
	    .to = &s->to,
	    .username = s->username,
	    .password = s->password,
	    .pipeline = (x->pipelined & 1u << x->at) != 0,
	    .hold = is_held(x),
	};
	uint8_t said_before[HOP_OUT_MAX];
	struct buffer none;
	buffer_init(&none, said_before, sizeof said_before);
	bool said = x->at < x->n_said;
	x->stage = DIAL_HANDSHAKE;
	x->unfed = buffer_len(&s->in) > 0;
	const struct hop_ops *ops = kind_ops(dial_upstream(x, x->at)->scheme);
	bool greeted = x->from_warm && x->at == 0;
	enum hop_status status = greeted
				     ? hop_ask(&s->hop, ops, &request, &s->out)
				     : hop_start(&s->hop, ops, &request, said ? &none : &s->out);
	switch (status) {
	case HOP_MORE:
		if (!said)
			x->n_said = x->at + 1;
		pipeline_say_ahead(x);
		return true;
	case HOP_DONE:
		return hop_done(x);
	case HOP_FAILED:
		break;
	}
	fail_to_ask(x);
	return false;
}

/* Who only wants to know that the last hop is there is done here: nothing is said to it. */
static void
grant_before_talk(struct dial *x)
{
	dial_note_hop_time(x, x->result.path.hops[x->at]);
	dial_grant(x);
}

bool
walk_talk(struct dial *x)
{
	const struct endpoint *to = NULL;
	if (x->reached_us[x->at] == 0 && !x->deferred)
		x->reached_us[x->at] = clock_now_us() - x->since_us;
	if (x->request.until == DIAL_UNTIL_TLS && is_last(x)) {
		grant_before_talk(x);
		return false;
	}
	if (!is_held(x) && (to = ask_for(x)) == NULL)
		return false;
	if (!take_shake(x) || !fill_in_credentials(x))
		return false;
	if (to != NULL)
		x->shake->to = *to;
	return begin_handshake(x);
}

bool
walk_enter(struct dial *x)
{
	if (x->request.until == DIAL_UNTIL_CONNECTED && is_last(x)) {
		grant_before_talk(x);
		return false;
	}
	if (!walk_send_proxy(x))
		return false;
	struct tls_context *context = fleet_tls(x->request.fleet, x->result.path.hops[x->at]);
	return context != NULL ? start_tls(x, context) : walk_talk(x);
}

/* ---- the handshake ---- */

/* What the last hop bound. An unspecified address means its own: no use to somebody further away. */
static void
take_bound(struct dial *x)
{
	const struct endpoint *bound = &x->shake->hop.bound;
	const struct endpoint *own = x->at == 0 ? &x->result.peer : &dial_upstream(x, x->at)->at;
	if (bound->kind == ENDPOINT_NONE)
		return;
	uint16_t port = bound->port;
	bool waits = x->request.command == SOCKS_BIND || x->request.command == SOCKS_UDP;
	bool its_own = waits && endpoint_is_wildcard(bound);
	x->result.bound = its_own ? *own : *bound;
	x->result.bound.port = port;
}

static bool
hop_done(struct dial *x)
{
	dial_note_hop_time(x, x->result.path.hops[x->at]);
	if (!is_last(x)) {
		x->result.code = 0; /* what the next one says counts */
		x->result.status = 0;
		x->at++;
		return walk_enter(x);
	}
	take_bound(x);
	dial_grant(x);
	return false;
}

/* Sends what is in `out`. False: the socket is full, or the attempt ended. A peer that is gone may still have said why,
 * so that's no failure yet. */
static bool
flush(struct dial *x)
{
	struct buffer *out = &x->shake->out;
	while (buffer_len(out) > 0) {
		size_t n = 0;
		if ((x->stream->ready & STREAM_WRITABLE) == 0)
			return false;
		switch (stream_write(x->stream, buffer_bytes(out), buffer_len(out), &n)) {
		case STREAM_OK:
			buffer_take(out, n);
			break;
		case STREAM_AGAIN:
			return false;
		case STREAM_EOF:
		case STREAM_ERROR:
			if (fail_deferred(x))
				return false;
			buffer_take(out, buffer_len(out));
			break;
		}
	}
	return true;
}

/* Reads what has come. False: nothing now. *eof: nothing more will, or no handshake needs more than
 * what is there. */
static bool
fetch(struct dial *x, bool *eof)
{
	struct buffer *in = &x->shake->in;
	size_t n = 0, room = buffer_make_room(in);
	*eof = room == 0;
	if (room == 0)
		return true;
	if ((x->stream->ready & STREAM_READABLE) == 0)
		return false;
	switch (stream_read(x->stream, buffer_room(in), room, &n)) {
	case STREAM_OK:
		note_heard(x);
		buffer_filled(in, n);
		return true;
	case STREAM_AGAIN:
		return false;
	case STREAM_EOF:
	case STREAM_ERROR:
		break;
	}
	*eof = true;
	return true;
}

static bool
feed(struct dial *x, bool eof)
{
	struct shake *s = x->shake;
	enum hop_status status = hop_feed(&s->hop, &s->in, &s->out, eof);
	x->result.code = s->hop.code;
	x->result.status = s->hop.status;
	if (status == HOP_DONE)
		return hop_done(x);
	if (status == HOP_MORE && !eof)
		return true;
	fail_by_answer(x, status == HOP_FAILED ? s->hop.verdict : VERDICT_UPSTREAM_FAILED);
	return false;
}

/* Sends, then feeds what came behind the hop before, then what comes now. Nothing is fed while
 * something waits to be sent. */
static bool
step_handshake(struct dial *x)
{
	bool eof = false;
	if (!flush(x))
		return false;
	if (x->unfed)
		x->unfed = false;
	else if (!fetch(x, &eof) || (eof && fail_deferred(x)))
		return false;
	return feed(x, eof);
}

bool
walk_step(struct dial *x)
{
	return x->stage == DIAL_TLS ? step_tls(x) : step_handshake(x);
}

void
walk_drop(struct dial *x)
{
	slab_give_back(&x->dialer->shake_slab, x->shake);
	x->shake = NULL;
}
