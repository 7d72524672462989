/*
 * The table of calls: what is found, what is refused and how, and that nothing but the two health
 * calls goes without a token.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "admin/routes.h"

static const struct {
	const char *method, *path;
	const char *pattern; /* NULL: none */
	const char *name, *allow;
} requests[] = {
	{ "GET", "/healthz", "/healthz", "", "" },
	{ "HEAD", "/healthz", "/healthz", "", "" },
	{ "GET", "/v1/upstreams", "/v1/upstreams", "", "" },
	{ "GET", "/v1/upstreams/paris", "/v1/upstreams/*", "paris", "" },
	{ "PATCH", "/v1/upstreams/paris", "/v1/upstreams/*", "paris", "" },
	{ "GET", "/v1/upstreams/a%2Fb", "/v1/upstreams/*", "a%2Fb", "" },
	{ "GET", "/v1/upstreams/", NULL, NULL, "" },
	{ "GET", "/v1/pools/p/sticky", "/v1/pools/*/sticky", "p/sticky", "" },
	{ "PUT", "/v1/pools/p/sticky/k%2F1", "/v1/pools/*/sticky/*", "p/sticky/k%2F1", "" },
	{ "GET", "/v1/pools/p/sticky/k", NULL, NULL, "PUT, DELETE" },
	{ "GET", "/v1/pools//sticky", NULL, NULL, "" },
	{ "PUT", "/v1/pools/p/sticky/", NULL, NULL, "" },
	{ "PUT", "/v1/pools/p/sticky/k/1", NULL, NULL, "" },
	{ "GET", "/v1/upstreams/a/b", NULL, NULL, "" },
	{ "GET", "/v1/upstreamsx", NULL, NULL, "" },
	{ "GET", "/v1/upstream", NULL, NULL, "" },
	{ "GET", "/", NULL, NULL, "" },
	{ "GET", "", NULL, NULL, "" },
	{ "GET", "/healthz/", NULL, NULL, "" },
	{ "POST", "/healthz", NULL, NULL, "GET, HEAD" },
	{ "OPTIONS", "/v1/policy", NULL, NULL, "GET, HEAD, PUT" },
	{ "DELETE", "/v1/upstreams/paris", NULL, NULL, "GET, HEAD, PATCH" },
	{ "GET", "/v1/connections/7", NULL, NULL, "DELETE" },
	{ "HEAD", "/v1/drain", NULL, NULL, "POST" },
	{ "get", "/healthz", NULL, NULL, "GET, HEAD" },
	{ "DELETE", "/v1/connections", "/v1/connections", "", "" },
	{ "DELETE", "/v1/connections/7", "/v1/connections/*", "7", "" },
};

static void
test_requests(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		char allow[ROUTE_ALLOW_MAX];
		const char *name = NULL;
		const struct route *r =
		    routes_find(requests[i].method, requests[i].path, &name, allow);
		print_message("%s %s\n", requests[i].method, requests[i].path);
		assert_string_equal(allow, requests[i].allow);
		if (requests[i].pattern == NULL) {
			assert_null(r);
			continue;
		}
		assert_non_null(r);
		assert_string_equal(r->pattern, requests[i].pattern);
		assert_string_equal(name, requests[i].name);
	}
}

static void
test_only_health_is_open(void **state)
{
	(void)state;
	for (size_t i = 0; i < n_routes; i++) {
		bool health = strcmp(routes[i].pattern, "/healthz") == 0 ||
			      strcmp(routes[i].pattern, "/readyz") == 0;
		assert_int_equal(routes[i].access, health ? ROUTE_OPEN : ROUTE_NEEDS_TOKEN);
	}
}

/* The first of two would hide the second; a name stands between slashes, so that two patterns
 * never fit one path. */
static void
test_table_is_sound(void **state)
{
	(void)state;
	for (size_t i = 0; i < n_routes; i++) {
		for (const char *star = routes[i].pattern; (star = strchr(star, '*')) != NULL;
		     star++)
			assert_true((star[1] == '\0' || star[1] == '/') && star[-1] == '/');
		assert_non_null(routes[i].handle);
		for (size_t k = 0; k < i; k++)
			assert_false(strcmp(routes[i].method, routes[k].method) == 0 &&
				     strcmp(routes[i].pattern, routes[k].pattern) == 0);
	}
}

static void
test_arguments(void **state)
{
	const struct route r = { .arguments = "to client limit" };
	const struct route none = { .arguments = "" };
	(void)state;
	assert_true(route_takes_argument(&r, "to"));
	assert_true(route_takes_argument(&r, "client"));
	assert_true(route_takes_argument(&r, "limit"));
	assert_false(route_takes_argument(&r, "t"));
	assert_false(route_takes_argument(&r, "tox"));
	assert_false(route_takes_argument(&r, ""));
	assert_false(route_takes_argument(&r, "to client"));
	assert_false(route_takes_argument(&none, "to"));
	assert_false(route_takes_argument(&none, ""));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_only_health_is_open),
		cmocka_unit_test(test_table_is_sound),
		cmocka_unit_test(test_arguments),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
