/*
 * credentials: what {user} and {session} become, and that nothing is ever cut.
 */
#include "upstream/credentials.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct {
	const char *template, *user, *session, *want;
} rows[] = {
    {NULL, "alice", "s1", ""},
    {"", "alice", "s1", ""},
    {"fred", "alice", "s1", "fred"},
    {"{user}", "alice", "s1", "alice"},
    {"{session}", "alice", "s1", "s1"},
    {"{user}{session}", "alice", "s1", "alices1"},
    {"x-{user}-y-{session}-z-{user}", "a", "b", "x-a-y-b-z-a"},
    {"{user}", NULL, NULL, ""},
    {"<{session}>", NULL, "", "<>"},
    {"{user}", "{session}", "s1", "{session}"}, /* not looked through again */
    {"{session}", "alice", "{user}", "{user}"},
    {"{User}{use}{user {}", "alice", "s1", "{User}{use}{user {}"},
    {"{{user}}", "alice", "s1", "{alice}"},
    {"{user", "alice", "s1", "{user"},
};

static void
test_expand(void **state)
{
	char out[64];
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		memset(out, 'x', sizeof out);
		if (!credentials_expand(rows[i].template, rows[i].user, rows[i].session, out,
					sizeof out) ||
		    strcmp(out, rows[i].want) != 0)
			fail_msg("%s: %s", rows[i].template, out);
	}
}

/* Each row fits in just its length and the NUL, and in nothing less. */
static void
test_too_long(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char out[64];
		size_t need = strlen(rows[i].want) + 1;
		for (size_t cap = 0; cap <= need; cap++) {
			memset(out, 'x', sizeof out);
			bool fits = credentials_expand(rows[i].template, rows[i].user,
						       rows[i].session, out, cap);
			if (fits != (cap == need) || out[cap] != 'x')
				fail_msg("%s in %zu", rows[i].want, cap);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_expand),
	    cmocka_unit_test(test_too_long),
	};
	return cmocka_run_group_tests_name("credentials", tests, NULL, NULL);
}
