/*
 * places: how the descriptors that the process may have are dealt out before it starts.
 *
 *   | open already | 2 for each session: the client's, the upstream's | pipes | beside |
 *
 * A quarter of what is left, or less where there are many, is for what is no session: half of it for the relays' pipes, two
 * descriptors each, half for look-ups, health checks, the API, a second address that is tried. Who gets no pipe copies; a session
 * without a descriptor would have to be refused.
 */
#ifndef ROUTER_PLACES_H
#define ROUTER_PLACES_H

enum { PLACES_BESIDE = 1024 };

struct places {
	unsigned sessions;                     /* at least one */
	unsigned pipes;                        /* of each worker */
};

struct places places_deal(unsigned all, unsigned used, unsigned n_workers);

#endif
