/*
 * fuzz_socks5_udp: any datagram at all. What parses is written in one spelling, which parses to the
 * same.
 */
#include "socks/socks5.h"

#include "tests/fuzz/fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct socks5_udp header, again;
	uint8_t out[SOCKS5_UDP_HEADER_MAX];
	size_t used, used_again;
	if (socks5_parse_udp(data, size, &header, &used) != PARSE_OK)
		return 0;
	must(used <= size && used <= SOCKS5_UDP_HEADER_MAX);
	size_t len = socks5_write_udp(out, sizeof out, header.frag, &header.to);
	must(len > 0);
	must(socks5_parse_udp(out, len, &again, &used_again) == PARSE_OK && used_again == len);
	must(again.frag == header.frag && endpoint_equal(&again.to, &header.to));
	return 0;
}
