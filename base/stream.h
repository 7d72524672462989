/*
 * stream: one connected socket on a loop, plain, TLS or sealed by GSS-API, read and written without
 * waiting.
 *
 * One libevent event per socket, embedded, READ|WRITE|CLOSED|ET|PERSIST, added once and never
 * changed. Edges are latched in `ready`: STREAM_READABLE stays set until a read found the source
 * empty, STREAM_WRITABLE until a write found it full. The owner is told of new edges by on_ready
 * and then reads and writes until the bit is gone, or gives way and comes back by a loop_task:
 * no new edge comes for what was left.
 *
 * Hints are not verdicts: only results of stream_read and stream_write (and SO_ERROR while
 * connecting) tell of EOF or error.
 * After a short read of a plain socket the kernel is taken for empty, which saves the second
 * recv(2), unless the edge said that a FIN waits behind the data. Of a RST it can't say so
 * (libevent hides EPOLLERR), so a short read arms one look more at the socket, LOOP_LOOK_MS
 * later: a reset that came together with data is noticed then, or by the next write.
 *
 * With TLS, READABLE stays set until OpenSSL itself found the socket empty: bytes inside it make no
 * event. With GSS-API it is set as long as a whole message waits inside the layer, too.
 *
 * Layers lie on the socket in any order, one on the other. A GSS layer that another layer lies on is
 * a part of `tls` from then on.
 *
 * Life: stream_init -> stream_open -> read/write -> stream_close (event_del before close; any
 * state; twice is fine).
 * Embedded by its owner and not movable while open; stream_move does it properly. One thread.
 */
#ifndef BASE_STREAM_H
#define BASE_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "base/base.h"
#include "base/looks.h"
#include "base/gss_layer.h"
#include "base/tls.h"
#include "base/wheel.h"

struct loop;
struct stream;

enum stream_ready {
	STREAM_READABLE = 1,
	STREAM_WRITABLE = 2,
	STREAM_HUP = 4,        /* FIN, RST or an error was reported; look after the data */
};

enum stream_status {
	STREAM_OK,             /* n > 0 bytes went */
	STREAM_AGAIN,          /* nothing now; the bit is cleared */
	STREAM_EOF,            /* the peer ended its direction properly (FIN; TLS: close_notify) */
	/* reset, no close_notify, a sealed message cut or forged, ...; errno in stream->error */
	STREAM_ERROR,
};

enum { STREAM_WASTE_READS = 64 };

/** New bits were latched. The callback may close the stream. */
typedef void stream_cb(struct stream *s, void *arg);

/* An idle session has two of these: kept small. */
struct stream {
	struct event event;
	struct loop *loop;
	struct tls *tls;       /* NULL: plain */
	struct gss_layer *gss; /* on top; NULL: none is */
	stream_cb *on_ready;
	void *arg;
	int fd;                /* -1: closed */
	struct look look;      /* for a reset behind data */
	short error;           /* errno of the last STREAM_ERROR; EPROTO for a layer's trouble */
	uint8_t ready;         /* enum stream_ready */
	uint8_t read_end : 4;  /* STREAM_EOF, STREAM_ERROR: how the source ended; STREAM_OK: not yet */
	bool write_shut : 1;
	bool broken : 1;       /* an error but EPIPE was told: an EOF after it is no proper end */
	bool read_wants_write : 1; /* TLS: the last read waits for room, */
	bool write_wants_read : 1; /* the last write for bytes */
};

void stream_init(struct stream *s, struct loop *l);
/**
 * Registers a non-blocking socket, connected or connecting. Takes fd, on failure too (closed then).
 * ready: the bits to start with: 0 for a connecting socket; an accepted one starts
 * READABLE|WRITABLE at no cost of a turn.
 * @return false when the event can't be added (errno)
 */
bool stream_open(struct stream *s, int fd, uint8_t ready, stream_cb *on_ready, void *arg)
    WARN_UNUSED;
void stream_set_callback(struct stream *s, stream_cb *on_ready, void *arg);
/**
 * Moves an open stream to another place, an initialised one that is closed. Bits, callback and
 * layers go along, and so does an event that waits to be told; no system call is made. `from` is
 * closed after. False (out of memory): nothing happened.
 */
bool stream_move(struct stream *to, struct stream *from) WARN_UNUSED;

/**
 * Wraps what follows in TLS; takes tls. The handshake is driven by stream_handshake. On a TLS
 * stream: TLS within TLS; on one with a GSS layer: within that.
 * @return false: out of memory, tls is freed; never on a stream without a GSS layer
 */
bool stream_start_tls(struct stream *s, struct tls *tls);
/**
 * STREAM_OK when the TLS handshake is done (at once for a plain stream), AGAIN, or ERROR (text:
 * tls_error_text).
 */
enum stream_status stream_handshake(struct stream *s) WARN_UNUSED;
/**
 * Seals all that follows, both ways, with an established context, which is taken, on failure too.
 * On one that is sealed already: within that. The owner has written all that was to go unsealed. early: what it has read of the sealed
 * bytes already; they may make the stream READABLE, without a callback.
 * @return false: out of memory, or the context can't seal
 */
bool stream_start_gss(struct stream *s, const struct gss_layer_options *o, const void *early,
    size_t early_len) WARN_UNUSED;
/** The context that seals the stream, for datagrams that belong to it; NULL: none does. */
struct gss_context *stream_gss_context(const struct stream *s);
/** Does it keep them secret, too? */
bool stream_gss_is_secret(const struct stream *s);

/**
 * Reads up to cap > 0 bytes. Once it said EOF it says so again (ERROR where a reset comes after
 * all), without a system call; once it said ERROR, too.
 */
enum stream_status stream_read(struct stream *s, void *out, size_t cap, size_t *n) WARN_UNUSED;
/**
 * Reads what came on a stream that nothing is to come on any more. AGAIN: all of it; OK: more than
 * STREAM_WASTE_READS reads take, which is a flood; EOF and ERROR as stream_read.
 */
enum stream_status stream_waste(struct stream *s) WARN_UNUSED;
/**
 * Writes up to len > 0 bytes; a short count is OK and clears STREAM_WRITABLE. Never raises SIGPIPE.
 * With a layer, what follows AGAIN or a short count must begin with the bytes that did not go, and
 * be at least as many.
 */
enum stream_status stream_write(struct stream *s, const void *bytes, size_t len, size_t *n)
    WARN_UNUSED;
/**
 * Ends our direction (SHUT_WR, or close_notify, then SHUT_WR). Once; again is OK and does nothing.
 * AGAIN: call again when writable.
 */
enum stream_status stream_shut_write(struct stream *s);
/**
 * True if both directions are ended, but the end that was read is that of a layer on another one.
 * What ends the lower one may come yet, and met by a closed socket it makes the kernel send RST,
 * which throws away what is on its way to the peer. Hence stream_strip, and reading to the end again, until
 * it is that of the lowest, before stream_close.
 */
bool stream_ended_above(const struct stream *s);
/** Takes the upper layer off such a one: what is read from now on is the lower one's. */
void stream_strip(struct stream *s);
/** Takes SO_ERROR; for a connecting socket that became writable. 0: connected. */
int stream_take_error(struct stream *s);

/**
 * True if the kernel moves its bytes unchanged (kernel TLS too, GSS-API never), so splice(2) may be
 * used in that direction from now on.
 */
bool stream_can_splice_in(const struct stream *s);
bool stream_can_splice_out(const struct stream *s);

static inline bool
stream_is_open(const struct stream *s)
{
	return s->fd >= 0;
}

void stream_close(struct stream *s);
/** Closes with a reset (SO_LINGER 0), to pass a reset on. */
void stream_reset(struct stream *s);

#endif
