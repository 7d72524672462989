/*
 * Tests of the identification protocol's two lines: what is asked, and each answer cut at every
 * byte.
 */
#include "socks/ident.h"

#include "vectors.h"

static const struct ident_ports asked = {.theirs = 6193, .ours = 1080};

struct vector {
	const char *what, *line;
	enum parse_result want;
	const char *user; /* NULL: ERROR */
	size_t decides;   /* 0: the last byte */
};

#define ANSWER "'6193, 1080 : USERID : UNIX : "
static const struct vector vectors[] = {
    {"RFC 1413's example", ANSWER "stjohns' ~", PARSE_OK, "stjohns", 0},
    {"no blanks", "'6193,1080:USERID:UNIX:bob' ~", PARSE_OK, "bob", 0},
    {"blanks everywhere", "' 6193 , 1080 : USERID : OTHER : bob  ' 09 ~", PARSE_OK, "bob", 0},
    {"a character set", "'6193, 1080 : USERID : UNIX, UTF-8 :bob' ~", PARSE_OK, "bob", 0},
    {"lower case", "'6193, 1080 : userid : unix : bob' ~", PARSE_OK, "bob", 0},
    {"bare LF", ANSWER "bob' 0a", PARSE_OK, "bob", 0},
    {"colons in the user id", ANSWER "a:b:c' ~", PARSE_OK, "a:b:c", 0},
    {"the longest user id", ANSWER "' 61*255 ~", PARSE_OK, "", 0},
    {"data behind it", ANSWER "bob' ~ 'more'", PARSE_OK, "bob", 34},
    {"ERROR", "'6193, 1080 : ERROR : NO-USER' ~", PARSE_OK, NULL, 0},
    {"ERROR of its own", "'6193, 1080 : ERROR : X-SLEEPING : on:and:on' ~", PARSE_OK, NULL, 0},
    {"ERROR without a word", "'6193, 1080 : ERROR :' ~", PARSE_OK, NULL, 0},
    {"another port of theirs", "'6194, 1080 : USERID : UNIX : bob' ~", PARSE_BAD, NULL, 0},
    {"another port of ours", "'6193, 1081 : USERID : UNIX : bob' ~", PARSE_BAD, NULL, 0},
    {"ports swapped", "'1080, 6193 : USERID : UNIX : bob' ~", PARSE_BAD, NULL, 0},
    {"ERROR about other ports", "'1, 2 : ERROR : NO-USER' ~", PARSE_BAD, NULL, 0},
    {"a port that overflows into ours", "'71729, 66616 : USERID : UNIX : bob' ~", PARSE_BAD, NULL,
     0},
    {"a port with a sign", "'+6193, 1080 : USERID : UNIX : bob' ~", PARSE_BAD, NULL, 0},
    {"no user id", ANSWER "' ~", PARSE_BAD, NULL, 0},
    {"a user id too long for ours", ANSWER "' 61*256 ~", PARSE_OK, NULL, 0},
    {"a user id of 512 bytes", ANSWER "' 61*512 ~", PARSE_OK, NULL, 0},
    {"a blank in the user id", ANSWER "bob smith' ~", PARSE_OK, NULL, 0},
    {"NUL in the user id", ANSWER "bob' 00 'x' ~", PARSE_BAD, NULL, 0},
    {"CR in the user id", ANSWER "bob' 0d 'x' ~", PARSE_BAD, NULL, 0},
    {"DEL in the user id", ANSWER "bob' 7f ~", PARSE_BAD, NULL, 0},
    {"no system", "'6193, 1080 : USERID : bob' ~", PARSE_BAD, NULL, 0},
    {"another word", "'6193, 1080 : USER : UNIX : bob' ~", PARSE_BAD, NULL, 0},
    {"another service", "'SSH-2.0-OpenSSH_9.2' ~", PARSE_BAD, NULL, 0},
    {"an empty line", "~", PARSE_BAD, NULL, 0},
    {"the longest line", "'6193, 1080 : ERROR : ' 78*979 ~", PARSE_OK, NULL, 0},
    {"a line too long", "'6193, 1080 : ERROR : ' 78*980 ~", PARSE_BAD, NULL, 1002},
    {"no end", "30*1100", PARSE_BAD, NULL, 1002},
};

static enum parse_result
parse(const uint8_t *in, size_t len, void *value, size_t *used)
{
	return ident_parse_answer(in, len, asked, value, used);
}

static void
test_answers(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		const struct vector *v = &vectors[i];
		struct bytes in;
		struct ident_answer answer;
		check_at_every_cut(v->what, parse, &answer, bytes_of(&in, v->line), v->want,
				   v->decides);
		if (v->want != PARSE_OK)
			continue;
		if (answer.found != (v->user != NULL))
			fail_msg("%s: found is %d", v->what, answer.found);
		if (v->user != NULL && *v->user != '\0')
			assert_string_equal(answer.user, v->user);
		else if (v->user != NULL)
			assert_int_equal(strlen(answer.user), IDENT_USER_MAX);
	}
}

static size_t
write_query(uint8_t *out, size_t cap, const void *arg)
{
	return ident_write_query(out, cap, *(const struct ident_ports *)arg);
}

static void
test_queries(void **state)
{
	static const struct ident_ports least = {1, 2}, most = {65535, 65535};
	(void)state;
	check_writer("the least", write_query, &least, "'1, 2' ~", 0);
	check_writer("the most", write_query, &most, "'65535, 65535' ~", 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_answers),
	    cmocka_unit_test(test_queries),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
