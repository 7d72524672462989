/*
 * clients: how many sessions each client address has open on a listener, for max_connections_per_client.
 *
 * Shared by all workers, since a client's connections fall on any of them: shards under a mutex of their own, touched only by
 * listeners that have such a limit, once when a session starts and once when it ends. An address is in the table only while it
 * has a session, so the table is bounded by the sessions; its hash is keyed, since strangers choose the keys.
 */
#ifndef ROUTER_CLIENTS_H
#define ROUTER_CLIENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "base/endpoint.h"

struct clients;

struct clients *clients_new(void);
void clients_free(struct clients *c);          /* NULL is fine */

/** Counts one in; false: `max` are there, or out of memory. listener: any pointer that stands for it. A Unix client is one address. */
bool clients_take(struct clients *c, const void *listener, const struct endpoint *client, uint32_t max) WARN_UNUSED;
/** Once for each that was taken. */
void clients_give_back(struct clients *c, const void *listener, const struct endpoint *client);
/** Addresses in the table. */
size_t clients_count(struct clients *c);

#endif
