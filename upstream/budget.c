/*
 * budget: see budget.h. Retries: a ring of seconds. Extra dials: a bucket.
 */
#include "upstream/budget.h"

static size_t
cell_of(struct budget *b, uint64_t now_ms)
{
	uint64_t second = now_ms / 1000;
	size_t i = second % BUDGET_SECONDS;
	if (b->seconds[i].second != second) {
		b->seconds[i].second = second;
		b->seconds[i].requests = b->seconds[i].retries = 0;
	}
	return i;
}

void
budget_note_request(struct budget *b, uint64_t now_ms)
{
	b->seconds[cell_of(b, now_ms)].requests++;
}

bool
budget_take_retry(struct budget *b, uint64_t now_ms, uint32_t percent)
{
	uint64_t requests = 0, retries = 0;
	size_t now = cell_of(b, now_ms);
	for (size_t i = 0; i < BUDGET_SECONDS; i++) {
		if (b->seconds[i].second + BUDGET_SECONDS <= now_ms / 1000)
			continue;
		requests += b->seconds[i].requests;
		retries += b->seconds[i].retries;
	}
	uint64_t reserve = percent > 0 ? BUDGET_RESERVE : 0;
	if (retries >= reserve + requests * percent / 100)
		return false;
	b->seconds[now].retries++;
	return true;
}

static void
extra_add(struct extra_budget *b, uint32_t percents)
{
	uint32_t all = b->percents + percents;
	b->percents = all < EXTRA_SAVED_MAX * 100u ? all : EXTRA_SAVED_MAX * 100u;
}

void
extra_note_request(struct extra_budget *b, uint32_t percent)
{
	extra_add(b, percent);
}

bool
extra_take(struct extra_budget *b)
{
	if (b->percents < 100)
		return false;
	b->percents -= 100;
	return true;
}

void
extra_give_back(struct extra_budget *b)
{
	extra_add(b, 100);
}
