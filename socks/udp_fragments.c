/*
 * udp_fragments: see the header.
 */
#include "socks/udp_fragments.h"

void
udp_fragments_init(struct udp_fragments *f, void *memory, size_t cap)
{
	*f = (struct udp_fragments){ .highest = 0 };
	buffer_init(&f->parts, memory, cap);
}

unsigned
udp_fragments_abandon(struct udp_fragments *f)
{
	unsigned n = f->highest;
	f->highest = 0;
	buffer_init(&f->parts, f->parts.data, f->parts.cap);
	return n;
}

bool
udp_fragments_expired(const struct udp_fragments *f, uint64_t now_ms)
{
	return f->highest > 0 && now_ms - f->since_ms >= UDP_FRAGMENTS_MS;
}

/* Does the part go on with the sequence, or begin one? */
static bool
follows(const struct udp_fragments *f, uint8_t number, const struct endpoint *to)
{
	return number == f->highest + 1 && (number == 1 || endpoint_equal(&f->to, to));
}

enum fragment_result
udp_fragments_add(struct udp_fragments *f, uint8_t frag, const struct endpoint *to, const uint8_t *payload, size_t len,
		  uint64_t now_ms, unsigned *given_up)
{
	uint8_t number = frag & (UDP_FRAGMENTS_LAST - 1);
	*given_up = udp_fragments_expired(f, now_ms) ? udp_fragments_abandon(f) : 0;
	if (f->highest > 0 && number == f->highest && endpoint_equal(&f->to, to)) {
		(*given_up)++;
		return FRAGMENT_DROPPED;
	}
	if (!follows(f, number, to))
		*given_up += udp_fragments_abandon(f);
	if (!follows(f, number, to) || !buffer_append(&f->parts, payload, len)) {
		*given_up += udp_fragments_abandon(f) + 1;
		return FRAGMENT_DROPPED;
	}
	if (number == 1) {
		f->to = *to;
		f->since_ms = now_ms;
	}
	f->highest = number;
	return (frag & UDP_FRAGMENTS_LAST) != 0 ? FRAGMENT_WHOLE : FRAGMENT_KEPT;
}
