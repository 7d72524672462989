/*
 * session as others see it: what the API lists, and which of them a filter means.
 */
#include "router/session_parts.h"

#include "base/clock.h"
#include "router/association.h"

/* ---- as others see it ---- */

static bool
matches_to(const struct session *s, const char *want)
{
	const char *to = facts_to(s->facts);
	size_t len = strlen(want);
	if (strcmp(to, want) == 0)
		return true;
	const char *colon = strrchr(to, ':');
	if (colon == NULL)
		return false;
	if (to[0] == '[')
		return (size_t)(colon - to) == len + 2 && memcmp(to + 1, want, len) == 0;
	return (size_t)(colon - to) == len && memcmp(to, want, len) == 0;
}

size_t
session_hops(const struct session *s, struct dial_hop_time *out, size_t cap)
{
	uint32_t upstreams[PATH_HOPS_MAX + 1];
	size_t n = s->facts->n_hops;
	if (s->association == NULL) {
		memcpy(out, facts_hops(s->facts), n * sizeof *out);
		return n;
	}
	n = association_get_hops(s->association, upstreams, cap < ARRAY_LEN(upstreams) ? cap : ARRAY_LEN(upstreams));
	for (size_t i = 0; i < n; i++)
		out[i] = (struct dial_hop_time){ .upstream = upstreams[i] };
	return n;
}

static bool
matches_upstream(const struct session *s, const char *want)
{
	struct dial_hop_time hops[PATH_HOPS_MAX + 1];
	size_t n = session_hops(s, hops, ARRAY_LEN(hops));
	for (size_t i = 0; i < n; i++)
		if (strcmp(facts_upstream_name(session_policy(s), hops[i].upstream), want) == 0)
			return true;
	return false;
}

bool
session_matches(const struct session *s, const struct control_filter *f)
{
	char host[ENDPOINT_TEXT_MAX];
	struct endpoint client = session_client(s);
	if (f->id != 0 && s->id != f->id)
		return false;
	if (f->client[0] != '\0' && strcmp(f->client, client.kind == ENDPOINT_NONE ? "unix" : endpoint_host_to_text(&client, host, sizeof host)) != 0)
		return false;
	if (f->user[0] != '\0' && strcmp(f->user, facts_user(s->facts)) != 0)
		return false;
	if (f->to[0] != '\0' && !matches_to(s, f->to))
		return false;
	return f->upstream[0] == '\0' || matches_upstream(s, f->upstream);
}

static void
describe_hops(const struct session *s, struct control_connection *out)
{
	struct dial_hop_time hops[PATH_HOPS_MAX + 1];
	out->n_hops = (uint8_t)session_hops(s, hops, ARRAY_LEN(hops));
	out->n_timed = s->association == NULL ? s->facts->n_timed : 0;
	for (unsigned i = 0; i < out->n_hops; i++) {
		snprintf(out->hops[i].name, sizeof out->hops[i].name, "%s", facts_upstream_name(session_policy(s), hops[i].upstream));
		out->hops[i].us = hops[i].us;
	}
}

void
session_describe(const struct session *s, struct control_connection *out)
{
	const struct policy *p = session_policy(s);
	const struct facts *f = s->facts;
	struct endpoint client = session_client(s);
	uint64_t age_us = clock_now_us() - s->started_us;
	*out = (struct control_connection){ .id = s->id };
	session_client_text(&client, out->client, sizeof out->client);
	snprintf(out->user, sizeof out->user, "%s", facts_user(f));
	snprintf(out->to, sizeof out->to, "%s", facts_to(f));
	snprintf(out->listener, sizeof out->listener, "%s", p->listeners[s->listener].name);
	snprintf(out->protocol, sizeof out->protocol, "%s", socks_protocol_text(f->protocol));
	snprintf(out->command, sizeof out->command, "%s", f->command > 0 ? socks_command_text(f->command) : "");
	snprintf(out->rule, sizeof out->rule, "%s", facts_rule_name(f, p));
	snprintf(out->route, sizeof out->route, "%s", f->decided ? policy_route_name(p, f->route) : "");
	snprintf(out->state, sizeof out->state, "%s", session_state_text(s->state));
	out->age_ms = age_us / 1000;
	struct association_counts traffic = session_traffic(s);
	bool carries = s->state == SESSION_RELAYING || s->state == SESSION_ASSOCIATED;
	out->idle_ms = carries ? loop_now(s->worker->loop) - traffic.active_ms : 0;
	out->bytes_up = traffic.up;
	out->bytes_down = traffic.down;
	out->handshake_us = f->handshake_us;
	out->resolve_us = f->resolve_us;
	out->total_us = f->total_us;
	describe_hops(s, out);
}
