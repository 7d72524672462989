/*
 * socks_server: the proxy side of a client's handshake, as steps that each take one message.
 *
 *   FIRST -+-> SOCKS4 -----------------------------------------+-> ASKED
 *          +-> GREETING -+- none ---------------+-> REQUEST ---+
 *          |             +-> USERPASS -> CHECKING -+           |
 *          |             `-> GSSAPI <-> GSSAPI_CHECKING -> LEVEL -> LEVEL_CHECKING -> REQUEST
 *          +-> HTTP -> CHECKING -------------------------------+      any -> BAD
 */
#include "socks/server.h"

#include <assert.h>
#include <string.h>

#include "socks/gssapi.h"
#include "socks/http_connect.h"
#include "socks/parse.h"
#include "socks/socks4.h"
#include "socks/socks5.h"

enum {
	STEP_FIRST,                  /* nothing known: waits for the byte that tells the protocol */
	STEP_SOCKS4,
	STEP_GREETING,                         /* SOCKS5 from here ... */
	STEP_USERPASS,
	STEP_GSSAPI,
	STEP_GSSAPI_CHECKING,                  /* the session has the token */
	STEP_LEVEL,
	STEP_LEVEL_CHECKING,                   /* the session has the level */
	STEP_REQUEST,                          /* ... to here */
	STEP_HTTP,
	STEP_CHECKING,                         /* the session has the credentials */
	STEP_ASKED,
	STEP_BAD,
};

/* methods in which nothing goes over the wire */
static const unsigned like_none = AUTH_NONE | AUTH_IDENT;

void
socks_server_init(struct socks_server *s, const struct socks_server_options *o)
{
	explicit_bzero(s, sizeof *s);
	s->options = *o;
}

static void
wipe_password(struct socks_server *s)
{
	explicit_bzero(s->password, sizeof s->password);
	s->password_len = 0;
}

/* In SOCKS5 a refusal takes the form of the message that the client waits for. */
static size_t
write_socks5(const struct socks_server *s, enum verdict v, const struct endpoint *bound,
    uint8_t *msg, size_t cap)
{
	switch (s->step) {
	case STEP_GREETING: return socks5_write_choice(msg, cap, SOCKS5_METHOD_REFUSED);
	case STEP_USERPASS:
	case STEP_CHECKING: return socks5_write_status(msg, cap, false);
	case STEP_GSSAPI:
	case STEP_GSSAPI_CHECKING:
	case STEP_LEVEL:
	case STEP_LEVEL_CHECKING: return gssapi_write(msg, cap, GSSAPI_ABORT, NULL, 0);
	default: return socks5_write_reply(msg, cap, verdict_to_socks5(v), bound);
	}
}

/* Answers at the step where the client stands. False: out has no room. */
static bool
say(const struct socks_server *s, enum verdict v, const struct endpoint *bound, struct buffer *out)
{
	uint8_t msg[HTTP_ANSWER_MAX];
	size_t n = 0;
	switch (s->request.protocol) {
	case PROTOCOL_SOCKS4:
	case PROTOCOL_SOCKS4A:
		n = socks4_write_reply(msg, sizeof msg, verdict_to_socks4(v), bound);
		break;
	case PROTOCOL_SOCKS5:
		n = write_socks5(s, v, bound, msg, sizeof msg);
		break;
	case PROTOCOL_HTTP:
		n = http_write_answer(msg, sizeof msg, v);
		break;
	default:                          /* a stranger's protocol: no answer would be understood */
		break;
	}
	return buffer_append(out, msg, n);
}

static enum shake_result
end_badly(struct socks_server *s, enum verdict v)
{
	wipe_password(s);
	s->verdict = v;
	s->step = STEP_BAD;
	return SHAKE_BAD;
}

static enum shake_result
refuse(struct socks_server *s, enum verdict v, struct buffer *out)
{
	return end_badly(s, say(s, v, NULL, out) ? v : VERDICT_INTERNAL);
}

static bool
speaks(const struct socks_server *s, enum socks_protocol p)
{
	return (s->options.protocols & PROTOCOL_BIT(p)) != 0;
}

static bool
allows(const struct socks_server *s, unsigned methods)
{
	return (s->options.methods & methods) != 0;
}

/* Tor's extensions: of SOCKS4 and 4a, which can't carry a name back, only the one for an address. */
static bool
is_look_up(const struct socks_server *s)
{
	return s->options.tor_resolve &&
	    (s->request.command == SOCKS_RESOLVE ||
	    (s->request.command == SOCKS_RESOLVE_PTR && s->request.protocol == PROTOCOL_SOCKS5));
}

/* Only an address has a name to look for. */
static enum shake_result
take_look_up(struct socks_server *s, struct buffer *out)
{
	if (s->request.command == SOCKS_RESOLVE_PTR && !endpoint_is_address(&s->request.to))
		return refuse(s, VERDICT_ADDRESS_UNKNOWN, out);
	s->step = STEP_ASKED;
	return SHAKE_ASKED;
}

/* A whole request is there: may it be asked? */
static enum shake_result
take_request(struct socks_server *s, struct buffer *out)
{
	uint8_t last = s->request.protocol == PROTOCOL_SOCKS5 ? SOCKS_UDP : SOCKS_BIND;
	if (is_look_up(s))
		return take_look_up(s, out);
	if (s->request.command < SOCKS_CONNECT || s->request.command > last)
		return refuse(s, VERDICT_COMMAND_UNKNOWN, out);
	if (s->request.command == SOCKS_CONNECT && s->request.to.port == 0)
		return refuse(s, VERDICT_MALFORMED, out);
	s->step = STEP_ASKED;
	return SHAKE_ASKED;
}

/*
 * Keeps the credentials for the session to check. One with a NUL in it would be another one as a C
 * string: it is nobody's.
 */
static enum shake_result
take_credentials(struct socks_server *s, const struct credentials *c, struct buffer *out)
{
	if (memchr(c->username, 0, c->username_len) != NULL || memchr(c->password, 0,
	    c->password_len) != NULL)
		return refuse(s, VERDICT_BAD_CREDENTIALS, out);
	memcpy(s->username, c->username, c->username_len);
	s->username_len = (uint8_t)c->username_len;
	memcpy(s->password, c->password, c->password_len);
	s->password_len = (uint8_t)c->password_len;
	s->step = STEP_CHECKING;
	return SHAKE_AUTH;
}

static enum shake_result
feed_first(struct socks_server *s, struct buffer *in, struct buffer *out)
{
	if (buffer_len(in) == 0)
		return SHAKE_MORE;
	uint8_t first = *buffer_bytes(in);
	if (first == SOCKS4_VERSION) {
		s->request.protocol = PROTOCOL_SOCKS4;
		s->step = STEP_SOCKS4;
	} else if (first == SOCKS5_VERSION) {
		s->request.protocol = PROTOCOL_SOCKS5;
		s->step = STEP_GREETING;
	} else if ((first >= 'A' && first <= 'Z') || (first >= 'a' && first <= 'z')) {
		s->request.protocol = PROTOCOL_HTTP;
		s->step = STEP_HTTP;
	} else {
		return refuse(s, VERDICT_MALFORMED, out);
	}
	return SHAKE_MORE;
}

static enum shake_result
feed_socks4(struct socks_server *s, struct buffer *in, struct buffer *out)
{
	struct socks4_request req;
	size_t used;
	enum parse_result result = socks4_parse_request(buffer_bytes(in), buffer_len(in), &req,
	    &used);
	if (result == PARSE_MORE)
		return SHAKE_MORE;
	if (result == PARSE_BAD)
		return refuse(s, VERDICT_MALFORMED, out);
	s->request.protocol = req.is_4a ? PROTOCOL_SOCKS4A : PROTOCOL_SOCKS4;
	s->request.command = req.command;
	s->request.to = req.to;
	memcpy(s->request.userid, req.userid, req.userid_len + 1);
	buffer_take(in, used);
	if (!speaks(s, s->request.protocol))
		return refuse(s, VERDICT_NO_PROTOCOL, out);
	if (!allows(s, like_none))
		return refuse(s, VERDICT_NO_METHOD, out);
	return take_request(s, out);
}

/* A method as SOCKS5 numbers it, strongest first, and the step that it leads to. */
static const struct choice {
	unsigned offered, allowed;             /* either of those that are allowed will do */
	enum socks5_method method;
	uint8_t step;
} choices[] = {
	{ AUTH_GSSAPI, AUTH_GSSAPI, SOCKS5_METHOD_GSSAPI, STEP_GSSAPI },
	{ AUTH_USERPASS, AUTH_USERPASS, SOCKS5_METHOD_USERPASS, STEP_USERPASS },
	{ AUTH_NONE, AUTH_NONE | AUTH_IDENT, SOCKS5_METHOD_NONE, STEP_REQUEST },
};

static const struct choice *
choose(const struct socks_server *s, unsigned offered)
{
	for (size_t i = 0; i < ARRAY_LEN(choices); i++)
		if ((offered & choices[i].offered) != 0 && allows(s, choices[i].allowed))
			return &choices[i];
	return NULL;
}

static enum shake_result
feed_greeting(struct socks_server *s, struct buffer *in, struct buffer *out)
{
	unsigned offered;
	size_t used;
	enum parse_result result = socks5_parse_greeting(buffer_bytes(in), buffer_len(in), &offered,
	    &used);
	if (result != PARSE_OK)
		return SHAKE_MORE;          /* never BAD: the version was looked at in feed_first */
	buffer_take(in, used);
	if (!speaks(s, PROTOCOL_SOCKS5))
		return refuse(s, VERDICT_NO_PROTOCOL, out);
	const struct choice *choice = choose(s, offered);
	if (choice == NULL)
		return refuse(s, VERDICT_NO_METHOD, out);
	uint8_t msg[2];
	size_t n = socks5_write_choice(msg, sizeof msg, choice->method);
	if (!buffer_append(out, msg, n))
		return end_badly(s, VERDICT_INTERNAL);
	s->step = choice->step;
	return SHAKE_MORE;
}

/* A message of the GSS-API method, of the one type that is due. */
static enum shake_result
feed_gssapi(struct socks_server *s, struct buffer *in, struct buffer *out)
{
	bool is_level = s->step == STEP_LEVEL;
	enum gssapi_type due = is_level ? GSSAPI_LEVEL : GSSAPI_CONTEXT;
	struct gssapi_message m;
	size_t used;
	enum parse_result result = gssapi_parse(buffer_bytes(in), buffer_len(in), &m, &used);
	if (result == PARSE_OK && m.type == GSSAPI_ABORT)
		return end_badly(s, VERDICT_CUT_SHORT);
	if (result == PARSE_BAD || (buffer_len(in) >= 2 && m.type != due))
		return refuse(s, VERDICT_MALFORMED, out);
	if (result == PARSE_MORE)
		return SHAKE_MORE;
	buffer_take(in, used);
	s->token = m.token;
	s->token_len = m.len;
	s->step = is_level ? STEP_LEVEL_CHECKING : STEP_GSSAPI_CHECKING;
	return is_level ? SHAKE_LEVEL : SHAKE_TOKEN;
}

static enum shake_result
feed_userpass(struct socks_server *s, struct buffer *in, struct buffer *out)
{
	struct credentials c;
	size_t used;
	enum parse_result parsed = socks5_parse_userpass(buffer_bytes(in), buffer_len(in), &c,
	    &used);
	if (parsed == PARSE_MORE)
		return SHAKE_MORE;
	if (parsed == PARSE_BAD)
		return refuse(s, VERDICT_MALFORMED, out);
	enum shake_result result = take_credentials(s, &c, out);
	buffer_take(in, used);
	return result;
}

static enum shake_result
feed_request(struct socks_server *s, struct buffer *in, struct buffer *out)
{
	struct socks5_request req;
	size_t used;
	enum parse_result result = socks5_parse_request(buffer_bytes(in), buffer_len(in), &req,
	    &used);
	if (result == PARSE_MORE)
		return SHAKE_MORE;
	if (result == PARSE_BAD)
		return refuse(s, req.fault, out);
	s->request.command = req.command;
	endpoint_copy(&s->request.to, &req.to);
	buffer_take(in, used);
	return take_request(s, out);
}

/* Who asks, as Proxy-Authorization says; nobody is good enough where none is allowed too. */
static enum shake_result
check_authorization(struct socks_server *s, const struct http_request *req, struct buffer *out)
{
	uint8_t plain[HTTP_BASIC_MAX];
	struct credentials c;
	enum shake_result result;
	if (!allows(s, AUTH_USERPASS) || req->authorization == NULL)
		return allows(s, like_none) ? take_request(s, out) : refuse(s, VERDICT_NO_METHOD,
		    out);
	switch (http_read_authorization(req->authorization, req->authorization_len, plain, &c)) {
	case HTTP_BASIC:
		result = take_credentials(s, &c, out);
		break;
	case HTTP_OTHER_SCHEME:
		result = refuse(s, VERDICT_NO_METHOD, out);
		break;
	default:
		result = refuse(s, VERDICT_BAD_CREDENTIALS, out);
	}
	explicit_bzero(plain, sizeof plain);
	return result;
}

static enum shake_result
feed_http(struct socks_server *s, struct buffer *in, struct buffer *out)
{
	struct http_request req;
	size_t used;
	enum parse_result parsed = http_parse_request(buffer_bytes(in), buffer_len(in), &req,
	    &used);
	if (parsed == PARSE_MORE)
		return SHAKE_MORE;
	if (!speaks(s, PROTOCOL_HTTP))
		return refuse(s, VERDICT_NO_PROTOCOL, out);
	if (parsed == PARSE_BAD || (req.is_connect && req.to.port == 0))
		return refuse(s, VERDICT_MALFORMED, out);
	if (!req.is_connect)
		return refuse(s, VERDICT_COMMAND_UNKNOWN, out);
	s->request.command = SOCKS_CONNECT;
	s->request.to = req.to;
	enum shake_result result = check_authorization(s, &req, out);
	buffer_take(in, used);
	return result;
}

static enum shake_result
feed_step(struct socks_server *s, struct buffer *in, struct buffer *out)
{
	switch (s->step) {
	case STEP_FIRST: return feed_first(s, in, out);
	case STEP_SOCKS4: return feed_socks4(s, in, out);
	case STEP_GREETING: return feed_greeting(s, in, out);
	case STEP_USERPASS: return feed_userpass(s, in, out);
	case STEP_GSSAPI:
	case STEP_LEVEL: return feed_gssapi(s, in, out);
	case STEP_GSSAPI_CHECKING: return SHAKE_TOKEN;
	case STEP_LEVEL_CHECKING: return SHAKE_LEVEL;
	case STEP_REQUEST: return feed_request(s, in, out);
	case STEP_HTTP: return feed_http(s, in, out);
	case STEP_CHECKING: return SHAKE_AUTH;
	case STEP_ASKED: return SHAKE_ASKED;
	default: return SHAKE_BAD;
	}
}

enum shake_result
socks_server_feed(struct socks_server *s, struct buffer *in, struct buffer *out, bool eof)
{
	enum shake_result result;
	uint8_t step;
	do {                                   /* the next message may be there already */
		step = s->step;
		result = feed_step(s, in, out);
	} while (result == SHAKE_MORE && s->step != step);
	return result == SHAKE_MORE && eof ? end_badly(s, VERDICT_CUT_SHORT) : result;
}

void
socks_server_admit(struct socks_server *s, struct buffer *out)
{
	assert(s->step == STEP_CHECKING);
	wipe_password(s);
	s->admitted = true;
	if (s->request.protocol == PROTOCOL_HTTP) {
		s->step = STEP_ASKED;          /* the head held the request too */
		return;
	}
	uint8_t msg[2];
	size_t n = socks5_write_status(msg, sizeof msg, true);
	s->step = STEP_REQUEST;
	if (!buffer_append(out, msg, n))
		end_badly(s, VERDICT_INTERNAL);
}

size_t
socks_server_in_max(const struct socks_server *s)
{
	bool is_gssapi = s->step >= STEP_GSSAPI && s->step <= STEP_LEVEL_CHECKING;
	return is_gssapi ? GSSAPI_MESSAGE_MAX : SOCKS_SERVER_IN_MAX;
}

static bool
append_gssapi(struct buffer *out, enum gssapi_type type, const uint8_t *token, size_t len)
{
	uint8_t msg[SOCKS_SERVER_OUT_MAX];
	size_t n = gssapi_write(msg, sizeof msg, type, token, len);
	return n > 0 && buffer_append(out, msg, n);
}

void
socks_server_give_token(struct socks_server *s, const uint8_t *token, size_t len, bool established,
    struct buffer *out)
{
	assert(s->step == STEP_GSSAPI_CHECKING);
	s->step = established ? STEP_LEVEL : STEP_GSSAPI;
	if (len > 0 && !append_gssapi(out, GSSAPI_CONTEXT, token, len))
		end_badly(s, VERDICT_INTERNAL);
}

void
socks_server_agree(struct socks_server *s, const uint8_t *token, size_t len, struct buffer *out)
{
	assert(s->step == STEP_LEVEL_CHECKING);
	s->step = STEP_REQUEST;
	s->admitted = true;
	if (!append_gssapi(out, GSSAPI_LEVEL, token, len))
		end_badly(s, VERDICT_INTERNAL);
}

static bool
waits_for_session(const struct socks_server *s)
{
	return s->step == STEP_CHECKING || s->step == STEP_GSSAPI_CHECKING ||
	    s->step == STEP_LEVEL_CHECKING;
}

void
socks_server_deny(struct socks_server *s, struct buffer *out)
{
	assert(waits_for_session(s));
	refuse(s, VERDICT_BAD_CREDENTIALS, out);
}

void
socks_server_reply(const struct socks_server *s, enum verdict v, const struct endpoint *bound,
    struct buffer *out)
{
	assert(v != VERDICT_GRANTED || s->step == STEP_ASKED);
	if (s->step == STEP_ASKED || waits_for_session(s))
		(void)say(s, v, bound, out);
}

unsigned
socks_server_code(enum socks_protocol p, enum verdict v)
{
	switch (p) {
	case PROTOCOL_SOCKS4:
	case PROTOCOL_SOCKS4A: return verdict_to_socks4(v);
	case PROTOCOL_SOCKS5: return v == VERDICT_NO_METHOD ? SOCKS5_METHOD_REFUSED :
	    verdict_to_socks5(v);
	case PROTOCOL_HTTP: return verdict_to_http(v);
	default: return 0;
	}
}
