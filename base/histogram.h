/*
 * histogram: how long something took, in buckets that double. One writer, relaxed stores, like
 * base/counters.h; readers add up.
 *
 * Bucket i counts times under 2^i * 100 us; the last one also all above.
 */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

enum { HISTOGRAM_N = 20, HISTOGRAM_FIRST_US = 100 };

struct histogram {
	atomic_uint_least64_t counts[HISTOGRAM_N];
	atomic_uint_least64_t sum_us;
};

struct histogram_sums {
	uint64_t counts[HISTOGRAM_N];
	uint64_t sum_us;
};

/** Where bucket i ends. */
static inline uint64_t
histogram_end_us(unsigned i)
{
	return (uint64_t)HISTOGRAM_FIRST_US << i;
}

static inline void
histogram_bump(atomic_uint_least64_t *cell, uint64_t n)
{
	atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/** By the owner's thread only. */
static inline void
histogram_add(struct histogram *h, uint64_t us)
{
	unsigned i = 0;
	while (i < HISTOGRAM_N - 1 && us >= histogram_end_us(i))
		i++;
	histogram_bump(&h->counts[i], 1);
	histogram_bump(&h->sum_us, us);
}

/** Adds h to the sums. Any thread. */
static inline void
histogram_sum(const struct histogram *h, struct histogram_sums *out)
{
	for (unsigned i = 0; i < HISTOGRAM_N; i++)
		out->counts[i] += atomic_load_explicit(&h->counts[i], memory_order_relaxed);
	out->sum_us += atomic_load_explicit(&h->sum_us, memory_order_relaxed);
}

#endif
