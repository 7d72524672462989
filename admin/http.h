/*
 * admin: the HTTP API: libmicrohttpd on a thread of its own, in front of router/control.h.
 *
 * It serves the address of the policy it was started with; token and everything else follow the
 * policy in force. The data path never waits for it, and it never waits for workers: what needs an
 * answer from them suspends the request until the answer comes. Life: admin_start -> admin_stop
 * (answers what is suspended, then ends the thread).
 */
#ifndef ADMIN_HTTP_H
#define ADMIN_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/endpoint.h"

struct admin;
struct control;

/**
 * inherited: a socket that listens there already, which is taken; -1: none. beside: a socket that
 * shares its port (SO_REUSEPORT) may be bound where this one is to be, or to a part of that. NULL:
 * why is told in `why` (cap bytes): the address is taken, no memory.
 */
struct admin *admin_start(struct control *c, const struct endpoint *listen, int inherited,
			  bool beside, char *why, size_t cap);
/** Its listening socket, to be handed over; it stays the admin's. */
int admin_socket(const struct admin *a);
/**
 * Another process accepts there now: requests under way are answered, streams of events end so
 * that their clients go to the other one, new requests are not taken. By the thread that started
 * it.
 */
void admin_quiesce(struct admin *a);
void admin_stop(struct admin *a); /* NULL is fine */

#endif
