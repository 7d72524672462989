/*
 * reader, writer: bytes of a wire format, in network order, that can't run off either end.
 *
 * A reader past its end gives zeros and remembers it (`truncated`). A writer past its end writes nothing and remembers it
 * (`overflow`); its length is then meaningless. Plain values on the stack; they own nothing.
 */
#ifndef BASE_READER_H
#define BASE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct reader {
	const uint8_t *data;
	size_t len, at;
	bool truncated;
};

static inline struct reader
reader_of(const void *data, size_t len)
{
	return (struct reader){ .data = data, .len = len };
}

static inline size_t
reader_offset(const struct reader *r)
{
	return r->at;
}

static inline size_t
reader_left(const struct reader *r)
{
	return r->len - r->at;
}

/** The next n bytes, or NULL (and truncated). */
static inline const uint8_t *
read_bytes(struct reader *r, size_t n)
{
	if (r->truncated || n > r->len - r->at) {
		r->truncated = true;
		return NULL;
	}
	const uint8_t *p = r->data + r->at;
	r->at += n;
	return p;
}

static inline uint8_t
read_u8(struct reader *r)
{
	const uint8_t *p = read_bytes(r, 1);
	return p == NULL ? 0 : p[0];
}

static inline uint16_t
read_u16(struct reader *r)
{
	const uint8_t *p = read_bytes(r, 2);
	if (p == NULL)
		return 0;
	return (uint16_t)((unsigned)p[0] << 8 | p[1]);
}

struct writer {
	uint8_t *data;
	size_t cap, len;
	bool overflow;
};

static inline struct writer
writer_of(void *data, size_t cap)
{
	return (struct writer){ .data = data, .cap = cap };
}

static inline void
write_bytes(struct writer *w, const void *bytes, size_t n)
{
	if (w->overflow || n > w->cap - w->len) {
		w->overflow = true;
		return;
	}
	if (n > 0)
		memcpy(w->data + w->len, bytes, n);
	w->len += n;
}

static inline void
write_u8(struct writer *w, uint8_t v)
{
	write_bytes(w, &v, 1);
}

static inline void
write_u16(struct writer *w, uint16_t v)
{
	uint8_t b[2] = { (uint8_t)(v >> 8), (uint8_t)v };
	write_bytes(w, b, 2);
}

#endif
