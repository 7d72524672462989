/*
 * bind: one BIND under way: somebody is to connect, here or at an upstream, and becomes the other side of the client's session.
 *
 * Here: a listening socket of its own, open until the right peer has come. Those that the request does not name are closed and
 * counted; a SOCKS4 client has one chance only, as its protocol says. Ports are not compared: peers such as FTP servers connect
 * from any. Beyond: the upstream listens and tells on the session's own stream.
 * How long that may take is the session's to say.
 * Life: bind_here or bind_beyond -> callback once, or bind_cancel. The worker's thread.
 */
#ifndef ROUTER_BIND_H
#define ROUTER_BIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "base/endpoint.h"
#include "policy/policy.h"
#include "socks/verdict.h"

struct bind;
struct stream;
struct worker;

struct bind_result {
	enum verdict verdict;          /* REJECTED: a SOCKS4 client's one chance is gone */
	int fd;                        /* GRANTED here: non-blocking, the receiver's now; beyond: -1, it is the stream */
	const struct endpoint *peer;   /* GRANTED */
	const uint8_t *early;          /* bytes that came behind the upstream's reply; valid during the call */
	size_t early_len;
};

/* From the loop, never from inside bind_here and bind_beyond, nor after bind_cancel. The handle ends with it. */
typedef void bind_cb(const struct bind_result *r, void *arg);

struct bind_request {
	struct worker *worker;
	const struct policy_sockets *conf;
	const struct policy_upstream *line;    /* a direct:// upstream, or NULL */
	const struct endpoint *peers;  /* who may connect, by address; a wildcard: anybody. Copied */
	size_t n_peers;                /* > 0 */
	int client_fd;
	bool one_chance;               /* as SOCKS4 has it */
};

enum { BIND_PEERS_MAX = 32 };

/** told: for the first reply. NULL: *why. */
struct bind *bind_here(const struct bind_request *q, bind_cb *cb, void *arg, struct endpoint *told, enum verdict *why) WARN_UNUSED;
/** scheme: of the upstream at the other end of the stream. NULL: out of memory. */
struct bind *bind_beyond(struct worker *w, enum upstream_scheme scheme, struct stream *s, const uint8_t *early, size_t early_len,
			 bind_cb *cb, void *arg) WARN_UNUSED;
void bind_cancel(struct bind *b);              /* NULL is fine */

#endif
