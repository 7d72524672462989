/*
 * session, GSS-API: a client proves who it is by Kerberos (RFC 1961), and what follows is sealed as it asks.
 *
 * The steps of the context are taken off the loop (base/gss_pool.h), one at a time; the level of protection is agreed on here. The
 * answer to it is the last that goes unsealed: only when it has gone the stream is sealed, with what the client sent behind its level
 * as the first sealed bytes.
 */
#include "router/session_parts.h"

#include <stdlib.h>

#include "base/gss_pool.h"
#include "base/log.h"
#include "policy/policy.h"
#include "socks/gssapi.h"

enum { SEALED_LEVEL_MAX = 512 };       /* one sealed byte, by any cipher */

/* A stranger's trouble, and most often the first that whoever sets Kerberos up needs to know. */
static void
log_refusal(const struct session *s, const char *why)
{
	struct log_line line;
	char client[ENDPOINT_TEXT_MAX];
	struct endpoint at = session_client(s);
	if (!log_wants(LOG_DEBUG))
		return;
	log_begin(&line, LOG_DEBUG, "gssapi refused");
	log_num(&line, "id", (int64_t)s->id);
	log_str(&line, "client", session_client_text(&at, client, sizeof client));
	log_str(&line, "error", why);
	log_end(&line);
}

static void
refuse(struct session *s, const char *why)
{
	log_refusal(s, why);
	session_denied(s);
}

/* ---- the context ---- */

/* Names are compared whole: "+s1" in a principal is a part of it, for its realm gave it out so. */
static bool
keep_user(struct session *s)
{
	struct shake *sh = s->shake;
	return policy_gssapi_user(&session_auth(s)->gssapi, gss_context_peer(sh->gss), sh->user, sizeof sh->user);
}

static void
on_stepped(enum gss_step_outcome outcome, const uint8_t *token, size_t len, void *arg)
{
	struct session *s = arg;
	struct shake *sh = s->shake;
	sh->step = NULL;
	if (outcome == GSS_STEP_FAILED) {
		refuse(s, gss_context_why(sh->gss));
		return;
	}
	if (outcome == GSS_STEP_DONE && !keep_user(s)) {
		refuse(s, "the principal is no user here");
		return;
	}
	socks_server_give_token(&sh->server, token, len, outcome == GSS_STEP_DONE, &sh->out);
	session_enter(s, SESSION_HANDSHAKE);
	session_shake(s);
}

void
session_take_token(struct session *s)
{
	struct shake *sh = s->shake;
	const struct policy_gssapi *conf = &session_auth(s)->gssapi;
	struct endpoint client = session_client(s);
	if (sh->gss == NULL)
		sh->gss = gss_context_new_acceptor(conf->keytab, conf->service);
	if (sh->gss != NULL)
		sh->step = gss_step_start(s->worker->shared->gss, sh->gss, sh->server.token, sh->server.token_len, &client,
					  s->worker->mailbox, on_stepped, s);
	if (sh->step == NULL)
		refuse(s, "too much is being checked");
	else
		session_enter(s, SESSION_CHECKING);
}

/* ---- the level ---- */

/*
 * NEC's clients, and curl and Dante where they are told to, send the bare level and want it back bare. Whoever sits in between could
 * have made it less than the client asked for, but not less than the policy demands.
 */
static bool
is_bare(const struct socks_server *server)
{
	return server->token_len == 1;
}

/* The level that the client asks for; negative: that is not what it sent. */
static int
level_asked(struct shake *sh)
{
	uint8_t sealed[SEALED_LEVEL_MAX];
	size_t at, n;
	if (is_bare(&sh->server))
		return sh->server.token[0];
	if (sh->server.token_len > sizeof sealed)
		return -1;
	memcpy(sealed, sh->server.token, sh->server.token_len);
	if (!gss_context_unwrap(sh->gss, false, GSS_IN_ORDER, sealed, sh->server.token_len, &at, &n) || n != 1)
		return -1;
	return sealed[at];
}

static bool
answer_level(struct shake *sh, uint8_t level)
{
	size_t len;
	if (is_bare(&sh->server)) {
		socks_server_agree(&sh->server, &level, 1, &sh->out);
		return true;
	}
	uint8_t *sealed = gss_context_wrap(sh->gss, false, &level, 1, 0, &len);
	if (sealed != NULL)
		socks_server_agree(&sh->server, sealed, len, &sh->out);
	free(sealed);
	return sealed != NULL;
}

bool
session_take_level(struct session *s)
{
	struct shake *sh = s->shake;
	int asked = level_asked(sh);
	int level = asked < 0 ? -1 : gssapi_agree((uint8_t)asked, session_auth(s)->gssapi.protection);
	if (level < 0 || !answer_level(sh, (uint8_t)level)) {
		refuse(s, asked < 0 ? "the level of protection can't be read" : "the level of protection won't do");
		return false;
	}
	sh->protection = (uint8_t)level;
	sh->to_seal = level != GSSAPI_NONE;
	return session_seal(s);
}

bool
session_seal(struct session *s)
{
	struct shake *sh = s->shake;
	struct gss_layer_options o = {
		.context = sh->gss,
		.secret = sh->protection == GSSAPI_CONFIDENTIALITY,
		.prefix = { GSSAPI_VERSION, GSSAPI_DATA },
	};
	if (!sh->to_seal)
		return true;
	if (!session_flush(s))
		return false;
	sh->gss = NULL;
	sh->to_seal = false;
	if (!stream_start_gss(&s->client, &o, buffer_bytes(&sh->in), buffer_len(&sh->in))) {
		session_close(s, END_INTERNAL);
		return false;
	}
	buffer_take(&sh->in, buffer_len(&sh->in));
	sh->eof = false;               /* the stream tells it again, behind what was sealed */
	return true;
}
