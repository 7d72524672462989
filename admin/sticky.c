/*
 * sticky: the calls on a pool's sticky table: listed, a key pinned by hand, keys let go.
 */
#include <jansson.h>
#include <string.h>

#include "admin/call.h"
#include "admin/handlers.h"
#include "admin/json.h"
#include "admin/list.h"
#include "base/idn.h"
#include "policy/policy.h"
#include "upstream/fleet.h"

/* The pool of the path; NULL: answered. */
static const struct policy_pool *
sticky_pool(struct call *c, uint32_t *pool)
{
	const struct policy *p = call_policy(c);
	struct policy_route r;
	if (!policy_find_route(p, call_name(c), &r) || r.kind != ROUTE_POOL) {
		call_answer_problem(c, 404, "there is no pool \"%s\"", call_name(c));
		return NULL;
	}
	if (p->pools[r.index].sticky.key == KEY_NONE) {
		call_answer_problem(c, 404, "the pool \"%s\" is not sticky", call_name(c));
		return NULL;
	}
	*pool = r.index;
	return &p->pools[r.index];
}

/*
 * The key of the path, spelled as requests' keys are: an address or a name written in another way would
 * never be met. NULL: answered.
 */
static const char *
sticky_key(struct call *c, const struct policy_pool *p, char out[ENDPOINT_TEXT_MAX])
{
	const char *text = call_key(c);
	size_t len = strlen(text);
	struct endpoint e = { 0 };
	enum pool_key kind = p->sticky.key;
	if (kind == KEY_USER || kind == KEY_SESSION)
		return text;
	enum endpoint_error bad = kind == KEY_DESTINATION ? endpoint_from_text(&e, text, len)
							  : endpoint_set_host(&e, text, len);
	if (bad != ENDPOINT_OK || (kind == KEY_CLIENT_IP && !endpoint_is_address(&e))) {
		call_answer_problem(c, 400, "the key: expected %s",
				    kind == KEY_CLIENT_IP     ? "an IP address"
				    : kind == KEY_DESTINATION ? "HOST:PORT"
							      : "a host");
		return NULL;
	}
	struct endpoint ascii;
	const struct endpoint *known = idn_known_form(&e, &ascii);
	return kind == KEY_DESTINATION ? endpoint_to_text(known, out, ENDPOINT_TEXT_MAX)
				       : endpoint_host_to_text(known, out, ENDPOINT_TEXT_MAX);
}

/* A page, cut out while the table is walked. */
struct listing {
	struct page page;
	json_t *array;
	size_t n;
	bool ok;
};

static void
add_pin(const char *key, const char *member, uint64_t left_ms, void *arg)
{
	struct listing *l = arg;
	size_t i = l->n++;
	if (!l->ok || i < l->page.offset || i - l->page.offset >= l->page.limit)
		return;
	l->ok = json_array_append_new(l->array,
				      json_pack("{s:o, s:o, s:o}", "key", json_text(key), "member",
						json_text(member), "expires_in_seconds",
						json_seconds(left_ms))) == 0;
}

void
handle_sticky(struct call *c)
{
	uint32_t pool;
	struct listing l = { .ok = true };
	if (sticky_pool(c, &pool) == NULL || !page_read(c, &l.page))
		return;
	l.array = json_array();
	l.ok = l.array != NULL;
	fleet_each_pin(call_fleet(c), pool, add_pin, &l);
	if (!l.ok) {
		json_decref(l.array);
		l.array = NULL;
	}
	list_answer_array(c, "sticky", l.n, l.array);
}

void
handle_drop_sticky(struct call *c)
{
	uint32_t pool;
	if (sticky_pool(c, &pool) == NULL)
		return;
	(void)fleet_unpin(call_fleet(c), pool, NULL);
	call_answer_nothing(c);
}

void
handle_drop_sticky_key(struct call *c)
{
	uint32_t pool;
	char text[ENDPOINT_TEXT_MAX];
	const struct policy_pool *p = sticky_pool(c, &pool);
	const char *key = p != NULL ? sticky_key(c, p, text) : NULL;
	if (key == NULL)
		return;
	if (fleet_unpin(call_fleet(c), pool, key) > 0)
		call_answer_nothing(c);
	else
		call_answer_problem(c, 404, "there is no key \"%s\"", key);
}

void
handle_put_sticky_key(struct call *c)
{
	uint32_t pool;
	char text[ENDPOINT_TEXT_MAX];
	const struct policy_pool *p = sticky_pool(c, &pool);
	const char *key = p != NULL ? sticky_key(c, p, text) : NULL;
	json_t *body = key != NULL ? call_read_object(c) : NULL;
	if (body == NULL)
		return;
	const char *member = json_string_value(json_object_get(body, "member"));
	if (member == NULL || json_object_size(body) != 1) {
		call_answer_problem(c, 400, "expected {\"member\": NAME}");
	} else if (!fleet_pin(call_fleet(c), pool, key, member)) {
		call_answer_problem(c, 404, "\"%s\" is no member of the pool \"%s\"", member,
				    p->name);
	} else {
		call_answer_json(c, 200,
				 json_pack("{s:o, s:o, s:o}", "key", json_text(key),
					   "member", json_text(member), "expires_in_seconds",
					   json_seconds(p->sticky.ttl_ms)));
	}
	json_decref(body);
}
