/*
 * session: one client's connection from accept to close.
 *
 *   HANDSHAKE --credentials--> CHECKING --admitted--> HANDSHAKE
 *   HANDSHAKE --asked--> [CHECKING (ident) -->] [RESOLVING -->] DIALING --dialed--> [BINDING -->] RELAYING
 *   RELAYING --both ends done--> [LINGERING, for a reset or the end of a lower layer to pass -->] CLOSED
 *   HANDSHAKE --asked for UDP--> ASSOCIATED --client ends--> CLOSED
 *       any of these --refused--> LINGERING --flushed, or a short while--> CLOSED
 *       any state --error, deadline, drain, DELETE--> CLOSED
 *
 * Embedded streams and relay; what only the handshake needs (`struct shake`) goes back to its slab when the relay begins, so an
 * idle session is small. One handle at a time is under way (auth check, look-up, dial or bind), and session_close cancels it.
 * session_enter is the only place that changes the state; session_close the only exit. The worker's thread.
 */
#ifndef ROUTER_SESSION_H
#define ROUTER_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/endpoint.h"
#include "base/list.h"
#include "base/stream.h"
#include "router/control.h"
#include "router/relay.h"
#include "router/worker.h"
#include "upstream/dialer.h"

struct association;
struct shake;
struct facts;

/* A way through upstreams that a session holds, and what the board has been told of its bytes. */
struct taken {
	struct path path;
	uint64_t noted_up, noted_down;
};

enum {
	SESSION_LINGER_MS = 2000,
	SESSION_LINGER_BYTES = 256 << 10,
	SESSION_LINGER_READ_LEAST = 1 << 10,   /* what a read counts for: opening a message of one byte costs as much */
	SESSION_WATCH_READS_MAX = 256,         /* in a row, while busy elsewhere */
	SESSION_NOTE_MS = 5000,
	SESSION_LOOK_MS = 60000,
	SESSION_HALF_OPEN_MS = 120000, /* a client that ended its direction has no peer after this, where timeouts.bind is never */
};

enum session_end {
	END_DONE,              /* both sides ended */
	END_REFUSED,           /* it got its answer: verdict says why */
	END_CLIENT_LEFT,       /* before it had an answer */
	END_CLIENT_RESET,
	END_UPSTREAM_RESET,
	END_HANDSHAKE_TIMEOUT,
	END_IDLE,
	END_DRAINED,           /* cut at timeouts.drain */
	END_DELETED,           /* by the API */
	END_NO_HEADER,         /* where a PROXY header is demanded */
	END_NO_TLS,            /* or no certificate that we trust */
	END_TLS_SHED,          /* one that stalled while others waited to begin theirs */
	END_CLIENT_LIMIT,      /* max_connections_per_client, of a client that a PROXY header names */
	END_INTERNAL,          /* no memory */
	END_N
};

struct session {
	struct list link;              /* in worker->by_state[state] */
	struct worker *worker;
	struct lease *lease;
	struct stream client, upstream;
	struct deadline deadline;
	struct relay relay;
	struct shake *shake;           /* until the relay starts */
	struct facts *facts;           /* in the shake at first, then a block of its own */
	struct association *association;       /* ASSOCIATED */
	struct taken *taken;           /* the way through upstreams, its slots held; NULL: none, or straight */
	uint64_t id;
	uint64_t started_us;
	uint32_t listener;             /* index in the lease's policy */
	uint32_t lingered;             /* bytes thrown away */
	uint8_t state;                 /* enum session_state */
	uint8_t verdict;               /* enum verdict, once answered */
	uint8_t end;                   /* enum session_end, once LINGERING or CLOSED */
	bool answered : 1;
	bool counted_client : 1;       /* in shared->clients */
	bool reset_client : 1;         /* which side is to get our RST once it has taken what was sent */
	bool direct : 1;               /* "direct" is counted: to be given back */
	struct { uint8_t kind, addr[16]; uint16_t port; } client_at;   /* an endpoint without its room for a name */
};

/** Takes fd, and what spare_take() gave. The places of listener and policy (and of the client, where counted) are held already; session_close gives them back. */
void session_start(struct worker *w, uint32_t listener, int fd, int spare, const struct endpoint *client,
    bool counted_client);
/** In every state but CLOSED; once. Writes the access line. */
void session_close(struct session *s, enum session_end why);
/** Frees a CLOSED one; by worker_reap only. */
void session_free(struct session *s);

/** For the worker's relay_pool: every relay is a session's. */
void session_on_relay_end(struct relay *r, enum relay_end how);

bool session_matches(const struct session *s, const struct control_filter *f);
void session_describe(const struct session *s, struct control_connection *out);
const char *session_state_text(enum session_state state);

#endif
