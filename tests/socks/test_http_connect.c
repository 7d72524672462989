/*
 * test_http_connect: heads of requests and responses cut at every byte, answers, and Basic
 * credentials both ways.
 */
#include "socks/http_connect.h"

#include "tests/socks/vectors.h"

static enum parse_result
parse_request(const uint8_t *in, size_t len, void *value, size_t *used)
{
	return http_parse_request(in, len, value, used);
}

static enum parse_result
parse_response(const uint8_t *in, size_t len, void *value, size_t *used)
{
	return http_parse_response(in, len, value, used);
}

#define LINE "'CONNECT a:443 HTTP/1.1' ~"

static const struct {
	const char *what, *in;
	enum parse_result want;
	size_t decides;
	const char *to;                        /* NULL: another method */
	const char *authorization;
} requests[] = {
	{ "shortest", "'CONNECT a:443 HTTP/1.1' ~~", PARSE_OK, 0, "a:443", NULL },
	{ "as curl sends it",
	  "'CONNECT a.b:443 HTTP/1.1' ~ 'Host: a.b:443' ~ 'User-Agent: curl/7' ~"
	  "'Proxy-Connection: Keep-Alive' ~~", PARSE_OK, 0, "a.b:443", NULL },
	{ "HTTP/1.0 and bare LF", "'CONNECT 192.0.2.1:80 HTTP/1.0' 0a 'A: b' 0a0a", PARSE_OK, 0,
	  "192.0.2.1:80", NULL },
	{ "LF, then CRLF", LINE "'A:' 0a ~", PARSE_OK, 0, "a:443", NULL },
	{ "IPv6", "'CONNECT [2001:db8::1]:443 HTTP/1.1' ~~", PARSE_OK, 0, "[2001:db8::1]:443",
	  NULL },
	{ "address in another spelling", "'CONNECT 0x7f.1:80 HTTP/1.1' ~~", PARSE_OK, 0,
	  "127.0.0.1:80", NULL },
	{ "port 0 is the caller's to judge", "'CONNECT a:0 HTTP/1.1' ~~", PARSE_OK, 0, "a:0",
	  NULL },
	{ "payload behind it", LINE "~ 'payload' ~~", PARSE_OK, 26, "a:443", NULL },
	{ "credentials", LINE "'proxy-AUTHORIZATION:' 09 'Basic YTpi ' ~~", PARSE_OK, 0, "a:443",
	  "Basic YTpi" },
	{ "tabs in and behind a value", LINE "'Proxy-Authorization: x' 09 'y' 09 ~~", PARSE_OK, 0,
	  "a:443", "x\ty" },
	{ "empty value", LINE "'Proxy-Authorization:   ' ~~", PARSE_OK, 0, "a:443", "" },
	{ "another header of that length", LINE "'Proxy-Authorizatiox: b' ~~", PARSE_OK, 0, "a:443",
	  NULL },
	{ "bytes over 0x7f in a value", LINE "'A: ' c3a4 ~~", PARSE_OK, 0, "a:443", NULL },
	{ "GET", "'GET http://a/ HTTP/1.1' ~~", PARSE_OK, 0, NULL, NULL },
	{ "methods are case-sensitive", "'connect a:443 HTTP/1.1' ~~", PARSE_OK, 0, NULL, NULL },
	{ "longer method", "'CONNECTS a:443 HTTP/1.1' ~~", PARSE_OK, 0, NULL, NULL },
	{ "HTTP/2 preface", "'PRI * HTTP/2.0' ~", PARSE_BAD, 0, NULL, NULL },
	{ "HTTP/1.", "'CONNECT a:443 HTTP/1.' ~", PARSE_BAD, 0, NULL, NULL },
	{ "HTTP/1.x", "'CONNECT a:443 HTTP/1.x' ~", PARSE_BAD, 0, NULL, NULL },
	{ "no version", "'CONNECT a:443' ~", PARSE_BAD, 0, NULL, NULL },
	{ "no target", "'CONNECT  HTTP/1.1' ~", PARSE_BAD, 0, NULL, NULL },
	{ "GET without a target", "'GET  HTTP/1.1' ~", PARSE_BAD, 0, NULL, NULL },
	{ "two spaces", "'CONNECT  a:443 HTTP/1.1' ~", PARSE_BAD, 0, NULL, NULL },
	{ "space behind the version", "'CONNECT a:443 HTTP/1.1 ' ~", PARSE_BAD, 0, NULL, NULL },
	{ "a word", "'CONNECT' ~", PARSE_BAD, 0, NULL, NULL },
	{ "no method", "' a:443 HTTP/1.1' ~", PARSE_BAD, 0, NULL, NULL },
	{ "no token", "'CONN(ECT a:443 HTTP/1.1' ~", PARSE_BAD, 0, NULL, NULL },
	{ "no token, between Z and a", "'CONN[ECT a:443 HTTP/1.1' ~", PARSE_BAD, 0, NULL, NULL },
	{ "no token, behind z", "'CONN{ECT a:443 HTTP/1.1' ~", PARSE_BAD, 0, NULL, NULL },
	{ "NUL in the method", "'CON' 00 'NECT a:443 HTTP/1.1' ~", PARSE_BAD, 0, NULL, NULL },
	{ "LF first", "0a", PARSE_BAD, 0, NULL, NULL },
	{ "empty line first", "~", PARSE_BAD, 0, NULL, NULL },
	{ "no port", "'CONNECT a HTTP/1.1' ~", PARSE_BAD, 0, NULL, NULL },
	{ "port over 65535", "'CONNECT a:65536 HTTP/1.1' ~", PARSE_BAD, 0, NULL, NULL },
	{ "port of six digits", "'CONNECT a:000080 HTTP/1.1' ~", PARSE_BAD, 0, NULL, NULL },
	{ "no host", "'CONNECT :443 HTTP/1.1' ~", PARSE_BAD, 0, NULL, NULL },
	{ "URL as target", "'CONNECT http://a:443/ HTTP/1.1' ~", PARSE_BAD, 0, NULL, NULL },
	{ "user in the target", "'CONNECT u@a:443 HTTP/1.1' ~", PARSE_BAD, 0, NULL, NULL },
	{ "IPv6 without brackets", "'CONNECT ::1:443 HTTP/1.1' ~", PARSE_BAD, 0, NULL, NULL },
	{ "tab in the target", "'CONNECT a' 09 'b:443 HTTP/1.1' ~", PARSE_BAD, 0, NULL, NULL },
	{ "CR in the target", "'CONNECT a' 0d 'b:443 HTTP/1.1' ~", PARSE_BAD, 0, NULL, NULL },
	{ "folded header", LINE "'A: b' ~ ' c' ~", PARSE_BAD, 0, NULL, NULL },
	{ "space before the colon", LINE "'A : b' ~", PARSE_BAD, 0, NULL, NULL },
	{ "header without a colon", LINE "'Abc' ~", PARSE_BAD, 0, NULL, NULL },
	{ "header without a name", LINE "': b' ~", PARSE_BAD, 0, NULL, NULL },
	{ "NUL in a header", LINE "'A: b' 00 ~", PARSE_BAD, 0, NULL, NULL },
	{ "0x7f in a header", LINE "'A: b' 7f ~", PARSE_BAD, 0, NULL, NULL },
	{ "CR in a header", LINE "'A: b' 0d 'c' ~", PARSE_BAD, 0, NULL, NULL },
	{ "two CRs", LINE "0d ~", PARSE_BAD, 0, NULL, NULL },
	{ "credentials twice", LINE
	  "'Proxy-Authorization: Basic YTpi' ~ 'proxy-authorization: x' ~", PARSE_BAD, 0, NULL,
	  NULL },
};

static void
test_requests(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		struct bytes in;
		struct http_request req;
		bytes_of(&in, requests[i].in);
		check_at_every_cut(requests[i].what, parse_request, &req, &in,
		    requests[i].want, requests[i].decides);
		if (requests[i].want != PARSE_OK)
			continue;
		assert_int_equal(req.is_connect, requests[i].to != NULL);
		if (req.is_connect)
			check_endpoint(requests[i].what, &req.to, requests[i].to);
		if (requests[i].authorization == NULL) {
			assert_null(req.authorization);
		} else {
			assert_int_equal(req.authorization_len, strlen(requests[i].authorization));
			assert_memory_equal(req.authorization, requests[i].authorization,
			    req.authorization_len);
		}
	}
}

static const struct {
	const char *what, *in;
	enum parse_result want;
	size_t decides;
	uint16_t status;
} responses[] = {
	{ "200", "'HTTP/1.1 200 Connection established' ~~", PARSE_OK, 0, 200 },
	{ "HTTP/1.0", "'HTTP/1.0 200 OK' ~ 'Via: x' ~~", PARSE_OK, 0, 200 },
	{ "no reason", "'HTTP/1.1 200' ~~", PARSE_OK, 0, 200 },
	{ "empty reason, bare LF", "'HTTP/1.1 299 ' 0a0a", PARSE_OK, 0, 299 },
	{ "a length that does not count", "'HTTP/1.1 200 OK' ~ 'Content-Length: 5' ~~ 'hello'",
	  PARSE_OK, 38, 200 },
	{ "chunked that does not count",
	  "'HTTP/1.1 204 x' ~ 'Transfer-Encoding: chunked' ~~ '0' ~~", PARSE_OK, 46, 204 },
	{ "folded header", "'HTTP/1.1 200 OK' ~ 'A: b' ~ ' c' ~~", PARSE_OK, 0, 200 },
	{ "interim", "'HTTP/1.1 100 Continue' ~~ 'HTTP/1.1'", PARSE_OK, 25, 100 },
	{ "refused: its line is enough", "'HTTP/1.1 403 Forbidden' ~ 'Content-'", PARSE_OK, 24,
	  403 },
	{ "moved", "'HTTP/1.1 302' 0a", PARSE_OK, 0, 302 },
	{ "the first that is no success", "'HTTP/1.1 300 x' ~", PARSE_OK, 0, 300 },
	{ "SOCKS5", "0500", PARSE_BAD, 1, 0 },
	{ "HTTP/2", "'HTTP/2'", PARSE_BAD, 6, 0 },
	{ "ICY", "'ICY 200 OK' ~", PARSE_BAD, 1, 0 },
	{ "no version digit", "'HTTP/1.x 200 OK' ~", PARSE_BAD, 0, 0 },
	{ "no space", "'HTTP/1.1-200 OK' ~", PARSE_BAD, 0, 0 },
	{ "two spaces", "'HTTP/1.1  200 OK' ~", PARSE_BAD, 0, 0 },
	{ "four digits", "'HTTP/1.1 2000 OK' ~", PARSE_BAD, 0, 0 },
	{ "two digits", "'HTTP/1.1 20 OK' ~", PARSE_BAD, 0, 0 },
	{ "no third digit", "'HTTP/1.1 20x OK' ~", PARSE_BAD, 0, 0 },
	{ "no second digit", "'HTTP/1.1 2x0 OK' ~", PARSE_BAD, 0, 0 },
	{ "status 099", "'HTTP/1.1 099 x' ~", PARSE_BAD, 0, 0 },
	{ "status 600", "'HTTP/1.1 600 x' ~", PARSE_BAD, 0, 0 },
	{ "nothing behind the version", "'HTTP/1.1' ~", PARSE_BAD, 0, 0 },
};

static void
test_responses(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(responses); i++) {
		struct bytes in;
		uint16_t status;
		bytes_of(&in, responses[i].in);
		check_at_every_cut(responses[i].what, parse_response, &status, &in,
		    responses[i].want, responses[i].decides);
		if (responses[i].want == PARSE_OK)
			assert_int_equal(status, responses[i].status);
	}
}

/* A head of just HTTP_HEAD_MAX is taken; one byte more, or no end by then, is not. */
static void
check_head_limit(parse_fn *parse, const char *first_line)
{
	struct bytes in;
	union {
		struct http_request request;
		uint16_t status;
	} value;
	size_t used;
	bytes_of(&in, first_line);
	bytes_add(&in, "A: ", 3);
	memset(in.data + in.len, 'a', HTTP_HEAD_MAX);
	memcpy(in.data + HTTP_HEAD_MAX - 4, "\r\n\r\n", 4);
	in.len = HTTP_HEAD_MAX + 10;
	check_at_every_cut("at the limit", parse, &value, &in, PARSE_OK, HTTP_HEAD_MAX);
	memcpy(in.data + HTTP_HEAD_MAX - 4, "a\r\n\r\n", 5);
	assert_int_equal(parse(in.data, in.len, &value, &used), PARSE_BAD);
	assert_int_equal(parse(in.data, HTTP_HEAD_MAX, &value, &used), PARSE_BAD);
	assert_int_equal(parse(in.data, HTTP_HEAD_MAX - 1, &value, &used), PARSE_MORE);
}

static void
test_head_limit(void **state)
{
	struct bytes in;
	struct http_request req;
	uint16_t status;
	(void)state;
	check_head_limit(parse_request, LINE);
	check_head_limit(parse_response, "'HTTP/1.1 200 OK' ~");
	check_at_every_cut("endless line", parse_request, &req, bytes_of(&in, "41*8300"), PARSE_BAD,
	    HTTP_HEAD_MAX);
	check_at_every_cut("endless line", parse_response, &status,
	    bytes_of(&in, "'HTTP/1.1 200 ' 41*8300"),
	    PARSE_BAD, HTTP_HEAD_MAX);
}

static size_t
write_answer(uint8_t *out, size_t cap, const void *arg)
{
	return http_write_answer(out, cap, *(const enum verdict *)arg);
}

#define ERROR_FIELDS(length)                                                                       \
	"'Content-Type: text/plain' ~ 'Content-Length: " length "' ~ 'Connection: close' ~~"

static void
test_answers(void **state)
{
	static const struct { enum verdict verdict; const char *want; } answers[] = {
		{ VERDICT_GRANTED, "'HTTP/1.1 200 Connection established' ~~" },
		{ VERDICT_REJECTED,
		  "'HTTP/1.1 403 Forbidden' ~" ERROR_FIELDS("19") "'rejected by policy' 0a" },
		{ VERDICT_COMMAND_UNKNOWN,
		  "'HTTP/1.1 405 Method Not Allowed' ~ 'Allow: CONNECT' ~" ERROR_FIELDS("30")
		  "'this proxy takes CONNECT only' 0a" },
		{ VERDICT_BAD_CREDENTIALS,
		  "'HTTP/1.1 407 Proxy Authentication Required' ~"
		  "'Proxy-Authenticate: Basic realm=\"sockroute\"' ~" ERROR_FIELDS("16")
		  "'bad credentials' 0a" },
		{ VERDICT_NO_PROTOCOL,
		  "'HTTP/1.1 501 Not Implemented' ~" ERROR_FIELDS("33")
		  "'this port speaks SOCKS, not HTTP' 0a" },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(answers); i++)       /* snprintf wants room for its NUL */
		check_writer(verdict_text(answers[i].verdict), write_answer, &answers[i].verdict,
		    answers[i].want, 1);
}

/* Each error names its status and reason, and its length is that of its one line. */
static void
test_every_error_is_whole(void **state)
{
	static const struct { uint16_t status; const char *reason; } reasons[] = {
		{ 400, "Bad Request" }, { 403, "Forbidden" }, { 405, "Method Not Allowed" },
		{ 407, "Proxy Authentication Required" }, { 501, "Not Implemented" },
		{ 502, "Bad Gateway" }, { 503, "Service Unavailable" }, { 504, "Gateway Timeout" },
	};
	(void)state;
	for (enum verdict v = VERDICT_GRANTED + 1; v < VERDICT_N; v++) {
		char out[HTTP_ANSWER_MAX + 1], first[80];
		size_t len = http_write_answer((uint8_t *)out, HTTP_ANSWER_MAX, v), i = 0;
		assert_true(len > 0);
		out[len] = '\0';
		while (reasons[i].status != verdict_to_http(v))
			assert_true(++i < ARRAY_LEN(reasons));
		snprintf(first, sizeof first, "HTTP/1.1 %u %s\r\n", reasons[i].status,
		    reasons[i].reason);
		assert_memory_equal(out, first, strlen(first));
		const char *body = strstr(out, "\r\n\r\n") + 4;
		const char *length = strstr(out, "Content-Length: ");
		assert_int_equal(strtoul(length + 16, NULL, 10), strlen(body));
		assert_ptr_equal(strchr(body, '\n'), out + len - 1);
	}
}

static const struct {
	const char *value;
	enum http_authorization want;
	const char *username, *password;
} authorizations[] = {
	{ "Basic YWxpY2U6c2VjcmV0", HTTP_BASIC, "alice", "secret" },
	{ "bAsIc YTpi", HTTP_BASIC, "a", "b" },
	{ "Basic  \t YTpiYw==", HTTP_BASIC, "a", "bc" },
	{ "Basic YTpiYzo=", HTTP_BASIC, "a", "bc:" },
	{ "Basic Og==", HTTP_BASIC, "", "" },
	{ "Basic OiD/", HTTP_BASIC, "", " \xff" },
	{ "Basic Oj8+", HTTP_BASIC, "", "?>" },
	{ "Basic OkA=", HTTP_BASIC, "", "@" },
	{ "", HTTP_OTHER_SCHEME, NULL, NULL },
	{ "Basi YTpi", HTTP_OTHER_SCHEME, NULL, NULL },
	{ "b YTpi", HTTP_OTHER_SCHEME, NULL, NULL },
	{ "Basics YTpi", HTTP_OTHER_SCHEME, NULL, NULL },
	{ "Bearer YTpi", HTTP_OTHER_SCHEME, NULL, NULL },
	{ "Digit YTpi", HTTP_OTHER_SCHEME, NULL, NULL },
	{ "Basic", HTTP_BASIC_BAD, NULL, NULL },
	{ "Basic YTp", HTTP_BASIC_BAD, NULL, NULL },
	{ "Basic YTpi=", HTTP_BASIC_BAD, NULL, NULL },
	{ "Basic YTpi====", HTTP_BASIC_BAD, NULL, NULL },
	{ "Basic ====", HTTP_BASIC_BAD, NULL, NULL },
	{ "Basic YTpiY===", HTTP_BASIC_BAD, NULL, NULL },
	{ "Basic Og=a", HTTP_BASIC_BAD, NULL, NULL },
	{ "Basic YTpiYw==YTpi", HTTP_BASIC_BAD, NULL, NULL },
	{ "Basic YT i", HTTP_BASIC_BAD, NULL, NULL },
	{ "Basic YT_i", HTTP_BASIC_BAD, NULL, NULL },
	{ "Basic Oh==", HTTP_BASIC_BAD, NULL, NULL },
	{ "Basic YTpiYzp=", HTTP_BASIC_BAD, NULL, NULL },
	{ "Basic YWxpY2U=", HTTP_BASIC_BAD, NULL, NULL },
};

static void
test_authorizations(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(authorizations); i++) {
		uint8_t plain[HTTP_BASIC_MAX];
		struct credentials c;
		size_t len = strlen(authorizations[i].value);
		uint8_t *value = exact_copy(authorizations[i].value, len);
		enum http_authorization result = http_read_authorization((char *)value, len, plain,
		    &c);
		free(value);
		if (result != authorizations[i].want)
			fail_msg("%s: %d, not %d", authorizations[i].value, result,
			    authorizations[i].want);
		if (result != HTTP_BASIC)
			continue;
		assert_int_equal(c.username_len, strlen(authorizations[i].username));
		assert_memory_equal(c.username, authorizations[i].username, c.username_len);
		assert_int_equal(c.password_len, strlen(authorizations[i].password));
		assert_memory_equal(c.password, authorizations[i].password, c.password_len);
	}
}

static void
test_nul_in_basic_is_no_digit(void **state)
{
	uint8_t plain[HTTP_BASIC_MAX];
	struct credentials c;
	(void)state;
	assert_int_equal(http_read_authorization("Basic YTp\0", 10, plain, &c), HTTP_BASIC_BAD);
}

/*
 * What http_write_connect encodes, http_read_authorization decodes: every length up to the longest,
 * and over it.
 */
static void
test_credentials_there_and_back(void **state)
{
	struct endpoint to = endpoint_of("[2001:db8::1]:443");
	(void)state;
	for (size_t n = 0; n <= 256; n++) {
		char username[257], password[257];
		uint8_t out[2048], plain[HTTP_BASIC_MAX];
		struct http_request req;
		struct credentials c;
		size_t used;
		memset(username, 'u', 256), memset(password, ':', 256);
		username[n > 0 ? n : 1] = password[n] = '\0';
		size_t len = http_write_connect(out, sizeof out, &to, username, password);
		if (n > HTTP_CREDENTIAL_MAX) {
			assert_int_equal(len, 0);
			continue;
		}
		assert_int_equal(http_parse_request(out, len, &req, &used), PARSE_OK);
		assert_int_equal(used, len);
		check_endpoint("target", &req.to, "[2001:db8::1]:443");
		assert_int_equal(http_read_authorization(req.authorization, req.authorization_len,
		    plain, &c), HTTP_BASIC);
		assert_int_equal(c.username_len, strlen(username));
		assert_memory_equal(c.username, username, c.username_len);
		assert_int_equal(c.password_len, n);
		assert_memory_equal(c.password, password, n);
	}
}

/* Base64 of 256 bytes before the colon, behind it, and of more than both may have. */
static void
test_credentials_too_long_to_read(void **state)
{
	uint8_t plain[HTTP_BASIC_MAX];
	struct credentials c;
	struct bytes in;
	(void)state;
	bytes_of(&in, "'Basic '");
	for (int i = 0; i < 85; i++)
		bytes_add(&in, "dXV1", 4);             /* "uuu" */
	size_t longest = in.len;
	bytes_add(&in, "Og==", 4);                     /* 255 and ":" */
	assert_int_equal(http_read_authorization((char *)in.data, in.len, plain, &c), HTTP_BASIC);
	in.len = longest;
	bytes_add(&in, "dTo=", 4);                     /* 256 and ":" */
	assert_int_equal(http_read_authorization((char *)in.data, in.len, plain, &c),
	    HTTP_BASIC_BAD);
	bytes_of(&in, "'Basic OnV1'");                 /* ":uu" */
	for (int i = 0; i < 84; i++)
		bytes_add(&in, "dXV1", 4);
	bytes_add(&in, "dQ==", 4);                     /* 255 behind the colon */
	assert_int_equal(http_read_authorization((char *)in.data, in.len, plain, &c), HTTP_BASIC);
	memcpy(in.data + in.len - 4, "dXU=", 4);       /* 256 */
	assert_int_equal(http_read_authorization((char *)in.data, in.len, plain, &c),
	    HTTP_BASIC_BAD);
	for (int i = 0; i < 100; i++)
		memcpy(in.data + in.len - 4, "dXV1", 4), bytes_add(&in, "dXV1", 4);
	assert_int_equal(http_read_authorization((char *)in.data, in.len, plain, &c),
	    HTTP_BASIC_BAD);
}

struct asked {
	const char *to, *username, *password;
};

static size_t
write_connect(uint8_t *out, size_t cap, const void *arg)
{
	const struct asked *asked = arg;
	struct endpoint to = endpoint_of(asked->to);
	return http_write_connect(out, cap, &to, asked->username, asked->password);
}

static void
test_connects(void **state)
{
	uint8_t out[2048];
	struct endpoint to = endpoint_of("a:443");
	char longest[257];
	(void)state;
	check_writer("plain", write_connect, &(struct asked){ "a:443", NULL, NULL },
	    "'CONNECT a:443 HTTP/1.1' ~ 'Host: a:443' ~~", 0);
	check_writer("IPv6, empty user", write_connect, &(struct asked){ "[::1]:80", "", "x" },
	    "'CONNECT [::1]:80 HTTP/1.1' ~ 'Host: [::1]:80' ~~", 0);
	check_writer("credentials", write_connect, &(struct asked){ "a:443", "alice", "secret" },
	    LINE "'Host: a:443' ~ 'Proxy-Authorization: Basic YWxpY2U6c2VjcmV0' ~~", 0);
	check_writer("no password", write_connect, &(struct asked){ "a:443", "bc", NULL },
	    LINE "'Host: a:443' ~ 'Proxy-Authorization: Basic YmM6' ~~", 0);
	assert_int_equal(http_write_connect(out, sizeof out, &to, "a:b", "c"), 0);
	memset(longest, 'u', 256);
	longest[256] = '\0';
	assert_int_equal(http_write_connect(out, sizeof out, &to, longest, ""), 0);
	assert_int_equal(http_write_connect(out, sizeof out, &to, "u", longest), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_responses),
		cmocka_unit_test(test_head_limit),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_every_error_is_whole),
		cmocka_unit_test(test_authorizations),
		cmocka_unit_test(test_nul_in_basic_is_no_digit),
		cmocka_unit_test(test_credentials_there_and_back),
		cmocka_unit_test(test_credentials_too_long_to_read),
		cmocka_unit_test(test_connects),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
