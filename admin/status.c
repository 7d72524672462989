/*
 * status: the process as a whole: whether it lives, whether it may be sent clients, what it runs
 * on; and its end.
 */
#include <stdio.h>
#include <string.h>

#include "admin/call.h"
#include "admin/handlers.h"
#include "admin/json.h"
#include "base/counters.h"
#include "base/log.h"
#include "policy/policy.h"
#include "router/control.h"
#include "socks/verdict.h"
#include "upstream/fleet.h"

void
handle_healthz(struct call *c)
{
	struct control_status s;
	control_get_status(call_control(c), &s);
	if (s.stuck_workers > 0)
		call_answer_problem(c, 503, "%u of %u workers have not turned for 5 s",
				    s.stuck_workers, s.workers);
	else
		call_answer_json(c, 200, json_pack("{s:s}", "status", "ok"));
}

/* `reject` needs no upstream: whoever is refused is served. */
static bool
default_route_is_usable(const struct call *c)
{
	const struct policy *p = call_policy(c);
	return p->default_route.kind == ROUTE_REJECT ||
	       fleet_route_usable(call_fleet(c), p->default_route);
}

void
handle_readyz(struct call *c)
{
	struct control_status s;
	control_get_status(call_control(c), &s);
	if (s.state == CONTROL_DRAINING)
		call_answer_problem(c, 503, "draining");
	else if (!default_route_is_usable(c))
		call_answer_problem(c, 503, "no usable upstream for default_route");
	else
		call_answer_json(c, 200, json_pack("{s:s}", "status", "ready"));
}

static json_t *
policy_json(const struct policy *p)
{
	return json_pack("{s:o, s:s, s:o, s:o}", "revision", json_count(p->revision), "etag",
			 p->etag, "loaded_at", json_time(p->loaded_at_ms), "source",
			 json_text(p->source));
}

void
handle_status(struct call *c)
{
	struct control_status s;
	control_get_status(call_control(c), &s);
	call_answer_json(c, 200,
			 json_pack("{s:s, s:s, s:o, s:i, s:o}", "version", PACKAGE_VERSION, "state",
				   s.state == CONTROL_DRAINING ? "draining" : "running",
				   "uptime_seconds", json_count(s.uptime_ms / 1000), "workers",
				   (int)s.workers, "policy", policy_json(call_policy(c))));
}

/* ---- what happened so far ---- */

/* Sets group.key of "group/key"; a path without a slash is a key of the whole. */
static bool
set_path(json_t *object, const char *path, json_t *value)
{
	size_t len = strcspn(path, "/");
	char group[64];
	if (path[len] == '\0')
		return json_object_set_new(object, path, value) == 0;
	snprintf(group, sizeof group, "%.*s", (int)len, path);
	json_t *inner = json_object_get(object, group);
	if (inner == NULL &&
	    ((inner = json_object()) == NULL || json_object_set_new(object, group, inner) != 0)) {
		json_decref(value);
		return false;
	}
	return json_object_set_new(inner, path + len + 1, value) == 0;
}

static bool
add_counters(struct control *control, json_t *stats)
{
	uint64_t sums[COUNTER_N];
	bool ok = true;
	control_sum_counters(control, sums);
	for (int i = 0; i < COUNTER_N && ok; i++)
		ok = set_path(stats, counter_texts[i].json, json_count(sums[i]));
	return ok;
}

static json_t *
replies_json(struct control *control)
{
	uint64_t sums[VERDICT_N];
	json_t *replies = json_object();
	control_sum_replies(control, sums);
	for (int i = 0; replies != NULL && i < VERDICT_N; i++)
		if (sums[i] > 0 &&
		    json_object_set_new(replies, verdict_text(i), json_count(sums[i])) != 0) {
			json_decref(replies);
			return NULL;
		}
	return replies;
}

static json_t *
listeners_json(const struct call *c)
{
	const struct policy *p = call_policy(c);
	json_t *all = json_object();
	for (size_t i = 0; all != NULL && i < p->n_listeners; i++) {
		struct control_listener live;
		control_get_listener(call_control(c), p, i, &live);
		json_t *one =
		    json_pack("{s:o, s:o, s:o}", "open", json_count(live.open), "accepted",
			      json_count(live.accepted), "refused", json_count(live.refused));
		if (json_object_set_new(all, p->listeners[i].name, one) != 0) {
			json_decref(all);
			return NULL;
		}
	}
	return all;
}

static json_t *
memory_json(struct control *control)
{
	struct control_memory m;
	control_get_memory(control, &m);
	return json_pack("{s:o, s:o}", "sessions", json_count(m.sessions), "buffers",
			 json_count(m.buffers));
}

void
handle_stats(struct call *c)
{
	json_t *stats = json_object();
	bool ok = stats != NULL && add_counters(call_control(c), stats) &&
		  json_object_set_new(stats, "by_listener", listeners_json(c)) == 0 &&
		  json_object_set_new(stats, "replies", replies_json(call_control(c))) == 0 &&
		  json_object_set_new(stats, "memory_bytes", memory_json(call_control(c))) == 0 &&
		  json_object_set_new(stats, "log_lines_dropped", json_count(log_dropped())) == 0;
	if (!ok) {
		json_decref(stats);
		stats = NULL;
	}
	call_answer_json(c, 200, stats);
}

/* ---- the log ---- */

void
handle_log_level(struct call *c)
{
	call_answer_json(c, 200, json_pack("{s:s}", "level", log_level_text(log_get_level())));
}

void
handle_put_log_level(struct call *c)
{
	enum log_level level;
	json_t *body = call_read_object(c);
	if (body == NULL)
		return;
	const char *text = json_string_value(json_object_get(body, "level"));
	bool ok = text != NULL && json_object_size(body) == 1 && log_level_from_text(text, &level);
	json_decref(body);
	if (!ok) {
		call_answer_problem(
		    c, 422, "expected {\"level\": \"error\", \"warn\", \"info\" or \"debug\"}");
		return;
	}
	log_set_level(level);
	handle_log_level(c);
}

/* ---- the end ---- */

/* Once the answer has left: the drain may be over at once, and the API with it. */
void
handle_drain(struct call *c)
{
	call_when_sent(c, control_drain);
	call_answer_json(c, 202, json_pack("{s:s}", "state", "draining"));
}
