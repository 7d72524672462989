/*
 * buffer: a fixed piece of memory with bytes in it, filled at the end and taken from the front. It never grows.
 *
 * For handshakes and leftovers: the memory belongs to whoever called buffer_init. Confined to one thread.
 */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct buffer {
	uint8_t *data;
	uint32_t cap, head, tail;              /* bytes are data[head .. tail) */
};

static inline void
buffer_init(struct buffer *b, void *memory, size_t cap)
{
	*b = (struct buffer){ .data = memory, .cap = (uint32_t)cap };
}

static inline size_t
buffer_len(const struct buffer *b)
{
	return b->tail - b->head;
}

static inline const uint8_t *
buffer_bytes(const struct buffer *b)
{
	return b->data + b->head;
}

/** Room at the end, after moving what is there to the front where that helps. */
static inline size_t
buffer_make_room(struct buffer *b)
{
	if (b->head == b->tail) {
		b->head = b->tail = 0;
	} else if (b->head > 0 && b->tail == b->cap) {
		memmove(b->data, b->data + b->head, b->tail - b->head);
		b->tail -= b->head;
		b->head = 0;
	}
	return b->cap - b->tail;
}

static inline uint8_t *
buffer_room(const struct buffer *b)
{
	return b->data + b->tail;
}

/** n bytes were written at buffer_room(). */
static inline void
buffer_filled(struct buffer *b, size_t n)
{
	assert(n <= b->cap - b->tail);
	b->tail += (uint32_t)n;
}

/** n bytes at the front were used. */
static inline void
buffer_take(struct buffer *b, size_t n)
{
	assert(n <= buffer_len(b));
	b->head += (uint32_t)n;
	if (b->head == b->tail)
		b->head = b->tail = 0;
}

/** Appends all n bytes, or none and false. */
static inline bool
buffer_append(struct buffer *b, const void *bytes, size_t n)
{
	if (b->head > 0 && n > b->cap - b->tail) {
		memmove(b->data, b->data + b->head, b->tail - b->head);
		b->tail -= b->head;
		b->head = 0;
	}
	if (n > b->cap - b->tail)
		return false;
	if (n > 0)
		memcpy(b->data + b->tail, bytes, n);
	b->tail += (uint32_t)n;
	return true;
}

#endif
