/*
 * errors: see errors.h and policy.h. The list owns its strings.
 */
#include "policy/errors.h"

#include "policy/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
policy_errors_init(struct policy_errors *e)
{
	memset(e, 0, sizeof *e);
}

void
policy_errors_free(struct policy_errors *e)
{
	for (size_t i = 0; i < e->n; i++) {
		free(e->list[i].pointer);
		free(e->list[i].message);
	}
	free(e->list);
	policy_errors_init(e);
}

/* Room for one more, or NULL. */
static struct policy_error *
errors_grow(struct policy_errors *e)
{
	if (e->n == POLICY_ERRORS_MAX)
		return NULL;
	if (e->n == e->cap) {
		size_t cap = e->cap == 0 ? 8 : e->cap * 2;
		struct policy_error *list = realloc(e->list, cap * sizeof *list);
		if (list == NULL)
			return NULL;
		e->list = list;
		e->cap = cap;
	}
	return &e->list[e->n];
}

/* A message that filled its buffer may end within a character: takes that one off. */
static void
trim_cut_character(char *text, size_t len)
{
	size_t start = len;
	do
		start--;
	while (start > 0 && ((unsigned char)text[start] & 0xc0) == 0x80);
	if (utf8_length(text + start, len - start) == 0)
		text[start] = '\0';
}

void
policy_errors_add_va(struct policy_errors *e, const char *pointer, unsigned line, unsigned column,
    const char *fmt, va_list args)
{
	char message[POLICY_MESSAGE_MAX];
	int len = vsnprintf(message, sizeof message, fmt, args);
	if (len >= (int)sizeof message)
		trim_cut_character(message, sizeof message - 1);
	struct policy_error *error = errors_grow(e);
	char *own_pointer = error != NULL ? strdup(pointer) : NULL;
	char *own_message = error != NULL ? strdup(message) : NULL;
	if (own_pointer == NULL || own_message == NULL) {
		free(own_pointer);
		free(own_message);
		e->dropped++;
		return;
	}
	*error = (struct policy_error){ own_pointer, line, column, own_message };
	e->n++;
}

void
policy_errors_add(struct policy_errors *e, const char *pointer, unsigned line, unsigned column,
    const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	policy_errors_add_va(e, pointer, line, column, fmt, args);
	va_end(args);
}

static bool
comes_before(const struct policy_error *a, const struct policy_error *b)
{
	if ((a->line == 0) != (b->line == 0))
		return b->line == 0;
	return a->line != b->line ? a->line < b->line : a->column < b->column;
}

/* By insertion: at most POLICY_ERRORS_MAX, stable, and mostly in order already. */
void
policy_errors_sort(struct policy_errors *e)
{
	for (size_t i = 1; i < e->n; i++) {
		struct policy_error error = e->list[i];
		size_t at = i;
		for (; at > 0 && comes_before(&error, &e->list[at - 1]); at--)
			e->list[at] = e->list[at - 1];
		e->list[at] = error;
	}
}

char *
policy_errors_to_text(const struct policy_errors *e, const char *name)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	if (out == NULL)
		return NULL;
	for (size_t i = 0; i < e->n; i++)
		fprintf(out, "%s:%u:%u: %s: %s\n", name, e->list[i].line, e->list[i].column,
		    e->list[i].pointer, e->list[i].message);
	if (e->dropped > 0)
		fprintf(out, "%s:0:0: : %zu more errors\n", name, e->dropped);
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
