/*
 * scrape: GET /metrics: everything that is counted, of the process and of each listener, rule,
 * upstream and pool member of the policy in force. A name that has left the policy has no series
 * any more.
 */
#include <stdio.h>
#include <stdlib.h>

#include "admin/call.h"
#include "admin/handlers.h"
#include "admin/metrics.h"
#include "base/log.h"
#include "policy/policy.h"
#include "router/control.h"
#include "socks/verdict.h"
#include "upstream/fleet.h"

/* ---- the process ---- */

static void
plain(FILE *out, const char *name, const char *help, double value)
{
	metrics_family(out, name, help);
	metrics_sample(out, name, "", NULL, NULL, NULL, NULL, value);
}

static void
write_process(FILE *out, const struct call *c)
{
	struct control_status s;
	const struct policy *p = call_policy(c);
	control_get_status(call_control(c), &s);
	metrics_family(out, "sockroute_build_info", "The version that runs.");
	metrics_sample(out, "sockroute_build_info", "", "version", PACKAGE_VERSION, NULL, NULL, 1);
	plain(out, "sockroute_uptime_seconds", "Time since the start.", (double)s.uptime_ms / 1000);
	plain(out, "sockroute_draining", "1 while draining.", s.state == CONTROL_DRAINING);
	plain(out, "sockroute_workers", "Workers.", s.workers);
	plain(out, "sockroute_stuck_workers", "Workers whose loop has not turned for 5 s.",
	      s.stuck_workers);
	plain(out, "sockroute_policy_revision", "Revision of the policy in force.",
	      (double)p->revision);
	plain(out, "sockroute_policy_loaded_timestamp_seconds", "When it was loaded.",
	      (double)p->loaded_at_ms / 1000);
	plain(out, "sockroute_log_lines_dropped_total", "Log lines that could not be written.",
	      (double)log_dropped());
}

static void
write_sums(FILE *out, struct control *control)
{
	static const char memory[] = "sockroute_memory_bytes",
			  replies[] = "sockroute_replies_total";
	uint64_t sums[COUNTER_N], verdicts[VERDICT_N];
	struct control_memory held;
	control_sum_counters(control, sums);
	metrics_counters(out, sums);
	control_sum_replies(control, verdicts);
	metrics_family(out, replies, "Answers to clients, by what happened.");
	for (int i = 0; i < VERDICT_N; i++)
		metrics_sample(out, replies, "", "verdict", verdict_text(i), NULL, NULL,
			       (double)verdicts[i]);
	control_get_memory(control, &held);
	metrics_family(out, memory, "Bytes held for sessions, and for what they have under way.");
	metrics_sample(out, memory, "kind=\"sessions\"", NULL, NULL, NULL, NULL,
		       (double)held.sessions);
	metrics_sample(out, memory, "kind=\"buffers\"", NULL, NULL, NULL, NULL,
		       (double)held.buffers);
}

static void
write_times(FILE *out, const char *name, const char *help, const struct histogram_sums *sums)
{
	uint64_t ends[HISTOGRAM_N];
	for (unsigned i = 0; i < HISTOGRAM_N; i++)
		ends[i] = histogram_end_us(i);
	metrics_histogram_family(out, name, help);
	metrics_histogram(
	    out, name, NULL, NULL,
	    &(struct metrics_histogram){
		.ends_us = ends, .counts = sums->counts, .n = HISTOGRAM_N, .sum_us = sums->sum_us });
}

static void
write_workers_times(FILE *out, struct control *control)
{
	struct histogram_sums sums;
	control_sum_handshakes(control, &sums);
	write_times(out, "sockroute_handshake_seconds", "From accept to a whole request.", &sums);
	control_sum_turns(control, &sums);
	write_times(out, "sockroute_turn_seconds", "Turns of the workers' loops, waiting not counted.", &sums);
}

/* ---- by name ---- */

static void
write_listeners(FILE *out, const struct call *c)
{
	static const struct {
		const char *name, *help;
		size_t offset;
	} families[] = {
		{ "sockroute_listener_sessions_open", "Open sessions of a listener.",
		  offsetof(struct control_listener, open) },
		{ "sockroute_listener_accepted_total", "Clients accepted.",
		  offsetof(struct control_listener, accepted) },
		{ "sockroute_listener_refused_total", "Clients closed at a limit.",
		  offsetof(struct control_listener, refused) },
	};
	const struct policy *p = call_policy(c);
	for (size_t k = 0; k < ARRAY_LEN(families); k++) {
		metrics_family(out, families[k].name, families[k].help);
		for (size_t i = 0; i < p->n_listeners; i++) {
			struct control_listener live;
			control_get_listener(call_control(c), p, i, &live);
			uint64_t value = *(const uint64_t *)(const void *)((const char *)&live +
									   families[k].offset);
			metrics_sample(out, families[k].name, "", "listener", p->listeners[i].name,
				       NULL, NULL, (double)value);
		}
	}
}

static void
write_rules(FILE *out, const struct call *c)
{
	static const char name[] = "sockroute_rule_hits_total";
	const struct policy *p = call_policy(c);
	metrics_family(out, name, "Requests that a rule decided; \"default\" is default_route.");
	for (size_t i = 0; i <= p->n_rules; i++)
		metrics_sample(out, name, "", "rule", i < p->n_rules ? p->rules[i].name : "default",
			       NULL, NULL, (double)control_rule_hits(call_control(c), p, i));
}

static double
is_usable(const struct board_entry *e)
{
	return board_usable(e);
}

static double
in_use(const struct board_entry *e)
{
	return board_in_use(e);
}

static double
sessions_total(const struct board_entry *e)
{
	return (double)atomic_load(&e->sessions_total);
}

static double
failures_total(const struct board_entry *e)
{
	return (double)atomic_load(&e->failures_total);
}

static double
bytes_up(const struct board_entry *e)
{
	return (double)atomic_load(&e->bytes_up);
}

static double
bytes_down(const struct board_entry *e)
{
	return (double)atomic_load(&e->bytes_down);
}

static void
write_upstreams(FILE *out, const struct call *c)
{
	static const char bytes[] = "sockroute_upstream_bytes_total";
	static const struct {
		const char *name, *labels, *help;
		double (*get)(const struct board_entry *e);
	} families[] = {
		{ "sockroute_upstream_usable", "", "1: new sessions may be sent to it.",
		  is_usable },
		{ "sockroute_upstream_sessions_open", "", "Sessions that hold a slot of it.",
		  in_use },
		{ "sockroute_upstream_sessions_total", "", "Requests granted through it.",
		  sessions_total },
		{ "sockroute_upstream_failures_total", "", "Attempts that failed by its fault.",
		  failures_total },
		{ bytes, "direction=\"up\"", "Bytes relayed through it; up is from the client.",
		  bytes_up },
		{ bytes, "direction=\"down\"", NULL, bytes_down },
	};
	const struct policy *p = call_policy(c);
	for (size_t k = 0; k < ARRAY_LEN(families); k++) {
		if (families[k].help != NULL)
			metrics_family(out, families[k].name, families[k].help);
		for (uint32_t i = 0; i < p->n_upstreams; i++)
			metrics_sample(out, families[k].name, families[k].labels, "upstream",
				       p->upstreams[i].name, NULL, NULL,
				       families[k].get(fleet_upstream(call_fleet(c), i)));
	}
}

static void
write_connects(FILE *out, const struct call *c)
{
	static const char name[] = "sockroute_upstream_connect_seconds";
	const struct policy *p = call_policy(c);
	uint64_t ends[BOARD_HIST_N / 2], counts[BOARD_HIST_N / 2];
	metrics_histogram_family(
	    out, name, "Until an upstream had done its part, through the whole path to it.");
	for (uint32_t i = 0; i < p->n_upstreams; i++) {
		const struct board_entry *e = fleet_upstream(call_fleet(c), i);
		for (unsigned k = 0; k < ARRAY_LEN(counts); k++) {
			/* two buckets of the board in one */
			ends[k] = board_hist_end_us(2 * k + 1);
			counts[k] = (uint64_t)atomic_load(&e->hist[2 * k]) +
				    atomic_load(&e->hist[2 * k + 1]);
		}
		metrics_histogram(
		    out, name, "upstream", p->upstreams[i].name,
		    &(struct metrics_histogram){ .ends_us = ends,
						 .counts = counts,
						 .n = ARRAY_LEN(counts),
						 .sum_us = atomic_load(&e->connect_us_total) });
	}
}

static void
write_members(FILE *out, const char *name, const struct call *c, size_t pool, bool picks)
{
	const struct policy_pool *conf = &call_policy(c)->pools[pool];
	struct member_view *views = calloc(conf->n_members + 1, sizeof *views);
	size_t n = views != NULL
		       ? fleet_pool_members(call_fleet(c), (uint32_t)pool, views, conf->n_members)
		       : 0;
	for (size_t i = 0; i < n; i++)
		metrics_sample(out, name, "", "pool", conf->name, "member", views[i].name,
			       picks ? (double)views[i].picks : views[i].usable);
	free(views);
}

static void
write_pools(FILE *out, const struct call *c)
{
	static const char usable[] = "sockroute_pool_member_usable",
			  picks[] = "sockroute_pool_member_picks_total";
	const struct policy *p = call_policy(c);
	metrics_family(out, usable, "1: a request could go to the member now.");
	for (size_t i = 0; i < p->n_pools; i++)
		write_members(out, usable, c, i, false);
	metrics_family(out, picks,
		       "Times that the pool chose the member.");
	for (size_t i = 0; i < p->n_pools; i++)
		write_members(out, picks, c, i, true);
}

void
handle_metrics(struct call *c)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	if (out != NULL) {
		write_process(out, c);
		write_sums(out, call_control(c));
		write_workers_times(out, call_control(c));
		write_listeners(out, c);
		write_rules(out, c);
		write_upstreams(out, c);
		write_connects(out, c);
		write_pools(out, c);
	}
	if (out != NULL && fclose(out) == 0)
		call_answer_text(c, 200, "text/plain; version=0.0.4; charset=utf-8", text, len);
	else
		call_answer_problem(c, 500, "out of memory");
	free(text);
}
