/*
 * connections: the sessions that are open, asked of all workers, and how an operator ends some.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/call.h"
#include "admin/handlers.h"
#include "admin/json.h"
#include "admin/list.h"
#include "base/text.h"
#include "router/control.h"

/* False: it is too long to be anybody's. */
static bool
copy_argument(const struct call *c, const char *name, char *out, size_t cap)
{
	const char *value = call_argument(c, name);
	return value == NULL || (size_t)snprintf(out, cap, "%s", value) < cap;
}

/* An address in the spelling that sessions have; a name as it is. */
static void
normalize_host(char *host, size_t cap)
{
	struct endpoint e = { 0 };
	if (endpoint_set_host(&e, host, strlen(host)) == ENDPOINT_OK)
		endpoint_host_to_text(&e, host, cap);
}

static void
normalize_to(char *to, size_t cap)
{
	struct endpoint e = { 0 };
	if (endpoint_from_text(&e, to, strlen(to)) == ENDPOINT_OK)
		endpoint_to_text(&e, to, cap);
	else
		normalize_host(to, cap);
}

/* False after a 400. *any: a filter was given. */
static bool
read_filter(struct call *c, struct control_filter *f, bool *any)
{
	*f = (struct control_filter){ 0 };
	if (!copy_argument(c, "client", f->client, sizeof f->client) ||
	    !copy_argument(c, "user", f->user, sizeof f->user) ||
	    !copy_argument(c, "upstream", f->upstream, sizeof f->upstream) ||
	    !copy_argument(c, "to", f->to, sizeof f->to)) {
		call_answer_problem(c, 400, "client, user, upstream or to is too long");
		return false;
	}
	normalize_host(f->client, sizeof f->client);
	normalize_to(f->to, sizeof f->to);
	*any = f->client[0] != '\0' || f->user[0] != '\0' || f->upstream[0] != '\0' ||
	       f->to[0] != '\0';
	return true;
}

/* ---- the list ---- */

static json_t *
timing_json(const struct control_connection *x)
{
	json_t *hops = json_array();
	for (unsigned i = 0; hops != NULL && i < x->n_timed; i++)
		if (json_array_append_new(hops, json_pack("{s:o, s:o}", "name",
							  json_text(x->hops[i].name), "ms",
							  json_ms(x->hops[i].us))) != 0) {
			json_decref(hops);
			hops = NULL;
		}
	return json_pack("{s:o, s:o, s:o, s:o}", "handshake", json_ms(x->handshake_us), "resolve",
			 json_ms(x->resolve_us), "hops", hops, "total", json_ms(x->total_us));
}

static json_t *
path_json(const struct control_connection *x)
{
	json_t *path = json_array();
	for (unsigned i = 0; path != NULL && i < x->n_hops; i++)
		if (json_array_append_new(path, json_text(x->hops[i].name)) != 0) {
			json_decref(path);
			path = NULL;
		}
	return path;
}

static json_t *
connection_json(const struct control_connection *x)
{
	return json_pack(
	    "{s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o}", "id",
	    json_count(x->id), "client", json_text(x->client), "user", json_text_or_null(x->user),
	    "listener", json_text(x->listener), "protocol", x->protocol, "command",
	    json_text_or_null(x->command), "to", json_text_or_null(x->to), "rule",
	    json_text_or_null(x->rule), "route", json_text_or_null(x->route), "path", path_json(x),
	    "state", x->state, "age_seconds", json_seconds(x->age_ms), "idle_seconds",
	    json_seconds(x->idle_ms), "bytes", json_bytes(x->bytes_up, x->bytes_down), "timing_ms",
	    timing_json(x));
}

static void
on_listed(const struct control_connection *list, size_t n, size_t total, bool incomplete, void *arg)
{
	struct waiting *w = arg;
	struct call *c = waiting_take(w);
	if (c == NULL)
		return;
	json_t *array = json_array();
	for (size_t i = 0; array != NULL && i < n; i++)
		if (json_array_append_new(array, connection_json(&list[i])) != 0) {
			json_decref(array);
			array = NULL;
		}
	json_t *all = json_pack("{s:o, s:o}", "total", json_count(total), "connections", array);
	if (all != NULL && incomplete)
		(void)json_object_set_new(all, "incomplete", json_true());
	call_answer_json(c, 200, all);
	waiting_done(w);
}

void
handle_connections(struct call *c)
{
	struct control_filter f;
	struct page page;
	bool any;
	if (!read_filter(c, &f, &any) || !page_read(c, &page))
		return;
	struct waiting *w = call_wait(c);
	if (w != NULL)
		control_list_connections(call_control(c), &f, page.limit, page.offset, on_listed,
					 w);
}

/* ---- ending some ---- */

static void
on_closed(size_t n, bool incomplete, void *arg)
{
	struct waiting *w = arg;
	struct call *c = waiting_take(w);
	if (c == NULL)
		return;
	if (incomplete)
		call_answer_problem(c, 503, "a worker did not answer in time; ended so far: %zu",
				    n);
	else
		call_answer_nothing(c);
	waiting_done(w);
}

static void
on_one_closed(size_t n, bool incomplete, void *arg)
{
	struct waiting *w = arg;
	if (n > 0 || incomplete) {
		on_closed(n, incomplete && n == 0, arg);
		return;
	}
	struct call *c = waiting_take(w);
	if (c == NULL)
		return;
	call_answer_problem(c, 404, "there is no connection %s", call_name(c));
	waiting_done(w);
}

void
handle_close_connection(struct call *c)
{
	struct control_filter f = { 0 };
	const char *id = call_name(c);
	if (!text_read_number(id, strlen(id), UINT64_MAX, &f.id) || f.id == 0) {
		call_answer_problem(c, 404, "there is no connection %s", id);
		return;
	}
	struct waiting *w = call_wait(c);
	if (w != NULL)
		control_close_connections(call_control(c), &f, on_one_closed, w);
}

void
handle_close_connections(struct call *c)
{
	struct control_filter f;
	bool any;
	if (!read_filter(c, &f, &any))
		return;
	if (!any) {
		call_answer_problem(c, 400, "expected a filter: client, user, upstream or to");
		return;
	}
	struct waiting *w = call_wait(c);
	if (w != NULL)
		control_close_connections(call_control(c), &f, on_closed, w);
}
