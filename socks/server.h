/*
 * socks_server: the proxy side of a client's handshake: SOCKS4, 4a, 5 and HTTP CONNECT on one port,
 * told apart by the first byte.
 *
 * Pure: the session feeds bytes and sends what is in `out`. Credentials are checked by the session
 * between two feeds: AUTH says who wants in, socks_server_admit or _deny goes on. One request per
 * connection.
 * Life: socks_server_init -> feed * n (-> AUTH -> admit | deny) -> ASKED -> reply. Nothing to free.
 */
#ifndef SOCKS_SERVER_H
#define SOCKS_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"
#include "base/buffer.h"
#include "base/endpoint.h"
#include "socks/command.h"
#include "socks/verdict.h"

enum shake_result {
	SHAKE_MORE,            /* send out, feed again when more has come */
	SHAKE_AUTH,            /* username and password are there: admit or deny, then feed again */
	SHAKE_ASKED,         /* request is filled in; what is left in `in` is the client's stream */
	/* send out (an answer, where the protocol has one), then close; verdict says why */
	SHAKE_BAD,
};

enum {
	SOCKS_SERVER_IN_MAX = 8192,    /* HTTP head; the largest SOCKS message is 515 bytes */
	SOCKS_SERVER_OUT_MAX = 1024,
};

struct socks_server_options {
	unsigned protocols;            /* PROTOCOL_BIT()s that this listener speaks */
	bool tor_resolve;              /* takes SOCKS_RESOLVE and SOCKS_RESOLVE_PTR, in SOCKS5 */
	unsigned methods;      /* enum auth_method bits that it allows; strongest first is chosen */
};

/*
 * How methods show on the wire. SOCKS5: userpass where it is allowed and offered, else none. HTTP:
 * credentials must be given where userpass is the only one; where they are given they are checked.
 * SOCKS4 has none. ident looks like none: the session asks identd after ASKED, where `admitted` is
 * false and its policy says so.
 */

struct socks_request {
	enum socks_protocol protocol;
	uint8_t command;     /* enum socks_command, or one that is unknown (refused before ASKED) */
	struct endpoint to;            /* its port is not 0 where the command is CONNECT */
	char userid[256];              /* SOCKS4, unverified; "" otherwise */
};

struct socks_server {
	struct socks_server_options options;
	struct socks_request request;
	enum verdict verdict;          /* after BAD and deny */
	uint8_t step;
	bool admitted;                 /* username was checked and found good */
	char username[256];       /* after AUTH: as the client sent it; no NUL in it but the last */
	char password[256];            /* the same; wiped by admit, deny and init */
	uint8_t username_len, password_len;
};

void socks_server_init(struct socks_server *s, const struct socks_server_options *o);
/**
 * Takes complete messages from in; appends to out. Every answer is whole in out or not there at
 * all.
 * eof: no more will come (MORE is then BAD with CUT_SHORT, without an answer). After AUTH, ASKED or
 * BAD it takes nothing and says the same again, until admit.
 */
enum shake_result
socks_server_feed(struct socks_server *s, struct buffer *in, struct buffer *out,
    bool eof) WARN_UNUSED;
/**
 * After AUTH: the credentials are good: RFC 1929's success goes to out where the protocol has one.
 * Feed again.
 */
void socks_server_admit(struct socks_server *s, struct buffer *out);
/** After AUTH: they are not: the refusal of the protocol goes to out; then flush and close. */
void socks_server_deny(struct socks_server *s, struct buffer *out);
/**
 * The one answer to the request; bound may be NULL (zeros are sent). Granted or not, it is
 * complete. Between AUTH and admit it refuses for another reason than the credentials. At any other
 * time it says nothing: before a request there is nothing to answer, and after BAD the answer is
 * out.
 */
void
socks_server_reply(const struct socks_server *s, enum verdict v, const struct endpoint *bound,
    struct buffer *out);
/**
 * The code for v in this protocol, for log and counters: REP (0xff for NO_METHOD), CD or HTTP
 * status; 0 where there is no protocol.
 */
unsigned socks_server_code(enum socks_protocol p, enum verdict v);

#endif
