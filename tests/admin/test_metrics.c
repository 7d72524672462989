/*
 * The Prometheus text: escaping, families, histograms, and the one list of counters as a reader of
 * the format sees it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/metrics.h"

static char *text;
static size_t len;

static FILE *
begin(void)
{
	FILE *out = open_memstream(&text, &len);
	assert_non_null(out);
	return out;
}

static void
expect(FILE *out, const char *want)
{
	assert_int_equal(fclose(out), 0);
	assert_string_equal(text, want);
	free(text);
}

static void
test_labels(void **state)
{
	(void)state;
	FILE *out = begin();
	metrics_sample(out, "x", "", NULL, NULL, NULL, NULL, 1);
	metrics_sample(out, "x", "a=\"b\"", NULL, NULL, NULL, NULL, 2);
	metrics_sample(out, "x", "a=\"b\"", "name", "c", NULL, NULL, 3);
	metrics_sample(out, "x", "", "one", "1", "two", "2", 0.5);
	metrics_sample(out, "x", "", "name", "q\"b\\s\nn", NULL, NULL, 9007199254740992.0);
	expect(out, "x 1\n"
		    "x{a=\"b\"} 2\n"
		    "x{a=\"b\",name=\"c\"} 3\n"
		    "x{one=\"1\",two=\"2\"} 0.5\n"
		    "x{name=\"q\\\"b\\\\s\\nn\"} 9007199254740992\n");
}

static void
test_families(void **state)
{
	(void)state;
	FILE *out = begin();
	metrics_family(out, "a_total", "A.");
	metrics_family(out, "a_totals", "B.");
	metrics_family(out, "_total", "C.");
	metrics_histogram_family(out, "h", "D.");
	expect(out, "# HELP a_total A.\n# TYPE a_total counter\n"
		    "# HELP a_totals B.\n# TYPE a_totals gauge\n"
		    "# HELP _total C.\n# TYPE _total gauge\n"
		    "# HELP h D.\n# TYPE h histogram\n");
}

static void
test_histogram(void **state)
{
	static const uint64_t ends[] = { 100, 200, 400 }, counts[] = { 1, 0, 2 };
	const struct metrics_histogram h = {
		.ends_us = ends, .counts = counts, .n = 3, .sum_us = 1500000
	};
	(void)state;
	FILE *out = begin();
	metrics_histogram(out, "h", NULL, NULL, &h);
	metrics_histogram(out, "h", "u", "p", &h);
	expect(
	    out,
	    "h_bucket{le=\"0.0001\"} 1\nh_bucket{le=\"0.0002\"} 1\n"
	    "h_bucket{le=\"+Inf\"} 3\nh_sum 1.5\nh_count 3\n"
	    "h_bucket{u=\"p\",le=\"0.0001\"} 1\nh_bucket{u=\"p\",le=\"0.0002\"} 1\n"
	    "h_bucket{u=\"p\",le=\"+Inf\"} 3\n"
	    "h_sum{u=\"p\"} 1.5\nh_count{u=\"p\"} 3\n");
}

static unsigned
occurrences(const char *what)
{
	unsigned n = 0;
	for (const char *p = text; (p = strstr(p, what)) != NULL; p += strlen(what))
		n++;
	return n;
}

/* Each family has one head, each counter one line with its sum. */
static void
test_counters(void **state)
{
	uint64_t sums[COUNTER_N];
	(void)state;
	for (int i = 0; i < COUNTER_N; i++)
		sums[i] = (uint64_t)i + 100;
	FILE *out = begin();
	metrics_counters(out, sums);
	assert_int_equal(fclose(out), 0);
	for (int i = 0; i < COUNTER_N; i++) {
		char line[256];
		const struct counter_text *t = &counter_texts[i];
		bool labels = t->labels[0] != '\0';
		snprintf(line, sizeof line, "\n%s%s%s%s %d\n", t->metric, labels ? "{" : "",
			 t->labels, labels ? "}" : "", i + 100);
		assert_int_equal(occurrences(line), 1);
		snprintf(line, sizeof line, "# HELP %s ", t->metric);
		assert_int_equal(occurrences(line), 1);
		snprintf(line, sizeof line, "# TYPE %s ", t->metric);
		assert_int_equal(occurrences(line), 1);
		assert_int_equal(strncmp(t->metric, "sockroute_", 10), 0);
	}
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_families),
		cmocka_unit_test(test_histogram),
		cmocka_unit_test(test_counters),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
