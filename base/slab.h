/*
 * slab: objects of one size, taken and given back without malloc on the way. For one thread.
 *
 * Grows by pages of objects, mapped straight from the system. A page whose objects are all free
 * goes back when more than a quarter of the objects of the other pages are free too, and more than
 * SLAB_SPARE_BYTES of them: memory returns after a peak, and a load that goes up and down by some
 * objects maps nothing. Objects are aligned like malloc's; the head of each, as long as slab_init
 * was told, comes zero-filled, and what lies behind it holds anything: large objects have room in
 * them that is written before it is read. Under AddressSanitizer free objects are poisoned.
 * Life: slab_init -> slab_take / slab_give_back * n -> slab_free (all objects must be back;
 * asserts).
 */
#ifndef BASE_SLAB_H
#define BASE_SLAB_H

#include <stddef.h>

#include "base/list.h"

enum { SLAB_SPARE_BYTES = 256 << 10 };

struct slab {
	size_t object_size, head_size;
	size_t per_page, page_bytes;
	struct list partial, full, empty;      /* pages */
	size_t n_used, n_total;                /* objects */
};

/** head_size: how much of an object comes zero-filled; object_size: all of it. */
void slab_init(struct slab *s, size_t object_size, size_t head_size);
/** NULL when out of memory. */
void *slab_take(struct slab *s);
void slab_give_back(struct slab *s, void *object);   /* NULL is fine */
/** Gives back every page without an object in use: for when nobody has come for a while. */
void slab_trim(struct slab *s);
/** Bytes held from the system. */
size_t slab_bytes(const struct slab *s);
void slab_free(struct slab *s);

#endif
