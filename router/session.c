#include "router/session_parts.h"

#include <stdlib.h>

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "router/association.h"
#include "router/clients.h"
#include "router/spare.h"
#include "socks/hop.h"

static void session_note_bytes(struct session *s);

static const char *const end_texts[END_N] = {
	[END_DONE] = "done",
	[END_REFUSED] = "refused",
	[END_CLIENT_LEFT] = "client left",
	[END_CLIENT_RESET] = "client reset",
	[END_UPSTREAM_RESET] = "upstream reset",
	[END_HANDSHAKE_TIMEOUT] = "handshake timeout",
	[END_IDLE] = "idle",
	[END_DRAINED] = "drained",
	[END_DELETED] = "deleted",
	[END_NO_HEADER] = "no PROXY header",
	[END_NO_TLS] = "TLS handshake failed",
	[END_TLS_SHED] = "TLS handshake stalled",
	[END_CLIENT_LIMIT] = "client limit",
	[END_INTERNAL] = "out of memory",
};

static const char *const state_texts[SESSION_STATES] = {
	[SESSION_HANDSHAKE] = "handshake", [SESSION_CHECKING] = "checking", [SESSION_RESOLVING] = "resolving",
	[SESSION_DIALING] = "dialing",	   [SESSION_BINDING] = "binding",   [SESSION_RELAYING] = "relaying",
	[SESSION_ASSOCIATED] = "associated", [SESSION_LINGERING] = "lingering", [SESSION_CLOSED] = "closed",
};

const char *
session_state_text(enum session_state state)
{
	return state_texts[state];
}

const struct policy *
session_policy(const struct session *s)
{
	return s->lease->revision->policy;
}

struct endpoint
session_client(const struct session *s)
{
	struct endpoint e;
	e.kind = s->client_at.kind;
	e.name_len = 0;
	e.port = s->client_at.port;
	memcpy(e.addr, s->client_at.addr, sizeof e.addr);
	e.name[0] = '\0';
	return e;
}

/* NULL: nobody has to prove anything. */
const struct policy_auth *
session_auth(const struct session *s)
{
	const struct policy *p = session_policy(s);
	int block = p->listeners[s->listener].auth;
	return block >= 0 ? &p->auths[block] : NULL;
}

/* What the client connected to: our address, or that of the proxy before us which says so. */
void
session_reached(const struct session *s, struct endpoint *out)
{
	const struct proxy_header *proxy = &s->shake->preamble.proxy;
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	if (proxy->has_addresses)
		*out = proxy->to;
	else if (getsockname(s->client.fd, (struct sockaddr *)&ss, &len) < 0)
		*out = (struct endpoint){ .kind = ENDPOINT_NONE };
	else
		endpoint_from_sockaddr(out, (struct sockaddr *)&ss, len);
}

/* ---- states ---- */

/* How long a session may stay in a state; 0: as long as it takes (whatever is under way has a deadline of its own). */
static uint64_t
state_bound_ms(const struct session *s, enum session_state state)
{
	const struct policy_timeouts *t = &session_policy(s)->timeouts;
	switch (state) {
	case SESSION_CHECKING:
		if (s->shake->ident != NULL || s->shake->client_name != NULL)
			return 0;
		__attribute__((fallthrough));
	case SESSION_HANDSHAKE: {
		/* As the deadline is: counted from when the turn began, which may be before the session did. */
		uint64_t now_ms = loop_now(s->worker->loop), started_ms = s->started_us / 1000;
		uint64_t spent = now_ms > started_ms ? now_ms - started_ms : 0;
		return spent < t->handshake_ms ? t->handshake_ms - spent : 1;
	}
	case SESSION_BINDING:
		return t->bind_ms;
	case SESSION_RELAYING:
		return s->taken != NULL ? SESSION_NOTE_MS : t->idle_ms;
	case SESSION_ASSOCIATED:
		return t->udp_idle_ms;
	case SESSION_LINGERING:
		return SESSION_LINGER_MS;
	default:
		return 0;
	}
}

void
session_enter(struct session *s, enum session_state state)
{
	s->state = (uint8_t)state;
	list_remove(&s->link);
	list_append(&s->worker->by_state[state], &s->link);
	uint64_t bound = state_bound_ms(s, state);
	if (bound > 0)
		loop_set_deadline(s->worker->loop, &s->deadline, bound);
	else
		loop_clear_deadline(s->worker->loop, &s->deadline);
}

/* Idle for too long? If not: when to look again. One with traffic tells the board of it meanwhile. */
static void
session_look(struct session *s)
{
	uint64_t idle_ms = relay_idle_ms(&s->relay, s->worker->loop);
	uint64_t bound = session_policy(s)->timeouts.idle_ms;
	if (bound > 0 && idle_ms >= bound) {
		session_close(s, END_IDLE);
		return;
	}
	session_note_bytes(s);
	uint64_t next = bound > 0 ? bound - idle_ms : UINT64_MAX;
	if (s->taken != NULL) {
		uint64_t note = idle_ms < SESSION_NOTE_MS ? SESSION_NOTE_MS : SESSION_LOOK_MS;
		next = note < next ? note : next;
	}
	if (next < UINT64_MAX)
		loop_set_deadline(s->worker->loop, &s->deadline, next);
}

struct association_counts
session_traffic(const struct session *s)
{
	struct association_counts c = { .up = s->relay.up.bytes, .down = s->relay.down.bytes };
	c.active_ms = loop_now(s->worker->loop) - relay_idle_ms(&s->relay, s->worker->loop);
	if (s->association != NULL)
		association_get_counts(s->association, &c);
	return c;
}

static void
session_look_at_association(struct session *s)
{
	uint64_t idle_ms = loop_now(s->worker->loop) - session_traffic(s).active_ms;
	uint64_t bound = session_policy(s)->timeouts.udp_idle_ms;
	if (idle_ms >= bound)
		session_close(s, END_IDLE);
	else
		loop_set_deadline(s->worker->loop, &s->deadline, bound - idle_ms);
}

static void
on_deadline(struct deadline *d)
{
	struct session *s = CONTAINER_OF(d, struct session, deadline);
	switch ((enum session_state)s->state) {
	case SESSION_RELAYING:
		session_look(s);
		break;
	case SESSION_BINDING:
		session_give_up_bind(s);
		break;
	case SESSION_ASSOCIATED:
		session_look_at_association(s);
		break;
	case SESSION_LINGERING:
		session_close(s, s->end);
		break;
	default:
		session_close(s, END_HANDSHAKE_TIMEOUT);
	}
}

/* ---- the end ---- */

const char *
session_client_text(const struct endpoint *e, char *out, size_t cap)
{
	if (e->kind == ENDPOINT_NONE)
		snprintf(out, cap, "unix");
	else
		endpoint_to_text(e, out, cap);
	return out;
}

/* "paris,tokyo": all that datagrams went through, as far as it is open still. */
static void
log_association(const struct session *s, const struct association_counts *traffic, struct log_line *line)
{
	struct dial_hop_time hops[PATH_HOPS_MAX + 1];
	char path[512] = "";
	size_t len = 0, n = session_hops(s, hops, ARRAY_LEN(hops));
	for (size_t i = 0; i < n; i++) {
		text_append_string(path, sizeof path, &len, i > 0 ? "," : "");
		text_append_string(path, sizeof path, &len, facts_upstream_name(session_policy(s), hops[i].upstream));
	}
	log_str(line, "path", n > 0 ? path : NULL);
	log_num(line, "datagrams_up", (int64_t)traffic->datagrams_up);
	log_num(line, "datagrams_down", (int64_t)traffic->datagrams_down);
	log_num(line, "dropped", (int64_t)traffic->dropped);
}

static void
session_log(const struct session *s)
{
	const struct policy *p = session_policy(s);
	if (!p->log.access)
		return;
	struct log_line line;
	char client[ENDPOINT_TEXT_MAX];
	struct endpoint at = session_client(s);
	log_begin_access(&line, "session");
	log_num(&line, "id", (int64_t)s->id);
	log_str(&line, "client", session_client_text(&at, client, sizeof client));
	log_str(&line, "listener", p->listeners[s->listener].name);
	facts_log(s->facts, p, &line);
	if (s->answered) {
		if (s->facts->code != UINT16_MAX)
			log_num(&line, "reply", s->facts->code);
		log_str(&line, "verdict", verdict_text(s->verdict));
	}
	log_str(&line, "end", end_texts[s->end]);
	struct association_counts traffic = session_traffic(s);
	log_num(&line, "up", (int64_t)traffic.up);
	log_num(&line, "down", (int64_t)traffic.down);
	if (s->association != NULL)
		log_association(s, &traffic, &line);
	log_ms(&line, "total_ms", s->facts->total_us);
	log_ms(&line, "duration_ms", clock_now_us() - s->started_us);
	log_end(&line);
}

static void
note_bytes_of(struct board_entry *e, uint64_t up, uint64_t down)
{
	atomic_fetch_add_explicit(&e->bytes_up, up, memory_order_relaxed);
	atomic_fetch_add_explicit(&e->bytes_down, down, memory_order_relaxed);
}

/* Tells the board of what has gone through each hop since it was told last: not per packet, its lines are shared. */
static void
session_note_bytes(struct session *s)
{
	struct taken *t = s->taken;
	if (t == NULL)
		return;
	uint64_t up = s->relay.up.bytes - t->noted_up, down = s->relay.down.bytes - t->noted_down;
	if (up == 0 && down == 0)
		return;
	for (unsigned i = 0; i < t->path.n_hops; i++)
		note_bytes_of(fleet_upstream(s->lease->revision->fleet, t->path.hops[i]), up, down);
	t->noted_up += up;
	t->noted_down += down;
}

/* Most sessions go straight: their path is told by one bit, so that an idle one is small. */
bool
session_keep_path(struct session *s, const struct path *path)
{
	if (path->n_hops == 0 && path->n_picks == 0 && path->n_chains == 0) {
		s->direct = path->held && path->n_direct == 1;
		return true;
	}
	if ((s->taken = slab_take(&s->worker->taken)) == NULL)
		return false;
	s->taken->path = *path;
	return true;
}

static void
session_give_back_path(struct session *s)
{
	static const struct path straight = { .held = true, .n_direct = 1 };
	struct fleet *fleet = s->lease->revision->fleet;
	if (s->direct)
		fleet_give_back_path(fleet, &straight);
	if (s->taken != NULL)
		fleet_give_back_path(fleet, &s->taken->path);
	slab_give_back(&s->worker->taken, s->taken);
	s->taken = NULL;
	s->direct = false;
}

static void
session_give_back(struct session *s)
{
	struct worker *w = s->worker;
	struct revision *r = s->lease->revision;
	struct front *front = r->fronts[s->listener];
	session_give_back_path(s);
	if (s->counted_client) {
		struct endpoint client = session_client(s);
		clients_give_back(w->shared->clients, front, &client);
	}
	front_give_back(front);
	atomic_fetch_sub_explicit(&w->shared->open, 1, memory_order_relaxed);
	counter_sub(&w->counters, COUNTER_SESSIONS_OPEN, 1);
}

void
session_drop_shake(struct session *s)
{
	if (s->shake == NULL)
		return;
	if (s->shake->dial != NULL)
		counter_add(&s->worker->counters, COUNTER_RACES, dial_raced(s->shake->dial));
	shake_release(s->shake);
	slab_give_back(&s->worker->shakes, s->shake);
	s->shake = NULL;
}

void
session_close(struct session *s, enum session_end why)
{
	assert(s->state != SESSION_CLOSED);
	struct worker *w = s->worker;
	s->end = (uint8_t)why;
	relay_stop(&s->relay);
	session_note_bytes(s);
	session_log(s);
	association_free(s->association);
	s->association = NULL;
	if (s->shake == NULL)
		free(s->facts);
	s->facts = NULL;
	session_drop_shake(s);
	stream_close(&s->client);
	stream_close(&s->upstream);
	session_give_back(s);
	session_enter(s, SESSION_CLOSED);
	worker_reap_later(w);
}

void
session_free(struct session *s)
{
	struct worker *w = s->worker;
	list_remove(&s->link);
	worker_release_lease(w, s->lease);
	slab_give_back(&w->sessions, s);
	worker_session_gone(w);
}

/* ---- the last word ---- */

/*
 * Lets what was said last arrive. Unread input would make the kernel reset it away, so it is read and thrown away for a while.
 */
static void
session_discard(struct session *s, struct stream *from)
{
	uint8_t waste[4096];
	size_t n;
	while (from->ready & STREAM_READABLE) {
		switch (stream_read(from, waste, sizeof waste, &n)) {
		case STREAM_OK:
			s->lingered += n > SESSION_LINGER_READ_LEAST ? (uint32_t)n : SESSION_LINGER_READ_LEAST;
			if (s->lingered <= SESSION_LINGER_BYTES)
				break;
			session_close(s, s->end);
			return;
		case STREAM_AGAIN:
			return;
		default:
			if (stream_ended_above(from)) {
				stream_strip(from);
				break;
			}
			session_close(s, s->end);
			return;
		}
	}
}

/* True: out is empty. False: more must wait for the client, or the session has been closed. */
bool
session_flush(struct session *s)
{
	struct buffer *out = &s->shake->out;
	while (buffer_len(out) > 0) {
		size_t n = 0;
		switch (stream_write(&s->client, buffer_bytes(out), buffer_len(out), &n)) {
		case STREAM_OK:
			buffer_take(out, n);
			break;
		case STREAM_AGAIN:
			return false;
		default:
			session_close(s, END_CLIENT_LEFT);
			return false;
		}
	}
	return true;
}

void
session_linger(struct session *s)
{
	if (s->shake != NULL && !session_flush(s))
		return;
	if (stream_shut_write(&s->client) == STREAM_AGAIN)
		return;
	if (s->shake != NULL && s->shake->eof)
		session_close(s, s->end);
	else
		session_discard(s, &s->client);
}

static void
count_outcome(struct worker *w, enum verdict v)
{
	worker_count_reply(w, v);
	switch (v) {
	case VERDICT_GRANTED:
		counter_add(&w->counters, COUNTER_SESSIONS_GRANTED, 1);
		break;
	case VERDICT_REJECTED:
	case VERDICT_NO_METHOD:
	case VERDICT_BAD_CREDENTIALS:
	case VERDICT_IDENT_UNREACHABLE:
	case VERDICT_IDENT_DIFFERS:
		counter_add(&w->counters, COUNTER_SESSIONS_REJECTED, 1);
		break;
	default:
		counter_add(&w->counters, COUNTER_SESSIONS_FAILED, 1);
	}
}

void
session_answered(struct session *s, enum verdict v, unsigned code)
{
	s->answered = true;
	s->verdict = (uint8_t)v;
	s->facts->code = (uint16_t)code;
	s->facts->total_us = (uint32_t)(clock_now_us() - s->started_us);
	count_outcome(s->worker, v);
}

/* The answer is in `out` already. */
void
session_say_last_word(struct session *s, enum verdict v)
{
	enum socks_protocol p = s->shake->server.request.protocol;
	s->facts->protocol = (uint8_t)p;       /* known before anything was asked */
	session_answered(s, v, p == PROTOCOL_NONE ? UINT16_MAX : socks_server_code(p, v));
	s->end = v == VERDICT_GRANTED ? END_DONE : END_REFUSED;
	session_enter(s, SESSION_LINGERING);
	session_linger(s);
}

void
session_refuse(struct session *s, enum verdict v)
{
	socks_server_reply(&s->shake->server, v, NULL, &s->shake->out);
	session_say_last_word(s, v);
}

/* ---- relaying ---- */

/*
 * Passes a reset on, but not before the kernel has delivered what was sent: RST throws a send queue away. False: it has not yet;
 * true: the session has been closed.
 */
static bool
session_pass_reset(struct session *s)
{
	int unsent = 0;
	struct stream *to = s->reset_client ? &s->client : &s->upstream;
	if (ioctl(to->fd, SIOCOUTQ, &unsent) == 0 && unsent > 0 && s->lingered < SESSION_LINGER_MS)
		return false;
	stream_reset(to);
	session_close(s, s->end);
	return true;
}

static void
on_reset_turn(struct deadline *d)
{
	struct session *s = CONTAINER_OF(d, struct session, deadline);
	s->lingered += WHEEL_TICK_MS;
	if (!session_pass_reset(s))
		loop_set_deadline(s->worker->loop, d, WHEEL_TICK_MS);
}

void
session_ignore(struct stream *stream, void *arg)
{
	(void)stream, (void)arg;
}

static void
session_break_off(struct session *s, struct stream *broken, struct stream *other, enum session_end why)
{
	stream_close(broken);
	s->end = (uint8_t)why;
	s->reset_client = other == &s->client;
	if (session_pass_reset(s))
		return;
	stream_set_callback(other, session_ignore, s);
	session_enter(s, SESSION_LINGERING);
	s->deadline.fire = on_reset_turn;
	loop_set_deadline(s->worker->loop, &s->deadline, WHEEL_TICK_MS);
}

static void
on_rest(struct stream *upstream, void *arg)
{
	session_discard(arg, upstream);
}

/* Its TLS within TLS has ended, both ways, but not what lies below: closed now, it might lose the last that the client sent. */
static void
session_outlast_layers(struct session *s)
{
	stream_close(&s->client);
	s->end = END_DONE;
	session_enter(s, SESSION_LINGERING);
	stream_strip(&s->upstream);
	stream_set_callback(&s->upstream, on_rest, s);
	session_discard(s, &s->upstream);
}

void
session_on_relay_end(struct relay *r, enum relay_end how)
{
	struct session *s = CONTAINER_OF(r, struct session, relay);
	if (how == RELAY_CLIENT_BROKE)
		session_break_off(s, &s->client, &s->upstream, END_CLIENT_RESET);
	else if (how == RELAY_UPSTREAM_BROKE)
		session_break_off(s, &s->upstream, &s->client, END_UPSTREAM_RESET);
	else if (stream_ended_above(&s->upstream))
		session_outlast_layers(s);
	else
		session_close(s, END_DONE);
}

/* Writes as much as goes at once, so that the usual case needs no turn of its own. False: the stream is broken. */
static bool
write_ahead(struct stream *to, struct relay_head *head)
{
	size_t n = 0;
	if (head->len == 0)
		return true;
	if (stream_write(to, head->bytes, head->len, &n) == STREAM_ERROR)
		return false;
	head->bytes += n;
	head->len -= n;
	return true;
}

/* The reply, with what came early from the destination behind it, as one piece. */
static size_t
first_bytes_down(struct shake *sh, const uint8_t *early, size_t early_len, uint8_t *out)
{
	size_t len = buffer_len(&sh->out);
	memcpy(out, buffer_bytes(&sh->out), len);
	if (early_len > 0)
		memcpy(out + len, early, early_len);
	return len + early_len;
}

static bool
session_relay(struct session *s, const uint8_t *early, size_t early_len)
{
	struct shake *sh = s->shake;
	uint8_t first[SOCKS_SERVER_OUT_MAX + HOP_IN_MAX];
	size_t reply_len = buffer_len(&sh->out);
	struct relay_head down = { .bytes = first, .len = first_bytes_down(sh, early, early_len, first) };
	struct relay_head up = { .bytes = buffer_bytes(&sh->in), .len = buffer_len(&sh->in), .ended = sh->eof };
	size_t down_len = down.len, up_len = up.len;
	if (!write_ahead(&s->client, &down) || !write_ahead(&s->upstream, &up) ||
	    !relay_start(&s->relay, &s->worker->relays, &s->client, &s->upstream, &up, &down))
		return false;
	/* Bytes relayed are payload: the reply, which is the first to go, is not. */
	size_t sent_down = down_len - down.len;
	flow_count(&s->relay.up, up_len - up.len);
	flow_count(&s->relay.down, sent_down > reply_len ? sent_down - reply_len : 0);
	counter_add(&s->worker->counters, COUNTER_BYTES_UP, s->relay.up.bytes);
	counter_add(&s->worker->counters, COUNTER_BYTES_DOWN, s->relay.down.bytes);
	return true;
}

/* The other side is there. early: what came from it already. */
void
session_grant(struct session *s, const struct endpoint *bound, const uint8_t *early, size_t early_len)
{
	struct facts *packed;
	stream_set_callback(&s->upstream, session_ignore, s);
	socks_server_reply(&s->shake->server, VERDICT_GRANTED, bound, &s->shake->out);
	session_answered(s, VERDICT_GRANTED, socks_server_code(s->shake->server.request.protocol, VERDICT_GRANTED));
	if (!session_relay(s, early, early_len)) {
		session_close(s, END_CLIENT_LEFT);
		return;
	}
	if ((packed = facts_pack(s->facts)) == NULL) {
		session_close(s, END_INTERNAL);
		return;
	}
	s->facts = packed;
	session_drop_shake(s);
	session_enter(s, SESSION_RELAYING);
}

/* ---- the beginning ---- */

static unsigned
methods_of(const struct policy *p, const struct policy_listener *l)
{
	return l->auth >= 0 ? p->auths[l->auth].methods : AUTH_NONE;
}

static void
session_start_failed(struct worker *w, struct front *front, int fd, int spare, const struct endpoint *client, bool counted)
{
	if (counted)
		clients_give_back(w->shared->clients, front, client);
	front_give_back(front);
	atomic_fetch_sub_explicit(&w->shared->open, 1, memory_order_relaxed);
	spare_drop(&spare);
	close(fd);
}

void
session_start(struct worker *w, uint32_t listener, int fd, int spare, const struct endpoint *client, bool counted_client)
{
	const struct revision *r = w->lease->revision;
	const struct policy_listener *conf = &r->policy->listeners[listener];
	struct session *s = slab_take(&w->sessions);
	struct shake *sh = slab_take(&w->shakes);
	if (s == NULL || sh == NULL) {
		slab_give_back(&w->sessions, s);
		slab_give_back(&w->shakes, sh);
		session_start_failed(w, r->fronts[listener], fd, spare, client, counted_client);
		return;
	}
	worker_memory_taken(w);
	list_init(&s->link);
	s->worker = w;
	s->lease = worker_hold_lease(w);
	s->listener = listener;
	s->id = worker_next_session_id(w);
	s->started_us = clock_now_us();
	s->counted_client = counted_client;
	session_keep_client(s, client);
	stream_init(&s->client, w->loop);
	stream_init(&s->upstream, w->loop);
	deadline_init(&s->deadline, on_deadline);
	s->shake = sh;
	shake_init(sh, &(struct socks_server_options){ .protocols = conf->protocols, .tor_resolve = conf->tor_resolve, .methods = methods_of(r->policy, conf) });
	preamble_init(&sh->preamble, conf->proxy_protocol, r->tls[listener], &w->tls_gate, session_on_tls_pass, s);
	sh->spare = spare;
	s->facts = &sh->facts;
	counter_add(&w->counters, COUNTER_SESSIONS_ACCEPTED, 1);
	counter_add(&w->counters, COUNTER_SESSIONS_OPEN, 1);
	session_enter(s, SESSION_HANDSHAKE);
	if (!stream_open(&s->client, fd, STREAM_WRITABLE, session_on_client, s))
		session_close(s, END_INTERNAL);
}

