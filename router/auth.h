/*
 * auth: checks passwords against crypt(3) hashes, off the loop, and remembers for a short while who was right.
 *
 * A hash is meant to be slow (yescrypt: 50 ms and more), so it is computed by threads of this module; a worker asks and is answered
 * through its mailbox. Equal questions under way share one computation. What was right is remembered for AUTH_REMEMBER_MS as an HMAC
 * under a key of this process over name, password and hash (so another hash or password is another entry), never the password;
 * a new policy forgets all. Unknown users cost a hash as well, so that names can't be told apart by time.
 *
 * Shared by all workers under one mutex, held for a look in a table. Bounded: AUTH_QUEUE_MAX computations wait at most, and
 * AUTH_PER_CLIENT_MAX of one client's address; beyond that the answer is no.
 * Life: auth_new -> auth_start / auth_cancel (workers) -> auth_free (after the workers have ended).
 */
#ifndef ROUTER_AUTH_H
#define ROUTER_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "base/counters.h"
#include "base/endpoint.h"
#include "base/mailbox.h"
#include "policy/policy.h"

enum { AUTH_THREADS = 2, AUTH_QUEUE_MAX = 512, AUTH_PER_CLIENT_MAX = 32, AUTH_REMEMBER_MS = 60000, AUTH_REMEMBER_N = 4096 };

struct auth;
struct auth_check;                             /* one question under way */

enum auth_answer { AUTH_REFUSED, AUTH_ADMITTED, AUTH_WAIT };

typedef void auth_cb(enum auth_answer answer, void *arg);

struct auth *auth_new(void);
void auth_free(struct auth *a);                /* NULL is fine */
/** Forgets who was right. Any thread. */
void auth_forget(struct auth *a);

struct auth_question {
	const struct policy_auth *block;
	const char *user;              /* without "+session" */
	const char *password;
	size_t password_len;
	const struct endpoint *client;
};

/**
 * @param box   the asking worker's mailbox
 * @return ADMITTED or REFUSED at once (cb is then never called), or WAIT and *out: cb comes once, from the worker's loop
 */
enum auth_answer auth_start(struct auth *a, const struct auth_question *q, struct mailbox *box, struct counters *counters,
                            auth_cb *cb, void *arg, struct auth_check **out) WARN_UNUSED;
/** By the asking worker: cb is not called any more. NULL is fine. */
void auth_cancel(struct auth_check *c);

/** Does the password (any bytes, len) give this hash? Slow by design. False for "", "*0", "!" and unknown schemes. */
bool auth_verify(const char *password, size_t len, const char *hash);

#endif
