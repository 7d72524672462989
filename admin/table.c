#include "admin/table.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/utf8.h"

void
table_init(struct table *t, size_t n_columns, unsigned numbers)
{
	*t = (struct table){ .n_columns = n_columns, .numbers = numbers };
}

void
table_add(struct table *t, const char *text)
{
	if (t->n_cells == t->cap) {
		size_t cap = t->cap > 0 ? t->cap * 2 : 256;
		void *more = realloc(t->cells, cap * sizeof *t->cells);
		if (more == NULL)
			return;
		t->cells = more;
		t->cap = cap;
	}
	snprintf(t->cells[t->n_cells++], sizeof *t->cells, "%s",
		 text != NULL && text[0] != '\0' ? text : "-");
}

/* Columns on the screen, as far as one character is one. */
static size_t
width(const char *text)
{
	size_t n = 0;
	for (; *text != '\0'; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

void
print_clean(const char *text, FILE *out)
{
	size_t len = strlen(text);
	for (size_t i = 0, n; i<len; i += n> 0 ? n : 1) {
		n = utf8_length(text + i, len - i);
		unsigned char first = (unsigned char)text[i];
		bool control = first < 0x20 || first == 0x7f ||
			       (first == 0xc2 && n == 2 && (unsigned char)text[i + 1] < 0xa0);
		if (n == 0 || control)
			fputc('?', out);
		else
			fwrite(text + i, 1, n, out);
	}
}

static void
pad(FILE *out, size_t n)
{
	fprintf(out, "%*s", (int)n, "");
}

void
table_print(const struct table *t, FILE *out)
{
	size_t widths[TABLE_COLUMNS_MAX] = { 0 };
	size_t n = t->n_cells - t->n_cells % t->n_columns;
	for (size_t i = 0; i < n; i++) {
		size_t w = width(t->cells[i]), column = i % t->n_columns;
		widths[column] = w > widths[column] ? w : widths[column];
	}
	for (size_t i = 0; i < n; i++) {
		size_t column = i % t->n_columns, gap = widths[column] - width(t->cells[i]);
		bool last = column == t->n_columns - 1, right = t->numbers & (1u << column);
		pad(out, right ? gap : 0);
		print_clean(t->cells[i], out);
		if (last)
			fputc('\n', out);
		else
			pad(out, (right ? 0 : gap) + 2);
	}
}

void
table_free(struct table *t)
{
	free(t->cells);
	*t = (struct table){ 0 };
}
