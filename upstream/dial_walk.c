/*
 * dial_walk: one hop's TLS and handshake after the other, over one stream, and whose fault it is
 * when one fails. See attempt.h.
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
#include "upstream/gss_talk.h"
#include "upstream/kinds.h"

static bool
is_last(const struct attempt *a)
{
	return a->at + 1 == a->result.path.n_hops;
}

/* ---- failures ---- */

static void
fail_here(struct attempt *a, enum verdict v, const char *why)
{
	char hop[POLICY_NAME_MAX + 32], detail[sizeof a->detail];
	snprintf(detail, sizeof detail, "%s: %s", attempt_hop_text(a, a->at, hop, sizeof hop), why);
	attempt_fail(a, v, a->at, detail);
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
fail_by_answer(struct attempt *a, enum verdict v)
{
	char hop[POLICY_NAME_MAX + 32], next[POLICY_NAME_MAX + 32], detail[sizeof a->detail];
	const char *why = verdict_text(v);
	bool beyond = is_about_what_lies_beyond(v), last = is_last(a);
	if (v == VERDICT_INTERNAL) {
		attempt_fail(a, v, -1, why);
		return;
	}
	attempt_hop_text(a, a->at, hop, sizeof hop);
	if (last && (beyond || v == VERDICT_UPSTREAM_REJECTED)) {
		snprintf(detail, sizeof detail, "%s says: %s", hop, why);
		attempt_fail(a, v, -1, detail);
		return;
	}
	if (beyond)
		snprintf(detail, sizeof detail, "%s says %s unreachable: %s", hop,
			 attempt_hop_text(a, a->at + 1u, next, sizeof next), beyond_text(v));
	else
		snprintf(detail, sizeof detail, "%s: %s", hop, why);
	if (!last && v != VERDICT_UPSTREAM_AUTH && v != VERDICT_UPSTREAM_GARBAGE)
		v = VERDICT_UPSTREAM_FAILED;
	attempt_fail(a, v, beyond ? a->at + 1 : a->at, detail);
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
fail_deferred(struct attempt *a)
{
	int error = a->stream->error;
	if (!a->deferred || is_of_talk(error))
		return false;
	a->stage = DIAL_CONNECT;
	attempt_fail_connect(a, error);
	return true;
}

/* The first hop has answered: only now it is known how long the way to it takes. */
static void
note_heard(struct attempt *a)
{
	if (!a->deferred)
		return;
	a->deferred = false;
	a->reached_us[0] = clock_now_us() - a->since_us;
}

/* ---- the PROXY header ---- */

/* It goes at once: nothing was sent before it that is not answered, so the socket has room. */
bool
walk_send_proxy(struct attempt *a)
{
	static const struct endpoint nobody = { .kind = ENDPOINT_NONE };
	const struct policy_upstream *u = attempt_upstream(a, a->at);
	struct endpoint reached = nobody;
	uint8_t header[PROXY_HEADER_WRITTEN_MAX];
	size_t sent = 0;
	if (u->send_proxy == 0)
		return true;
	bool has_client = a->dial->request.tell_reached != NULL;
	if (has_client)
		a->dial->request.tell_reached(&reached, a->dial->arg);
	size_t len = proxy_header_write(header, sizeof header, u->send_proxy,
					has_client ? &a->dial->client : NULL, has_client ? &reached : NULL);
	if (stream_write(a->stream, header, len, &sent) == STREAM_OK && sent == len)
		return true;
	fail_here(a, VERDICT_UPSTREAM_FAILED, "it takes no PROXY header");
	return false;
}

/* ---- TLS ---- */

static bool
start_tls(struct attempt *a, struct tls_context *context)
{
	const struct policy_upstream *u = attempt_upstream(a, a->at);
	char text[ENDPOINT_TEXT_MAX];
	const char *host = u->tls.server_name != NULL
			       ? u->tls.server_name
			       : endpoint_host_to_text(&u->at, text, sizeof text);
	if (a->shake != NULL && buffer_len(&a->shake->in) > 0) {
		fail_here(a, VERDICT_UPSTREAM_GARBAGE, "it spoke before TLS began");
		return false;
	}
	struct tls *tls = tls_new(context, a->stream->fd, host);
	/* within the TLS of a hop before, or what it seals, where there is such a one */
	if (tls == NULL || !stream_start_tls(a->stream, tls)) {
		attempt_fail_no_memory(a);
		return false;
	}
	a->stage = DIAL_TLS;
	a->tls_began_us = clock_now_us();
	return true;
}

/* Each step costs some tenths of a millisecond, and many proxies may answer at once. */
static bool
step_tls(struct attempt *a)
{
	struct turn_share *share = &a->dial->dialer->tls;
	if (!turn_share_may_step(share, &a->tls_step))
		return false;
	uint64_t from_us = clock_now_us();
	enum stream_status status = stream_handshake(a->stream);
	uint64_t now_us = clock_now_us();
	turn_share_note(share, now_us - from_us);
	switch (status) {
	case STREAM_OK:
		note_heard(a);
		a->result.tls_us += (uint32_t)(now_us - a->tls_began_us);
		return walk_talk(a);
	case STREAM_AGAIN:
		return false;
	case STREAM_EOF:
	case STREAM_ERROR:
		break;
	}
	if (!fail_deferred(a))
		fail_here(a, VERDICT_UPSTREAM_TLS, tls_error_text(a->stream->tls));
	return false;
}

/* ---- the request to a hop ---- */

/* The first of them that this kind of hop can carry; NULL: none. */
static const struct endpoint *
choose_address(const struct addresses *known, const struct hop_ops *ops)
{
	for (size_t i = 0; i < known->n; i++)
		if (known->list[i].kind == ENDPOINT_IPV4 || ops->carries_ipv6)
			return &known->list[i];
	return NULL;
}

/* Where the hop shall lead: the next hop or the destination, by name or by an address of it. NULL:
 * awaited, or the attempt ended. */
static const struct endpoint *
ask_for(struct attempt *a)
{
	const struct policy_upstream *u = attempt_upstream(a, a->at);
	const struct hop_ops *ops = kind_ops(u->scheme);
	const struct endpoint *to =
	    is_last(a) ? &a->dial->request.to : &attempt_upstream(a, a->at + 1u)->at;
	if (to->kind != ENDPOINT_NAME || (ops->carries_names && !u->resolve_local))
		return to;
	if (attempt_addresses(a, to) == NULL && !attempt_look_up(a, to))
		return NULL;
	const struct addresses *known = attempt_addresses(a, to);
	if (known->n == 0) {
		attempt_fail_forbidden(a);
		return NULL;
	}
	const struct endpoint *chosen = choose_address(known, ops);
	if (chosen == NULL)
		fail_by_answer(a, VERDICT_UPSTREAM_NO_ADDRESS);
	return chosen;
}

static bool
take_shake(struct attempt *a)
{
	if (a->shake != NULL)
		return true;
	a->shake = slab_take(&a->dial->dialer->shake_slab);
	if (a->shake == NULL) {
		attempt_fail_no_memory(a);
		return false;
	}
	a->shake->username[0] = a->shake->password[0] = '\0';
	buffer_init(&a->shake->in, a->shake->in_bytes, sizeof a->shake->in_bytes);
	buffer_init(&a->shake->out, a->shake->out_bytes, sizeof a->shake->out_bytes);
	return true;
}

/* Only what a client put into them can make them so: the policy's own text was checked. */
static void
fail_credentials(struct attempt *a)
{
	attempt_fail(a, VERDICT_REJECTED, -1, "the upstream's protocol can't carry these credentials");
}

static bool
fill_in_credentials(struct attempt *a)
{
	const struct policy_upstream *u = attempt_upstream(a, a->at);
	const struct dial *x = a->dial;
	struct shake *s = a->shake;
	if (credentials_expand(u->username, x->user, x->session, s->username, sizeof s->username) &&
	    credentials_expand(u->password, x->user, x->session, s->password, sizeof s->password))
		return true;
	fail_credentials(a);
	return false;
}

/* Nothing was said to the hop yet. */
static void
fail_to_ask(struct attempt *a)
{
	enum verdict v = a->shake->hop.verdict;
	if (v == VERDICT_UPSTREAM_AUTH)
		fail_credentials(a);
	else
		fail_by_answer(a, v);
}

static bool hop_done(struct attempt *a);

/* The last hop of a dial that ends with its authentication. */
static bool
is_held(const struct attempt *a)
{
	return a->dial->request.until == DIAL_UNTIL_AUTHENTICATED && is_last(a);
}

/* The first words to the hop at a->at, in `out`, unless they were said ahead. */
static bool
begin_handshake(struct attempt *a)
{
	struct shake *s = a->shake;
	struct hop_request request = {
	    .command = is_last(a) ? a->dial->request.command : SOCKS_CONNECT,
	    .to = &s->to,
	    .username = s->username,
	    .password = s->password,
	    .pipeline = (a->pipelined & 1u << a->at) != 0,
	    .gssapi = attempt_upstream(a, a->at)->auth_gssapi,
	    .hold = is_held(a),
	};
	uint8_t said_before[HOP_OUT_MAX];
	struct buffer none;
	buffer_init(&none, said_before, sizeof said_before);
	bool said = a->at < a->n_said;
	a->stage = DIAL_HANDSHAKE;
	a->unfed = buffer_len(&s->in) > 0;
	const struct hop_ops *ops = kind_ops(attempt_upstream(a, a->at)->scheme);
	bool greeted = a->from_warm && a->at == 0;
	enum hop_status status = greeted
				     ? hop_ask(&s->hop, ops, &request, &s->out)
				     : hop_start(&s->hop, ops, &request, said ? &none : &s->out);
	switch (status) {
	case HOP_MORE:
		if (!said)
			a->n_said = a->at + 1;
		pipeline_say_ahead(a);
		return true;
	case HOP_DONE:
		return hop_done(a);
	case HOP_FAILED:
	case HOP_PROVE: /* not before the hop has said anything */
		break;
	}
	fail_to_ask(a);
	return false;
}

/* Who only wants to know that the last hop is there is done here: nothing is said to it. */
static void
grant_before_talk(struct attempt *a)
{
	attempt_note_hop_time(a, a->result.path.hops[a->at], clock_now_us());
	attempt_grant(a);
}

bool
walk_talk(struct attempt *a)
{
	const struct endpoint *to = NULL;
	if (a->reached_us[a->at] == 0 && !a->deferred)
		a->reached_us[a->at] = clock_now_us() - a->since_us;
	if (a->dial->request.until == DIAL_UNTIL_TLS && is_last(a)) {
		grant_before_talk(a);
		return false;
	}
	if (!is_held(a) && (to = ask_for(a)) == NULL)
		return false;
	if (!take_shake(a) || !fill_in_credentials(a))
		return false;
	if (to != NULL)
		a->shake->to = *to;
	return begin_handshake(a);
}

bool
walk_enter(struct attempt *a)
{
	if (a->dial->request.until == DIAL_UNTIL_CONNECTED && is_last(a)) {
		grant_before_talk(a);
		return false;
	}
	if (!walk_send_proxy(a))
		return false;
	struct tls_context *context = fleet_tls(a->dial->request.fleet, a->result.path.hops[a->at]);
	return context != NULL ? start_tls(a, context) : walk_talk(a);
}

/* ---- the handshake ---- */

/*
 * What the last hop bound. An unspecified address means its own: no use to somebody further away. So does a name, where we are to
 * send datagrams there ourselves: it is not looked up for that.
 */
static void
take_bound(struct attempt *a)
{
	const struct endpoint *bound = &a->shake->hop.bound;
	const struct endpoint *own = a->at == 0 ? &a->result.peer : &attempt_upstream(a, a->at)->at;
	if (bound->kind == ENDPOINT_NONE)
		return;
	uint16_t port = bound->port;
	bool datagrams = a->dial->request.command == SOCKS_UDP, waits = datagrams || a->dial->request.command == SOCKS_BIND;
	bool its_own = (waits && endpoint_is_wildcard(bound)) || (datagrams && a->at == 0 && bound->kind == ENDPOINT_NAME);
	a->result.bound = its_own ? *own : *bound;
	a->result.bound.port = port;
}

static bool
hop_done(struct attempt *a)
{
	attempt_note_hop_time(a, a->result.path.hops[a->at], clock_now_us());
	if (!is_last(a)) {
		a->result.code = 0; /* what the next one says counts */
		a->result.status = 0;
		a->result.sealed = false;
		a->at++;
		return walk_enter(a);
	}
	take_bound(a);
	attempt_grant(a);
	return false;
}

/* Sends what is in `out`. False: the socket is full, or the attempt ended. A peer that is gone may still have said why,
 * so that's no failure yet. */
static bool
flush(struct attempt *a)
{
	struct buffer *out = &a->shake->out;
	while (buffer_len(out) > 0) {
		size_t n = 0;
		if ((a->stream->ready & STREAM_WRITABLE) == 0)
			return false;
		switch (stream_write(a->stream, buffer_bytes(out), buffer_len(out), &n)) {
		case STREAM_OK:
			buffer_take(out, n);
			break;
		case STREAM_AGAIN:
			return false;
		case STREAM_EOF:
		case STREAM_ERROR:
			if (fail_deferred(a))
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
fetch(struct attempt *a, bool *eof)
{
	struct buffer *in = &a->shake->in;
	size_t n = 0, room = buffer_make_room(in);
	*eof = room == 0;
	if (room == 0)
		return true;
	if ((a->stream->ready & STREAM_READABLE) == 0)
		return false;
	switch (stream_read(a->stream, buffer_room(in), room, &n)) {
	case STREAM_OK:
		note_heard(a);
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

/* ---- Kerberos, within the handshake ---- */

static void
on_talk_step(void *arg)
{
	attempt_go_on(arg);
}

static bool
start_talk(struct attempt *a)
{
	const struct dialer *d = a->dial->dialer;
	const struct gss_talk_plan plan = {
		.pool = d->gss,
		.box = d->mailbox,
		.stream = a->stream,
		.who = &attempt_upstream(a, a->at)->gssapi,
		.on_step = on_talk_step,
		.arg = a,
	};
	if (buffer_len(&a->shake->in) > 0) {
		fail_here(a, VERDICT_UPSTREAM_GARBAGE, "it spoke before it was told who we are");
		return false;
	}
	a->shake->talk = d->gss == NULL ? NULL : gss_talk_new(&plan);
	if (a->shake->talk == NULL)
		attempt_fail(a, VERDICT_INTERNAL, -1, "Kerberos can't be asked now");
	return false; /* it goes on when the first step has been taken */
}

static bool
step_talk(struct attempt *a)
{
	struct shake *s = a->shake;
	enum hop_status status;
	switch (gss_talk_go_on(s->talk)) {
	case GSS_TALK_WAITS: return false;
	case GSS_TALK_FAILED:
		if (gss_talk_verdict(s->talk) == VERDICT_INTERNAL)
			attempt_fail(a, VERDICT_INTERNAL, -1, gss_talk_why(s->talk));
		else
			fail_here(a, gss_talk_verdict(s->talk), gss_talk_why(s->talk));
		return false;
	case GSS_TALK_DONE: break;
	}
	a->result.sealed = gss_talk_seals(s->talk);
	gss_talk_free(s->talk);
	s->talk = NULL;
	status = hop_proven(&s->hop, &s->out);
	if (status == HOP_DONE)
		return hop_done(a);
	if (status == HOP_MORE)
		return true;
	fail_to_ask(a);
	return false;
}

/* ---- what is said and heard ---- */

static bool
feed(struct attempt *a, bool eof)
{
	struct shake *s = a->shake;
	enum hop_status status = hop_feed(&s->hop, &s->in, &s->out, eof);
	a->result.code = s->hop.code;
	a->result.status = s->hop.status;
	if (status == HOP_DONE)
		return hop_done(a);
	if (status == HOP_PROVE && !eof)
		return start_talk(a);
	if (status == HOP_MORE && !eof)
		return true;
	fail_by_answer(a, status == HOP_FAILED ? s->hop.verdict : VERDICT_UPSTREAM_FAILED);
	return false;
}

/* Sends, then feeds what came behind the hop before, then what comes now. Nothing is fed while
 * something waits to be sent. */
static bool
step_handshake(struct attempt *a)
{
	bool eof = false;
	if (!flush(a))
		return false;
	if (a->unfed)
		a->unfed = false;
	else if (!fetch(a, &eof) || (eof && fail_deferred(a)))
		return false;
	return feed(a, eof);
}

bool
walk_step(struct attempt *a)
{
	if (a->stage == DIAL_TLS)
		return step_tls(a);
	return a->shake->talk != NULL ? step_talk(a) : step_handshake(a);
}

void
walk_fail_late(struct attempt *a)
{
	bool unreachable = a->stage == DIAL_CONNECT || a->deferred;
	if (a->shake != NULL && a->shake->talk != NULL && gss_talk_awaits_kerberos(a->shake->talk))
		fail_here(a, VERDICT_UPSTREAM_FAILED, "no Kerberos credentials: no answer in time");
	else
		attempt_fail_hop(a, VERDICT_UPSTREAM_FAILED, a->at,
				 unreachable ? "unreachable" : "silent", "no answer in time");
}

void
walk_drop(struct attempt *a)
{
	if (a->shake != NULL)
		gss_talk_free(a->shake->talk);
	slab_give_back(&a->dial->dialer->shake_slab, a->shake);
	a->shake = NULL;
}
