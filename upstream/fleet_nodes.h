/*
 * fleet_nodes: the insides of a fleet, for fleet.c and path.c alone: one node for each upstream,
 * pool and chain, and for "direct".
 *
 * Nodes, edges, pools and contexts are fixed once fleet_new() is through. What changes is each
 * node's status, under f->mutex, which is taken after an entry's lock and before a pool's mutex.
 */
#ifndef UPSTREAM_FLEET_NODES_H
#define UPSTREAM_FLEET_NODES_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <pthread.h>

#include "policy/policy.h"
#include "upstream/board.h"
#include "upstream/fleet.h"
#include "upstream/pool.h"

struct node {
	struct fleet *fleet;
	struct policy_route route;             /* what it is */
	struct board_entry *entry;
	uint32_t max;                          /* an upstream's max_connections; 0: no bound */
	struct board_watch watch;              /* of an upstream's entry */
	struct pool *pool;                     /* of a pool */
	struct tls_context *tls;               /* of a TLS upstream; one of f->contexts */
	struct pool_status status;
	uint32_t first_parent, n_parents;      /* in f->parents */
};

/* A pool or chain that leads to a node, as its member or hop. */
struct parent {
	struct node *node;
	uint32_t member;
};

struct shared_tls {
	const struct policy_tls *conf;
	struct tls_context *tls;
};

struct fleet {
	atomic_uint refs;
	struct policy *policy;
	struct board *board;
	pthread_mutex_t mutex;                 /* over all nodes' status */
	struct node *nodes;                    /* upstreams, pools, chains, in order; direct */
	size_t n_nodes;
	struct node *direct;
	struct parent *parents;
	size_t n_edges;
	struct shared_tls *contexts;
	size_t n_contexts;
};

struct node *fleet_node(const struct fleet *f, struct policy_route r);
/** Works the node's status out anew, and that of all that leads to it. No pool's mutex is held. */
void fleet_look_again(struct fleet *f, struct node *n);
/** Ejected upstreams whose time is over may have a trial. No lock is held. */
void fleet_revive(struct fleet *f);

#endif
