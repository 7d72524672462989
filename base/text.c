/*
 * text: readers and writers of what people type. Pure; nothing depends on the locale.
 */
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct unit {
	const char *name;
	uint64_t factor;
};

bool
text_read_number(const char *text, size_t len, uint64_t max, uint64_t *value)
{
	uint64_t v = 0;
	if (len == 0)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		uint64_t digit = (uint64_t)(text[i] - '0');
		if (digit > max || v > (max - digit) / 10)
			return false;
		v = v * 10 + digit;
	}
	*value = v;
	return true;
}

/* Digits, then one of the units; at most max in all. */
static bool
read_with_unit(const char *text, size_t len, const struct unit *units, size_t n, uint64_t max,
    uint64_t *value)
{
	size_t digits = 0;
	while (digits < len && text[digits] >= '0' && text[digits] <= '9')
		digits++;
	for (size_t i = 0; i < n; i++) {
		uint64_t v;
		if (len - digits != strlen(units[i].name) ||
		    memcmp(text + digits, units[i].name, len - digits) != 0)
			continue;
		if (!text_read_number(text, digits, max / units[i].factor, &v))
			return false;
		*value = v * units[i].factor;
		return true;
	}
	return false;
}

bool
text_read_duration(const char *text, size_t len, uint64_t *ms)
{
	static const struct unit units[] = {
		{ "ms", 1 }, { "s", 1000 }, { "m", 60 * 1000 }, { "h", 60 * 60 * 1000 }
	};
	const uint64_t max = 1000ull * 60 * 60 * 1000;
	return read_with_unit(text, len, units, ARRAY_LEN(units), max, ms);
}

bool
text_read_size(const char *text, size_t len, uint64_t *bytes)
{
	static const struct unit units[] = {
		{ "B", 1 }, { "KiB", 1ull << 10 }, { "MiB", 1ull << 20 }, { "GiB", 1ull << 30 }
	};
	return read_with_unit(text, len, units, ARRAY_LEN(units), 1ull << 60, bytes);
}

static unsigned
min_of(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

enum { DISTANCE_MAX_LEN = 64 };

unsigned
text_distance(const char *a, const char *b, unsigned limit)
{
	/* cost[i % 3][j]: from i bytes of a to j bytes of b; a swap looks two rows back. */
	unsigned cost[3][DISTANCE_MAX_LEN + 1];
	size_t a_len = strnlen(a, DISTANCE_MAX_LEN + 1), b_len = strnlen(b, DISTANCE_MAX_LEN + 1);
	if (a_len > DISTANCE_MAX_LEN || b_len > DISTANCE_MAX_LEN)
		return limit + 1;
	for (size_t j = 0; j <= b_len; j++)
		cost[0][j] = (unsigned)j;
	unsigned last_least = 0;
	for (size_t i = 1; i <= a_len; i++) {
		const unsigned *above = cost[(i - 1) % 3], *swapped = cost[(i + 1) % 3];
		unsigned *row = cost[i % 3];
		unsigned least = row[0] = (unsigned)i;
		for (size_t j = 1; j <= b_len; j++) {
			unsigned differ = a[i - 1] != b[j - 1];
			row[j] = min_of(above[j - 1] + differ, min_of(above[j], row[j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				row[j] = min_of(row[j], swapped[j - 2] + 1);
			least = min_of(least, row[j]);
		}
		/* A swap skips one row: only two rows over the limit settle it. */
		if (least > limit && last_least > limit)
			return limit + 1;
		last_least = least;
	}
	return min_of(cost[a_len % 3][b_len], limit + 1);
}

const char *
text_nearest(const char *name, const char *const *candidates, size_t n)
{
	const char *nearest = NULL;
	unsigned limit = min_of(1 + (unsigned)(strnlen(name, DISTANCE_MAX_LEN) / 4), 3);
	for (size_t i = 0; i < n; i++) {
		unsigned distance = text_distance(name, candidates[i], limit);
		if (distance > limit)
			continue;
		nearest = candidates[i];
		if (distance == 0)
			break;
		limit = distance - 1;              /* only a nearer one counts from here */
	}
	return nearest;
}

void
text_append(char *out, size_t cap, size_t *len, const char *fmt, ...)
{
	if (*len >= cap)
		return;
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(out + *len, cap - *len, fmt, args);
	va_end(args);
	if (n > 0)
		*len = (size_t)n < cap - *len ? *len + (size_t)n : cap - 1;
}

static const char two_digits[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748"
    "49505152535455565758596061626364656667686970717273747576777879808182838485868788899091929394959697"
    "9899";

/* From the bits of a number, as one bit is 0.30103 = 1233/4096 digits, or one less: the comparison tells. */
static unsigned
count_digits(uint64_t value)
{
	static const uint64_t powers[] = {
		0, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000, 10000000000,
		100000000000, 1000000000000, 10000000000000, 100000000000000, 1000000000000000, 10000000000000000,
		100000000000000000, 1000000000000000000, UINT64_C(10000000000000000000)
	};
	unsigned bits = 64 - (unsigned)__builtin_clzll(value | 1), n = bits * 1233 >> 12;
	return n + (value >= powers[n]);
}

size_t
text_write_number(char *out, uint64_t value, unsigned digits)
{
	if (value < 10 && digits <= 1) {
		*out = (char)('0' + value);
		return 1;
	}
	unsigned n = count_digits(value), at = n = n > digits ? n : digits;
	for (; value > 9; value /= 100)
		memcpy(out + (at -= 2), two_digits + value % 100 * 2, 2);
	while (at > 0) {
		out[--at] = (char)('0' + value);
		value = 0;
	}
	return n;
}

size_t
text_write_ms(char *out, uint64_t us)
{
	unsigned rest = (unsigned)(us % 1000);
	size_t n = text_write_number(out, us / 1000, 1);
	out[n] = '.';
	out[n + 1] = (char)('0' + rest / 100);
	memcpy(out + n + 2, two_digits + rest % 100 * 2, 2);
	return n + 4;
}

void
text_copy(char *out, size_t cap, const char *text)
{
	size_t n = text == NULL || *text == '\0' ? 0 : strnlen(text, cap - 1);
	if (n > 0)
		memcpy(out, text, n);
	out[n] = '\0';
}

void
text_append_string(char *out, size_t cap, size_t *len, const char *text)
{
	size_t at = *len;
	while (*text != '\0' && at < cap - 1)
		out[at++] = *text++;
	out[at] = '\0';
	*len = at;
}
