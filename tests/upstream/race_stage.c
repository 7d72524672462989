/*
 * race_stage: see race_stage.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/upstream/race_stage.h"

#include <string.h>

#include "base/clock.h"
#include "base/loop.h"
#include "base/wheel.h"
#include "upstream/dial.h"

static uint64_t now_ms;

void
pass_ms(uint64_t ms)
{
	clock_fake(now_ms += ms, 0);
}

int
stage_set_up(void **state)
{
	static struct stage s;
	s = (struct stage){ .n = 0 };
	now_ms = START_MS;
	pass_ms(0);
	bench_open(&s.bench);
	*state = &s;
	return 0;
}

int
stage_tear_down(void **state)
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

uint16_t
add_peer(struct stage *s, const char *script)
{
	s->peers[s->n] = peer_new(s->bench.loop, script);
	return peer_at(s->peers[s->n++])->port;
}

void
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

void
turn_a_few(struct stage *s)
{
	for (int i = 0; i < 20; i++)
		loop_turn(s->bench.loop, 1);
}

struct dial *
start(struct stage *s)
{
	struct dial *x = bench_start(&s->bench, "p", TO);
	turn_a_few(s);
	return x;
}

void
pass_delay(struct stage *s)
{
	pass_ms(DELAY_MS + WHEEL_TICK_MS);
	turn_a_few(s);
}

void
assert_path(struct stage *s, const char *upstream)
{
	const struct path *p = &s->bench.result.path;
	assert_int_equal(p->n_hops, 1);
	assert_string_equal(s->bench.policy->upstreams[p->hops[0]].name, upstream);
}

void
assert_attempts(struct stage *s, unsigned attempts, unsigned raced, bool won_late)
{
	assert_int_equal(s->bench.result.attempts, attempts);
	assert_int_equal(s->bench.result.n_raced, raced);
	assert_int_equal(s->bench.result.won_late, won_late);
}

unsigned
failures(struct stage *s, const char *name)
{
	return (unsigned)bench_entry(&s->bench, name)->failures_total;
}

void
await_failures(struct stage *s, const char *name, unsigned n)
{
	for (int i = 0; i < 500 && failures(s, name) < n; i++)
		loop_turn(s->bench.loop, 10);
	assert_int_equal(failures(s, name), n);
}

void
await_accepted(struct stage *s, size_t peer, unsigned n)
{
	for (int i = 0; i < 500 && peer_accepted(s->peers[peer]) < n; i++)
		loop_turn(s->bench.loop, 10);
	assert_int_equal(peer_accepted(s->peers[peer]), n);
}

void
await_left(struct stage *s, size_t peer, unsigned n)
{
	for (int i = 0; i < 500 && peer_left(s->peers[peer]) < n; i++)
		loop_turn(s->bench.loop, 10);
	assert_int_equal(peer_left(s->peers[peer]), n);
}

void
assert_speaks_to(struct stage *s, size_t peer)
{
	size_t n = 0;
	assert_int_equal(stream_write(&s->bench.out, "hello", 5, &n), STREAM_OK);
	for (int i = 0; i < 500 && strcmp(peer_tail(s->peers[peer]), "hello") != 0; i++)
		loop_turn(s->bench.loop, 10);
	assert_string_equal(peer_tail(s->peers[peer]), "hello");
}
