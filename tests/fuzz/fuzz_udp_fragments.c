/*
 * fuzz_udp_fragments: datagrams one behind the other, as the association takes them: header, then the reassembly queue. What comes
 * out is what went in, in order, and no part is counted twice.
 *
 * Input: for each datagram a byte of its length, a byte of time gone by (in 100 ms), and its bytes.
 */
#include "socks/socks5.h"
#include "socks/udp_fragments.h"

#include "tests/fuzz/fuzz.h"

enum { CAP = 200 };

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct udp_fragments f;
	uint8_t memory[CAP], model[CAP];
	size_t model_len = 0, at = 0, kept = 0;
	uint64_t now = 0;
	udp_fragments_init(&f, memory, sizeof memory);
	while (size - at >= 2) {
		size_t len = data[at] < size - at - 2 ? data[at] : size - at - 2, used;
		const uint8_t *datagram = data + at + 2;
		struct socks5_udp header;
		unsigned given_up;
		now += data[at + 1] * UINT64_C(100);
		at += 2 + len;
		if (socks5_parse_udp(datagram, len, &header, &used) != PARSE_OK || header.frag == 0)
			continue;
		enum fragment_result r = udp_fragments_add(&f, header.frag, &header.to, datagram + used, len - used, now, &given_up);
		must(given_up <= kept + 1 && f.highest <= 127 && buffer_len(&f.parts) <= CAP);
		kept = kept + 1 - given_up;
		if (f.highest == 0 || (f.highest == 1 && r != FRAGMENT_DROPPED))
			model_len = 0;
		if (r != FRAGMENT_DROPPED) {
			memcpy(model + model_len, datagram + used, len - used);
			model_len += len - used;
			must(endpoint_equal(&f.to, &header.to));
		}
		must(kept == f.highest && model_len == buffer_len(&f.parts));
		must(model_len == 0 || memcmp(model, buffer_bytes(&f.parts), model_len) == 0);
		if (r == FRAGMENT_WHOLE)
			kept -= udp_fragments_abandon(&f);
	}
	return 0;
}
