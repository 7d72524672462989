/*
 * udp_assembly: the reassembly queue of whoever sends datagrams in parts (RFC 1928 section 7): a client, or a hop that answers so.
 *
 * socks/udp_fragments decides; here is its memory, which is borrowed from the worker's pool while a sequence is under way and only
 * then, and the count of the parts that are lost. Where all of the parts' share is lent, somebody makes room: of the client with the most
 * sequences under way (of IPv6, all of a /64) the one that began first. So nobody keeps others out by what he never completes.
 *
 * Life: udp_assemblies_init, of a worker; udp_assembly_init -> udp_assembly_add * n -> udp_assembly_end.
 */
#ifndef ROUTER_UDP_ASSEMBLY_H
#define ROUTER_UDP_ASSEMBLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "base/list.h"
#include "router/udp_socket.h"
#include "socks/socks5.h"
#include "socks/udp_fragments.h"

enum { UDP_ASSEMBLY_CLIENTS = 1024 };

/* Those of one worker that have memory for a sequence that is not whole yet. */
struct udp_assemblies {
	struct udp_pool *pool;
	struct list under_way;                 /* which began first first */
	uint16_t of_client[UDP_ASSEMBLY_CLIENTS];      /* how many, by what is hashed of the address */
};

struct udp_assembly {
	struct udp_fragments fragments;
	struct udp_assemblies *all;
	struct list link;                      /* in all->under_way */
	uint16_t client;                       /* in all->of_client */
	unsigned n_evicted;                    /* parts that made room for others, and are not told yet */
};

void udp_assemblies_init(struct udp_assemblies *all, struct udp_pool *p);

/** client: in whose association it is. */
void udp_assembly_init(struct udp_assembly *a, struct udp_assemblies *all, const struct endpoint *client);

/**
 * Takes a part; header->frag is not 0. *lost grows by the parts that are given up, this one too where it is of no use.
 * @return true: all of it is there, until udp_assembly_end: udp_assembly_of, udp_assembly_bytes
 */
bool udp_assembly_add(struct udp_assembly *a, const struct socks5_udp *header, const uint8_t *payload, size_t len, uint64_t now_ms,
		      unsigned *lost) WARN_UNUSED;
const struct endpoint *udp_assembly_of(const struct udp_assembly *a);
const uint8_t *udp_assembly_bytes(const struct udp_assembly *a, size_t *len);

/**
 * Gives the sequence up, if there is one, and its memory back. Returns how many parts that nobody was told of are lost: those of a
 * sequence under way, not of what was whole, and those that made room for others.
 */
unsigned udp_assembly_end(struct udp_assembly *a);
/** The same where the time of the sequence is over; of another one, what it lost before. */
unsigned udp_assembly_expire(struct udp_assembly *a, uint64_t now_ms);

#endif
