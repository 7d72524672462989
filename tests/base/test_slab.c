/*
 * Tests of base/slab: objects don't overlap and their heads come zero-filled; pages come and go as the header
 * says.
 */
#include "base/slab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

static void
assert_all(const uint8_t *bytes, uint8_t value, size_t n)
{
	for (size_t i = 0; i < n; i++)
		assert_int_equal(bytes[i], value);
}

static void *
take(struct slab *s)
{
	void *object = slab_take(s);
	assert_non_null(object);
	return object;
}

/*
 * Random takes and returns; each object is filled with a byte of its own and must still hold it
 * when it goes back.
 */
static void
check_size(size_t size, size_t head, unsigned n_objects, unsigned n_steps)
{
	struct slab s;
	struct random r;
	uint8_t **objects = calloc(n_objects, sizeof *objects);
	assert_non_null(objects);
	slab_init(&s, size, head);
	random_seed(&r, size);
	for (unsigned step = 0; step < n_steps; step++) {
		unsigned i = random_below(&r, n_objects);
		if (objects[i] == NULL) {
			objects[i] = take(&s);
			assert_int_equal((uintptr_t)objects[i] % _Alignof(max_align_t), 0);
			assert_all(objects[i], 0, head);
			memset(objects[i], (int)(i & 0xff) | 1, size);
		} else {
			assert_all(objects[i], (uint8_t)((i & 0xff) | 1), size);
			slab_give_back(&s, objects[i]);
			objects[i] = NULL;
		}
	}
	for (unsigned i = 0; i < n_objects; i++)
		slab_give_back(&s, objects[i]);
	assert_int_equal(s.n_used, 0);
	assert_true(slab_bytes(&s) <= SLAB_SPARE_BYTES + 2 * s.page_bytes);
	slab_free(&s);
	free(objects);
}

static void
test_objects_of_many_sizes(void **state)
{
	(void)state;
	check_size(1, 1, 10000, 40000);
	check_size(24, 24, 5000, 20000);
	check_size(700, 13, 500, 5000);
	check_size(16 * 1024, 16 * 1024, 40, 500);
	check_size(100 * 1000, 100, 20, 200);
}

static void
test_null_is_fine(void **state)
{
	struct slab s;
	(void)state;
	slab_init(&s, 64, 64);
	slab_give_back(&s, NULL);
	assert_int_equal(slab_bytes(&s), 0);
	slab_free(&s);
}

static void
test_memory_returns_after_a_peak(void **state)
{
	enum { PEAK = 20000, KEPT = 100 };
	static void *objects[PEAK];
	struct slab s;
	(void)state;
	slab_init(&s, 512, 512);
	for (unsigned i = 0; i < PEAK; i++)
		objects[i] = take(&s);
	assert_true(slab_bytes(&s) >= PEAK * 512);
	assert_true(slab_bytes(&s) < PEAK * 520);
	for (unsigned i = KEPT; i < PEAK; i++)
		slab_give_back(&s, objects[i]);
	assert_true(slab_bytes(&s) <= SLAB_SPARE_BYTES + 2 * s.page_bytes);
	for (unsigned i = 0; i < KEPT; i++)
		slab_give_back(&s, objects[i]);
	assert_true(slab_bytes(&s) <= SLAB_SPARE_BYTES + 2 * s.page_bytes);
	slab_free(&s);
	assert_int_equal(slab_bytes(&s), 0);
}

/*
 * A load that goes up and down by one object at the edge of a page must not map and unmap each
 * time.
 */
static void
test_no_page_comes_and_goes_at_the_edge(void **state)
{
	struct slab s;
	void *objects[1024];
	(void)state;
	slab_init(&s, 512, 512);
	assert_true(s.per_page <= 1024);
	for (size_t i = 0; i < s.per_page; i++)
		objects[i] = take(&s);
	size_t full = slab_bytes(&s);
	assert_int_equal(full, s.page_bytes);
	for (unsigned round = 0; round < 10; round++) {
		void *one_more = take(&s);
		assert_int_equal(slab_bytes(&s), 2 * s.page_bytes);
		slab_give_back(&s, one_more);
		assert_int_equal(slab_bytes(&s), 2 * s.page_bytes);
	}
	for (size_t i = 0; i < s.per_page; i++)
		slab_give_back(&s, objects[i]);
	slab_free(&s);
}

/* Handshakes come and go by dozens: what they need is mapped once. */
static void
test_no_page_comes_and_goes_with_some_large_objects(void **state)
{
	enum { SOME = 20 };
	struct slab s;
	void *objects[SOME];
	size_t mapped = 0;
	(void)state;
	slab_init(&s, 11000, 11000);
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < SOME; i++)
			objects[i] = take(&s);
		if (round > 0)
			assert_int_equal(slab_bytes(&s), mapped);
		mapped = slab_bytes(&s);
		for (unsigned i = 0; i < SOME; i++)
			slab_give_back(&s, objects[i]);
		assert_int_equal(slab_bytes(&s), mapped);
	}
	slab_trim(&s);
	assert_int_equal(slab_bytes(&s), 0);
	slab_free(&s);
}

static void
test_one_object_keeps_its_page(void **state)
{
	struct slab s;
	(void)state;
	slab_init(&s, 512, 512);
	void *first = take(&s);
	slab_give_back(&s, first);
	assert_int_equal(slab_bytes(&s), s.page_bytes);
	assert_ptr_equal(take(&s), first);
	slab_give_back(&s, first);
	slab_free(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_objects_of_many_sizes),
		cmocka_unit_test(test_null_is_fine),
		cmocka_unit_test(test_memory_returns_after_a_peak),
		cmocka_unit_test(test_no_page_comes_and_goes_at_the_edge),
		cmocka_unit_test(test_no_page_comes_and_goes_with_some_large_objects),
		cmocka_unit_test(test_one_object_keeps_its_page),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
