/*
 * clock: reads the system's clocks, or the values that a test set. The fake values are atomics, as
 * workers read them too.
 */
#include "base/clock.h"

#include "base/base.h"
#include "base/text.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

static atomic_bool faked;
static atomic_uint_least64_t fake_monotonic_ms;
static atomic_int_least64_t fake_wall_ms;

static bool
is_faked(void)
{
	return atomic_load_explicit(&faked, memory_order_acquire);
}

static uint64_t
read_us(clockid_t which)
{
	struct timespec t;
	clock_gettime(which, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

uint64_t
clock_now_us(void)
{
	if (is_faked())
		return atomic_load_explicit(&fake_monotonic_ms, memory_order_relaxed) * 1000;
	return read_us(CLOCK_MONOTONIC);
}

uint64_t
clock_now_ms(void)
{
	uint64_t ms = clock_now_us() / 1000;
	return ms == 0 ? 1 : ms;
}

int64_t
clock_wall_ms(void)
{
	if (is_faked())
		return atomic_load_explicit(&fake_wall_ms, memory_order_relaxed);
	return (int64_t)(read_us(CLOCK_REALTIME) / 1000);
}

void
clock_fake(uint64_t monotonic_ms, int64_t wall_ms)
{
	atomic_store_explicit(&fake_monotonic_ms, monotonic_ms, memory_order_relaxed);
	atomic_store_explicit(&fake_wall_ms, wall_ms, memory_order_relaxed);
	atomic_store_explicit(&faked, true, memory_order_release);
}

void
clock_fake_stop(void)
{
	atomic_store_explicit(&faked, false, memory_order_release);
}

struct date {
	int64_t year;
	unsigned month, day;
};

/*
 * The Gregorian date of a day counted from 1970-01-01. Years are taken to begin in March, so that
 * the leap day is the last one of its year, and an era of 400 years always has 146097 days.
 * (gmtime_r would take the C library's lock for every log line.)
 */
static struct date
date_of_day(int64_t day)
{
	day += 719468;                         /* from 0000-03-01 */
	int64_t era = (day >= 0 ? day : day - 146096) / 146097;
	unsigned of_era = (unsigned)(day - era * 146097);
	unsigned year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	unsigned of_year = of_era - (365 * year + year / 4 - year / 100);
	unsigned month = (5 * of_year + 2) / 153;              /* 0 is March */
	return (struct date){
		.year = (int64_t)year + era * 400 + (month >= 10),
		.month = month < 10 ? month + 3 : month - 9,
		.day = of_year - (153 * month + 2) / 5 + 1,
	};
}

const char *
clock_to_text(int64_t wall_ms, char *out, size_t cap)
{
	const int64_t day_ms = 24 * 60 * 60 * 1000;
	int64_t day = (wall_ms >= 0 ? wall_ms : wall_ms - (day_ms - 1)) / day_ms;
	unsigned ms = (unsigned)(wall_ms - day * day_ms);
	struct date d = date_of_day(day);
	const struct { uint64_t value; unsigned digits; char before; } part[] = {
		{ d.month, 2, '-' }, { d.day, 2, '-' }, { ms / 3600000, 2, 'T' }, { ms / 60000 % 60, 2, ':' },
		{ ms / 1000 % 60, 2, ':' }, { ms % 1000, 3, '.' },
	};
	char all[64];
	size_t len = d.year < 0 ? 1 : 0;
	all[0] = '-';
	len += text_write_number(all + len, (uint64_t)(d.year < 0 ? -d.year : d.year), 4);
	for (size_t i = 0; i < ARRAY_LEN(part); i++) {
		all[len++] = part[i].before;
		len += text_write_number(all + len, part[i].value, part[i].digits);
	}
	all[len++] = 'Z';
	size_t n = len < cap ? len : cap - 1;
	memcpy(out, all, n);
	out[n] = '\0';
	return out;
}
