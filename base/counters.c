/*
 * counters: the texts of the one list, in the order of enum counter.
 */
#include "base/counters.h"

#define COUNTER_TEXT(id, metric_, labels_, json_, help_)                                         \
	[COUNTER_##id] = { .metric = metric_, .labels = labels_, .json = json_, .help = help_ },

const struct counter_text counter_texts[COUNTER_N] = { COUNTERS(COUNTER_TEXT) };
