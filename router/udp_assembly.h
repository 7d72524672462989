/*
 * udp_assembly: the reassembly queue of whoever sends datagrams in parts (RFC 1928 section 7): a client, or a hop that answers so.
 *
 * socks/udp_fragments decides; here is its memory, which is borrowed from the worker's pool while a sequence is under way and only
 * then, and the count of the parts that are lost.
 * Life: udp_assembly_init -> udp_assembly_add * n -> udp_assembly_end.
 */
#ifndef ROUTER_UDP_ASSEMBLY_H
#define ROUTER_UDP_ASSEMBLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "router/udp_socket.h"
#include "socks/socks5.h"
#include "socks/udp_fragments.h"

struct udp_assembly {
	struct udp_fragments fragments;
};

void udp_assembly_init(struct udp_assembly *a);

/**
 * Takes a part; header->frag is not 0. *lost grows by the parts that are given up, this one too where it is of no use.
 * @return true: all of it is there, until udp_assembly_end: udp_assembly_of, udp_assembly_bytes
 */
bool udp_assembly_add(struct udp_assembly *a, struct udp_pool *p, const struct socks5_udp *header, const uint8_t *payload, size_t len,
		      uint64_t now_ms, unsigned *lost) WARN_UNUSED;
const struct endpoint *udp_assembly_of(const struct udp_assembly *a);
const uint8_t *udp_assembly_bytes(const struct udp_assembly *a, size_t *len);

/** Gives the sequence up, if there is one, and its memory back. Returns how many parts it had. */
unsigned udp_assembly_end(struct udp_assembly *a, struct udp_pool *p);
/** The same of a sequence whose time is over. */
unsigned udp_assembly_expire(struct udp_assembly *a, struct udp_pool *p, uint64_t now_ms);

#endif
