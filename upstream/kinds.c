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
