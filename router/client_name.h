/*
 * client_name: the host name that a client's address stands for: what its PTR record says, if that name leads back to the address.
 * A PTR alone is whatever the owner of the address writes there.
 *
 * Life: client_name_start -> callback once, or client_name_cancel; the handle ends with either. The worker's thread.
 */
#ifndef ROUTER_CLIENT_NAME_H
#define ROUTER_CLIENT_NAME_H

#include <stdint.h>

#include "base/base.h"
#include "base/endpoint.h"

struct client_name;
struct resolver;

/* name: in lower case, valid during the call; "": it has none, or none that could be found out. From the loop, never from inside start. */
typedef void client_name_cb(const char *name, void *arg);

/** timeout_ms: of each of two look-ups. NULL: out of memory. */
struct client_name *client_name_start(struct resolver *r, const struct endpoint *client, uint64_t timeout_ms, client_name_cb *cb,
				      void *arg) WARN_UNUSED;
void client_name_cancel(struct client_name *c);        /* NULL is fine */

#endif
