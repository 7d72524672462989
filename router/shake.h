/*
 * shake: what a session needs until its relay begins: the handshake's buffers, the request, the one handle under way.
 *
 * From the worker's slab, given back as soon as the relay runs. The read buffer starts small and grows to what an HTTP head may
 * need only where a client sends one.
 */
#ifndef ROUTER_SHAKE_H
#define ROUTER_SHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/endpoint.h"
#include "base/gss_pool.h"
#include "dns/resolver.h"
#include "dns/reverse.h"
#include "router/auth.h"
#include "router/bind.h"
#include "router/client_name.h"
#include "router/facts.h"
#include "router/ident.h"
#include "router/preamble.h"
#include "socks/server.h"
#include "upstream/dialer.h"

enum { SHAKE_IN_FIRST = 1024 };        /* any SOCKS message, and a little of what comes behind it */

struct shake {
	/* One of these at a time. */
	struct auth_check *check;
	struct client_name *client_name;
	struct gss_step *step;
	struct ident *ident;
	struct resolve *resolve;
	struct reverse *reverse;
	struct dial *dial;
	struct bind *bind;
	struct gss_context *gss;       /* of a client that proves itself by it, until the stream takes it */
	bool to_seal;                  /* `out` is the last that goes unsealed */
	uint8_t protection;            /* enum gssapi_protection that was agreed on */
	const struct policy_network *network;  /* the one whose users identd may name */
	uint8_t *big;                  /* the grown read buffer */
	struct endpoint *addrs;        /* of the destination, once looked up; malloc'ed */
	size_t n_addrs;
	uint64_t asked_us, resolve_from_us;
	int spare;                     /* a descriptor for the dial, until the request is known; or SPARE_NONE */
	bool eof;                      /* the client has ended its direction */
	bool resolve_failed;
	/* From here on the slab leaves what was there before: shake_init writes what has to be said. */
	struct facts facts;
	struct buffer in, out;
	struct socks_server server;
	struct preamble preamble;
	char user[256], session[256];
	char to[ENDPOINT_TEXT_MAX];
	char detail[256];
	struct dial_hop_time hops[PATH_HOPS_MAX + 1];
	uint8_t in_memory[SHAKE_IN_FIRST];
	uint8_t out_memory[SOCKS_SERVER_OUT_MAX];
};

/* How much of it has to be zero before shake_init. */
enum { SHAKE_HEAD = offsetof(struct shake, facts) };

/** Of memory whose head is zero. The preamble is the caller's to begin. */
void shake_init(struct shake *sh, const struct socks_server_options *options);
/** Cancels what is under way and frees what it holds, not itself. */
void shake_release(struct shake *sh);
/** Makes room to read; false: the buffer is as large as it may get, and full. */
bool shake_make_room(struct shake *sh);

#endif
