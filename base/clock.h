/*
 * clock: the time, monotonic for deadlines and on the wall for people. Tests may stand in for both.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/** Monotonic milliseconds; never 0. */
uint64_t clock_now_ms(void);
/** Monotonic microseconds, for measuring. */
uint64_t clock_now_us(void);
/** Wall clock, milliseconds since 1970. */
int64_t clock_wall_ms(void);

/**
 * From now on both clocks stand at these values until told again; clock_fake_stop() lets them run.
 * Tests only.
 */
void clock_fake(uint64_t monotonic_ms, int64_t wall_ms);
void clock_fake_stop(void);

/**
 * Writes RFC 3339 in UTC with milliseconds ("2026-01-02T03:04:05.678Z"); cap >= 25. Returns out.
 */
const char *clock_to_text(int64_t wall_ms, char *out, size_t cap);

#endif
