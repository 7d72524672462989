/*
 * outlier: see outlier.h.
 */
#include "upstream/outlier.h"

#include <stdlib.h>

bool
outlier_note_failure(struct board_entry *e, const struct policy_outlier *conf, uint64_t now_ms)
{
	if (atomic_load(&e->ejection) != EJECTION_NONE)
		return atomic_load(&e->ejection) == EJECTION_TRIED;
	pthread_mutex_lock(&e->lock);
	if (e->failed_ms == NULL)
		e->failed_ms = calloc(OUTLIER_FAILURES_MAX, sizeof *e->failed_ms);
	bool enough = false;
	if (e->failed_ms != NULL) {
		e->failed_ms[e->n_failed++ % OUTLIER_FAILURES_MAX] = now_ms;
		uint64_t first = e->n_failed < conf->failures
		                     ? 0
		                     : e->failed_ms[(e->n_failed - conf->failures) % OUTLIER_FAILURES_MAX];
		enough = first > 0 && now_ms - first <= conf->window_ms;
	}
	pthread_mutex_unlock(&e->lock);
	return enough;
}

/* Each while that it did well since it came back makes one time forgotten. */
static void
forget(struct board_entry *e, const struct policy_outlier *conf, uint64_t now_ms)
{
	uint64_t whiles = e->back_ms > 0 ? (now_ms - e->back_ms) / conf->ejection_ms : 0;
	e->ejections -= whiles < e->ejections ? (uint32_t)whiles : e->ejections;
}

uint64_t
outlier_eject(struct board_entry *e, const struct policy_outlier *conf, uint64_t now_ms)
{
	pthread_mutex_lock(&e->lock);
	forget(e, conf, now_ms);
	uint64_t times = UINT64_C(1) << (e->ejections < 4 ? e->ejections : 4);
	if (times < OUTLIER_LONGER)
		e->ejections++;
	e->n_failed = 0;
	e->ejection_ms = conf->ejection_ms;
	e->back_ms = 0;
	uint64_t until = now_ms + times * conf->ejection_ms;
	atomic_store(&e->until_ms, until);
	atomic_store(&e->ejection, EJECTION_OUT);
	pthread_mutex_unlock(&e->lock);
	return until;
}

bool
outlier_note_success(struct board_entry *e, uint64_t now_ms)
{
	unsigned tried = EJECTION_TRIED;
	if (!atomic_compare_exchange_strong(&e->ejection, &tried, EJECTION_NONE))
		return false;
	pthread_mutex_lock(&e->lock);
	e->back_ms = now_ms;
	pthread_mutex_unlock(&e->lock);
	return true;
}

bool
outlier_revive(struct board_entry *e, uint64_t now_ms, uint64_t *next_ms)
{
	unsigned state = atomic_load(&e->ejection);
	if (state != EJECTION_OUT && state != EJECTION_TRIED)
		return false;
	uint64_t until = atomic_load(&e->until_ms);
	bool due = until <= now_ms && atomic_compare_exchange_strong(&e->ejection, &state, EJECTION_TRIAL);
	if (due)                               /* should the trial say nothing, another one is due then */
		atomic_store(&e->until_ms, until = now_ms + e->ejection_ms);
	if (until < *next_ms)
		*next_ms = until;
	return due;
}
