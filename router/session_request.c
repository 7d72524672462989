/*
 * session, the middle: from a request to the other side: what the policy decides, look-ups, dialling, BIND, UDP ASSOCIATE.
 */
#include "router/session_parts.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/text.h"
#include "policy/decide.h"
#include "router/association.h"
#include "router/spare.h"
#include "upstream/kinds.h"

static void session_fill_policy_request(const struct session *s, const struct endpoint *client, struct policy_request *out);

/* ---- associations ---- */

/* Whatever the client says here is nobody's; its end is the association's, and so is a flood. */
void
session_watch_association(struct session *s)
{
	enum stream_status status = stream_waste(&s->client);
	if (status != STREAM_AGAIN)
		session_close(s, status == STREAM_EOF ? END_DONE : END_CLIENT_RESET);
}

/* The reply is the first thing that this client is sent since its handshake: one that has no room for it is broken. */
static bool
session_tell_association(struct session *s, const struct endpoint *told)
{
	struct shake *sh = s->shake;
	socks_server_reply(&sh->server, VERDICT_GRANTED, told, &sh->out);
	session_answered(s, VERDICT_GRANTED, socks_server_code(sh->server.request.protocol, VERDICT_GRANTED));
	if (!session_flush(s)) {
		if (s->state != SESSION_CLOSED)
			session_close(s, END_CLIENT_LEFT);
		return false;
	}
	struct facts *packed = facts_pack(s->facts);
	if (packed == NULL) {
		session_close(s, END_INTERNAL);
		return false;
	}
	s->facts = packed;
	return true;
}

static bool
rejects(const struct policy *p, struct policy_route route)
{
	(void)p;
	return route.kind == ROUTE_REJECT;
}

static bool
carries_no_datagrams(const struct policy *p, struct policy_route route)
{
	return !kind_route_can(p, route, SOCKS_UDP, true);
}

/* Who could send nowhere is told at once. */
static enum verdict
judge_association(const struct session *s, const struct endpoint *client)
{
	struct policy_request request;
	session_fill_policy_request(s, client, &request);
	if (policy_every_route(session_policy(s), &request, rejects))
		return VERDICT_REJECTED;
	if (policy_every_route(session_policy(s), &request, carries_no_datagrams))
		return VERDICT_UPSTREAM_NO_COMMAND;
	return VERDICT_GRANTED;
}

static void
session_associate(struct session *s)
{
	struct shake *sh = s->shake;
	struct endpoint client = session_client(s), reached, told;
	enum verdict why = judge_association(s, &client);
	if (why != VERDICT_GRANTED) {
		session_refuse(s, why);
		return;
	}
	session_reached(s, &reached);
	struct association_request q = {
		.worker = s->worker,
		.revision = s->lease->revision,
		.listener = s->listener,
		.client_fd = s->client.fd,
		.client = &client,
		.reached = &reached,
		.announced = &sh->server.request.to,
		.user = sh->user,
		.session = sh->session,
		.seal = { stream_gss_context(&s->client), stream_gss_is_secret(&s->client) },
	};
	if ((s->association = association_new(&q, &told, &why)) == NULL) {
		session_refuse(s, why);
		return;
	}
	if (!session_tell_association(s, &told))
		return;
	bool ended = sh->eof;
	session_drop_shake(s);
	session_enter(s, SESSION_ASSOCIATED);
	if (ended)
		session_close(s, END_DONE);
	else
		session_watch_association(s);
}

/* ---- binding ---- */

static bool
is_socks4(const struct session *s)
{
	return s->shake->server.request.protocol != PROTOCOL_SOCKS5;
}

void
session_give_up_bind(struct session *s)
{
	bind_cancel(s->shake->bind);
	s->shake->bind = NULL;
	session_refuse(s, VERDICT_TIMEOUT);
}

static void
on_bound(const struct bind_result *r, void *arg)
{
	struct session *s = arg;
	s->shake->bind = NULL;
	if (r->verdict != VERDICT_GRANTED)
		session_refuse(s, r->verdict);
	else if (r->fd >= 0 && !stream_open(&s->upstream, r->fd, STREAM_READABLE | STREAM_WRITABLE, session_ignore, s))
		session_refuse(s, VERDICT_INTERNAL);
	else
		session_grant(s, r->peer, r->early, r->early_len);
}

/* The first of the two replies: where the peer is to connect to. SOCKS4 has no word for an IPv6 address. */
static void
session_tell_bound(struct session *s, struct endpoint *told)
{
	static const uint8_t unspecified[4];
	if (is_socks4(s) && told->kind == ENDPOINT_IPV6)
		endpoint_set_ipv4(told, unspecified, told->port);
	socks_server_reply(&s->shake->server, VERDICT_GRANTED, told, &s->shake->out);
	session_enter(s, SESSION_BINDING);
	if (session_flush(s))
		session_watch(s);
}

static struct bind *
session_bind_here(struct session *s, const struct dial_result *r, struct endpoint *told, enum verdict *why)
{
	const struct policy *p = session_policy(s);
	struct bind_request q = {
		.worker = s->worker,
		.conf = &p->listeners[s->listener].bind,
		.line = r->path.n_hops > 0 ? &p->upstreams[r->path.hops[0]] : NULL,
		.peers = r->addrs,
		.n_peers = r->n_addrs,
		.client_fd = s->client.fd,
		.one_chance = is_socks4(s),
	};
	return bind_here(&q, on_bound, s, told, why);
}

static void
session_bind(struct session *s, const struct dial_result *r)
{
	struct endpoint told = r->bound;
	enum verdict why = VERDICT_INTERNAL;
	if (stream_is_open(&s->upstream))
		s->shake->bind = bind_beyond(s->worker, session_policy(s)->upstreams[r->path.hops[r->path.n_hops - 1]].scheme,
					     &s->upstream, r->early, r->early_len, on_bound, s);
	else
		s->shake->bind = session_bind_here(s, r, &told, &why);
	if (s->shake->bind == NULL)
		session_refuse(s, why);
	else
		session_tell_bound(s, &told);
}

/* ---- dialling ---- */

/* The hops with their times, and those that were never done with: the one at fault is among them. */
static void
keep_hops(struct session *s, const struct dial_result *r)
{
	struct dial_hop_time *hops = s->shake->hops;
	uint8_t n = r->n_hop_times;
	memcpy(hops, r->hops, n * sizeof *hops);
	s->facts->n_timed = n;
	for (; n < r->path.n_hops; n++)
		hops[n] = (struct dial_hop_time){ .upstream = r->path.hops[n] };
	s->facts->n_hops = n;
}

static void
keep_result(struct session *s, const struct dial_result *r)
{
	struct shake *sh = s->shake;
	struct facts *f = s->facts;
	f->stage = (uint8_t)r->stage;
	f->hop_at_fault = (int8_t)r->hop_at_fault;
	f->attempts = r->attempts;
	f->resolve_us += r->resolve_us;
	keep_hops(s, r);
	if (r->detail != NULL)
		text_copy(sh->detail, sizeof sh->detail, r->detail);
	f->race = r->n_raced == 0 ? RACE_NONE : r->won_late ? RACE_LATE : RACE_FIRST;
	unsigned no_retries = 1u + r->n_raced + r->n_passed;
	if (r->attempts > no_retries)
		counter_add(&s->worker->counters, COUNTER_RETRIES, r->attempts - no_retries);
	if (r->attempts > 1) {
		counter_add(&s->worker->counters, COUNTER_RACES, r->n_raced);
		counter_add(&s->worker->counters, COUNTER_RACES_WON, r->verdict == VERDICT_GRANTED && r->won_late);
	}
}

/* ---- look-ups ---- */

/* The answer to a look-up is all that there is to it. */
static void
session_tell(struct session *s, const struct endpoint *found)
{
	struct endpoint answer = *found;
	answer.port = 0;
	stream_close(&s->upstream);
	socks_server_reply(&s->shake->server, VERDICT_GRANTED, &answer, &s->shake->out);
	session_say_last_word(s, VERDICT_GRANTED);
}

static void
on_reversed(enum dns_error err, const char *name, void *arg)
{
	struct session *s = arg;
	struct endpoint found;
	s->shake->reverse = NULL;
	if (err == DNS_OK && endpoint_set_host(&found, name, strlen(name)) == ENDPOINT_OK)
		session_tell(s, &found);
	else
		session_refuse(s, err == DNS_TIMEOUT ? VERDICT_TIMEOUT : VERDICT_NAME_UNKNOWN);
}

/* The first address that was found and that the client's protocol can carry. NULL: there is none. */
static const struct endpoint *
address_to_tell(const struct session *s, const struct dial_result *r)
{
	const struct endpoint *found = r->n_addrs > 0 ? r->addrs : &r->bound;
	size_t n = r->n_addrs > 0 ? r->n_addrs : 1;
	for (size_t i = 0; i < n; i++)
		if (!is_socks4(s) || found[i].kind == ENDPOINT_IPV4)
			return &found[i];
	return NULL;
}

/* The dialer has found the addresses here, or an upstream has said what it found. Of an address there is a name to look for. */
static void
session_found(struct session *s, const struct dial_result *r)
{
	struct shake *sh = s->shake;
	if (r->n_addrs == 0 || s->facts->command == SOCKS_RESOLVE) {
		const struct endpoint *found = address_to_tell(s, r);
		if (found != NULL) {
			session_tell(s, found);
		} else {
			stream_close(&s->upstream);
			session_refuse(s, VERDICT_NAME_UNKNOWN);
		}
		return;
	}
	session_enter(s, SESSION_RESOLVING);
	sh->reverse = reverse_start(s->worker->resolver, &sh->server.request.to, session_policy(s)->timeouts.connect_ms,
	    on_reversed, s);
	if (sh->reverse == NULL)
		session_refuse(s, VERDICT_INTERNAL);
}

static void
on_dialed(const struct dial_result *r, void *arg)
{
	struct session *s = arg;
	s->shake->dial = NULL;
	keep_result(s, r);
	if (r->verdict == VERDICT_INTERNAL && !spare_look(s->worker->shared, loop_now(s->worker->loop)))
		relay_pool_shrink(&s->worker->relays);
	if (r->verdict != VERDICT_GRANTED) {
		session_refuse(s, r->verdict);
		return;
	}
	if (!session_keep_path(s, &r->path)) {
		fleet_give_back_path(s->lease->revision->fleet, &r->path);
		session_refuse(s, VERDICT_INTERNAL);
		return;
	}
	if (SOCKS_IS_LOOK_UP(s->facts->command))
		session_found(s, r);
	else if (s->facts->command == SOCKS_BIND)
		session_bind(s, r);
	else
		session_grant(s, &r->bound, r->early, r->early_len);
}

static void
session_fill_policy_request(const struct session *s, const struct endpoint *client, struct policy_request *out)
{
	const struct shake *sh = s->shake;
	*out = (struct policy_request){
		.listener = s->listener,
		.protocol = (uint8_t)sh->server.request.protocol,
		/* Who looks a name up is about to connect there. */
		.command = SOCKS_IS_LOOK_UP(sh->server.request.command) ? SOCKS_CONNECT : sh->server.request.command,
		.client = client,
		.user = sh->user,
		.userid = sh->server.request.userid,
		.to = &sh->server.request.to,
		.addrs = sh->addrs,
		.n_addrs = sh->n_addrs,
		.resolve_failed = sh->resolve_failed,
	};
}

static bool
address_rejected(const struct endpoint *addr, void *arg)
{
	const struct session *s = arg;
	struct endpoint client = session_client(s);
	struct policy_request request;
	session_fill_policy_request(s, &client, &request);
	return policy_address_rejected(session_policy(s), &request, addr) >= 0;
}

static void
tell_reached(struct endpoint *out, void *arg)
{
	session_reached(arg, out);
}

static void
session_dial(struct session *s)
{
	struct shake *sh = s->shake;
	struct endpoint client = session_client(s);
	struct dial_request request = {
		.fleet = s->lease->revision->fleet,
		.route = s->facts->route,
		.command = sh->server.request.command,
		.addrs = sh->addrs,
		.n_addrs = sh->n_addrs,
		.key = { .client = &client, .user = sh->user, .session = sh->session, .to = &sh->server.request.to },
		.timeout_ms = session_policy(s)->timeouts.connect_ms,
		.address_rejected = address_rejected,
		.tell_reached = tell_reached,
	};
	endpoint_copy(&request.to, &sh->server.request.to);
	session_enter(s, SESSION_DIALING);
	sh->dial = dial_start(s->worker->dialer, &request, &s->upstream, on_dialed, s);
	if (sh->dial == NULL)
		session_refuse(s, VERDICT_INTERNAL);
}

static void
on_resolved(enum dns_error err, const struct endpoint *addrs, size_t n, void *arg)
{
	struct session *s = arg;
	struct shake *sh = s->shake;
	sh->resolve = NULL;
	sh->resolve_failed = err != DNS_OK;
	s->facts->resolve_us = (uint32_t)(clock_now_us() - sh->resolve_from_us);
	if (n > 0) {
		if ((sh->addrs = calloc(n, sizeof *addrs)) == NULL) {
			session_refuse(s, VERDICT_INTERNAL);
			return;
		}
		for (size_t i = 0; i < n; i++) {
			sh->addrs[i] = addrs[i];
			sh->addrs[i].port = sh->server.request.to.port;
		}
		sh->n_addrs = n;
	}
	session_decide(s);
}

static void
session_resolve(struct session *s)
{
	struct shake *sh = s->shake;
	session_enter(s, SESSION_RESOLVING);
	sh->resolve_from_us = clock_now_us();
	sh->resolve = resolve_start(s->worker->resolver, sh->server.request.to.name, session_policy(s)->timeouts.connect_ms,
				    on_resolved, s);
	if (sh->resolve == NULL)
		session_refuse(s, VERDICT_INTERNAL);
}

void
session_decide(struct session *s)
{
	struct endpoint client = session_client(s);
	struct policy_request request;
	struct policy_decision d;
	if (s->shake->server.request.command == SOCKS_UDP) {
		session_associate(s);          /* each destination is decided by itself */
		return;
	}
	session_fill_policy_request(s, &client, &request);
	policy_decide(session_policy(s), &request, &d);
	if (d.kind == DECIDE_NEEDS_ADDRESSES) {
		session_resolve(s);
		return;
	}
	s->facts->decided = true;
	s->facts->rule = d.rule;
	s->facts->route = d.route;
	revision_hit(s->lease->revision, s->worker->number, d.rule);
	if (d.route.kind == ROUTE_REJECT)
		session_refuse(s, VERDICT_REJECTED);
	else
		session_dial(s);
}
