/*
 * probe: an upstream asked now, on request: by a handshake, or by a tunnel to a destination.
 */
#include <string.h>

#include "admin/call.h"
#include "admin/handlers.h"
#include "admin/json.h"
#include "router/control.h"
#include "socks/verdict.h"

static json_t *
times_json(const struct probe_result *r)
{
	uint32_t steps = r->resolve_us + r->connect_us + r->tls_us;
	return json_pack("{s:o, s:o, s:o, s:o, s:o}", "resolve", json_ms(r->resolve_us), "connect",
			 json_ms(r->connect_us), "tls", json_ms(r->tls_us), "handshake",
			 json_ms(r->total_us > steps ? r->total_us - steps : 0), "total",
			 json_ms(r->total_us));
}

static json_t *
result_json(const struct probe_result *r)
{
	bool ok = r->answer == PROBE_YES;
	return json_pack("{s:b, s:o, s:o, s:o}", "ok", ok, "error",
			 ok ? json_null() : json_text(verdict_text(r->verdict)), "detail",
			 json_text_or_null(r->detail), "ms", times_json(r));
}

static void
on_probed(enum control_probe_result result, const struct probe_result *r, void *arg)
{
	struct waiting *w = arg;
	struct call *c = waiting_take(w);
	if (c == NULL)
		return;
	if (result == CONTROL_PROBE_UNKNOWN)
		call_answer_problem(c, 404, "there is no upstream \"%s\"", call_name(c));
	else if (result == CONTROL_PROBE_FAILED)
		call_answer_problem(c, 503, "the probe could not be made");
	else if (r->answer == PROBE_SKIPPED)
		call_answer_problem(c, 400, "to: %s", r->detail);
	else
		call_answer_json(c, 200, result_json(r));
	waiting_done(w);
}

void
handle_probe_upstream(struct call *c)
{
	const char *text = call_argument(c, "to");
	struct endpoint to = { 0 };
	if (text != NULL && endpoint_from_text(&to, text, strlen(text)) != ENDPOINT_OK) {
		call_answer_problem(c, 400, "to: expected HOST:PORT");
		return;
	}
	struct waiting *w = call_wait(c);
	if (w != NULL)
		control_probe(call_control(c), call_name(c), text != NULL ? &to : NULL, on_probed,
			      w);
}
