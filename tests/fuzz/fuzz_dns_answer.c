/*
 * fuzz_dns_answer: any bytes as the message of a name server, for a question about a.test. Seeds: tests/fuzz/corpus/dns_answer.
 */
#include <stdint.h>
#include <stdlib.h>

#include "dns/answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(const struct answer *a)
{
	if (a->kind > ANSWER_FAILED || a->kind == ANSWER_TIMEOUT || a->n > ANSWER_ADDRS_MAX)
		abort();
	if ((a->kind == ANSWER_ADDRESSES) != (a->n > 0))
		abort();
	if (a->kind == ANSWER_ADDRESSES && a->ttl_s > INT32_MAX)
		abort();
	for (size_t i = 0; i < a->n; i++) {
		if (a->addrs[i].kind != ENDPOINT_IPV4 && a->addrs[i].kind != ENDPOINT_IPV6)
			abort();
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (enum record record = 0; record < RECORD_N; record++) {
		struct answer a;
		answer_read(&a, data, size, "a.test", record);
		check(&a);
	}
	return 0;
}
