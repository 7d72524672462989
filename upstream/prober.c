/*
 * prober: what the proxy at the end of a path can do. See prober.h.
 *
 *   look the destination up -> for each trial: dial -> (a method: greet, hear; BIND: connect, hear; UDP: udp_probe) -> next
 */
#include "upstream/prober.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/loop.h"
#include "base/stream.h"
#include "dns/resolver.h"
#include "socks/socks5.h"
#include "upstream/bind_wait.h"
#include "upstream/connector.h"
#include "upstream/udp_probe.h"

enum { PATIENCE = 4, PATIENCE_LEAST_MS = 1000 };

struct prober {
	struct loop *loop;
	struct dialer *dialer;
	struct resolver *resolver;
	struct probe_plan plan;
	prober_cb *cb;
	void *arg;
	struct endpoint ipv4, ipv6; /* of the destination; kind NONE: it has none */
	enum probe_trial at;
	uint64_t began_us;
	struct resolve *resolve;
	struct dial *dial;
	struct stream stream;
	struct bind_wait *bind_wait; /* its second reply */
	struct stream peer;         /* we, as the peer of our own BIND */
	struct connector connector;
	struct endpoint bound;      /* where that is to connect */
	struct udp_probe *udp;
	struct deadline deadline;
	struct loop_task next;
	bool silent;                /* a hop was, at the handshake: the rest is as it is */
	uint8_t heard[2];           /* a server's choice of a method */
	size_t n_heard;
	struct probe_result results[PROBE_TRIALS];
};

static const struct trial {
	const char *text;
	enum dial_until until;
	enum socks_command command;
	uint8_t method;
	uint8_t kind; /* enum endpoint_kind: how the destination is given; NONE: it is of no account */
} trials[PROBE_TRIALS] = {
	[PROBE_HANDSHAKE] = { "handshake", DIAL_UNTIL_AUTHENTICATED, SOCKS_CONNECT, 0, ENDPOINT_NONE },
	[PROBE_METHOD_NONE] = { "method none", DIAL_UNTIL_TLS, SOCKS_CONNECT, 0, ENDPOINT_NONE },
	[PROBE_METHOD_USERPASS] = { "method userpass", DIAL_UNTIL_TLS, SOCKS_CONNECT, 2, ENDPOINT_NONE },
	[PROBE_METHOD_GSSAPI] = { "method gssapi", DIAL_UNTIL_TLS, SOCKS_CONNECT, 1, ENDPOINT_NONE },
	[PROBE_CONNECT_NAME] = { "CONNECT by name", DIAL_UNTIL_TUNNEL, SOCKS_CONNECT, 0, ENDPOINT_NAME },
	[PROBE_CONNECT_IPV4] = { "CONNECT by IPv4", DIAL_UNTIL_TUNNEL, SOCKS_CONNECT, 0, ENDPOINT_IPV4 },
	[PROBE_CONNECT_IPV6] = { "CONNECT by IPv6", DIAL_UNTIL_TUNNEL, SOCKS_CONNECT, 0, ENDPOINT_IPV6 },
	[PROBE_BIND] = { "BIND", DIAL_UNTIL_TUNNEL, SOCKS_BIND, 0, ENDPOINT_NONE },
	[PROBE_BIND_NAME] = { "BIND by name", DIAL_UNTIL_TUNNEL, SOCKS_BIND, 0, ENDPOINT_NAME },
	[PROBE_BIND_IPV4] = { "BIND by IPv4", DIAL_UNTIL_TUNNEL, SOCKS_BIND, 0, ENDPOINT_IPV4 },
	[PROBE_BIND_IPV6] = { "BIND by IPv6", DIAL_UNTIL_TUNNEL, SOCKS_BIND, 0, ENDPOINT_IPV6 },
	[PROBE_UDP] = { "UDP", DIAL_UNTIL_TUNNEL, SOCKS_UDP, 0, ENDPOINT_NONE },
	[PROBE_UDP_NAME] = { "UDP by name", DIAL_UNTIL_TUNNEL, SOCKS_UDP, 0, ENDPOINT_NAME },
	[PROBE_UDP_IPV4] = { "UDP by IPv4", DIAL_UNTIL_TUNNEL, SOCKS_UDP, 0, ENDPOINT_IPV4 },
	[PROBE_UDP_IPV6] = { "UDP by IPv6", DIAL_UNTIL_TUNNEL, SOCKS_UDP, 0, ENDPOINT_IPV6 },
};

const char *
probe_trial_text(enum probe_trial t)
{
	return trials[t].text;
}

static bool
is_method(enum probe_trial t)
{
	return t >= PROBE_METHOD_NONE && t <= PROBE_METHOD_GSSAPI;
}

static enum upstream_scheme
scheme_of(const struct prober *p)
{
	uint32_t last = p->plan.path.hops[p->plan.path.n_hops - 1];
	return fleet_policy(p->plan.fleet)->upstreams[last].scheme;
}

/* ---- one trial's end ---- */

/* A hop let all the time pass: the others need not wait as long, but some times what the handshake
 * took. */
static void
note_silence(struct prober *p)
{
	uint32_t enough = p->results[PROBE_HANDSHAKE].total_us / 1000 * PATIENCE;
	if (p->at == PROBE_HANDSHAKE)
		p->silent = true;
	if (enough < PATIENCE_LEAST_MS)
		enough = PATIENCE_LEAST_MS;
	if (enough < p->plan.timeout_ms)
		p->plan.timeout_ms = enough;
}

static void
trial_end(struct prober *p, enum probe_answer answer, const char *detail)
{
	struct probe_result *r = &p->results[p->at];
	r->answer = answer;
	r->total_us = (uint32_t)(clock_now_us() - p->began_us);
	snprintf(r->detail, sizeof r->detail, "%s", detail);
	if (answer == PROBE_NO && r->total_us / 1000 >= p->plan.timeout_ms)
		note_silence(p);
	loop_clear_deadline(p->loop, &p->deadline);
	bind_wait_cancel(p->bind_wait);
	p->bind_wait = NULL;
	connector_cancel(&p->connector);
	stream_close(&p->peer);
	stream_close(&p->stream);
	p->at++;
	loop_defer(p->loop, &p->next);
}

/* ---- methods: a greeting that offers one ---- */

/* Not an answer to the greeting: the last hop's fault. */
static void
fail_greeting(struct prober *p, enum verdict v, const char *why)
{
	p->results[p->at].verdict = v;
	p->results[p->at].hop_at_fault = (int)p->plan.path.n_hops - 1;
	trial_end(p, PROBE_NO, why);
}

static void
on_choice(struct stream *s, void *arg)
{
	struct prober *p = arg;
	size_t n = 0;
	while (p->n_heard < sizeof p->heard) {
		enum stream_status status =
		    stream_read(s, p->heard + p->n_heard, sizeof p->heard - p->n_heard, &n);
		if (status == STREAM_AGAIN)
			return;
		if (status != STREAM_OK)
			break;
		p->n_heard += n;
	}
	if (p->n_heard > 0 && p->heard[0] != SOCKS5_VERSION) {
		fail_greeting(p, VERDICT_UPSTREAM_GARBAGE, verdict_text(VERDICT_UPSTREAM_GARBAGE));
		return;
	}
	if (p->n_heard < sizeof p->heard) {
		fail_greeting(p, VERDICT_UPSTREAM_FAILED, "it left at the greeting");
		return;
	}
	bool taken = p->heard[1] == trials[p->at].method;
	p->results[p->at].verdict = taken ? VERDICT_GRANTED : VERDICT_UPSTREAM_AUTH;
	trial_end(p, taken ? PROBE_YES : PROBE_NO, taken ? "" : "not accepted");
}

static void
greet(struct prober *p)
{
	const uint8_t greeting[] = { SOCKS5_VERSION, 1, trials[p->at].method };
	size_t n = 0;
	p->n_heard = 0;
	if (stream_write(&p->stream, greeting, sizeof greeting, &n) != STREAM_OK ||
	    n != sizeof greeting) {
		fail_greeting(p, VERDICT_UPSTREAM_FAILED, "it left at the greeting");
		return;
	}
	stream_set_callback(&p->stream, on_choice, p);
	loop_set_deadline(p->loop, &p->deadline, p->plan.timeout_ms);
	if (p->stream.ready & STREAM_READABLE)
		on_choice(&p->stream, p);
}

/* ---- dials ---- */

static void
keep_times(struct probe_result *out, const struct dial_result *r)
{
	out->verdict = r->verdict;
	out->hop_at_fault = r->hop_at_fault;
	out->resolve_us = r->resolve_us;
	out->connect_us = r->connect_us;
	out->tls_us = r->tls_us;
	out->n_hops = r->n_hop_times;
	for (unsigned i = 0; i < r->n_hop_times; i++)
		out->hop_us[i] = r->hops[i].us;
}

/* Of BIND and UDP, where it bound. Returns out. */
static const char *
describe_bound(const struct endpoint *bound, char *out, size_t cap)
{
	char at[ENDPOINT_TEXT_MAX];
	if (bound->kind == ENDPOINT_NONE)
		out[0] = '\0';
	else
		snprintf(out, cap, "at %s", endpoint_to_text(bound, at, sizeof at));
	return out;
}

/* ---- BIND: the peer that it waits for is us ---- */

static void
on_peer_told(const struct bind_wait_result *r, void *arg)
{
	struct prober *p = arg;
	char detail[sizeof p->results[0].detail], peer[ENDPOINT_TEXT_MAX];
	p->bind_wait = NULL;
	p->results[p->at].verdict = r->verdict;
	describe_bound(&p->bound, detail, sizeof detail);
	if (r->verdict != VERDICT_GRANTED) {
		trial_end(p, PROBE_NO, verdict_text(r->verdict));
		return;
	}
	size_t len = strlen(detail);
	snprintf(detail + len, sizeof detail - len, ", peer %s", endpoint_to_text(r->peer, peer, sizeof peer));
	trial_end(p, PROBE_YES, detail);
}

/* It stands, or can't be reached from here, which is no fault of the proxy's. */
static void
on_connected(int error, const struct endpoint *peer, const struct endpoint *local, void *arg)
{
	struct prober *p = arg;
	char detail[sizeof p->results[0].detail];
	(void)peer, (void)local;
	if (error == 0)
		return;
	size_t len = strlen(describe_bound(&p->bound, detail, sizeof detail));
	snprintf(detail + len, sizeof detail - len, ", which can't be reached from here: %s", strerror(error));
	trial_end(p, PROBE_YES, detail);
}

static void
become_peer(struct prober *p, const struct dial_result *r)
{
	const struct connect_plan plan = { .addrs = &p->bound, .n_addrs = 1 };
	p->bound = r->bound;
	if (!endpoint_is_address(&p->bound)) {
		trial_end(p, PROBE_YES, "");
		return;
	}
	p->bind_wait = bind_wait_start(p->loop, scheme_of(p), &p->stream, r->early, r->early_len, on_peer_told, p);
	if (p->bind_wait == NULL) {
		trial_end(p, PROBE_SKIPPED, "out of memory");
		return;
	}
	loop_set_deadline(p->loop, &p->deadline, p->plan.timeout_ms);
	connector_start(&p->connector, p->loop, &plan, &p->peer, on_connected, p);
}

static void
on_late(struct deadline *d)
{
	struct prober *p = CONTAINER_OF(d, struct prober, deadline);
	if (p->at == PROBE_BIND && p->connector.loop != NULL) {
		on_connected(ETIMEDOUT, NULL, NULL, p);
		return;
	}
	if (p->at != PROBE_BIND) {
		fail_greeting(p, VERDICT_UPSTREAM_FAILED, "no answer to the greeting in time");
		return;
	}
	p->results[p->at].verdict = VERDICT_UPSTREAM_FAILED;
	trial_end(p, PROBE_NO, "its peer connected, and it did not say so");
}

/* ---- UDP: a datagram there and back ---- */

static void
on_udp_probed(const struct udp_probe_result *r, void *arg)
{
	struct prober *p = arg;
	char detail[sizeof p->results[0].detail], sender[ENDPOINT_TEXT_MAX];
	p->udp = NULL;
	switch (r->end) {
	case UDP_PROBE_ANSWERED:
		snprintf(detail, sizeof detail, "from %s", endpoint_to_text(&r->sender, sender, sizeof sender));
		p->results[p->at].verdict = VERDICT_GRANTED;
		trial_end(p, PROBE_YES, detail);
		break;
	case UDP_PROBE_SILENT:
		trial_end(p, PROBE_SKIPPED, "nothing came back; the destination may be silent");
		break;
	case UDP_PROBE_FAILED:
		if (r->dial != NULL)
			keep_times(&p->results[p->at], r->dial);
		trial_end(p, PROBE_NO, r->dial != NULL ? r->dial->detail : "its relay can't be sent to from here");
		break;
	}
}

static void
on_dialled(const struct dial_result *r, void *arg)
{
	struct prober *p = arg;
	char detail[sizeof p->results[0].detail] = "";
	p->dial = NULL;
	keep_times(&p->results[p->at], r);
	if (r->verdict == VERDICT_GRANTED && is_method(p->at)) {
		if (r->early_len == 0)
			greet(p);
		else /* it spoke before it was asked */
			fail_greeting(p, VERDICT_UPSTREAM_GARBAGE, verdict_text(VERDICT_UPSTREAM_GARBAGE));
		return;
	}
	if (r->verdict == VERDICT_GRANTED && p->at == PROBE_BIND) {
		become_peer(p, r);
		return;
	}
	if (r->verdict != VERDICT_GRANTED)
		snprintf(detail, sizeof detail, "%s",
			 r->detail[0] != '\0' ? r->detail : verdict_text(r->verdict));
	else if (trials[p->at].command != SOCKS_CONNECT)
		describe_bound(&r->bound, detail, sizeof detail);
	trial_end(p, r->verdict == VERDICT_GRANTED ? PROBE_YES : PROBE_NO, detail);
}

/* Has the last hop's protocol what the trial asks for? */
static bool
protocol_has_it(const struct prober *p)
{
	const struct trial *t = &trials[p->at];
	switch (scheme_of(p)) {
	case SCHEME_SOCKS5:
	case SCHEME_SOCKS5_TLS:
		return true;
	case SCHEME_SOCKS4A:
		return !is_method(p->at) && t->command != SOCKS_UDP && t->kind != ENDPOINT_IPV6;
	case SCHEME_SOCKS4:
		return !is_method(p->at) && t->command != SOCKS_UDP && t->kind != ENDPOINT_IPV6 && t->kind != ENDPOINT_NAME;
	default:
		return !is_method(p->at) && t->command == SOCKS_CONNECT;
	}
}

/* What the trial asks for; NULL: it can't be made, and why. */
static const struct endpoint *
target_of(struct prober *p, const char **why)
{
	static const struct endpoint any = { .kind = ENDPOINT_IPV4 };
	const struct endpoint *to = &p->plan.to;
	*why = "the protocol has no such thing";
	if (!protocol_has_it(p))
		return NULL;
	switch (trials[p->at].kind) {
	case ENDPOINT_NAME:
		*why = "the destination was given as an address";
		return to->kind == ENDPOINT_NAME ? to : NULL;
	case ENDPOINT_IPV4:
		*why = "the destination has no such address";
		return p->ipv4.kind == ENDPOINT_NONE ? NULL : &p->ipv4;
	case ENDPOINT_IPV6:
		*why = "the destination has no such address";
		return p->ipv6.kind == ENDPOINT_NONE ? NULL : &p->ipv6;
	default:
		return &any;
	}
}

static void
udp_start(struct prober *p, const struct endpoint *to)
{
	const struct udp_probe_plan plan = {
		.fleet = p->plan.fleet, .path = &p->plan.path, .to = to, .timeout_ms = p->plan.timeout_ms
	};
	p->udp = udp_probe_start(p->loop, p->dialer, &plan, on_udp_probed, p);
	if (p->udp == NULL)
		trial_end(p, PROBE_SKIPPED, "out of memory");
}

static void
trial_start(struct prober *p)
{
	const char *why;
	const struct endpoint *to = target_of(p, &why);
	p->began_us = clock_now_us();
	p->results[p->at].hop_at_fault = -1;
	if (to == NULL) {
		trial_end(p, PROBE_SKIPPED, why);
		return;
	}
	if (p->silent) {
		p->results[p->at] = p->results[PROBE_HANDSHAKE];
		trial_end(p, PROBE_NO, p->results[PROBE_HANDSHAKE].detail);
		return;
	}
	if (trials[p->at].command == SOCKS_UDP && trials[p->at].kind != ENDPOINT_NONE) {
		udp_start(p, to);
		return;
	}
	const struct dial_request request = {
		.fleet = p->plan.fleet,
		.command = trials[p->at].command,
		.to = *to,
		.timeout_ms = p->plan.timeout_ms,
		.fixed = &p->plan.path,
		.until = trials[p->at].until,
	};
	p->dial = dial_start(p->dialer, &request, &p->stream, on_dialled, p);
	if (p->dial == NULL) {
		p->results[p->at].verdict = VERDICT_INTERNAL;
		trial_end(p, PROBE_NO, "out of memory");
	}
}

static void
on_next(struct loop_task *t)
{
	struct prober *p = CONTAINER_OF(t, struct prober, next);
	while (p->at < PROBE_TRIALS && (p->plan.trials & 1u << p->at) == 0)
		p->at++;
	if (p->at < PROBE_TRIALS) {
		trial_start(p);
		return;
	}
	p->cb(p->results, p->arg);
	prober_cancel(p);
}

/* ---- the destination's addresses ---- */

static void
take_address(struct prober *p, const struct endpoint *e)
{
	struct endpoint *into = e->kind == ENDPOINT_IPV4 ? &p->ipv4 : &p->ipv6;
	if (!endpoint_is_address(e) || into->kind != ENDPOINT_NONE)
		return;
	*into = *e;
	into->port = p->plan.to.port;
}

static void
on_resolved(enum dns_error err, const struct endpoint *addrs, size_t n, void *arg)
{
	struct prober *p = arg;
	p->resolve = NULL;
	for (size_t i = 0; err == DNS_OK && i < n; i++)
		take_address(p, &addrs[i]);
	loop_defer(p->loop, &p->next);
}

static void
look_up(struct prober *p)
{
	struct endpoint addrs[RESOLVE_ADDRS_MAX];
	const unsigned by_address = 1u << PROBE_CONNECT_IPV4 | 1u << PROBE_CONNECT_IPV6 | 1u << PROBE_BIND_IPV4 |
				    1u << PROBE_BIND_IPV6 | 1u << PROBE_UDP_IPV4 | 1u << PROBE_UDP_IPV6;
	size_t n = 0;
	take_address(p, &p->plan.to);
	loop_defer(p->loop, &p->next);
	if (p->plan.to.kind != ENDPOINT_NAME || (p->plan.trials & by_address) == 0)
		return;
	if (resolve_now(p->resolver, p->plan.to.name, addrs, ARRAY_LEN(addrs), &n) == DNS_OK) {
		for (size_t i = 0; i < n; i++)
			take_address(p, &addrs[i]);
		return;
	}
	p->resolve = resolve_start(p->resolver, p->plan.to.name, p->plan.timeout_ms, on_resolved, p);
	if (p->resolve != NULL)
		loop_undefer(p->loop, &p->next);
}

/* ---- life ---- */

struct prober *
prober_start(struct loop *l, struct dialer *d, struct resolver *r, const struct probe_plan *plan,
	     prober_cb *cb, void *arg)
{
	struct prober *p = calloc(1, sizeof *p);
	if (p == NULL)
		return NULL;
	p->loop = l;
	p->dialer = d;
	p->resolver = r;
	p->plan = *plan;
	p->cb = cb;
	p->arg = arg;
	fleet_ref(p->plan.fleet);
	for (unsigned i = 0; i < p->plan.path.n_hops; i++)
		p->plan.path.hop_pick[i] = UINT8_MAX;
	stream_init(&p->stream, l);
	stream_init(&p->peer, l);
	deadline_init(&p->deadline, on_late);
	loop_task_init(&p->next, on_next);
	look_up(p);
	return p;
}

void
prober_cancel(struct prober *p)
{
	if (p == NULL)
		return;
	resolve_cancel(p->resolve);
	dial_cancel(p->dial);
	udp_probe_cancel(p->udp);
	bind_wait_cancel(p->bind_wait);
	connector_cancel(&p->connector);
	stream_close(&p->peer);
	stream_close(&p->stream);
	loop_clear_deadline(p->loop, &p->deadline);
	loop_undefer(p->loop, &p->next);
	fleet_unref(p->plan.fleet);
	free(p);
}
