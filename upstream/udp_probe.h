/*
 * udp_probe: does a datagram get to a destination and an answer back, through associations along a fixed path of SOCKS5 hops?
 *
 * Each hop's association is asked for on a connection of its own, through the hops before it; the datagram has a header for each hop.
 * It is sent again every UDP_PROBE_AGAIN_MS until an answer comes. To port 53 it is a question for the root's name servers, so that a
 * name server answers; else it is text, and only an echo does.
 * Life: udp_probe_start -> callback once, or udp_probe_cancel; the handle ends with either. One thread.
 */
#ifndef UPSTREAM_UDP_PROBE_H
#define UPSTREAM_UDP_PROBE_H

#include <stdint.h>

#include "base/base.h"
#include "base/endpoint.h"
#include "upstream/dialer.h"

struct loop;
struct udp_probe;

enum { UDP_PROBE_WAIT_MS = 1500, UDP_PROBE_AGAIN_MS = 500 };

enum udp_probe_end {
	UDP_PROBE_ANSWERED,
	UDP_PROBE_SILENT,      /* the associations stand, nothing came back */
	UDP_PROBE_FAILED,      /* one could not be had */
};

struct udp_probe_result {
	enum udp_probe_end end;
	const struct dial_result *dial;        /* FAILED: of the hop that did; NULL: no socket could be had here */
	struct endpoint sender;                /* ANSWERED: as the last hop says */
};

/* From the loop, never from inside udp_probe_start. */
typedef void udp_probe_cb(const struct udp_probe_result *r, void *arg);

struct udp_probe_plan {
	struct fleet *fleet;           /* must outlive it */
	const struct path *path;       /* copied */
	const struct endpoint *to;     /* copied */
	uint64_t timeout_ms;           /* of each dial */
};

/** NULL: out of memory. */
struct udp_probe *udp_probe_start(struct loop *l, struct dialer *d, const struct udp_probe_plan *plan, udp_probe_cb *cb,
				  void *arg) WARN_UNUSED;
void udp_probe_cancel(struct udp_probe *p);    /* NULL is fine */

#endif
