/*
 * table: rows of text in columns that line up, for people. Control bytes are shown as "?": what
 * strangers sent must not steer a terminal.
 */
#ifndef ADMIN_TABLE_H
#define ADMIN_TABLE_H

#include <stddef.h>
#include <stdio.h>

enum { TABLE_COLUMNS_MAX = 16, TABLE_CELL_MAX = 256 };

struct table {
	size_t n_columns, n_cells, cap;
	char (*cells)[TABLE_CELL_MAX]; /* row by row; the first is the head */
	unsigned numbers;              /* bit i: column i is set to the right */
};

void table_init(struct table *t, size_t n_columns, unsigned numbers);
/** Adds one cell; n_columns make a row. NULL is "-". Cut at TABLE_CELL_MAX. */
void table_add(struct table *t, const char *text);
void table_print(const struct table *t, FILE *out);
void table_free(struct table *t);

/** Writes text with control bytes as "?". */
void print_clean(const char *text, FILE *out);

#endif
