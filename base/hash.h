/*
 * hash: keyed and plain hashing of short byte strings.
 *
 * hash_keyed is SipHash-2-4 (Aumasson and Bernstein, 2012) under a key of this process, for tables
 * whose keys strangers choose. hash_stable has no secret and gives the same value on every machine
 * and release, for choices that a fleet must share.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/** Fills the process key from the system's random source; once, before threads. */
void hash_start(void);
uint64_t hash_keyed(const void *bytes, size_t len);
uint64_t hash_keyed_with(const uint8_t key[16], const void *bytes, size_t len);
uint64_t hash_stable(const void *bytes, size_t len, uint64_t seed);

/** Not for secrets: a fast generator for choices and jitter, one state per thread. */
struct random {
	uint64_t s[4];
};
void random_seed(struct random *r, uint64_t seed);       /* 0: from the system's random source */
/** For tests: from now on 0 stands for this seed, so that chance is the same in every run. 0: for what it stood. */
void random_fake(uint64_t seed);
uint64_t random_next(struct random *r);
/** Evenly in [0, n); n > 0. */
uint32_t random_below(struct random *r, uint32_t n);

#endif
