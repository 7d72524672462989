/*
 * hash: SipHash-2-4, keyed by the process or by the caller, and a small generator (xoshiro256**,
 * Blackman and Vigna, 2018).
 *
 * The process key is written once by hash_start, before there are threads, and only read from then
 * on.
 */
#include "base/hash.h"

#include <assert.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint64_t process_key[2];

static uint64_t
rotate(uint64_t v, unsigned bits)
{
	return v << bits | v >> (64 - bits);
}

/* Little endian on every machine, so that the values travel. */
static uint64_t
load_word(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof v);
	return le64toh(v);
}

static uint64_t
load_rest(const uint8_t *p, size_t n)
{
	uint64_t v = 0;
	for (size_t i = 0; i < n; i++)
		v |= (uint64_t)p[i] << 8 * i;
	return v;
}

struct sip {
	uint64_t v0, v1, v2, v3;
};

static inline void
sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v2 += s->v3;
	s->v1 = rotate(s->v1, 13) ^ s->v0;
	s->v3 = rotate(s->v3, 16) ^ s->v2;
	s->v0 = rotate(s->v0, 32);
	s->v2 += s->v1;
	s->v0 += s->v3;
	s->v1 = rotate(s->v1, 17) ^ s->v2;
	s->v3 = rotate(s->v3, 21) ^ s->v0;
	s->v2 = rotate(s->v2, 32);
}

static inline void
sip_absorb(struct sip *s, uint64_t word)
{
	s->v3 ^= word;
	sip_round(s);
	sip_round(s);
	s->v0 ^= word;
}

static uint64_t
siphash(uint64_t k0, uint64_t k1, const uint8_t *p, size_t len)
{
	struct sip s = {
		k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d,
		k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573
	};
	uint64_t last = (uint64_t)len << 56;
	for (; len >= 8; p += 8, len -= 8)
		sip_absorb(&s, load_word(p));
	sip_absorb(&s, last | load_rest(p, len));
	s.v2 ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

/*
 * A machine without random bytes is none that secrets can be kept on: there is nothing sensible to
 * go on with.
 */
static void
fill_random(void *out, size_t len)
{
	if (getentropy(out, len) != 0)
		abort();
}

void
hash_start(void)
{
	fill_random(process_key, sizeof process_key);
}

uint64_t
hash_keyed(const void *bytes, size_t len)
{
	return siphash(process_key[0], process_key[1], bytes, len);
}

uint64_t
hash_keyed_with(const uint8_t key[16], const void *bytes, size_t len)
{
	return siphash(load_word(key), load_word(key + 8), bytes, len);
}

uint64_t
hash_stable(const void *bytes, size_t len, uint64_t seed)
{
	return siphash(seed, 0, bytes, len);
}

/* Spreads one word over the state (splitmix64), which must not be all zero. */
static uint64_t fake_seed;

void
random_fake(uint64_t seed)
{
	fake_seed = seed;
}

void
random_seed(struct random *r, uint64_t seed)
{
	if (seed == 0)
		seed = fake_seed;
	while (seed == 0)
		fill_random(&seed, sizeof seed);
	for (size_t i = 0; i < 4; i++) {
		seed += 0x9e3779b97f4a7c15;
		uint64_t z = seed;
		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
		z = (z ^ z >> 27) * 0x94d049bb133111eb;
		r->s[i] = z ^ z >> 31;
	}
}

uint64_t
random_next(struct random *r)
{
	uint64_t *s = r->s;
	uint64_t result = rotate(s[1] * 5, 7) * 9;
	uint64_t t = s[1] << 17;
	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate(s[3], 45);
	return result;
}

/*
 * The high word of a 32 x 32 product (Lemire, 2019); the few products that would favour some
 * results are drawn again.
 */
uint32_t
random_below(struct random *r, uint32_t n)
{
	assert(n > 0);
	uint64_t product = (random_next(r) >> 32) * n;
	if ((uint32_t)product < n) {
		uint32_t uneven = (uint32_t)-n % n;
		while ((uint32_t)product < uneven)
			product = (random_next(r) >> 32) * n;
	}
	return (uint32_t)(product >> 32);
}
