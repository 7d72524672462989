/*
 * test_socks5: every message of RFC 1928 and RFC 1929, cut at every byte and written into every
 * size of memory.
 */
#include "socks/socks5.h"

#include "socks/command.h"
#include "tests/socks/vectors.h"

static const char longest_name[] = "0501 0003 ff 61*255 0050";

static enum parse_result
parse_greeting(const uint8_t *in, size_t len, void *value, size_t *used)
{
	return socks5_parse_greeting(in, len, value, used);
}

static enum parse_result
parse_userpass(const uint8_t *in, size_t len, void *value, size_t *used)
{
	return socks5_parse_userpass(in, len, value, used);
}

static enum parse_result
parse_request(const uint8_t *in, size_t len, void *value, size_t *used)
{
	return socks5_parse_request(in, len, value, used);
}

static enum parse_result
parse_choice(const uint8_t *in, size_t len, void *value, size_t *used)
{
	return socks5_parse_choice(in, len, value, used);
}

static enum parse_result
parse_status(const uint8_t *in, size_t len, void *value, size_t *used)
{
	return socks5_parse_status(in, len, value, used);
}

static enum parse_result
parse_reply(const uint8_t *in, size_t len, void *value, size_t *used)
{
	return socks5_parse_reply(in, len, value, used);
}

static const struct {
	const char *what, *in;
	enum parse_result want;
	size_t decides;
	unsigned offered;
} greetings[] = {
	{ "none", "050100", PARSE_OK, 0, AUTH_NONE },
	{ "userpass", "050102", PARSE_OK, 0, AUTH_USERPASS },
	{ "all that we know", "0503020100", PARSE_OK, 0, AUTH_NONE | AUTH_USERPASS | AUTH_GSSAPI },
	{ "one of them twice", "05030000fe", PARSE_OK, 0, AUTH_NONE },
	{ "only unknown ones", "05020380", PARSE_OK, 0, 0 },
	{ "no method", "0500", PARSE_OK, 0, 0 },
	{ "255 methods", "05ff 80*254 02", PARSE_OK, 0, AUTH_USERPASS },
	{ "request behind it", "050100 0501", PARSE_OK, 3, AUTH_NONE },
	{ "another version", "0401", PARSE_BAD, 1, 0 },
};

static void
test_greetings(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(greetings); i++) {
		struct bytes in;
		unsigned offered = 0;
		bytes_of(&in, greetings[i].in);
		check_at_every_cut(greetings[i].what, parse_greeting, &offered, &in,
		    greetings[i].want, greetings[i].decides);
		assert_int_equal(offered, greetings[i].offered);
	}
}

static const struct {
	const char *what, *in;
	enum parse_result want;
	size_t decides;
	const char *username, *password;
} userpasses[] = {
	{ "both", "01 05 'alice' 06 'secret'", PARSE_OK, 0, "'alice'", "'secret'" },
	{ "empty ones", "01 00 00 05", PARSE_OK, 3, "", "" },
	{ "longest ones", "01 ff 75*255 ff 70*255", PARSE_OK, 0, "75*255", "70*255" },
	{ "NUL inside", "01 03 'a' 00 'b' 02 0070", PARSE_OK, 0, "'a' 00 'b'", "0070" },
	{ "version of the other RFC", "05 01 'a' 01 'b'", PARSE_BAD, 1, NULL, NULL },
};

static void
test_userpass(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(userpasses); i++) {
		struct bytes in, text;
		struct credentials c;
		bytes_of(&in, userpasses[i].in);
		check_at_every_cut(userpasses[i].what, parse_userpass, &c, &in,
		    userpasses[i].want, userpasses[i].decides);
		if (userpasses[i].want != PARSE_OK)
			continue;
		bytes_of(&text, userpasses[i].username);
		assert_int_equal(c.username_len, text.len);
		assert_memory_equal(c.username, text.data, text.len);
		bytes_of(&text, userpasses[i].password);
		assert_int_equal(c.password_len, text.len);
		assert_memory_equal(c.password, text.data, text.len);
	}
}

static const struct {
	const char *what, *in;
	enum parse_result want;
	size_t decides;
	const char *to;
	enum verdict fault;
} requests[] = {
	{ "IPv4", "0501 0001 c0000201 0050", PARSE_OK, 0, "192.0.2.1:80", 0 },
	{ "IPv6", "0502 0004 20010db8 00*11 01 01bb", PARSE_OK, 0, "[2001:db8::1]:443", 0 },
	{ "mapped IPv6", "0501 0004 00*10 ffff c0000201 0050", PARSE_OK, 0, "192.0.2.1:80", 0 },
	{ "name", "0501 0003 01 'a' 01bb", PARSE_OK, 0, "a:443", 0 },
	{ "name in capitals with a final dot", "0501 0003 04 'A.B.' 01bb", PARSE_OK, 0, "a.b:443",
	  0 },
	{ "name that is an address", "0501 0003 0a '0x7f000001' 0050", PARSE_OK, 0, "127.0.0.1:80",
	  0 },
	{ "name that is IPv6", "0501 0003 03 '::1' 0050", PARSE_OK, 0, "[::1]:80", 0 },
	{ "RSV set", "0501 aa01 c0000201 0050", PARSE_OK, 0, "192.0.2.1:80", 0 },
	{ "UDP ASSOCIATE with zeros", "0503 0001 00000000 0000", PARSE_OK, 0, "0.0.0.0:0", 0 },
	{ "unknown command", "05f0 0001 c0000201 0050", PARSE_OK, 0, "192.0.2.1:80", 0 },
	{ "data behind it", "0501 0001 c0000201 0050 ffff", PARSE_OK, 10, "192.0.2.1:80", 0 },
	{ "unknown ATYP", "0501 0009 00", PARSE_BAD, 4, NULL, VERDICT_ADDRESS_UNKNOWN },
	{ "ATYP 2", "0501 0002", PARSE_BAD, 4, NULL, VERDICT_ADDRESS_UNKNOWN },
	{ "empty name", "0501 0003 00 01bb", PARSE_BAD, 0, NULL, VERDICT_MALFORMED },
	{ "NUL in a name", "0501 0003 03 'a' 00 'b' 01bb", PARSE_BAD, 0, NULL, VERDICT_MALFORMED },
	{ "space in a name", "0501 0003 03 'a b' 01bb", PARSE_BAD, 0, NULL, VERDICT_MALFORMED },
	{ "line end in a name", "0501 0003 04 'a' 0d0a 'b' 01bb", PARSE_BAD, 0, NULL,
	  VERDICT_MALFORMED },
	{ "0x7f in a name", "0501 0003 02 'a' 7f 01bb", PARSE_BAD, 0, NULL, VERDICT_MALFORMED },
	{ "scope id", "0501 0003 08 'fe80::1%' 01bb", PARSE_BAD, 0, NULL, VERDICT_MALFORMED },
	{ "another version", "0401", PARSE_BAD, 1, NULL, VERDICT_MALFORMED },
};

static void
test_requests(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		struct bytes in;
		struct socks5_request req;
		bytes_of(&in, requests[i].in);
		check_at_every_cut(requests[i].what, parse_request, &req, &in,
		    requests[i].want, requests[i].decides);
		if (requests[i].want == PARSE_BAD) {
			assert_int_equal(req.fault, requests[i].fault);
			continue;
		}
		check_endpoint(requests[i].what, &req.to, requests[i].to);
		assert_int_equal(req.command, in.data[1]);
	}
}

/* 254 to 256 bytes: where a length wraps or a buffer ends. */
static void
test_longest_names(void **state)
{
	struct bytes in;
	struct socks5_request req;
	(void)state;
	check_at_every_cut("254", parse_request, &req, bytes_of(&in, "0501 0003 fe 61*254 0050"),
	    PARSE_OK, 0);
	assert_int_equal(req.to.name_len, 254);
	check_at_every_cut("255", parse_request, &req, bytes_of(&in, longest_name), PARSE_OK, 0);
	assert_int_equal(req.to.name_len, 255);
	assert_int_equal(req.to.port, 80);
	assert_int_equal(in.len, SOCKS5_REQUEST_MAX);
}

static void
test_choices_and_statuses(void **state)
{
	struct bytes in;
	uint8_t method = 0;
	bool good = true;
	(void)state;
	check_at_every_cut("none", parse_choice, &method, bytes_of(&in, "0500"), PARSE_OK, 0);
	assert_int_equal(method, 0);
	check_at_every_cut("refused", parse_choice, &method, bytes_of(&in, "05ff 05"), PARSE_OK, 2);
	assert_int_equal(method, SOCKS5_METHOD_REFUSED);
	check_at_every_cut("another protocol", parse_choice, &method, bytes_of(&in, "'HTTP'"),
	    PARSE_BAD, 1);
	check_at_every_cut("bad", parse_status, &good, bytes_of(&in, "0101"), PARSE_OK, 0);
	assert_false(good);
	check_at_every_cut("good", parse_status, &good, bytes_of(&in, "0100 05"), PARSE_OK, 2);
	assert_true(good);
	check_at_every_cut("any other is bad", parse_status, &good, bytes_of(&in, "01ff"), PARSE_OK,
	    0);
	assert_false(good);
	check_at_every_cut("version 5", parse_status, &good, bytes_of(&in, "0500"), PARSE_OK, 0);
	assert_true(good);
	check_at_every_cut("another version", parse_status, &good, bytes_of(&in, "0000"), PARSE_BAD,
	    1);
}

static const struct {
	const char *what, *in;
	enum parse_result want;
	size_t decides;
	uint8_t rep;
	const char *bound;
} replies[] = {
	{ "IPv4", "0500 0001 c0000201 0050", PARSE_OK, 0, 0, "192.0.2.1:80" },
	{ "IPv6", "0500 0004 20010db8 00*11 01 01bb", PARSE_OK, 0, 0, "[2001:db8::1]:443" },
	{ "name", "0500 0003 03 'a.b' 0050", PARSE_OK, 0, 0, "a.b:80" },
	{ "name, with a tunnel behind it", "0500 0003 01 'a' 0050 'SSH-2.0'", PARSE_OK, 8, 0,
	  "a:80" },
	{ "empty name", "0500 0003 00 0000 'x'", PARSE_OK, 7, 0, NULL },
	{ "name that is none", "0500 0003 02 ' ' 00 0000", PARSE_OK, 0, 0, NULL },
	{ "granted with unknown ATYP", "0500 0000 0000", PARSE_BAD, 4, 0, NULL },
	{ "refused, whole", "0505 0001 00000000 0000", PARSE_OK, 2, 5, NULL },
	{ "refused in two bytes", "0502", PARSE_OK, 2, 2, NULL },
	{ "refused in three bytes", "050100", PARSE_OK, 2, 1, NULL },
	{ "refused with unknown ATYP", "0504 0009", PARSE_OK, 2, 4, NULL },
	{ "another version", "0100", PARSE_BAD, 1, 0, NULL },
};

static void
test_replies(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
		struct bytes in;
		struct socks5_reply reply;
		bytes_of(&in, replies[i].in);
		check_at_every_cut(replies[i].what, parse_reply, &reply, &in,
		    replies[i].want, replies[i].decides);
		if (replies[i].want != PARSE_OK)
			continue;
		assert_int_equal(reply.rep, replies[i].rep);
		if (replies[i].bound != NULL)
			check_endpoint(replies[i].what, &reply.bound, replies[i].bound);
		else
			assert_int_equal(reply.bound.kind, ENDPOINT_NONE);
	}
}

static const struct {
	const char *what, *in;
	size_t used;                           /* 0: BAD */
	uint8_t frag;
	const char *to;
} datagrams[] = {
	{ "IPv4", "0000 00 01 c0000201 0035 'query'", 10, 0, "192.0.2.1:53" },
	{ "IPv6, nothing behind it", "0000 00 04 00*15 01 0035", 22, 0, "[::1]:53" },
	{ "name", "0000 00 03 01 'a' 0035 'q'", 8, 0, "a:53" },
	{ "fragment", "0000 82 01 c0000201 0035", 10, 0x82, "192.0.2.1:53" },
	{ "RSV set", "ffff 00 01 c0000201 0035", 10, 0, "192.0.2.1:53" },
	{ "unknown ATYP", "0000 00 02 c0000201 0035", 0, 0, NULL },
	{ "empty name", "0000 00 03 00 0035 'q'", 0, 0, NULL },
};

static void
test_datagrams(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(datagrams); i++) {
		struct bytes in;
		struct socks5_udp header;
		size_t used = 0;
		bytes_of(&in, datagrams[i].in);
		for (size_t len = 0; len <= in.len; len++) {
			uint8_t *cut = exact_copy(in.data, len);
			bool whole = datagrams[i].used > 0 && len >= datagrams[i].used;
			enum parse_result want = whole ? PARSE_OK : PARSE_BAD;
			if (socks5_parse_udp(cut, len, &header, &used) != want)
				fail_msg("%s: cut at %zu", datagrams[i].what, len);
			free(cut);
		}
		assert_int_equal(used, datagrams[i].used);
		if (used == 0)
			continue;
		assert_int_equal(header.frag, datagrams[i].frag);
		check_endpoint(datagrams[i].what, &header.to, datagrams[i].to);
	}
}

/* One set of arguments for all writers; each takes what it needs. */
struct said {
	uint8_t code;
	const char *where, *more;
};

static size_t
write_choice(uint8_t *out, size_t cap, const void *arg)
{
	return socks5_write_choice(out, cap, ((const struct said *)arg)->code);
}

static size_t
write_status(uint8_t *out, size_t cap, const void *arg)
{
	return socks5_write_status(out, cap, ((const struct said *)arg)->code != 0);
}

static size_t
write_greeting(uint8_t *out, size_t cap, const void *arg)
{
	return socks5_write_greeting(out, cap, ((const struct said *)arg)->code);
}

static size_t
write_userpass(uint8_t *out, size_t cap, const void *arg)
{
	const struct said *said = arg;
	return socks5_write_userpass(out, cap, said->where, said->more);
}

static size_t
write_reply(uint8_t *out, size_t cap, const void *arg)
{
	const struct said *said = arg;
	struct endpoint bound = endpoint_of(said->where);
	return socks5_write_reply(out, cap, said->code, said->where == NULL ? NULL : &bound);
}

static size_t
write_request(uint8_t *out, size_t cap, const void *arg)
{
	const struct said *said = arg;
	struct endpoint to = endpoint_of(said->where);
	return socks5_write_request(out, cap, said->code, &to);
}

static size_t
write_udp(uint8_t *out, size_t cap, const void *arg)
{
	const struct said *said = arg;
	struct endpoint to = endpoint_of(said->where);
	return socks5_write_udp(out, cap, said->code, &to);
}

static const struct {
	const char *what;
	write_fn *write;
	struct said said;
	const char *want;
} writers[] = {
	{ "choice", write_choice, { SOCKS5_METHOD_USERPASS, NULL, NULL }, "0502" },
	{ "no choice", write_choice, { SOCKS5_METHOD_REFUSED, NULL, NULL }, "05ff" },
	{ "good", write_status, { 1, NULL, NULL }, "0100" },
	{ "bad", write_status, { 0, NULL, NULL }, "0101" },
	{ "none", write_greeting, { AUTH_NONE, NULL, NULL }, "050100" },
	{ "both", write_greeting, { AUTH_NONE | AUTH_USERPASS, NULL, NULL }, "05020002" },
	{ "all", write_greeting, { 15, NULL, NULL }, "0503000201" },
	{ "userpass", write_userpass, { 0, "alice", "pw" }, "0105 'alice' 02 'pw'" },
	{ "empty password", write_userpass, { 0, "a", "" }, "0101 'a' 00" },
	{ "reply", write_reply, { 0, "192.0.2.1:80", NULL }, "0500 0001 c0000201 0050" },
	{ "reply without bound", write_reply, { 5, NULL, NULL }, "0505 0001 00000000 0000" },
	{ "reply, IPv6", write_reply, { 0, "[::1]:80", NULL }, "0500 0004 00*15 01 0050" },
	{ "reply, name", write_reply, { 0, "a.b:80", NULL }, "0500 0003 03 'a.b' 0050" },
	{ "request", write_request, { 1, "a.b:80", NULL }, "0501 0003 03 'a.b' 0050" },
	{ "request for nowhere", write_request, { 3, NULL, NULL }, "0503 0001 00000000 0000" },
	{ "datagram", write_udp, { 0, "192.0.2.1:53", NULL }, "000000 01 c0000201 0035" },
	{ "fragment", write_udp, { 0x81, "a:53", NULL }, "000081 03 01 'a' 0035" },
};

static void
test_writers(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(writers); i++)
		check_writer(writers[i].what, writers[i].write, &writers[i].said, writers[i].want,
		    0);
}

static void
test_longest_texts(void **state)
{
	uint8_t out[SOCKS5_USERPASS_MAX + 1];
	char text[257], name[257];
	(void)state;
	memset(text, 't', 256);
	text[256] = '\0';
	assert_int_equal(socks5_write_userpass(out, sizeof out, text, ""), 0);
	assert_int_equal(socks5_write_userpass(out, sizeof out, "", text), 0);
	text[255] = '\0';
	memcpy(name, text, sizeof name);
	assert_int_equal(socks5_write_userpass(out, SOCKS5_USERPASS_MAX, name, text),
	    SOCKS5_USERPASS_MAX);
	struct endpoint to = { .port = 80 };
	assert_int_equal(endpoint_set_host(&to, text, 255), ENDPOINT_OK);
	assert_int_equal(socks5_write_request(out, SOCKS5_REQUEST_MAX, 1, &to), SOCKS5_REQUEST_MAX);
	assert_int_equal(socks5_write_udp(out, SOCKS5_UDP_HEADER_MAX, 0, &to),
	    SOCKS5_UDP_HEADER_MAX);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_greetings),
		cmocka_unit_test(test_userpass),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_longest_names),
		cmocka_unit_test(test_choices_and_statuses),
		cmocka_unit_test(test_replies),
		cmocka_unit_test(test_datagrams),
		cmocka_unit_test(test_writers),
		cmocka_unit_test(test_longest_texts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
