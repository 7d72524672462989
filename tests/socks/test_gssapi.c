/* The messages of RFC 1961, cut at every byte, and the level that two ends agree on. */
#include "tests/socks/vectors.h"

#include "socks/gssapi.h"

static const struct {
	const char *what, *hex;
	enum parse_result want;
	size_t decides;                        /* 0: the last byte */
	int type;
	size_t len;
} messages[] = {
	{ "a context's token", "01010003 'abc'", PARSE_OK, 0, GSSAPI_CONTEXT, 3 },
	{ "a level", "01020001 02", PARSE_OK, 0, GSSAPI_LEVEL, 1 },
	{ "data", "01030002 'hi'", PARSE_OK, 0, GSSAPI_DATA, 2 },
	{ "more behind it", "01030002 'hi' 0103", PARSE_OK, 6, GSSAPI_DATA, 2 },
	{ "length is in network order", "01030100 61*256", PARSE_OK, 0, GSSAPI_DATA, 256 },
	{ "abort has no length", "01ff", PARSE_OK, 0, GSSAPI_ABORT, 0 },
	{ "something behind an abort", "01ff 0102", PARSE_OK, 2, GSSAPI_ABORT, 0 },
	{ "a type of its own", "01070001 00", PARSE_OK, 0, 7, 1 },
	{ "version 5", "05010003 'abc'", PARSE_BAD, 1, 0, 0 },
	{ "version 0", "00", PARSE_BAD, 1, 0, 0 },
	{ "an abort of another version", "02ff", PARSE_BAD, 1, 0, 0 },
	{ "an empty token", "01010000", PARSE_BAD, 4, 0, 0 },
};

static enum parse_result
parse(const uint8_t *in, size_t len, void *value, size_t *used)
{
	return gssapi_parse(in, len, value, used);
}

static void
test_messages(void **state)
{
	static struct bytes in;
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
		struct gssapi_message m;
		bytes_of(&in, messages[i].hex);
		check_at_every_cut(messages[i].what, parse, &m, &in, messages[i].want,
		    messages[i].decides);
		if (messages[i].want != PARSE_OK)
			continue;
		assert_int_equal(m.type, messages[i].type);
		assert_int_equal(m.len, messages[i].len);
		assert_ptr_equal(m.token, messages[i].len > 0 ? in.data + GSSAPI_HEADER : NULL);
	}
}

static void
test_the_longest(void **state)
{
	static uint8_t in[GSSAPI_MESSAGE_MAX + 1], token[GSSAPI_TOKEN_MAX + 1];
	struct gssapi_message m;
	size_t used;
	(void)state;
	assert_int_equal(gssapi_write(in, sizeof in, GSSAPI_DATA, token, GSSAPI_TOKEN_MAX),
	    GSSAPI_MESSAGE_MAX);
	assert_int_equal(gssapi_parse(in, GSSAPI_MESSAGE_MAX - 1, &m, &used), PARSE_MORE);
	assert_int_equal(gssapi_parse(in, sizeof in, &m, &used), PARSE_OK);
	assert_int_equal(used, GSSAPI_MESSAGE_MAX);
	assert_int_equal(m.len, GSSAPI_TOKEN_MAX);
	assert_int_equal(gssapi_write(in, sizeof in, GSSAPI_DATA, token, GSSAPI_TOKEN_MAX + 1), 0);
	assert_int_equal(gssapi_write(in, sizeof in, GSSAPI_DATA, token, 0), 0);
}

static size_t
write_token(uint8_t *out, size_t cap, const void *arg)
{
	(void)arg;
	return gssapi_write(out, cap, GSSAPI_CONTEXT, (const uint8_t *)"abc", 3);
}

static size_t
write_abort(uint8_t *out, size_t cap, const void *arg)
{
	(void)arg;
	return gssapi_write(out, cap, GSSAPI_ABORT, NULL, 0);
}

static void
test_writing(void **state)
{
	uint8_t header[GSSAPI_HEADER];
	(void)state;
	check_writer("a token", write_token, NULL, "01010003 'abc'", 0);
	check_writer("abort", write_abort, NULL, "01ff", 0);
	gssapi_write_header(header, GSSAPI_DATA, 0x1234);
	assert_memory_equal(header, "\x01\x03\x12\x34", sizeof header);
}

static void
test_levels(void **state)
{
	static const int want[5][3] = {        /* [asked][least]; -1: refused */
		{ 0, -1, -1 },
		{ 1, 1, -1 },
		{ 2, 2, 2 },
		{ 2, 2, 2 },
		{ -1, -1, -1 },
	};
	(void)state;
	for (int asked = 0; asked < 5; asked++)
		for (int least = 0; least < 3; least++)
			assert_int_equal(gssapi_agree((uint8_t)asked, least), want[asked][least]);
	assert_int_equal(gssapi_agree(255, GSSAPI_NONE), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_the_longest),
		cmocka_unit_test(test_writing),
		cmocka_unit_test(test_levels),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
