/*
 * metrics: the Prometheus text format: families with help and type, samples with labels.
 *
 * Label values are names of the policy, never what strangers send.
 */
#ifndef ADMIN_METRICS_H
#define ADMIN_METRICS_H

#include <stdint.h>
#include <stdio.h>

#include "base/counters.h"

/** Begins a family: # HELP and # TYPE; a name that ends in _total is a counter. */
void metrics_family(FILE *out, const char *name, const char *help);
/**
 * One sample. labels: "" or whole pairs, as `reason="x"`; then up to two more pairs, whose values
 * are escaped (backslash, quote, newline); key NULL: none.
 */
void metrics_sample(FILE *out, const char *name, const char *labels, const char *key,
		    const char *value, const char *key2, const char *value2, double number);
/** All of base/counters.h, each family once. */
void metrics_counters(FILE *out, const uint64_t sums[COUNTER_N]);

/* A histogram whose times are in microseconds, as read. */
struct metrics_histogram {
	const uint64_t *ends_us,
	    *counts; /* n of each, not cumulative; the last bucket has what is above as well */
	unsigned n;
	uint64_t sum_us;
};
/**
 * One histogram in seconds, with one label (key NULL: none). The family's head is written by
 * metrics_histogram_family.
 */
void metrics_histogram(FILE *out, const char *name, const char *key, const char *value,
		       const struct metrics_histogram *h);
void metrics_histogram_family(FILE *out, const char *name, const char *help);

#endif
