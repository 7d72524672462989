/*
 * listener: one socket of a front as its worker serves it: accepts, and pauses where a limit or the system says so.
 *
 * Level-triggered: what is not accepted now is told again. One accept a turn to begin with, more while clients keep coming. At
 * max_connections (the listener's or the policy's) accepting pauses and clients wait in the backlog; so it does when the
 * descriptors (router/spare.h) or the memory don't suffice for one more, and that is warned of once in LISTENER_WARN_MS. A pause
 * ends when a session ends here, or after LISTENER_RETRY_MS.
 * Life: listener_open -> listener_close (empties the backlog first). The worker's thread.
 */
#ifndef ROUTER_LISTENER_H
#define ROUTER_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "base/base.h"
#include "base/list.h"
#include "router/front.h"

struct worker;

enum { LISTENER_ACCEPTS_MAX = 16, LISTENER_PATIENCE = 2, LISTENER_RETRY_MS = 50, LISTENER_WARN_MS = 60000 };

struct listener {
	struct list link;                      /* in worker->listeners */
	struct event event;
	struct worker *worker;
	struct front *front;                   /* a reference */
	unsigned socket;                       /* of the front's */
	uint32_t index;                        /* in the policy in force */
	unsigned accepts;                      /* a turn */
	unsigned in_a_row;                     /* turns that found a client, one after the other, */
	uint64_t turn;                         /* this the last of them */
	bool paused;
	bool warned;
	uint64_t warned_ms;
};

/** NULL: out of memory, or the event can't be added. */
struct listener *listener_open(struct worker *w, struct front *front, unsigned socket, uint32_t index);
/** Takes the listener and frees it; clients in the backlog are still accepted. */
void listener_close(struct listener *l);
/** The same without serving the backlog: the worker is being torn down. */
void listener_abandon(struct listener *l);
/** Takes one of the client's places; false: it has none left, and is counted as refused. */
bool listener_count_client(struct worker *w, struct front *front, const struct policy_listener *conf,
    const struct endpoint *client) WARN_UNUSED;
/** A place may be free again. */
void listener_resume(struct listener *l);

#endif
