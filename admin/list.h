/*
 * list: the shape of every list of the API: {"total": N, "KIND": [...]}, with the arguments `limit`
 * and `offset`.
 */
#ifndef ADMIN_LIST_H
#define ADMIN_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "base/base.h"

struct call;

enum { PAGE_USUAL = 1000, PAGE_MAX = 10000 };

struct page {
	size_t limit, offset;
};

/** False after a 400. */
bool page_read(struct call *c, struct page *out) WARN_UNUSED;

/** One object of a list; NULL: out of memory. */
typedef json_t *list_one_fn(struct call *c, size_t i);

/** Answers the page of a list of n objects. */
void list_answer(struct call *c, const char *kind, size_t n, list_one_fn *one);
/** Answers a page that is already cut out; takes the array. */
void list_answer_array(struct call *c, const char *kind, size_t total, json_t *array);

#endif
