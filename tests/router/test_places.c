/*
 * How descriptors are dealt out: whatever there is, it suffices for all sessions with all pipes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include "router/places.h"
#include "router/relay.h"

static const struct {
	unsigned all, used, n_workers, sessions, pipes;
} deals[] = {
	{ 1024, 24, 2, 375, 31 },
	{ 1048576, 576, 2, 522976, RELAY_PIPES_MAX },
	{ 1048576, 576, 8, 521440, RELAY_PIPES_MAX },
	{ 80, 30, 2, 20, 1 },
	{ 80, 30, 8, 22, 0 },
	{ 40, 38, 1, 1, 0 },
	{ 40, 40, 1, 1, 0 },
	{ 40, 64, 1, 1, 0 },
};

static void
test_deals(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(deals); i++) {
		struct places p = places_deal(deals[i].all, deals[i].used, deals[i].n_workers);
		assert_int_equal(p.sessions, deals[i].sessions);
		assert_int_equal(p.pipes, deals[i].pipes);
	}
}

static void
test_it_suffices(void **state)
{
	(void)state;
	for (unsigned n_workers = 1; n_workers <= 64; n_workers *= 4)
		for (unsigned left = 2; left < 3000000; left += left / 7 + 1) {
			struct places p = places_deal(left + 50, 50, n_workers);
			unsigned taken = 2 * p.sessions + 2 * p.pipes * n_workers;
			assert_true(taken <= left);
			/* and for what is beside them */
			assert_true(left < 16 || left - taken >= (left / 8 < PLACES_BESIDE ? left / 8 : PLACES_BESIDE));
		}
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_deals), cmocka_unit_test(test_it_suffices) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
