#include "admin/metrics.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

static bool
ends_in_total(const char *name)
{
	static const char tail[] = "_total";
	size_t len = strlen(name), n = sizeof tail - 1;
	return len > n && strcmp(name + len - n, tail) == 0;
}

void
metrics_family(FILE *out, const char *name, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name,
		ends_in_total(name) ? "counter" : "gauge");
}

void
metrics_histogram_family(FILE *out, const char *name, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s histogram\n", name, help, name);
}

static void
write_label(FILE *out, const char *key, const char *value)
{
	fprintf(out, "%s=\"", key);
	for (const char *p = value; *p != '\0'; p++) {
		if (*p == '\\' || *p == '"')
			fprintf(out, "\\%c", *p);
		else if (*p == '\n')
			fputs("\\n", out);
		else
			fputc(*p, out);
	}
	fputc('"', out);
}

static void
write_labels(FILE *out, const char *labels, const char *key, const char *value, const char *key2,
	     const char *value2)
{
	if (labels[0] == '\0' && key == NULL)
		return;
	fprintf(out, "{%s", labels);
	if (key != NULL) {
		fputs(labels[0] != '\0' ? "," : "", out);
		write_label(out, key, value);
	}
	if (key2 != NULL) {
		fputc(',', out);
		write_label(out, key2, value2);
	}
	fputc('}', out);
}

/* Fifteen digits are as people would write it; seventeen say whole numbers up to 2^53 exactly. */
void
metrics_sample(FILE *out, const char *name, const char *labels, const char *key, const char *value,
	       const char *key2, const char *value2, double number)
{
	fputs(name, out);
	write_labels(out, labels, key, value, key2, value2);
	fprintf(out, " %.*g\n", number < 1e15 ? 15 : 17, number);
}

void
metrics_counters(FILE *out, const uint64_t sums[COUNTER_N])
{
	for (int i = 0; i < COUNTER_N; i++) {
		const struct counter_text *t = &counter_texts[i];
		if (i == 0 || strcmp(t->metric, counter_texts[i - 1].metric) != 0)
			metrics_family(out, t->metric, t->help);
		metrics_sample(out, t->metric, t->labels, NULL, NULL, NULL, NULL, (double)sums[i]);
	}
}

void
metrics_histogram(FILE *out, const char *name, const char *key, const char *value,
		  const struct metrics_histogram *h)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < h->n; i++) {
		char end[32] = "+Inf";
		sum += h->counts[i];
		if (i + 1 < h->n)
			snprintf(end, sizeof end, "%.9g", (double)h->ends_us[i] / 1e6);
		fprintf(out, "%s_bucket", name);
		write_labels(out, "", key != NULL ? key : "le", key != NULL ? value : end,
			     key != NULL ? "le" : NULL, end);
		fprintf(out, " %" PRIu64 "\n", sum);
	}
	fprintf(out, "%s_sum", name);
	write_labels(out, "", key, value, NULL, NULL);
	fprintf(out, " %.9g\n%s_count", (double)h->sum_us / 1e6, name);
	write_labels(out, "", key, value, NULL, NULL);
	fprintf(out, " %" PRIu64 "\n", sum);
}
