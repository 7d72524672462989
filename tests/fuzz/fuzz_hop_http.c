/*
 * fuzz_hop_http: an upstream that answers anything at all to hop_http.
 */
#include "tests/fuzz/hop_talk.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	hop_compare(&hop_http, data, size);
	return 0;
}
