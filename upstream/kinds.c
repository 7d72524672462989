/*
 * kinds: see the header.
 */
#include "upstream/kinds.h"

static const struct kind {
	const struct hop_ops *ops;
	bool bind, udp, look_up;
} kinds[] = {
	[SCHEME_SOCKS4] = { &hop_socks4, true, false, false },
	[SCHEME_SOCKS4A] = { &hop_socks4a, true, false, false },
	[SCHEME_SOCKS5] = { &hop_socks5, true, true, true },
	[SCHEME_SOCKS5_TLS] = { &hop_socks5, true, false, true },
	[SCHEME_HTTP] = { &hop_http, false, false, false },
	[SCHEME_HTTPS] = { &hop_http, false, false, false },
	[SCHEME_DIRECT] = { NULL, true, true, true },
};

const struct hop_ops *
kind_ops(enum upstream_scheme s)
{
	return kinds[s].ops;
}

bool
kind_can(const struct policy_upstream *u, enum socks_command command, bool last)
{
	const struct kind *k = &kinds[u->scheme];
	switch (command) {
	case SOCKS_BIND:
		return !last || k->bind;
	case SOCKS_UDP:
		return k->udp;
	case SOCKS_RESOLVE:
	case SOCKS_RESOLVE_PTR:
		return !last || k->look_up;
	default:
		return true;
	}
}

static bool
any_member_can(const struct policy *p, const struct policy_pool *pool, enum socks_command command, bool last)
{
	for (size_t i = 0; i < pool->n_members; i++)
		if (kind_route_can(p, pool->members[i].route, command, last))
			return true;
	return false;
}

static bool
every_hop_can(const struct policy *p, const struct policy_chain *chain, enum socks_command command, bool last)
{
	for (size_t i = 0; i < chain->n_hops; i++)
		if (!kind_route_can(p, chain->hops[i], command, last && i + 1 == chain->n_hops))
			return false;
	return true;
}

bool
kind_route_can(const struct policy *p, struct policy_route route, enum socks_command command, bool last)
{
	switch (route.kind) {
	case ROUTE_UPSTREAM:
		return kind_can(&p->upstreams[route.index], command, last);
	case ROUTE_POOL:
		return any_member_can(p, &p->pools[route.index], command, last);
	case ROUTE_CHAIN:
		return every_hop_can(p, &p->chains[route.index], command, last);
	default:
		return route.kind == ROUTE_DIRECT;
	}
}
