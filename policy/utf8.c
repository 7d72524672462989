/*
 * utf8: see utf8.h. The ranges of the second byte are those of RFC 3629 section 4.
 */
#include "policy/utf8.h"

#include <stdbool.h>

#include "base/base.h"

size_t
utf8_length(const char *text, size_t len)
{
	static const struct {
		uint8_t first, last; /* of the leading byte */
		uint8_t low, high;   /* of the second one */
		uint8_t n;
	} forms[] = {
		{ 0xc2, 0xdf, 0x80, 0xbf, 2 },
		{ 0xe0, 0xe0, 0xa0, 0xbf, 3 },
		{ 0xe1, 0xec, 0x80, 0xbf, 3 },
		{ 0xed, 0xed, 0x80, 0x9f, 3 },
		{ 0xee, 0xef, 0x80, 0xbf, 3 },
		{ 0xf0, 0xf0, 0x90, 0xbf, 4 },
		{ 0xf1, 0xf3, 0x80, 0xbf, 4 },
		{ 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};
	const uint8_t *b = (const uint8_t *)text;
	if (len == 0 || b[0] < 0x80)
		return len == 0 ? 0 : 1;
	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		if (b[0] < forms[i].first || b[0] > forms[i].last)
			continue;
		bool whole = len >= forms[i].n && b[1] >= forms[i].low && b[1] <= forms[i].high;
		for (size_t k = 2; whole && k < forms[i].n; k++)
			whole = (b[k] & 0xc0) == 0x80;
		return whole ? forms[i].n : 0;
	}
	return 0;
}

uint32_t
utf8_read(const char *text, size_t len)
{
	uint32_t point = (unsigned char)text[0] & (len == 1 ? 0x7fu : 0xffu >> (len + 1));
	for (size_t i = 1; i < len; i++)
		point = point << 6 | ((unsigned char)text[i] & 0x3f);
	return point;
}

size_t
utf8_write(uint32_t point, char *out)
{
	size_t n = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
	static const uint8_t lead[] = { 0, 0x00, 0xc0, 0xe0, 0xf0 };
	for (size_t i = n; i-- > 1; point >>= 6)
		out[i] = (char)(0x80 | (point & 0x3f));
	out[0] = (char)(lead[n] | point);
	return n;
}
