/*
 * session_parts: what the files of session share: session.c (life, states, the last word, relaying), session_entry.c (until the
 * request is known), session_request.c (from the request to the other side) and session_view.c (for the API). For them alone.
 */
#ifndef ROUTER_SESSION_PARTS_H
#define ROUTER_SESSION_PARTS_H

#include "router/session.h"
#include "router/shake.h"

struct policy_request;

/* ---- session.c ---- */

/** The policy that the session began with. */
const struct policy *session_policy(const struct session *s);
/** Where the client is; kind NONE: at a Unix socket. */
struct endpoint session_client(const struct session *s);
/** The auth block of its listener; NULL: none. */
const struct policy_auth *session_auth(const struct session *s);
/** The address of ours that the client reached. */
void session_reached(const struct session *s, struct endpoint *out);
/** The only place that changes the state: list, deadline. */
void session_enter(struct session *s, enum session_state state);
/** Bytes so far, of a relay or an association. */
struct association_counts session_traffic(const struct session *s);
/** The hops taken: of the path, or of all the ways that datagrams leave on, whose times are not known. Returns how many. */
size_t session_hops(const struct session *s, struct dial_hop_time *out, size_t cap);
/** "unix", or the address with its port. */
const char *session_client_text(const struct endpoint *e, char *out, size_t cap);
/** Keeps what was picked, to be given back at the end. False: out of memory. */
bool session_keep_path(struct session *s, const struct path *path);
/** What only the handshake needed goes back. */
void session_drop_shake(struct session *s);
/** True: `out` is empty. False: more must wait for the client, or the session has been closed. */
bool session_flush(struct session *s);
/** Lets the last word arrive. */
void session_linger(struct session *s);
/** The client has been told v: for counters, log and API. */
void session_answered(struct session *s, enum verdict v, unsigned code);
/** The refusal is in `out` already: sends it, then lingers. */
void session_say_last_word(struct session *s, enum verdict v);
/** Answers v in the client's protocol, then lingers. */
void session_refuse(struct session *s, enum verdict v);
/** A stream that nobody looks at now. */
void session_ignore(struct stream *stream, void *arg);
/** The other side is there: answers, and relays. early: what came from it already. */
void session_grant(struct session *s, const struct endpoint *bound, const uint8_t *early, size_t early_len);

/* ---- session_entry.c ---- */

/** Goes on with the handshake: feeds what has come, sends what is to be said, until something has to be waited for. */
void session_shake(struct session *s);
/** The client is not who it says, or did not say so properly: tells it, then lingers. */
void session_denied(struct session *s);
/** Takes this as the client's address. */
void session_keep_client(struct session *s, const struct endpoint *client);
/** While we are busy elsewhere: takes what comes early as far as there is room, and notices a client that broke off. */
void session_watch(struct session *s);
/** The gate that TLS handshakes pass has news. */
void session_on_tls_pass(void *arg, bool go);
/** The client's stream has news. */
void session_on_client(struct stream *stream, void *arg);

/* ---- session_gssapi.c ---- */

/** The client's token is for its security context: takes the step off the loop; the handshake goes on from there. */
void session_take_token(struct session *s);
/** The client asks for a level of protection. True: agreed, the handshake may go on. False: it waits, or is being refused. */
bool session_take_level(struct session *s) WARN_UNUSED;
/** Seals the stream, where that is due and all has gone that goes unsealed. False: it waits for that, or is closed. */
bool session_seal(struct session *s) WARN_UNUSED;

/* ---- session_request.c ---- */

/** The TCP connection that an association hangs on has something to say. */
void session_watch_association(struct session *s);
/** Nobody came in time. */
void session_give_up_bind(struct session *s);
/** Asks the policy, and goes where it says. */
void session_decide(struct session *s);

#endif
