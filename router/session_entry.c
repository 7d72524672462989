/*
 * session, the beginning: PROXY header and TLS, the handshake, and who the client is.
 */
#include "router/session_parts.h"

#include "base/clock.h"
#include "policy/decide.h"
#include "router/listener.h"
#include "router/spare.h"
#include "socks/ident.h"

/* ---- the handshake ---- */

static const enum counter protocol_counters[PROTOCOL_N] = {
	[PROTOCOL_SOCKS4] = COUNTER_PROTOCOL_SOCKS4,
	[PROTOCOL_SOCKS4A] = COUNTER_PROTOCOL_SOCKS4A,
	[PROTOCOL_SOCKS5] = COUNTER_PROTOCOL_SOCKS5,
	[PROTOCOL_HTTP] = COUNTER_PROTOCOL_HTTP,
};

static void
on_identified(enum ident_outcome outcome, const char *user, void *arg)
{
	struct session *s = arg;
	struct shake *sh = s->shake;
	const struct policy_auth *block = session_auth(s);
	char claimed[256], name[256];
	const char *userid = sh->server.request.userid;
	sh->ident = NULL;
	policy_split_user(userid, strlen(userid), claimed, sizeof claimed, name, sizeof name);
	enum verdict v = ident_judge(sh->network, outcome, user, claimed);
	if (v == VERDICT_GRANTED) {
		snprintf(sh->user, sizeof sh->user, "%s", user);
		snprintf(sh->session, sizeof sh->session, "%s", name);
	} else if ((block->methods & AUTH_NONE) == 0) {
		counter_add(&s->worker->counters, COUNTER_AUTH_FAILURES, 1);
		session_refuse(s, v);
		return;
	}
	session_decide(s);
}

/* The client comes from this network; NULL: from none. Its own host is asked who it is, where that counts. */
static void
session_identify_in(struct session *s, const struct policy_network *network)
{
	const struct policy_auth *block = session_auth(s);
	struct endpoint client = session_client(s), reached;
	if (network == NULL || network->anybody) {
		if (network != NULL || (block->methods & AUTH_NONE) != 0)
			session_decide(s);
		else
			session_refuse(s, VERDICT_REJECTED);
		return;
	}
	session_reached(s, &reached);
	struct ident_question q = {
		.client = &client,
		.reached = &reached,
		.reached_is_ours = !s->shake->preamble.proxy.has_addresses,
		.port = IDENT_PORT,
		.timeout_ms = block->ident_timeout_ms,
	};
	s->shake->network = network;
	s->shake->ident = ident_start(s->worker->loop, &q, on_identified, s);
	if (s->shake->ident == NULL)
		session_refuse(s, VERDICT_INTERNAL);
	else
		session_enter(s, SESSION_CHECKING);
}

static void
on_client_name(const char *name, void *arg)
{
	struct session *s = arg;
	struct endpoint client = session_client(s);
	bool wants_name;
	s->shake->client_name = NULL;
	session_identify_in(s, policy_find_network(session_auth(s), &client, name, &wants_name));
}

/* Where clients of this listener are known by where they come from. */
static void
session_identify(struct session *s)
{
	const struct policy_auth *block = session_auth(s);
	struct endpoint client = session_client(s);
	bool wants_name;
	if (block == NULL || s->shake->server.admitted || (block->methods & AUTH_IDENT) == 0) {
		session_decide(s);
		return;
	}
	const struct policy_network *network = policy_find_network(block, &client, NULL, &wants_name);
	if (!wants_name || !endpoint_is_address(&client)) {
		session_identify_in(s, network);
		return;
	}
	s->shake->client_name = client_name_start(s->worker->resolver, &client, block->ident_timeout_ms, on_client_name, s);
	if (s->shake->client_name == NULL)
		session_refuse(s, VERDICT_INTERNAL);
	else
		session_enter(s, SESSION_CHECKING);
}

static const enum counter command_counters[] = {
	[SOCKS_CONNECT] = COUNTER_COMMAND_CONNECT,
	[SOCKS_BIND] = COUNTER_COMMAND_BIND,
	[SOCKS_UDP] = COUNTER_COMMAND_UDP,
};

static void
session_asked(struct session *s)
{
	const struct socks_request *request = &s->shake->server.request;
	struct counters *c = &s->worker->counters;
	spare_drop(&s->shake->spare);
	s->shake->asked_us = clock_now_us();
	s->facts->protocol = (uint8_t)request->protocol;
	s->facts->command = request->command;
	s->facts->handshake_us = (uint32_t)(s->shake->asked_us - s->started_us);
	histogram_add(&s->worker->handshakes, s->facts->handshake_us);
	endpoint_to_text(&request->to, s->shake->to, sizeof s->shake->to);
	counter_add(c, protocol_counters[request->protocol], 1);
	counter_add(c, SOCKS_IS_LOOK_UP(request->command) ? COUNTER_COMMAND_RESOLVE : command_counters[request->command], 1);
	session_identify(s);
}

static void
session_admitted(struct session *s)
{
	struct shake *sh = s->shake;
	policy_split_user(sh->server.username, sh->server.username_len, sh->user, sizeof sh->user, sh->session,
			  sizeof sh->session);
	socks_server_admit(&sh->server, &sh->out);
}

void
session_denied(struct session *s)
{
	counter_add(&s->worker->counters, COUNTER_AUTH_FAILURES, 1);
	socks_server_deny(&s->shake->server, &s->shake->out);
	session_say_last_word(s, VERDICT_BAD_CREDENTIALS);
}

static void
on_checked(enum auth_answer answer, void *arg)
{
	struct session *s = arg;
	s->shake->check = NULL;
	if (answer == AUTH_ADMITTED) {
		session_enter(s, SESSION_HANDSHAKE);
		session_admitted(s);
		session_shake(s);
	} else {
		session_denied(s);
	}
}

/* True: admitted, go on. */
static bool
session_check(struct session *s)
{
	struct shake *sh = s->shake;
	char user[256], session[256];
	struct endpoint client = session_client(s);
	policy_split_user(sh->server.username, sh->server.username_len, user, sizeof user, session, sizeof session);
	struct auth_question q = {
		.block = session_auth(s),
		.user = user,
		.password = sh->server.password,
		.password_len = sh->server.password_len,
		.client = &client,
	};
	enum auth_answer answer = AUTH_REFUSED;
	/* A name with a NUL inside would be compared as another, shorter one. */
	if (q.block != NULL && strlen(sh->server.username) == sh->server.username_len)
		answer = auth_start(s->worker->shared->auth, &q, s->worker->mailbox, &s->worker->counters, on_checked, s,
				    &sh->check);
	if (answer == AUTH_ADMITTED) {
		session_admitted(s);
		return true;
	}
	if (answer == AUTH_WAIT)
		session_enter(s, SESSION_CHECKING);
	else
		session_denied(s);
	return false;
}

/* Reads once. True: something new (bytes or the end). False: nothing now, or the session has been closed. */
static bool
session_read(struct session *s)
{
	struct shake *sh = s->shake;
	size_t n = 0;
	if (sh->eof || !(s->client.ready & STREAM_READABLE) || !shake_make_room(sh))
		return false;
	switch (stream_read(&s->client, buffer_room(&sh->in), sh->in.cap - sh->in.tail, &n)) {
	case STREAM_OK:
		buffer_filled(&sh->in, n);
		return true;
	case STREAM_AGAIN:
		return false;
	case STREAM_EOF:
		sh->eof = true;
		return true;
	default:
		session_close(s, END_CLIENT_RESET);
		return false;
	}
}

static void
session_bad(struct session *s)
{
	enum verdict v = s->shake->server.verdict;
	/* Nothing was asked and nothing can be answered: a client that came and went, a port scan. */
	if (s->shake->eof && buffer_len(&s->shake->out) == 0)
		session_close(s, END_CLIENT_LEFT);
	else
		session_say_last_word(s, v);
}

void
session_shake(struct session *s)
{
	struct shake *sh = s->shake;
	for (;;) {
		switch (socks_server_feed(&sh->server, &sh->in, &sh->out, sh->eof)) {
		case SHAKE_AUTH:
			if (!session_check(s))
				return;
			continue;
		case SHAKE_TOKEN:
			session_take_token(s);
			return;
		case SHAKE_LEVEL:
			if (!session_take_level(s))
				return;
			continue;
		case SHAKE_ASKED:
			session_asked(s);
			return;
		case SHAKE_BAD:
			session_bad(s);
			return;
		case SHAKE_MORE:
			break;
		}
		if (!session_flush(s) || !session_read(s))
			return;
	}
}

/* ---- the preamble ---- */

void
session_keep_client(struct session *s, const struct endpoint *client)
{
	s->client_at.kind = client->kind;
	s->client_at.port = client->port;
	memcpy(s->client_at.addr, client->addr, sizeof s->client_at.addr);
}

/* Counted by the listener, unless a PROXY header tells who the client is. */
static bool
session_count_client(struct session *s)
{
	const struct policy_listener *conf = &session_policy(s)->listeners[s->listener];
	struct endpoint client = session_client(s);
	if (!conf->proxy_protocol || conf->max_connections_per_client == 0)
		return true;
	s->counted_client = listener_count_client(s->worker, s->lease->revision->fronts[s->listener], conf, &client);
	return s->counted_client;
}

/* The subject of the client's certificate is its user. One that does not fit would be cut to another one's. */
static bool
session_take_subject(struct session *s)
{
	char subject[1024];
	if (s->client.tls == NULL)
		return true;
	size_t len = strlen(tls_peer_subject(s->client.tls, subject, sizeof subject));
	if (len >= sizeof s->shake->user)
		return false;
	memcpy(s->shake->user, subject, len + 1);
	return true;
}

static bool
session_enter_client(struct session *s)
{
	const struct proxy_header *proxy = &s->shake->preamble.proxy;
	if (proxy->has_addresses)
		session_keep_client(s, &proxy->from);
	if (!session_count_client(s))
		session_close(s, END_CLIENT_LIMIT);
	else if (!session_take_subject(s))
		session_close(s, END_NO_TLS);
	else
		return true;
	return false;
}

/* True: the handshake may go on. False: it waits, or the session has been closed. */
static bool
session_pass_preamble(struct session *s)
{
	struct shake *sh = s->shake;
	if (sh->preamble.passed)
		return true;
	switch (preamble_step(&sh->preamble, &s->client, &sh->in)) {
	case PREAMBLE_PASSED:
		return session_enter_client(s);
	case PREAMBLE_MORE:
		return false;
	case PREAMBLE_LEFT:
		session_close(s, END_CLIENT_LEFT);
		return false;
	case PREAMBLE_BAD_HEADER:
		counter_add(&s->worker->counters, COUNTER_PROXY_HEADERS_BAD, 1);
		session_close(s, END_NO_HEADER);
		return false;
	case PREAMBLE_BAD_TLS:
		counter_add(&s->worker->counters, COUNTER_TLS_FAILURES, 1);
		session_close(s, END_NO_TLS);
		return false;
	case PREAMBLE_NO_MEMORY:
		break;
	}
	session_close(s, END_INTERNAL);
	return false;
}

/* In a queue for an upstream's slot, which others want too? */
static bool
waits_for_slot(const struct session *s)
{
	return s->state == SESSION_DIALING && s->shake->dial != NULL && dial_waits(s->shake->dial);
}

/* While we are busy elsewhere: take what comes early as far as there is room, and notice a client that broke off. */
void
session_watch(struct session *s)
{
	for (unsigned i = 0; i < SESSION_WATCH_READS_MAX && session_read(s); i++)
		continue;               /* what is left stays latched: the relay reads it */
	if (waits_for_slot(s) && s->shake->eof && buffer_len(&s->shake->in) == 0) {
		session_close(s, END_CLIENT_LEFT);
		return;
	}
	if (s->state != SESSION_BINDING || !s->shake->eof)
		return;
	/* A client that ended after some bytes may have said all; one that said nothing has left, and its port is free again. */
	if (buffer_len(&s->shake->in) == 0)
		session_close(s, END_CLIENT_LEFT);
	else if (!deadline_armed(&s->deadline))
		loop_set_deadline(s->worker->loop, &s->deadline, SESSION_HALF_OPEN_MS);
}

void
session_on_client(struct stream *stream, void *arg)
{
	struct session *s = arg;
	(void)stream;
	switch ((enum session_state)s->state) {
	case SESSION_HANDSHAKE:
		if (!session_pass_preamble(s))
			return;
		if (buffer_len(&s->shake->out) > 0 && !session_flush(s))
			return;
		if (s->shake->to_seal) {
			if (session_seal(s))
				session_shake(s);
			return;
		}
		if (session_read(s))
			session_shake(s);
		break;
	case SESSION_LINGERING:
		session_linger(s);
		break;
	case SESSION_BINDING:
		if (session_flush(s))
			session_watch(s);
		break;
	case SESSION_ASSOCIATED:
		session_watch_association(s);
		break;
	default:
		session_watch(s);
	}
}

void
session_on_tls_pass(void *arg, bool go)
{
	struct session *s = arg;
	if (go)
		session_on_client(&s->client, s);
	else
		session_close(s, END_TLS_SHED);
}
