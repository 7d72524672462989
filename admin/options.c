#include "admin/options.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/command.h"
#include "base/text.h"

enum option_kind { OPTION_TEXT, OPTION_LIST, OPTION_FLAG };

static const struct option_word {
	const char *name;
	unsigned bit;
	enum option_kind kind;
	size_t offset, count_offset;
} words[] = {
#define TEXT(name, bit, member)                                                                    \
	{                                                                                          \
		name, bit, OPTION_TEXT, offsetof(struct options, member), 0                        \
	}
	TEXT("--config", OPTION_CONFIG, config),
	TEXT("--admin", OPTION_ADMIN, admin),
	TEXT("--token-file", OPTION_TOKEN_FILE, token_file),
	TEXT("--to", OPTION_TO, to),
	TEXT("--client", OPTION_CLIENT, client),
	TEXT("--user", OPTION_USER, user),
	TEXT("--listener", OPTION_LISTENER, listener),
	TEXT("--protocol", OPTION_PROTOCOL, protocol),
	TEXT("--command", OPTION_COMMAND, command),
#undef TEXT
	{ "--listen", OPTION_LISTEN, OPTION_LIST, offsetof(struct options, listen),
	  offsetof(struct options, n_listen) },
	{ "--upstream", OPTION_UPSTREAM, OPTION_LIST, offsetof(struct options, upstreams),
	  offsetof(struct options, n_upstreams) },
	{ "--json", OPTION_JSON, OPTION_FLAG, offsetof(struct options, json), 0 },
};

int
usage_error(const char *fmt, ...)
{
	va_list args;
	fputs("sockroute: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputs("\n", stderr);
	return EXIT_USAGE;
}

int
usage_unknown(const char *what, const char *word, const char *const *known, size_t n,
	      const char *help)
{
	const char *near = text_nearest(word, known, n);
	if (near != NULL)
		return usage_error("unknown %s \"%s\": did you mean %s?", what, word, near);
	return usage_error("unknown %s \"%s\"; %s lists them", what, word, help);
}

static const struct option_word *
find(const char *arg, size_t len, unsigned takes)
{
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if ((words[i].bit & takes) && strlen(words[i].name) == len &&
		    strncmp(words[i].name, arg, len) == 0)
			return &words[i];
	return NULL;
}

static void
tell_unknown(const char *command, const char *arg, unsigned takes)
{
	const char *names[ARRAY_LEN(words)];
	size_t n = 0;
	char help[64];
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (words[i].bit & takes)
			names[n++] = words[i].name;
	snprintf(help, sizeof help, "sockroute %s --help", command);
	(void)usage_unknown("option", arg, names, n, help);
}

static bool
store(struct options *o, const struct option_word *w, const char *value)
{
	char *at = (char *)o + w->offset;
	if (w->kind == OPTION_FLAG) {
		*(bool *)(void *)at = true;
		return true;
	}
	if (w->kind == OPTION_LIST) {
		size_t *n = (size_t *)(void *)((char *)o + w->count_offset);
		(*(const char ***)(void *)at)[(*n)++] = value;
		return true;
	}
	const char **text = (const char **)(void *)at;
	if (*text != NULL) {
		usage_error("%s is given twice", w->name);
		return false;
	}
	*text = value;
	return true;
}

/* The option at argv[*i], and its value; *i moves over both. */
static bool
read_option(struct options *o, int argc, char **argv, int *i, unsigned takes)
{
	const char *arg = argv[*i];
	size_t len = strcspn(arg, "=");
	const struct option_word *w = find(arg, len, takes);
	if (w == NULL) {
		tell_unknown(argv[0], arg, takes);
		return false;
	}
	const char *value = arg[len] == '=' ? arg + len + 1 : NULL;
	if (w->kind == OPTION_FLAG && value != NULL) {
		usage_error("%s takes no value", w->name);
		return false;
	}
	if (w->kind != OPTION_FLAG && value == NULL && ++*i < argc)
		value = argv[*i];
	if (w->kind != OPTION_FLAG && value == NULL) {
		usage_error("%s needs a value", w->name);
		return false;
	}
	return store(o, w, value);
}

static bool
read_all(struct options *o, int argc, char **argv, unsigned takes, int n_operands)
{
	bool only_operands = false;
	for (int i = 1; i < argc; i++) {
		if (!only_operands && strcmp(argv[i], "--") == 0) {
			only_operands = true;
		} else if (!only_operands && argv[i][0] == '-' && argv[i][1] != '\0') {
			if (!read_option(o, argc, argv, &i, takes))
				return false;
		} else if (n_operands == 0 || o->operand != NULL) {
			usage_error("%s: unexpected \"%s\"", argv[0], argv[i]);
			return false;
		} else {
			o->operand = argv[i];
		}
	}
	if (n_operands > 0 && o->operand == NULL) {
		usage_error("%s: expected an argument; sockroute %s --help", argv[0], argv[0]);
		return false;
	}
	return true;
}

bool
options_read(struct options *o, int argc, char **argv, unsigned takes, int n_operands)
{
	*o = (struct options){ 0 };
	o->listen = calloc((size_t)argc + 1, sizeof *o->listen);
	o->upstreams = calloc((size_t)argc + 1, sizeof *o->upstreams);
	if (o->listen == NULL || o->upstreams == NULL)
		usage_error("out of memory");
	else if (read_all(o, argc, argv, takes, n_operands))
		return true;
	options_free(o);
	return false;
}

void
options_free(struct options *o)
{
	free(o->listen);
	free(o->upstreams);
	*o = (struct options){ 0 };
}
