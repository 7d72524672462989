/*
 * peer: a scripted peer on loopback, in the same loop as what is tested. It listens on a free port
 * and plays its script with each connection that comes. One connection can play all hops of a
 * chain, since they all speak through the one to the first.
 *
 * A script is tokens with spaces between; DATA is hex, or text in '...' with ~ for CR LF:
 *   <DATA   expect exactly these bytes
 *   >DATA   send them            :DATA  send them, one byte a turn
 *   tls     be a TLS server from here on, within the TLS that is there
 *   close   reset   fin          the end of the connection, or of our direction
 * At its end the connection is held, and what comes is kept as `tail`.
 */
#ifndef TESTS_UPSTREAM_PEER_H
#define TESTS_UPSTREAM_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/endpoint.h"

struct loop;
struct peer;
struct tls_context;

struct peer *peer_new(struct loop *l, const char *script);
/** Plays this with the second connection and all that follow. */
void peer_play_later(struct peer *p, const char *script);
/** What the word tls plays; before the first connection. Not taken. */
void peer_use_tls(struct peer *p, struct tls_context *c);
void peer_free(struct peer *p); /* closes all; NULL is fine */
const struct endpoint *peer_at(const struct peer *p);
unsigned peer_accepted(const struct peer *p);
/** Connections whose script ran to its end. */
unsigned peer_played(const struct peer *p);
/** The first thing that was not as the script says, or "". */
const char *peer_complaint(const struct peer *p);
/** What the last connection sent behind its script, as text. */
const char *peer_tail(const struct peer *p);
/** Connections that the other end closed or reset. */
unsigned peer_left(const struct peer *p);

/** Where nobody listens, as long as the descriptor returned is open. */
int refusing_port(struct endpoint *at);
/** Where nobody answers: a listener whose queue is full. The descriptors are in fds. */
void silent_port(struct endpoint *at, int fds[2]);

/** Turns the loop until *done, for some real seconds at most; says whether it came. */
bool turn_until(struct loop *l, const bool *done);
/** A few turns, with hardly a wait: what is to come may be late, on loopback too. */
void turn_some(struct loop *l);
unsigned open_descriptors(void);

#endif
