/*
 * test_socks4: every message of SOCKS4 and 4a, cut at every byte and written into every size of
 * memory.
 */
#include "socks/socks4.h"

#include "tests/socks/vectors.h"

static enum parse_result
parse_request(const uint8_t *in, size_t len, void *value, size_t *used)
{
	return socks4_parse_request(in, len, value, used);
}

static enum parse_result
parse_reply(const uint8_t *in, size_t len, void *value, size_t *used)
{
	return socks4_parse_reply(in, len, value, used);
}

static const struct {
	const char *what, *in;
	enum parse_result want;
	size_t decides;
	const char *to;
	bool is_4a;
	size_t userid_len;
} requests[] = {
	{ "address", "0401 0050 c0000201 00", PARSE_OK, 0, "192.0.2.1:80", false, 0 },
	{ "user id", "0402 01bb c0000201 'fred' 00", PARSE_OK, 0, "192.0.2.1:443", false, 4 },
	{ "data behind it", "0401 0050 c0000201 00 'GET'", PARSE_OK, 9, "192.0.2.1:80", false, 0 },
	{ "name", "0401 0050 00000001 00 'a.b' 00", PARSE_OK, 0, "a.b:80", true, 0 },
	{ "any x > 0", "0401 0050 000000ff 'u' 00 'a' 00", PARSE_OK, 0, "a:80", true, 1 },
	{ "data behind a name", "0401 0050 00000001 00 'a' 00 00", PARSE_OK, 11, "a:80", true, 0 },
	{ "0.0.0.0 is no 4a", "0402 0050 00000000 00 'a' 00", PARSE_OK, 9, "0.0.0.0:80", false, 0 },
	{ "0.0.1.1 is no 4a", "0401 0050 00000101 00", PARSE_OK, 0, "0.0.1.1:80", false, 0 },
	{ "0.1.0.1 is no 4a", "0401 0050 00010001 00", PARSE_OK, 0, "0.1.0.1:80", false, 0 },
	{ "1.0.0.1 is no 4a", "0401 0050 01000001 00", PARSE_OK, 0, "1.0.0.1:80", false, 0 },
	{ "name that is an address", "0401 0050 00000001 00 '127.1' 00", PARSE_OK, 0,
	  "127.0.0.1:80", true, 0 },
	{ "name that is IPv6", "0401 0050 00000001 00 '::1' 00", PARSE_OK, 0, "[::1]:80", true, 0 },
	{ "name with a final dot", "0401 0050 00000001 00 'A.B.' 00", PARSE_OK, 0, "a.b:80", true,
	  0 },
	{ "unknown command", "0409 0050 c0000201 00", PARSE_OK, 0, "192.0.2.1:80", false, 0 },
	{ "longest user id", "0401 0050 c0000201 75*255 00", PARSE_OK, 0, "192.0.2.1:80", false,
	  255 },
	{ "user id too long", "0401 0050 c0000201 75*256 00", PARSE_BAD, 8 + 256, NULL, false, 0 },
	{ "name too long", "0401 0050 00000001 00 61*256 00", PARSE_BAD, 9 + 256, NULL, true, 0 },
	{ "empty name", "0401 0050 00000001 00 00", PARSE_BAD, 0, NULL, true, 0 },
	{ "space in a name", "0401 0050 00000001 00 'a b' 00", PARSE_BAD, 0, NULL, true, 0 },
	{ "control byte in a name", "0401 0050 00000001 00 'a' 0a 'b' 00", PARSE_BAD, 0, NULL, true,
	  0 },
	{ "0x7f in a name", "0401 0050 00000001 00 'a' 7f 00", PARSE_BAD, 0, NULL, true, 0 },
	{ "another version", "05", PARSE_BAD, 1, NULL, false, 0 },
};

static void
test_requests(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		struct bytes in;
		struct socks4_request req;
		bytes_of(&in, requests[i].in);
		check_at_every_cut(requests[i].what, parse_request, &req, &in, requests[i].want,
		    requests[i].decides);
		if (requests[i].want != PARSE_OK)
			continue;
		check_endpoint(requests[i].what, &req.to, requests[i].to);
		assert_int_equal(req.command, in.data[1]);
		assert_int_equal(req.is_4a, requests[i].is_4a);
		assert_int_equal(req.userid_len, requests[i].userid_len);
		assert_int_equal(strlen(req.userid), requests[i].userid_len);
	}
}

static void
test_longest_name(void **state)
{
	struct bytes in;
	struct socks4_request req;
	(void)state;
	bytes_of(&in, "0401 0050 00000001 75*255 00 61*255 00");
	assert_int_equal(in.len, SOCKS4_REQUEST_MAX);
	check_at_every_cut("longest", parse_request, &req, &in, PARSE_OK, 0);
	assert_int_equal(req.to.name_len, 255);
}

static const struct {
	const char *what, *in;
	enum parse_result want;
	size_t decides;
	uint8_t code;
	const char *bound;
} replies[] = {
	{ "granted", "005a 0050 c0000201", PARSE_OK, 0, 90, "192.0.2.1:80" },
	{ "zeros", "005a 0000 00000000 'tunnel'", PARSE_OK, 8, 90, "0.0.0.0:0" },
	{ "version 4 as some send it", "045a 0000 00000000", PARSE_OK, 0, 90, "0.0.0.0:0" },
	{ "refused, whole", "005b 0000 00000000", PARSE_OK, 2, 91, NULL },
	{ "refused in two bytes", "005c", PARSE_OK, 2, 92, NULL },
	{ "unknown code", "0000", PARSE_OK, 2, 0, NULL },
	{ "another protocol", "'HTTP'", PARSE_BAD, 1, 0, NULL },
	{ "SOCKS5", "05ff", PARSE_BAD, 1, 0, NULL },
};

static void
test_replies(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
		struct bytes in;
		struct socks4_reply reply;
		bytes_of(&in, replies[i].in);
		check_at_every_cut(replies[i].what, parse_reply, &reply, &in, replies[i].want,
		    replies[i].decides);
		if (replies[i].want != PARSE_OK)
			continue;
		assert_int_equal(reply.code, replies[i].code);
		if (replies[i].bound != NULL)
			check_endpoint(replies[i].what, &reply.bound, replies[i].bound);
		else
			assert_int_equal(reply.bound.kind, ENDPOINT_NONE);
	}
}

/* One set of arguments for both writers. */
struct said {
	uint8_t code;
	const char *where, *userid;
};

static size_t
write_reply(uint8_t *out, size_t cap, const void *arg)
{
	const struct said *said = arg;
	struct endpoint bound = endpoint_of(said->where);
	return socks4_write_reply(out, cap, said->code, said->where == NULL ? NULL : &bound);
}

static size_t
write_request(uint8_t *out, size_t cap, const void *arg)
{
	const struct said *said = arg;
	struct endpoint to = endpoint_of(said->where);
	return socks4_write_request(out, cap, said->code, &to, said->userid);
}

static void
test_writers(void **state)
{
	(void)state;
	check_writer("no bound", write_reply, &(struct said){ 91, NULL, NULL },
	    "005b 0000 00000000", 0);
	check_writer("bound", write_reply, &(struct said){ 90, "192.0.2.1:80", NULL },
	    "005a 0050 c0000201", 0);
	check_writer("bound IPv6", write_reply, &(struct said){ 90, "[::1]:80", NULL },
	    "005a 0000 00000000", 0);
	check_writer("bound name", write_reply, &(struct said){ 90, "a:80", NULL },
	    "005a 0000 00000000", 0);
	check_writer("address", write_request, &(struct said){ 1, "192.0.2.1:80", "" },
	    "0401 0050 c0000201 00", 0);
	check_writer("name", write_request, &(struct said){ 2, "a.b:443", "fred" },
	    "0402 01bb 00000001 'fred' 00 'a.b' 00", 0);
}

static void
test_what_it_cannot_carry(void **state)
{
	uint8_t out[SOCKS4_REQUEST_MAX + 1];
	char userid[257];
	struct endpoint v6 = endpoint_of("[2001:db8::1]:80"), v4 = endpoint_of("192.0.2.1:80"),
	    none = { 0 };
	(void)state;
	assert_int_equal(socks4_write_request(out, sizeof out, 1, &v6, ""), 0);
	assert_int_equal(socks4_write_request(out, sizeof out, 1, &none, ""), 0);
	memset(userid, 'u', 256);
	userid[256] = '\0';
	assert_int_equal(socks4_write_request(out, sizeof out, 1, &v4, userid), 0);
	userid[255] = '\0';
	assert_int_equal(socks4_write_request(out, sizeof out, 1, &v4, userid), 8 + 256);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_longest_name),
		cmocka_unit_test(test_replies),
		cmocka_unit_test(test_writers),
		cmocka_unit_test(test_what_it_cannot_carry),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
