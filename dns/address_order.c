/*
 * address_order: each address gets a rank, a few numbers compared in the order of the rules; equal
 * ones stay as they came.
 */
#include "dns/address_order.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SCOPE_LINK = 2, SCOPE_SITE = 5, SCOPE_GLOBAL = 14 };

/* RFC 6724 section 2.1, the default policy table; the longest prefix that matches counts. */
static const struct {
	uint8_t prefix[16];
	unsigned bits, precedence, label;
} table[] = {
	{ { [15] = 1 }, 128, 50, 0 },                                  /* ::1 */
	{ { [10] = 0xff, [11] = 0xff }, 96, 35, 4 },                   /* IPv4 */
	{ { 0 }, 96, 1, 3 },                                           /* IPv4-compatible */
	{ { 0x20, 0x01, 0, 0 }, 32, 5, 5 },                            /* Teredo */
	{ { 0x20, 0x02 }, 16, 30, 2 },                                 /* 6to4 */
	{ { 0x3f, 0xfe }, 16, 1, 12 },                                 /* 6bone */
	{ { 0xfe, 0xc0 }, 10, 1, 11 },                                 /* site-local */
	{ { 0xfc }, 7, 3, 13 },                                        /* unique local */
	{ { 0 }, 0, 40, 1 },
};

struct rank {
	bool unreachable, other_scope, other_label;
	unsigned precedence;
	unsigned scope;
};

static bool
has_prefix(const uint8_t *bytes, const uint8_t *prefix, unsigned bits)
{
	size_t whole = bits / 8;
	if (memcmp(bytes, prefix, whole) != 0)
		return false;
	unsigned rest = bits % 8;
	return rest == 0 || (bytes[whole] ^ prefix[whole]) >> (8 - rest) == 0;
}

static size_t
table_row(const struct dns_address *a)
{
	uint8_t bytes[16] = { [10] = 0xff, [11] = 0xff };
	size_t i = 0;
	if (a->kind == ENDPOINT_IPV4)
		memcpy(bytes + 12, a->bytes, 4);
	else
		memcpy(bytes, a->bytes, 16);
	while (!has_prefix(bytes, table[i].prefix, table[i].bits))
		i++;
	return i;
}

static bool
is_loopback(const struct dns_address *a)
{
	static const uint8_t one[16] = { [15] = 1 };
	if (a->kind == ENDPOINT_IPV4)
		return a->bytes[0] == 127;
	return memcmp(a->bytes, one, sizeof one) == 0;
}

/* RFC 6724 sections 3.1, 3.2 and 3.4. */
static unsigned
scope_of(const struct dns_address *a)
{
	const uint8_t *b = a->bytes;
	if (is_loopback(a))
		return SCOPE_LINK;
	if (a->kind == ENDPOINT_IPV4)
		return b[0] == 169 && b[1] == 254 ? SCOPE_LINK : SCOPE_GLOBAL;
	if (b[0] == 0xff)
		return b[1] & 0x0f;
	if (b[0] == 0xfe && (b[1] & 0xc0) == 0x80)
		return SCOPE_LINK;
	return b[0] == 0xfe && (b[1] & 0xc0) == 0xc0 ? SCOPE_SITE : SCOPE_GLOBAL;
}

/*
 * Has no route by way of the default one only: private (RFC 1918) or link-local IPv4. A narrower
 * route may be there.
 */
static bool
is_private_v4(const struct dns_address *a)
{
	const uint8_t *b = a->bytes;
	return b[0] == 10 || (b[0] == 172 && (b[1] & 0xf0) == 16) || (b[0] == 192 && b[1] == 168) ||
	       (b[0] == 169 && b[1] == 254);
}

static enum address_source
source_kind(const struct dns_address *a)
{
	if (a->kind == ENDPOINT_IPV4)
		return SOURCE_IPV4;
	return (a->bytes[0] & 0xfe) == 0xfc ? SOURCE_IPV6_LOCAL : SOURCE_IPV6;
}

/* What the kernel would most likely send from; NULL: nothing, or it can't be told. */
static const struct dns_address *
source_of(const struct address_sources *s, const struct dns_address *a)
{
	if (is_loopback(a))
		return a;
	if (a->kind == ENDPOINT_IPV6 && scope_of(a) == SCOPE_LINK)
		return NULL;                   /* an interface would have to be named */
	const struct dns_address *from = &s->from[source_kind(a)];
	return from->kind == ENDPOINT_NONE ? NULL : from;
}

bool
address_is_reachable(const struct address_sources *s, const struct dns_address *a)
{
	if (source_of(s, a) != NULL)
		return true;
	return a->kind == ENDPOINT_IPV4 && is_private_v4(a);
}

bool
address_is_wanted(enum dns_family family, const struct dns_address *a)
{
	if (family == DNS_IPV4_ONLY)
		return a->kind == ENDPOINT_IPV4;
	return family != DNS_IPV6_ONLY || a->kind == ENDPOINT_IPV6;
}

static struct rank
rank_of(const struct address_sources *s, const struct dns_address *a)
{
	const struct dns_address *from = source_of(s, a);
	size_t row = table_row(a);
	return (struct rank){
		.unreachable = !address_is_reachable(s, a),
		.other_scope = from != NULL && scope_of(from) != scope_of(a),
		.other_label = from != NULL && table[table_row(from)].label != table[row].label,
		.precedence = table[row].precedence,
		.scope = scope_of(a),
	};
}

static bool
rank_is_better(const struct rank *a, const struct rank *b)
{
	if (a->unreachable != b->unreachable)                  /* rule 1 */
		return b->unreachable;
	if (a->other_scope != b->other_scope)                  /* rule 2 */
		return b->other_scope;
	if (a->other_label != b->other_label)                  /* rule 5 */
		return b->other_label;
	if (a->precedence != b->precedence)                    /* rule 6 */
		return a->precedence > b->precedence;
	return a->scope < b->scope;                            /* rule 8 */
}

static bool
holds(const struct dns_address *addrs, size_t n, const struct dns_address *a)
{
	for (size_t i = 0; i < n; i++) {
		if (dns_address_equal(&addrs[i], a))
			return true;
	}
	return false;
}

/* Each is put in behind all that are not worse, so equal ones keep their order. */
static size_t
sort(const struct address_sources *s, enum dns_family family, struct dns_address *addrs, size_t n)
{
	struct rank ranks[ADDRESS_ORDER_MAX];
	size_t sorted = 0;

	for (size_t i = 0; i < n; i++) {
		struct dns_address a = addrs[i];
		if (!address_is_wanted(family, &a) || holds(addrs, sorted, &a))
			continue;
		struct rank rank = rank_of(s, &a);
		size_t at = sorted++;
		for (; at > 0 && rank_is_better(&rank, &ranks[at - 1]); at--) {
			addrs[at] = addrs[at - 1];
			ranks[at] = ranks[at - 1];
		}
		addrs[at] = a;
		ranks[at] = rank;
	}
	return sorted;
}

/* RFC 8305 section 4 with a First Address Family Count of 1. */
static void
interleave(uint8_t first, struct dns_address *addrs, size_t n)
{
	struct dns_address sorted[ADDRESS_ORDER_MAX];
	size_t next[2] = { 0, 0 };             /* of the first family, of the other */

	memcpy(sorted, addrs, n * sizeof *sorted);
	for (size_t i = 0, turn = 0; i < n; turn ^= 1) {
		size_t *at = &next[turn];
		while (*at < n && (sorted[*at].kind == first) != (turn == 0))
			++*at;
		if (*at < n)
			addrs[i++] = sorted[(*at)++];
	}
}

size_t
address_order(const struct address_sources *s, enum dns_family family, struct dns_address *addrs,
	      size_t n)
{
	assert(n <= ADDRESS_ORDER_MAX);
	n = sort(s, family, addrs, n);
	if (n == 0)
		return 0;
	uint8_t first = addrs[0].kind;
	if (family == DNS_IPV4)
		first = ENDPOINT_IPV4;
	else if (family == DNS_IPV6)
		first = ENDPOINT_IPV6;
	interleave(first, addrs, n);
	return n;
}

/* connect() of a UDP socket only looks up the route and chooses the source: nothing is sent. */
static struct dns_address
probe(const struct endpoint *to)
{
	struct dns_address from = { .kind = ENDPOINT_NONE };
	struct sockaddr_storage ss;
	struct endpoint local;
	socklen_t len = endpoint_to_sockaddr(to, &ss);
	int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return from;
	if (connect(fd, (struct sockaddr *)&ss, len) == 0) {
		len = sizeof ss;
		if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0) {
			endpoint_from_sockaddr(&local, (struct sockaddr *)&ss, len);
			if (endpoint_is_address(&local))
				from = dns_address_of(&local);
		}
	}
	close(fd);
	return from;
}

void
address_sources_refresh(struct address_sources *s, uint64_t now_ms)
{
	/*
	 * Documentation prefixes (RFC 5737, RFC 3849): only a default route leads there. fd00::/8
	 * for unique local ones.
	 */
	static const uint8_t v4[4] = { 192, 0, 2, 1 };
	static const uint8_t v6[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 1 };
	static const uint8_t v6_local[16] = { 0xfd, [15] = 1 };
	struct endpoint to;

	if (now_ms < s->next_probe_ms)
		return;
	s->next_probe_ms = now_ms + ADDRESS_SOURCES_MS;
	endpoint_set_ipv4(&to, v4, 53);
	s->from[SOURCE_IPV4] = probe(&to);
	endpoint_set_ipv6(&to, v6, 53);
	s->from[SOURCE_IPV6] = probe(&to);
	endpoint_set_ipv6(&to, v6_local, 53);
	s->from[SOURCE_IPV6_LOCAL] = probe(&to);
}
