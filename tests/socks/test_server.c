/*
 * test_server: whole handshakes of clients, in pieces of every size, ended at every byte, with too
 * little room for the answers.
 *
 * The session's part is played here: alice's password is "secret", nobody else is known. Of
 * Kerberos's tokens it takes "good" and "mute", after as many "more" as there are, and the level "0".
 */
#include "socks/server.h"

#include "socks/http_connect.h"
#include "tests/socks/vectors.h"

enum {
	P4 = PROTOCOL_BIT(PROTOCOL_SOCKS4),
	P4A = PROTOCOL_BIT(PROTOCOL_SOCKS4A),
	P5 = PROTOCOL_BIT(PROTOCOL_SOCKS5),
	PH = PROTOCOL_BIT(PROTOCOL_HTTP),
	ALL = P4 | P4A | P5 | PH,
	SOCKS = P4 | P4A | P5,
	NONE = AUTH_NONE,
	PASS = AUTH_USERPASS,
	GSS = AUTH_GSSAPI,
};

#define ALICE "0105 'alice' 06 'secret'"
#define REQUEST "0501 0001 c0000201 0050"
#define GOOD "0101 0004 'good'"
#define LEVEL_0 "0102 0001 '0'"
#define LINE "'CONNECT a:443 HTTP/1.1' ~"
#define BASIC(digits) "'Proxy-Authorization: Basic " digits "' ~"
#define ALICE_BASIC BASIC("YWxpY2U6c2VjcmV0")

static const struct vector {
	const char *what;
	unsigned protocols, methods;
	const char *in;
	enum shake_result want;                        /* ASKED or BAD */
	enum verdict verdict;                          /* of BAD */
	const char *out;                     /* all that is said; of an HTTP answer its beginning */
	const char *to;                                /* of ASKED */
	size_t decides;                                /* 0: the last byte */
} vectors[] = {
	/* SOCKS4 and 4a */
	{ "socks4", ALL, NONE, "0401 0050 c0000201 'fred' 00", SHAKE_ASKED, 0, "", "192.0.2.1:80",
	  0 },
	{ "socks4 BIND, port 0", ALL, NONE, "0402 0000 c0000201 00", SHAKE_ASKED, 0, "",
	  "192.0.2.1:0", 0 },
	{ "socks4a", ALL, NONE, "0401 0050 00000001 00 'a.b' 00", SHAKE_ASKED, 0, "", "a.b:80", 0 },
	{ "socks4 held to ident", ALL, AUTH_IDENT | PASS, "0401 0050 c0000201 00", SHAKE_ASKED, 0,
	  "", "192.0.2.1:80", 0 },
	{ "socks4 where a password is due", ALL, PASS, "0401 0050 c0000201 00", SHAKE_BAD,
	  VERDICT_NO_METHOD, "005b 00*6", NULL, 0 },
	{ "socks4 where only 4a is spoken", P4A, NONE, "0401 0050 c0000201 00", SHAKE_BAD,
	  VERDICT_NO_PROTOCOL, "005b 00*6", NULL, 0 },
	{ "4a where only socks4 is spoken", P4 | P5, NONE, "0401 0050 00000001 00 'a' 00",
	  SHAKE_BAD, VERDICT_NO_PROTOCOL, "005b 00*6", NULL, 0 },
	{ "0.0.0.0 is no 4a", P4A, NONE, "0402 0050 00000000 00", SHAKE_BAD, VERDICT_NO_PROTOCOL,
	  "005b 00*6", NULL, 0 },
	{ "socks4 where only socks5 is spoken", P5, NONE, "0401 0050 c0000201 00", SHAKE_BAD,
	  VERDICT_NO_PROTOCOL, "005b 00*6", NULL, 0 },
	{ "socks4, port 0", ALL, NONE, "0401 0000 c0000201 00", SHAKE_BAD, VERDICT_MALFORMED,
	  "005b 00*6", NULL, 0 },
	{ "socks4 has no UDP", ALL, NONE, "0403 0050 c0000201 00", SHAKE_BAD,
	  VERDICT_COMMAND_UNKNOWN, "005b 00*6", NULL, 0 },
	{ "socks4, command 0", ALL, NONE, "0400 0050 c0000201 00", SHAKE_BAD,
	  VERDICT_COMMAND_UNKNOWN, "005b 00*6", NULL, 0 },
	{ "socks4, endless user id", ALL, NONE, "0401 0050 c0000201 75*256", SHAKE_BAD,
	  VERDICT_MALFORMED, "005b 00*6", NULL, 0 },
	{ "4a, a name that is none", ALL, NONE, "0401 0050 00000001 00 'a b' 00", SHAKE_BAD,
	  VERDICT_MALFORMED, "005b 00*6", NULL, 0 },

	/* SOCKS5 */
	{ "socks5", ALL, NONE, "050100 0501 0001 c0000201 0050", SHAKE_ASKED, 0, "0500",
	  "192.0.2.1:80", 0 },
	{ "socks5 alone", P5, NONE, "050100 0501 0003 01 'a' 01bb", SHAKE_ASKED, 0, "0500", "a:443",
	  0 },
	{ "socks5 BIND", ALL, NONE, "050100 0502 0001 c0000201 0000", SHAKE_ASKED, 0, "0500",
	  "192.0.2.1:0", 0 },
	{ "socks5 UDP", ALL, NONE, "050100 0503 0001 00000000 0000", SHAKE_ASKED, 0, "0500",
	  "0.0.0.0:0", 0 },
	{ "userpass", ALL, PASS, "050102" ALICE "0501 0001 c0000201 0050", SHAKE_ASKED, 0,
	  "0502 0100", "192.0.2.1:80", 0 },
	{ "userpass before none", ALL, NONE | PASS, "05020002" ALICE "0501 0001 c0000201 0050",
	  SHAKE_ASKED, 0, "0502 0100", "192.0.2.1:80", 0 },
	{ "none where userpass isn't offered", ALL, NONE | PASS, "050100 0501 0001 c0000201 0050",
	  SHAKE_ASKED, 0, "0500", "192.0.2.1:80", 0 },
	{ "none where userpass isn't allowed", ALL, NONE, "05020002 0501 0001 c0000201 0050",
	  SHAKE_ASKED, 0, "0500", "192.0.2.1:80", 0 },
	{ "ident looks like none", ALL, AUTH_IDENT, "050100 0501 0001 c0000201 0050", SHAKE_ASKED,
	  0, "0500", "192.0.2.1:80", 0 },
	{ "longest request", ALL, NONE, "05ff 00*255 0501 0003 ff 61*255 0050", SHAKE_ASKED, 0,
	  "0500", NULL, 0 },
	{ "wrong password", ALL, PASS, "050102 0105 'alice' 06 'secreT'", SHAKE_BAD,
	  VERDICT_BAD_CREDENTIALS, "0502 0101", NULL, 0 },
	{ "beginning of the password", ALL, PASS, "050102 0105 'alice' 05 'secre'", SHAKE_BAD,
	  VERDICT_BAD_CREDENTIALS, "0502 0101", NULL, 0 },
	{ "longer password", ALL, PASS, "050102 0105 'alice' 07 'secrets'", SHAKE_BAD,
	  VERDICT_BAD_CREDENTIALS, "0502 0101", NULL, 0 },
	{ "empty credentials", ALL, PASS, "050102 010000", SHAKE_BAD, VERDICT_BAD_CREDENTIALS,
	  "0502 0101", NULL, 0 },
	{ "longest credentials", ALL, PASS, "050102 01ff 75*255 ff 70*255", SHAKE_BAD,
	  VERDICT_BAD_CREDENTIALS, "0502 0101", NULL, 0 },
	{ "NUL in the password", ALL, PASS, "050102 0105 'alice' 08 'secret' 0078", SHAKE_BAD,
	  VERDICT_BAD_CREDENTIALS, "0502 0101", NULL, 0 },
	{ "NUL in the user name", ALL, PASS, "050102 0107 'alice' 0078 06 'secret'", SHAKE_BAD,
	  VERDICT_BAD_CREDENTIALS, "0502 0101", NULL, 0 },
	{ "credentials of version 5", ALL, PASS, "050102 05", SHAKE_BAD, VERDICT_MALFORMED,
	  "0502 0101", NULL, 0 },
	{ "credentials twice", ALL, PASS, "050102" ALICE "01", SHAKE_BAD, VERDICT_MALFORMED,
	  "0502 0100 0501 0001 00*6", NULL, 0 },
	{ "credentials that nobody wants", ALL, NONE, "050100 01", SHAKE_BAD, VERDICT_MALFORMED,
	  "0500 0501 0001 00*6", NULL, 0 },
	{ "no credentials where they are due", ALL, PASS, "050102 0501", SHAKE_BAD,
	  VERDICT_MALFORMED, "0502 0101", NULL, 4 },
	{ "userpass is due", ALL, PASS, "050100", SHAKE_BAD, VERDICT_NO_METHOD, "05ff", NULL, 0 },
	{ "no userpass here", ALL, NONE, "050102", SHAKE_BAD, VERDICT_NO_METHOD, "05ff", NULL, 0 },
	{ "only unknown methods", ALL, NONE | PASS, "05028081", SHAKE_BAD, VERDICT_NO_METHOD,
	  "05ff", NULL, 0 },
	{ "no method offered", ALL, NONE | PASS, "0500", SHAKE_BAD, VERDICT_NO_METHOD, "05ff", NULL,
	  0 },
	{ "socks5 not spoken", P4 | PH, NONE, "050100", SHAKE_BAD, VERDICT_NO_PROTOCOL, "05ff",
	  NULL, 0 },
	{ "unknown command", ALL, NONE, "050100 05f0 0001 c0000201 0050", SHAKE_BAD,
	  VERDICT_COMMAND_UNKNOWN, "0500 0507 0001 00*6", NULL, 0 },
	{ "command 0", ALL, NONE, "050100 0500 0001 c0000201 0050", SHAKE_BAD,
	  VERDICT_COMMAND_UNKNOWN, "0500 0507 0001 00*6", NULL, 0 },
	{ "unknown ATYP", ALL, NONE, "050100 0501 0005", SHAKE_BAD, VERDICT_ADDRESS_UNKNOWN,
	  "0500 0508 0001 00*6", NULL, 0 },
	{ "port 0", ALL, NONE, "050100 0501 0001 c0000201 0000", SHAKE_BAD, VERDICT_MALFORMED,
	  "0500 0501 0001 00*6", NULL, 0 },
	{ "empty name", ALL, NONE, "050100 0501 0003 00 0050", SHAKE_BAD, VERDICT_MALFORMED,
	  "0500 0501 0001 00*6", NULL, 0 },

	/* SOCKS5 by GSS-API */
	{ "gssapi", ALL, GSS, "050101" GOOD LEVEL_0 REQUEST, SHAKE_ASKED, 0,
	  "0501 0101 0002 'ok' 0102 0001 '0'", "192.0.2.1:80", 0 },
	{ "gssapi before all others", ALL, NONE | PASS | GSS, "0503000201" GOOD LEVEL_0 REQUEST,
	  SHAKE_ASKED, 0, "0501 0101 0002 'ok' 0102 0001 '0'", "192.0.2.1:80", 0 },
	{ "gssapi in many steps", ALL, GSS, "050101 0101 0004 'more' 0101 0004 'more'" GOOD LEVEL_0
	  REQUEST, SHAKE_ASKED, 0,
	  "0501 0101 0002 'go' 0101 0002 'go' 0101 0002 'ok' 0102 0001 '0'", "192.0.2.1:80", 0 },
	{ "gssapi, nothing to answer", ALL, GSS, "050101 0101 0004 'mute'" LEVEL_0 REQUEST,
	  SHAKE_ASKED, 0, "0501 0102 0001 '0'", "192.0.2.1:80", 0 },
	{ "gssapi isn't offered, userpass is", ALL, PASS | GSS, "05020002" ALICE REQUEST,
	  SHAKE_ASKED, 0, "0502 0100", "192.0.2.1:80", 0 },
	{ "gssapi is due", ALL, GSS, "05020002", SHAKE_BAD, VERDICT_NO_METHOD, "05ff", NULL, 0 },
	{ "no gssapi here", ALL, NONE | PASS, "050101", SHAKE_BAD, VERDICT_NO_METHOD, "05ff", NULL,
	  0 },
	{ "socks4 where Kerberos is due", ALL, GSS, "0401 0050 c0000201 00", SHAKE_BAD,
	  VERDICT_NO_METHOD, "005b 00*6", NULL, 0 },
	{ "gssapi, a token that won't do", ALL, GSS, "050101 0101 0003 'bad'", SHAKE_BAD,
	  VERDICT_BAD_CREDENTIALS, "0501 01ff", NULL, 0 },
	{ "gssapi, a level that won't do", ALL, GSS, "050101" GOOD "0102 0001 '7'", SHAKE_BAD,
	  VERDICT_BAD_CREDENTIALS, "0501 0101 0002 'ok' 01ff", NULL, 0 },
	{ "gssapi, the client gives up", ALL, GSS, "050101 01ff", SHAKE_BAD, VERDICT_CUT_SHORT,
	  "0501", NULL, 0 },
	{ "gssapi, it gives up before the level", ALL, GSS, "050101" GOOD "01ff", SHAKE_BAD,
	  VERDICT_CUT_SHORT, "0501 0101 0002 'ok'", NULL, 0 },
	{ "gssapi, a request where a token is due", ALL, GSS, "050101" REQUEST, SHAKE_BAD,
	  VERDICT_MALFORMED, "0501 01ff", NULL, 3 + 1 },
	{ "gssapi, a level where a token is due", ALL, GSS, "050101" LEVEL_0, SHAKE_BAD,
	  VERDICT_MALFORMED, "0501 01ff", NULL, 3 + 2 },
	{ "gssapi, a token where the level is due", ALL, GSS, "050101" GOOD GOOD, SHAKE_BAD,
	  VERDICT_MALFORMED, "0501 0101 0002 'ok' 01ff", NULL, 3 + 8 + 2 },
	{ "gssapi, data where a token is due", ALL, GSS, "050101 0103 0001 00", SHAKE_BAD,
	  VERDICT_MALFORMED, "0501 01ff", NULL, 3 + 2 },
	{ "gssapi, an empty token", ALL, GSS, "050101 0101 0000", SHAKE_BAD, VERDICT_MALFORMED,
	  "0501 01ff", NULL, 0 },
	{ "gssapi, a password where a token is due", ALL, GSS, "050101" ALICE, SHAKE_BAD,
	  VERDICT_MALFORMED, "0501 01ff", NULL, 3 + 2 },

	/* HTTP CONNECT */
	{ "http", ALL, NONE, LINE "'Host: a:443' ~~", SHAKE_ASKED, 0, "", "a:443", 0 },
	{ "http alone, bare LF", PH, NONE, "'CONNECT [::1]:80 HTTP/1.0' 0a0a", SHAKE_ASKED, 0, "",
	  "[::1]:80", 0 },
	{ "http, credentials", ALL, PASS, LINE ALICE_BASIC "~", SHAKE_ASKED, 0, "", "a:443", 0 },
	{ "http, credentials though none is fine", ALL, NONE | PASS, LINE ALICE_BASIC "~",
	  SHAKE_ASKED, 0, "", "a:443", 0 },
	{ "http, none is fine", ALL, NONE | PASS, LINE "~", SHAKE_ASKED, 0, "", "a:443", 0 },
	{ "http, ident looks like none", ALL, AUTH_IDENT, LINE "~", SHAKE_ASKED, 0, "", "a:443",
	  0 },
	{ "http, credentials that nobody checks", ALL, NONE, LINE BASIC("eDp5") "~", SHAKE_ASKED, 0,
	  "", "a:443", 0 },
	{ "http, credentials are due", ALL, PASS, LINE "~", SHAKE_BAD, VERDICT_NO_METHOD,
	  "'HTTP/1.1 407 '", NULL, 0 },
	{ "http, no method that it has", ALL, AUTH_GSSAPI, LINE ALICE_BASIC "~", SHAKE_BAD,
	  VERDICT_NO_METHOD, "'HTTP/1.1 407 '", NULL, 0 },
	{ "http, wrong password", ALL, PASS, LINE BASIC("YWxpY2U6c2VjcmVU") "~", SHAKE_BAD,
	  VERDICT_BAD_CREDENTIALS, "'HTTP/1.1 407 '", NULL, 0 },
	{ "http, wrong password though none is fine", ALL, NONE | PASS, LINE
	  BASIC("YWxpY2U6c2VjcmVU") "~", SHAKE_BAD, VERDICT_BAD_CREDENTIALS, "'HTTP/1.1 407 '",
	  NULL, 0 },
	{ "http, NUL in the password", ALL, PASS, LINE BASIC("YWxpY2U6c2VjcmV0AHg=") "~", SHAKE_BAD,
	  VERDICT_BAD_CREDENTIALS, "'HTTP/1.1 407 '", NULL, 0 },
	{ "http, no base64", ALL, PASS, LINE BASIC("alice:secret") "~", SHAKE_BAD,
	  VERDICT_BAD_CREDENTIALS, "'HTTP/1.1 407 '", NULL, 0 },
	{ "http, another scheme", ALL, NONE | PASS, LINE "'Proxy-Authorization: Bearer YTpi' ~~",
	  SHAKE_BAD, VERDICT_NO_METHOD, "'HTTP/1.1 407 '", NULL, 0 },
	{ "http, GET", ALL, PASS, "'GET http://a/ HTTP/1.1' ~~", SHAKE_BAD, VERDICT_COMMAND_UNKNOWN,
	  "'HTTP/1.1 405 '", NULL, 0 },
	{ "http, small letters", ALL, NONE, "'get http://a/ HTTP/1.1' ~~", SHAKE_BAD,
	  VERDICT_COMMAND_UNKNOWN, "'HTTP/1.1 405 '", NULL, 0 },
	{ "http, from A", ALL, NONE, "'A / HTTP/1.1' ~~", SHAKE_BAD, VERDICT_COMMAND_UNKNOWN,
	  "'HTTP/1.1 405 '", NULL, 0 },
	{ "http, to Z", ALL, NONE, "'Z / HTTP/1.1' ~~", SHAKE_BAD, VERDICT_COMMAND_UNKNOWN,
	  "'HTTP/1.1 405 '", NULL, 0 },
	{ "http, from a", ALL, NONE, "'a / HTTP/1.1' ~~", SHAKE_BAD, VERDICT_COMMAND_UNKNOWN,
	  "'HTTP/1.1 405 '", NULL, 0 },
	{ "http, to z", ALL, NONE, "'z / HTTP/1.1' ~~", SHAKE_BAD, VERDICT_COMMAND_UNKNOWN,
	  "'HTTP/1.1 405 '", NULL, 0 },
	{ "http, port 0", ALL, NONE, "'CONNECT a:0 HTTP/1.1' ~~", SHAKE_BAD, VERDICT_MALFORMED,
	  "'HTTP/1.1 400 '", NULL, 0 },
	{ "http, no port", ALL, NONE, "'CONNECT a HTTP/1.1' ~", SHAKE_BAD, VERDICT_MALFORMED,
	  "'HTTP/1.1 400 '", NULL, 0 },
	{ "http, endless head", ALL, NONE, LINE "'A: ' 61*8165", SHAKE_BAD, VERDICT_MALFORMED,
	  "'HTTP/1.1 400 '", NULL, 0 },
	{ "http where only socks is spoken", SOCKS, NONE, "'GET / HTTP/1.1' ~~", SHAKE_BAD,
	  VERDICT_NO_PROTOCOL, "'HTTP/1.1 501 '", NULL, 0 },
	{ "CONNECT where only socks is spoken", SOCKS, NONE, LINE "~", SHAKE_BAD,
	  VERDICT_NO_PROTOCOL, "'HTTP/1.1 501 '", NULL, 0 },
	{ "bad http where only socks is spoken", SOCKS, NONE, "'SSH-2.0-x' ~", SHAKE_BAD,
	  VERDICT_NO_PROTOCOL, "'HTTP/1.1 501 '", NULL, 0 },

	/* none of them */
	{ "TLS", ALL, NONE, "160301", SHAKE_BAD, VERDICT_MALFORMED, "", NULL, 1 },
	{ "version 6", ALL, NONE, "06", SHAKE_BAD, VERDICT_MALFORMED, "", NULL, 0 },
	{ "line end", ALL, NONE, "0d0a", SHAKE_BAD, VERDICT_MALFORMED, "", NULL, 1 },
	{ "before A", ALL, NONE, "'@'", SHAKE_BAD, VERDICT_MALFORMED, "", NULL, 0 },
	{ "behind Z", ALL, NONE, "'['", SHAKE_BAD, VERDICT_MALFORMED, "", NULL, 0 },
	{ "behind z", ALL, NONE, "'{'", SHAKE_BAD, VERDICT_MALFORMED, "", NULL, 0 },
};

/* A client's connection, and what came of it. */
struct talk {
	struct socks_server server;
	enum shake_result result;
	size_t left;                                   /* bytes that the handshake did not take */
	uint8_t *memory;                               /* out's, of exactly its size */
	struct buffer out;
};

static void
answer_auth(struct socks_server *s, struct buffer *out)
{
	assert_int_equal(s->username_len, strlen(s->username));
	assert_int_equal(s->password_len, strlen(s->password));
	if (strcmp(s->username, "alice") == 0 && strcmp(s->password, "secret") == 0)
		socks_server_admit(s, out);
	else
		socks_server_deny(s, out);
	for (size_t i = 0; i < sizeof s->password; i++)
		assert_int_equal(s->password[i], 0);
}

static bool
token_is(const struct socks_server *s, const char *text)
{
	return s->token_len == strlen(text) && memcmp(s->token, text, s->token_len) == 0;
}

static void
answer_token(struct socks_server *s, struct buffer *out)
{
	assert_int_equal(socks_server_in_max(s), 4 + 65535);
	if (token_is(s, "good"))
		socks_server_give_token(s, (const uint8_t *)"ok", 2, true, out);
	else if (token_is(s, "mute"))
		socks_server_give_token(s, NULL, 0, true, out);
	else if (token_is(s, "more"))
		socks_server_give_token(s, (const uint8_t *)"go", 2, false, out);
	else
		socks_server_deny(s, out);
}

static void
answer_level(struct socks_server *s, struct buffer *out)
{
	assert_false(s->admitted);
	if (token_is(s, "0"))
		socks_server_agree(s, s->token, 1, out);
	else
		socks_server_deny(s, out);
}

static enum shake_result
feed_and_check(struct talk *t, struct buffer *in, bool eof)
{
	enum shake_result result;
	while ((result = socks_server_feed(&t->server, in, &t->out, eof)) == SHAKE_AUTH ||
	    result == SHAKE_TOKEN || result == SHAKE_LEVEL) {
		size_t len = buffer_len(in);      /* until the session has decided, nothing moves */
		assert_int_equal(socks_server_feed(&t->server, in, &t->out, eof), result);
		assert_int_equal(buffer_len(in), len);
		if (result == SHAKE_AUTH)
			answer_auth(&t->server, &t->out);
		else if (result == SHAKE_TOKEN)
			answer_token(&t->server, &t->out);
		else
			answer_level(&t->server, &t->out);
	}
	return result;
}

/* Sends the bytes in pieces of `piece`, then the end where eof. talk_end() after it. */
static void
talk(struct talk *t, const struct vector *v, const struct bytes *bytes, size_t piece, bool eof,
    size_t out_cap)
{
	uint8_t memory[SOCKS_SERVER_IN_MAX];
	struct buffer in;
	size_t sent = 0;
	buffer_init(&in, memory, sizeof memory);
	t->memory = malloc(out_cap > 0 ? out_cap : 1);
	assert_non_null(t->memory);
	buffer_init(&t->out, t->memory, out_cap);
	socks_server_init(&t->server, &(struct socks_server_options){ .protocols = v->protocols, .methods = v->methods });
	t->result = SHAKE_MORE;
	while (t->result == SHAKE_MORE && (sent < bytes->len || bytes->len == 0)) {
		size_t n = bytes->len - sent;
		n = n > piece ? piece : n;
		n = n > buffer_make_room(&in) ? buffer_make_room(&in) : n;
		assert_true(buffer_append(&in, bytes->data + sent, n));
		sent += n;
		t->result = feed_and_check(t, &in, eof && sent == bytes->len);
		if (bytes->len == 0)
			break;
	}
	t->left = bytes->len - sent + buffer_len(&in);
}

static void
talk_end(struct talk *t)
{
	free(t->memory);
}

static void
check_outcome(const struct vector *v, const struct talk *t, size_t left)
{
	struct bytes want;
	bytes_of(&want, v->out);
	bool http = t->server.request.protocol == PROTOCOL_HTTP;
	if (t->result != v->want || (v->want == SHAKE_BAD && t->server.verdict != v->verdict))
		fail_msg("%s: result %d, verdict %s", v->what, t->result,
		    verdict_text(t->server.verdict));
	if (buffer_len(&t->out) < want.len || (!http && buffer_len(&t->out) != want.len) ||
	    memcmp(buffer_bytes(&t->out), want.data, want.len) != 0)
		fail_msg("%s: other bytes said than %s", v->what, v->out);
	if (v->want == SHAKE_ASKED && t->left != left)
		fail_msg("%s: %zu bytes left, not %zu", v->what, t->left, left);
	if (v->to != NULL)
		check_endpoint(v->what, &t->server.request.to, v->to);
}

static void
test_pieces_of_every_size(void **state)
{
	static const size_t pieces[] = { 1, 2, 3, 7, 100, 100000 };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		struct bytes in;
		struct talk t;
		bytes_of(&in, vectors[i].in);
		for (size_t k = 0; k < ARRAY_LEN(pieces); k++) {
			talk(&t, &vectors[i], &in, pieces[k], false, SOCKS_SERVER_OUT_MAX);
			check_outcome(&vectors[i], &t, 0);
			talk_end(&t);
		}
	}
}

/* What a client sends early is its stream: none of it is taken, however it comes. */
static void
test_payload_behind_it(void **state)
{
	static const uint8_t payload[] = "\x05\x01\x00 GET / HTTP/1.1\r\n\r\n\x04\x01";
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		struct bytes in;
		struct talk t;
		if (vectors[i].want != SHAKE_ASKED)
			continue;
		bytes_of(&in, vectors[i].in);
		bytes_add(&in, payload, sizeof payload);
		for (size_t piece = 1; piece <= in.len; piece++) {
			talk(&t, &vectors[i], &in, piece, piece % 2 == 0, SOCKS_SERVER_OUT_MAX);
			check_outcome(&vectors[i], &t, sizeof payload);
			talk_end(&t);
		}
	}
}

/*
 * Cut before the byte that decides it is neither asked nor malformed, and no answer is made up;
 * from there on the end changes nothing.
 */
static void
test_end_at_every_byte(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		const struct vector *v = &vectors[i];
		struct bytes in;
		struct talk whole, cut;
		bytes_of(&in, v->in);
		size_t len = in.len, decides = v->decides == 0 ? len : v->decides;
		talk(&whole, v, &in, len, false, SOCKS_SERVER_OUT_MAX);
		for (in.len = len > 300 ? len - 300 : 0; in.len <= len; in.len++) {
			talk(&cut, v, &in, 100000, true, SOCKS_SERVER_OUT_MAX);
			if (in.len >= decides) {
				check_outcome(v, &cut, 0);
			} else {
				if (cut.result != SHAKE_BAD ||
				    cut.server.verdict != VERDICT_CUT_SHORT)
					fail_msg("%s: cut at %zu: %s", v->what, in.len,
					    verdict_text(cut.server.verdict));
				assert_true(buffer_len(&cut.out) <= buffer_len(&whole.out));
				assert_memory_equal(cut.memory, whole.memory, buffer_len(&cut.out));
				assert_true(buffer_len(&cut.out) < buffer_len(&whole.out) ||
				    v->want == SHAKE_ASKED || v->verdict == VERDICT_CUT_SHORT ||
				    buffer_len(&whole.out) == 0);
			}
			talk_end(&cut);
		}
		talk_end(&whole);
	}
}

/*
 * With less room than the answers need nothing is written past it, nothing is cut, and nothing goes
 * on as if it had been said.
 */
static void
test_too_little_room(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		struct bytes in;
		struct talk whole, small;
		bytes_of(&in, vectors[i].in);
		talk(&whole, &vectors[i], &in, in.len, false, SOCKS_SERVER_OUT_MAX);
		for (size_t cap = 0; cap < buffer_len(&whole.out); cap++) {
			talk(&small, &vectors[i], &in, in.len, false, cap);
			if (small.result != SHAKE_BAD || small.server.verdict != VERDICT_INTERNAL)
				fail_msg("%s: room %zu: %d", vectors[i].what, cap, small.result);
			assert_memory_equal(small.memory, whole.memory, buffer_len(&small.out));
			talk_end(&small);
		}
		talk_end(&whole);
	}
}

static const struct vector requests[] = {
	{ "socks4", ALL, NONE, "0401 0050 c0000201 'fred' 00", SHAKE_ASKED, 0, "", "192.0.2.1:80",
	  0 },
	{ "socks4a", ALL, NONE, "0401 0050 00000001 00 'a.b' 00", SHAKE_ASKED, 0, "", "a.b:80", 0 },
	{ "socks5", ALL, NONE, "050100 0501 0001 c0000201 0050", SHAKE_ASKED, 0, "0500",
	  "192.0.2.1:80", 0 },
	{ "http", ALL, NONE, LINE "~", SHAKE_ASKED, 0, "", "a:443", 0 },
};

/* What socks_server_reply writes for a verdict, into memory of just that size. */
static void
check_reply(const struct talk *t, enum verdict v, const struct endpoint *bound,
    const struct bytes *want)
{
	for (size_t cap = 0; cap <= want->len; cap++) {
		uint8_t *memory = malloc(cap > 0 ? cap : 1);
		struct buffer out;
		assert_non_null(memory);
		buffer_init(&out, memory, cap);
		socks_server_reply(&t->server, v, bound, &out);
		assert_int_equal(buffer_len(&out), cap == want->len ? cap : 0);
		assert_memory_equal(memory, want->data, buffer_len(&out));
		free(memory);
	}
}

static void
expect_reply(struct bytes *want, enum socks_protocol p, enum verdict v)
{
	char text[80];
	switch (p) {
	case PROTOCOL_SOCKS5:
		snprintf(text, sizeof text, "05%02x 0001 c6336401 0438", verdict_to_socks5(v));
		break;
	case PROTOCOL_HTTP:
		want->len = http_write_answer(want->data, sizeof want->data, v);
		return;
	default:
		snprintf(text, sizeof text, "00%02x 0438 c6336401", verdict_to_socks4(v));
	}
	bytes_of(want, text);
}

static void
test_reply_for_every_verdict(void **state)
{
	struct endpoint bound = endpoint_of("198.51.100.1:1080");
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		struct bytes in, want;
		struct talk t;
		talk(&t, &requests[i], bytes_of(&in, requests[i].in), 1, false,
		    SOCKS_SERVER_OUT_MAX);
		check_outcome(&requests[i], &t, 0);
		assert_string_equal(socks_protocol_text(t.server.request.protocol),
		    requests[i].what);
		for (enum verdict v = VERDICT_GRANTED; v < VERDICT_N; v++) {
			expect_reply(&want, t.server.request.protocol, v);
			check_reply(&t, v, &bound, &want);
		}
		talk_end(&t);
	}
}

static void
test_bound_of_each_kind(void **state)
{
	static const struct { size_t request; const char *bound, *want; } replies[] = {
		{ 0, NULL, "005a 00*6" },
		{ 0, "[::1]:80", "005a 00*6" },
		{ 2, NULL, "0500 0001 00*6" },
		{ 2, "[::1]:80", "0500 0004 00*15 01 0050" },
		{ 2, "a.b:80", "0500 0003 03 'a.b' 0050" },
		{ 3, NULL, "'HTTP/1.1 200 Connection established' ~~" },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
		const struct vector *v = &requests[replies[i].request];
		struct endpoint bound = endpoint_of(replies[i].bound);
		struct bytes in, want;
		struct talk t;
		uint8_t memory[SOCKS_SERVER_OUT_MAX];
		struct buffer out;
		buffer_init(&out, memory, sizeof memory);
		talk(&t, v, bytes_of(&in, v->in), 1, false, SOCKS_SERVER_OUT_MAX);
		socks_server_reply(&t.server, VERDICT_GRANTED, replies[i].bound == NULL ? NULL :
		    &bound, &out);
		bytes_of(&want, replies[i].want);
		assert_int_equal(buffer_len(&out), want.len);
		assert_memory_equal(buffer_bytes(&out), want.data, want.len);
		talk_end(&t);
	}
}

/*
 * Refused for another reason than the credentials while they are being checked; and silence where
 * there is nothing to answer.
 */
static void
test_reply_at_other_times(void **state)
{
	static const struct { const char *what,
	    *in; enum shake_result at; const char *want; } moments[] = {
		{ "nothing yet", "", SHAKE_MORE, "" },
		{ "half a greeting", "0501", SHAKE_MORE, "" },
		{ "greeted", "050102", SHAKE_MORE, "" },
		{ "half a socks4 request", "0401", SHAKE_MORE, "" },
		{ "half a head", "'CONNECT a'", SHAKE_MORE, "" },
		{ "credentials", "050102" ALICE, SHAKE_AUTH, "0101" },
		{ "http credentials", LINE ALICE_BASIC "~", SHAKE_AUTH, "'HTTP/1.1 503 '" },
		{ "after the last word", "050100", SHAKE_BAD, "" },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(moments); i++) {
		uint8_t in_memory[SOCKS_SERVER_IN_MAX], out_memory[SOCKS_SERVER_OUT_MAX];
		struct socks_server s;
		struct buffer in, out;
		struct bytes bytes;
		buffer_init(&in, in_memory, sizeof in_memory);
		buffer_init(&out, out_memory, sizeof out_memory);
		socks_server_init(&s, &(struct socks_server_options){ .protocols = ALL, .methods = PASS });
		bytes_of(&bytes, moments[i].in);
		assert_true(buffer_append(&in, bytes.data, bytes.len));
		assert_int_equal(socks_server_feed(&s, &in, &out, false), moments[i].at);
		buffer_take(&out, buffer_len(&out));
		socks_server_reply(&s, VERDICT_NO_UPSTREAM, NULL, &out);
		bytes_of(&bytes, moments[i].want);
		assert_true(bytes.len > 0 ? buffer_len(&out) >= bytes.len : buffer_len(&out) == 0);
		assert_memory_equal(buffer_bytes(&out), bytes.data, bytes.len);
		assert_int_equal(socks_server_feed(&s, &in, &out, false), moments[i].at);
	}
}

static void
test_what_the_session_learns(void **state)
{
	struct bytes in;
	struct talk t;
	(void)state;
	talk(&t, &requests[0], bytes_of(&in, requests[0].in), 1, false, SOCKS_SERVER_OUT_MAX);
	assert_int_equal(t.server.request.command, SOCKS_CONNECT);
	assert_string_equal(t.server.request.userid, "fred");
	assert_false(t.server.admitted);
	talk_end(&t);
	struct vector v = { .protocols = ALL, .methods = PASS };
	talk(&t, &v, bytes_of(&in, "050102" ALICE "0503 0001 00000000 0000"), 1, false,
	    SOCKS_SERVER_OUT_MAX);
	assert_int_equal(t.server.request.command, SOCKS_UDP);
	assert_int_equal(t.server.request.protocol, PROTOCOL_SOCKS5);
	assert_string_equal(t.server.username, "alice");
	assert_true(t.server.admitted);
	talk_end(&t);
	talk(&t, &v, bytes_of(&in, LINE ALICE_BASIC "~"), 1, false, SOCKS_SERVER_OUT_MAX);
	assert_int_equal(t.server.request.command, SOCKS_CONNECT);
	assert_string_equal(t.server.username, "alice");
	assert_true(t.server.admitted);
	talk_end(&t);
}

/* After ASKED a further feed takes nothing of the stream. */
static void
test_asked_once(void **state)
{
	uint8_t in_memory[64], out_memory[SOCKS_SERVER_OUT_MAX];
	struct socks_server s;
	struct buffer in, out;
	struct bytes bytes;
	(void)state;
	buffer_init(&in, in_memory, sizeof in_memory);
	buffer_init(&out, out_memory, sizeof out_memory);
	socks_server_init(&s, &(struct socks_server_options){ .protocols = ALL, .methods = NONE });
	bytes_of(&bytes, "0401 0050 c0000201 00 0401 0050 c0000202 00");
	assert_true(buffer_append(&in, bytes.data, bytes.len));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(socks_server_feed(&s, &in, &out, i == 2), SHAKE_ASKED);
		assert_int_equal(buffer_len(&in), 9);
		assert_true(is_endpoint(&s.request.to, "192.0.2.1:80"));
	}
}

/* Tor's look-ups: only where they are served; the name only of an address, and in SOCKS5. */
static void
test_look_ups(void **state)
{
	static const struct {
		const char *what, *message;
		bool served;
		enum shake_result want;
		enum verdict verdict;
	} cases[] = {
		{ "RESOLVE", "050100 05f00003 01 61 0000", true, SHAKE_ASKED, VERDICT_GRANTED },
		{ "RESOLVE of an address", "050100 05f00001 c0000201 0050", true, SHAKE_ASKED, VERDICT_GRANTED },
		{ "RESOLVE_PTR", "050100 05f10001 c0000201 0000", true, SHAKE_ASKED, VERDICT_GRANTED },
		{ "RESOLVE_PTR of a name", "050100 05f10003 01 61 0000", true, SHAKE_BAD, VERDICT_ADDRESS_UNKNOWN },
		{ "RESOLVE, not served", "050100 05f00003 01 61 0000", false, SHAKE_BAD, VERDICT_COMMAND_UNKNOWN },
		{ "RESOLVE_PTR, not served", "050100 05f10001 c0000201 0000", false, SHAKE_BAD, VERDICT_COMMAND_UNKNOWN },
		{ "the next one", "050100 05f20003 01 61 0000", true, SHAKE_BAD, VERDICT_COMMAND_UNKNOWN },
		{ "in SOCKS4", "04f00050 c0000201 00", true, SHAKE_ASKED, VERDICT_GRANTED },
		{ "in SOCKS4a", "04f00000 00000001 00 61 00", true, SHAKE_ASKED, VERDICT_GRANTED },
		{ "in SOCKS4a, not served", "04f00000 00000001 00 61 00", false, SHAKE_BAD, VERDICT_COMMAND_UNKNOWN },
		{ "RESOLVE_PTR in SOCKS4", "04f10050 c0000201 00", true, SHAKE_BAD, VERDICT_COMMAND_UNKNOWN },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct socks_server s;
		struct bytes message;
		struct buffer in, out;
		uint8_t out_bytes[SOCKS_SERVER_OUT_MAX];
		bytes_of(&message, cases[i].message);
		socks_server_init(&s, &(struct socks_server_options){ .protocols = ALL, .tor_resolve = cases[i].served, .methods = NONE });
		buffer_init(&in, message.data, sizeof message.data);
		buffer_filled(&in, message.len);
		buffer_init(&out, out_bytes, sizeof out_bytes);
		enum shake_result result = socks_server_feed(&s, &in, &out, false);
		if (result != cases[i].want || (result == SHAKE_BAD && s.verdict != cases[i].verdict))
			fail_msg("%s: %d, %s", cases[i].what, result, verdict_text(s.verdict));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_look_ups),
		cmocka_unit_test(test_pieces_of_every_size),
		cmocka_unit_test(test_payload_behind_it),
		cmocka_unit_test(test_end_at_every_byte),
		cmocka_unit_test(test_too_little_room),
		cmocka_unit_test(test_reply_for_every_verdict),
		cmocka_unit_test(test_bound_of_each_kind),
		cmocka_unit_test(test_reply_at_other_times),
		cmocka_unit_test(test_what_the_session_learns),
		cmocka_unit_test(test_asked_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
