/*
 * takeover: SIGUSR2: a new process of the same command line takes the listening sockets over, and this one drains.
 *
 *   old:  socketpair, spawn --sockets by SCM_RIGHTS, key by key--> new: opens its fronts on them
 *   new:  serves --"ready"--> old: stops accepting and drains, its sessions end as they began
 *
 * The same sockets are handed over, all of them, never bound again: no client in a backlog is lost and none is reset. The old
 * process goes on as before where the new one fails or never says that it is ready (TAKEOVER_MS).
 *
 * The heir's half runs before its router is made; the testator's on the control thread.
 */
#ifndef ROUTER_TAKEOVER_H
#define ROUTER_TAKEOVER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/base.h"

struct endpoint;
struct loop;

enum { TAKEOVER_MS = 60000, TAKEOVER_SOCKETS_MAX = 250 /* for one key: what SCM_RIGHTS carries at once */ };

/* ---- the heir ---- */

struct inheritance;

/** What the process before left us; NULL: nothing, an ordinary start. Takes the descriptor that the environment names. */
struct inheritance *takeover_receive(void);
/** The next socket of this key, -1: there is none (left). The caller owns it. */
int takeover_claim(struct inheritance *i, const char *key);
/**
 * Was there a socket whose key is `prefix` and an address that shares its port with `at`? Ours may be bound beside it then: the old
 * process goes, and its sockets share their port from now on (SO_REUSEPORT).
 */
bool takeover_moves(struct inheritance *i, const char *prefix, const struct endpoint *at);
/** Closes what nobody claimed, and tells the old process to drain. */
void takeover_ready(struct inheritance *i);
/** Closes what nobody claimed, too. NULL is fine. */
void takeover_free(struct inheritance *i);

/* ---- the testator ---- */

struct takeover;

/* ready: the heir serves. Otherwise `why` tells what went wrong. Once, from the loop. */
typedef void takeover_cb(bool ready, const char *why, void *arg);

/** Remembers the command line; once, at start, before anything changes it. */
void takeover_remember(char **argv);
/** Spawns the heir. NULL: why is told in `why` (cap bytes). on_end comes once, not from inside this call. */
struct takeover *takeover_start(struct loop *l, takeover_cb *on_end, void *arg, char *why, size_t cap);
/** Sends the sockets of one key. The descriptors stay the caller's. */
bool takeover_give(struct takeover *t, const char *key, const int *fds, size_t n) WARN_UNUSED;
/** All are sent: on_end is to be waited for. */
bool takeover_give_end(struct takeover *t) WARN_UNUSED;
/** Calls nobody. NULL is fine. */
void takeover_cancel(struct takeover *t);

#endif
