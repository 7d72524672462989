/*
 * Tests of upstream/fleet and path: ways through pools and chains, limits over all of them, what a
 * reload keeps, several threads.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "socks/command.h"
#include "upstream/budget.h"
#include "upstream/fleet.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>

#define UPSTREAMS(...) "\"upstreams\": [" __VA_ARGS__ "], "
#define POOLS(...) "\"pools\": [" __VA_ARGS__ "], "
#define CHAINS(...) "\"chains\": [" __VA_ARGS__ "], "

/* a and b take as many sessions as come; one and two say how many they take */
static const char four[] = UPSTREAMS(
    "{ \"name\": \"a\", \"url\": \"socks5://192.0.2.1:1080\" },"
    "{ \"name\": \"b\", \"url\": \"socks5://192.0.2.2:1080\" },"
    "{ \"name\": \"one\", \"url\": \"http://192.0.2.3:3128\", \"max_connections\": 1 },"
    "{ \"name\": \"two\", \"url\": \"socks4a://192.0.2.4:1080\", \"max_connections\": 2 }");

static struct policy *
load(const char *objects)
{
	char text[8192];
	snprintf(text, sizeof text,
		 "{ %s \"listeners\": [{ \"listen\": \"127.0.0.1:1080\" }], \"default_route\": "
		 "\"direct\" }",
		 objects);
	struct policy_errors errors;
	policy_errors_init(&errors);
	const struct policy_source from = { .text = text, .len = strlen(text), .name = "test" };
	struct policy *p = policy_load(&from, &errors);
	if (p == NULL) {
		char *all = policy_errors_to_text(&errors, "test");
		print_error("%s", all);
		free(all);
	}
	policy_errors_free(&errors);
	assert_non_null(p);
	return p;
}

static struct fleet *
fleet_of(struct board *b, const char *objects)
{
	char why[256] = "";
	struct policy *p = load(objects);
	struct fleet *f = fleet_new(p, b, why, sizeof why);
	if (f == NULL)
		print_error("%s\n", why);
	assert_non_null(f);
	policy_unref(p);
	return f;
}

static struct policy_route
route(const struct fleet *f, const char *name)
{
	struct policy_route r = { ROUTE_DIRECT, 0 };
	assert_true(policy_find_route(fleet_policy(f), name, &r));
	return r;
}

static struct board_entry *
entry(const struct fleet *f, const char *name)
{
	struct policy_route r = route(f, name);
	return r.kind == ROUTE_UPSTREAM ? fleet_upstream(f, r.index)
	       : r.kind == ROUTE_POOL   ? fleet_pool(f, r.index)
	       : r.kind == ROUTE_CHAIN  ? fleet_chain(f, r.index)
	                                : fleet_direct(f);
}

static void
set_state(struct fleet *f, const char *upstream, enum upstream_state state)
{
	atomic_store(&entry(f, upstream)->state, state);
	fleet_state_changed(f, route(f, upstream).index, "");
}

/* Writes "a>b", "direct" for no hop, "none" where there is no way. */
static void
say_path(const struct fleet *f, enum pick_result result, const struct path *p, char *out,
	 size_t cap)
{
	size_t len = 0;
	snprintf(out, cap, "%s", result == PICK_NONE ? "none" : "direct");
	for (unsigned i = 0; result == PICK_OK && i < p->n_hops; i++)
		len += (size_t)snprintf(out + len, cap - len, "%s%s", i > 0 ? ">" : "",
		                        fleet_policy(f)->upstreams[p->hops[i]].name);
}

static void
assert_pick(struct fleet *f, const char *name, struct tried *avoid, struct path *path,
	    const char *want)
{
	char got[256];
	const struct pick_key nobody = { 0 };
	enum pick_result r = fleet_pick_path(f, route(f, name), &nobody, avoid, path);
	say_path(f, r, path, got, sizeof got);
	assert_string_equal(got, want);
	assert_int_equal(path->held, r == PICK_OK);
}

static void
assert_way(struct fleet *f, const char *name, const char *want)
{
	struct path path, seen;
	char got[256];
	const struct pick_key nobody = { 0 };
	enum pick_result r = fleet_preview_path(f, route(f, name), &nobody, &seen);
	assert_false(seen.held);
	say_path(f, r, &seen, got, sizeof got);
	assert_string_equal(got, want);
	assert_pick(f, name, NULL, &path, want);
	fleet_give_back_path(f, &path);
}

static void
assert_nothing_in_use(const struct fleet *f)
{
	const struct policy *p = fleet_policy(f);
	for (uint32_t i = 0; i < p->n_upstreams; i++)
		assert_int_equal(board_in_use(fleet_upstream(f, i)), 0);
	for (uint32_t i = 0; i < p->n_pools; i++)
		assert_int_equal(board_in_use(fleet_pool(f, i)), 0);
	for (uint32_t i = 0; i < p->n_chains; i++)
		assert_int_equal(board_in_use(fleet_chain(f, i)), 0);
	assert_int_equal(board_in_use(fleet_direct(f)), 0);
}

static void
end(struct fleet *f, struct board *b)
{
	assert_nothing_in_use(f);
	fleet_unref(f);
	assert_int_equal(board_count(b), 0);
	board_free(b);
}

/* ---- ways ---- */

static void
test_single_upstream(void **state)
{
	(void)state;
	struct board *b = board_new();
	struct fleet *f = fleet_of(b, four);
	struct path path, second;
	assert_pick(f, "one", NULL, &path, "one");
	assert_int_equal(path.hop_pick[0], UINT8_MAX);
	assert_int_equal(board_in_use(entry(f, "one")), 1);
	assert_pick(f, "one", NULL, &second, "none");
	fleet_give_back_path(f, &second);      /* holds nothing */
	fleet_give_back_path(f, &path);
	assert_way(f, "one", "one");
	atomic_store(&entry(f, "one")->admin, UPSTREAM_DRAINING);
	fleet_state_changed(f, route(f, "one").index, "");
	assert_way(f, "one", "none");
	assert_way(f, "direct", "direct");
	assert_pick(f, "direct", NULL, &path, "direct");
	assert_int_equal(board_in_use(fleet_direct(f)), 1);
	fleet_give_back_path(f, &path);
	end(f, b);
}

static const char nested[] =
    POOLS("{ \"name\": \"outer\", \"balance\": \"first\", \"members\": [\"inner\", \"two\"] },"
	  "{ \"name\": \"inner\", \"balance\": \"first\", \"members\": [\"a\", \"one\"] }");

static struct fleet *
fleet_of_two(struct board *b, const char *first, const char *second)
{
	char text[4096];
	snprintf(text, sizeof text, "%s%s", first, second);
	return fleet_of(b, text);
}

static void
test_nested_pools(void **state)
{
	(void)state;
	struct board *b = board_new();
	struct fleet *f = fleet_of_two(b, four, nested);
	struct path path;
	assert_pick(f, "outer", NULL, &path, "a");
	assert_int_equal(path.n_picks, 2);
	assert_int_equal(path.picks[0].pool, route(f, "outer").index);
	assert_int_equal(path.picks[1].pool, route(f, "inner").index);
	assert_int_equal(path.hop_pick[0], 1);
	assert_int_equal(board_in_use(entry(f, "outer")), 1);
	assert_int_equal(board_in_use(entry(f, "inner")), 1);
	fleet_give_back_path(f, &path);
	struct member_view member;
	assert_int_equal(fleet_pool_members(f, path.picks[1].pool, &member, 1), 2);
	assert_string_equal(member.name, "a");
	assert_int_equal(member.picks, 1);
	set_state(f, "a", UPSTREAM_DOWN);
	assert_way(f, "outer", "one");
	set_state(f, "one", UPSTREAM_DOWN);
	assert_way(f, "outer", "two");
	assert_way(f, "inner", "none");
	assert_false(fleet_route_usable(f, route(f, "inner")));
	set_state(f, "two", UPSTREAM_DOWN);
	assert_way(f, "outer", "none");        /* never direct */
	assert_false(fleet_route_usable(f, route(f, "outer")));
	set_state(f, "one", UPSTREAM_UP);
	assert_true(fleet_route_usable(f, route(f, "outer")));
	assert_way(f, "outer", "one");
	end(f, b);
}

static void
test_full_below_is_passed_by(void **state)
{
	(void)state;
	struct board *b = board_new();
	struct fleet *f = fleet_of_two(b, four, nested);
	struct path held[4];
	set_state(f, "a", UPSTREAM_DOWN);
	assert_pick(f, "outer", NULL, &held[0], "one");
	assert_pick(f, "outer", NULL, &held[1], "two");
	assert_pick(f, "outer", NULL, &held[2], "two");
	assert_pick(f, "outer", NULL, &held[3], "none");
	assert_true(fleet_route_usable(f, route(f, "outer")));
	fleet_give_back_path(f, &held[0]);
	assert_pick(f, "outer", NULL, &held[0], "one");
	fleet_give_back_path(f, &held[1]);
	assert_pick(f, "outer", NULL, &held[1], "two");
	for (int i = 0; i < 3; i++)
		fleet_give_back_path(f, &held[i]);
	end(f, b);
}

static void
test_tried_members_are_avoided(void **state)
{
	(void)state;
	struct board *b = board_new();
	struct fleet *f = fleet_of_two(b, four, nested);
	struct tried tried = { 0 };
	static const char *const want[] = { "a", "one", "two", "none" };
	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		struct path path;
		assert_pick(f, "outer", &tried, &path, want[i]);
		if (path.held)
			tried.list[tried.n++] = path.picks[path.hop_pick[0]];
		fleet_give_back_path(f, &path);
	}
	assert_way(f, "outer", "a");
	end(f, b);
}

/* Ways through an upstream that failed come last, and so do those that pass one twice. */
static void
test_failed_upstreams_come_last(void **state)
{
	(void)state;
	static const char ways[] =
	    CHAINS("{ \"name\": \"a-b\", \"hops\": [\"a\", \"b\"] },"
		   "{ \"name\": \"b-two\", \"hops\": [\"b\", \"two\"] },"
		   "{ \"name\": \"all\", \"hops\": [\"any\", \"any\"] }")
		POOLS("{ \"name\": \"p\", \"balance\": \"first\", \"members\": [\"a-b\", \"b-two\", "
		      "\"b\", \"two\"] },"
		      "{ \"name\": \"any\", \"balance\": \"first\", \"members\": [\"a\", \"b\"] }");
	struct board *b = board_new();
	struct fleet *f = fleet_of_two(b, four, ways);
	struct tried tried = { 0 };
	static const char *const want[] = { "a>b", "two", "b>two", "b", "none" };
	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		struct path path;
		assert_pick(f, "p", &tried, &path, want[i]);
		if (path.held)
			tried.list[tried.n++] = path.picks[0];
		if (i == 0)
			tried.failed[tried.n_failed++] = path.hops[1];
		fleet_give_back_path(f, &path);
	}
	assert_way(f, "all", "a>b");
	set_state(f, "b", UPSTREAM_DOWN);
	assert_way(f, "all", "a>a"); /* for want of another */
	end(f, b);
}

/* Who passes nobody twice waits for nobody, and drops no chain for what its hops name. */
static void
test_twice_where_there_is_no_other(void **state)
{
	(void)state;
	static const char ways[] =
	    CHAINS("{ \"name\": \"b-any\", \"hops\": [\"b\", \"any\"] },"
		   "{ \"name\": \"any-a\", \"hops\": [\"other\", \"a\"] },"
		   "{ \"name\": \"b-kept\", \"hops\": [\"b\", \"kept\"] }")
		POOLS("{ \"name\": \"any\", \"balance\": \"first\", \"members\": [\"two\", \"b\"],"
		      "  \"queue\": { \"max\": 4 } },"
		      "{ \"name\": \"other\", \"balance\": \"first\", \"members\": [\"a\", \"b\"] },"
		      "{ \"name\": \"kept\", \"balance\": \"first\", \"members\": [\"b\", \"a\"],"
		      "  \"sticky\": { \"key\": \"user\" } },"
		      "{ \"name\": \"outer\", \"balance\": \"first\", \"members\": [\"any-a\", \"two\"] }");
	struct board *b = board_new();
	struct fleet *f = fleet_of_two(b, four, ways);
	struct path paths[3];
	assert_pick(f, "b-any", NULL, &paths[0], "b>two");
	assert_pick(f, "b-any", NULL, &paths[1], "b>two");
	assert_pick(f, "b-any", NULL, &paths[2], "b>b"); /* no slot is left in the other */
	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		fleet_give_back_path(f, &paths[i]);
	assert_way(f, "outer", "a>a");
	assert_way(f, "b-kept", "b>b");
	end(f, b);
}

/* By the retries that its budget of 20 percent allows; they are gone then. */
static void
assert_requests(struct fleet *f, const char *pool, unsigned want)
{
	unsigned retries = 0;
	while (fleet_may_retry(f, route(f, pool).index))
		retries++;
	if (retries != BUDGET_RESERVE + want / 5)
		fail_msg("%s: %u retries", pool, retries);
}

/* Neither the second look, where the first found only ways that it had rather not take, nor a retry
 * nor another hop makes a request two; one without a way is none. */
static void
test_a_pool_counts_a_request_once(void **state)
{
	(void)state;
	static const char ways[] =
	    CHAINS("{ \"name\": \"twice\", \"hops\": [\"only\", \"only\"] },"
		   "{ \"name\": \"no\", \"hops\": [\"lost\", \"gone\"] }")
		POOLS("{ \"name\": \"outer\", \"members\": [\"inner\"] },"
		      "{ \"name\": \"inner\", \"members\": [\"a\", \"b\"] },"
		      "{ \"name\": \"only\", \"members\": [\"a\"] },"
		      "{ \"name\": \"lost\", \"members\": [\"a\"] },"
		      "{ \"name\": \"gone\", \"members\": [\"one\"] }");
	struct board *b = board_new();
	struct fleet *f = fleet_of_two(b, four, ways);
	struct path path;
	clock_fake(1000000, 0);
	set_state(f, "one", UPSTREAM_DOWN);
	for (int i = 0; i < 50; i++) {
		struct tried tried = { 0 };
		const struct pick_key nobody = { 0 };
		assert_way(f, "twice", "a>a");
		assert_way(f, "no", "none");
		for (unsigned attempt = 0; attempt < 2; attempt++) {
			assert_int_equal(fleet_pick_path(f, route(f, "outer"), &nobody, &tried, &path),
					 PICK_OK);
			tried.list[tried.n++] = path.picks[1];
			tried.failed[tried.n_failed++] = path.hops[0];
			fleet_give_back_path(f, &path);
		}
	}
	assert_requests(f, "only", 50);
	assert_requests(f, "outer", 50);
	assert_requests(f, "inner", 50);
	assert_requests(f, "lost", 0);
	clock_fake_stop();
	end(f, b);
}

static const char chained[] = CHAINS("{ \"name\": \"ab\", \"hops\": [\"a\", \"b\"] },"
				     "{ \"name\": \"a-limited\", \"hops\": [\"a\", \"limited\"] }")
    POOLS("{ \"name\": \"p\", \"balance\": \"first\", \"members\": [\"a-limited\", \"ab\", "
	  "\"direct\"] },"
	  "{ \"name\": \"limited\", \"balance\": \"first\", \"members\": [\"one\", \"two\"] }");

static void
test_chains_in_pools(void **state)
{
	(void)state;
	struct board *b = board_new();
	struct fleet *f = fleet_of_two(b, four, chained);
	struct path held[4], path;
	assert_pick(f, "p", NULL, &held[0], "a>one");
	assert_int_equal(held[0].n_chains, 1);
	assert_int_equal(held[0].hop_pick[0], 0);      /* the chain was p's choice, */
	assert_int_equal(held[0].hop_pick[1], 1);      /* its second hop that of limited */
	assert_int_equal(board_in_use(entry(f, "a-limited")), 1);
	path = fleet_first_hops(&held[0], 1);
	assert_true(path.n_hops == 1 && path.hops[0] == route(f, "a").index && path.hop_pick[0] == UINT8_MAX);
	assert_true(!path.held && path.n_picks == 0 && path.n_chains == 0);
	assert_pick(f, "p", NULL, &held[1], "a>two");
	assert_pick(f, "a-limited", NULL, &held[2], "a>two");
	assert_pick(f, "p", NULL, &held[3], "a>b");
	assert_int_equal(board_in_use(entry(f, "a")), 4);
	assert_pick(f, "a-limited", NULL, &path, "none");
	assert_int_equal(board_in_use(entry(f, "a")), 4);      /* taken, then given back */
	for (int i = 0; i < 4; i++)
		fleet_give_back_path(f, &held[i]);
	assert_nothing_in_use(f);
	set_state(f, "one", UPSTREAM_DOWN);
	set_state(f, "two", UPSTREAM_DOWN);
	assert_way(f, "p", "a>b");
	set_state(f, "b", UPSTREAM_DOWN);
	assert_way(f, "p", "direct");          /* since the document says so */
	assert_way(f, "ab", "none");
	set_state(f, "two", UPSTREAM_UP);
	assert_way(f, "p", "a>two");
	set_state(f, "a", UPSTREAM_DOWN);
	assert_way(f, "p", "direct");
	end(f, b);
}

/* A chain that names a member of the pool that it is in: nothing is lost when its second hop is
 * full by its first. */
static void
test_upstream_twice_on_a_way(void **state)
{
	(void)state;
	static const char twice[] = CHAINS("{ \"name\": \"c\", \"hops\": [\"one\", \"p\"] }")
	    POOLS("{ \"name\": \"p\", \"balance\": \"first\", \"members\": [\"one\"] },"
	          "{ \"name\": \"q\", \"members\": [\"c\", \"a\"] }");
	struct board *b = board_new();
	struct fleet *f = fleet_of_two(b, four, twice);
	assert_way(f, "p", "one");
	struct path path;
	for (int i = 0; i < 4; i++) {
		assert_pick(f, "q", NULL, &path, "a");
		fleet_give_back_path(f, &path);
		assert_nothing_in_use(f);
	}
	assert_way(f, "p", "one");
	end(f, b);
}

/* As long as the policy lets paths be: a chain of as many pools as there may be. */
static void
test_longest_path(void **state)
{
	(void)state;
	char text[4096];
	int len = snprintf(
	    text, sizeof text,
	    UPSTREAMS("{ \"name\": \"a\", \"url\": \"socks5://192.0.2.1:1080\" }")
		POOLS("{ \"name\": \"p\", \"members\": [\"a\"] }") "\"chains\": [{ \"name\": "
								   "\"c\", \"hops\": [");
	for (int i = 0; i < PATH_HOPS_MAX; i++)
		len +=
		    snprintf(text + len, sizeof text - (size_t)len, "%s\"p\"", i > 0 ? ", " : "");
	snprintf(text + len, sizeof text - (size_t)len, "] }], ");
	struct board *b = board_new();
	struct fleet *f = fleet_of(b, text);
	struct path path;
	const struct pick_key nobody = { 0 };
	assert_int_equal(fleet_pick_path(f, route(f, "c"), &nobody, NULL, &path), PICK_OK);
	assert_int_equal(path.n_hops, PATH_HOPS_MAX);
	assert_int_equal(path.n_picks, PATH_PICKS_MAX);
	assert_int_equal(board_in_use(entry(f, "a")), PATH_HOPS_MAX);
	fleet_give_back_path(f, &path);
	end(f, b);
}

/* ---- commands ---- */

static void
test_members_that_cannot_do_a_command(void **state)
{
	(void)state;
	static const struct {
		uint8_t command;
		const char *pool, *want;
	} picks[] = {
		{ 0, "p", "web" },
		{ SOCKS_CONNECT, "p", "web" },
		{ SOCKS_BIND, "p", "old" },
		{ SOCKS_UDP, "p", "five" },
		{ SOCKS_UDP, "none", "none" },
		{ SOCKS_BIND, "none", "tls" },
		{ SOCKS_BIND, "last", "web>old" },
		{ SOCKS_UDP, "last", "none" },
		{ SOCKS_UDP, "lone", "web" },
	};
	struct board *b = board_new();
	struct fleet *f = fleet_of(
	    b, UPSTREAMS("{ \"name\": \"web\", \"url\": \"http://192.0.2.1\" },"
			 "{ \"name\": \"old\", \"url\": \"socks4://192.0.2.2\" },"
			 "{ \"name\": \"five\", \"url\": \"socks5://192.0.2.3\" },"
			 "{ \"name\": \"tls\", \"url\": \"socks5+tls://192.0.2.4\" }")
		   POOLS("{ \"name\": \"p\", \"balance\": \"first\", \"members\": [\"web\", \"old\", "
			 "\"tls\", \"five\"] },"
			 "{ \"name\": \"none\", \"balance\": \"first\", \"members\": [\"web\", "
			 "\"tls\"] },"
			 "{ \"name\": \"last\", \"members\": [\"both\"] }")
		       "\"chains\": [{ \"name\": \"both\", \"hops\": [\"web\", \"old\"] },"
		       "{ \"name\": \"lone\", \"hops\": [\"web\"] }],");
	for (size_t i = 0; i < ARRAY_LEN(picks); i++) {
		char got[256];
		struct path path;
		const struct pick_key key = { .command = picks[i].command };
		enum pick_result r =
		    fleet_pick_path(f, route(f, picks[i].pool), &key, NULL, &path);
		say_path(f, r, &path, got, sizeof got);
		assert_string_equal(got, picks[i].want);
		fleet_give_back_path(f, &path);
	}
	end(f, b);
}

/* ---- limits, weights, reload ---- */

static void
test_limit_over_pools(void **state)
{
	(void)state;
	static const char pools[] = POOLS("{ \"name\": \"p\", \"members\": [\"one\", \"two\"] },"
					  "{ \"name\": \"q\", \"balance\": \"least_connections\", "
					  "\"members\": [\"one\", \"two\"] }");
	struct board *b = board_new();
	struct fleet *f = fleet_of_two(b, four, pools);
	struct path held[3], path;
	assert_pick(f, "p", NULL, &held[0], "one");
	assert_pick(f, "q", NULL, &held[1], "two");
	assert_pick(f, "two", NULL, &held[2], "two");
	assert_pick(f, "p", NULL, &path, "none");
	assert_pick(f, "q", NULL, &path, "none");
	fleet_give_back_path(f, &held[2]);
	assert_pick(f, "q", NULL, &held[2], "two");
	fleet_give_back_path(f, &held[0]);
	assert_pick(f, "q", NULL, &held[0], "one");
	for (int i = 0; i < 3; i++)
		fleet_give_back_path(f, &held[i]);
	end(f, b);
}

static void
test_weight_by_the_operator(void **state)
{
	(void)state;
	static const char pool[] =
	    POOLS("{ \"name\": \"p\", \"members\": [\"a\", { \"name\": \"b\", \"weight\": 3 }] }");
	struct board *b = board_new();
	struct fleet *f = fleet_of_two(b, four, pool);
	struct member_view views[2];
	assert_int_equal(fleet_pool_members(f, 0, NULL, 0), 2);
	atomic_store(&entry(f, "b")->weight, 0);
	fleet_state_changed(f, route(f, "b").index, "");
	for (int i = 0; i < 8; i++)
		assert_way(f, "p", "a");
	assert_int_equal(fleet_pool_members(f, 0, views, 2), 2);
	assert_false(views[1].usable);
	assert_string_equal(views[1].reason, "weight 0");
	atomic_store(&entry(f, "b")->weight, -1);
	fleet_state_changed(f, route(f, "b").index, "");
	unsigned to_b = 0;
	for (int i = 0; i < 40; i++) {
		struct path path;
		const struct pick_key nobody = { 0 };
		assert_int_equal(fleet_pick_path(f, route(f, "p"), &nobody, NULL, &path), PICK_OK);
		to_b += path.hops[0] == route(f, "b").index;
		fleet_give_back_path(f, &path);
	}
	assert_int_equal(to_b, 30);
	end(f, b);
}

static void
test_members_as_the_api_shows_them(void **state)
{
	(void)state;
	struct board *b = board_new();
	struct fleet *f = fleet_of_two(b, four, chained);
	struct member_view v[3];
	struct path path;
	uint32_t p = route(f, "p").index, limited = route(f, "limited").index;
	assert_pick(f, "one", NULL, &path, "one");
	set_state(f, "two", UPSTREAM_DOWN);
	assert_int_equal(fleet_pool_members(f, limited, v, 2), 2);
	assert_string_equal(v[0].name, "one");
	assert_string_equal(v[0].state, "unknown");
	assert_string_equal(v[0].reason, "no free slot");
	assert_int_equal(v[0].sessions_open, 1);
	assert_int_equal(v[0].weight, 1);
	assert_string_equal(v[1].state, "down");
	assert_string_equal(v[1].reason, "down");
	assert_false(v[1].usable);
	set_state(f, "b", UPSTREAM_DOWN);
	assert_int_equal(fleet_pool_members(f, p, v, 3), 3);
	assert_string_equal(v[0].state, "up");
	assert_string_equal(v[0].reason, "no free slot");
	assert_string_equal(v[1].state, "down");
	assert_string_equal(v[1].reason, "no usable upstream");
	assert_string_equal(v[2].name, "direct");
	assert_true(v[2].usable);
	fleet_give_back_path(f, &path);
	end(f, b);
}

static void
test_reload_keeps_what_is_known(void **state)
{
	(void)state;
	struct board *b = board_new();
	struct fleet *before = fleet_of_two(b, four, nested);
	struct path held, path;
	atomic_store(&entry(before, "a")->sessions_total, 77);
	set_state(before, "a", UPSTREAM_DOWN);
	assert_pick(before, "outer", NULL, &held, "one");

	struct fleet *after = fleet_of_two(b, four, nested);
	assert_int_equal(atomic_load(&entry(after, "a")->sessions_total), 77);
	assert_string_equal(board_state_text(entry(after, "a")), "down");
	assert_pick(after, "inner", NULL, &path, "none");      /* the old session counts */
	fleet_give_back_path(before, &held);
	assert_way(after, "inner", "one");                     /* and so does its end */
	set_state(after, "one", UPSTREAM_DOWN);
	assert_way(before, "inner", "none");
	fleet_unref(before);
	assert_way(after, "outer", "two");

	/* gone from the document, then there again: a new one */
	struct fleet *without =
	    fleet_of(b, UPSTREAMS("{ \"name\": \"b\", \"url\": \"socks5://192.0.2.2:1080\" }"));
	fleet_unref(after);
	after = fleet_of_two(b, four, nested);
	fleet_unref(without);
	assert_int_equal(atomic_load(&entry(after, "a")->sessions_total), 0);
	assert_way(after, "outer", "a");
	end(after, b);
}

static void
test_another_address_begins_anew(void **state)
{
	(void)state;
	struct board *b = board_new();
	struct fleet *before =
	    fleet_of(b, UPSTREAMS("{ \"name\": \"a\", \"url\": \"socks5://192.0.2.1:1080\" }"));
	set_state(before, "a", UPSTREAM_DOWN);
	struct fleet *after =
	    fleet_of(b, UPSTREAMS("{ \"name\": \"a\", \"url\": \"socks5://192.0.2.9:1080\" }"));
	assert_way(before, "a", "none");
	assert_way(after, "a", "a");
	fleet_unref(before);
	end(after, b);
}

static const char some_ca[] = "-----BEGIN CERTIFICATE-----\n"
                              "MIIBcDCCARWgAwIBAgIUfp+pIxSqRtrVz2HVbAojAsCuesMwCgYIKoZIzj0EAwIw\n"
                              "DDEKMAgGA1UEAwwBdDAgFw0yNjExMjEwMzIwMzRaGA8yMTI2MTAyODAzMjAzNFow\n"
                              "DDEKMAgGA1UEAwwBdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABCYP1msPi4yo\n"
                              "8jo0Pz4imoMEq3115SDCBXFMMzSILzBHusaXq7nIdu5bDai58gytODY4pmyfjF20\n"
                              "6G9QXaO5RN2jUzBRMB0GA1UdDgQWBBQfP7wWiS1IOQzYIbmyZoO/HPeThzAfBgNV\n"
                              "HSMEGDAWgBQfP7wWiS1IOQzYIbmyZoO/HPeThzAPBgNVHRMBAf8EBTADAQH/MAoG\n"
                              "CCqGSM49BAMCA0kAMEYCIQD9HOQTNrYQW2UqCfFpMqVGnOwZrTNKlRXQi2qGPmbr\n"
                              "eAIhAIoJqL5U19DMfFeLJqli1s3xjeAHWjCsOdzcmod77har\n"
                              "-----END CERTIFICATE-----\n";

/* The file was good when the policy was checked, and is not any more. */
static void
test_tls_that_cannot_be_had(void **state)
{
	(void)state;
	struct board *b = board_new();
	char why[256] = "", path[] = "/tmp/sockroute-test-XXXXXX", text[512];
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, some_ca, strlen(some_ca)), strlen(some_ca));
	snprintf(text, sizeof text,
		 UPSTREAMS("{ \"name\": \"u\", \"url\": \"https://192.0.2.1:1080\" },"
			   "{ \"name\": \"t\", \"url\": \"socks5+tls://192.0.2.2:1080\", \"tls\": "
			   "{ \"ca\": \"%s\" } }"),
		 path);
	struct policy *p = load(text);
	struct fleet *f = fleet_new(p, b, why, sizeof why);
	assert_non_null(f);
	fleet_unref(f);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_null(fleet_new(p, b, why, sizeof why));
	assert_non_null(strstr(why, "upstream t: "));
	assert_non_null(strstr(why, path));
	policy_unref(p);
	close(fd);
	remove(path);
	assert_int_equal(board_count(b), 0);
	board_free(b);
}

static void
test_tls_is_shared_by_settings(void **state)
{
	(void)state;
	struct board *b = board_new();
	struct fleet *f =
	    fleet_of(b, UPSTREAMS("{ \"name\": \"a\", \"url\": \"socks5+tls://192.0.2.1:1080\" },"
				  "{ \"name\": \"b\", \"url\": \"https://192.0.2.2:1080\" },"
				  "{ \"name\": \"c\", \"url\": \"https://192.0.2.2:1081\", "
				  "\"tls\": { \"verify\": false } },"
				  "{ \"name\": \"d\", \"url\": \"http://192.0.2.2:1082\" }"));
	assert_non_null(fleet_tls(f, 0));
	assert_ptr_equal(fleet_tls(f, 0), fleet_tls(f, 1));
	assert_ptr_not_equal(fleet_tls(f, 0), fleet_tls(f, 2));
	assert_null(fleet_tls(f, 3));
	end(f, b);
}

/* ---- several threads ---- */

enum { THREADS = 4, TURNS = 4000 };

struct contest {
	struct fleet *f;
	struct policy_route routes[4];
	atomic_uint over, none;
};

static void *
compete(void *arg)
{
	struct contest *c = arg;
	const struct pick_key nobody = { 0 };
	for (unsigned i = 0; i < TURNS; i++) {
		struct path path;
		if (fleet_pick_path(c->f, c->routes[i % 4], &nobody, NULL, &path) == PICK_NONE) {
			atomic_fetch_add(&c->none, 1);
			continue;
		}
		for (unsigned hop = 0; hop < path.n_hops; hop++) {
			uint32_t max =
			    fleet_policy(c->f)->upstreams[path.hops[hop]].max_connections;
			if (max > 0 && board_in_use(fleet_upstream(c->f, path.hops[hop])) > max)
				atomic_fetch_add(&c->over, 1);
		}
		if (i % 64 == 0) {
			struct fleet *held = fleet_ref(c->f);
			fleet_state_changed(held, path.n_hops > 0 ? path.hops[0] : 0, "");
			fleet_unref(held);
		}
		fleet_give_back_path(c->f, &path);
	}
	return NULL;
}

/* Limits hold, counts end at 0, and no free slot is forgotten: all can be picked at the end. */
static void
test_threads(void **state)
{
	(void)state;
	static const char busy[] =
	    CHAINS("{ \"name\": \"c\", \"hops\": [\"one\", \"least\"] }") POOLS(
		"{ \"name\": \"least\", \"balance\": \"least_connections\", \"members\": [\"two\", "
		"\"b\"] },"
		"{ \"name\": \"turns\", \"members\": [\"one\", \"two\", \"c\"] },"
		"{ \"name\": \"any\", \"balance\": \"random\", \"members\": [\"turns\", \"least\"] "
		"},"
		"{ \"name\": \"first\", \"balance\": \"first\", \"members\": [\"one\", \"two\"] }");
	struct board *b = board_new();
	struct contest c = { .f = fleet_of_two(b, four, busy) };
	static const char *const names[] = { "turns", "any", "first", "c" };
	for (size_t i = 0; i < 4; i++)
		c.routes[i] = route(c.f, names[i]);
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, compete, &c), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&c.over), 0);
	assert_true(atomic_load(&c.none) < THREADS * TURNS);
	assert_nothing_in_use(c.f);
	struct path held[3], path;
	assert_pick(c.f, "first", NULL, &held[0], "one");
	assert_pick(c.f, "first", NULL, &held[1], "two");
	assert_pick(c.f, "first", NULL, &held[2], "two");
	assert_pick(c.f, "first", NULL, &path, "none");
	for (int i = 0; i < 3; i++)
		fleet_give_back_path(c.f, &held[i]);
	end(c.f, b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_single_upstream),
		cmocka_unit_test(test_nested_pools),
		cmocka_unit_test(test_full_below_is_passed_by),
		cmocka_unit_test(test_tried_members_are_avoided),
		cmocka_unit_test(test_a_pool_counts_a_request_once),
		cmocka_unit_test(test_failed_upstreams_come_last),
		cmocka_unit_test(test_twice_where_there_is_no_other),
		cmocka_unit_test(test_chains_in_pools),
		cmocka_unit_test(test_upstream_twice_on_a_way),
		cmocka_unit_test(test_longest_path),
		cmocka_unit_test(test_members_that_cannot_do_a_command),
		cmocka_unit_test(test_limit_over_pools),
		cmocka_unit_test(test_weight_by_the_operator),
		cmocka_unit_test(test_members_as_the_api_shows_them),
		cmocka_unit_test(test_reload_keeps_what_is_known),
		cmocka_unit_test(test_another_address_begins_anew),
		cmocka_unit_test(test_tls_that_cannot_be_had),
		cmocka_unit_test(test_tls_is_shared_by_settings),
		cmocka_unit_test(test_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
