/*
 * arena: memory that is taken in small pieces and given back all at once. What a policy or a
 * scanned document is made of lives in one.
 *
 * Pieces are aligned for any type and zeroed. Out of memory gives NULL, and the arena stays usable.
 * Life: arena_init -> arena_take * n -> arena_free, which frees every piece.
 */
#ifndef POLICY_ARENA_H
#define POLICY_ARENA_H

#include <stddef.h>

#include "base/base.h"

struct arena_chunk;

struct arena {
	struct arena_chunk *chunks; /* newest first */
	size_t taken;               /* bytes of all chunks */
};

void arena_init(struct arena *a);
void arena_free(struct arena *a);

/** size bytes, zeroed; size 0 gives a piece too. */
void *arena_take(struct arena *a, size_t size) WARN_UNUSED;
/** n objects of size bytes, zeroed; NULL where n * size overflows too. */
void *arena_take_array(struct arena *a, size_t n, size_t size) WARN_UNUSED;
/** A copy with a NUL behind it. */
char *arena_copy_text(struct arena *a, const char *text, size_t len) WARN_UNUSED;
char *arena_print(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3) WARN_UNUSED;

#endif
