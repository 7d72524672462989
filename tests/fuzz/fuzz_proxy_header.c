/*
 * fuzz_proxy_header: anything at all before a connection. However it is cut the answer is the same,
 * who reads what is wanted never reads behind the header, and what is found can be written and
 * found again.
 */
#include "socks/proxy_header.h"

#include "tests/fuzz/fuzz.h"

static bool
same(const struct proxy_header *a, const struct proxy_header *b)
{
	return a->has_addresses == b->has_addresses && endpoint_equal(&a->from, &b->from) &&
	       endpoint_equal(&a->to, &b->to);
}

/* As a listener reads: just what is wanted, until it is decided or there is no more. */
static void
read_as_wanted(const uint8_t *data, size_t size, enum parse_result want, size_t want_used)
{
	struct proxy_header h;
	size_t len = 0, used = 0;
	enum parse_result got;
	while ((got = proxy_header_parse(data, len, &h, &used)) == PARSE_MORE) {
		size_t wants = proxy_header_wants(data, len);
		must(wants > 0 && len + wants <= PROXY_HEADER_MAX);
		if (wants > size - len)
			return;
		len += wants;
	}
	must(got == want);
	must(got != PARSE_OK || (used == want_used && used == len));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct proxy_header whole, cut;
	size_t used = 0, used_cut = 0, len = 0;
	enum parse_result want = proxy_header_parse(data, size, &whole, &used), got;
	do
		got = proxy_header_parse(data, len, &cut, &used_cut);
	while (got == PARSE_MORE && len++ < size);
	must(got == want);
	read_as_wanted(data, size, want, used);
	if (want != PARSE_OK)
		return 0;
	must(used == used_cut && used <= size && used <= PROXY_HEADER_MAX && same(&whole, &cut));
	for (unsigned version = 1; version <= 2; version++) {
		uint8_t out[PROXY_HEADER_WRITTEN_MAX];
		size_t n = proxy_header_write(out, sizeof out, version, &whole.from, &whole.to);
		must(n > 0 && proxy_header_parse(out, n, &cut, &used_cut) == PARSE_OK);
		must(used_cut == n && same(&whole, &cut));
	}
	return 0;
}
