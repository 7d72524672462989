/*
 * arena: see arena.h. Chunks grow with what was taken so far, so that a large document needs few of
 * them.
 */
#include "policy/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_MIN = 4096, CHUNK_MAX = 1 << 20 };

struct arena_chunk {
	struct arena_chunk *next;
	size_t used, size; /* of bytes */
	alignas(max_align_t) unsigned char bytes[];
};

void
arena_init(struct arena *a)
{
	a->chunks = NULL;
	a->taken = 0;
}

void
arena_free(struct arena *a)
{
	while (a->chunks != NULL) {
		struct arena_chunk *c = a->chunks;
		a->chunks = c->next;
		free(c);
	}
	a->taken = 0;
}

static struct arena_chunk *
chunk_add(struct arena *a, size_t least)
{
	size_t size = a->taken < CHUNK_MIN   ? CHUNK_MIN
	              : a->taken > CHUNK_MAX ? CHUNK_MAX
	                                     : a->taken;
	if (size < least)
		size = least;
	struct arena_chunk *c = calloc(1, sizeof *c + size);
	if (c == NULL)
		return NULL;
	c->size = size;
	a->taken += size;
	c->next = a->chunks;
	a->chunks = c;
	return c;
}

void *
arena_take(struct arena *a, size_t size)
{
	if (size > SIZE_MAX / 2)
		return NULL;
	size = (size + alignof(max_align_t) - 1) / alignof(max_align_t) * alignof(max_align_t);
	struct arena_chunk *c = a->chunks;
	if ((c == NULL || c->size - c->used < size) && (c = chunk_add(a, size)) == NULL)
		return NULL;
	void *piece = c->bytes + c->used;
	c->used += size;
	return piece;
}

void *
arena_take_array(struct arena *a, size_t n, size_t size)
{
	if (size > 0 && n > SIZE_MAX / size)
		return NULL;
	return arena_take(a, n * size);
}

char *
arena_copy_text(struct arena *a, const char *text, size_t len)
{
	char *copy = len < SIZE_MAX ? arena_take(a, len + 1) : NULL;
	if (copy != NULL && len > 0)
		memcpy(copy, text, len);
	return copy;
}

char *
arena_print(struct arena *a, const char *fmt, ...)
{
	va_list args, again;
	va_start(args, fmt);
	va_copy(again, args);
	int len = vsnprintf(NULL, 0, fmt, args);
	char *text = len < 0 ? NULL : arena_take(a, (size_t)len + 1);
	if (text != NULL)
		vsnprintf(text, (size_t)len + 1, fmt, again);
	va_end(again);
	va_end(args);
	return text;
}
