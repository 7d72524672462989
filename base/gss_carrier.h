/*
 * gss_carrier: a GSS layer together with what it lies on, the socket or a TLS connection, for layers
 * above it: bytes in and out as tls.c has them. For tls.c alone.
 */
#ifndef BASE_GSS_CARRIER_H
#define BASE_GSS_CARRIER_H

#include <stddef.h>

#include "base/base.h"
#include "base/tls.h"

struct gss_carrier;
struct gss_layer;

/** Takes the layer; fd and below (NULL: the socket itself) are not taken. NULL: out of memory, and nothing was taken. */
struct gss_carrier *gss_carrier_new(struct gss_layer *l, int fd, struct tls *below) WARN_UNUSED;
void gss_carrier_free(struct gss_carrier *c);  /* NULL is fine */

/** As tls_read: EOF is the end of what lies below, between two messages. */
enum tls_status gss_carrier_read(struct gss_carrier *c, void *out, size_t cap, size_t *n) WARN_UNUSED;
/** As tls_write: bytes count when the whole message that they became has gone. */
enum tls_status gss_carrier_write(struct gss_carrier *c, const void *bytes, size_t len, size_t *n) WARN_UNUSED;
/** Sends what is left of a message. */
enum tls_status gss_carrier_flush(struct gss_carrier *c) WARN_UNUSED;
/** errno of the last TLS_FAILED; EPROTO where a message was cut or forged. */
int gss_carrier_error(const struct gss_carrier *c);

#endif
