/*
 * fuzz: what the fuzz targets of handshakes share: a stream of bytes that is fed once at a time of
 * its choice and once in pieces.
 *
 * How a handshake ends must not depend on how its bytes were cut; each target compares two talks.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As assert(), also where NDEBUG is set. */
static inline void
must(bool holds)
{
	if (!holds)
		abort();
}

/*
 * Moves up to `piece` bytes of data into `in`, which has room. Returns how many of them have been
 * sent in all.
 */
static inline size_t
send_piece(struct buffer *in, const uint8_t *data, size_t size, size_t sent, size_t piece)
{
	size_t n = size - sent, room = buffer_make_room(in);
	n = n > piece ? piece : n;
	n = n > room ? room : n;
	must(n > 0 || sent == size);
	must(buffer_append(in, data + sent, n));
	return sent + n;
}

#endif
