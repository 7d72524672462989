/*
 * The reassembly queue: every order of parts, its bounds, its clock.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "socks/udp_fragments.h"

#include <string.h>

enum { CAP = 20, LAST = UDP_FRAGMENTS_LAST };

static struct endpoint
at(const char *text)
{
	struct endpoint e;
	assert_int_equal(endpoint_from_text(&e, text, strlen(text)), ENDPOINT_OK);
	return e;
}

/*
 * One part is "FRAG:TO:PAYLOAD"; what comes of it is a letter: k(ept), d(ropped), or w(hole) and the datagram. Time goes on by
 * `step_ms` from part to part.
 */
static const struct {
	const char *what;
	struct { uint8_t frag; char to; const char *payload; } parts[8];
	const char *results;
	const char *whole;
	unsigned given_up;
	unsigned step_ms;
} sequences[] = {
	{ "in order", { { 1, 'a', "ab" }, { 2, 'a', "" }, { 3, 'a', "c" }, { 4 | LAST, 'a', "d" } }, "kkkw", "abcd", 0, 1 },
	{ "one part", { { 1 | LAST, 'a', "ab" } }, "w", "ab", 0, 0 },
	{ "position 0", { { LAST, 'a', "ab" } }, "d", "", 1, 0 },
	{ "not the first", { { 2, 'a', "ab" }, { 3 | LAST, 'a', "c" } }, "dd", "", 2, 0 },
	{ "a gap", { { 1, 'a', "ab" }, { 3, 'a', "c" }, { 4 | LAST, 'a', "d" } }, "kdd", "", 3, 0 },
	{ "a gap to the end", { { 1, 'a', "ab" }, { 3 | LAST, 'a', "c" } }, "kd", "", 2, 0 },
	{ "two swapped", { { 1, 'a', "a" }, { 3, 'a', "c" }, { 2, 'a', "b" }, { 4 | LAST, 'a', "d" } }, "kddd", "", 4, 0 },
	{ "the last part twice", { { 1, 'a', "a" }, { 2, 'a', "b" }, { 2, 'a', "b" }, { 3 | LAST, 'a', "c" } }, "kkdw", "abc", 1, 0 },
	{ "one from before", { { 1, 'a', "a" }, { 2, 'a', "b" }, { 3, 'a', "c" }, { 2, 'a', "b" } }, "kkkd", "", 4, 0 },
	{ "begun anew", { { 1, 'a', "x" }, { 2, 'a', "y" }, { 1, 'a', "a" }, { 2 | LAST, 'a', "b" } }, "kkkw", "ab", 2, 0 },
	{ "again after a fault", { { 1, 'a', "x" }, { 3, 'a', "y" }, { 1, 'a', "a" }, { 2 | LAST, 'a', "b" } }, "kdkw", "ab", 2, 0 },
	{ "another destination", { { 1, 'a', "a" }, { 2, 'b', "b" }, { 3 | LAST, 'a', "c" } }, "kdd", "", 3, 0 },
	{ "another that begins", { { 1, 'a', "a" }, { 2, 'a', "b" }, { 1, 'b', "c" }, { 2 | LAST, 'b', "d" } }, "kkkw", "cd", 2, 0 },
	{ "another at once", { { 1, 'a', "a" }, { 1, 'b', "c" }, { 2 | LAST, 'b', "d" } }, "kkw", "cd", 1, 0 },
	{ "just what fits", { { 1, 'a', "0123456789" }, { 2 | LAST, 'a', "0123456789" } }, "kw", "01234567890123456789", 0, 0 },
	{ "a byte too many", { { 1, 'a', "0123456789" }, { 2, 'a', "0123456789x" }, { 3 | LAST, 'a', "y" } }, "kdd", "", 3, 0 },
	{ "just in time", { { 1, 'a', "a" }, { 2 | LAST, 'a', "b" } }, "kw", "ab", 0, UDP_FRAGMENTS_MS - 1 },
	{ "too late", { { 1, 'a', "a" }, { 2 | LAST, 'a', "b" } }, "kd", "", 2, UDP_FRAGMENTS_MS },
	{ "late for the first", { { 1, 'a', "a" }, { 2, 'a', "b" }, { 3 | LAST, 'a', "c" } }, "kkd", "", 3, UDP_FRAGMENTS_MS / 2 },
	{ "late and anew", { { 1, 'a', "x" }, { 1 | LAST, 'a', "b" } }, "kw", "b", 1, UDP_FRAGMENTS_MS },
};

static void
test_sequences(void **state)
{
	const struct endpoint a = at("192.0.2.1:53"), b = at("b.example:53");
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sequences); i++) {
		struct udp_fragments f;
		uint8_t memory[CAP];
		char results[9] = "", whole[CAP + 1] = "";
		unsigned given_up = 0;
		uint64_t now = 77;
		udp_fragments_init(&f, memory, sizeof memory);
		for (size_t k = 0; sequences[i].parts[k].frag != 0; k++, now += sequences[i].step_ms) {
			const char *payload = sequences[i].parts[k].payload;
			unsigned n;
			enum fragment_result r =
				udp_fragments_add(&f, sequences[i].parts[k].frag, sequences[i].parts[k].to == 'a' ? &a : &b,
						  (const uint8_t *)payload, strlen(payload), now, &n);
			results[k] = "kwd"[r];
			given_up += n;
			if (r == FRAGMENT_WHOLE) {
				memcpy(whole, buffer_bytes(&f.parts), buffer_len(&f.parts));
				(void)udp_fragments_abandon(&f);
			}
		}
		/* what is still kept was not lost yet */
		if (strcmp(results, sequences[i].results) != 0 || strcmp(whole, sequences[i].whole) != 0 ||
		    given_up != sequences[i].given_up)
			fail_msg("%s: %s \"%s\" %u", sequences[i].what, results, whole, given_up);
	}
}

static void
test_longest_sequence(void **state)
{
	struct udp_fragments f;
	uint8_t memory[127];
	const struct endpoint to = at("192.0.2.1:53");
	unsigned n;
	(void)state;
	udp_fragments_init(&f, memory, sizeof memory);
	for (uint8_t i = 1; i < 127; i++)
		assert_int_equal(udp_fragments_add(&f, i, &to, &i, 1, 0, &n), FRAGMENT_KEPT);
	assert_int_equal(udp_fragments_add(&f, 127 | LAST, &to, memory, 1, 0, &n), FRAGMENT_WHOLE);
	assert_int_equal(buffer_len(&f.parts), 127);
	assert_int_equal(udp_fragments_abandon(&f), 127);
}

static void
test_no_memory(void **state)
{
	struct udp_fragments f;
	const struct endpoint to = at("192.0.2.1:53");
	unsigned n;
	(void)state;
	udp_fragments_init(&f, NULL, 0);
	assert_int_equal(udp_fragments_add(&f, 1, &to, (const uint8_t *)"a", 1, 0, &n), FRAGMENT_DROPPED);
	assert_int_equal(n, 1);
	assert_int_equal(f.highest, 0);
}

static void
test_expiry(void **state)
{
	struct udp_fragments f;
	uint8_t memory[CAP];
	const struct endpoint to = at("192.0.2.1:53");
	unsigned n;
	(void)state;
	udp_fragments_init(&f, memory, sizeof memory);
	assert_false(udp_fragments_expired(&f, 1000000));
	assert_int_equal(udp_fragments_add(&f, 1, &to, (const uint8_t *)"a", 1, 100, &n), FRAGMENT_KEPT);
	assert_false(udp_fragments_expired(&f, 100 + UDP_FRAGMENTS_MS - 1));
	assert_true(udp_fragments_expired(&f, 100 + UDP_FRAGMENTS_MS));
	assert_int_equal(udp_fragments_abandon(&f), 1);
	assert_int_equal(udp_fragments_abandon(&f), 0);
	assert_false(udp_fragments_expired(&f, 1000000));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sequences),
		cmocka_unit_test(test_longest_sequence),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_expiry),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
