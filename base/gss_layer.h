/*
 * gss_layer: the bytes of a stream as sealed messages, each a header (two fixed bytes, then the
 * length of the token in two) and a token of gss_context. For stream.c alone, which reads and
 * writes the carrier: the layer cuts, seals and opens.
 *
 * Writing: up to GSS_LAYER_SEAL_MAX bytes at a time become a frame. They count as written when the
 * whole frame has gone; until then what follows must begin with the same bytes, as with TLS.
 * Reading: what came is kept until a frame is whole, at most one frame and what was read with it.
 * Memory is there while bytes are: an idle layer has neither buffer.
 */
#ifndef BASE_GSS_LAYER_H
#define BASE_GSS_LAYER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

struct gss_context;
struct gss_layer;

enum {
	GSS_HEADER = 4,
	GSS_LAYER_SEAL_MAX = 16 << 10,
	GSS_LAYER_READ = 32 << 10,     /* of the read buffer, where a frame needs no more */
	GSS_LAYER_EMPTY_MAX = 32,      /* messages with nothing in them, in a row */
};

struct gss_layer_options {
	struct gss_context *context;   /* established; taken */
	bool secret;                   /* encrypted too, both ways; else kept whole only */
	uint8_t prefix[2];             /* of each header */
};

/** NULL: out of memory, or the context can't seal; the context is freed then. */
struct gss_layer *gss_layer_new(const struct gss_layer_options *o) WARN_UNUSED;
void gss_layer_free(struct gss_layer *l);      /* NULL is fine */
struct gss_context *gss_layer_context(const struct gss_layer *l);
bool gss_layer_is_secret(const struct gss_layer *l);

enum gss_layer_status {
	GSS_LAYER_OK,
	GSS_LAYER_MORE,                /* no whole frame is there: read on */
	GSS_LAYER_FAILED,              /* not a frame, or not the peer's: for good */
};

/** Takes bytes of the carrier that somebody else has read. False: out of memory. */
bool gss_layer_feed(struct gss_layer *l, const void *bytes, size_t len) WARN_UNUSED;
/** Where to read the carrier's bytes to, when gss_layer_read said MORE. NULL: out of memory. */
uint8_t *gss_layer_room(struct gss_layer *l, size_t *cap) WARN_UNUSED;
/** n of them came; 0 where none did. */
void gss_layer_filled(struct gss_layer *l, size_t n);
/** Gives up to cap > 0 bytes of what was sealed. */
enum gss_layer_status gss_layer_read(struct gss_layer *l, void *out, size_t cap, size_t *n)
    WARN_UNUSED;
/** Would gss_layer_read say something else than MORE now? */
bool gss_layer_has_more(const struct gss_layer *l);
/** Is a frame begun but not whole? An end of the carrier is a cut then. */
bool gss_layer_is_cut(const struct gss_layer *l);

/** Nothing is pending: makes a frame of the first bytes of these. False: it can't be sealed. */
bool gss_layer_seal(struct gss_layer *l, const void *bytes, size_t len) WARN_UNUSED;
/** What is to be written to the carrier; NULL: nothing is pending. */
const uint8_t *gss_layer_pending(const struct gss_layer *l, size_t *len);
/** n of it went. Returns how many bytes of the owner's that completes: 0 until all has. */
size_t gss_layer_sent(struct gss_layer *l, size_t n);

#endif
