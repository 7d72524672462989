/*
 * test_hops: whole handshakes with upstreams of every kind, in pieces of every size, ended at every
 * byte, with too little room.
 */
#include "socks/hop.h"

#include "tests/socks/vectors.h"

#define GREETING "050100"
#define GREETING_BOTH "05020002"
#define CREDENTIALS "0105 'alice' 06 'secret'"
#define REQUEST "0501 0003 03 'a.b' 0050"
#define CONNECT "'CONNECT a.b:80 HTTP/1.1' ~ 'Host: a.b:80' ~"
#define BASIC "'Proxy-Authorization: Basic YWxpY2U6c2VjcmV0' ~"
#define GRANTED5 "0500 0001 c0000201 0438"
#define INTERIM "'HTTP/1.1 103 x' ~ 'A: b' ~~"

static const struct vector {
	const char *what;
	const struct hop_ops *ops;
	const char *to;
	enum { PLAIN, WITH_PASSWORD, PIPELINED, PIPELINED_WITH_PASSWORD, BY_GSSAPI } how;
	const char *heard;
	enum verdict want;                             /* GRANTED: DONE */
	unsigned code;                                 /* REP, CD or status */
	const char *said;                              /* all of it */
	const char *bound;                             /* of DONE */
	size_t decides;                                /* 0: the last byte */
} vectors[] = {
	/* SOCKS4 and 4a */
	{ "socks4", &hop_socks4, "192.0.2.9:80", PLAIN, "005a 0438 c0000201", VERDICT_GRANTED, 90,
	  "0401 0050 c0000209 00", "192.0.2.1:1080", 0 },
	{ "socks4, user id", &hop_socks4, "192.0.2.9:80", WITH_PASSWORD, "005a 0000 00000000",
	  VERDICT_GRANTED, 90, "0401 0050 c0000209 'alice' 00", "0.0.0.0:0", 0 },
	{ "socks4 refused", &hop_socks4, "192.0.2.9:80", PLAIN, "005b 0000 00000000",
	  VERDICT_UPSTREAM_FAILED, 91, "0401 0050 c0000209 00", NULL, 2 },
	{ "socks4 refused in two bytes", &hop_socks4, "192.0.2.9:80", PLAIN, "005d",
	  VERDICT_UPSTREAM_FAILED, 93, "0401 0050 c0000209 00", NULL, 0 },
	{ "socks4 garbage", &hop_socks4, "192.0.2.9:80", PLAIN, "05ff", VERDICT_UPSTREAM_GARBAGE, 0,
	  "0401 0050 c0000209 00", NULL, 1 },
	{ "socks4a, name", &hop_socks4a, "a.b:80", PIPELINED, "005a 0000 00000000", VERDICT_GRANTED,
	  90, "0401 0050 00000001 00 'a.b' 00", "0.0.0.0:0", 0 },
	{ "socks4a, address", &hop_socks4a, "192.0.2.9:80", PLAIN, "045a 0000 00000000",
	  VERDICT_GRANTED, 90, "0401 0050 c0000209 00", "0.0.0.0:0", 0 },

	/* SOCKS5 */
	{ "socks5", &hop_socks5, "a.b:80", PLAIN, "0500" GRANTED5, VERDICT_GRANTED, 0, GREETING
	  REQUEST, "192.0.2.1:1080", 0 },
	{ "socks5 to IPv6", &hop_socks5, "[::1]:80", PLAIN, "0500 0500 0004 00*15 01 0438",
	  VERDICT_GRANTED, 0, GREETING "0501 0004 00*15 01 0050", "[::1]:1080", 0 },
	{ "socks5, bound is a name", &hop_socks5, "a.b:80", PLAIN, "0500 0500 0003 03 'c.d' 0438",
	  VERDICT_GRANTED, 0, GREETING REQUEST, "c.d:1080", 0 },
	{ "socks5, bound is an empty name", &hop_socks5, "a.b:80", PLAIN, "0500 0500 0003 00 0000",
	  VERDICT_GRANTED, 0, GREETING REQUEST, "", 0 },
	{ "userpass", &hop_socks5, "a.b:80", WITH_PASSWORD, "0502 0100" GRANTED5, VERDICT_GRANTED,
	  0, GREETING_BOTH CREDENTIALS REQUEST, "192.0.2.1:1080", 0 },
	{ "userpass answered with version 5", &hop_socks5, "a.b:80", WITH_PASSWORD, "0502 0500"
	  GRANTED5, VERDICT_GRANTED, 0, GREETING_BOTH CREDENTIALS REQUEST, "192.0.2.1:1080", 0 },
	{ "none though we have credentials", &hop_socks5, "a.b:80", WITH_PASSWORD, "0500" GRANTED5,
	  VERDICT_GRANTED, 0, GREETING_BOTH REQUEST, "192.0.2.1:1080", 0 },
	{ "pipelined", &hop_socks5, "a.b:80", PIPELINED, "0500" GRANTED5, VERDICT_GRANTED, 0,
	  GREETING REQUEST, "192.0.2.1:1080", 0 },
	{ "pipelined userpass", &hop_socks5, "a.b:80", PIPELINED_WITH_PASSWORD, "0502 0100"
	  GRANTED5, VERDICT_GRANTED, 0, "050102" CREDENTIALS REQUEST, "192.0.2.1:1080", 0 },
	{ "pipelined userpass, none chosen", &hop_socks5, "a.b:80", PIPELINED_WITH_PASSWORD, "0500"
	  GRANTED5, VERDICT_UPSTREAM_GARBAGE, 0, "050102" CREDENTIALS REQUEST, NULL, 2 },
	{ "GSSAPI", &hop_socks5, "a.b:80", BY_GSSAPI, "0501" GRANTED5, VERDICT_GRANTED, 0, "050101"
	  REQUEST, "192.0.2.1:1080", 0 },
	{ "GSSAPI refused", &hop_socks5, "a.b:80", BY_GSSAPI, "05ff", VERDICT_UPSTREAM_AUTH, 0,
	  "050101", NULL, 2 },
	{ "GSSAPI offered, none chosen", &hop_socks5, "a.b:80", BY_GSSAPI, "0500",
	  VERDICT_UPSTREAM_GARBAGE, 0, "050101", NULL, 2 },
	{ "GSSAPI offered, userpass chosen", &hop_socks5, "a.b:80", BY_GSSAPI, "0502",
	  VERDICT_UPSTREAM_GARBAGE, 0, "050101", NULL, 2 },
	{ "GSSAPI, REP 2", &hop_socks5, "a.b:80", BY_GSSAPI, "0501 0502", VERDICT_UPSTREAM_REJECTED, 2,
	  "050101" REQUEST, NULL, 0 },
	{ "no method", &hop_socks5, "a.b:80", PLAIN, "05ff", VERDICT_UPSTREAM_AUTH, 0, GREETING,
	  NULL, 0 },
	{ "a method that we don't offer", &hop_socks5, "a.b:80", PLAIN, "0502",
	  VERDICT_UPSTREAM_GARBAGE, 0, GREETING, NULL, 0 },
	{ "GSSAPI, not offered", &hop_socks5, "a.b:80", WITH_PASSWORD, "0501",
	  VERDICT_UPSTREAM_GARBAGE, 0, GREETING_BOTH, NULL, 0 },
	{ "bad credentials", &hop_socks5, "a.b:80", WITH_PASSWORD, "0502 0101",
	  VERDICT_UPSTREAM_AUTH, 0, GREETING_BOTH CREDENTIALS, NULL, 0 },
	{ "garbage for a choice", &hop_socks5, "a.b:80", PLAIN, "'HTTP/1.1 400'",
	  VERDICT_UPSTREAM_GARBAGE, 0, GREETING, NULL, 1 },
	{ "garbage for a status", &hop_socks5, "a.b:80", WITH_PASSWORD, "0502 0000",
	  VERDICT_UPSTREAM_GARBAGE, 0, GREETING_BOTH CREDENTIALS, NULL, 3 },
	{ "garbage for a reply", &hop_socks5, "a.b:80", PLAIN, "0500 0400",
	  VERDICT_UPSTREAM_GARBAGE, 0, GREETING REQUEST, NULL, 3 },
	{ "granted with unknown ATYP", &hop_socks5, "a.b:80", PLAIN, "0500 0500 0009",
	  VERDICT_UPSTREAM_GARBAGE, 0, GREETING REQUEST, NULL, 0 },
	{ "REP 1", &hop_socks5, "a.b:80", PLAIN, "0500 0501 0001 00*6", VERDICT_UPSTREAM_FAILED, 1,
	  GREETING REQUEST, NULL, 4 },
	{ "REP 2 in two bytes", &hop_socks5, "a.b:80", PLAIN, "0500 0502",
	  VERDICT_UPSTREAM_REJECTED, 2, GREETING REQUEST, NULL, 0 },
	{ "REP 3 in three bytes", &hop_socks5, "a.b:80", PLAIN, "0500 050300",
	  VERDICT_NETWORK_UNREACHABLE, 3, GREETING REQUEST, NULL, 4 },
	{ "REP 4 with unknown ATYP", &hop_socks5, "a.b:80", PLAIN, "0500 0504 0009",
	  VERDICT_HOST_UNREACHABLE, 4, GREETING REQUEST, NULL, 4 },
	{ "REP 5", &hop_socks5, "a.b:80", PLAIN, "0500 0505", VERDICT_REFUSED, 5, GREETING REQUEST,
	  NULL, 0 },
	{ "REP 6", &hop_socks5, "a.b:80", PLAIN, "0500 0506", VERDICT_TIMEOUT, 6, GREETING REQUEST,
	  NULL, 0 },
	{ "REP 7", &hop_socks5, "a.b:80", PLAIN, "0500 0507", VERDICT_UPSTREAM_NO_COMMAND, 7,
	  GREETING REQUEST, NULL, 0 },
	{ "REP 8", &hop_socks5, "a.b:80", PLAIN, "0500 0508", VERDICT_UPSTREAM_NO_ADDRESS, 8,
	  GREETING REQUEST, NULL, 0 },
	{ "REP 9", &hop_socks5, "a.b:80", PIPELINED, "0500 0509", VERDICT_UPSTREAM_FAILED, 9,
	  GREETING REQUEST, NULL, 0 },

	/* HTTP CONNECT */
	{ "http", &hop_http, "a.b:80", PLAIN, "'HTTP/1.1 200 OK' ~~", VERDICT_GRANTED, 200, CONNECT
	  "~", "", 0 },
	{ "http to IPv6", &hop_http, "[::1]:80", PIPELINED, "'HTTP/1.0 200' 0a0a", VERDICT_GRANTED,
	  200, "'CONNECT [::1]:80 HTTP/1.1' ~ 'Host: [::1]:80' ~~", "", 0 },
	{ "http, credentials", &hop_http, "a.b:80", WITH_PASSWORD, "'HTTP/1.1 200 OK' ~~",
	  VERDICT_GRANTED, 200, CONNECT BASIC "~", "", 0 },
	{ "http, a length that does not count", &hop_http, "a.b:80", PLAIN,
	  "'HTTP/1.1 201 OK' ~ 'Content-Length: 9' ~~", VERDICT_GRANTED, 201, CONNECT "~", "", 0 },
	{ "http, interim answers", &hop_http, "a.b:80", PLAIN, INTERIM INTERIM
	  "'HTTP/1.1 200 OK' ~~", VERDICT_GRANTED, 200, CONNECT "~", "", 0 },
	{ "http, eight interim answers", &hop_http, "a.b:80", PLAIN, INTERIM INTERIM INTERIM INTERIM
	  INTERIM INTERIM INTERIM INTERIM "'HTTP/1.1 200 OK' ~~", VERDICT_GRANTED, 200, CONNECT "~",
	  "", 0 },
	{ "http, endless interim answers", &hop_http, "a.b:80", PLAIN, INTERIM INTERIM INTERIM
	  INTERIM INTERIM INTERIM INTERIM INTERIM INTERIM, VERDICT_UPSTREAM_GARBAGE, 103, CONNECT
	  "~", NULL, 0 },
	{ "http, 101", &hop_http, "a.b:80", PLAIN, "'HTTP/1.1 101 Switching Protocols' ~~",
	  VERDICT_UPSTREAM_GARBAGE, 101, CONNECT "~", NULL, 0 },
	{ "http, 403", &hop_http, "a.b:80", PLAIN, "'HTTP/1.1 403 Forbidden' ~",
	  VERDICT_UPSTREAM_REJECTED, 403, CONNECT "~", NULL, 0 },
	{ "http, 407 chunked", &hop_http, "a.b:80", PLAIN,
	  "'HTTP/1.1 407 x' ~ 'Transfer-Encoding: chunked' ~~ '5' ~", VERDICT_UPSTREAM_AUTH, 407,
	  CONNECT "~", NULL, 16 },
	{ "http, 502", &hop_http, "a.b:80", PLAIN, "'HTTP/1.1 502 x' ~", VERDICT_HOST_UNREACHABLE,
	  502, CONNECT "~", NULL, 0 },
	{ "http, 504", &hop_http, "a.b:80", PLAIN, "'HTTP/1.1 504 x' ~", VERDICT_TIMEOUT, 504,
	  CONNECT "~", NULL, 0 },
	{ "http, 302", &hop_http, "a.b:80", PLAIN, "'HTTP/1.1 302 x' ~", VERDICT_UPSTREAM_FAILED,
	  302, CONNECT "~", NULL, 0 },
	{ "http, garbage", &hop_http, "a.b:80", PLAIN, "0500", VERDICT_UPSTREAM_GARBAGE, 0, CONNECT
	  "~", NULL, 1 },
	{ "http, endless head", &hop_http, "a.b:80", PLAIN, "'HTTP/1.1 200 ' 61*8179",
	  VERDICT_UPSTREAM_GARBAGE, 0, CONNECT "~", NULL, 0 },
};

/* An upstream's connection, and what came of it. */
struct talk {
	struct hop hop;
	enum hop_status status;
	size_t left;                                   /* bytes that the handshake did not take */
	uint8_t *memory;                               /* out's, of exactly its size */
	struct buffer out;
};

static struct hop_request
request_of(const struct vector *v, const struct endpoint *to)
{
	bool with_password = v->how == WITH_PASSWORD || v->how == PIPELINED_WITH_PASSWORD;
	return (struct hop_request){
		.command = SOCKS_CONNECT,
		.to = to,
		.username = with_password ? "alice" : NULL,
		.password = with_password ? "secret" : NULL,
		.pipeline = v->how != PLAIN && v->how != WITH_PASSWORD, /* of no use with GSSAPI */
		.gssapi = v->how == BY_GSSAPI,
	};
}

/* As soon as GSS-API is chosen the proxy knows who we are. */
static enum hop_status
feed(struct talk *t, struct buffer *in, bool eof)
{
	enum hop_status status = hop_feed(&t->hop, in, &t->out, eof);
	if (status != HOP_PROVE)
		return status;
	status = hop_proven(&t->hop, &t->out);
	return status == HOP_MORE ? hop_feed(&t->hop, in, &t->out, eof) : status;
}

/*
 * Hears the bytes in pieces of `piece`, then the end where eof. The hop is used again from talk to
 * talk, as in a chain.
 */
static void
talk(struct talk *t, const struct vector *v, const struct bytes *bytes, size_t piece, bool eof,
    size_t out_cap)
{
	uint8_t memory[HOP_IN_MAX];
	struct buffer in;
	size_t heard = 0;
	struct endpoint to = endpoint_of(v->to);
	struct hop_request request = request_of(v, &to);
	buffer_init(&in, memory, sizeof memory);
	t->memory = malloc(out_cap > 0 ? out_cap : 1);
	assert_non_null(t->memory);
	buffer_init(&t->out, t->memory, out_cap);
	t->status = hop_start(&t->hop, v->ops, &request, &t->out);
	if (t->status == HOP_MORE && bytes->len == 0 && eof)
		t->status = feed(t, &in, true);
	while (t->status == HOP_MORE && heard < bytes->len) {
		size_t n = bytes->len - heard;
		n = n > piece ? piece : n;
		n = n > buffer_make_room(&in) ? buffer_make_room(&in) : n;
		assert_true(buffer_append(&in, bytes->data + heard, n));
		heard += n;
		t->status = feed(t, &in, eof && heard == bytes->len);
	}
	t->left = bytes->len - heard + buffer_len(&in);
}

static void
talk_end(struct talk *t)
{
	free(t->memory);
}

static void
check_outcome(const struct vector *v, const struct talk *t, size_t left)
{
	struct bytes said;
	bytes_of(&said, v->said);
	bool done = v->want == VERDICT_GRANTED;
	if (t->status != (done ? HOP_DONE : HOP_FAILED) || t->hop.verdict != v->want)
		fail_msg("%s: status %d, verdict %s", v->what, t->status,
		    verdict_text(t->hop.verdict));
	if (buffer_len(&t->out) != said.len || memcmp(buffer_bytes(&t->out), said.data,
	    said.len) != 0)
		fail_msg("%s: other bytes said than %s", v->what, v->said);
	if (v->ops == &hop_http ? v->code != 0 && t->hop.status != v->code : t->hop.code != v->code)
		fail_msg("%s: code %u, status %u", v->what, t->hop.code, t->hop.status);
	if (!done)
		return;
	assert_true(t->hop.authenticated);
	check_endpoint(v->what, &t->hop.bound, v->bound);
	if (t->left != left)
		fail_msg("%s: %zu bytes left, not %zu", v->what, t->left, left);
}

static void
test_pieces_of_every_size(void **state)
{
	static const size_t pieces[] = { 1, 2, 3, 7, 100, 100000 };
	struct talk t = { .left = 0 };
	(void)state;
	for (size_t k = 0; k < ARRAY_LEN(pieces); k++) {
		for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
			struct bytes heard;
			bytes_of(&heard, vectors[i].heard);
			talk(&t, &vectors[i], &heard, pieces[k], false, HOP_OUT_MAX);
			check_outcome(&vectors[i], &t, 0);
			talk_end(&t);
		}
	}
}

/* A destination that speaks first: its bytes come glued to the answer and stay where they are. */
static void
test_tunnel_behind_it(void **state)
{
	static const uint8_t tunnel[] = "HTTP/1.1 200 OK\r\n\r\n\x05\x00SSH-2.0\r\n";
	struct talk t;
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		struct bytes heard;
		if (vectors[i].want != VERDICT_GRANTED)
			continue;
		bytes_of(&heard, vectors[i].heard);
		bytes_add(&heard, tunnel, sizeof tunnel);
		for (size_t piece = 1; piece <= heard.len; piece++) {
			talk(&t, &vectors[i], &heard, piece, piece % 2 == 0, HOP_OUT_MAX);
			check_outcome(&vectors[i], &t, sizeof tunnel);
			talk_end(&t);
		}
	}
}

/*
 * Broken off before the byte that decides, the upstream failed; from there on its end changes
 * nothing.
 */
static void
test_end_at_every_byte(void **state)
{
	struct talk t;
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		const struct vector *v = &vectors[i];
		struct bytes heard;
		bytes_of(&heard, v->heard);
		size_t len = heard.len, decides = v->decides == 0 ? len : v->decides;
		for (heard.len = len > 300 ? len - 300 : 0; heard.len <= len; heard.len++) {
			talk(&t, v, &heard, 100000, true, HOP_OUT_MAX);
			if (heard.len >= decides)
				check_outcome(v, &t, 0);
			else if (t.status != HOP_FAILED || t.hop.verdict != VERDICT_UPSTREAM_FAILED)
				fail_msg("%s: cut at %zu: %s", v->what, heard.len,
				    verdict_text(t.hop.verdict));
			talk_end(&t);
		}
	}
}

static void
test_too_little_room(void **state)
{
	struct talk t;
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		struct bytes heard, said;
		bytes_of(&said, vectors[i].said);
		for (size_t cap = 0; cap < said.len; cap++) {
			talk(&t, &vectors[i], bytes_of(&heard, vectors[i].heard), 100000, false,
			    cap);
			if (t.status != HOP_FAILED || t.hop.verdict != VERDICT_INTERNAL)
				fail_msg("%s: room %zu: %d", vectors[i].what, cap, t.status);
			assert_memory_equal(t.memory, said.data, buffer_len(&t.out));
			talk_end(&t);
		}
	}
}

/* A held handshake ends past authentication; another hop struct may ask later, with what it says then. */
static void
test_held(void **state)
{
	static const struct { const struct hop_ops *ops; bool password, pipeline, gssapi;
	    const char *said, *heard, *asked; } kinds[] = {
		{ &hop_socks4a, true, false, false, "", "", "0401 0050 00000001 'alice' 00 'a.b' 00" },
		{ &hop_http, true, true, false, "", "", CONNECT BASIC "~" },
		{ &hop_socks5, false, false, false, GREETING, "0500", REQUEST },
		{ &hop_socks5, true, false, false, GREETING_BOTH CREDENTIALS, "0502 0100", REQUEST },
		{ &hop_socks5, true, true, false, "050102" CREDENTIALS, "0502 0100", REQUEST },
		{ &hop_socks5, false, true, true, "050101", "0501", REQUEST },
	};
	struct endpoint to = endpoint_of("a.b:80");
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct hop_request request = {
			.command = SOCKS_CONNECT,
			.username = kinds[i].password ? "alice" : NULL,
			.password = kinds[i].password ? "secret" : NULL,
			.pipeline = kinds[i].pipeline,
			.gssapi = kinds[i].gssapi,
			.hold = true,
		};
		uint8_t in_memory[HOP_IN_MAX], out_memory[HOP_OUT_MAX];
		struct bytes said, heard, asked;
		struct buffer in, out;
		struct hop hop, other;
		buffer_init(&in, in_memory, sizeof in_memory);
		buffer_init(&out, out_memory, sizeof out_memory);
		bytes_of(&said, kinds[i].said);
		bytes_of(&heard, kinds[i].heard);
		bytes_of(&asked, kinds[i].asked);
		enum hop_status status = hop_start(&hop, kinds[i].ops, &request, &out);
		for (size_t k = 0; k < heard.len; k++) {
			assert_int_equal(status, HOP_MORE);
			assert_true(buffer_append(&in, heard.data + k, 1));
			status = hop_feed(&hop, &in, &out, false);
		}
		assert_int_equal(status == HOP_PROVE, kinds[i].gssapi);
		if (status == HOP_PROVE)
			status = hop_proven(&hop, &out);
		assert_int_equal(status, HOP_DONE);
		assert_true(hop.authenticated || buffer_len(&out) == 0);
		assert_int_equal(buffer_len(&out), said.len);
		assert_memory_equal(buffer_bytes(&out), said.data, said.len);
		buffer_take(&out, buffer_len(&out));
		request.to = &to;
		assert_int_equal(hop_ask(&other, kinds[i].ops, &request, &out), HOP_MORE);
		assert_int_equal(buffer_len(&out), asked.len);
		assert_memory_equal(buffer_bytes(&out), asked.data, asked.len);
	}
}

/* The first message goes out at the start, and where it is pipelined all of them do. */
static void
test_what_goes_out_at_the_start(void **state)
{
	static const struct { const char *what, *said; } starts[] = {
		{ "socks5", GREETING },
		{ "userpass", GREETING_BOTH },
		{ "pipelined", GREETING REQUEST },
		{ "pipelined userpass", "050102" CREDENTIALS REQUEST },
		{ "socks4", "0401 0050 c0000209 00" },
		{ "http, credentials", CONNECT BASIC "~" },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
		const struct vector *v = vectors;
		struct bytes none = { .len = 0 }, said;
		struct talk t;
		while (strcmp(v->what, starts[i].what) != 0)
			assert_true(++v < vectors + ARRAY_LEN(vectors));
		talk(&t, v, &none, 1, false, HOP_OUT_MAX);
		assert_int_equal(t.status, HOP_MORE);
		bytes_of(&said, starts[i].said);
		assert_int_equal(buffer_len(&t.out), said.len);
		assert_memory_equal(buffer_bytes(&t.out), said.data, said.len);
		talk_end(&t);
	}
}

static char longest[257];

static const struct {
	const char *what;
	const struct hop_ops *ops;
	enum socks_command command;
	const char *to, *username, *password;
	enum hop_status want;
	enum verdict verdict;
} starts[] = {
	{ "socks4 has no names", &hop_socks4, SOCKS_CONNECT, "a:80", NULL, NULL, HOP_FAILED,
	  VERDICT_UPSTREAM_NO_ADDRESS },
	{ "socks4 has no IPv6", &hop_socks4, SOCKS_CONNECT, "[::1]:80", NULL, NULL, HOP_FAILED,
	  VERDICT_UPSTREAM_NO_ADDRESS },
	{ "socks4a has no IPv6", &hop_socks4a, SOCKS_CONNECT, "[::1]:80", NULL, NULL, HOP_FAILED,
	  VERDICT_UPSTREAM_NO_ADDRESS },
	{ "socks4 has BIND", &hop_socks4, SOCKS_BIND, "1.2.3.4:80", NULL, NULL, HOP_MORE, 0 },
	{ "socks4 has no UDP", &hop_socks4, SOCKS_UDP, "1.2.3.4:80", NULL, NULL, HOP_FAILED,
	  VERDICT_UPSTREAM_NO_COMMAND },
	{ "socks4, longest user id", &hop_socks4, SOCKS_CONNECT, "1.2.3.4:80", longest + 1, NULL,
	  HOP_MORE, 0 },
	{ "socks4, user id too long", &hop_socks4, SOCKS_CONNECT, "1.2.3.4:80", longest, NULL,
	  HOP_FAILED, VERDICT_UPSTREAM_AUTH },
	{ "socks5 has UDP", &hop_socks5, SOCKS_UDP, "[::1]:80", NULL, NULL, HOP_MORE, 0 },
	{ "socks5, longest credentials", &hop_socks5, SOCKS_CONNECT, "a:80", longest + 1, longest +
	  1, HOP_MORE, 0 },
	{ "socks5, user name too long", &hop_socks5, SOCKS_CONNECT, "a:80", longest, NULL,
	  HOP_FAILED, VERDICT_UPSTREAM_AUTH },
	{ "socks5, password too long", &hop_socks5, SOCKS_CONNECT, "a:80", "u", longest, HOP_FAILED,
	  VERDICT_UPSTREAM_AUTH },
	{ "http has no BIND", &hop_http, SOCKS_BIND, "a:80", NULL, NULL, HOP_FAILED,
	  VERDICT_UPSTREAM_NO_COMMAND },
	{ "http has no UDP", &hop_http, SOCKS_UDP, "a:80", NULL, NULL, HOP_FAILED,
	  VERDICT_UPSTREAM_NO_COMMAND },
	{ "http, longest credentials", &hop_http, SOCKS_CONNECT, "a:80", longest + 1, longest + 1,
	  HOP_MORE, 0 },
	{ "http, password too long", &hop_http, SOCKS_CONNECT, "a:80", "u", longest, HOP_FAILED,
	  VERDICT_UPSTREAM_AUTH },
	{ "http, colon in the user name", &hop_http, SOCKS_CONNECT, "a:80", "u:v", "p", HOP_FAILED,
	  VERDICT_UPSTREAM_AUTH },
};

/* Too long is refused, never done another way; nor is what a protocol has no word for. */
static void
test_what_cannot_be_asked(void **state)
{
	(void)state;
	memset(longest, 'x', 256);
	for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
		uint8_t memory[HOP_OUT_MAX];
		struct endpoint to = endpoint_of(starts[i].to);
		struct hop_request request = {
			.command = starts[i].command,
			.to = &to,
			.username = starts[i].username,
			.password = starts[i].password,
			.pipeline = true,
		};
		struct hop hop;
		struct buffer out;
		buffer_init(&out, memory, sizeof memory);
		enum hop_status status = hop_start(&hop, starts[i].ops, &request, &out);
		if (status != starts[i].want)
			fail_msg("%s: %d, not %d", starts[i].what, status, starts[i].want);
		if (status == HOP_FAILED)
			assert_int_equal(hop.verdict, starts[i].verdict);
	}
}

/* A user name and a host of the greatest length fit HOP_OUT_MAX in every kind. */
static void
test_longest_of_all(void **state)
{
	static const struct hop_ops *const kinds[] = { &hop_socks4a, &hop_socks5, &hop_http };
	struct endpoint to = { .port = 65535 };
	(void)state;
	memset(longest, 'x', 256);
	assert_int_equal(endpoint_set_host(&to, longest, 255), ENDPOINT_OK);
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct hop_request request = {
			.command = SOCKS_CONNECT,
			.to = &to,
			.username = longest + 1,
			.password = longest + 1,
			.pipeline = true,
		};
		uint8_t memory[HOP_OUT_MAX];
		struct hop hop;
		struct buffer out;
		buffer_init(&out, memory, sizeof memory);
		assert_int_equal(hop_start(&hop, kinds[i], &request, &out), HOP_MORE);
	}
}

/* Authenticated is said as soon as it is known, before the request is answered. */
static void
test_authenticated(void **state)
{
	struct endpoint to = endpoint_of("a.b:80");
	struct hop_request request = { .command = SOCKS_CONNECT, .to = &to, .username = "alice",
	    .password = "x" };
	uint8_t in_memory[HOP_IN_MAX], out_memory[HOP_OUT_MAX];
	struct hop hop;
	struct buffer in, out;
	(void)state;
	buffer_init(&in, in_memory, sizeof in_memory);
	buffer_init(&out, out_memory, sizeof out_memory);
	assert_int_equal(hop_start(&hop, &hop_socks5, &request, &out), HOP_MORE);
	assert_true(buffer_append(&in, "\x05\x02", 2));
	assert_int_equal(hop_feed(&hop, &in, &out, false), HOP_MORE);
	assert_false(hop.authenticated);
	assert_true(buffer_append(&in, "\x01\x00", 2));
	assert_int_equal(hop_feed(&hop, &in, &out, false), HOP_MORE);
	assert_true(hop.authenticated);
	assert_int_equal(hop_start(&hop, &hop_http, &request, &out), HOP_MORE);
	assert_false(hop.authenticated);
	assert_true(buffer_append(&in, "HTTP/1.1 407 x\n", 15));
	assert_int_equal(hop_feed(&hop, &in, &out, false), HOP_FAILED);
	assert_false(hop.authenticated);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pieces_of_every_size),
		cmocka_unit_test(test_tunnel_behind_it),
		cmocka_unit_test(test_end_at_every_byte),
		cmocka_unit_test(test_too_little_room),
		cmocka_unit_test(test_held),
		cmocka_unit_test(test_what_goes_out_at_the_start),
		cmocka_unit_test(test_what_cannot_be_asked),
		cmocka_unit_test(test_longest_of_all),
		cmocka_unit_test(test_authenticated),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
