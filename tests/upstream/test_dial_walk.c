/*
 * dial_walk: hops of all kinds in every order, byte by byte and with payload behind their answers;
 * what each answer of a hop means for the client, for the blame and for the log; TLS, and TLS
 * within it.
 */
#include "base/clock.h"
#include "base/loop.h"
#include "base/tls.h"
#include "tests/base/certificates.h"
#include "tests/upstream/dial_bench.h"
#include "tests/upstream/peer.h"
#include "upstream/dial.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---- what hops say ---- */

static const char *const kinds[] = {"socks4", "socks4a", "socks5", "http"};
enum { SOCKS4, SOCKS4A, SOCKS5, HTTP, KINDS_N };

struct script {
	char text[32768];
	size_t len;
};

static void PRINTF_LIKE(2, 3) add(struct script *s, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	s->len += (size_t)vsnprintf(s->text + s->len, sizeof s->text - s->len, format, args);
	va_end(args);
	assert_true(s->len < sizeof s->text);
}

static void
add_hex(struct script *s, const void *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		add(s, "%02x", ((const uint8_t *)bytes)[i]);
}

static void
add_socks4_request(struct script *s, const struct endpoint *to)
{
	static const uint8_t is_name[4] = {0, 0, 0, 1};
	add(s, " <0401%04x", to->port);
	add_hex(s, to->kind == ENDPOINT_NAME ? is_name : to->addr, 4);
	add(s, "00");
	if (to->kind == ENDPOINT_NAME) {
		add_hex(s, to->name, to->name_len);
		add(s, "00");
	}
}

static void
add_socks5_request(struct script *s, const struct endpoint *to)
{
	add(s, " <050100");
	if (to->kind == ENDPOINT_NAME) {
		add(s, "03%02x", to->name_len);
		add_hex(s, to->name, to->name_len);
	} else {
		add(s, "%s", to->kind == ENDPOINT_IPV4 ? "01" : "04");
		add_hex(s, to->addr, to->kind == ENDPOINT_IPV4 ? 4 : 16);
	}
	add(s, "%04x", to->port);
}

/* What a hop is asked for, up to its last answer. say: '>' or ':'. */
static void
add_request(struct script *s, int kind, const char *to_text, char say)
{
	struct endpoint to;
	assert_int_equal(endpoint_from_text(&to, to_text, strlen(to_text)), ENDPOINT_OK);
	if (kind == SOCKS4 || kind == SOCKS4A)
		add_socks4_request(s, &to);
	if (kind == SOCKS5) {
		add(s, " <050100 %c0500", say);
		add_socks5_request(s, &to);
	}
	if (kind == HTTP)
		add(s, " <'CONNECT %s HTTP/1.1~Host: %s~~'", to_text, to_text);
}

/* A hop's last answer: it leads there. behind: text right behind it. */
static void
add_grant(struct script *s, int kind, char say, const char *behind)
{
	if (kind == HTTP) {
		add(s, " %c'HTTP/1.1 200 Fine~Via: x~~%s'", say, behind);
		return;
	}
	add(s, " %c%s", say, kind == SOCKS5 ? "050000010a0000011f90" : "005a1f900a000001");
	add_hex(s, behind, strlen(behind));
}

/* ---- a bench for each test ---- */

static int
set_up(void **state)
{
	static struct dial_bench b;
	bench_open(&b);
	*state = &b;
	return 0;
}

static void
close_all(struct dial_bench *b, struct peer *p)
{
	if (peer_complaint(p)[0] != '\0')
		fail_msg("%s", peer_complaint(p));
	peer_free(p);
	bench_close(b);
}

/* ---- chains ---- */

/* What came behind the last answer is all there: as `early`, or still to be read where it came byte
 * by byte. */
static void
check_payload(struct dial_bench *b, const char *want)
{
	size_t len = strlen(b->early), n;
	while (len < strlen(want)) {
		enum stream_status status = stream_read(&b->out, b->early + len, 64, &n);
		for (int i = 0; i < 500 && status == STREAM_AGAIN; i++) {
			loop_turn(b->loop, 10);
			status = stream_read(&b->out, b->early + len, 64, &n);
		}
		if (status != STREAM_OK)
			fail_msg("%s is missing behind %s", want, b->early);
		len += n;
		b->early[len] = '\0';
	}
	assert_string_equal(b->early, want);
}

static void
write_on(struct dial_bench *b, struct peer *p)
{
	size_t n;
	assert_int_equal(stream_write(&b->out, "up", 2, &n), STREAM_OK);
	for (int i = 0; i < 500 && strcmp(peer_tail(p), "up") != 0; i++)
		loop_turn(b->loop, 10);
	assert_string_equal(peer_tail(p), "up");
}

static void
check_granted_chain(struct dial_bench *b, const int chain[3])
{
	assert_int_equal(b->result.path.n_hops, 3);
	assert_int_equal(b->result.hop_at_fault, -1);
	assert_int_equal(b->result.attempts, 1);
	assert_int_equal(b->result.n_hop_times, 3);
	assert_int_equal(bench_in_use(b), 4); /* three hops and the chain */
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(b->result.hops[i].upstream, i);
	if (chain[2] == HTTP)
		assert_true(endpoint_is_loopback(&b->result.bound));
	else
		assert_int_equal(b->result.bound.port, 8080);
	for (uint32_t i = 0; i < 3; i++) {
		struct board_entry *e = fleet_upstream(b->fleet, i);
		assert_int_equal(e->sessions_total, 1);
		assert_int_equal(e->failures_total, 0);
		assert_true(e->ewma_us > 0);
	}
}

/* Hop 1 is real, the others are what it says they are; each is asked for the next, the last for the
 * destination. */
static void
dial_chain(const int chain[3], const char *to, char say)
{
	struct dial_bench b;
	struct script s = {.len = 0};
	bool named_to_socks4 = chain[2] == SOCKS4 && to[0] == 'd';
	bench_open(&b);
	add_request(&s, chain[0], "192.0.2.2:1082", say);
	add_grant(&s, chain[0], say, "");
	add_request(&s, chain[1], "192.0.2.3:1083", say);
	add_grant(&s, chain[1], say, "");
	add_request(&s, chain[2], named_to_socks4 ? "203.0.113.9:80" : to, say);
	add_grant(&s, chain[2], say, "early bird");
	struct peer *p = peer_new(b.loop, s.text);
	bench_load(&b,
		   "'dns': {'hosts': {'dest.example': ['2001:db8::9', '203.0.113.9']}},"
		   "'upstreams': [{'name': 'a', 'url': '%s://127.0.0.1:%u'},"
		   "{'name': 'b', 'url': '%s://192.0.2.2:1082'}, {'name': 'c', 'url': "
		   "'%s://192.0.2.3:1083'}],"
		   "'chains': [{'name': 'abc', 'hops': ['a', 'b', 'c']}]",
		   kinds[chain[0]], peer_at(p)->port, kinds[chain[1]], kinds[chain[2]]);
	bench_dial(&b, "abc", to, VERDICT_GRANTED);
	check_granted_chain(&b, chain);
	if (say == '>')
		assert_string_equal(b.early, "early bird");
	check_payload(&b, "early bird");
	write_on(&b, p);
	close_all(&b, p);
}

static void
test_every_order_of_kinds(void **state)
{
	(void)state;
	for (int i = 0; i < KINDS_N * KINDS_N * KINDS_N; i++) {
		const int chain[3] = {i / 16, i / 4 % 4, i % 4};
		dial_chain(chain, "203.0.113.9:80", '>');
		dial_chain(chain, "dest.example:80", i % 2 == 0 ? '>' : ':');
	}
}

static void
test_every_kind_byte_by_byte(void **state)
{
	(void)state;
	for (int i = 0; i < KINDS_N; i++) {
		const int chain[3] = {i, (i + 1) % KINDS_N, (i + 2) % KINDS_N};
		dial_chain(chain, "203.0.113.9:80", ':');
	}
}

/* ---- what an answer means ---- */

enum place { ALONE, FIRST, LAST };

/* An answer that is the hop's own fault, wherever it stands. */
#define OWN(what, kind, answer, greeting, verdict, code, status)                                   \
	{                                                                                          \
		what, kind, answer, greeting, verdict, 0, verdict, 0, code, status                 \
	}

static const struct {
	const char *what;
	int kind;
	const char *answer;   /* of the script, instead of what grants */
	bool greeting;        /* it answers the greeting, not the request */
	enum verdict verdict; /* where the hop is the last */
	int fault;            /* 0: the hop, 1: what lies beyond it */
	enum verdict inner;   /* where it is not */
	int inner_fault;
	unsigned code, status;
} answers[] = {
    {"general failure", SOCKS5, ">05010001000000000000", false, VERDICT_UPSTREAM_FAILED, 0,
     VERDICT_UPSTREAM_FAILED, 0, 1, 0},
    {"not allowed", SOCKS5, ">05020001000000000000", false, VERDICT_UPSTREAM_REJECTED, 1,
     VERDICT_UPSTREAM_FAILED, 0, 2, 0},
    {"network unreachable", SOCKS5, ">05030001000000000000", false, VERDICT_NETWORK_UNREACHABLE, 1,
     VERDICT_UPSTREAM_FAILED, 1, 3, 0},
    {"host unreachable", SOCKS5, ">05040001000000000000", false, VERDICT_HOST_UNREACHABLE, 1,
     VERDICT_UPSTREAM_FAILED, 1, 4, 0},
    {"refused", SOCKS5, ">05050001000000000000", false, VERDICT_REFUSED, 1, VERDICT_UPSTREAM_FAILED,
     1, 5, 0},
    {"expired", SOCKS5, ">05060001000000000000", false, VERDICT_TIMEOUT, 1, VERDICT_UPSTREAM_FAILED,
     1, 6, 0},
    {"no such command", SOCKS5, ">05070001000000000000", false, VERDICT_UPSTREAM_NO_COMMAND, 0,
     VERDICT_UPSTREAM_FAILED, 0, 7, 0},
    {"no such address", SOCKS5, ">05080001000000000000", false, VERDICT_UPSTREAM_NO_ADDRESS, 0,
     VERDICT_UPSTREAM_FAILED, 0, 8, 0},
    {"refused, cut short", SOCKS5, ">050500 close", false, VERDICT_REFUSED, 1,
     VERDICT_UPSTREAM_FAILED, 1, 5, 0},
    {"refused, then a reset", SOCKS5, ">05050001000000000000 reset", false, VERDICT_REFUSED, 1,
     VERDICT_UPSTREAM_FAILED, 1, 5, 0},
    OWN("another version", SOCKS5, ">0400", true, VERDICT_UPSTREAM_GARBAGE, 0, 0),
    OWN("a method not offered", SOCKS5, ">0502", true, VERDICT_UPSTREAM_GARBAGE, 0, 0),
    OWN("no method", SOCKS5, ">05ff", true, VERDICT_UPSTREAM_AUTH, 0, 0),
    OWN("an end after the greeting", SOCKS5, "close", true, VERDICT_UPSTREAM_FAILED, 0, 0),
    OWN("a reset after the greeting", SOCKS5, "reset", true, VERDICT_UPSTREAM_FAILED, 0, 0),
    OWN("half a reply, then the end", SOCKS5, ">05000001 close", false, VERDICT_UPSTREAM_FAILED, 0,
	0),
    OWN("a web page", SOCKS5, ">'HTTP/1.1 400 Bad Request~~'", true, VERDICT_UPSTREAM_GARBAGE, 0,
	0),
    OWN("rejected", SOCKS4, ">005b000000000000", false, VERDICT_UPSTREAM_FAILED, 0x5b, 0),
    OWN("rejected, cut short", SOCKS4, ">005b close", false, VERDICT_UPSTREAM_FAILED, 0x5b, 0),
    OWN("no identd", SOCKS4A, ">005c000000000000", false, VERDICT_UPSTREAM_FAILED, 0x5c, 0),
    OWN("another version", SOCKS4, ">055a000000000000", false, VERDICT_UPSTREAM_GARBAGE, 0, 0),
    OWN("an end", SOCKS4A, "close", false, VERDICT_UPSTREAM_FAILED, 0, 0),
    OWN("a half-close", SOCKS4A, "fin", false, VERDICT_UPSTREAM_FAILED, 0, 0),
    {"forbidden", HTTP, ">'HTTP/1.1 403 No~~'", false, VERDICT_UPSTREAM_REJECTED, 1,
     VERDICT_UPSTREAM_FAILED, 0, 0, 403},
    {"not found", HTTP, ">'HTTP/1.1 404 No~~'", false, VERDICT_HOST_UNREACHABLE, 1,
     VERDICT_UPSTREAM_FAILED, 1, 0, 404},
    {"bad gateway", HTTP, ">'HTTP/1.1 502 No~~'", false, VERDICT_HOST_UNREACHABLE, 1,
     VERDICT_UPSTREAM_FAILED, 1, 0, 502},
    {"gateway timeout", HTTP, ">'HTTP/1.1 504 No~~'", false, VERDICT_TIMEOUT, 1,
     VERDICT_UPSTREAM_FAILED, 1, 0, 504},
    OWN("credentials wanted", HTTP, ">'HTTP/1.1 407 Who~~'", false, VERDICT_UPSTREAM_AUTH, 0, 407),
    OWN("unavailable", HTTP, ">'HTTP/1.1 503 No~~'", false, VERDICT_UPSTREAM_FAILED, 0, 503),
    OWN("no head at all", HTTP, ">0500", false, VERDICT_UPSTREAM_GARBAGE, 0, 0),
    OWN("half a head, then the end", HTTP, ">'HTTP/1.1 200 OK~' close", false,
	VERDICT_UPSTREAM_FAILED, 0, 200),
};

/* The script up to the answer; what comes before this hop is a SOCKS5 hop that leads to it. */
static void
write_answer_script(struct script *s, size_t row, enum place place, char say)
{
	const char *next = place == FIRST ? "192.0.2.2:1082" : "203.0.113.9:80";
	const char *answer = answers[row].answer;
	if (place == LAST) {
		add_request(s, SOCKS5, "192.0.2.2:1082", say);
		add_grant(s, SOCKS5, say, "");
	}
	if (answers[row].greeting)
		add(s, " <050100");
	else
		add_request(s, answers[row].kind, next, say);
	add(s, " %c%s", answer[0] == '>' ? say : answer[0], answer + 1);
}

static void
check_answer(struct dial_bench *b, size_t row, enum place place)
{
	int self = place == LAST ? 1 : 0;
	int fault = place == FIRST       ? self + answers[row].inner_fault
		    : answers[row].fault ? -1
					 : self;
	if (b->result.hop_at_fault != fault || b->result.code != answers[row].code ||
	    b->result.status != answers[row].status || b->result.attempts != 1)
		fail_msg("%s at place %d: fault %d, code %u, status %u", answers[row].what, place,
			 b->result.hop_at_fault, b->result.code, b->result.status);
	for (int i = 0; i < b->result.path.n_hops; i++) {
		struct board_entry *e = fleet_upstream(b->fleet, b->result.path.hops[i]);
		bool blamed = i == fault && verdict_blames_upstream(b->result.verdict);
		assert_int_equal(e->failures_total, blamed);
		assert_int_equal(e->sessions_total, 0);
	}
}

static void
dial_for_answer(size_t row, enum place place, char say)
{
	struct dial_bench b;
	struct script s = {.len = 0};
	const char *kind = kinds[answers[row].kind];
	bench_open(&b);
	b.what = answers[row].what;
	write_answer_script(&s, row, place, say);
	struct peer *p = peer_new(b.loop, s.text);
	bench_load(&b,
		   "'upstreams': [{'name': 'a', 'url': '%s://127.0.0.1:%u'},"
		   "{'name': 'b', 'url': '%s://192.0.2.2:1082'}],"
		   "'chains': [{'name': 'ab', 'hops': ['a', 'b']}]",
		   place == LAST ? "socks5" : kind, peer_at(p)->port,
		   place == LAST ? kind : "socks5");
	bench_dial(&b, place == ALONE ? "a" : "ab", "203.0.113.9:80",
		   place == FIRST ? answers[row].inner : answers[row].verdict);
	check_answer(&b, row, place);
	close_all(&b, p);
}

static void
test_answers(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		for (enum place place = ALONE; place <= LAST; place++) {
			dial_for_answer(i, place, '>');
			dial_for_answer(i, place, ':');
		}
	}
}

/* More than a handshake may need: it ends, in bounded memory. */
static void
test_endless_answer(void **state)
{
	struct dial_bench *b = *state;
	struct script s = {.len = 0};
	add(&s, ">'HTTP/1.1 200 OK~'");
	for (int i = 0; i < 200; i++)
		add(&s, " >'x: %060d~'", i);
	struct peer *p = peer_new(b->loop, s.text);
	bench_load(b, "'upstreams': [{'name': 'a', 'url': 'http://127.0.0.1:%u'}]",
		   peer_at(p)->port);
	bench_start(b, "a", "203.0.113.9:80");
	assert_true(turn_until(b->loop, &b->done));
	assert_true(b->result.verdict == VERDICT_UPSTREAM_GARBAGE ||
		    b->result.verdict == VERDICT_UPSTREAM_FAILED);
	assert_int_equal(b->result.hop_at_fault, 0);
	peer_free(p);
	bench_close(b);
}

/* A hop that speaks before it is spoken to: its bytes come with the answer of the hop before and
 * must not be lost. */
static void
test_next_hop_speaks_first(void **state)
{
	struct dial_bench *b = *state;
	struct script s = {.len = 0};
	add_request(&s, SOCKS5, "192.0.2.2:1082", '>');
	add(&s, " >0500000100000000000005 <050100");
	add(&s, " >00");
	add_socks5_request(
	    &s, &(struct endpoint){.kind = ENDPOINT_IPV4, .port = 80, .addr = {203, 0, 113, 9}});
	add_grant(&s, SOCKS5, '>', "early");
	struct peer *p = peer_new(b->loop, s.text);
	bench_load(b,
		   "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:%u'},"
		   "{'name': 'b', 'url': 'socks5://192.0.2.2:1082'}],"
		   "'chains': [{'name': 'ab', 'hops': ['a', 'b']}]",
		   peer_at(p)->port);
	bench_dial(b, "ab", "203.0.113.9:80", VERDICT_GRANTED);
	assert_string_equal(b->early, "early");
	close_all(b, p);
}

/* ---- credentials ---- */

static void
test_credentials_of_the_client(void **state)
{
	struct dial_bench *b = *state;
	/* user "alice", password "s1" */
	struct peer *p = peer_new(b->loop, "<05020002 >0502 <0105616c696365027331 >0100 "
					   "<05010001cb0071090050 >05000001000000000000");
	bench_load(b,
		   "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:%u',"
		   "'username': '{user}', 'password': '{session}'}]",
		   peer_at(p)->port);
	b->request.key.user = "alice";
	b->request.key.session = "s1";
	bench_dial(b, "a", "203.0.113.9:80", VERDICT_GRANTED);
	close_all(b, p);
}

/* What a client calls itself must not count against an upstream, nor be cut or shifted into
 * another's name. */
static void
test_credentials_that_do_not_fit(void **state)
{
	char user[256];
	memset(user, 'u', 255);
	user[255] = '\0';
	const char *const rows[][2] = {
	    {"socks5", user}, {"http", user}, {"http", "alice:x"}, {"socks4", user}};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct dial_bench b;
		bench_open(&b);
		b.what = rows[i][0];
		struct peer *p = peer_new(b.loop, "");
		bench_load(
		    &b,
		    "'upstreams': [{'name': 'a', 'url': '%s://127.0.0.1:%u', 'username': "
		    "'x{user}'}],"
		    "'pools': [{'name': 'p', 'members': ['a', 'direct'], 'balance': 'first'}]",
		    rows[i][0], peer_at(p)->port);
		b.request.key.user = rows[i][1];
		bench_dial(&b, "p", "203.0.113.9:80", VERDICT_REJECTED);
		assert_int_equal(b.result.hop_at_fault, -1);
		assert_int_equal(b.result.attempts, 1);
		assert_int_equal(bench_entry(&b, "a")->failures_total, 0);
		assert_string_equal(peer_tail(p), "");
		close_all(&b, p);
	}
}

static void
test_refused_credentials(void **state)
{
	struct dial_bench *b = *state;
	struct peer *p = peer_new(b->loop, "<05020002 >0502 <0101660170 >0101");
	bench_load(b, "'upstreams': [{'name': 'a', 'url': 'socks5://f:p@127.0.0.1:%u'}]",
		   peer_at(p)->port);
	bench_dial(b, "a", "203.0.113.9:80", VERDICT_UPSTREAM_AUTH);
	assert_int_equal(b->result.hop_at_fault, 0);
	assert_int_equal(b->result.stage, DIAL_HANDSHAKE);
	close_all(b, p);
}

/* ---- addresses that a hop can't carry ---- */

static void
test_ipv6_through_socks4(void **state)
{
	struct dial_bench *b = *state;
	struct peer *p = peer_new(b->loop, "");
	bench_load(b, "'upstreams': [{'name': 'a', 'url': 'socks4a://127.0.0.1:%u'}]",
		   peer_at(p)->port);
	bench_dial(b, "a", "[2001:db8::1]:80", VERDICT_UPSTREAM_NO_ADDRESS);
	assert_int_equal(bench_entry(b, "a")->failures_total, 0);
	assert_string_equal(peer_tail(p), "");
	close_all(b, p);
}

static void
test_name_with_ipv6_only_through_socks4(void **state)
{
	struct dial_bench *b = *state;
	struct peer *p = peer_new(b->loop, "");
	bench_load(b,
		   "'dns': {'hosts': {'six.example': ['2001:db8::9']}},"
		   "'upstreams': [{'name': 'a', 'url': 'socks4://127.0.0.1:%u'}]",
		   peer_at(p)->port);
	bench_dial(b, "a", "six.example:80", VERDICT_UPSTREAM_NO_ADDRESS);
	assert_int_equal(bench_entry(b, "a")->failures_total, 0);
	close_all(b, p);
}

/* The second hop has a name; the first can't carry it, so it is looked up here. */
static void
test_name_of_an_inner_hop(void **state)
{
	struct dial_bench *b = *state;
	struct script s = {.len = 0};
	add_request(&s, SOCKS4, "192.0.2.2:1082", '>');
	add_grant(&s, SOCKS4, '>', "");
	add_request(&s, SOCKS5, "203.0.113.9:80", '>');
	add_grant(&s, SOCKS5, '>', "");
	struct peer *p = peer_new(b->loop, s.text);
	bench_load(b,
		   "'dns': {'hosts': {'hop.example': ['2001:db8::2', '192.0.2.2']}},"
		   "'upstreams': [{'name': 'a', 'url': 'socks4://127.0.0.1:%u'},"
		   "{'name': 'b', 'url': 'socks5://hop.example:1082'}],"
		   "'chains': [{'name': 'ab', 'hops': ['a', 'b']}]",
		   peer_at(p)->port);
	bench_dial(b, "ab", "203.0.113.9:80", VERDICT_GRANTED);
	close_all(b, p);
}

/* Names go on as names, to the next hop and to the destination, and nobody asks which addresses
 * they have. */
static bool
forbid_all(const struct endpoint *addr, void *arg)
{
	(void)addr, (void)arg;
	return true;
}

static void
test_names_go_on_unresolved(void **state)
{
	struct dial_bench *b = *state;
	struct script s = {.len = 0};
	add_request(&s, HTTP, "hop.example:1082", '>');
	add_grant(&s, HTTP, '>', "");
	add_request(&s, SOCKS4A, "nobody.example:80", '>');
	add_grant(&s, SOCKS4A, '>', "");
	struct peer *p = peer_new(b->loop, s.text);
	bench_load(b,
		   "'upstreams': [{'name': 'a', 'url': 'http://127.0.0.1:%u'},"
		   "{'name': 'b', 'url': 'socks4a://hop.example:1082'}],"
		   "'chains': [{'name': 'ab', 'hops': ['a', 'b']}]",
		   peer_at(p)->port);
	b->request.address_rejected = forbid_all;
	bench_dial(b, "ab", "nobody.example:80", VERDICT_GRANTED);
	assert_int_equal(b->result.resolve_us, 0);
	close_all(b, p);
}

static void
test_resolve_local(void **state)
{
	struct dial_bench *b = *state;
	struct script s = {.len = 0};
	add_request(&s, SOCKS5, "203.0.113.9:80", '>');
	add_grant(&s, SOCKS5, '>', "");
	struct peer *p = peer_new(b->loop, s.text);
	bench_load(
	    b,
	    "'dns': {'hosts': {'dest.example': ['203.0.113.9']}},"
	    "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:%u', 'resolve': 'local'}]",
	    peer_at(p)->port);
	bench_dial(b, "a", "dest.example:80", VERDICT_GRANTED);
	bench_give_back(b);
	b->request.address_rejected = forbid_all;
	bench_dial(b, "a", "dest.example:80", VERDICT_REJECTED);
	assert_int_equal(b->result.hop_at_fault, -1);
	peer_free(p);
	bench_close(b);
}

/* ---- TLS ---- */

static struct tls_context *
server_context(const char *name)
{
	char pem[32], key[32], why[256];
	snprintf(pem, sizeof pem, "%s.pem", name);
	snprintf(key, sizeof key, "%s.key", name);
	const struct tls_options o = {.server = true,
				      .certificate_file = certificate_path(pem),
				      .key_file = certificate_path(key)};
	struct tls_context *c = tls_context_new(&o, why, sizeof why);
	if (c == NULL)
		fail_msg("%s", why);
	return c;
}

static void
test_tls_hop(void **state)
{
	struct dial_bench *b = *state;
	struct tls_context *c = server_context("ip");
	struct script s = {.len = 0};
	add(&s, "tls");
	add_request(&s, HTTP, "203.0.113.9:80", ':');
	add_grant(&s, HTTP, ':', "early bird");
	struct peer *p = peer_new(b->loop, s.text);
	peer_use_tls(p, c);
	bench_load(
	    b, "'upstreams': [{'name': 'a', 'url': 'https://127.0.0.1:%u', 'tls': {'ca': '%s'}}]",
	    peer_at(p)->port, certificate_path("ca.pem"));
	bench_dial(b, "a", "203.0.113.9:80", VERDICT_GRANTED);
	check_payload(b, "early bird");
	write_on(b, p);
	close_all(b, p);
	tls_context_free(c);
}

static void
test_certificates_that_are_not_good(void **state)
{
	static const struct {
		const char *certificate, *more;
		enum verdict want;
	} rows[] = {
	    {"good", "", VERDICT_UPSTREAM_TLS}, /* for another name */
	    {"good", ", 'server_name': 'good.example'", VERDICT_GRANTED},
	    {"good", ", 'server_name': 'g\xc3\xb6tt.example'", VERDICT_GRANTED},
	    {"expired", ", 'server_name': 'good.example'", VERDICT_UPSTREAM_TLS},
	    {"stranger", ", 'server_name': 'good.example'", VERDICT_UPSTREAM_TLS},
	    {"stranger", ", 'verify': false", VERDICT_GRANTED},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct dial_bench b;
		struct script s = {.len = 0};
		struct tls_context *c = server_context(rows[i].certificate);
		bench_open(&b);
		add(&s, "tls");
		add_request(&s, SOCKS5, "203.0.113.9:80", '>');
		add_grant(&s, SOCKS5, '>', "");
		struct peer *p = peer_new(b.loop, s.text);
		peer_use_tls(p, c);
		bench_load(&b,
			   "'upstreams': [{'name': 'a', 'url': 'socks5+tls://127.0.0.1:%u',"
			   "'tls': {'ca': '%s'%s}}]",
			   peer_at(p)->port, certificate_path("ca.pem"), rows[i].more);
		bench_dial(&b, "a", "203.0.113.9:80", rows[i].want);
		assert_int_equal(b.result.hop_at_fault, rows[i].want == VERDICT_GRANTED ? -1 : 0);
		if (rows[i].want != VERDICT_GRANTED)
			assert_int_equal(b.result.stage, DIAL_TLS);
		peer_free(p);
		bench_close(&b);
		tls_context_free(c);
	}
}

enum { START_MS = 1000000 };

static void
never(struct turn_step *s)
{
	(void)s;
	fail();
}

/* Another one has all the time that a turn has for steps of handshakes, for as long as this takes: longer than an upstream may. */
static void
hold_back_tls(struct dial_bench *b, const struct dial *x)
{
	struct turn_share *share = &b->dialer->tls;
	struct turn_step other;
	struct path path;
	turn_step_init(&other, never);
	for (int turns = 0; turns < 20; turns += dial_stage(x, &path) == DIAL_TLS) {
		bool first = turn_share_may_step(share, &other);
		assert_true(first || turn_step_waits(&other)); /* behind the dial's */
		turn_step_drop(&other);
		turn_share_note(share, 1000000);
		if (turns == 10)
			clock_fake(START_MS + 2 * (uint64_t)b->request.timeout_ms, 0);
		loop_turn(b->loop, 1);
		assert_int_equal(b->told, 0);
	}
}

/* It goes on once there is time for it, and can be given up before. */
static void
test_tls_handshakes_share_a_turn(void **state)
{
	(void)state;
	for (int given_up = 0; given_up < 2; given_up++) {
		struct dial_bench b;
		struct tls_context *c = server_context("good");
		clock_fake(START_MS, 0);
		bench_open(&b);
		struct peer *p = peer_new(b.loop, "tls");
		peer_use_tls(p, c);
		bench_load(&b, "'upstreams': [{'name': 'a', 'url': 'https://127.0.0.1:%u', 'tls': {'verify': false}}]",
			   peer_at(p)->port);
		b.request.until = DIAL_UNTIL_TLS;
		struct dial *x = bench_start(&b, "a", "203.0.113.9:80");
		hold_back_tls(&b, x);
		assert_int_equal(peer_played(p), 0);
		if (given_up)
			dial_cancel(x);
		else
			bench_finish(&b, VERDICT_GRANTED);
		loop_turn(b.loop, 0);
		assert_int_equal(b.told, !given_up);
		peer_free(p);
		bench_close(&b);
		tls_context_free(c);
		clock_fake_stop();
	}
}

/* plain, then TLS over the tunnel, then TLS within that. */
static void
test_tls_within_tls(void **state)
{
	struct dial_bench *b = *state;
	struct tls_context *c = server_context("good");
	struct script s = {.len = 0};
	add_request(&s, SOCKS5, "192.0.2.2:1082", '>');
	add_grant(&s, SOCKS5, '>', "");
	add(&s, " tls");
	add_request(&s, HTTP, "192.0.2.3:1083", ':');
	add_grant(&s, HTTP, ':', "");
	add(&s, " tls");
	add_request(&s, SOCKS5, "203.0.113.9:80", ':');
	add_grant(&s, SOCKS5, ':', "early bird");
	struct peer *p = peer_new(b->loop, s.text);
	peer_use_tls(p, c);
	const char *ca = certificate_path("ca.pem");
	bench_load(b,
		   "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:%u'},"
		   "{'name': 'b', 'url': 'https://192.0.2.2:1082', 'tls': {'ca': '%s', "
		   "'server_name': 'good.example'}},"
		   "{'name': 'c', 'url': 'socks5+tls://192.0.2.3:1083', 'tls': {'ca': '%s', "
		   "'server_name': 'x.wild.example'}}],"
		   "'chains': [{'name': 'abc', 'hops': ['a', 'b', 'c']}]",
		   peer_at(p)->port, ca, ca);
	bench_dial(b, "abc", "203.0.113.9:80", VERDICT_GRANTED);
	check_payload(b, "early bird");
	write_on(b, p);
	close_all(b, p);
	tls_context_free(c);
}

static void
test_no_tls_where_it_is_wanted(void **state)
{
	struct dial_bench *b = *state;
	struct script s = {.len = 0};
	add_request(&s, SOCKS5, "192.0.2.2:1082", '>');
	add_grant(&s, SOCKS5, '>', "speaks first");
	struct peer *p = peer_new(b->loop, s.text);
	bench_load(b,
		   "'upstreams': [{'name': 'a', 'url': 'socks5://127.0.0.1:%u'},"
		   "{'name': 'b', 'url': 'https://192.0.2.2:1082', 'tls': {'ca': '%s'}}],"
		   "'chains': [{'name': 'ab', 'hops': ['a', 'b']}]",
		   peer_at(p)->port, certificate_path("ca.pem"));
	bench_dial(b, "ab", "203.0.113.9:80", VERDICT_UPSTREAM_GARBAGE);
	assert_int_equal(b->result.hop_at_fault, 1);
	close_all(b, p);
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

#define DIAL(test) cmocka_unit_test_setup(test, set_up)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_order_of_kinds),
	    cmocka_unit_test(test_every_kind_byte_by_byte),
	    cmocka_unit_test(test_answers),
	    DIAL(test_endless_answer),
	    DIAL(test_next_hop_speaks_first),
	    DIAL(test_credentials_of_the_client),
	    cmocka_unit_test(test_credentials_that_do_not_fit),
	    DIAL(test_refused_credentials),
	    DIAL(test_ipv6_through_socks4),
	    DIAL(test_name_with_ipv6_only_through_socks4),
	    DIAL(test_name_of_an_inner_hop),
	    DIAL(test_names_go_on_unresolved),
	    DIAL(test_resolve_local),
	    DIAL(test_tls_hop),
	    cmocka_unit_test(test_certificates_that_are_not_good),
	    cmocka_unit_test(test_tls_handshakes_share_a_turn),
	    DIAL(test_tls_within_tls),
	    DIAL(test_no_tls_where_it_is_wanted),
	};
	return cmocka_run_group_tests_name("dial_walk", tests, make_certificates,
					   remove_certificates);
}
