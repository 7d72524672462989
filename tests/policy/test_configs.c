/*
 * The examples under configs/ are policies: each of them loads. That they fit the schema is shown
 * by the whole-program tests.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/policy.h"

#include <glob.h>
#include <string.h>

static void
test_every_example_loads(void **state)
{
	(void)state;
	glob_t found;
	size_t n = 0;
	assert_int_equal(glob(CONFIGS_DIR "/*.json", 0, NULL, &found), 0);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		const char *path = found.gl_pathv[i];
		struct policy_errors errors;
		if (strstr(path, ".schema.json") != NULL)
			continue;
		policy_errors_init(&errors);
		struct policy *p = policy_load_file(path, NULL, &errors);
		if (p == NULL)
			fail_msg("%s", policy_errors_to_text(&errors, path));
		assert_non_null(strstr(p->text, "\"$schema\": \"./sockroute.schema.json\""));
		assert_non_null(strstr(p->text, "\"comment\""));
		policy_unref(p);
		policy_errors_free(&errors);
		n++;
	}
	assert_true(n >= 6);
	globfree(&found);
}

/* What `make run` and README.md rely on. */
static void
test_quickstart_needs_nothing_outside(void **state)
{
	(void)state;
	struct policy_errors errors;
	struct policy_route both;
	policy_errors_init(&errors);
	struct policy *p = policy_load_file(CONFIGS_DIR "/quickstart.json", NULL, &errors);
	assert_non_null(p);
	assert_int_equal(p->listeners[0].listen.port, 1080);
	assert_int_equal(p->admin.listen.port, 9080);
	assert_true(policy_find_route(p, "both", &both));
	assert_int_equal(p->default_route.kind, ROUTE_POOL);
	assert_int_equal(p->default_route.index, both.index);
	for (size_t i = 0; i < p->n_upstreams; i++) {
		assert_true(endpoint_is_loopback(&p->upstreams[i].at));
		assert_true(endpoint_equal(&p->upstreams[i].at, &p->listeners[i + 1].listen));
	}
	assert_int_equal(p->rules[0].route.kind, ROUTE_DIRECT);
	assert_int_equal(p->rules[1].route.kind, ROUTE_CHAIN);
	assert_int_equal(p->chains[p->rules[1].route.index].n_hops, 2);
	policy_unref(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_example_loads),
		cmocka_unit_test(test_quickstart_needs_nothing_outside),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
