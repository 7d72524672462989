/*
 * marked: see marked.h.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "marked.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MARKS_MAX = 16 };

struct marks {
	size_t n;
	unsigned line[MARKS_MAX], column[MARKS_MAX];
};

static char dir[] = "/tmp/sockroute-test-XXXXXX";

const char *
marked_dir(void)
{
	return dir;
}

void
marked_write_file(const char *name, const char *text)
{
	char path[300];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

void
marked_make_dir(void)
{
	snprintf(dir, sizeof dir, "/tmp/sockroute-test-XXXXXX");
	assert_non_null(mkdtemp(dir));
}

int
marked_make_files(void **state)
{
	(void)state;
	marked_make_dir();
	marked_write_file("secret", "s3cret\r\n");
	marked_write_file("two-lines", "a_b\nc_d\n");
	marked_write_file("empty", "\n");
	marked_write_file("ads.txt", "ads.example\n=www.example\n");
	marked_write_file("users.json", "[{\"name\": \"bob\", \"password_hash\": \"" MARKED_HASH
	                                "\", \"comment\": \"x\"}]");
	marked_write_file(
	    "bad-users.json", "[\n {\"name\": \"\", \"password_hash\": \"" MARKED_HASH "\"}]");
	return 0;
}

int
marked_remove_files(void **state)
{
	char path[600];
	DIR *d = opendir(dir);
	(void)state;
	assert_non_null(d);
	for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
		snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			unlink(path);
	}
	closedir(d);
	return rmdir(dir);
}

struct policy *
marked_load(const char *text, const struct policy *before, struct policy_errors *errors)
{
	struct policy_source from = {
		.text = text, .len = strlen(text), .name = "test", .dir = dir, .before = before
	};
	policy_errors_init(errors);
	return policy_load(&from, errors);
}

struct policy *
marked_load_sound(const char *text)
{
	struct policy_errors errors;
	struct policy *p = marked_load(text, NULL, &errors);
	if (p == NULL)
		fail_msg("%s: %s: %s", text, errors.list[0].pointer, errors.list[0].message);
	assert_int_equal(errors.n, 0);
	policy_errors_free(&errors);
	return p;
}

/* The text without its marks, and where they stood. */
static char *
take_marks(const char *text, struct marks *m)
{
	char *plain = malloc(strlen(text) + 1), *out = plain;
	unsigned line = 1, column = 1;
	assert_non_null(plain);
	m->n = 0;
	for (; *text != '\0'; text++) {
		if (*text == '^') {
			assert_true(m->n < MARKS_MAX);
			m->line[m->n] = line;
			m->column[m->n++] = column;
			continue;
		}
		column = *text == '\n' ? 1 : column + 1;
		line += *text == '\n';
		*out++ = *text;
	}
	*out = '\0';
	return plain;
}

static void
expect_error(const char *text, const struct policy_error *e, unsigned line, unsigned column,
    const char *want)
{
	const char *part = strstr(want, ": ");
	assert_non_null(part);
	if (e->line != line || e->column != column)
		fail_msg("%s\n  error at %u:%u %s: %s\n  expected at %u:%u %s", text, e->line,
		    e->column, e->pointer, e->message, line, column, want);
	if (strlen(e->pointer) != (size_t)(part - want) ||
	    strncmp(e->pointer, want, (size_t)(part - want)) != 0)
		fail_msg(
		    "%s\n  error at '%s': %s\n  expected '%s'", text, e->pointer, e->message, want);
	if (strstr(e->message, part + 2) == NULL)
		fail_msg("%s\n  '%s' lacks '%s'", text, e->message, part + 2);
}

void
marked_expect(const char *text, const struct policy *before, const char *want)
{
	struct policy_errors errors;
	struct marks marks;
	char *plain = take_marks(text, &marks), *wants = strdup(want), *rest = wants;
	struct policy *p = marked_load(plain, before, &errors);
	assert_non_null(wants);
	assert_true(marks.n > 0);
	if (p != NULL)
		fail_msg("%s\n  was taken, expected %s", text, want);
	for (size_t i = 0; i < marks.n; i++) {
		if (i >= errors.n)
			fail_msg("%s\n  %zu errors, expected %zu", text, errors.n, marks.n);
		const char *one = strsep(&rest, "|");
		assert_non_null(one);
		expect_error(text, &errors.list[i], marks.line[i], marks.column[i], one);
	}
	if (errors.n > marks.n)
		fail_msg("%s\n  one error more: %s: %s", text, errors.list[marks.n].pointer,
		    errors.list[marks.n].message);
	assert_null(rest);
	policy_errors_free(&errors);
	free(wants);
	free(plain);
}
