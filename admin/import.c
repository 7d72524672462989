#include "admin/import.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "admin/check.h"
#include "admin/command.h"
#include "admin/commands.h"
#include "admin/options.h"
#include "policy/errors.h"

/* ---- notes ---- */

static int PRINTF_LIKE(3, 0)
    place_and_text(char **out, const struct import *i, const char *fmt, va_list args)
{
	char *text = NULL;
	if (vasprintf(&text, fmt, args) < 0)
		return -1;
	int n = i->line > 0 ? asprintf(out, "%s:%u: %s", i->file, i->line, text)
			    : asprintf(out, "%s: %s", i->file, text);
	free(text);
	return n;
}

void
import_note(struct import *i, const char *fmt, ...)
{
	va_list args;
	char *note = NULL, *all = NULL;
	va_start(args, fmt);
	if (place_and_text(&note, i, fmt, args) < 0 ||
	    asprintf(&all, "%s%s%s", i->notes != NULL ? i->notes : "", i->notes != NULL ? "\n" : "",
		     note) < 0)
		i->no_memory = true;
	else {
		free(i->notes);
		i->notes = all;
	}
	free(note);
	va_end(args);
}

bool
import_fail(struct import *i, const char *fmt, ...)
{
	va_list args;
	char *text = NULL;
	va_start(args, fmt);
	if (place_and_text(&text, i, fmt, args) < 0)
		i->no_memory = true;
	else
		fprintf(stderr, "sockroute: %s\n", text);
	free(text);
	va_end(args);
	i->failed = true;
	return false;
}

/* ---- files ---- */

char *
import_read(struct import *i, const char *path)
{
	i->file = path;
	i->line = 0;
	FILE *f = fopen(path, "re");
	char *text = malloc(IMPORT_BYTES_MAX + 1);
	size_t len = 0;
	if (f != NULL && text != NULL)
		len = fread(text, 1, IMPORT_BYTES_MAX + 1, f);
	if (f == NULL || ferror(f))
		import_fail(i, "%s", strerror(errno));
	else if (text == NULL)
		i->no_memory = true;
	else if (len > IMPORT_BYTES_MAX || memchr(text, '\0', len) != NULL)
		import_fail(i, "this is no such configuration");
	else
		text[len] = '\0';
	if (f != NULL)
		(void)fclose(f);
	if (i->failed || i->no_memory) {
		free(text);
		return NULL;
	}
	return text;
}

char *
import_next_line(struct import *i, char **text)
{
	char *line = *text;
	if (*line == '\0')
		return NULL;
	size_t len = strcspn(line, "\n");
	*text = line + len + (line[len] == '\n');
	line[len] = '\0';
	if (len > 0 && line[len - 1] == '\r')
		line[len - 1] = '\0';
	i->line++;
	return line;
}

char *
import_trim(char *text)
{
	static const char blanks[] = " \t\r\n\f";
	text += strspn(text, blanks);
	size_t len = strlen(text);
	while (len > 0 && strchr(blanks, text[len - 1]) != NULL)
		text[--len] = '\0';
	return text;
}

/* ---- JSON ---- */

void
import_set(struct import *i, json_t *object, const char *key, json_t *value)
{
	if (json_object_set_new(object, key, value) != 0)
		i->no_memory = true;
}

void
import_append(struct import *i, json_t *list, json_t *value)
{
	if (json_array_append_new(list, value) != 0)
		i->no_memory = true;
}

json_t *
import_list(struct import *i, const char *key)
{
	json_t *list = json_object_get(i->policy, key);
	if (list == NULL) {
		import_set(i, i->policy, key, json_array());
		list = json_object_get(i->policy, key);
	}
	return list;
}

json_t *
import_string(struct import *i, const char *text)
{
	json_t *s = json_string(text);
	if (s == NULL)
		import_fail(i, "text that is no UTF-8, or too much of it");
	return s;
}

json_t *
import_print(struct import *i, const char *fmt, ...)
{
	va_list args;
	char *text = NULL;
	json_t *s = NULL;
	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0)
		i->no_memory = true;
	else
		s = import_string(i, text);
	free(text);
	va_end(args);
	return s;
}

json_t *
import_duration(struct import *i, uint64_t ms)
{
	if (ms % 60000 == 0 && ms > 0)
		return import_print(i, "%llum", (unsigned long long)(ms / 60000));
	if (ms % 1000 == 0)
		return import_print(i, "%llus", (unsigned long long)(ms / 1000));
	return import_print(i, "%llums", (unsigned long long)ms);
}

bool
import_upstream(struct import *i, const char *name, const char *scheme, const char *host,
		uint16_t port, const char *username, const char *password)
{
	char text[ENDPOINT_TEXT_MAX];
	struct endpoint at = {.kind = ENDPOINT_NONE};
	if (endpoint_set_host(&at, host, strlen(host)) != ENDPOINT_OK)
		return import_fail(i, "\"%s\" is no proxy's host", host);
	at.port = port;
	json_t *u = json_object();
	import_set(i, u, "name", import_string(i, name));
	import_set(i, u, "url",
		   import_print(i, "%s://%s", scheme, endpoint_to_text(&at, text, sizeof text)));
	if (username != NULL)
		import_set(i, u, "username", import_string(i, username));
	if (password != NULL)
		import_set(i, u, "password", import_string(i, password));
	import_append(i, import_list(i, "upstreams"), u);
	return !i->failed;
}

/* ---- ranges ---- */

static unsigned
bits_of(const struct endpoint *e)
{
	return e->kind == ENDPOINT_IPV4 ? 32 : 128;
}

/* Sets the last n bits, or clears them. */
static void
fill_bits(struct endpoint *e, unsigned n, bool ones)
{
	for (unsigned bit = bits_of(e) - n; bit < bits_of(e); bit++) {
		uint8_t mask = (uint8_t)(0x80 >> bit % 8);
		e->addr[bit / 8] =
		    (uint8_t)(ones ? e->addr[bit / 8] | mask : e->addr[bit / 8] & ~mask);
	}
}

static int
compare(const struct endpoint *a, const struct endpoint *b)
{
	return memcmp(a->addr, b->addr, bits_of(a) / 8);
}

/* The next address; false: that was the last one. */
static bool
step(struct endpoint *e)
{
	for (int k = (int)bits_of(e) / 8 - 1; k >= 0; k--)
		if (++e->addr[k] != 0)
			return true;
	return false;
}

/* The largest block that begins at `at` and ends at `to` or before. */
static unsigned
largest_block(const struct endpoint *at, const struct endpoint *to)
{
	unsigned n = 0;
	while (n < bits_of(at)) {
		struct endpoint first = *at, last = *at;
		fill_bits(&first, n + 1, false);
		fill_bits(&last, n + 1, true);
		if (compare(&first, at) != 0 || compare(&last, to) > 0)
			break;
		n++;
	}
	return n;
}

void
import_append_range(struct import *i, json_t *list, const struct endpoint *from,
		    const struct endpoint *to)
{
	struct endpoint at = *from;
	char text[ENDPOINT_TEXT_MAX];
	bool more = compare(&at, to) <= 0;
	while (more) {
		unsigned n = largest_block(&at, to);
		endpoint_host_to_text(&at, text, sizeof text);
		import_append(i, list,
			      n == 0 ? import_string(i, text)
				     : import_print(i, "%s/%u", text, bits_of(&at) - n));
		fill_bits(&at, n, true);
		more = compare(&at, to) < 0 && step(&at);
	}
}

/* ---- the command ---- */

static const struct kind {
	const char *name;
	bool (*import)(struct import *i, char **files, int n);
	int most_files; /* 0: any number */
} kinds[] = {
    {"jsocks", import_jsocks, 0},
    {"proxychains", import_proxychains, 1},
};

/* The comment comes first in the document. NULL: out of memory. */
static char *
text_of(struct import *i)
{
	json_t *all = json_object();
	if (i->notes != NULL)
		import_set(i, all, "comment", import_string(i, i->notes));
	if (json_object_update(all, i->policy) != 0)
		i->no_memory = true;
	char *text = i->no_memory || i->failed ? NULL : json_dumps(all, JSON_INDENT(2));
	i->no_memory = i->no_memory || (text == NULL && !i->failed);
	json_decref(all);
	return text;
}

/* What is printed passes `check`: what can't be said in a policy shows here at the latest. */
static bool
check_text(const char *text)
{
	struct policy_errors errors;
	policy_errors_init(&errors);
	struct policy *p = check_load(
	    &(struct policy_source){.text = text, .len = strlen(text), .name = "import"}, &errors);
	bool ok = p != NULL;
	if (!ok)
		print_policy_errors(&errors, "the policy made from it", stderr);
	policy_unref(p);
	policy_errors_free(&errors);
	return ok;
}

static int
run_import(const struct kind *k, char **files, int n)
{
	struct import i = {.policy = json_object()};
	char *text = NULL;
	i.no_memory = i.policy == NULL;
	if (!i.no_memory && k->import(&i, files, n))
		text = text_of(&i);
	bool ok = text != NULL && check_text(text);
	if (ok)
		puts(text);
	else if (i.no_memory)
		fputs("sockroute: out of memory\n", stderr);
	else if (i.notes != NULL)
		fprintf(stderr, "%s\n", i.notes); /* may say why too little was left */
	free(text);
	free(i.notes);
	json_decref(i.policy);
	return ok ? EXIT_DONE : EXIT_FAILED;
}

int
command_import(int argc, char **argv)
{
	const char *names[ARRAY_LEN(kinds)];
	for (int k = 1; k < argc; k++)
		if (argv[k][0] == '-')
			return usage_error("import: unknown option \"%s\"", argv[k]);
	if (argc < 3)
		return usage_error("import: expected a kind and a file; sockroute import --help");
	for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
		names[k] = kinds[k].name;
		if (strcmp(argv[1], kinds[k].name) != 0)
			continue;
		if (kinds[k].most_files > 0 && argc - 2 > kinds[k].most_files)
			return usage_error("import: unexpected \"%s\"",
					   argv[2 + kinds[k].most_files]);
		return run_import(&kinds[k], argv + 2, argc - 2);
	}
	return usage_unknown("kind", argv[1], names, ARRAY_LEN(names), "sockroute import --help");
}
