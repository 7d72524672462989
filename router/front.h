/*
 * front: the listening sockets of one address: one for each worker (SO_REUSEPORT), or one for all of a Unix socket. Socket i is
 * served by worker i modulo the number of workers: a process that took over may have inherited more sockets than it has workers,
 * and none may go unserved, since the kernel deals clients out to all of them.
 *
 * A front outlives revisions: a policy that names the same address finds the same sockets, so that no client in a backlog is lost.
 * Opened and looked up by the control thread; each worker closes its own socket, after it has emptied the backlog. What is shared
 * between workers are three counts, touched once a connection: `open` (taken by compare-and-swap against the limit), `accepted`
 * and `refused` (relaxed; each stands alone).
 * Life: front_open (one reference) -> front_ref / front_unref from any thread; the last one closes what is still open.
 */
#ifndef ROUTER_FRONT_H
#define ROUTER_FRONT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "policy/policy.h"
#include "router/takeover.h"

enum { FRONT_BACKLOG = 4096 };

struct front {
	char *key;                             /* "127.0.0.1:1080", "unix:/path" */
	unsigned n_workers, n_sockets;
	bool is_unix;
	atomic_bool handed_over;               /* another process has the sockets too: a Unix path stays */
	atomic_int *fds;                       /* n_sockets of them; -1: closed */
	atomic_int refs;
	atomic_uint n_listening;               /* sockets that are not closed */

	_Alignas(64) atomic_uint open;         /* sessions */
	atomic_uint_least64_t accepted, refused;
};

/**
 * Takes what `from` (or NULL) has for this address, binds and listens for the rest.
 * @param beside  an open front of this process may have the address as well: it is about to go
 * NULL: why is told in `why` (cap bytes).
 */
struct front *front_open(const struct policy_listener *conf, unsigned n_workers, struct inheritance *from, bool beside, char *why,
    size_t cap);
struct front *front_ref(struct front *f);
void front_unref(struct front *f);             /* NULL is fine */
/** The key that front_open would give; out has at least 128 bytes. */
void front_key(const struct policy_listener *conf, char *out, size_t cap);
/** The socket is closed and will not be accepted from again. The last one of a Unix socket unlinks its path. */
void front_close_socket(struct front *f, unsigned socket);
/** The descriptors to hand over (one of a Unix socket); returns how many, at most cap. */
size_t front_sockets(const struct front *f, int *fds, size_t cap);

/** Counts a session in; false: max (> 0) are open. Every one that is counted in is counted out once. */
bool front_take(struct front *f, uint32_t max) WARN_UNUSED;
void front_give_back(struct front *f);

#endif
