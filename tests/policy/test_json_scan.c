/*
 * Tests of policy/json_scan: the tree with its places, each kind of error with its own, and the
 * bounds.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/errors.h"
#include "policy/json_scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fixture {
	struct arena arena;
	struct policy_errors errors;
	struct json_value *root;
};

/* Scans a copy that ends where the text ends, so that a read behind it is seen by the sanitizer. */
static void
scan_text(struct fixture *f, const char *text, size_t len)
{
	char *copy = malloc(len + (len == 0));
	assert_non_null(copy);
	memcpy(copy, text, len);
	arena_init(&f->arena);
	policy_errors_init(&f->errors);
	f->root = json_scan(copy, len, &f->arena, &f->errors);
	free(copy);
}

static void
drop(struct fixture *f)
{
	policy_errors_free(&f->errors);
	arena_free(&f->arena);
}

/* n errors are separated by '|' in `want`, each "LINE:COLUMN /pointer: part of the message". */
static const struct {
	const char *text, *want;
} faulty[] = {
	{ "", "1:1 : expected a value, found the end of the text" },
	{ "  \n ", "2:2 : expected a value, found the end of the text" },
	{ "\xef\xbb\xbf{}", "1:1 : expected a value, found '\xef\xbb\xbf' (U+FEFF, a byte order mark)" },
	{ "{\xc2\xa0}", "1:2 : expected a key, in double quotes, found '\xc2\xa0' (U+00A0)" },
	{ "[\xf0\x9f\x98\x80]", "1:2 : expected a value, found '\xf0\x9f\x98\x80' (U+1F600)" },
	{ "{", "1:2 : expected a key, in double quotes, found the end of the text" },
	{ "{a:1}", "1:2 : expected a key, in double quotes, found 'a'" },
	{ "{\"a\" 1}", "1:6 : expected ':' behind the key, found '1'" },
	{ "{\"a\":1,}", "1:8 : expected a key, in double quotes, found '}'" },
	{ "{\"a\":1 \"b\":2}", "1:8 : expected ',' or '}', found '\"'" },
	{ "{\n\t\"\xc3\xa9\": x\n}", "2:7 : expected a value, found 'x'" },
	{ "[1,]", "1:4 : expected a value behind the comma, found ']'" },
	{ "[1 2]", "1:4 : expected ',' or ']', found '2'" },
	{ "[1", "1:3 : expected ',' or ']', found the end" },
	{ "[tru]", "1:2 : expected a value, found 't'" },
	{ "nul", "1:1 : expected a value, found 'n'" },
	{ "{} {}", "1:4 : expected the end of the text behind the document, found '{'" },
	{ "// no\n{}", "1:1 : expected a value, found '/'" },
	{ "-", "1:2 : expected a digit, found the end" },
	{ "01", "1:2 : expected the end of the text" },
	{ "1.", "1:3 : expected a digit" },
	{ "1e+", "1:4 : expected a digit" },
	{ "+1", "1:1 : expected a value, found '+'" },
	{ "\"abc", "1:5 : expected the '\"' that ends the string, found the end" },
	{ "\"abc\\\"", "1:7 : expected the '\"' that ends the string" },
	{ "\"a\nb\"", "1:3 : expected control characters in a string to be escaped, found the byte "
	              "0x0a" },
	{ "\"\\x\"", "1:3 : behind the backslash, found 'x'" },
	{ "\"\\", "1:3 : behind the backslash, found the end" },
	{ "\"\\u12g4\"", "1:6 : expected a hexadecimal digit, found 'g'" },
	{ "\"\\ud800\\u12", "1:12 : expected a hexadecimal digit, found the end" },
	{ "\"a\xff\"", "1:3 : expected UTF-8, found the byte 0xff" },
	{ "\"\xc0\xaf\"", "1:2 : expected UTF-8, found the byte 0xc0" },
	{ "\"\xed\xa0\x80\"", "1:2 : expected UTF-8, found the byte 0xed" },
	{ "\"\xf4\x90\x80\x80\"", "1:2 : expected UTF-8, found the byte 0xf4" },
	{ "\"\xe2\x82", "1:2 : expected UTF-8, found the byte 0xe2" },
	{ "{\"a\":1,\"a\":2}", "1:8 /a: the key is repeated, expected once: it is there at line 1, "
	                       "column 2" },
	{ "{\"x\":[{\"a~/\":1,\n\"b\":2,\"a~/\":3,\"a~/\":4}]}", "2:7 /x/0/a~0~1: it is there at "
	                                                         "line 1, column 8|2:15 "
	                                                         "/x/0/a~0~1: it is there at line "
	                                                         "1, column 8" },
	{ "{\"a\":1,\"a\":[}", "1:13 : expected a value, found '}'" },
	{ "[9223372036854775808]", "1:2 /0: integer that 64 bits can't hold" },
	{ "[-9223372036854775809,\n 99999999999999999999999]", "1:2 /0: 64 bits|2:2 /1: 64 bits" },
	{ "{\"a\":\"x\\u0000y\"}", "1:6 /a: found \\u0000, expected text without NUL" },
	{ "{\"a\\u0000\":1}", "1:2 : in a key: found \\u0000" },
	{ "[\"\\ud800\"]", "1:2 /0: half a surrogate pair" },
	{ "[\"\\udc00\"]", "1:2 /0: half a surrogate pair" },
	{ "[\"\\ud800\\u0041\"]", "1:2 /0: half a surrogate pair" },
};

static void
check_errors(const char *text, const struct policy_errors *errors, const char *want)
{
	size_t n = 0;
	for (const char *part = want; part != NULL; n++) {
		char place[200], line[64];
		const char *end = strchr(part, '|'), *colon = strstr(part, ": ");
		size_t len = end != NULL ? (size_t)(end - part) : strlen(part);
		if (n >= errors->n)
			fail_msg("%s: %zu errors, expected more: %s", text, errors->n, part);
		const struct policy_error *e = &errors->list[n];
		snprintf(line, sizeof line, "%u:%u", e->line, e->column);
		snprintf(place, sizeof place, "%s %s", line, e->pointer);
		char *message = strndup(colon + 2, len - (size_t)(colon + 2 - part));
		if (strlen(place) != (size_t)(colon - part) ||
		    strncmp(place, part, strlen(place)) != 0)
			fail_msg("%s: error at %s, expected %.*s", text, place, (int)(colon - part),
			    part);
		if (strstr(e->message, message) == NULL)
			fail_msg("%s: '%s' lacks '%s'", text, e->message, message);
		free(message);
		part = end != NULL ? end + 1 : NULL;
	}
	if (n != errors->n)
		fail_msg("%s: %zu errors, expected %zu: %s", text, errors->n, n,
		    errors->list[n].message);
}

static void
test_faults(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(faulty); i++) {
		struct fixture f;
		scan_text(&f, faulty[i].text, strlen(faulty[i].text));
		check_errors(faulty[i].text, &f.errors, faulty[i].want);
		assert_int_equal(f.root == NULL, *f.errors.list[0].pointer == '\0' &&
		                                     strstr(faulty[i].want, "in a key") == NULL);
		drop(&f);
	}
}

static const char sample[] =
    "{\n"
    "  \"name\": \"caf\xc3\xa9 \\u00e9 \\ud83d\\ude00 \\\"\\\\\\/\\b\\f\\n\\r\\t\",\n"
    "  \"\xc3\xa9\": [1, -2.5e3, 9223372036854775807, -9223372036854775808, 3.0],\r\n"
    "\t\"deep\" : {\"a\": {\"b\": [null, true, false]}}, \"empty\": [ ], \"none\": {}\n"
    "}\n";

static const struct json_value *
find(const struct json_value *root, const char *key, uint32_t index)
{
	const struct json_value *v = json_member(root, key);
	assert_non_null(v);
	v = v->first;
	while (index-- > 0)
		v = v->next;
	return v;
}

static void
check_place(const struct json_value *v, uint32_t line, uint32_t column, const char *pointer)
{
	char *found = json_pointer(v, NULL);
	assert_string_equal(found, pointer);
	assert_int_equal(v->line, line);
	assert_int_equal(v->column, column);
	free(found);
}

static void
test_tree(void **state)
{
	(void)state;
	struct fixture f;
	scan_text(&f, sample, strlen(sample));
	assert_int_equal(f.errors.n, 0);
	assert_non_null(f.root);
	assert_int_equal(f.root->n, 5);
	const struct json_value *name = json_member(f.root, "name");
	assert_string_equal(name->text, "caf\xc3\xa9 \xc3\xa9 \xf0\x9f\x98\x80 \"\\/\b\f\n\r\t");
	assert_int_equal(name->text_len, strlen(name->text));
	check_place(name, 2, 11, "/name");
	assert_int_equal(sample[name->start], '"');
	assert_memory_equal(sample + name->end - 3, "\\t\"", 3);
	check_place(find(f.root, "\xc3\xa9", 1), 3, 12, "/\xc3\xa9/1");
	assert_false(find(f.root, "\xc3\xa9", 1)->integer);
	assert_string_equal(find(f.root, "\xc3\xa9", 1)->text, "-2.5e3");
	assert_true(find(f.root, "\xc3\xa9", 2)->number == INT64_MAX);
	assert_true(find(f.root, "\xc3\xa9", 3)->number == INT64_MIN);
	assert_false(find(f.root, "\xc3\xa9", 4)->integer);
	check_place(json_member(find(f.root, "deep", 0), "b")->first->next, 4, 30, "/deep/a/b/1");
	assert_true(json_is(json_member(find(f.root, "deep", 0), "b")->first->next, SCAN_BOOL));
	assert_true(json_member(find(f.root, "deep", 0), "b")->first->next->truth);
	assert_int_equal(json_member(f.root, "deep")->key_column, 2);
	assert_int_equal(json_member(f.root, "empty")->n, 0);
	assert_null(json_member(f.root, "absent"));
	assert_null(json_member(name, "name"));
	drop(&f);
}

/* Whatever prefix is left of a document: a syntax error at the empty pointer, or (only space is
 * missing) the document. */
static void
test_every_cut(void **state)
{
	(void)state;
	for (size_t len = 0; len < strlen(sample) - 1; len++) {
		struct fixture f;
		scan_text(&f, sample, len);
		assert_null(f.root);
		assert_int_equal(f.errors.n, 1);
		assert_string_equal(f.errors.list[0].pointer, "");
		drop(&f);
	}
}

static void
test_byte_of_any_value_anywhere(void **state)
{
	(void)state;
	char text[sizeof sample];
	for (size_t at = 0; at + 1 < sizeof sample; at++) {
		for (unsigned byte = 0; byte < 256; byte++) {
			struct fixture f;
			memcpy(text, sample, sizeof sample);
			text[at] = (char)byte;
			scan_text(&f, text, sizeof sample - 1);
			assert_true(f.root != NULL || f.errors.n > 0);
			drop(&f);
		}
	}
}

static char *
repeated(const char *piece, size_t n)
{
	size_t len = strlen(piece);
	char *text = malloc(len * n + 1);
	assert_non_null(text);
	for (size_t i = 0; i < n; i++)
		memcpy(text + i * len, piece, len);
	text[len * n] = '\0';
	return text;
}

static void
test_depth(void **state)
{
	(void)state;
	char text[POLICY_DEPTH_MAX * 2 + 1];
	struct fixture f;
	memset(text, '[', POLICY_DEPTH_MAX);
	memset(text + POLICY_DEPTH_MAX, ']', POLICY_DEPTH_MAX);
	scan_text(&f, text, POLICY_DEPTH_MAX * 2);
	assert_non_null(f.root);
	drop(&f);
	char *deep = repeated("[", 10000);
	scan_text(&f, deep, 10000);
	check_errors("10000 arrays", &f.errors, "1:65 : nested deeper than 64 levels");
	drop(&f);
	free(deep);
	deep = repeated("{\"a\":", 10000);
	scan_text(&f, deep, 50000);
	check_errors("10000 objects", &f.errors, "1:321 : nested deeper than 64 levels");
	drop(&f);
	free(deep);
}

static void
test_bounds(void **state)
{
	(void)state;
	struct fixture f;
	char *text = repeated(" ", POLICY_BYTES_MAX + 1);
	scan_text(&f, text, POLICY_BYTES_MAX + 1);
	check_errors("too large", &f.errors, "1:1 : is too large, expected at most 67108864 bytes");
	drop(&f);
	memcpy(text, "{\"", 2);
	scan_text(&f, text, 1000000);
	check_errors("long key", &f.errors, "1:2 : the key is longer than 1024 bytes");
	drop(&f);
	for (size_t i = 0; i < POLICY_BYTES_MAX; i++)
		text[i] = i % 2 == 0 ? '0' : ',';
	text[0] = '[';
	text[1] = '0';
	text[2] = ',';
	for (size_t i = 3; i < POLICY_BYTES_MAX; i++)
		text[i] = i % 2 == 1 ? '0' : ',';
	scan_text(&f, text, POLICY_BYTES_MAX);
	check_errors("many values", &f.errors, "1:4000000 : more than 2000000 values");
	assert_true(f.arena.taken < (size_t)512 << 20);
	drop(&f);
	free(text);
}

static void
test_many_keys(void **state)
{
	(void)state;
	enum { N = 100000 };
	char *text = malloc(N * 16);
	size_t len = 0;
	struct fixture f;
	assert_non_null(text);
	for (size_t i = 0; i < N; i++)
		len += (size_t)sprintf(text + len, "%c\"k%zu\":0", i == 0 ? '{' : ',', i);
	len += (size_t)sprintf(text + len, ",\"k77\":1}");
	scan_text(&f, text, len);
	check_errors("many keys", &f.errors, "1:1088892 /k77: the key is repeated");
	assert_int_equal(f.root->n, N);
	assert_int_equal(json_member(f.root, "k77")->number, 0);
	drop(&f);
	free(text);
}

static void
test_error_list_is_bounded(void **state)
{
	(void)state;
	struct fixture f;
	char *text = repeated("\"\\u0000\",", POLICY_ERRORS_MAX + 5);
	size_t len = strlen(text);
	char *array = malloc(len + 3);
	assert_non_null(array);
	len = (size_t)sprintf(array, "[%.*s]", (int)len - 1, text);
	scan_text(&f, array, len);
	assert_int_equal(f.errors.n, POLICY_ERRORS_MAX);
	assert_int_equal(f.errors.dropped, 5);
	char *lines = policy_errors_to_text(&f.errors, "x.json");
	assert_memory_equal(lines, "x.json:1:2: /0: found \\u0000", 28);
	assert_non_null(strstr(lines, "5 more errors"));
	free(lines);
	free(array);
	free(text);
	drop(&f);
}

static void
test_errors_sorted_and_cut(void **state)
{
	(void)state;
	struct policy_errors e;
	char *text = repeated("\xe2\x82\xac", 1000);
	policy_errors_init(&e);
	policy_errors_add(&e, "/file", 0, 0, "%s", text);
	policy_errors_add(&e, "/b", 2, 1, "b");
	policy_errors_add(&e, "/a2", 1, 9, "first at its place");
	policy_errors_add(&e, "/a3", 1, 9, "second at its place");
	policy_errors_add(&e, "/a1", 1, 2, "a");
	policy_errors_sort(&e);
	static const char *const order[] = { "/a1", "/a2", "/a3", "/b", "/file" };
	for (size_t i = 0; i < ARRAY_LEN(order); i++)
		assert_string_equal(e.list[i].pointer, order[i]);
	assert_int_equal(strlen(e.list[4].message), 1023);
	policy_errors_free(&e);
	policy_errors_init(&e);
	policy_errors_add(&e, "", 0, 0, "x%s", text);
	assert_int_equal(strlen(e.list[0].message), 1021);
	policy_errors_free(&e);
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_tree),
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_byte_of_any_value_anywhere),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_many_keys),
		cmocka_unit_test(test_error_list_is_bounded),
		cmocka_unit_test(test_errors_sorted_and_cut),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
