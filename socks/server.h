/*
 * socks_server: the proxy side of a client's handshake: SOCKS4, 4a, 5 and HTTP CONNECT on one port,
 * told apart by the first byte.
 *
 * Pure: the session feeds bytes and sends what is in `out`. Credentials are checked by the session
 * between two feeds: AUTH says who wants in, socks_server_admit or _deny goes on. One request per
 * connection.
 *
 * Of GSS-API (RFC 1961) only the messages are known here; the session has the context. TOKEN hands
 * it the client's token, socks_server_give_token or _deny goes on; LEVEL hands it the level of
 * protection that the client asks for, socks_server_agree or _deny goes on. Where that level seals
 * what follows, the session sends `out`, unsealed, opens all further bytes, those left in `in` too,
 * and feeds what was inside.
 * Life: socks_server_init -> feed * n (-> AUTH -> admit | deny; -> TOKEN -> give_token | deny, ...
 * -> LEVEL -> agree | deny) -> ASKED -> reply. Nothing to free.
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
	SHAKE_TOKEN,           /* token: for the context: give_token or deny, then feed again */
	SHAKE_LEVEL,           /* token: a level, as sent: agree or deny, then feed again */
	SHAKE_ASKED,         /* request is filled in; what is left in `in` is the client's stream */
	/* send out (an answer, where the protocol has one), then close; verdict says why */
	SHAKE_BAD,
};

enum {
	/* HTTP head; the largest SOCKS message is 515 bytes, but see socks_server_in_max */
	SOCKS_SERVER_IN_MAX = 8192,
	SOCKS_SERVER_OUT_MAX = 1024,
};

struct socks_server_options {
	unsigned protocols;            /* PROTOCOL_BIT()s that this listener speaks */
	bool tor_resolve;              /* takes SOCKS_RESOLVE, and in SOCKS5 SOCKS_RESOLVE_PTR */
	unsigned methods;      /* enum auth_method bits that it allows; strongest first is chosen */
};

/*
 * How methods show on the wire. SOCKS5: gssapi where it is allowed and offered, else userpass, else
 * none. HTTP: credentials must be given where userpass is the only one; where they are given they
 * are checked. SOCKS4 has none. ident looks like none: the session asks identd after ASKED, where `admitted` is
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
	bool admitted;                 /* the client has proved who it is */
	const uint8_t *token;  /* of TOKEN and LEVEL, in `in`: valid until more is read into that */
	size_t token_len;
	char username[256];       /* after AUTH: as the client sent it; no NUL in it but the last */
	char password[256];            /* the same; wiped by admit, deny and init */
	uint8_t username_len, password_len;
};

void socks_server_init(struct socks_server *s, const struct socks_server_options *o);
/**
 * Takes complete messages from in; appends to out. Every answer is whole in out or not there at
 * all.
 * eof: no more will come (MORE is then BAD with CUT_SHORT, without an answer). After AUTH, TOKEN,
 * LEVEL, ASKED or BAD it takes nothing and says the same again, until the session has gone on.
 */
enum shake_result
socks_server_feed(struct socks_server *s, struct buffer *in, struct buffer *out,
    bool eof) WARN_UNUSED;
/**
 * After AUTH: the credentials are good: RFC 1929's success goes to out where the protocol has one.
 * Feed again.
 */
void socks_server_admit(struct socks_server *s, struct buffer *out);
/** As much as `in` may have to hold for the next message. */
size_t socks_server_in_max(const struct socks_server *s);
/**
 * After TOKEN: the context's answer goes to out, where there is one (len > 0). established: the
 * client is who it says, and is to ask for a level next. Feed again.
 */
void socks_server_give_token(struct socks_server *s, const uint8_t *token, size_t len,
    bool established, struct buffer *out);
/** After LEVEL: the level that we agree to, sealed or as it came, goes to out. */
void
socks_server_agree(struct socks_server *s, const uint8_t *token, size_t len, struct buffer *out);
/**
 * After AUTH, TOKEN or LEVEL: it won't do: the refusal of the protocol goes to out; then flush and
 * close.
 */
void socks_server_deny(struct socks_server *s, struct buffer *out);
/**
 * The one answer to the request; bound may be NULL (zeros are sent). Granted or not, it is
 * complete. Between AUTH, TOKEN or LEVEL and what goes on it refuses for another reason than the
 * credentials. At any other time it says nothing: before a request there is nothing to answer, and
 * after BAD the answer is out.
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
