/*
 * tls_pair: a client's and a server's stream on one loop, connected and with real TLS between them, and how owners use them: by edges
 * alone, turn by turn.
 *
 * ON_PAIR and ON_BOTH make them before a test and take them down after it: the server is good.example, the client trusts its CA. Tests of
 * whom they accept make them themselves, with the contexts that they want. All of it fails the test where it can't go on.
 */
#ifndef TESTS_BASE_TLS_PAIR_H
#define TESTS_BASE_TLS_PAIR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/stream.h"
#include "base/tls.h"

struct loop;

extern struct loop *pair_loop;
extern struct tls_context *client_context, *server_context;
extern struct stream client, server;
extern unsigned pair_client_calls;             /* of the client's on_ready */

#define ON_PAIR(test) cmocka_unit_test_setup_teardown(test, pair_set_up, pair_tear_down)
/* Over a Unix socket, and over TCP, where kernel TLS takes part if there is any. */
#define ON_BOTH(test)                                                                              \
	{ #test " (Unix)", test, pair_set_up, pair_tear_down, NULL },                              \
	{ #test " (TCP)", test, pair_set_up_tcp, pair_tear_down, NULL }

int pair_set_up(void **state);
int pair_set_up_tcp(void **state);
int pair_tear_down(void **state);
/* Of a group: its certificates. */
int pair_start_group(void **state);
int pair_end_group(void **state);

/** Of files of tests/base/certificates.h, or NULL. NULL: why not. */
struct tls_context *
pair_context_of(bool is_server, const char *certificate, const char *key, const char *ca, bool verify,
    const char *alpn, char *why, size_t cap);
/** The same, which must work. */
struct tls_context *
pair_context(bool is_server, const char *certificate, const char *key, const char *ca, bool verify, const char *alpn);

/** Both streams, connected, without TLS. */
void pair_open(void);
void pair_close(void);
void pair_on_ready(struct stream *s, void *arg);       /* counts in arg's unsigned */
void pair_start_tls(struct stream *s, struct tls_context *c, const char *host);
void pair_shake_hands(enum stream_status *c, enum stream_status *s);
/** TLS by the contexts that are there, on whatever is there. */
void pair_stack_tls(void);
void pair_wait_turn(void);

/** As pair_expect_text, of any bytes, or what else came. */
enum stream_status pair_read(struct stream *s, uint8_t *out, size_t want, size_t *total);
void pair_send_text(struct stream *s, const char *text);
void pair_expect_text(struct stream *s, const char *text);
void pair_expect_end(struct stream *s, enum stream_status want);
void pair_exchange(size_t total);
void pair_exchange_after_moves(void);
void pair_half_close(struct stream *first, struct stream *second);

#endif
