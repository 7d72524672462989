#include "router/bind.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <event2/event_struct.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/counters.h"
#include "base/loop.h"
#include "router/local.h"
#include "router/worker.h"
#include "upstream/bind_wait.h"

enum { ACCEPTS_A_TURN = 8 };

struct bind {
	struct worker *worker;
	bind_cb *cb;
	void *arg;
	struct bind_wait *wait;        /* beyond; NULL: here */
	int fd;                        /* here: listens; -1: beyond */
	struct event event;
	bool one_chance;
	size_t n_peers;
	struct endpoint peers[];
};

static void
bind_free(struct bind *b)
{
	if (b->fd >= 0) {
		event_del(&b->event);
		close(b->fd);
	}
	bind_wait_cancel(b->wait);
	free(b);
}

static void
bind_tell(struct bind *b, const struct bind_result *r)
{
	bind_cb *cb = b->cb;
	void *arg = b->arg;
	bind_free(b);
	cb(r, arg);
}

/* ---- here ---- */

static bool
may_connect(const struct bind *b, const struct endpoint *peer)
{
	for (size_t i = 0; i < b->n_peers; i++)
		if (endpoint_is_wildcard(&b->peers[i]) || endpoint_same_host(&b->peers[i], peer))
			return true;
	return false;
}

/* True: the bind has been told of it and is gone. */
static bool
take_peer(struct bind *b, int fd, const struct endpoint *peer)
{
	int on = 1;
	if (may_connect(b, peer)) {
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		bind_tell(b, &(struct bind_result){ .verdict = VERDICT_GRANTED, .fd = fd, .peer = peer });
		return true;
	}
	close(fd);
	counter_add(&b->worker->counters, COUNTER_BIND_STRANGERS, 1);
	if (!b->one_chance)
		return false;
	bind_tell(b, &(struct bind_result){ .verdict = VERDICT_REJECTED, .fd = -1 });
	return true;
}

/* Whatever accept(2) says of one peer or of a shortage passes, or ends with the session's deadline. */
static void
on_peer(evutil_socket_t listening, short what, void *arg)
{
	struct bind *b = arg;
	(void)what;
	(void)loop_now(b->worker->loop);
	for (int i = 0; i < ACCEPTS_A_TURN; i++) {
		struct sockaddr_storage ss;
		socklen_t len = sizeof ss;
		struct endpoint peer;
		int fd = accept4(listening, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
			bind_tell(b, &(struct bind_result){ .verdict = VERDICT_INTERNAL, .fd = -1 });
			return;
		}
		if (fd < 0)
			return;
		endpoint_from_sockaddr(&peer, (struct sockaddr *)&ss, len);
		if (take_peer(b, fd, &peer))
			return;
	}
}

static struct bind *
bind_new(struct worker *w, size_t n_peers, bind_cb *cb, void *arg)
{
	struct bind *b = calloc(1, sizeof *b + n_peers * sizeof *b->peers);
	if (b == NULL)
		return NULL;
	b->worker = w;
	b->cb = cb;
	b->arg = arg;
	b->n_peers = n_peers;
	b->fd = -1;
	return b;
}

/* The one whose way to us is told: the first, but SOCKS4 has no words for another address than one of IPv4. */
static const struct endpoint *
choose_peer(const struct bind_request *q)
{
	for (size_t i = 0; i < q->n_peers && q->one_chance; i++)
		if (q->peers[i].kind == ENDPOINT_IPV4)
			return &q->peers[i];
	return &q->peers[0];
}

/* The address of ours that the peer reaches; where it is not said who that is, the one that the client reached. */
static void
choose_fallback(const struct bind_request *q, struct endpoint *out)
{
	const struct endpoint *peer = choose_peer(q);
	out->kind = ENDPOINT_NONE;
	if (q->line != NULL && q->line->source.kind != ENDPOINT_NONE)
		*out = q->line->source;
	else if (!endpoint_is_wildcard(peer))
		local_address_towards(peer, out);
	if (out->kind == ENDPOINT_NONE)
		local_address_of(q->client_fd, out);
}

static enum verdict
verdict_of_errno(int error)
{
	return error == ENETUNREACH || error == EADDRNOTAVAIL ? VERDICT_NETWORK_UNREACHABLE : VERDICT_INTERNAL;
}

struct bind *
bind_here(const struct bind_request *q, bind_cb *cb, void *arg, struct endpoint *told, enum verdict *why)
{
	struct endpoint fallback;
	struct local_socket s;
	size_t n = q->n_peers < BIND_PEERS_MAX ? q->n_peers : BIND_PEERS_MAX;
	struct bind *b = bind_new(q->worker, n, cb, arg);
	*why = VERDICT_INTERNAL;
	if (b == NULL)
		return NULL;
	memcpy(b->peers, q->peers, n * sizeof *b->peers);
	b->one_chance = q->one_chance;
	choose_fallback(q, &fallback);
	if (!local_open(SOCK_STREAM, q->conf, &fallback, q->line, &q->worker->random, &s)) {
		*why = verdict_of_errno(errno);
		free(b);
		return NULL;
	}
	event_assign(&b->event, loop_base(q->worker->loop), s.fd, EV_READ | EV_PERSIST, on_peer, b);
	if (event_add(&b->event, NULL) != 0) {
		close(s.fd);
		free(b);
		return NULL;
	}
	b->fd = s.fd;
	*told = s.told;
	return b;
}

/* ---- beyond ---- */

static void
on_second_reply(const struct bind_wait_result *r, void *arg)
{
	struct bind *b = arg;
	b->wait = NULL;
	bind_tell(b, &(struct bind_result){ .verdict = r->verdict,
					    .fd = -1,
					    .peer = r->peer,
					    .early = r->early,
					    .early_len = r->early_len });
}

struct bind *
bind_beyond(struct worker *w, enum upstream_scheme scheme, struct stream *s, const uint8_t *early, size_t early_len,
	    bind_cb *cb, void *arg)
{
	struct bind *b = bind_new(w, 0, cb, arg);
	if (b == NULL)
		return NULL;
	b->wait = bind_wait_start(w->loop, scheme, s, early, early_len, on_second_reply, b);
	if (b->wait != NULL)
		return b;
	free(b);
	return NULL;
}

void
bind_cancel(struct bind *b)
{
	if (b != NULL)
		bind_free(b);
}
