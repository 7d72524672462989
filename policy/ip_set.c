/*
 * ip_set: prefixes read from text, sorted lists of them, and big sets as sorted ranges; see the
 * header.
 */
#include "policy/ip_set.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- prefixes ---- */

static unsigned
width_of(uint8_t kind)
{
	return kind == ENDPOINT_IPV4 ? 32 : 128;
}

static void
mask(struct ip_prefix *p, unsigned bits)
{
	p->bits = (uint8_t)bits;
	for (unsigned i = 0; i < sizeof p->addr; i++) {
		unsigned keep = bits >= 8 * i + 8 ? 8 : bits > 8 * i ? bits - 8 * i : 0;
		p->addr[i] &= (uint8_t)(0xff00 >> keep);
	}
}

struct ip_prefix
ip_prefix_of(const struct endpoint *address, unsigned bits)
{
	struct ip_prefix p = { .kind = address->kind };
	assert(bits <= width_of(address->kind));
	memcpy(p.addr, address->addr, address->kind == ENDPOINT_IPV4 ? 4 : 16);
	mask(&p, bits);
	return p;
}

/* An address in full, as inet_pton(3) takes it; ipv6 says how it was written. */
static bool
read_address(struct endpoint *out, const char *text, size_t len, bool *ipv6)
{
	char z[INET6_ADDRSTRLEN];
	uint8_t addr[16];
	if (len >= sizeof z || memchr(text, '\0', len) != NULL)
		return false;
	memcpy(z, text, len);
	z[len] = '\0';
	*ipv6 = memchr(z, ':', len) != NULL;
	if (inet_pton(*ipv6 ? AF_INET6 : AF_INET, z, addr) != 1)
		return false;
	if (*ipv6)
		endpoint_set_ipv6(out, addr, 0);
	else
		endpoint_set_ipv4(out, addr, 0);
	return true;
}

/* A mapped address has become an IPv4 one; a prefix too short to keep it in ::ffff:0:0/96 is of
 * IPv6. */
static struct ip_prefix
mapped_prefix(const struct endpoint *address, unsigned bits)
{
	struct ip_prefix p = { .kind = ENDPOINT_IPV6 };
	if (bits >= 96)
		return ip_prefix_of(address, bits - 96);
	memset(p.addr + 10, 0xff, 2);
	memcpy(p.addr + 12, address->addr, 4);
	mask(&p, bits);
	return p;
}

/* Digits without a leading zero; over max: false. */
static bool
read_bits(const char *text, size_t len, unsigned max, unsigned *bits)
{
	unsigned v = 0;
	if (len == 0 || len > 3 || (len > 1 && text[0] == '0'))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		v = v * 10 + (unsigned)(text[i] - '0');
	}
	*bits = v;
	return v <= max;
}

const char *
ip_prefix_read(struct ip_prefix *out, const char *text, size_t len)
{
	struct endpoint address = { .kind = ENDPOINT_NONE };
	bool ipv6 = false;
	const char *slash = memchr(text, '/', len);
	size_t address_len = slash == NULL ? len : (size_t)(slash - text);
	if (!read_address(&address, text, address_len, &ipv6))
		return "not an IP address or a CIDR block";
	unsigned bits = ipv6 ? 128 : 32;
	if (slash != NULL && !read_bits(slash + 1, len - address_len - 1, bits, &bits))
		return ipv6 ? "a prefix length is a number from 0 to 128"
			    : "a prefix length is a number from 0 to 32";
	bool mapped = ipv6 && address.kind == ENDPOINT_IPV4;
	*out = mapped ? mapped_prefix(&address, bits) : ip_prefix_of(&address, bits);
	return NULL;
}

const char *
ip_prefix_to_text(const struct ip_prefix *p, char *out, size_t cap)
{
	char z[INET6_ADDRSTRLEN];
	inet_ntop(p->kind == ENDPOINT_IPV4 ? AF_INET : AF_INET6, p->addr, z, sizeof z);
	if (p->bits == width_of(p->kind))
		snprintf(out, cap, "%s", z);
	else
		snprintf(out, cap, "%s/%u", z, (unsigned)p->bits);
	return out;
}

/* By kind and address; of two that begin alike the wider one first. */
static int
compare_prefixes(const void *a, const void *b)
{
	const struct ip_prefix *x = a, *y = b;
	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	int order = memcmp(x->addr, y->addr, sizeof x->addr);
	return order != 0 ? order : (int)x->bits - (int)y->bits;
}

static bool
begins_with(const uint8_t *addr, const struct ip_prefix *p)
{
	size_t whole = p->bits / 8;
	unsigned rest = p->bits % 8;
	if (memcmp(addr, p->addr, whole) != 0)
		return false;
	return rest == 0 || ((addr[whole] ^ p->addr[whole]) & (uint8_t)(0xff00 >> rest)) == 0;
}

size_t
ip_prefixes_sort(struct ip_prefix *list, size_t n)
{
	size_t kept = 0;
	if (n > 1)
		qsort(list, n, sizeof *list, compare_prefixes);
	for (size_t i = 0; i < n; i++) {
		const struct ip_prefix *last = kept > 0 ? &list[kept - 1] : NULL;
		if (last == NULL || last->kind != list[i].kind || !begins_with(list[i].addr, last))
			list[kept++] = list[i];
	}
	return kept;
}

/* None lies within another, so only the last one that begins at or before the
 * address can hold it. */
bool
ip_prefixes_have(const struct ip_prefix *list, size_t n, const struct endpoint *address)
{
	if (!endpoint_is_address(address))
		return false;
	struct ip_prefix whole = ip_prefix_of(address, width_of(address->kind));
	size_t low = 0;
	while (n > 0) {
		size_t half = n / 2;
		if (compare_prefixes(&list[low + half], &whole) <= 0) {
			low += half + 1;
			n -= half + 1;
		} else {
			n = half;
		}
	}
	return low > 0 && list[low - 1].kind == address->kind &&
	       begins_with(whole.addr, &list[low - 1]);
}

/* ---- sets ---- */

struct range4 {
	uint32_t first, last;          /* both included */
};

struct number6 {
	uint64_t high, low;
};

struct range6 {
	struct number6 first, last;
};

struct ip_set {
	struct range4 *v4;
	struct range6 *v6;
	size_t n4, cap4, n6, cap6;
	size_t n_entries;
	bool sealed;
};

static uint32_t
number4(const uint8_t *addr)
{
	uint32_t v;
	memcpy(&v, addr, sizeof v);
	return ntohl(v);
}

static struct number6
number6(const uint8_t *addr)
{
	struct number6 v = { 0, 0 };
	for (size_t i = 0; i < 8; i++) {
		v.high = v.high << 8 | addr[i];
		v.low = v.low << 8 | addr[8 + i];
	}
	return v;
}

static int
compare6(struct number6 a, struct number6 b)
{
	if (a.high != b.high)
		return a.high < b.high ? -1 : 1;
	return a.low == b.low ? 0 : a.low < b.low ? -1 : 1;
}

struct ip_set *
ip_set_new(void)
{
	return calloc(1, sizeof(struct ip_set));
}

void
ip_set_free(struct ip_set *s)
{
	if (s == NULL)
		return;
	free(s->v4);
	free(s->v6);
	free(s);
}

/* The list with room for one more, or NULL: it stays as it was. */
static void *
grow(void *list, size_t n, size_t *cap, size_t size)
{
	if (n < *cap)
		return list;
	size_t wanted = *cap == 0 ? 16 : *cap * 2;
	void *grown = reallocarray(list, wanted, size);
	if (grown != NULL)
		*cap = wanted;
	return grown;
}

static bool
add4(struct ip_set *s, const struct ip_prefix *p)
{
	struct range4 *list = grow(s->v4, s->n4, &s->cap4, sizeof *list);
	if (list == NULL)
		return false;
	s->v4 = list;
	uint32_t first = number4(p->addr);
	uint32_t behind = p->bits == 32 ? 0 : UINT32_MAX >> p->bits;
	list[s->n4++] = (struct range4){ first, first | behind };
	return true;
}

static bool
add6(struct ip_set *s, const struct ip_prefix *p)
{
	struct range6 *list = grow(s->v6, s->n6, &s->cap6, sizeof *list);
	if (list == NULL)
		return false;
	s->v6 = list;
	struct number6 first = number6(p->addr), last = first;
	if (p->bits < 64)
		last.high |= UINT64_MAX >> p->bits;
	if (p->bits <= 64)
		last.low = UINT64_MAX;
	else if (p->bits < 128)
		last.low |= UINT64_MAX >> (p->bits - 64);
	list[s->n6++] = (struct range6){ first, last };
	return true;
}

const char *
ip_set_add_value(struct ip_set *s, const char *text, size_t len)
{
	struct ip_prefix p;
	assert(!s->sealed);
	const char *why = ip_prefix_read(&p, text, len);
	if (why != NULL)
		return why;
	if (!(p.kind == ENDPOINT_IPV4 ? add4(s, &p) : add6(s, &p)))
		return "no memory for this many addresses";
	s->n_entries++;
	return NULL;
}

static const char *
on_line(void *arg, const char *text, size_t len)
{
	return ip_set_add_value(arg, text, len);
}

bool
ip_set_add_file(struct ip_set *s, const char *path, set_report_fn *report, void *arg)
{
	return set_file_read(path, on_line, s, report, arg);
}

static int
compare_ranges4(const void *a, const void *b)
{
	const struct range4 *x = a, *y = b;
	return x->first == y->first ? 0 : x->first < y->first ? -1 : 1;
}

static int
compare_ranges6(const void *a, const void *b)
{
	const struct range6 *x = a, *y = b;
	return compare6(x->first, y->first);
}

/* Joins ranges that overlap. (Those that only touch stay apart: joining them saves little.) */
static size_t
join4(struct range4 *list, size_t n)
{
	size_t kept = 0;
	for (size_t i = 0; i < n; i++) {
		if (kept == 0 || list[i].first > list[kept - 1].last)
			list[kept++] = list[i];
		else if (list[i].last > list[kept - 1].last)
			list[kept - 1].last = list[i].last;
	}
	return kept;
}

static size_t
join6(struct range6 *list, size_t n)
{
	size_t kept = 0;
	for (size_t i = 0; i < n; i++) {
		if (kept == 0 || compare6(list[i].first, list[kept - 1].last) > 0)
			list[kept++] = list[i];
		else if (compare6(list[i].last, list[kept - 1].last) > 0)
			list[kept - 1].last = list[i].last;
	}
	return kept;
}

/* Gives back what a list has over; without memory it stays as it is. */
static void *
fit(void *list, size_t n, size_t *cap, size_t size)
{
	void *fitting = n == 0 || n == *cap ? NULL : reallocarray(list, n, size);
	if (fitting == NULL)
		return list;
	*cap = n;
	return fitting;
}

void
ip_set_seal(struct ip_set *s)
{
	assert(!s->sealed);
	s->sealed = true;
	if (s->n4 > 1)
		qsort(s->v4, s->n4, sizeof *s->v4, compare_ranges4);
	if (s->n6 > 1)
		qsort(s->v6, s->n6, sizeof *s->v6, compare_ranges6);
	s->n4 = join4(s->v4, s->n4);
	s->n6 = join6(s->v6, s->n6);
	s->v4 = fit(s->v4, s->n4, &s->cap4, sizeof *s->v4);
	s->v6 = fit(s->v6, s->n6, &s->cap6, sizeof *s->v6);
}

/* The last range that begins at or before the address is the only one that can hold it. */
static bool
has4(const struct range4 *list, size_t n, uint32_t v)
{
	const struct range4 *base = list;
	for (; n > 1; n -= n / 2)
		base += base[n / 2].first <= v ? n / 2 : 0;
	return n == 1 && base->first <= v && v <= base->last;
}

static bool
has6(const struct range6 *list, size_t n, struct number6 v)
{
	const struct range6 *base = list;
	for (; n > 1; n -= n / 2)
		base += compare6(base[n / 2].first, v) <= 0 ? n / 2 : 0;
	return n == 1 && compare6(base->first, v) <= 0 && compare6(v, base->last) <= 0;
}

bool
ip_set_has(const struct ip_set *s, const struct endpoint *address)
{
	assert(s->sealed);
	if (address->kind == ENDPOINT_IPV4)
		return has4(s->v4, s->n4, number4(address->addr));
	return address->kind == ENDPOINT_IPV6 && has6(s->v6, s->n6, number6(address->addr));
}

size_t
ip_set_count(const struct ip_set *s)
{
	return s->n_entries;
}

size_t
ip_set_bytes(const struct ip_set *s)
{
	return sizeof *s + s->cap4 * sizeof *s->v4 + s->cap6 * sizeof *s->v6;
}
