/*
 * tls: OpenSSL behind a door of its own. A context says what is trusted and shown; a tls is one
 * connection's state.
 *
 * Contexts are immutable once made and may be shared between threads; a tls belongs to its stream's
 * thread.
 * No renegotiation, no resumption (a session of one identity opens nothing of another), TLS 1.2 and
 * up, no read_ahead, partial writes with moving buffers, TLS 1.2 by the kernel where it can. An end
 * without close_notify is an error.
 * OpenSSL writes with write(2): the first context makes the process ignore SIGPIPE where its action
 * is still the default one.
 */
#ifndef BASE_TLS_H
#define BASE_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/base.h"

struct tls_context;
struct tls;
struct gss_layer;

struct tls_options {
	bool server;
	const char *ca_file;           /* NULL: the system's; a server asks for no certificates */
	const char *certificate_file;  /* PEM chain; needed for a server */
	const char *key_file;          /* no pass phrase; NULL: it is in certificate_file */
	bool verify;                   /* client: chain and name or IP; server: demand one of ca_file */
	const char *alpn;              /* one protocol; who offers only others is refused; or NULL */
};

/** NULL, and why in `why` (cap bytes), which names the file at fault. */
struct tls_context *tls_context_new(const struct tls_options *o, char *why, size_t cap);
/** NULL is fine; connections made from it live on. */
void tls_context_free(struct tls_context *c);

/**
 * fd is not taken. host: SNI and the name (or IP address) to verify; ignored for a server.
 * NULL: out of memory, or no host where one is to be verified.
 */
struct tls *tls_new(struct tls_context *c, int fd, const char *host);
void tls_free(struct tls *t);                          /* NULL is fine; says nothing to the peer */
/** Why the last call failed, for people; valid until the next call. */
const char *tls_error_text(const struct tls *t);
/** The subject of the verified peer certificate as one line; "" when there is none. Returns out. */
const char *tls_peer_subject(const struct tls *t, char *out, size_t cap);

/* What follows is for stream.c, which turns it into STREAM_* and its latched bits. */

enum tls_status {
	TLS_OK,
	TLS_WANT_READ,         /* the socket is empty; the same call again when it is readable */
	TLS_WANT_WRITE,        /* the socket is full; the same call again when it is writable */
	TLS_EOF,               /* close_notify */
	TLS_FAILED,            /* for good: tls_error, tls_error_text */
};

/**
 * What TLS may be stacked on though it is none: a GSS layer, which is taken, on the socket or on
 * `below`, which it owns then. NULL: out of memory, and neither was taken.
 */
struct tls *tls_new_sealed(struct gss_layer *l, int fd, struct tls *below) WARN_UNUSED;
/**
 * From now on t talks through `below` (which it owns then) instead of the socket: TLS within TLS.
 */
void tls_stack(struct tls *t, struct tls *below);
enum tls_status tls_handshake(struct tls *t) WARN_UNUSED;
/** One record at most. */
enum tls_status tls_read(struct tls *t, void *out, size_t cap, size_t *n) WARN_UNUSED;
/**
 * One record at most. After TLS_WANT_*, the next write begins with the same bytes and has at least
 * as many.
 */
enum tls_status tls_write(struct tls *t, const void *bytes, size_t len, size_t *n) WARN_UNUSED;
/**
 * Sends close_notify, once, on every layer; nothing where the handshake is not done or t has
 * failed.
 */
enum tls_status tls_shut_write(struct tls *t) WARN_UNUSED;
/** True if its end is not that of the socket: it lies on another layer, which goes on. */
bool tls_is_stacked(const struct tls *t);
/** Frees it alone, not what it lies on, which is returned. NULL: the socket. */
struct tls *tls_peel(struct tls *t);
/** errno of TLS_FAILED; EPROTO where it was not the system's. */
int tls_error(const struct tls *t);
/**
 * True if the kernel does the records, so that splice(2) may: of what is read, where nothing waits inside OpenSSL; what is no data is
 * still for tls_read then.
 */
bool tls_kernel_reads(const struct tls *t);
bool tls_kernel_writes(const struct tls *t);

#endif
