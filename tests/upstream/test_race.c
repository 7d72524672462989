/*
 * race: several attempts of one dial side by side: when another joins, who wins, what becomes of the
 * others in whatever stage they are, what is counted and what is not; on a fake clock.
 */
#include "base/clock.h"
#include "base/loop.h"
#include "base/tls.h"
#include "tests/base/certificates.h"
#include "tests/dns/name_server.h"
#include "tests/upstream/dial_bench.h"
#include "tests/upstream/peer.h"
#include "upstream/budget.h"
#include "upstream/dial.h"
#include "upstream/warm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define TO "203.0.113.9:80"
#define SILENT ""
#define GREETED "<050100 >0500 "
#define ASKED GREETED "<05010001cb0071090050 "
#define YES ">05000001000000000000 "
#define GRANTS ASKED YES
#define FAILS ASKED ">05010001000000000000 "
/* Byte by byte, so that it takes more turns than anything else here. */
#define GRANTS_SLOWLY                                                                              \
	"<'CONNECT 203.0.113.9:80 HTTP/1.1~Host: 203.0.113.9:80~~' :'HTTP/1.1 200 Fine~Via: "       \
	"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" \
	"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx~~' "

enum { START_MS = 5000000, DELAY_MS = 200, LIMIT_MS = 10000, PEERS_MAX = 4 };

static uint64_t now_ms;

/* Upstreams a, b, c of a pool p, each with a peer that plays a script. */
struct stage {
	struct dial_bench bench;
	struct peer *peers[PEERS_MAX];
	size_t n;
};

static void
pass_ms(uint64_t ms)
{
	clock_fake(now_ms += ms, 0);
}

static int
set_up(void **state)
{
	static struct stage s;
	s = (struct stage){ .n = 0 };
	now_ms = START_MS;
	pass_ms(0);
	bench_open(&s.bench);
	*state = &s;
	return 0;
}

static int
tear_down(void **state)
{
	struct stage *s = *state;
	for (size_t i = 0; i < s->n; i++) {
		if (peer_complaint(s->peers[i])[0] != '\0')
			fail_msg("%c: %s", 'a' + (int)i, peer_complaint(s->peers[i]));
		peer_free(s->peers[i]);
	}
	bench_close(&s->bench);
	clock_fake_stop();
	return 0;
}

static uint16_t
add_peer(struct stage *s, const char *script)
{
	s->peers[s->n] = peer_new(s->bench.loop, script);
	return peer_at(s->peers[s->n++])->port;
}

/* The pool p of a, b and c in that order; more: of the pool's keys. */
static void
load_three(struct stage *s, const char *script_a, const char *script_b, const char *script_c,
	   const char *more)
{
	unsigned a = add_peer(s, script_a), b = add_peer(s, script_b), c = add_peer(s, script_c);
	bench_load(&s->bench,
		   "'upstreams': [{'name': 'a', 'url': '%s://127.0.0.1:%u'}, {'name': 'b', 'url': "
		   "'socks5://127.0.0.1:%u'}, {'name': 'c', 'url': 'socks5://127.0.0.1:%u'}], "
		   "'pools': [{'name': 'p', 'balance': 'first', 'members': ['a', 'b', 'c'], %s}]",
		   strncmp(script_a, "<'CONNECT", 9) == 0 ? "http" : "socks5", a, b, c, more);
	s->bench.request.timeout_ms = LIMIT_MS;
}

static void
turn_a_few(struct stage *s)
{
	for (int i = 0; i < 20; i++)
		loop_turn(s->bench.loop, 1);
}

static struct dial *
start(struct stage *s)
{
	struct dial *x = bench_start(&s->bench, "p", TO);
	turn_a_few(s);
	return x;
}

static void
pass_delay(struct stage *s)
{
	pass_ms(DELAY_MS + WHEEL_TICK_MS);
	turn_a_few(s);
}

static void
assert_path(struct stage *s, const char *upstream)
{
	const struct path *p = &s->bench.result.path;
	assert_int_equal(p->n_hops, 1);
	assert_string_equal(s->bench.policy->upstreams[p->hops[0]].name, upstream);
}

static void
assert_attempts(struct stage *s, unsigned attempts, unsigned raced, bool won_late)
{
	assert_int_equal(s->bench.result.attempts, attempts);
	assert_int_equal(s->bench.result.n_raced, raced);
	assert_int_equal(s->bench.result.won_late, won_late);
}

static unsigned
failures(struct stage *s, const char *name)
{
	return (unsigned)bench_entry(&s->bench, name)->failures_total;
}

/* Until the upstream is blamed for so many. */
static void
await_failures(struct stage *s, const char *name, unsigned n)
{
	for (int i = 0; i < 500 && failures(s, name) < n; i++)
		loop_turn(s->bench.loop, 10);
	assert_int_equal(failures(s, name), n);
}

static void
await_accepted(struct stage *s, size_t peer, unsigned n)
{
	for (int i = 0; i < 500 && peer_accepted(s->peers[peer]) < n; i++)
		loop_turn(s->bench.loop, 10);
	assert_int_equal(peer_accepted(s->peers[peer]), n);
}

static void
await_left(struct stage *s, size_t peer, unsigned n)
{
	for (int i = 0; i < 500 && peer_left(s->peers[peer]) < n; i++)
		loop_turn(s->bench.loop, 10);
	assert_int_equal(peer_left(s->peers[peer]), n);
}

/* What the caller has is the connection to that peer. */
static void
assert_speaks_to(struct stage *s, size_t peer)
{
	size_t n = 0;
	assert_int_equal(stream_write(&s->bench.out, "hello", 5, &n), STREAM_OK);
	for (int i = 0; i < 500 && strcmp(peer_tail(s->peers[peer]), "hello") != 0; i++)
		loop_turn(s->bench.loop, 10);
	assert_string_equal(peer_tail(s->peers[peer]), "hello");
}

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
		set_up((void **)&s);
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
		tear_down((void **)&s);
	}
	clock_fake(now_ms = START_MS, 0);
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

/* ---- what holds it back ---- */

/* The nth dial races iff the requests so far allow one more. */
static void
test_budget(void **state)
{
	struct stage *s = *state;
	static const unsigned want[] = { 0, 0, 0, 1, 0, 0, 1, 0, 0, 1 };
	load_three(s, SILENT, SILENT, SILENT, "'race': {'max_extra_percent': 33}");
	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		struct dial *x = start(s);
		pass_delay(s);
		if (dial_raced(x) != want[i])
			fail_msg("dial %zu: %u", i, dial_raced(x));
		dial_cancel(x);
	}
	await_accepted(s, 1, 3);
}

/* What goes unused is saved, but not without end; and 0 is none at all. */
static void
test_budget_is_bounded(void **state)
{
	struct extra_budget b = { 0 };
	(void)state;
	assert_false(extra_take(&b));
	for (int i = 0; i < 10 * EXTRA_SAVED_MAX; i++)
		extra_note_request(&b, 700);
	for (int i = 0; i < EXTRA_SAVED_MAX; i++)
		assert_true(extra_take(&b));
	assert_false(extra_take(&b));
	extra_give_back(&b);
	assert_true(extra_take(&b));
	for (int i = 0; i < 1000; i++)
		extra_note_request(&b, 0);
	assert_false(extra_take(&b));
}

static void
test_no_free_slot(void **state)
{
	struct stage *s = *state;
	unsigned a = add_peer(s, SILENT), b = add_peer(s, SILENT);
	bench_load(&s->bench,
		   "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:%u'}, {'name': 'b', 'url': "
		   "'socks5://127.0.0.1:%u', 'max_connections': 1}], 'pools': [{'name': 'p', 'balance': "
		   "'first', 'members': ['a', 'b'], 'race': {'max_extra_percent': 50}, 'queue': {}}]",
		   a, b);
	struct board_entry *e = bench_entry(&s->bench, "b");
	for (int i = 0; i < 3; i++) {
		bool taken = i < 2;
		assert_true(!taken || board_take_slot(e, 1));
		struct dial *x = start(s);
		pass_delay(s);
		/* one that did not come about costs nothing of the budget, so the last may */
		assert_int_equal(dial_raced(x), taken ? 0 : 1);
		assert_false(dial_waits(x));
		assert_int_equal(board_in_use(e), 1);
		dial_cancel(x);
		if (taken)
			board_give_back_slot(e);
		assert_int_equal(board_in_use(e), 0);
	}
}

/* A higher tier stands in for the dead, not for the slow. */
static void
test_within_the_tier(void **state)
{
	struct stage *s = *state;
	unsigned a = add_peer(s, SILENT), b = add_peer(s, SILENT);
	bench_load(&s->bench,
		   "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:%u'}, {'name': 'b', 'url': "
		   "'socks5://127.0.0.1:%u'}], 'pools': [{'name': 'p', 'members': ['a', {'name': 'b', "
		   "'tier': 1}], 'race': {}}, {'name': 'q', 'members': ['a', 'b'], 'race': {}}]", a, b);
	struct dial *x = start(s);
	pass_delay(s);
	assert_int_equal(dial_raced(x), 0);
	dial_cancel(x);
	x = bench_start(&s->bench, "q", TO);
	pass_delay(s);
	assert_int_equal(dial_raced(x), 1);
	dial_cancel(x);
}

/* Only whole tunnels of clients are raced. */
static void
test_what_is_not_raced(void **state)
{
	struct stage *s = *state;
	load_three(s, SILENT, SILENT, SILENT, "'race': {}");
	for (int i = 0; i < 4; i++) {
		struct path fixed = { .n_hops = 1 };
		struct dial_request plain = s->bench.request;
		if (i == 0)
			s->bench.request.command = SOCKS_BIND;
		if (i == 1)
			s->bench.request.command = SOCKS_UDP;
		if (i == 2)
			s->bench.request.until = DIAL_UNTIL_AUTHENTICATED;
		if (i == 3)
			s->bench.request.fixed = &fixed;
		struct dial *x = start(s);
		pass_delay(s);
		assert_int_equal(dial_raced(x), 0);
		dial_cancel(x);
		s->bench.request = plain;
	}
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

/* ---- what is around it ---- */

/* The one that joins may take a connection that was kept ready, and wins with that. */
static void
test_winner_from_warm(void **state)
{
	struct stage *s = *state;
	unsigned a = add_peer(s, SILENT), b = add_peer(s, GRANTS);
	bench_load(&s->bench,
		   "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:%u'}, {'name': 'b', 'url': "
		   "'socks5://127.0.0.1:%u', 'warm': 1}], 'pools': [{'name': 'p', 'balance': 'first', "
		   "'members': ['a', 'b'], 'race': {}}]", a, b);
	peer_play_later(s->peers[1], SILENT); /* with the next one that is kept ready */
	dialer_keep_warm(s->bench.dialer, s->bench.fleet, 1);
	for (int i = 0; i < 500 && warm_ready(s->bench.dialer->warm, 1) == 0; i++)
		loop_turn(s->bench.loop, 10);
	start(s);
	assert_int_equal(peer_accepted(s->peers[1]), 1);
	pass_ms(DELAY_MS + WHEEL_TICK_MS);
	bench_finish(&s->bench, VERDICT_GRANTED);
	assert_path(s, "b");
	assert_attempts(s, 2, 1, true);
	assert_int_equal((int)bench_entry(&s->bench, "b")->ewma_us, 0); /* no connect was measured */
	dialer_keep_warm(s->bench.dialer, NULL, 1);
	for (int i = 0; i < 500 && bench_entry(&s->bench, "b")->warm > 0; i++)
		loop_turn(s->bench.loop, 10);
}

/* In a chain the whole way is gone again, and it is the pool's pick that differs. */
static void
test_pool_in_a_chain(void **state)
{
	struct stage *s = *state;
	unsigned h = add_peer(s, GREETED "<050100017f0000010001 " YES);
	peer_play_later(s->peers[0], GREETED "<050100017f0000010002 " YES GRANTS);
	bench_load(&s->bench,
		   "'upstreams': [{'name': 'h', 'url': 'socks5://127.0.0.1:%u'}, {'name': 'a', 'url': "
		   "'socks5://127.0.0.1:1'}, {'name': 'b', 'url': 'socks5://127.0.0.1:2'}], "
		   "'pools': [{'name': 'q', 'balance': 'first', 'members': ['a', 'b'], 'race': {}}], "
		   "'chains': [{'name': 'p', 'hops': ['h', 'q']}]", h);
	start(s);
	for (int i = 0; i < 500 && peer_played(s->peers[0]) == 0; i++)
		loop_turn(s->bench.loop, 10);
	pass_ms(DELAY_MS + WHEEL_TICK_MS);
	bench_finish(&s->bench, VERDICT_GRANTED);
	assert_int_equal(s->bench.result.path.n_hops, 2);
	assert_int_equal(s->bench.result.path.hops[1], 2);
	assert_attempts(s, 2, 1, true);
	assert_speaks_to(s, 0);
}

/* The outer pool's race is the one: its members are the inner pools. */
static void
test_pool_of_pools(void **state)
{
	struct stage *s = *state;
	unsigned a = add_peer(s, SILENT), b = add_peer(s, SILENT), c = add_peer(s, GRANTS);
	bench_load(&s->bench,
		   "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:%u'}, {'name': 'b', 'url': "
		   "'socks5://127.0.0.1:%u'}, {'name': 'c', 'url': 'socks5://127.0.0.1:%u'}], "
		   "'pools': [{'name': 'inner', 'balance': 'first', 'members': ['a', 'b'], 'race': "
		   "{'delay': '1ms'}}, {'name': 'p', 'balance': 'first', 'members': ['inner', 'c'], "
		   "'race': {}}]", a, b, c);
	struct dial *x = start(s);
	pass_ms(DELAY_MS - 1);
	turn_a_few(s);
	assert_int_equal(dial_raced(x), 0);
	pass_ms(1 + WHEEL_TICK_MS);
	bench_finish(&s->bench, VERDICT_GRANTED);
	assert_path(s, "c");
	assert_int_equal(peer_accepted(s->peers[1]), 0);
}

struct pinned {
	char member[64];
	unsigned n;
};

static void
note_pin(const char *key, const char *member, uint64_t left_ms, void *arg)
{
	struct pinned *p = arg;
	(void)key, (void)left_ms;
	p->n++;
	snprintf(p->member, sizeof p->member, "%s", member);
}

static void
assert_pinned(struct stage *s, const char *member)
{
	struct pinned p = { .n = 0 };
	fleet_each_pin(s->bench.fleet, 0, note_pin, &p);
	assert_int_equal(p.n, 1);
	assert_string_equal(p.member, member);
}

/* A sticky key goes with who wins, and not before. */
static void
test_sticky(void **state)
{
	struct stage *s = *state;
	struct endpoint client;
	load_three(s, SILENT, SILENT, GRANTS,
		   "'sticky': {'key': 'client_ip'}, 'race': {'count': 3, 'max_extra_percent': 700}");
	assert_int_equal(endpoint_from_text(&client, "192.0.2.7:1", 11), ENDPOINT_OK);
	s->bench.request.key.client = &client;
	start(s);
	assert_pinned(s, "a");
	pass_delay(s);
	assert_pinned(s, "a");
	pass_ms(DELAY_MS + WHEEL_TICK_MS);
	bench_finish(&s->bench, VERDICT_GRANTED);
	assert_path(s, "c");
	assert_pinned(s, "c");
	bench_give_back(&s->bench);
	bench_dial(&s->bench, "p", TO, VERDICT_GRANTED);
	assert_path(s, "c");
	assert_attempts(s, 1, 0, false);
}

/* "repin": false: who must have this one member does not get another by a race. */
static void
test_sticky_that_stays(void **state)
{
	struct stage *s = *state;
	struct endpoint client;
	load_three(s, SILENT, GRANTS, SILENT,
		   "'sticky': {'key': 'client_ip', 'repin': false}, 'race': {}");
	assert_int_equal(endpoint_from_text(&client, "192.0.2.7:1", 11), ENDPOINT_OK);
	s->bench.request.key.client = &client;
	struct dial *x = start(s);
	pass_delay(s);
	assert_int_equal(dial_raced(x), 0);
	assert_pinned(s, "a");
	dial_cancel(x);
}

/* Who was waited for in vain is no failure, but for least_latency at least so slow. */
static void
test_loser_is_slow(void **state)
{
	struct stage *s = *state;
	load_three(s, SILENT, GRANTS, SILENT, "'race': {}");
	struct board_entry *a = bench_entry(&s->bench, "a");
	start(s);
	pass_ms(DELAY_MS + WHEEL_TICK_MS);
	bench_finish(&s->bench, VERDICT_GRANTED);
	assert_true(board_peak(a) > board_peak(bench_entry(&s->bench, "b")));
	assert_int_equal((int)a->ewma_us, 0);
	assert_int_equal((int)a->failures_total, 0);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

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
		TEST(test_budget),
		cmocka_unit_test(test_budget_is_bounded),
		TEST(test_no_free_slot),
		TEST(test_within_the_tier),
		TEST(test_what_is_not_raced),
		TEST(test_cancel_both),
		TEST(test_dialer_goes),
		TEST(test_no_memory_to_join),
		TEST(test_no_memory_for_the_handshake),
		TEST(test_one_name_for_both),
		TEST(test_one_look_up_for_both),
		TEST(test_winner_from_warm),
		TEST(test_pool_in_a_chain),
		TEST(test_pool_of_pools),
		TEST(test_sticky),
		TEST(test_sticky_that_stays),
		TEST(test_loser_is_slow),
	};
	return cmocka_run_group_tests_name("race", tests, make_certificates, remove_certificates);
}
