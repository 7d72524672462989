#include "router/udp_assembly.h"

#include "base/hash.h"

void
udp_assemblies_init(struct udp_assemblies *all, struct udp_pool *p)
{
	*all = (struct udp_assemblies){ .pool = p };
	list_init(&all->under_way);
}

/* A host of IPv6 has a whole /64 to speak from. */
static uint16_t
client_of(const struct endpoint *e)
{
	return (uint16_t)(hash_keyed(e->addr, e->kind == ENDPOINT_IPV6 ? 8 : 4) % UDP_ASSEMBLY_CLIENTS);
}

void
udp_assembly_init(struct udp_assembly *a, struct udp_assemblies *all, const struct endpoint *client)
{
	udp_fragments_init(&a->fragments, NULL, 0);
	a->all = all;
	list_init(&a->link);
	a->client = client_of(client);
	a->n_evicted = 0;
}

/* False: it is whole, or gone. */
static bool
is_under_way(const struct udp_assembly *a)
{
	return list_linked(&a->link);
}

static void
leave(struct udp_assembly *a)
{
	if (!is_under_way(a))
		return;
	list_remove(&a->link);
	a->all->of_client[a->client]--;
}

static void
begin(struct udp_assembly *a)
{
	leave(a);
	list_append(&a->all->under_way, &a->link);
	a->all->of_client[a->client]++;
}

static unsigned
give_up(struct udp_assembly *a)
{
	if (a->fragments.parts.data == NULL)
		return 0;
	unsigned n = is_under_way(a) ? udp_fragments_abandon(&a->fragments) : 0;
	leave(a);
	udp_block_give_back(&a->all->pool->parts, a->fragments.parts.data);
	udp_fragments_init(&a->fragments, NULL, 0);
	return n;
}

static unsigned
tell_evicted(struct udp_assembly *a)
{
	unsigned n = a->n_evicted;
	a->n_evicted = 0;
	return n;
}

unsigned
udp_assembly_end(struct udp_assembly *a)
{
	return give_up(a) + tell_evicted(a);
}

unsigned
udp_assembly_expire(struct udp_assembly *a, uint64_t now_ms)
{
	return udp_fragments_expired(&a->fragments, now_ms) ? udp_assembly_end(a) : tell_evicted(a);
}

/* False: there is nobody. They are few: each has memory for a whole datagram. */
static bool
evict_one(struct udp_assemblies *all)
{
	struct udp_assembly *worst = NULL;
	LIST_FOR_EACH (&all->under_way, node) {
		struct udp_assembly *a = LIST_OBJECT(node, struct udp_assembly, link);
		if (worst == NULL || all->of_client[a->client] > all->of_client[worst->client])
			worst = a;
	}
	if (worst != NULL)
		worst->n_evicted += give_up(worst);
	return worst != NULL;
}

static bool
have_memory(struct udp_assembly *a)
{
	struct udp_blocks *b = &a->all->pool->parts;
	if (a->fragments.parts.data != NULL)
		return true;
	uint8_t *memory = udp_block_take(b, UDP_PAYLOAD_MAX);
	if (memory == NULL && evict_one(a->all))
		memory = udp_block_take(b, UDP_PAYLOAD_MAX);
	if (memory == NULL)
		return false;
	udp_fragments_init(&a->fragments, memory, UDP_PAYLOAD_MAX);
	return true;
}

bool
udp_assembly_add(struct udp_assembly *a, const struct socks5_udp *header, const uint8_t *payload, size_t len, uint64_t now_ms,
		 unsigned *lost)
{
	unsigned given_up = 1;
	enum fragment_result r = FRAGMENT_DROPPED;
	if (have_memory(a))
		r = udp_fragments_add(&a->fragments, header->frag, &header->to, payload, len, now_ms, &given_up);
	*lost += given_up + tell_evicted(a);
	if (r == FRAGMENT_WHOLE)
		leave(a);
	else if (a->fragments.highest == 0)
		(void)give_up(a);
	else if (r == FRAGMENT_KEPT && a->fragments.highest == 1)
		begin(a);
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
