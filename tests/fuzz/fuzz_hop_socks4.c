/*
 * fuzz_hop_socks4: an upstream that answers anything at all to hop_socks4 and hop_socks4a.
 */
#include "tests/fuzz/hop_talk.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	hop_compare(&hop_socks4, data, size);
	hop_compare(&hop_socks4a, data, size);
	return 0;
}
