/*
 * parse_pool: a pool: its members, how one is chosen, and all that happens around the choice.
 */
#include <stdlib.h>
#include <string.h>

#include "policy/sections.h"

#include "policy/names.h"

enum { WEIGHT_MAX = 256, TIER_MAX = 255, ATTEMPTS_MAX = 15, ENTRIES_MAX = 10000000, WAITING_MAX = 1000000, FAILURES_MAX = 100, AVOID_FAILURES_MAX = 1000, RACE_COUNT_MAX = 8 };

#define HOURS (60u * 60 * 1000)

/* ---- members ---- */

static bool
read_member_name(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_member *m = object;
	return names_parse_route(c, v, ROUTE_MAY_DIRECT, &m->route, &m->name);
}

static const struct parse_field member_fields[] = {
	{ .key = "name", .kind = PARSE_CUSTOM, .flags = PARSE_REQUIRED, .read = read_member_name },
	{ .key = "weight",
	    .kind = PARSE_U32,
	    .offset = offsetof(struct policy_member, weight),
	    .max = WEIGHT_MAX },
	{ .key = "tier",
	    .kind = PARSE_U32,
	    .offset = offsetof(struct policy_member, tier),
	    .max = TIER_MAX },
};

/* A name, or an object with more to say. */
static bool
read_member(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_member *m = object;
	m->weight = 1;
	if (v->type == SCAN_STRING)
		return read_member_name(c, v, m);
	if (v->type == SCAN_OBJECT)
		return parse_object(c, v, member_fields, ARRAY_LEN(member_fields), m);
	parse_error_expected(
	    c, v, "a member: a name, or an object with \"name\", \"weight\" and \"tier\"");
	return false;
}

static int
by_member_name(const void *a, const void *b)
{
	const struct policy_member *x = *(const struct policy_member *const *)a,
	                           *y = *(const struct policy_member *const *)b;
	int order = strcmp(x->name, y->name);
	return order != 0 ? order : x < y ? -1 : x > y;
}

/* Each name once. All members are sound. */
static bool
check_members(struct parse_context *c, const struct json_value *v, const struct policy_pool *p)
{
	const struct policy_member **sorted = malloc(p->n_members * sizeof *sorted);
	char quoted[128];
	bool ok = true;
	if (sorted == NULL) {
		parse_error_memory(c);
		return false;
	}
	for (size_t i = 0; i < p->n_members; i++)
		sorted[i] = &p->members[i];
	qsort(sorted, p->n_members, sizeof *sorted, by_member_name);
	for (size_t i = 1; i < p->n_members; i++) {
		if (strcmp(sorted[i - 1]->name, sorted[i]->name) != 0)
			continue;
		const struct json_value *at = v->first;
		for (size_t k = (size_t)(sorted[i] - p->members); k > 0; k--)
			at = at->next;
		parse_error(c, at, "found the member %s twice, expected each once",
		    parse_quote(sorted[i]->name, quoted, sizeof quoted));
		ok = false;
	}
	free(sorted);
	return ok;
}

static bool
read_members(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_pool *p = object;
	void *list = NULL;
	bool ok = parse_is_list(c, v, "members") && parse_list(c, v, "members", sizeof *p->members,
	                                                read_member, &list, &p->n_members);
	p->members = list;
	return ok && check_members(c, v, p);
}

static const struct parse_word balance_words[] = {
	{ .text = "round_robin", .value = BALANCE_ROUND_ROBIN },
	{ .text = "least_connections", .value = BALANCE_LEAST_CONNECTIONS },
	{ .text = "random", .value = BALANCE_RANDOM },
	{ .text = "first", .value = BALANCE_FIRST },
	{ .text = "two_choices", .value = BALANCE_TWO_CHOICES },
	{ .text = "least_latency", .value = BALANCE_LEAST_LATENCY },
	{ .text = "consistent_hash", .value = BALANCE_CONSISTENT_HASH },
	{ .text = NULL },
};

static const struct parse_word key_words[] = {
	{ .text = "client_ip", .value = KEY_CLIENT_IP },
	{ .text = "user", .value = KEY_USER },
	{ .text = "session", .value = KEY_SESSION },
	{ .text = "destination", .value = KEY_DESTINATION },
	{ .text = "destination_host", .value = KEY_DESTINATION_HOST },
	{ .text = NULL },
};

static const struct parse_field retry_fields[] = {
	{ .key = "attempts",
	    .kind = PARSE_U32,
	    .offset = offsetof(struct policy_pool, retry_attempts),
	    .max = ATTEMPTS_MAX },
	{ .key = "budget_percent",
	    .kind = PARSE_U32,
	    .offset = offsetof(struct policy_pool, retry_budget_percent),
	    .max = 100 },
};

static bool
read_retry(struct parse_context *c, const struct json_value *v, void *object)
{
	return parse_object(c, v, retry_fields, ARRAY_LEN(retry_fields), object);
}

#define AT(member) .offset = offsetof(struct policy_race, member)
static const struct parse_field race_fields[] = {
	{ .key = "count", .kind = PARSE_U32, AT(count), .min = 2, .max = RACE_COUNT_MAX },
	{ .key = "delay", .kind = PARSE_DURATION, AT(delay_ms), .min = 1, .max = 60 * 1000 },
	{ .key = "max_extra_percent",
	    .kind = PARSE_U32,
	    AT(max_extra_percent),
	    .max = 100 * (RACE_COUNT_MAX - 1) },
};
#undef AT

static bool
read_race(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_race *r = &((struct policy_pool *)object)->race;
	*r = (struct policy_race){ .count = 2, .delay_ms = 200, .max_extra_percent = 100 };
	return parse_object(c, v, race_fields, ARRAY_LEN(race_fields), r);
}

static bool
read_health(struct parse_context *c, const struct json_value *v, void *object)
{
	return parse_health(c, v, &((struct policy_pool *)object)->health);
}

#define AT(member) .offset = offsetof(struct policy_sticky, member)
static const struct parse_field sticky_fields[] = {
	{ .key = "key", .kind = PARSE_WORD, .flags = PARSE_REQUIRED, AT(key), .words = key_words },
	{ .key = "ttl", .kind = PARSE_DURATION, AT(ttl_ms), .min = 1000, .max = 1000ull * HOURS },
	{ .key = "max_entries", .kind = PARSE_U32, AT(max_entries), .min = 1, .max = ENTRIES_MAX },
	{ .key = "repin", .kind = PARSE_BOOL, AT(repin) },
};
#undef AT

static bool
read_sticky(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_sticky *s = &((struct policy_pool *)object)->sticky;
	return parse_object(c, v, sticky_fields, ARRAY_LEN(sticky_fields), s);
}

#define AT(member) .offset = offsetof(struct policy_queue, member)
static const struct parse_field queue_fields[] = {
	{ .key = "max", .kind = PARSE_U32, AT(max), .min = 1, .max = WAITING_MAX },
	{ .key = "timeout", .kind = PARSE_DURATION, AT(timeout_ms), .min = 1, .max = HOURS },
};
#undef AT

static bool
read_queue(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_queue *q = &((struct policy_pool *)object)->queue;
	*q = (struct policy_queue){ .max = 1000, .timeout_ms = 5000 };
	return parse_object(c, v, queue_fields, ARRAY_LEN(queue_fields), q);
}

#define AT(member) .offset = offsetof(struct policy_outlier, member)
static const struct parse_field outlier_fields[] = {
	{ .key = "failures", .kind = PARSE_U32, AT(failures), .min = 1, .max = FAILURES_MAX },
	{ .key = "window", .kind = PARSE_DURATION, AT(window_ms), .min = 1, .max = HOURS },
	{ .key = "ejection", .kind = PARSE_DURATION, AT(ejection_ms), .min = 1, .max = HOURS },
	{ .key = "max_ejected_percent", .kind = PARSE_U32, AT(max_ejected_percent), .max = 100 },
};
#undef AT

static bool
read_outlier(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_outlier *o = &((struct policy_pool *)object)->outlier;
	*o = (struct policy_outlier){
		.failures = 5,
		.window_ms = 30000,
		.ejection_ms = 30000,
		.max_ejected_percent = 50,
	};
	return parse_object(c, v, outlier_fields, ARRAY_LEN(outlier_fields), o);
}

#define AT(member) .offset = offsetof(struct policy_avoid, member)
static const struct parse_field avoid_fields[] = {
	{ .key = "failures", .kind = PARSE_U32, AT(failures), .min = 1, .max = AVOID_FAILURES_MAX },
	{ .key = "for", .kind = PARSE_DURATION, AT(for_ms), .min = 1, .max = 24ull * HOURS },
};
#undef AT

static bool
read_avoid(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_avoid *a = &((struct policy_pool *)object)->avoid;
	*a = (struct policy_avoid){ .failures = 3, .for_ms = 600000 };
	return parse_object(c, v, avoid_fields, ARRAY_LEN(avoid_fields), a);
}

#define AT(member) .offset = offsetof(struct policy_pool, member)
static const struct parse_field pool_fields[] = {
	{ .key = "name", .kind = PARSE_NAME, .flags = PARSE_REQUIRED, AT(name) },
	{ .key = "members", .kind = PARSE_CUSTOM, .flags = PARSE_REQUIRED, .read = read_members },
	{ .key = "balance", .kind = PARSE_WORD, AT(balance), .words = balance_words },
	{ .key = "retry", .kind = PARSE_CUSTOM, .read = read_retry },
	{ .key = "health", .kind = PARSE_CUSTOM, .read = read_health },
	{ .key = "sticky", .kind = PARSE_CUSTOM, .read = read_sticky },
	{ .key = "race", .kind = PARSE_CUSTOM, .read = read_race },
	{ .key = "outlier", .kind = PARSE_CUSTOM, .read = read_outlier },
	{ .key = "slow_start", .kind = PARSE_DURATION, AT(slow_start_ms), .max = HOURS },
	{ .key = "queue", .kind = PARSE_CUSTOM, .read = read_queue },
	{ .key = "avoid", .kind = PARSE_CUSTOM, .read = read_avoid },
	{ .key = "hash_key", .kind = PARSE_WORD, AT(hash_key), .words = key_words },
};
#undef AT

/* What the keys say together. */
static bool
check_pool(struct parse_context *c, const struct json_value *v, struct policy_pool *p)
{
	const struct json_value *hash_key = json_member(v, "hash_key");
	if (hash_key != NULL && p->balance != BALANCE_CONSISTENT_HASH) {
		parse_error_at_key(c, hash_key,
		    "found \"hash_key\", expected it for \"balance\": \"consistent_hash\" only");
		return false;
	}
	if (p->balance == BALANCE_CONSISTENT_HASH && hash_key == NULL)
		p->hash_key = KEY_CLIENT_IP;
	return true;
}

static bool
read_pool(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_pool *p = object;
	p->balance = BALANCE_ROUND_ROBIN;
	p->retry_attempts = 2;
	p->retry_budget_percent = 20;
	p->sticky = (struct policy_sticky){ .ttl_ms = 600000, .max_entries = 100000, .repin = true };
	parse_health_defaults(&p->health);
	return parse_object(c, v, pool_fields, ARRAY_LEN(pool_fields), p) && check_pool(c, v, p);
}

bool
parse_pools(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy *p = object;
	void *list = NULL;
	bool ok = parse_list(c, v, "pools", sizeof *p->pools, read_pool, &list, &p->n_pools);
	p->pools = list;
	return ok;
}
