/*
 * udp_targets: the destinations of one association: what policy says of each, where datagrams for it go, and the addresses of names.
 *
 * Found by hash of the destination as the client writes it. At most UDP_TARGETS_MAX; the one that was used longest ago makes room. A
 * name is looked up once, whatever ports are asked for under it, as long as a destination with it is remembered.
 *
 * An address that datagrams were sent to is `spoken`: its answers are welcome, though a rule may reject it as a destination (it
 * was reached by a name that no rule rejects).
 */
#ifndef ROUTER_UDP_TARGETS_H
#define ROUTER_UDP_TARGETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/endpoint.h"
#include "base/list.h"
#include "dns/resolver.h"
#include "policy/policy.h"
#include "router/udp_way.h"

enum { UDP_TARGETS_MAX = 512, UDP_TARGET_BUCKETS = 256, UDP_NAME_ADDRS_MAX = 8 };

struct udp_targets;

enum udp_name_state { UDP_NAME_NEW, UDP_NAME_ASKED, UDP_NAME_KNOWN, UDP_NAME_FAILED };

struct udp_name {
	struct list link;
	struct udp_targets *targets;
	unsigned n_users;
	enum udp_name_state state;
	struct resolve *resolve;
	size_t n_addrs;
	struct endpoint addrs[UDP_NAME_ADDRS_MAX];     /* port 0 */
	char text[];
};

enum udp_target_state {
	UDP_TARGET_NEW,        /* policy has not been asked, or wants addresses */
	UDP_TARGET_ROUTED,     /* way is known, aim is not */
	UDP_TARGET_READY,
	UDP_TARGET_REJECTED,
};

struct udp_target {
	struct list link;              /* by last use */
	struct udp_target *next;       /* in its bucket */
	enum udp_target_state state;
	struct udp_way *way;           /* ROUTED, READY */
	struct udp_name *name;         /* of one that is a name */
	struct udp_aim aim;            /* READY */
	unsigned n_held;               /* datagrams that wait; it can't be forgotten then */
	bool spoken;
	uint32_t bucket;
	struct endpoint to;
};

struct udp_targets {
	struct resolver *resolver;
	struct list all, names;
	unsigned n;
	struct udp_target *last;       /* found last */
	void (*on_name)(struct udp_name *name, void *arg);     /* KNOWN or FAILED now; from the loop */
	void *arg;
	struct udp_target *buckets[UDP_TARGET_BUCKETS];
};

void udp_targets_init(struct udp_targets *t, struct resolver *r, void (*on_name)(struct udp_name *name, void *arg), void *arg);
void udp_targets_free(struct udp_targets *t);

/** NULL: not remembered. */
struct udp_target *udp_targets_find(struct udp_targets *t, const struct endpoint *to);
/** The same, remembered from now on. NULL: out of memory, or datagrams wait for all of them. */
struct udp_target *udp_targets_take(struct udp_targets *t, const struct endpoint *to);
/** Looks the target's name up, if that is not done or under way. False: out of memory. */
bool udp_target_look_up(struct udp_targets *t, struct udp_target *x, uint64_t timeout_ms) WARN_UNUSED;

#endif
