/*
 * gss_context: one GSS-API security context of Kerberos (RFC 2743, RFC 4121) by MIT's library: how
 * two ends come to know each other, and how they seal what they say from then on.
 *
 *   acceptor    a keytab and a service: who talks to us?
 *   initiator   a keytab or a credential cache, and the principal to be met
 *
 * To establish it takes tokens in both directions. A step may block (keytab, replay cache, for an
 * initiator the KDC too), so gss_pool takes them off the loop: 0.1 ms of CPU time for an acceptor.
 * Sealing and opening never do: they are computing alone, as the records of TLS are, and are done
 * on the thread of the connection. For 64 KiB in messages of 16 KiB, aes256-cts-hmac-sha1-96 takes
 * 0.1 ms to keep them whole and 0.4 ms to keep them secret, either way; in messages of 1 KiB twice
 * and one and a half times that. To hand a message to another thread and back would cost as much as
 * it takes, so a relay bounds what it does in a turn instead.
 * A context is used by one thread at a time: while a step is under way nothing else may touch it.
 * Once established it outlives the tickets that it was made with.
 *
 * Kerberos alone, no SPNEGO; credentials are never delegated; no name is looked up in the DNS.
 * Life: gss_context_new_* -> steps by gss_pool until GSS_STEP_DONE -> gss_context_wrap, _unwrap ->
 * gss_context_free.
 */
#ifndef BASE_GSS_CONTEXT_H
#define BASE_GSS_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

enum {
	GSS_TOKEN_MAX = 65535,         /* what two bytes can count; what we make is never longer */
	GSS_STEPS_MAX = 8,             /* Kerberos needs one, or two; then it is a failure */
	GSS_PRINCIPAL_MAX = 256,       /* with its NUL; a longer name is refused, never cut */
	GSS_WHY_MAX = 256,
};

struct gss_context;

/**
 * The side that is talked to. keytab: an absolute path; service: the first part of a principal in
 * it ("rcmd": any rcmd/HOST@REALM will do, so that one process can serve under several names).
 * Both are copied. NULL: out of memory. That the keytab is no good comes out with the first step.
 */
struct gss_context *gss_context_new_acceptor(const char *keytab, const char *service) WARN_UNUSED;

struct gss_initiator {
	const char *keytab;            /* to get tickets with, or NULL */
	const char *ccache;            /* where they are or go, "FILE:/path"; NULL: keytab: kept in
	                                  memory, for the process; else the system's default one */
	const char *principal;         /* whose; NULL: the first of the keytab, or of the cache */
	const char *target;            /* "rcmd/HOST", with "@REALM" where it isn't the default */
};
/** The side that begins: its first step takes no token. Asks for mutual authentication, replay and
 *  sequence protection, integrity and confidentiality. All is copied. NULL: out of memory. */
struct gss_context *gss_context_new_initiator(const struct gss_initiator *i) WARN_UNUSED;
/** NULL is fine. While a step is under way the memory lives until the step has ended. */
void gss_context_free(struct gss_context *c);

/* Of an established one. */

/** The other end's principal, "alice@EXAMPLE.ORG". */
const char *gss_context_peer(const struct gss_context *c);
/** Why the last call failed, for people. */
const char *gss_context_why(const struct gss_context *c);
/** The most bytes whose token has no more than GSS_TOKEN_MAX; 0: it can't seal. */
size_t gss_context_wrap_max(struct gss_context *c, bool secret);

/**
 * Seals a message behind `room` bytes left free for a header. Returns malloc'ed memory of room +
 * *token_len bytes, NULL on failure (out of memory, expired). secret: encrypted as well. *token_len
 * is never over GSS_TOKEN_MAX where len is no more than gss_context_wrap_max.
 */
uint8_t *gss_context_wrap(struct gss_context *c, bool secret, const void *bytes, size_t len,
    size_t room, size_t *token_len) WARN_UNUSED;

enum gss_order {
	GSS_IN_ORDER,                  /* of a stream: one twice, late or missing is a failure */
	GSS_ANY_ORDER,                 /* of datagrams: only one that came before is */
};
/**
 * Opens a token in its own memory. *at, *n: where in it the message lies then. secret: one that was
 * not encrypted is a failure. After a failure in order nothing more can be taken from this peer.
 */
bool gss_context_unwrap(struct gss_context *c, bool secret, enum gss_order order, uint8_t *token,
    size_t len, size_t *at, size_t *n) WARN_UNUSED;

/* For gss_pool alone. */

enum gss_step_outcome {
	GSS_STEP_DONE,                 /* established; there may be a last token to send */
	GSS_STEP_MORE,                 /* send the token, then go on with the answer to it */
	GSS_STEP_FAILED,               /* for good; gss_context_why */
};
/** Blocks. token: malloc'ed, NULL where there is none to send. */
enum gss_step_outcome gss_context_step(struct gss_context *c, const void *in, size_t in_len,
    uint8_t **token, size_t *token_len) WARN_UNUSED;
/** The same for contexts whose steps wait for the same files and the same KDCs. Any thread. */
uint64_t gss_context_lane(const struct gss_context *c);
/** One more owner, each of whom calls gss_context_free. Any thread. */
void gss_context_hold(struct gss_context *c);

#endif
