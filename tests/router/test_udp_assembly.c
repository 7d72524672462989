/*
 * udp_assembly: whose sequences make room where the memory for them is used up, and that none is lost without being told.
 *
 * The process key of hashes is all zeros here, under which these addresses are told apart.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/counters.h"
#include "router/udp_assembly.h"

#include <stdio.h>
#include <string.h>

/* As many as find memory; and so many more. */
enum { ALL = UDP_BLOCKS_BYTES_MAX / (UDP_PAYLOAD_MAX + sizeof(size_t)), MORE = 20 };

struct fixture {
	struct counters counters;
	struct udp_pool pool;
	struct udp_assemblies room;
	struct udp_assembly each[ALL + MORE];
};

static int
set_up(void **state)
{
	static struct fixture f;
	memset(&f, 0, sizeof f);
	udp_pool_init(&f.pool, &f.counters);
	udp_assemblies_init(&f.room, &f.pool);
	*state = &f;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(f->pool.parts.lent, 0);
	assert_true(list_empty(&f->room.under_way));
	for (unsigned i = 0; i < UDP_ASSEMBLY_CLIENTS; i++)
		assert_int_equal(f->room.of_client[i], 0);
	udp_pool_free(&f->pool);
	return 0;
}

/* n of them, from the first-th on, belong to the client that says so. */
static void
belong_to(struct fixture *f, unsigned first, unsigned n, const char *client)
{
	struct endpoint e = { .kind = ENDPOINT_NONE };
	assert_int_equal(endpoint_set_host(&e, client, strlen(client)), ENDPOINT_OK);
	for (unsigned i = first; i < first + n; i++)
		udp_assembly_init(&f->each[i], &f->room, &e);
}

/* A part comes. True: the datagram is whole. */
static bool
part(struct fixture *f, unsigned i, uint8_t frag, unsigned *lost)
{
	struct socks5_udp header = { .frag = frag };
	endpoint_set_ipv4(&header.to, (const uint8_t[]){ 192, 0, 2, 9 }, 53);
	return udp_assembly_add(&f->each[i], &header, (const uint8_t *)"part", 4, 1000, lost);
}

static bool
is_under_way(const struct fixture *f, unsigned i)
{
	return list_linked(&f->each[i].link);
}

/* One client has begun as many as there is room for; of another one are the next n. */
static void
fill(struct fixture *f, unsigned n, unsigned *lost)
{
	belong_to(f, 0, ALL, "198.51.100.1");
	belong_to(f, ALL, n, "198.51.100.2");
	for (unsigned i = 0; i < ALL; i++)
		assert_false(part(f, i, 1, lost));
}

/* How many parts they have lost that they had not told of. */
static unsigned
end_all(struct fixture *f, unsigned n)
{
	unsigned lost = 0;
	for (unsigned i = 0; i < n; i++)
		lost += udp_assembly_end(&f->each[i]);
	return lost;
}

/* Each first part of another client has one of his give way, the oldest; he had all of the memory. */
static void
test_who_has_the_most_makes_room(void **state)
{
	struct fixture *f = *state;
	unsigned lost = 0, told = 0;
	belong_to(f, 0, ALL, "198.51.100.1");
	belong_to(f, ALL, MORE, "198.51.100.2");
	for (unsigned i = 0; i < ALL + MORE; i++)
		assert_false(part(f, i, 1, &lost));
	assert_int_equal(lost, 0);
	for (unsigned i = 0; i < ALL + MORE; i++)
		assert_int_equal(is_under_way(f, i), i >= MORE);
	/* His next ones are at his own expense. */
	assert_false(part(f, 0, 1, &lost));
	assert_int_equal(lost, 1);             /* the one that this queue had before */
	assert_false(is_under_way(f, MORE));
	for (unsigned i = ALL; i < ALL + MORE; i++) {
		assert_true(part(f, i, 0x82, &lost));
		assert_false(is_under_way(f, i));
	}
	for (unsigned i = 0; i < ALL + MORE; i++)
		told += udp_assembly_expire(&f->each[i], 1000);
	assert_int_equal(lost + told, MORE + 1);
	assert_int_equal(end_all(f, ALL + MORE), ALL - MORE);
}

/* A queue that begins anew is as young as any. */
static void
test_the_oldest_first(void **state)
{
	struct fixture *f = *state;
	unsigned lost = 0;
	fill(f, 2, &lost);
	assert_false(part(f, 0, 2, &lost));
	assert_false(part(f, 1, 2, &lost));
	assert_false(part(f, 1, 1, &lost));
	assert_int_equal(lost, 2);
	assert_false(part(f, ALL, 1, &lost));
	assert_false(part(f, ALL + 1, 1, &lost));
	assert_false(is_under_way(f, 0));
	assert_true(is_under_way(f, 1));
	assert_false(is_under_way(f, 2));
	assert_int_equal(end_all(f, ALL + 2), 2 + 1 + (ALL - 2) + 2);
}

/* What is whole is being passed on, and lies where it lies until that is done. */
static void
test_what_is_whole_stays(void **state)
{
	struct fixture *f = *state;
	unsigned lost = 0;
	size_t len;
	belong_to(f, 0, ALL, "198.51.100.1");
	belong_to(f, ALL, 1, "198.51.100.2");
	for (unsigned i = 0; i < ALL; i++) {
		assert_false(part(f, i, 1, &lost));
		assert_true(part(f, i, 0x82, &lost));
	}
	assert_false(part(f, ALL, 1, &lost));
	assert_int_equal(lost, 1);
	assert_memory_equal(udp_assembly_bytes(&f->each[0], &len), "partpart", 8);
	assert_int_equal(len, 8);
	assert_int_equal(end_all(f, ALL + 1), 0);       /* what was whole is not lost */
}

/* Of IPv6 it is the network that counts; the lonely ones of many IPv4 hosts stay. */
static void
test_a_network_is_one(void **state)
{
	struct fixture *f = *state;
	unsigned lost = 0;
	char host[32];
	for (unsigned i = 0; i < 8; i++) {
		snprintf(host, sizeof host, "203.0.113.%u", i);
		belong_to(f, i, 1, host);
	}
	for (unsigned i = 8; i < ALL + 8; i++) {
		snprintf(host, sizeof host, "2001:db8:0:1:%x::", i);
		belong_to(f, i, 1, host);
	}
	for (unsigned i = 0; i < ALL + 8; i++)
		assert_false(part(f, i, 1, &lost));
	for (unsigned i = 0; i < ALL + 8; i++)
		assert_int_equal(is_under_way(f, i), i < 8 || i >= 16);
	assert_int_equal(end_all(f, ALL + 8), ALL + 8);
}

/* What waits, however much, makes no sequence give way to the next: two clients' parts come by turns and all become whole. */
static void
test_what_waits_keeps_no_part_out(void **state)
{
	struct fixture *f = *state;
	uint8_t *held[ALL + 1];
	unsigned lost = 0, n = 0;
	belong_to(f, 0, 1, "198.51.100.1");
	belong_to(f, 1, 1, "198.51.100.2");
	while ((held[n] = udp_block_take(&f->pool.held, UDP_PAYLOAD_MAX)) != NULL)
		assert_true(++n < ARRAY_LEN(held));
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 2; i++)
			assert_false(part(f, i, 1, &lost));
		for (unsigned i = 0; i < 2; i++) {
			assert_true(part(f, i, 0x82, &lost));
			assert_int_equal(udp_assembly_end(&f->each[i]), 0);
		}
	}
	assert_int_equal(lost, 0);
	while (n > 0)
		udp_block_give_back(&f->pool.held, held[--n]);
}

/* Who makes room and ends before he is asked tells it with his end. */
static void
test_the_end_tells_what_made_room(void **state)
{
	struct fixture *f = *state;
	unsigned lost = 0;
	fill(f, 1, &lost);
	assert_false(part(f, 0, 2, &lost));
	assert_false(part(f, ALL, 1, &lost));
	assert_int_equal(lost, 0);
	assert_int_equal(udp_assembly_end(&f->each[0]), 2);
	assert_int_equal(udp_assembly_end(&f->each[0]), 0);
	assert_int_equal(end_all(f, ALL + 1), ALL - 1 + 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_who_has_the_most_makes_room, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_the_oldest_first, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_is_whole_stays, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_network_is_one, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_waits_keeps_no_part_out, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_the_end_tells_what_made_room, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
