/*
 * test_gss_talk: the client's part of RFC 1961 with a scripted proxy: every talk in pieces cut at every byte, and broken off there.
 * Kerberos is a toy: its first step says "first", the second takes what the proxy said.
 */
#include "upstream/gss_talk.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/gss_pool.h"
#include "base/loop.h"
#include "base/stream.h"
#include "socks/gssapi.h"
#include "tests/base/toy_gss.h"

/* ---- in the place of gss_context and gss_pool ---- */

static struct {
	gss_step_cb *cb;
	void *arg;
	unsigned n;
	bool fails;                            /* the next step */
	char in[16];
} kerberos;

struct gss_context *
gss_context_new_initiator(const struct gss_initiator *i)
{
	assert_string_equal(i->target, "rcmd/a");
	return toy_context();
}

const char *
gss_context_why(const struct gss_context *c)
{
	(void)c;
	return "doing: it failed";
}

struct gss_step *
gss_step_start(struct gss_pool *p, struct gss_context *c, const void *in, size_t in_len,
    const struct endpoint *client, struct mailbox *box, gss_step_cb *cb, void *arg)
{
	(void)p, (void)c, (void)client, (void)box;
	assert_null(kerberos.cb);
	assert_true(in_len < sizeof kerberos.in);
	memset(kerberos.in, 0, sizeof kerberos.in);
	if (in_len > 0)
		memcpy(kerberos.in, in, in_len);
	kerberos.cb = cb;
	kerberos.arg = arg;
	return (struct gss_step *)&kerberos;
}

void
gss_step_cancel(struct gss_step *s)
{
	if (s != NULL)
		kerberos.cb = NULL;
}

static void
answer_step(void)
{
	gss_step_cb *cb = kerberos.cb;
	bool first = kerberos.n++ == 0;
	kerberos.cb = NULL;
	assert_non_null(cb);
	if (kerberos.fails)
		cb(GSS_STEP_FAILED, NULL, 0, kerberos.arg);
	else if (first)
		cb(GSS_STEP_MORE, (const uint8_t *)"first", 5, kerberos.arg);
	else
		cb(GSS_STEP_DONE, NULL, 0, kerberos.arg);
}

/* ---- a talk ---- */

struct bench {
	struct loop *loop;
	struct stream stream;
	int proxy;
	struct policy_upstream_gssapi who;
	struct gss_talk *talk;
	enum gss_talk_status status;
};

static void
on_ready(struct stream *s, void *arg)
{
	(void)s, (void)arg;
}

static void
on_step(void *arg)
{
	struct bench *b = arg;
	b->status = gss_talk_go_on(b->talk);
}

static void
set_up(struct bench *b, enum gssapi_protection asked)
{
	int pair[2];
	*b = (struct bench){ .loop = loop_new(), .who = { .target = "rcmd/a", .protection = asked } };
	memset(&kerberos, 0, sizeof kerberos);
	assert_non_null(b->loop);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	b->proxy = pair[1];
	stream_init(&b->stream, b->loop);
	assert_true(stream_open(&b->stream, pair[0], STREAM_READABLE | STREAM_WRITABLE, on_ready, NULL));
	const struct gss_talk_plan plan = { .stream = &b->stream, .who = &b->who, .on_step = on_step, .arg = b };
	b->talk = gss_talk_new(&plan);
	assert_non_null(b->talk);
	assert_true(gss_talk_awaits_kerberos(b->talk));
	assert_int_equal(gss_talk_go_on(b->talk), GSS_TALK_WAITS);
}

static void
tear_down(struct bench *b)
{
	gss_talk_free(b->talk);
	stream_close(&b->stream);
	if (b->proxy >= 0)
		close(b->proxy);
	loop_free(b->loop);
	assert_int_equal(toy_contexts(), 0);
}

/* As far as it goes with what is there; steps are taken at once. */
static void
go_on(struct bench *b)
{
	loop_turn(b->loop, 0);
	loop_turn(b->loop, 0);
	b->status = gss_talk_go_on(b->talk);
	while (b->status == GSS_TALK_WAITS && kerberos.cb != NULL)
		answer_step();
}

static void
hear(struct bench *b, const uint8_t *bytes, size_t len)
{
	if (len > 0)
		assert_int_equal(send(b->proxy, bytes, len, MSG_NOSIGNAL), len);
	go_on(b);
}

static size_t
message(uint8_t *out, enum gssapi_type type, const void *token, size_t len)
{
	return gssapi_write(out, GSSAPI_MESSAGE_MAX, type, token, len);
}

/* As the proxy seals it, its first message. */
static size_t
level_message(uint8_t *out, const void *levels, size_t n, bool secret)
{
	size_t len;
	struct gss_context *c = toy_context();
	uint8_t *token = gss_context_wrap(c, secret, levels, n, 0, &len);
	assert_non_null(token);
	size_t all = message(out, GSSAPI_LEVEL, token, len);
	free(token);
	gss_context_free(c);
	return all;
}

/* An honest talk: the token, then the level. Its whole length; *first: of the token's message. */
static size_t
honest(uint8_t *out, uint8_t level, size_t *first)
{
	*first = message(out, GSSAPI_CONTEXT, "second", 6);
	return *first + level_message(out + *first, &level, 1, false);
}

static void
check_said(struct bench *b, uint8_t asked)
{
	uint8_t got[64], want[64];
	size_t n = message(want, GSSAPI_CONTEXT, "first", 5);
	n += level_message(want + n, &asked, 1, false);
	assert_int_equal(recv(b->proxy, got, sizeof got, 0), n);
	assert_memory_equal(got, want, n);
}

static void
test_cut_at_every_byte(void **state)
{
	(void)state;
	for (uint8_t level = GSSAPI_NONE; level <= GSSAPI_SELECTIVE; level++) {
		uint8_t bytes[64];
		size_t first, len = honest(bytes, level, &first);
		for (size_t cut = 0; cut <= len; cut++) {
			struct bench b;
			set_up(&b, GSSAPI_NONE);
			hear(&b, bytes, cut);
			assert_int_equal(b.status, cut < len ? GSS_TALK_WAITS : GSS_TALK_DONE);
			assert_int_equal(kerberos.n, cut < first ? 1 : 2);
			if (cut < len)
				hear(&b, bytes + cut, len - cut);
			assert_int_equal(b.status, GSS_TALK_DONE);
			assert_string_equal(kerberos.in, "second");
			check_said(&b, GSSAPI_NONE);
			assert_int_equal(stream_gss_context(&b.stream) != NULL, level != GSSAPI_NONE);
			assert_int_equal(gss_talk_seals(b.talk), level != GSSAPI_NONE);
			tear_down(&b);
		}
	}
}

static void
test_byte_by_byte_and_what_follows_stays(void **state)
{
	struct bench b;
	uint8_t bytes[64], after;
	size_t first, n, len = honest(bytes, GSSAPI_NONE, &first);
	(void)state;
	bytes[len] = 'x';
	set_up(&b, GSSAPI_NONE);
	for (size_t i = 0; i + 1 < len; i++) {
		hear(&b, bytes + i, 1);
		assert_int_equal(b.status, GSS_TALK_WAITS);
	}
	hear(&b, bytes + len - 1, 2);
	assert_int_equal(b.status, GSS_TALK_DONE);
	assert_int_equal(stream_read(&b.stream, &after, 1, &n), STREAM_OK);
	assert_int_equal(after, 'x');
	tear_down(&b);
}

static void
test_ended_at_every_byte(void **state)
{
	uint8_t bytes[64];
	size_t first, len = honest(bytes, GSSAPI_CONFIDENTIALITY, &first);
	(void)state;
	for (size_t cut = 0; cut < len; cut++) {
		struct bench b;
		set_up(&b, GSSAPI_INTEGRITY);
		hear(&b, bytes, cut);
		close(b.proxy);
		b.proxy = -1;
		go_on(&b);
		assert_int_equal(b.status, GSS_TALK_FAILED);
		assert_int_equal(gss_talk_verdict(b.talk), VERDICT_UPSTREAM_FAILED);
		assert_int_equal(gss_talk_go_on(b.talk), GSS_TALK_FAILED);
		tear_down(&b);
	}
}

/* Freed in every state, with a step under way, too. */
static void
test_given_up_at_every_byte(void **state)
{
	uint8_t bytes[64];
	size_t first, len = honest(bytes, GSSAPI_CONFIDENTIALITY, &first);
	struct bench b;
	(void)state;
	set_up(&b, GSSAPI_NONE);
	tear_down(&b);
	assert_null(kerberos.cb);
	for (size_t cut = 0; cut < len; cut++) {
		set_up(&b, GSSAPI_NONE);
		hear(&b, bytes, cut);
		tear_down(&b);
	}
}

static void
fails(const char *what, const uint8_t *bytes, size_t len, enum gssapi_protection asked, enum verdict want, const char *why)
{
	for (size_t cut = 0; cut <= len; cut++) {
		struct bench b;
		set_up(&b, asked);
		hear(&b, bytes, cut);
		if (b.status == GSS_TALK_WAITS && cut < len)
			hear(&b, bytes + cut, len - cut);
		if (b.status != GSS_TALK_FAILED || gss_talk_verdict(b.talk) != want || strstr(gss_talk_why(b.talk), why) == NULL)
			fail_msg("%s: %d, %s", what, b.status, gss_talk_why(b.talk));
		tear_down(&b);
	}
}

#define FAILS(bytes, len, asked, want, why) fails(#bytes, bytes, len, asked, VERDICT_UPSTREAM_##want, why)

static void
test_wrong_answers(void **state)
{
	static const uint8_t refusal[] = { 1, 0xff }, version[] = { 5, 1, 0, 1, 'x' }, empty[] = { 1, 1, 0, 0 },
	                     type[] = { 1, 3, 0, 1, 'x' };
	static const uint8_t two_levels[] = { 2, 2 }, selective = GSSAPI_SELECTIVE, none = GSSAPI_SELECTIVE + 1, nothing = 0;
	const char *garbage = "its answer to the Kerberos ticket is none";
	uint8_t bytes[64];
	size_t first, len;
	(void)state;
	FAILS(refusal, sizeof refusal, GSSAPI_NONE, AUTH, "it refuses our Kerberos ticket");
	FAILS(version, sizeof version, GSSAPI_NONE, GARBAGE, garbage);
	FAILS(empty, sizeof empty, GSSAPI_NONE, GARBAGE, garbage);
	FAILS(type, sizeof type, GSSAPI_NONE, GARBAGE, garbage);
	len = honest(bytes, GSSAPI_INTEGRITY, &first);
	FAILS(bytes, len, GSSAPI_CONFIDENTIALITY, AUTH, "it grants less protection than is asked for");
	bytes[len - 1] ^= 1;
	FAILS(bytes, len, GSSAPI_NONE, AUTH, "the protection that it grants is forged");
	bytes[first + 1] = GSSAPI_CONTEXT;
	FAILS(bytes, len, GSSAPI_NONE, GARBAGE, garbage);
	FAILS(bytes, first + level_message(bytes + first, two_levels, 2, false), GSSAPI_NONE, GARBAGE, garbage);
	FAILS(bytes, first + level_message(bytes + first, &nothing, 0, false), GSSAPI_NONE, GARBAGE, garbage);
	FAILS(bytes, first + level_message(bytes + first, &none, 1, false), GSSAPI_NONE, GARBAGE, garbage);
	FAILS(bytes, first + level_message(bytes + first, &selective, 1, false), GSSAPI_CONFIDENTIALITY, AUTH,
	    "it grants less protection than is asked for");
	bytes[first] = 1;
	bytes[first + 1] = GSSAPI_ABORT;
	FAILS(bytes, first + 2, GSSAPI_NONE, AUTH, "it refuses our Kerberos ticket");
}

static void
test_kerberos_fails(void **state)
{
	uint8_t bytes[64];
	struct bench b;
	(void)state;
	set_up(&b, GSSAPI_NONE);
	kerberos.fails = true;
	go_on(&b);
	assert_int_equal(b.status, GSS_TALK_FAILED);
	assert_int_equal(gss_talk_verdict(b.talk), VERDICT_UPSTREAM_AUTH);
	assert_string_equal(gss_talk_why(b.talk), "no Kerberos credentials: it failed");
	tear_down(&b);
	set_up(&b, GSSAPI_NONE);
	go_on(&b);
	kerberos.fails = true;
	hear(&b, bytes, message(bytes, GSSAPI_CONTEXT, "second", 6));
	assert_int_equal(b.status, GSS_TALK_FAILED);
	assert_string_equal(gss_talk_why(b.talk), "it can't prove who it is: doing: it failed");
	tear_down(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cut_at_every_byte),
		cmocka_unit_test(test_byte_by_byte_and_what_follows_stays),
		cmocka_unit_test(test_ended_at_every_byte),
		cmocka_unit_test(test_given_up_at_every_byte),
		cmocka_unit_test(test_wrong_answers),
		cmocka_unit_test(test_kerberos_fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
