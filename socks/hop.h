/*
 * hop: the client side of one proxy's handshake, the same shape for every kind: bytes in, bytes
 * out, no socket.
 *
 * The dialer starts a hop, sends what is in `out`, and feeds what arrives until DONE or FAILED.
 * What is left in `in` after DONE is the tunnel's first bytes. A hop's answer decides its verdict;
 * `bound` is what it says it bound.
 * Life: hop_start -> hop_feed * n (-> hop_start_second -> hop_feed_second * n). Nothing to free; hop_start resets everything, so one struct
 * serves hop after hop.
 * Held: hop_start goes no further than authentication, DONE is told there, and hop_ask begins what
 * is left, at any time later. Kinds whose request comes first say nothing until then.
 */
#ifndef SOCKS_HOP_H
#define SOCKS_HOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"
#include "base/buffer.h"
#include "base/endpoint.h"
#include "socks/command.h"
#include "socks/verdict.h"

enum hop_status {
	HOP_MORE,
	HOP_DONE,
	HOP_FAILED,
	HOP_PROVE,                     /* GSS-API was chosen: the owner does that talk, then hop_proven */
};

enum {
	HOP_IN_MAX = 8192,             /* what a handshake may need at once: an HTTP head */
	HOP_OUT_MAX = 2048,
	HOP_USERNAME_MAX = 255,
	HOP_PASSWORD_MAX = 255,
};

/* What to ask of this proxy. Pointers must stay valid until DONE or FAILED. */
struct hop_request {
	enum socks_command command;
	const struct endpoint *to;     /* the next hop, or the destination */
	const char *username;          /* NULL or "": none. Already expanded */
	const char *password;          /* NULL is "" */
	/* send all messages at once; with credentials userpass is then the only method offered */
	bool pipeline;
	bool gssapi;                   /* no other method is offered; nothing is pipelined then */
	bool hold;                     /* stop past authentication; `to` may be NULL */
};

struct hop;

struct hop_ops {
	const char *name;              /* "socks5" */
	bool carries_names;            /* may `to` be a name? */
	bool carries_ipv6;
	/**
	 * Writes the first message(s) to out (empty, HOP_OUT_MAX). FAILED where the request can't
	 * be put in this protocol. Held: DONE where there is nothing to say before the request.
	 */
	enum hop_status (*start)(struct hop *h, struct buffer *out);
	/** Writes the request, where authentication is over. */
	enum hop_status (*ask)(struct hop *h, struct buffer *out);
	/**
	 * Takes what it understands from in, appends to out; MORE where that decides nothing yet.
	 */
	enum hop_status (*feed)(struct hop *h, struct buffer *in, struct buffer *out);
	/** The second reply to a BIND. NULL: this protocol has no BIND. */
	enum hop_status (*feed_second)(struct hop *h, struct buffer *in);
};

struct hop {
	const struct hop_ops *ops;
	struct hop_request request;
	enum verdict verdict;          /* valid after DONE (GRANTED) and FAILED */
	struct endpoint bound;     /* valid after DONE; kind NONE where the protocol says nothing */
	uint8_t step;                  /* of the kind's own state machine */
	uint8_t code;                  /* the proxy's own code, for the log: REP, CD */
	uint16_t status;               /* HTTP */
	/* past authentication: the request may follow (warm connections stop here) */
	bool authenticated;
};

extern const struct hop_ops hop_socks4, hop_socks4a, hop_socks5, hop_http;

/**
 * Resets h and writes the first message(s) to out. FAILED where the request can't be put in this
 * protocol: `to`, command, credentials.
 */
enum hop_status
hop_start(struct hop *h, const struct hop_ops *ops, const struct hop_request *request,
    struct buffer *out) WARN_UNUSED;
/**
 * After a held handshake, perhaps of another hop struct on the same connection: asks for `to`,
 * with the same credentials. MORE, or FAILED as hop_start.
 */
enum hop_status
hop_ask(struct hop *h, const struct hop_ops *ops, const struct hop_request *request,
    struct buffer *out) WARN_UNUSED;
/** After PROVE, when the proxy knows who we are: MORE, or DONE where it is held, or FAILED as hop_start. */
enum hop_status hop_proven(struct hop *h, struct buffer *out) WARN_UNUSED;
/**
 * Takes what the proxy sent from in, appends what to say next to out.
 * eof: the peer has ended; in holds all that will ever come: the answer is DONE or FAILED
 * (UPSTREAM_FAILED), never MORE; or PROVE, which leads nowhere with a peer that has ended.
 */
enum hop_status
hop_feed(struct hop *h, struct buffer *in, struct buffer *out, bool eof) WARN_UNUSED;

/**
 * After DONE of a BIND a proxy says once more how it went, when somebody connected or nobody may
 * any longer. h is reset and waits for that; `bound` is then who connected.
 */
void hop_start_second(struct hop *h, const struct hop_ops *ops);
/** As hop_feed, but there is nothing to say. */
enum hop_status hop_feed_second(struct hop *h, struct buffer *in, bool eof) WARN_UNUSED;

/* For the kinds' own files. */

/** Ends the handshake. FAILED, or DONE where v is GRANTED. */
enum hop_status hop_end(struct hop *h, enum verdict v);
/**
 * Appends a message of len bytes, 0 meaning that it could not be written. MORE, or FAILED with v,
 * or INTERNAL where out has no room.
 */
enum hop_status
hop_say(struct hop *h, struct buffer *out, const uint8_t *message, size_t len,
    enum verdict v) WARN_UNUSED;

#endif
