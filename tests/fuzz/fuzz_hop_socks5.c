/*
 * fuzz_hop_socks5: an upstream that answers anything at all to hop_socks5.
 */
#include "tests/fuzz/hop_talk.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	hop_compare(&hop_socks5, data, size);
	return 0;
}
