/*
 * race: several attempts of one dial side by side: when another joins, who wins, and what becomes of the others in whatever stage
 * they are; on a fake clock.
 */
#include "base/loop.h"
#include "base/tls.h"
#include "tests/base/certificates.h"
#include "tests/dns/name_server.h"
#include "tests/upstream/race_stage.h"
#include "upstream/dial.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- who wins ---- */

static void
test_quick_enough(void **state)
{
	struct stage *s = *state;
	load_three(s, GRANTS, SILENT, SILENT, "'race': {'count': 2, 'delay': '200ms'}");
	bench_dial(&s->bench, "p", TO, VERDICT_GRANTED);
	pass_delay(s);
	assert_path(s, "a");
	assert_attempts(s, 1, 0, false);
	assert_int_equal(peer_accepted(s->peers[1]), 0);
}

static void
test_not_before_the_delay(void **state)
{
	struct stage *s = *state;
	load_three(s, SILENT, SILENT, SILENT, "'race': {}");
	struct dial *x = start(s);
	pass_ms(DELAY_MS - 1);
	turn_a_few(s);
	assert_int_equal(dial_raced(x), 0);
	pass_ms(1 + WHEEL_TICK_MS);
	turn_a_few(s);
	assert_int_equal(dial_raced(x), 1);
	await_accepted(s, 1, 1);
	pass_delay(s);
	assert_int_equal(dial_raced(x), 1); /* 'count' is 2 */
	dial_cancel(x);
}

static void
test_without_race(void **state)
{
	struct stage *s = *state;
	load_three(s, SILENT, SILENT, SILENT, "'retry': {'attempts': 2}");
	struct dial *x = start(s);
	pass_delay(s);
	assert_int_equal(dial_raced(x), 0);
	dial_cancel(x);
}

/* The one that was asked first answers after all: what the other one has begun is given up. */
static void
test_first_wins_late(void **state)
{
	struct stage *s = *state;
	load_three(s, GRANTS_SLOWLY, SILENT, SILENT, "'race': {}");
	struct dial *x = start(s);
	pass_delay(s);
	assert_int_equal(dial_raced(x), 1);
	assert_int_equal(s->bench.told, 0);
	bench_finish(&s->bench, VERDICT_GRANTED);
	assert_path(s, "a");
	assert_attempts(s, 2, 1, false);
	assert_speaks_to(s, 0);
	await_left(s, 1, 1);
	assert_int_equal(board_in_use(bench_entry(&s->bench, "b")), 0);
	assert_int_equal(failures(s, "b"), 0);
}

/* Whatever the first one has come to, the second one is granted and the first one left in peace. */
static void
test_second_wins(void **state)
{
	static const struct {
		const char *script, *scheme;
		enum dial_stage stage;
	} rows[] = {
		{ NULL, "socks5", DIAL_CONNECT },
		{ "", "socks5+tls", DIAL_TLS },
		{ "<050100 ", "socks5", DIAL_HANDSHAKE },
		{ ASKED, "socks5", DIAL_HANDSHAKE },
		{ "<'CONNECT 203.0.113.9:80 HTTP/1.1~Host: 203.0.113.9:80~~' >'HTTP/1.1 2'", "http",
		  DIAL_HANDSHAKE },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct stage *s;
		struct endpoint silent;
		struct path path;
		int fds[2] = { -1, -1 };
		stage_set_up((void **)&s);
		s->bench.what = rows[i].script;
		unsigned b = add_peer(s, GRANTS ">'early'"), a = add_peer(s, i > 0 ? rows[i].script : SILENT);
		if (rows[i].script == NULL) {
			silent_port(&silent, fds);
			a = silent.port;
		}
		bench_load(&s->bench,
			   "'upstreams': [{'name': 'a', 'url': '%s://127.0.0.1:%u'}, {'name': 'b', 'url': "
			   "'socks5://127.0.0.1:%u'}], 'pools': [{'name': 'p', 'balance': 'first', "
			   "'members': ['a', 'b'], 'race': {}}]", rows[i].scheme, a, b);
		struct dial *x = start(s);
		for (int turn = 0; turn < 500 && (dial_stage(x, &path) != rows[i].stage ||
						  (i > 0 && peer_played(s->peers[1]) == 0));
		     turn++)
			loop_turn(s->bench.loop, 10);
		assert_int_equal(dial_stage(x, &path), rows[i].stage);
		pass_ms(DELAY_MS + WHEEL_TICK_MS);
		bench_finish(&s->bench, VERDICT_GRANTED);
		assert_path(s, "b");
		assert_attempts(s, 2, 1, true);
		assert_true(endpoint_equal(&s->bench.result.peer, peer_at(s->peers[0])));
		assert_int_equal(s->bench.result.n_hop_times, 1);
		if (s->bench.early[0] != '\0')
			assert_string_equal(s->bench.early, "early");
		assert_speaks_to(s, 0);
		assert_int_equal(failures(s, "a"), 0);
		assert_int_equal((int)bench_entry(&s->bench, "a")->sessions_total, 0);
		assert_int_equal((int)bench_entry(&s->bench, "b")->sessions_total, 1);
		assert_int_equal(board_in_use(bench_entry(&s->bench, "a")), 0);
		if (rows[i].script != NULL)
			await_left(s, 1, 1);
		pass_ms(9 * LIMIT_MS); /* no deadline of the loser is left behind */
		turn_a_few(s);
		assert_int_equal(s->bench.told, 1);
		if (fds[0] >= 0) {
			close(fds[0]);
			close(fds[1]);
		}
		stage_tear_down((void **)&s);
	}
}

/* TLS and all goes along to the caller's stream. */
static void
test_winner_with_tls(void **state)
{
	struct stage *s = *state;
	struct tls_options server = { .server = true,
				      .certificate_file = certificate_path("good.pem"),
				      .key_file = certificate_path("good.key") };
	char why[256];
	struct tls_context *tls = tls_context_new(&server, why, sizeof why);
	assert_non_null(tls);
	unsigned a = add_peer(s, SILENT), b = add_peer(s, "tls " GRANTS);
	peer_use_tls(s->peers[1], tls);
	bench_load(&s->bench,
		   "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:%u'}, {'name': 'b', 'url': "
		   "'socks5+tls://127.0.0.1:%u', 'tls': {'ca': '%s', 'server_name': 'good.example'}}], "
		   "'pools': [{'name': 'p', 'balance': 'first', 'members': ['a', 'b'], 'race': {}}]",
		   a, b, certificate_path("ca.pem"));
	start(s);
	pass_ms(DELAY_MS + WHEEL_TICK_MS);
	bench_finish(&s->bench, VERDICT_GRANTED);
	assert_path(s, "b");
	assert_non_null(s->bench.out.tls);
	assert_speaks_to(s, 1);
	tls_context_free(tls);
}

static void
test_three_side_by_side(void **state)
{
	struct stage *s = *state;
	load_three(s, SILENT, SILENT, GRANTS,
		   "'race': {'count': 3, 'delay': '200ms', 'max_extra_percent': 200}");
	struct dial *x = start(s);
	pass_delay(s);
	assert_int_equal(dial_raced(x), 1);
	assert_int_equal(bench_in_use(&s->bench), 4); /* two, each in the pool too */
	pass_ms(DELAY_MS + WHEEL_TICK_MS);
	bench_finish(&s->bench, VERDICT_GRANTED);
	assert_path(s, "c");
	assert_attempts(s, 3, 2, true);
	assert_speaks_to(s, 2);
	await_left(s, 0, 1);
	await_left(s, 1, 1);
	assert_int_equal(bench_in_use(&s->bench), 2);
}

/* ---- failures ---- */

/* The other one goes on; what is told is what the last one came to. */
static void
test_both_fail(void **state)
{
	struct stage *s = *state;
	load_three(s, SILENT, FAILS, SILENT, "'race': {}, 'retry': {'attempts': 0}");
	start(s);
	pass_delay(s);
	await_failures(s, "b", 1);
	assert_int_equal(s->bench.told, 0);
	assert_int_equal(failures(s, "a"), 0);
	assert_int_equal(board_in_use(bench_entry(&s->bench, "b")), 0);
	pass_ms(LIMIT_MS);
	bench_finish(&s->bench, VERDICT_UPSTREAM_FAILED);
	assert_path(s, "a");
	assert_attempts(s, 2, 1, false);
	assert_int_equal(failures(s, "a"), 1);
	assert_string_equal(s->bench.detail, "upstream a silent: no answer in time");
}

/* ... also where the first one is the one that goes. */
static void
test_second_goes_on_alone(void **state)
{
	struct stage *s = *state;
	load_three(s, SILENT, SILENT, SILENT, "'race': {}, 'retry': {'attempts': 0}");
	s->bench.request.timeout_ms = DELAY_MS + 2 * WHEEL_TICK_MS;
	start(s);
	pass_delay(s);
	pass_ms(2 * WHEEL_TICK_MS);
	turn_a_few(s);
	assert_int_equal(s->bench.told, 0);
	assert_int_equal(failures(s, "a"), 1);
	await_left(s, 0, 1);
	pass_ms(DELAY_MS + 2 * WHEEL_TICK_MS);
	bench_finish(&s->bench, VERDICT_UPSTREAM_FAILED);
	assert_path(s, "b");
	assert_attempts(s, 2, 1, true);
	assert_int_equal(failures(s, "b"), 1);
}

/* A failure is retry's, beside the other one that runs, and avoids that one too. */
static void
test_retry_beside(void **state)
{
	struct stage *s = *state;
	load_three(s, SILENT, FAILS, GRANTS, "'race': {}, 'retry': {'attempts': 1}");
	start(s);
	pass_ms(DELAY_MS + WHEEL_TICK_MS);
	bench_finish(&s->bench, VERDICT_GRANTED);
	assert_path(s, "c");
	assert_attempts(s, 3, 1, true);
	assert_int_equal(failures(s, "a"), 0);
	assert_int_equal(failures(s, "b"), 1);
	assert_speaks_to(s, 2);
}

/* So is the first one's, which does not go where the second one is. */
static void
test_retry_of_the_first(void **state)
{
	struct stage *s = *state;
	load_three(s, SILENT, SILENT, GRANTS, "'race': {}, 'retry': {'attempts': 1}");
	s->bench.request.timeout_ms = DELAY_MS + 2 * WHEEL_TICK_MS;
	start(s);
	pass_delay(s);
	pass_ms(2 * WHEEL_TICK_MS);
	bench_finish(&s->bench, VERDICT_GRANTED);
	assert_path(s, "c");
	assert_attempts(s, 3, 1, false);
	assert_int_equal(failures(s, "a"), 1);
	assert_int_equal(peer_accepted(s->peers[1]), 1);
}

/* Retries are counted over all that run. */
static void
test_retries_used_up(void **state)
{
	struct stage *s = *state;
	load_three(s, SILENT, FAILS, FAILS, "'race': {}, 'retry': {'attempts': 1}");
	start(s);
	pass_delay(s);
	await_failures(s, "b", 1);
	await_failures(s, "c", 1);
	assert_int_equal(s->bench.told, 0);
	pass_ms(LIMIT_MS);
	bench_finish(&s->bench, VERDICT_UPSTREAM_FAILED);
	assert_attempts(s, 3, 1, false);
	assert_path(s, "a");
}

/* A failure before the delay: retry's, at once; the time for the race begins anew with it. */
static void
test_failure_before_the_delay(void **state)
{
	struct stage *s = *state;
	load_three(s, FAILS, SILENT, GRANTS, "'race': {}, 'retry': {'attempts': 1}");
	struct dial *x = start(s);
	await_failures(s, "a", 1);
	await_accepted(s, 1, 1);
	assert_int_equal(dial_raced(x), 0);
	pass_ms(DELAY_MS + WHEEL_TICK_MS);
	bench_finish(&s->bench, VERDICT_GRANTED);
	assert_path(s, "c");
	assert_attempts(s, 3, 1, true);
}

/* What the destination says is the client's answer: nobody is waited for. */
static void
test_destination_decides(void **state)
{
	struct stage *s = *state;
	load_three(s, SILENT, ASKED ">05050001000000000000", GRANTS, "'race': {}");
	start(s);
	pass_ms(DELAY_MS + WHEEL_TICK_MS);
	bench_finish(&s->bench, VERDICT_REFUSED);
	assert_path(s, "b");
	assert_attempts(s, 2, 1, true);
	assert_int_equal(failures(s, "a") + failures(s, "b"), 0);
	await_left(s, 0, 1);
	assert_int_equal(peer_accepted(s->peers[2]), 0);
}

/* ---- the end of the dial ---- */

static void
test_cancel_both(void **state)
{
	struct stage *s = *state;
	load_three(s, SILENT, SILENT, SILENT, "'race': {}");
	struct dial *x = start(s);
	pass_delay(s);
	assert_int_equal(bench_in_use(&s->bench), 4);
	dial_cancel(x);
	assert_int_equal(bench_in_use(&s->bench), 0);
	await_left(s, 0, 1);
	await_left(s, 1, 1);
	assert_int_equal(failures(s, "a") + failures(s, "b"), 0);
	assert_int_equal(s->bench.told, 0);
}

/* The dialer may go while two run. */
static void
test_dialer_goes(void **state)
{
	struct stage *s = *state;
	load_three(s, SILENT, SILENT, SILENT, "'race': {}");
	start(s);
	pass_delay(s);
	dialer_free(s->bench.dialer);
	s->bench.dialer = NULL;
	assert_int_equal(bench_in_use(&s->bench), 0);
	assert_int_equal(s->bench.told, 0);
}

/* No memory for a second attempt: the first one is all there is. */
static void
test_no_memory_to_join(void **state)
{
	struct stage *s = *state;
	load_three(s, GRANTS_SLOWLY, SILENT, SILENT, "'race': {}");
	struct slab *slab = &s->bench.dialer->racer_slab;
	size_t size = slab->object_size, head = slab->head_size;
	struct dial *x = start(s);
	slab_init(slab, (size_t)1 << 60, 0);
	pass_delay(s);
	slab_init(slab, size, head);
	assert_int_equal(dial_raced(x), 0);
	bench_finish(&s->bench, VERDICT_GRANTED);
	assert_path(s, "a");
	assert_int_equal(bench_in_use(&s->bench), 2);
}

/* None for the second one's handshake: it is our trouble, and the first one goes on. */
static void
test_no_memory_for_the_handshake(void **state)
{
	struct stage *s = *state;
	unsigned a = add_peer(s, SILENT), b = add_peer(s, SILENT);
	bench_load(&s->bench,
		   "'upstreams': [{'name': 'a', 'url': 'socks5+tls://127.0.0.1:%u'}, {'name': 'b', 'url': "
		   "'socks5://127.0.0.1:%u'}], 'pools': [{'name': 'p', 'balance': 'first', 'members': "
		   "['a', 'b'], 'race': {}, 'retry': {'attempts': 0}}]", a, b);
	struct slab *slab = &s->bench.dialer->shake_slab;
	size_t size = slab->object_size, head = slab->head_size;
	struct dial *x = start(s); /* stops at its TLS, without a handshake of a hop */
	slab_init(slab, (size_t)1 << 60, 0);
	pass_delay(s);
	assert_int_equal(dial_raced(x), 1);
	for (int i = 0; i < 500 && board_in_use(bench_entry(&s->bench, "b")) > 0; i++)
		loop_turn(s->bench.loop, 10);
	slab_init(slab, size, head);
	assert_int_equal(s->bench.told, 0);
	assert_int_equal(failures(s, "b"), 0);
	assert_int_equal(board_in_use(bench_entry(&s->bench, "b")), 0);
	pass_ms(60000);
	bench_finish(&s->bench, VERDICT_UPSTREAM_FAILED);
	assert_path(s, "a");
}

/* Both go to addresses of the same name, which are kept once. */
static void
test_one_name_for_both(void **state)
{
	struct stage *s = *state;
	struct endpoint addr;
	unsigned a = add_peer(s, SILENT);
	unsigned b = add_peer(s, "<04010050cb00710900 >005a0000000000000000");
	bench_load(&s->bench,
		   "'upstreams': [{'name': 'a', 'url': 'socks4://127.0.0.1:%u'}, {'name': 'b', 'url': "
		   "'socks4://127.0.0.1:%u'}], 'pools': [{'name': 'p', 'balance': 'first', 'members': "
		   "['a', 'b'], 'race': {}}]", a, b);
	assert_int_equal(endpoint_from_text(&addr, TO, strlen(TO)), ENDPOINT_OK);
	s->bench.request.addrs = &addr;
	s->bench.request.n_addrs = 1;
	bench_start(&s->bench, "p", "a.example:80");
	turn_a_few(s);
	pass_ms(DELAY_MS + WHEEL_TICK_MS);
	bench_finish(&s->bench, VERDICT_GRANTED);
	assert_path(s, "b");
}

static unsigned addresses_asked;

static bool
count_address(const struct endpoint *e, void *arg)
{
	(void)e, (void)arg;
	addresses_asked++;
	return false;
}

/*
 * Both wait for the same look-up. The first to be told connects to the addresses as they lie; the
 * second one takes them as they are: others in their place would pull them from under a connection
 * that is being made.
 */
static void
test_one_look_up_for_both(void **state)
{
	static const struct scene late[] = {
		{ "late.example", 1, PLAY_HOLD, 0, "late.example A 60 127.0.0.1" },
		{ "late.example", 28, PLAY_ANSWER, 0, NULL },
	};
	struct stage *s = *state;
	struct name_server *ns = name_server_start(s->bench.loop, late, ARRAY_LEN(late));
	struct endpoint at = name_server_at(ns);
	char server[ENDPOINT_TEXT_MAX], to[ENDPOINT_TEXT_MAX];
	struct path path;
	snprintf(to, sizeof to, "late.example:%u", add_peer(s, SILENT));
	bench_load(&s->bench,
		   "'dns': {'servers': ['%s']}, 'upstreams': [{'name': 'a', 'url': 'direct://'}, "
		   "{'name': 'b', 'url': 'direct://'}], 'pools': [{'name': 'p', 'balance': 'first', "
		   "'members': ['a', 'b'], 'race': {}}]",
		   endpoint_to_text(&at, server, sizeof server));
	addresses_asked = 0;
	s->bench.request.address_rejected = count_address;
	struct dial *x = bench_start(&s->bench, "p", to);
	for (int i = 0; i < 500 && name_server_queries(ns, "late.example", 1) == 0; i++)
		loop_turn(s->bench.loop, 10);
	pass_delay(s);
	assert_int_equal(dial_raced(x), 1);
	assert_int_equal(dial_stage(x, &path), DIAL_RESOLVE);
	assert_int_equal(name_server_release(ns), 1);
	bench_finish(&s->bench, VERDICT_GRANTED);
	assert_int_equal(name_server_queries(ns, "late.example", 1), 1);
	assert_int_equal(addresses_asked, 1);
	assert_true(endpoint_equal(&s->bench.result.peer, peer_at(s->peers[0])));
	name_server_stop(ns);
}

static int
make_certificates(void **state)
{
	(void)state;
	certificates_make();
	return 0;
}

static int
remove_certificates(void **state)
{
	(void)state;
	certificates_remove();
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_set_up, stage_tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_quick_enough),
		TEST(test_not_before_the_delay),
		TEST(test_without_race),
		TEST(test_first_wins_late),
		cmocka_unit_test(test_second_wins),
		TEST(test_winner_with_tls),
		TEST(test_three_side_by_side),
		TEST(test_both_fail),
		TEST(test_second_goes_on_alone),
		TEST(test_retry_beside),
		TEST(test_retry_of_the_first),
		TEST(test_retries_used_up),
		TEST(test_failure_before_the_delay),
		TEST(test_destination_decides),
		TEST(test_cancel_both),
		TEST(test_dialer_goes),
		TEST(test_no_memory_to_join),
		TEST(test_no_memory_for_the_handshake),
		TEST(test_one_name_for_both),
		TEST(test_one_look_up_for_both),
	};
	return cmocka_run_group_tests_name("race", tests, make_certificates, remove_certificates);
}
