/*
 * budget: how many retries a pool may make: a percentage of the requests of the last BUDGET_SECONDS
 * and a few more for pools with little to do, so that an outage does not become a storm. And how
 * many more dials its races may: a percentage of all its requests, not one more, of which up to
 * EXTRA_SAVED_MAX are saved up while they go unused.
 *
 * For one thread, or under a lock of the owner's. Zeros are a fresh one.
 */
#ifndef UPSTREAM_BUDGET_H
#define UPSTREAM_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"

enum { BUDGET_SECONDS = 10, BUDGET_RESERVE = 100 /* retries in that time, whatever the requests */ };

struct budget {
	struct {
		uint64_t second;
		uint32_t requests, retries;
	} seconds[BUDGET_SECONDS];
};

void budget_note_request(struct budget *b, uint64_t now_ms);
/** Is one more retry within percent of the requests? If so it is counted. */
bool budget_take_retry(struct budget *b, uint64_t now_ms, uint32_t percent) WARN_UNUSED;

struct extra_budget {
	uint32_t percents; /* saved; 100 are one dial */
};

enum { EXTRA_SAVED_MAX = 100 };

void extra_note_request(struct extra_budget *b, uint32_t percent);
/** Is there one more dial? If so it is counted. */
bool extra_take(struct extra_budget *b) WARN_UNUSED;
/** One that was taken is not dialled after all. */
void extra_give_back(struct extra_budget *b);

#endif
