/*
 * probe_command: `sockroute probe`: what a proxy, or the last of a chain of them, can do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/command.h"
#include "admin/commands.h"
#include "admin/json.h"
#include "admin/options.h"
#include "admin/table.h"
#include "policy/errors.h"
#include "router/control.h"
#include "socks/verdict.h"

static const char usual_target[] = "example.com:80";
static const char *const answers[] = {
	[PROBE_SKIPPED] = "-", [PROBE_YES] = "yes", [PROBE_NO] = "no"
};

/* ---- for people ---- */

static void
add_ms(struct table *t, uint32_t us)
{
	char text[32];
	snprintf(text, sizeof text, "%.1f", us / 1000.0);
	table_add(t, text);
}

static void
print_results(const struct probe_result *results, size_t n_hops)
{
	struct table t;
	size_t columns = 4 + n_hops;
	table_init(&t, columns, ((1u << (n_hops + 1)) - 1) << 2);
	table_add(&t, "TRIAL");
	table_add(&t, "ANSWER");
	table_add(&t, "MS");
	for (size_t i = 0; i < n_hops; i++) {
		char head[32];
		snprintf(head, sizeof head, "HOP %zu", i + 1);
		table_add(&t, head);
	}
	table_add(&t, "DETAIL");
	for (size_t k = 0; k < PROBE_TRIALS; k++) {
		const struct probe_result *r = &results[k];
		table_add(&t, probe_trial_text((enum probe_trial)k));
		table_add(&t, answers[r->answer]);
		if (r->answer == PROBE_SKIPPED)
			table_add(&t, NULL);
		else
			add_ms(&t, r->total_us);
		for (size_t i = 0; i < n_hops; i++) {
			if (i < r->n_hops)
				add_ms(&t, r->hop_us[i]);
			else
				table_add(&t, NULL);
		}
		table_add(&t, r->detail[0] != '\0' ? r->detail : NULL);
	}
	table_print(&t, stdout);
	table_free(&t);
}

/* ---- for programs ---- */

static json_t *
trial_json(enum probe_trial t, const struct probe_result *r)
{
	json_t *hops = json_array();
	for (size_t i = 0; i < r->n_hops; i++)
		(void)json_array_append_new(hops, json_ms(r->hop_us[i]));
	json_t *answer =
	    r->answer == PROBE_SKIPPED ? json_null() : json_boolean(r->answer == PROBE_YES);
	json_t *error = r->answer == PROBE_NO ? json_text(verdict_text(r->verdict)) : json_null();
	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "trial", probe_trial_text(t),
			 "answer", answer, "error", error, "detail", json_text_or_null(r->detail),
			 "hop_at_fault",
			 r->hop_at_fault < 0 ? json_null() : json_integer(r->hop_at_fault + 1),
			 "ms", json_ms(r->total_us), "hops_ms", hops);
}

static bool
dump_results(const struct probe_result *results)
{
	json_t *list = json_array();
	for (size_t k = 0; k < PROBE_TRIALS; k++)
		(void)json_array_append_new(list, trial_json((enum probe_trial)k, &results[k]));
	json_t *all = json_pack("{s:o}", "trials", list);
	bool ok = all != NULL &&
		  json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(JSON_DIGITS)) == 0;
	putchar('\n');
	json_decref(all);
	return ok;
}

/* ---- the command ---- */

/* "URL,URL": a copy that is cut at the commas. */
static size_t
split(char *text, const char *urls[PATH_HOPS_MAX + 1])
{
	size_t n = 0;
	for (char *save, *url = strtok_r(text, ",", &save); url != NULL && n <= PATH_HOPS_MAX;
	     url = strtok_r(NULL, ",", &save))
		urls[n++] = url;
	return n;
}

/* A policy with these upstreams and no more. NULL: told. */
static struct policy *
policy_of(const char *const *urls, size_t n)
{
	struct policy_errors errors;
	char *text = policy_default_text(NULL, 0, urls, n, "off");
	struct policy *p = NULL;
	if (text == NULL)
		return NULL;
	policy_errors_init(&errors);
	const struct policy_source from = { .text = text,
					    .len = strlen(text),
					    .name = "command line" };
	p = policy_load(&from, &errors);
	for (size_t i = 0; i < errors.n; i++)
		(void)usage_error("probe: %s", errors.list[i].message);
	policy_errors_free(&errors);
	explicit_bzero(text, strlen(text));
	free(text);
	return p;
}

static bool
has_direct(const struct policy *p)
{
	for (size_t i = 0; i < p->n_upstreams; i++)
		if (p->upstreams[i].scheme == SCHEME_DIRECT)
			return true;
	return false;
}

static int
probe(struct policy *p, const struct endpoint *to, bool json)
{
	static struct probe_result results[PROBE_TRIALS];
	char why[512] = "";
	if (!control_probe_alone(p, to, results, why, sizeof why)) {
		fprintf(stderr, "sockroute: probe: %s\n", why);
		return EXIT_FAILED;
	}
	if (json && !dump_results(results))
		return EXIT_FAILED;
	if (!json)
		print_results(results, p->n_upstreams);
	bool leads_there = false;
	for (int t = PROBE_CONNECT_NAME; t <= PROBE_CONNECT_IPV6; t++)
		leads_there |= results[t].answer == PROBE_YES;
	return leads_there ? EXIT_DONE : EXIT_FAILED;
}

int
command_probe(int argc, char **argv)
{
	const char *urls[PATH_HOPS_MAX + 1];
	struct endpoint to;
	struct options o;
	if (!options_read(&o, argc, argv, OPTION_TO | OPTION_JSON, 1))
		return EXIT_USAGE;
	const char *target = o.to != NULL ? o.to : usual_target;
	bool json = o.json;
	char *copy = strdup(o.operand);
	size_t n = copy != NULL ? split(copy, urls) : 0;
	options_free(&o);
	int code = EXIT_USAGE;
	struct policy *p = NULL;
	if (endpoint_from_text(&to, target, strlen(target)) != ENDPOINT_OK)
		(void)usage_error("probe: --to: expected HOST:PORT");
	else if (n == 0 || n > PATH_HOPS_MAX)
		(void)usage_error("probe: expected 1 to %d URLs with commas between them",
				  PATH_HOPS_MAX);
	else if ((p = policy_of(urls, n)) != NULL && has_direct(p))
		(void)usage_error("probe: direct:// is no proxy");
	else if (p != NULL)
		code = probe(p, &to, json);
	policy_unref(p);
	free(copy);
	return code;
}
