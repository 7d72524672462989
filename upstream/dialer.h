/*
 * dialer: from a decision to an open stream: picks members, resolves where addresses are needed,
 * connects (RFC 8305), walks the hops' handshakes, retries within the pool, and says at the end
 * what happened and whose fault it was.
 *
 * It does not know who the client is; it gets a request and gives a stream. One per worker (and one
 * for the control thread's checks). Confined to its thread.
 *
 * An attempt goes along one path. Where a hop is at fault that a pool chose, and the pool's retry
 * allows, another attempt is made that avoids that choice. Failures of the destination, of the
 * client's making and of our own are never tried again. Where a pool races its members several
 * attempts run side by side: the first that is granted ends the others, and so does the first
 * answer of the destination.
 *
 * On the board the dialer counts failures_total of the hop at fault for each attempt, and, when it
 * is granted, sessions_total and the connect time (through the path, until it could be spoken to)
 * of each hop, or of "direct". Nothing is counted for a `fixed` path.
 *
 * A BIND or UDP ASSOCIATE is asked of the last hop; granted, its first reply's address is `bound`,
 * an unspecified one replaced by the hop's own. The second reply to a BIND is awaited with
 * bind_wait. Where the way turns out to be direct there is nobody to ask: it is granted without a
 * connection. An association needs one with each hop: ask along `fixed` paths for the others. A
 * pool's choice that turns out not to do it is passed over: at fault is nobody, and no retry counts.
 *
 * System calls of a direct dial: socket, setsockopt, connect, epoll_ctl, getsockname, and one
 * epoll_wait in between; each message to and from a hop adds one send or recv and no more. Counted
 * with strace -c over 1000 dials.
 *
 * Life: dialer_new -> dial_start * n -> dialer_free (cancels what is left, calls nobody; not from a
 * callback).
 */
#ifndef UPSTREAM_DIALER_H
#define UPSTREAM_DIALER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/endpoint.h"
#include "base/stream.h"
#include "socks/command.h"
#include "socks/verdict.h"
#include "upstream/fleet.h"

struct dialer;
struct gss_pool;
struct dial; /* one request under way, over all its attempts */
struct loop;
struct resolver;

enum dial_stage { DIAL_PICK, DIAL_RESOLVE, DIAL_CONNECT, DIAL_TLS, DIAL_HANDSHAKE, DIAL_DONE };
/** "pick", "resolve", "connect", "tls", "handshake", "done". */
const char *dial_stage_text(enum dial_stage s);

/* How far a dial goes before it is granted. Short of the tunnel, `to` is not asked for. */
enum dial_until {
	DIAL_UNTIL_TUNNEL,
	DIAL_UNTIL_CONNECTED,     /* the way to the last hop stands, nothing was said to it */
	DIAL_UNTIL_TLS,           /* its TLS is done, where it has one */
	DIAL_UNTIL_AUTHENTICATED, /* its TLS is done, and what it wants to hear before a request */
};

struct dial_request {
	struct fleet *fleet;       /* a reference is taken for the dial's life */
	struct policy_route route; /* not ROUTE_REJECT */
	enum socks_command command;
	const struct endpoint *addrs; /* of to, where already looked up; copied */
	size_t n_addrs;
	struct pick_key key;      /* copied; to: as above; texts of 255 bytes at most */
	uint64_t timeout_ms;      /* timeouts.connect: bounds each attempt */
	const struct path *fixed; /* a check's own, holding nothing; copied; NULL: by route */
	const struct tried *avoid; /* picks that are out of the question from the start; copied; NULL: none */
	enum dial_until until;
	/*
	 * Asked before an address is dialled, or given to a hop, for the name `to`: true forbids
	 * it. May come inside dial_start. NULL: none is forbidden. arg as of the callback.
	 */
	bool (*address_rejected)(const struct endpoint *addr, void *arg);
	/*
	 * Asked where a PROXY header goes out: what the client connected to. May come inside
	 * dial_start. NULL: there is no client.
	 */
	void (*tell_reached)(struct endpoint *out, void *arg);
	struct endpoint to; /* the last: it is large, and most of it is not in use */
};

/* One for each proxy on the path that has done its part, or one for the direct connection. */
struct dial_hop_time {
	uint32_t upstream; /* index in the policy; UINT32_MAX: "direct" */
	uint32_t us;       /* since the hop before had, looking up left out */
};

struct dial_result {
	enum verdict verdict;
	enum dial_stage stage; /* where it ended */
	int hop_at_fault; /* index in path.hops of the last attempt; -1: none, or the destination */
	uint8_t code;     /* the hop's own REP or CD, or 0 */
	uint16_t status;  /* the hop's own HTTP status, or 0 */
	uint8_t attempts; /* in all */
	uint8_t n_raced;  /* those of them that a race began beside others */
	uint8_t n_passed; /* those of them that found a pool's choice unable, which is then passed over */
	bool late;        /* the last one's hop was given no more time */
	bool won_late;    /* the one that decided is of these */
	/*
	 * Granted, and the stream is not open: the way is direct, where a BIND or an association is
	 * made by the caller. For a BIND, the addresses of `to` that it may use; valid during the
	 * call.
	 */
	const struct endpoint *addrs;
	size_t n_addrs;
	struct path path; /* of the attempt that decided; granted: the caller gives it back when the
			     session ends */
	struct endpoint bound; /* granted: what the last hop bound, or our own local address */
	bool sealed; /* granted, an association: the last hop's datagrams are, by the stream's context */
	struct endpoint peer;  /* granted: the address our socket is connected to */
	uint32_t resolve_us;
	uint32_t connect_us; /* of the first connection; 0: it does not stand */
	uint32_t tls_us;     /* of all TLS handshakes */
	struct dial_hop_time hops[PATH_HOPS_MAX + 1];
	uint8_t n_hop_times;
	/* for log and API, valid during the call: "hop 1 (paris) says hop 2 (tokyo) unreachable:
	 * it refuses connections", "upstream paris says: refused by destination" */
	const char *detail;
	const uint8_t *early; /* bytes that came behind the last handshake; valid during the call */
	size_t early_len;
};

/* Granted: `out` as given to dial_start is open and has no callback: the caller sets its own now.
 */
typedef void dial_cb(const struct dial_result *r, void *arg);

struct dialer *dialer_new(struct loop *l, struct resolver *r);
/** Who takes the steps of Kerberos towards upstreams; must outlive the dialer's dials. Without it they fail. */
void dialer_use_gss(struct dialer *d, struct gss_pool *p);
/**
 * Keeps warm connections to this fleet's upstreams from now on, this dialer's share of them among
 * n_workers; NULL: none. Not asked for, none are kept: see upstream/warm.h.
 */
void dialer_keep_warm(struct dialer *d, struct fleet *f, unsigned n_workers);
void dialer_free(struct dialer *d); /* NULL is fine */
/** Gives memory back that is kept for dials to come. */
void dialer_trim(struct dialer *d);

/**
 * @param out  an initialised, closed stream of the caller's; it may be open while the dial is under
 * way, and is closed again when the dial ends in anything but GRANTED
 * @return a handle, or NULL when out of memory (cb is then never called)
 * cb comes exactly once, from the loop, never from inside this call, and not after dial_cancel();
 * the handle ends with either. All slots and picks of failed and cancelled attempts have been given
 * back by then.
 */
struct dial *dial_start(struct dialer *d, const struct dial_request *request, struct stream *out,
			dial_cb *cb, void *arg);
void dial_cancel(struct dial *x); /* NULL is fine; within its own callback it does nothing */
/** Is it in a pool's queue? */
bool dial_waits(const struct dial *x);
/** How many attempts a race has begun beside others, so far. */
unsigned dial_raced(const struct dial *x);
/** Where it stands, for the API: stage and path so far; in a race those of the oldest attempt. */
enum dial_stage dial_stage(const struct dial *x, struct path *path);

#endif
