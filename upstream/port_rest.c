#include "upstream/port_rest.h"

#include <string.h>

#include "base/endpoint.h"
#include "base/log.h"
#include "upstream/connector.h"

/* Filled byte by byte, so that two can be compared as they lie. */
static void
way_of(struct port_way *w, const struct connect_plan *plan, const struct endpoint *to)
{
	memset(w, 0, sizeof *w);
	memcpy(w->to, to->addr, sizeof w->to);
	w->to_kind = to->kind;
	w->port = to->port;
	w->mark = plan->mark;
	if (plan->source != NULL) {
		memcpy(w->from, plan->source->addr, sizeof w->from);
		w->from_kind = plan->source->kind;
	}
	if (plan->interface != NULL)
		strncpy(w->interface, plan->interface, sizeof w->interface - 1);
}

void
port_rest_note(struct port_rest *r, const struct connect_plan *plan, const struct endpoint *to, uint64_t now_ms)
{
	way_of(&r->places[r->next].way, plan, to);
	r->places[r->next].until_ms = r->until_ms = now_ms + PORT_REST_MS;
	r->next = (r->next + 1) % PORT_REST_PLACES;
}

void
port_rest_warn(struct port_rest *r, const char *upstream, uint64_t now_ms)
{
	struct log_line line;
	if (r->warned_ms != 0 && now_ms - r->warned_ms < PORT_REST_WARN_MS)
		return;
	r->warned_ms = now_ms;
	log_begin(&line, LOG_WARN, "no local port or address is free for an upstream");
	log_str(&line, "upstream", upstream);
	log_end(&line);
}

bool
port_rests(const struct port_rest *r, const struct connect_plan *plan, const struct endpoint *to, uint64_t now_ms)
{
	struct port_way w;
	if (r == NULL || now_ms >= r->until_ms)
		return false;
	way_of(&w, plan, to);
	for (unsigned i = 0; i < PORT_REST_PLACES; i++)
		if (now_ms < r->places[i].until_ms && memcmp(&r->places[i].way, &w, sizeof w) == 0)
			return true;
	return false;
}
