/*
 * gss_talk: the client's part of the GSS-API method of SOCKS5 (RFC 1961), over a stream: tokens to
 * and fro until both ends know each other, then the level of protection; then the stream is sealed
 * as was agreed on.
 *
 * The steps that make tokens are taken off the loop (base/gss_pool.h). Of the stream no byte is read
 * that is not of the talk, so what follows finds its own.
 * Life: gss_talk_new -> gss_talk_go_on, whenever the stream is ready and after each on_step, until
 * it says DONE or FAILED -> gss_talk_free, in any state.
 */
#ifndef UPSTREAM_GSS_TALK_H
#define UPSTREAM_GSS_TALK_H

#include <stdbool.h>

#include "base/base.h"
#include "policy/policy.h"
#include "socks/verdict.h"

struct gss_pool;
struct gss_talk;
struct mailbox;
struct stream;

struct gss_talk_plan {
	struct gss_pool *pool;
	struct mailbox *box;           /* of the stream's loop */
	struct stream *stream;
	const struct policy_upstream_gssapi *who;      /* must stay valid */
	void (*on_step)(void *arg);    /* from the loop; may free the talk */
	void *arg;
};

/** NULL: out of memory, or too many ask Kerberos at once. */
struct gss_talk *gss_talk_new(const struct gss_talk_plan *plan) WARN_UNUSED;
void gss_talk_free(struct gss_talk *t);                /* NULL is fine */

enum gss_talk_status { GSS_TALK_WAITS, GSS_TALK_DONE, GSS_TALK_FAILED };

enum gss_talk_status gss_talk_go_on(struct gss_talk *t) WARN_UNUSED;
/** After FAILED: whose fault, and why in words; valid until gss_talk_free. */
enum verdict gss_talk_verdict(const struct gss_talk *t);
const char *gss_talk_why(const struct gss_talk *t);
/** After DONE: is the stream sealed now? The proxy may grant protection that was not asked for. */
bool gss_talk_seals(const struct gss_talk *t);
/** Is it Kerberos that it waits for, and not the proxy? */
bool gss_talk_awaits_kerberos(const struct gss_talk *t);

#endif
