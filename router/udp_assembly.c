#include "router/udp_assembly.h"

void
udp_assembly_init(struct udp_assembly *a)
{
	udp_fragments_init(&a->fragments, NULL, 0);
}

unsigned
udp_assembly_end(struct udp_assembly *a, struct udp_pool *p)
{
	if (a->fragments.parts.data == NULL)
		return 0;
	unsigned n = udp_fragments_abandon(&a->fragments);
	udp_block_give_back(p, a->fragments.parts.data);
	udp_fragments_init(&a->fragments, NULL, 0);
	return n;
}

unsigned
udp_assembly_expire(struct udp_assembly *a, struct udp_pool *p, uint64_t now_ms)
{
	return udp_fragments_expired(&a->fragments, now_ms) ? udp_assembly_end(a, p) : 0;
}

static bool
have_memory(struct udp_assembly *a, struct udp_pool *p)
{
	if (a->fragments.parts.data != NULL)
		return true;
	uint8_t *memory = udp_block_take(p, UDP_PAYLOAD_MAX);
	if (memory == NULL)
		return false;
	udp_fragments_init(&a->fragments, memory, UDP_PAYLOAD_MAX);
	return true;
}

bool
udp_assembly_add(struct udp_assembly *a, struct udp_pool *p, const struct socks5_udp *header, const uint8_t *payload, size_t len,
		 uint64_t now_ms, unsigned *lost)
{
	unsigned given_up = 1;
	enum fragment_result r = FRAGMENT_DROPPED;
	if (have_memory(a, p))
		r = udp_fragments_add(&a->fragments, header->frag, &header->to, payload, len, now_ms, &given_up);
	*lost += given_up;
	if (r != FRAGMENT_WHOLE && a->fragments.highest == 0)
		(void)udp_assembly_end(a, p);
	return r == FRAGMENT_WHOLE;
}

const struct endpoint *
udp_assembly_of(const struct udp_assembly *a)
{
	return &a->fragments.to;
}

const uint8_t *
udp_assembly_bytes(const struct udp_assembly *a, size_t *len)
{
	*len = buffer_len(&a->fragments.parts);
	return buffer_bytes(&a->fragments.parts);
}
