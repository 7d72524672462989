/*
 * dns: the workers' caches of addresses, as one.
 */
#include <string.h>

#include "admin/call.h"
#include "admin/handlers.h"
#include "admin/json.h"
#include "admin/list.h"
#include "router/control.h"

static json_t *
entry_json(const struct control_dns_entry *e)
{
	char text[ENDPOINT_TEXT_MAX];
	json_t *addresses = json_array();
	for (size_t i = 0; addresses != NULL && i < e->n; i++)
		if (json_array_append_new(addresses, json_text(endpoint_host_to_text(
							 &e->addrs[i], text, sizeof text))) != 0) {
			json_decref(addresses);
			addresses = NULL;
		}
	return json_pack("{s:o, s:o, s:o}", "name", json_text(e->name), "addresses", addresses,
			 "ttl_seconds", json_seconds(e->ttl_ms));
}

static void
answer_entries(struct call *c, const struct page *page, const struct control_dns_entry *list,
	       size_t n, bool incomplete)
{
	json_t *array = json_array();
	for (size_t i = page->offset; array != NULL && i < n && i - page->offset < page->limit; i++)
		if (json_array_append_new(array, entry_json(&list[i])) != 0) {
			json_decref(array);
			array = NULL;
		}
	json_t *all = json_pack("{s:o, s:o}", "total", json_count(n), "entries", array);
	if (all != NULL && incomplete)
		(void)json_object_set_new(all, "incomplete", json_true());
	call_answer_json(c, 200, all);
}

static void
on_listed(const struct control_dns_entry *list, size_t n, bool incomplete, void *arg)
{
	struct waiting *w = arg;
	struct call *c = waiting_take(w);
	struct page page;
	if (c == NULL)
		return;
	if (page_read(c, &page))
		answer_entries(c, &page, list, n, incomplete);
	waiting_done(w);
}

void
handle_dns_cache(struct call *c)
{
	struct page page;
	if (!page_read(c, &page)) /* before anybody is asked */
		return;
	struct waiting *w = call_wait(c);
	if (w != NULL)
		control_list_dns(call_control(c), on_listed, w);
}

static void
on_dropped(size_t n, bool incomplete, void *arg)
{
	struct waiting *w = arg;
	struct call *c = waiting_take(w);
	if (c == NULL)
		return;
	if (incomplete)
		call_answer_problem(c, 503, "a worker did not answer in time");
	else if (n == 0 && call_argument(c, "name") != NULL)
		call_answer_problem(c, 404, "\"%s\" is not in the cache", call_argument(c, "name"));
	else
		call_answer_nothing(c);
	waiting_done(w);
}

void
handle_drop_dns(struct call *c)
{
	const char *text = call_argument(c, "name");
	struct endpoint name = { 0 };
	if (text != NULL && (endpoint_set_host(&name, text, strlen(text)) != ENDPOINT_OK ||
			     name.kind != ENDPOINT_NAME)) {
		call_answer_problem(c, 400, "name: expected a host name");
		return;
	}
	struct waiting *w = call_wait(c);
	if (w != NULL)
		control_drop_dns(call_control(c), text != NULL ? name.name : NULL, on_dropped, w);
}
