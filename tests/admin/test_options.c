/*
 * The command line, tables for people, and JSON texts from strangers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/command.h"
#include "admin/json.h"
#include "admin/options.h"
#include "admin/table.h"

enum { ARGS_MAX = 12 };

/* Reads a command line with spaces between its words. The words stay in `text`. */
static bool
read_line(struct options *o, char *text, unsigned takes, int n_operands)
{
	char *argv[ARGS_MAX];
	int argc = 0;
	for (char *save, *word = strtok_r(text, " ", &save); word != NULL;
	     word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	return options_read(o, argc, argv, takes, n_operands);
}

static void
test_options(void **state)
{
	char text[] =
	    "run --config=a.json --listen 127.0.0.1:1 --listen=[::1]:2 --json "
	    "--upstream socks5://x -- -file-";
	struct options o;
	(void)state;
	assert_true(
	    read_line(&o, text, OPTION_CONFIG | OPTION_LISTEN | OPTION_JSON | OPTION_UPSTREAM, 1));
	assert_string_equal(o.config, "a.json");
	assert_int_equal(o.n_listen, 2);
	assert_string_equal(o.listen[0], "127.0.0.1:1");
	assert_string_equal(o.listen[1], "[::1]:2");
	assert_int_equal(o.n_upstreams, 1);
	assert_string_equal(o.upstreams[0], "socks5://x");
	assert_true(o.json);
	assert_string_equal(o.operand, "-file-");
	assert_null(o.admin);
	options_free(&o);
}

static const struct {
	const char *line;
	unsigned takes;
	int n_operands;
} wrong[] = {
	{ "x --config", OPTION_CONFIG, 0 },
	{ "x --config a --config b", OPTION_CONFIG, 0 },
	{ "x --json=yes", OPTION_JSON, 0 },
	{ "x --jso", OPTION_JSON, 0 },
	{ "x --config a", OPTION_JSON, 0 },
	{ "x -c", OPTION_CONFIG, 0 },
	{ "x file", 0, 0 },
	{ "x", 0, 1 },
	{ "x a b", 0, 1 },
	{ "x -- --json b", OPTION_JSON, 1 },
};

static void
test_wrong_options(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		char text[128];
		struct options o;
		snprintf(text, sizeof text, "%s", wrong[i].line);
		print_message("%s\n", text);
		assert_false(read_line(&o, text, wrong[i].takes, wrong[i].n_operands));
	}
}

static void
test_run_options(void **state)
{
	char *good[] = { "run",        "--listen", "127.0.0.1:1", "--upstream", "a",
			 "--upstream", "b",        "--admin",     "c" };
	char *mixed[] = { "run", "--config", "f", "--listen", "127.0.0.1:1" };
	struct run_options o;
	(void)state;
	assert_int_equal(command_parse_run(ARRAY_LEN(good), good, &o), -1);
	assert_int_equal(o.n_listen, 1);
	assert_int_equal(o.n_upstreams, 2);
	assert_string_equal(o.upstreams[1], "b");
	assert_string_equal(o.admin, "c");
	assert_null(o.config);
	command_free_run(&o);
	assert_int_equal(command_parse_run(ARRAY_LEN(mixed), mixed, &o), EXIT_USAGE);
	assert_int_equal(command_parse_run(3, mixed, &o), -1);
	assert_string_equal(o.config, "f");
	command_free_run(&o);
}

static void
test_table(void **state)
{
	struct table t;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	(void)state;
	table_init(&t, 3, 2);
	const char *cells[] = { "NAME", "N", "X", "caf\xc3\xa9", "10", "a", "longer", "7", NULL };
	for (size_t i = 0; i < ARRAY_LEN(cells); i++)
		table_add(&t, cells[i]);
	table_print(&t, out);
	table_free(&t);
	fclose(out);
	assert_string_equal(text, "NAME     N  X\n"
				  "caf\xc3\xa9    10  a\n"
				  "longer   7  -\n");
	free(text);
}

static void
test_control_bytes_reach_no_terminal(void **state)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	(void)state;
	print_clean("a\x1b[31mb\x7f\n\xc2\x9b"
		    "c\xff\xc3\xa9",
		    out);
	fclose(out);
	assert_string_equal(text, "a?[31mb???c?\xc3\xa9");
	free(text);
}

static void
test_json_text_of_strangers(void **state)
{
	(void)state;
	json_t *v = json_text("ok \xff\xc3\xa9\xed\xa0\x80"
			      "end");
	assert_non_null(v);
	assert_string_equal(json_string_value(v),
			    "ok \xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
			    "end");
	json_decref(v);
	v = json_text_or_null("");
	assert_true(json_is_null(v));
	json_decref(v);
	v = json_count(UINT64_MAX);
	assert_true(json_integer_value(v) == INT64_MAX);
	json_decref(v);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_wrong_options),
		cmocka_unit_test(test_run_options),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_control_bytes_reach_no_terminal),
		cmocka_unit_test(test_json_text_of_strangers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
