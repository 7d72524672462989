/*
 * Names in other scripts: their form in ASCII, and which have none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/idn.h"

#include <string.h>

static const struct {
	const char *what, *name, *ascii;       /* NULL: it has none */
} names[] = {
	{ "umlaut", "b\xc3\xbc" "cher.example", "xn--bcher-kva.example" },
	{ "upper case", "B\xc3\x9c" "CHER.Example", "xn--bcher-kva.example" },
	{ "not composed", "bu\xcc\x88" "cher.example", "xn--bcher-kva.example" },
	{ "sharp s stays one", "fa\xc3\x9f.example", "xn--fa-hia.example" },
	{ "a final dot", "b\xc3\xbc" "cher.example.", "xn--bcher-kva.example" },
	{ "every label", "\xd0\xbf\xd1\x80\xd0\xb8\xd0\xbc\xd0\xb5\xd1\x80.\xd1\x80\xd1\x84", "xn--e1afmkfd.xn--p1ai" },
	{ "beside an underscore", "_dns.b\xc3\xbc" "cher.example", "_dns.xn--bcher-kva.example" },
	{ "full width letters", "\xef\xbd\x85xample.com", "example.com" },
	{ "a dot of another script", "b\xc3\xbc" "cher\xe3\x80\x82" "example", "xn--bcher-kva.example" },
	{ "an address in full width digits", "\xef\xbc\x91" "27.0.0.1", NULL },
	{ "maps to a slash", "\xe2\x84\x80.example", NULL },
	{ "no UTF-8", "b\xfc" "cher.example", NULL },
	{ "cut", "b\xc3", NULL },
	{ "writing direction", "turn\xe2\x80\xae" "daer.example", NULL },
	{ "no letter", "a\xc2\xa0" "b.example", NULL },
};

static void
test_names(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct endpoint e = { .kind = ENDPOINT_NONE };
		assert_true(idn_is_foreign(names[i].name, strlen(names[i].name)));
		bool found = idn_to_ascii(names[i].name, &e);
		if (found != (names[i].ascii != NULL))
			fail_msg("%s: %s", names[i].what, found ? endpoint_is_address(&e) ? "an address" : e.name : "none");
		if (found)
			assert_string_equal(e.name, names[i].ascii);
		else
			assert_int_equal(e.kind, ENDPOINT_NONE);
	}
}

static void
test_what_is_foreign(void **state)
{
	(void)state;
	assert_false(idn_is_foreign("xn--bcher-kva.example", 21));
	assert_false(idn_is_foreign("", 0));
	assert_false(idn_is_foreign("a\xc3\xbc", 1));
	assert_true(idn_is_foreign("a\x80", 2));
}

/* Too long in ASCII, though not as it is; a label, and a name. */
static void
test_too_long(void **state)
{
	char label[64], name[256] = "";
	struct endpoint e;
	(void)state;
	memset(label, 'a', 61);
	memcpy(label + 59, "\xc3\xbc", 3);
	assert_false(idn_to_ascii(label, &e));
	for (int i = 0; i < 42; i++)
		strcat(name, i < 41 ? "a\xc3\xbc" "bc." : "a\xc3\xbc");
	assert_false(idn_to_ascii(name, &e));
}

/* A name from within the endpoint that it replaces. */
static void
test_in_place(void **state)
{
	struct endpoint e = { .kind = ENDPOINT_NONE };
	(void)state;
	assert_int_equal(endpoint_set_host(&e, "b\xc3\xbc" "cher.example", 15), ENDPOINT_OK);
	assert_true(idn_to_ascii(e.name, &e));
	assert_string_equal(e.name, "xn--bcher-kva.example");
	assert_int_equal(e.name_len, 21);
}

static void
test_known_form(void **state)
{
	static const struct {
		const char *text, *known;
	} rows[] = {
		{ "B\xc3\xbc" "cher.example:80", "xn--bcher-kva.example:80" },
		{ "Books.example:80", "books.example:80" },
		{ "192.0.2.1:80", "192.0.2.1:80" },
		{ "b\xfc" "cher.example:80", "b\xfc" "cher.example:80" }, /* it has none */
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct endpoint e, room;
		char text[ENDPOINT_TEXT_MAX];
		assert_int_equal(endpoint_from_text(&e, rows[i].text, strlen(rows[i].text)), ENDPOINT_OK);
		assert_string_equal(endpoint_to_text(idn_known_form(&e, &room), text, sizeof text), rows[i].known);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_what_is_foreign),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_in_place),
		cmocka_unit_test(test_known_form),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
