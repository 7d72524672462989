/*
 * dial_pipeline: what goes out in one piece, over which hops, and what becomes of peers that can't take
 * it: they are asked again in full, and it is remembered.
 */
#include "base/clock.h"
#include "base/loop.h"
#include "tests/upstream/dial_bench.h"
#include "tests/upstream/peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define TO "203.0.113.9:80"
#define LOGIN "0101750170" /* u, p */
#define ASK(host, port) "05010001" host port
#define HOP2 ASK("c0000202", "043a")   /* 192.0.2.2:1082 */
#define END ASK("cb007109", "0050")
#define YES "05000001000000000000"

static int
set_up(void **state)
{
	static struct dial_bench b;
	bench_open(&b);
	*state = &b;
	return 0;
}

static int
tear_down(void **state)
{
	bench_close(*state);
	return 0;
}

/* One hop, or two through which one peer speaks; first, second: more of their objects. */
static void
load(struct dial_bench *b, const struct peer *p, const char *first, const char *second)
{
	bench_load(b,
		   "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:%u' %s},"
		   "{'name': 'b', 'url': 'socks5://192.0.2.2:1082' %s}],"
		   "'chains': [{'name': 'c', 'hops': ['a', 'b']}],"
		   "'pools': [{'name': 'p', 'members': ['a'], 'retry': {'attempts': 2}}]",
		   peer_at(p)->port, first, second);
}

#define PIPELINE ", 'pipeline': true"
#define WITH_LOGIN ", 'username': 'u', 'password': 'p'"

static void
check_talk(struct dial_bench *b, const char *first, const char *second, const char *route,
	   const char *script)
{
	struct peer *p = peer_new(b->loop, script);
	load(b, p, first, second);
	bench_dial(b, route, TO, VERDICT_GRANTED);
	assert_string_equal(peer_complaint(p), "");
	assert_int_equal(peer_accepted(p), 1);
	assert_int_equal(b->result.attempts, 1);
	peer_free(p);
}

/* Nothing is answered before all of it is there. */
static void
test_one_hop(void **state)
{
	check_talk(*state, PIPELINE, "", "a", "<050100" END " >0500" YES);
}

static void
test_one_hop_with_login(void **state)
{
	check_talk(*state, PIPELINE WITH_LOGIN, "", "a",
		   "<050102" LOGIN END " >0502 >0100 >" YES);
}

static void
test_both_hops(void **state)
{
	check_talk(*state, PIPELINE WITH_LOGIN, PIPELINE WITH_LOGIN, "c",
		   "<050102" LOGIN HOP2 "050102" LOGIN END " >0502 :0100" YES "0502" "0100" YES);
}

/* The second is greeted behind the first's request, and goes on when it answers. */
static void
test_first_of_two(void **state)
{
	check_talk(*state, PIPELINE, "", "c",
		   "<050100" HOP2 "050100 >0500" YES "0500 <" END " >" YES);
}

/* Nothing may follow the first's request; the second is told all at once. */
static void
test_second_of_two(void **state)
{
	check_talk(*state, "", PIPELINE, "c", "<050100 >0500 <" HOP2 " >" YES " <050100" END " >0500" YES);
}

static void
test_payload_behind_the_last_answer(void **state)
{
	struct dial_bench *b = *state;
	check_talk(b, PIPELINE, PIPELINE, "c",
		   "<050100" HOP2 "050100" END " >0500" YES "0500" YES "53534820");
	assert_int_equal(b->result.early_len, 4);
	assert_string_equal(b->early, "SSH ");
}

/* ---- who can't take it ---- */

static void
check_fall_back(struct dial_bench *b, const char *first_script)
{
	struct peer *p = peer_new(b->loop, first_script);
	peer_play_later(p, "<050100 >0500 <" HOP2 " >" YES " <050100 >0500 <" END " >" YES);
	load(b, p, PIPELINE, PIPELINE);
	b->request.timeout_ms = 3000;
	bench_dial(b, "c", TO, VERDICT_GRANTED);
	assert_string_equal(peer_complaint(p), "");
	assert_int_equal(peer_accepted(p), 2);
	assert_int_equal(b->result.attempts, 1); /* the same one */
	assert_int_equal(b->result.n_hop_times, 2);
	assert_int_equal(bench_entry(b, "a")->failures_total, 0);
	assert_int_equal(bench_entry(b, "b")->failures_total, 0);
	assert_int_equal(board_in_use(bench_entry(b, "a")), 1);
	bench_give_back(b);
	bench_dial(b, "c", TO, VERDICT_GRANTED); /* remembered */
	assert_int_equal(peer_accepted(p), 3);
	peer_free(p);
}

#define ALL "<050100" HOP2 "050100" END

static void
test_it_leaves(void **state)
{
	check_fall_back(*state, ALL " close");
}

static void
test_it_resets(void **state)
{
	check_fall_back(*state, "<050100 >0500 reset");
}

static void
test_it_loses_the_rest(void **state)
{
	check_fall_back(*state, ALL " >0500");
}

static void
test_it_loses_what_is_behind_the_request(void **state)
{
	struct dial_bench *b = *state;
	check_fall_back(b, ALL " >0500" YES);
	assert_int_equal(bench_entry(b, "a")->pipeline, PIPELINE_FAILS);
	assert_int_equal(bench_entry(b, "b")->pipeline, PIPELINE_FAILS);
}

static void
test_it_talks_nonsense(void **state)
{
	check_fall_back(*state, ALL " >0500" YES "485454502f312e31");
}

static void
test_it_wants_another_method(void **state)
{
	struct dial_bench *b = *state;
	struct peer *p = peer_new(b->loop, "<050102" LOGIN END " >05ff");
	peer_play_later(p, "<05020002 >0500 <" END " >" YES);
	load(b, p, PIPELINE WITH_LOGIN, "");
	bench_dial(b, "a", TO, VERDICT_GRANTED);
	assert_int_equal(peer_accepted(p), 2);
	peer_free(p);
}

/* An answer is an answer: nobody is asked twice. */
static void
test_answers_are_taken(void **state)
{
	static const struct {
		const char *script;
		enum verdict want;
		unsigned failures;
	} answers[] = {
		{ "<050102" LOGIN END " >0502 >0101", VERDICT_UPSTREAM_AUTH, 1 },
		{ "<050102" LOGIN END " >0502 >0100 >0505", VERDICT_REFUSED, 0 },
		{ "<050102" LOGIN END " >0502 >0100 >0501", VERDICT_UPSTREAM_FAILED, 1 },
	};
	struct dial_bench *b = *state;
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		bench_close(b);
		bench_open(b);
		struct peer *p = peer_new(b->loop, answers[i].script);
		load(b, p, PIPELINE WITH_LOGIN, "");
		bench_dial(b, "p", TO, answers[i].want);
		assert_int_equal(peer_accepted(p), 1);
		assert_int_equal(bench_entry(b, "a")->failures_total, answers[i].failures);
		peer_free(p);
	}
}

/* In vain both ways: it failed once, and nothing is remembered of a peer that is just dead. */
static void
test_in_vain(void **state)
{
	struct dial_bench *b = *state;
	struct peer *p = peer_new(b->loop, "<050100" END " close");
	peer_play_later(p, "<050100 close");
	load(b, p, PIPELINE, "");
	bench_dial(b, "a", TO, VERDICT_UPSTREAM_FAILED);
	assert_int_equal(peer_accepted(p), 2);
	assert_int_equal(b->result.attempts, 1);
	assert_int_equal(b->result.hop_at_fault, 0);
	assert_int_equal(bench_entry(b, "a")->failures_total, 1);
	assert_int_equal(bench_entry(b, "a")->pipeline, PIPELINE_UNKNOWN);
	peer_free(p);
}

static void
test_it_is_tried_again_after_an_hour(void **state)
{
	struct dial_bench *b = *state;
	struct peer *p = peer_new(b->loop, "<050100 >0500 <" END " >" YES);
	peer_play_later(p, "<050100" END " >0500" YES);
	load(b, p, PIPELINE, "");
	atomic_store(&bench_entry(b, "a")->pipeline, PIPELINE_FAILS);
	atomic_store(&bench_entry(b, "a")->pipeline_at_ms, clock_now_ms());
	bench_dial(b, "a", TO, VERDICT_GRANTED);
	bench_give_back(b);
	atomic_store(&bench_entry(b, "a")->pipeline_at_ms, clock_now_ms() - 3600 * 1000);
	bench_dial(b, "a", TO, VERDICT_GRANTED);
	assert_string_equal(peer_complaint(p), "");
	assert_int_equal(bench_entry(b, "a")->pipeline, PIPELINE_WORKS);
	peer_free(p);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(test_one_hop),
	    TEST(test_one_hop_with_login),
	    TEST(test_both_hops),
	    TEST(test_first_of_two),
	    TEST(test_second_of_two),
	    TEST(test_payload_behind_the_last_answer),
	    TEST(test_it_leaves),
	    TEST(test_it_resets),
	    TEST(test_it_loses_the_rest),
	    TEST(test_it_loses_what_is_behind_the_request),
	    TEST(test_it_talks_nonsense),
	    TEST(test_it_wants_another_method),
	    TEST(test_answers_are_taken),
	    TEST(test_in_vain),
	    TEST(test_it_is_tried_again_after_an_hour),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
