/*
 * udp_fragments: the one reassembly queue of a UDP association (RFC 1928 section 7).
 *
 * Parts of a sequence carry 1, 2, 3, ... in FRAG, the last one with the high bit set, all for one destination. What makes no sense
 * gives the whole sequence up: a number that was passed over or comes again behind a higher one, another destination, more bytes
 * than there is room for, UDP_FRAGMENTS_MS since the first part. So does a whole datagram in between, whose 0 is less than any
 * number. The last part alone may be repeated, as the network does that by itself; the copy is dropped.
 *
 * Pure: the memory is the caller's, and so is the time.
 * Life: udp_fragments_init -> udp_fragments_add * n; after WHOLE take the bytes, then udp_fragments_abandon.
 */
#ifndef SOCKS_UDP_FRAGMENTS_H
#define SOCKS_UDP_FRAGMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "base/buffer.h"
#include "base/endpoint.h"

enum { UDP_FRAGMENTS_MS = 5000, UDP_FRAGMENTS_LAST = 0x80 };

struct udp_fragments {
	struct buffer parts;           /* payloads, one behind the other */
	struct endpoint to;
	uint64_t since_ms;             /* when the first part came */
	uint8_t highest;               /* number of the last part that came; 0: no sequence */
};

enum fragment_result {
	FRAGMENT_KEPT,                 /* more must come */
	FRAGMENT_WHOLE,                /* `parts` is the datagram for `to` */
	FRAGMENT_DROPPED,              /* this part is of no use, nor, where `highest` is 0, are those before it */
};

/** memory: cap bytes at most make a datagram; NULL and 0: nothing is taken. */
void udp_fragments_init(struct udp_fragments *f, void *memory, size_t cap);
/**
 * frag: not 0. *given_up: parts that are lost with this call, this one included.
 */
enum fragment_result udp_fragments_add(struct udp_fragments *f, uint8_t frag, const struct endpoint *to, const uint8_t *payload,
				       size_t len, uint64_t now_ms, unsigned *given_up) WARN_UNUSED;
/** Is there a sequence whose time is over? */
bool udp_fragments_expired(const struct udp_fragments *f, uint64_t now_ms);
/** Forgets the sequence. Returns how many parts it had. */
unsigned udp_fragments_abandon(struct udp_fragments *f);

#endif
