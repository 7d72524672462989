/*
 * port_rest: where no local port was free a moment ago (connect(2): EADDRNOTAVAIL).
 *
 * There are some 28k ports towards each address and port. Once they are all in use connect(2) looks at every one of them in vain,
 * which takes milliseconds of a loop: so it is not asked again for PORT_REST_MS, and whoever wants to go there is told the same at
 * once. What is known is the last PORT_REST_PLACES of such ways: address, port, and the line that leads there.
 *
 * Life: zeroed. One thread.
 */
#ifndef UPSTREAM_PORT_REST_H
#define UPSTREAM_PORT_REST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <net/if.h>

struct connect_plan;
struct endpoint;

enum { PORT_REST_MS = 100, PORT_REST_PLACES = 32, PORT_REST_WARN_MS = 60000 };

struct port_way {
	uint8_t to[16], from[16];
	uint16_t port;
	uint8_t to_kind, from_kind;            /* enum endpoint_kind */
	uint32_t mark;
	char interface[IF_NAMESIZE];
};

struct port_rest {
	struct { struct port_way way; uint64_t until_ms; } places[PORT_REST_PLACES];
	unsigned next;                         /* the place that is taken next */
	uint64_t until_ms;                     /* of the one noted last: after it none rests */
	uint64_t warned_ms;                    /* 0: never */
};

/** No port was free for `to` by the plan's line. */
void port_rest_note(struct port_rest *r, const struct connect_plan *plan, const struct endpoint *to, uint64_t now_ms);
/** Tells people, once in PORT_REST_WARN_MS. Not where a stranger chose the destination: one may name what no address of ours reaches. */
void port_rest_warn(struct port_rest *r, const char *upstream, uint64_t now_ms);
/** Was that so a moment ago? r: NULL is fine. */
bool port_rests(const struct port_rest *r, const struct connect_plan *plan, const struct endpoint *to, uint64_t now_ms);

#endif
