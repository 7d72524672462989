/*
 * counters: what happened, as sums that only grow (and few gauges). One set per worker, one writer,
 * relaxed stores; readers add the sets up.
 *
 * The list below is the only one: enum, name of the metric, its labels, key in GET /v1/stats and
 * help come from it.
 */
#ifndef BASE_COUNTERS_H
#define BASE_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

/*
 * X(id, metric, labels, JSON path in /v1/stats, help). A metric that does not end in _total is a
 * gauge.
 */
#define COUNTERS(X)                                                                                                            \
	X(SESSIONS_OPEN, "sockroute_sessions_open", "", "sessions/open", "Sessions open now.")                                 \
	X(SESSIONS_ACCEPTED, "sockroute_sessions_accepted_total", "", "sessions/accepted", "Clients accepted.")                \
	X(SESSIONS_GRANTED, "sockroute_sessions_granted_total", "", "sessions/granted", "Requests granted.")                   \
	X(SESSIONS_REJECTED, "sockroute_sessions_rejected_total", "", "sessions/rejected",                                     \
	  "Requests refused by a rule, a limit or for want of credentials.")                                                   \
	X(SESSIONS_FAILED, "sockroute_sessions_failed_total", "", "sessions/failed", "Requests that failed for another reason.") \
	X(PROTOCOL_SOCKS4, "sockroute_requests_total", "protocol=\"socks4\"", "by_protocol/socks4", "Requests by protocol.")   \
	X(PROTOCOL_SOCKS4A, "sockroute_requests_total", "protocol=\"socks4a\"", "by_protocol/socks4a", "Requests by protocol.") \
	X(PROTOCOL_SOCKS5, "sockroute_requests_total", "protocol=\"socks5\"", "by_protocol/socks5", "Requests by protocol.")   \
	X(PROTOCOL_HTTP, "sockroute_requests_total", "protocol=\"http\"", "by_protocol/http", "Requests by protocol.")         \
	X(COMMAND_CONNECT, "sockroute_commands_total", "command=\"connect\"", "by_command/connect", "Requests by command.")    \
	X(COMMAND_BIND, "sockroute_commands_total", "command=\"bind\"", "by_command/bind", "Requests by command.")             \
	X(COMMAND_UDP, "sockroute_commands_total", "command=\"udp\"", "by_command/udp", "Requests by command.")                \
	X(COMMAND_RESOLVE, "sockroute_commands_total", "command=\"resolve\"", "by_command/resolve", "Requests by command.")    \
	X(BYTES_UP, "sockroute_bytes_total", "direction=\"up\"", "bytes/up", "Bytes relayed; up is from the client.")          \
	X(BYTES_DOWN, "sockroute_bytes_total", "direction=\"down\"", "bytes/down", "Bytes relayed; up is from the client.")    \
	X(DNS_QUERIES, "sockroute_dns_queries_total", "", "dns/queries", "Queries sent to name servers.")                      \
	X(DNS_CACHE_HITS, "sockroute_dns_cache_hits_total", "", "dns/cache_hits", "Look-ups answered from the cache.")         \
	X(DNS_FAILURES, "sockroute_dns_failures_total", "", "dns/failures", "Look-ups that gave no address.")                  \
	X(ACCEPT_PAUSES, "sockroute_accept_pauses_total", "", "accept/pauses", "Times accepting paused: limit or descriptors.") \
	X(CLIENT_LIMIT, "sockroute_client_limit_total", "", "accept/client_limit",                                             \
	  "Clients closed at max_connections_per_client.")                                                                     \
	X(PROXY_HEADERS_BAD, "sockroute_proxy_headers_bad_total", "", "accept/proxy_headers_bad",                              \
	  "Clients closed for want of a PROXY header.")                                                                        \
	X(TLS_FAILURES, "sockroute_tls_failures_total", "", "accept/tls_failures", "TLS handshakes with clients that failed.") \
	X(TLS_OPEN, "sockroute_tls_handshakes_open", "", "accept/tls_handshakes", "TLS handshakes with clients under way.")    \
	X(TLS_WAITS, "sockroute_tls_waits_total", "", "accept/tls_waits", "Clients whose TLS handshake had to wait for others' to end.") \
	X(TLS_SHED, "sockroute_tls_shed_total", "", "accept/tls_shed", "Stalled TLS handshakes closed for those that waited.")  \
	X(AUTH_CHECKS, "sockroute_auth_checks_total", "", "auth/checks", "Passwords hashed.")                                  \
	X(AUTH_REMEMBERED, "sockroute_auth_remembered_total", "", "auth/remembered", "Log-ins known from shortly before.")     \
	X(AUTH_FAILURES, "sockroute_auth_failures_total", "", "auth/failures", "Log-ins refused.")                             \
	X(UDP_UP, "sockroute_udp_datagrams_total", "direction=\"up\"", "udp/up", "Datagrams relayed; up is from the client.")       \
	X(UDP_DOWN, "sockroute_udp_datagrams_total", "direction=\"down\"", "udp/down",                                           \
	  "Datagrams relayed; up is from the client.")                                                                         \
	X(UDP_DROPPED_SENDER, "sockroute_udp_dropped_total", "reason=\"sender\"", "udp/dropped_sender",                          \
	  "Datagrams dropped, by reason.")                                                                                     \
	X(UDP_DROPPED_HEADER, "sockroute_udp_dropped_total", "reason=\"header\"", "udp/dropped_header",                          \
	  "Datagrams dropped, by reason.")                                                                                     \
	X(UDP_DROPPED_FRAGMENT, "sockroute_udp_dropped_total", "reason=\"fragment\"", "udp/dropped_fragment",                    \
	  "Datagrams dropped, by reason.")                                                                                     \
	X(UDP_DROPPED_REJECTED, "sockroute_udp_dropped_total", "reason=\"rejected\"", "udp/dropped_rejected",                    \
	  "Datagrams dropped, by reason.")                                                                                     \
	X(UDP_DROPPED_UNRESOLVED, "sockroute_udp_dropped_total", "reason=\"unresolved\"", "udp/dropped_unresolved",              \
	  "Datagrams dropped, by reason.")                                                                                     \
	X(UDP_DROPPED_NO_WAY, "sockroute_udp_dropped_total", "reason=\"no_way\"", "udp/dropped_no_way",                          \
	  "Datagrams dropped, by reason.")                                                                                     \
	X(UDP_DROPPED_UNREACHABLE, "sockroute_udp_dropped_total", "reason=\"unreachable\"", "udp/dropped_unreachable",           \
	  "Datagrams dropped, by reason.")                                                                                     \
	X(UDP_DROPPED_SIZE, "sockroute_udp_dropped_total", "reason=\"size\"", "udp/dropped_size", "Datagrams dropped, by reason.") \
	X(UDP_DROPPED_FULL, "sockroute_udp_dropped_total", "reason=\"full\"", "udp/dropped_full", "Datagrams dropped, by reason.") \
	X(BIND_STRANGERS, "sockroute_bind_strangers_total", "", "bind/strangers",                                              \
	  "Connections to a BIND's port from hosts that its request does not name.")                                           \
	X(RETRIES, "sockroute_retries_total", "", "upstreams/retries", "Attempts after the first that took a failed one's place.") \
	X(RACES, "sockroute_races_total", "", "upstreams/races", "Attempts begun beside one that was slow.")                    \
	X(RACES_WON, "sockroute_races_won_total", "", "upstreams/races_won", "Requests that such an attempt was granted for.")

#define COUNTER_ID(id, metric, labels, json, help) COUNTER_##id,
enum counter { COUNTERS(COUNTER_ID) COUNTER_N };
#undef COUNTER_ID

struct counters {
	_Alignas(64) atomic_uint_least64_t value[COUNTER_N];
};

/** By the owner's thread only: no read-modify-write is needed. */
static inline void
counter_add(struct counters *c, enum counter which, uint64_t n)
{
	uint64_t v = atomic_load_explicit(&c->value[which], memory_order_relaxed);
	atomic_store_explicit(&c->value[which], v + n, memory_order_relaxed);
}

static inline void
counter_sub(struct counters *c, enum counter which, uint64_t n)
{
	counter_add(c, which, (uint64_t)0 - n);
}

static inline uint64_t
counter_get(const struct counters *c, enum counter which)
{
	return atomic_load_explicit(&c->value[which], memory_order_relaxed);
}

struct counter_text {
	const char *metric, *labels, *json, *help;
};
extern const struct counter_text counter_texts[COUNTER_N];

#endif
