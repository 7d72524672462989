/*
 * connector: one TCP connection to the first of several addresses that takes it. See connector.h.
 */
#include "upstream/connector.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "upstream/port_rest.h"

/* An attempt beside the one in the owner's stream. */
struct beside {
	struct list link; /* in connector.beside */
	struct connector *owner;
	struct stream stream;
	size_t at; /* its address */
};

/*
 * What an errno means, and which one is told when several were met: the one of most weight. A
 * shortage of our own comes first, as it hides what the rest would have said; then what a peer or a
 * router answered; and last that there was no way at all, the usual lot of IPv6 addresses where
 * there is no IPv6.
 */
static const struct meaning {
	int error;
	enum verdict verdict;
	unsigned weight;
} meanings[] = {
    {EMFILE, VERDICT_INTERNAL, 9},
    {ENFILE, VERDICT_INTERNAL, 9},
    {ENOMEM, VERDICT_INTERNAL, 9},
    {ENOBUFS, VERDICT_INTERNAL, 9},
    {ECONNREFUSED, VERDICT_REFUSED, 8},
    {ECONNRESET, VERDICT_REFUSED, 8},
    {EPIPE, VERDICT_REFUSED, 8},
    {ETIMEDOUT, VERDICT_TIMEOUT, 7},
    {EHOSTUNREACH, VERDICT_HOST_UNREACHABLE, 6},
    {EHOSTDOWN, VERDICT_HOST_UNREACHABLE, 6},
    {ECONNABORTED, VERDICT_HOST_UNREACHABLE, 6}, /* fast open: the SYN found no way out */
    {EACCES, VERDICT_HOST_UNREACHABLE, 6},      /* ICMPv6: prohibited; a route of that type */
    {EPROTO, VERDICT_HOST_UNREACHABLE, 6},      /* ICMP: parameter problem */
    {ENOPROTOOPT, VERDICT_HOST_UNREACHABLE, 6}, /* ICMP: protocol unreachable */
    {EOPNOTSUPP, VERDICT_HOST_UNREACHABLE, 6},  /* ICMP: source route failed */
    {ENONET, VERDICT_HOST_UNREACHABLE, 6},      /* ICMP: host isolated */
    {EINVAL, VERDICT_HOST_UNREACHABLE, 5},      /* a blackhole route; link-local without scope */
    {ENETUNREACH, VERDICT_NETWORK_UNREACHABLE, 3},
    {ENETDOWN, VERDICT_NETWORK_UNREACHABLE, 3},
    {EAFNOSUPPORT, VERDICT_NETWORK_UNREACHABLE, 2},
};

/* Ours: EPERM (a firewall), EADDRNOTAVAIL (no port or source address), ENODEV (interface gone). */
static const struct meaning other_meaning = {0, VERDICT_INTERNAL, 4};

static void on_out_ready(struct stream *s, void *arg);
static void on_beside_ready(struct stream *s, void *arg);

static const struct meaning *
meaning_of(int error)
{
	for (size_t i = 0; i < ARRAY_LEN(meanings); i++)
		if (meanings[i].error == error)
			return &meanings[i];
	return &other_meaning;
}

enum verdict
connect_verdict(int error)
{
	return error == 0 ? VERDICT_GRANTED : meaning_of(error)->verdict;
}

static bool
is_shortage(int error)
{
	return meaning_of(error)->weight == meanings[0].weight;
}

static void
note_error(struct connector *c, int error)
{
	if (c->error == 0 || meaning_of(error)->weight > meaning_of(c->error)->weight)
		c->error = error;
	if (is_shortage(error))
		c->next = c->plan.n_addrs; /* the other addresses would only meet it again */
}

/* ---- sockets ---- */

static int
set_option(int fd, int level, int option, unsigned value)
{
	return setsockopt(fd, level, option, &value, sizeof value) == 0 ? 0 : errno;
}

/* Without a port: connect() finds one for the whole 4-tuple, so there is no bound of 28k in all. */
static int
bind_source(int fd, const struct endpoint *source)
{
	struct sockaddr_storage ss;
	socklen_t len = endpoint_to_sockaddr(source, &ss);
	int error = set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	if (error == 0 && bind(fd, (struct sockaddr *)&ss, len) != 0)
		error = errno;
	return error;
}

static int
apply_plan(int fd, const struct connect_plan *plan)
{
	int error = 0;
	if (plan->interface != NULL && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, plan->interface,
						  (socklen_t)strlen(plan->interface)) != 0)
		error = errno;
	if (error == 0 && plan->mark != 0)
		error = set_option(fd, SOL_SOCKET, SO_MARK, plan->mark);
	if (error == 0 && plan->source != NULL && plan->source->kind != ENDPOINT_NONE)
		error = bind_source(fd, plan->source);
	return error;
}

/* Where the socket doesn't block, connect() succeeds at once only if the SYN waits for the first
 * bytes. Returns 0, also where it is under way, or errno. */
static int
begin_connect(struct connector *c, int fd, const struct endpoint *to)
{
	struct sockaddr_storage ss;
	socklen_t len = endpoint_to_sockaddr(to, &ss);
	if (connect(fd, (const struct sockaddr *)&ss, len) == 0) {
		c->deferred = c->plan.fast_open;
		return 0;
	}
	int error = errno == EINPROGRESS || errno == EINTR ? 0 : errno;
	if (error == EADDRNOTAVAIL && c->plan.rest != NULL)
		port_rest_note(c->plan.rest, &c->plan, to, loop_now(c->loop));
	return error;
}

/* A socket that is connecting to `to`; or a negative errno. */
static int
connect_socket(struct connector *c, const struct endpoint *to)
{
	const struct connect_plan *plan = &c->plan;
	struct sockaddr_storage ss;
	socklen_t len = endpoint_to_sockaddr(to, &ss);
	if (len == 0 || (plan->source != NULL && plan->source->kind != ENDPOINT_NONE &&
			 plan->source->kind != to->kind))
		return -EAFNOSUPPORT;
	if (port_rests(plan->rest, plan, to, loop_now(c->loop)))
		return -EADDRNOTAVAIL;
	int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int error = set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (error == 0)
		error = apply_plan(fd, plan);
	if (plan->fast_open && plan->n_addrs == 1)
		(void)set_option(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1);
	if (error == 0)
		error = begin_connect(c, fd, to);
	if (error == 0)
		return fd;
	close(fd);
	return -error;
}

/* See "dead peers" in the header. A kernel that refuses one of them is none the worse for it. */
static void
watch_peer(int fd, const struct endpoint *peer)
{
	if (endpoint_is_loopback(peer))
		return;
	(void)set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	(void)set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, CONNECT_KEEPALIVE_S);
	(void)set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, CONNECT_DEAD_MS);
}

/* ---- attempts ---- */

/* Each start_x takes fd and returns 0 or errno. */
static int
start_in_out(struct connector *c, int fd, size_t at)
{
	if (!stream_open(c->out, fd, 0, on_out_ready, c))
		return errno;
	c->out_at = at;
	return 0;
}

static int
start_beside(struct connector *c, int fd, size_t at)
{
	struct beside *a = malloc(sizeof *a);
	if (a == NULL) {
		close(fd);
		return ENOMEM;
	}
	*a = (struct beside){.owner = c, .at = at};
	stream_init(&a->stream, c->loop);
	if (!stream_open(&a->stream, fd, 0, on_beside_ready, a)) {
		int error = errno;
		free(a);
		return error;
	}
	list_init(&a->link);
	list_append(&c->beside, &a->link);
	return 0;
}

static int
start_attempt(struct connector *c, int fd, size_t at)
{
	return stream_is_open(c->out) ? start_beside(c, fd, at) : start_in_out(c, fd, at);
}

static void
drop_attempt(struct beside *a)
{
	list_remove(&a->link);
	stream_close(&a->stream);
	free(a);
}

static void
drop_all_beside(struct connector *c)
{
	while (!list_empty(&c->beside))
		drop_attempt(LIST_OBJECT(c->beside.next, struct beside, link));
}

/* Starts the next attempt that gets under way. False: there is none. */
static bool
start_next(struct connector *c)
{
	loop_clear_deadline(c->loop, &c->delay);
	while (c->next < c->plan.n_addrs) {
		size_t at = c->next++;
		int fd = connect_socket(c, &c->plan.addrs[at]);
		int error = fd < 0 ? -fd : start_attempt(c, fd, at);
		if (error != 0) {
			note_error(c, error);
			continue;
		}
		c->n_open++;
		if (c->next < c->plan.n_addrs)
			loop_set_deadline(c->loop, &c->delay, CONNECT_DELAY_MS);
		return true;
	}
	return false;
}

/* The end: nothing of c may be touched after. */
static void
tell(struct connector *c, int error, const struct endpoint *peer)
{
	loop_clear_deadline(c->loop, &c->delay);
	loop_undefer(c->loop, &c->failed);
	c->loop = NULL;
	struct endpoint local;
	if (error == 0)
		endpoint_copy(&local, &c->local);      /* c may end in the call */
	c->cb(error, peer, error == 0 ? &local : NULL, c->arg);
}

static void
on_failed(struct loop_task *t)
{
	struct connector *c = CONTAINER_OF(t, struct connector, failed);
	tell(c, c->error, NULL);
}

static void
on_delay(struct deadline *d)
{
	struct connector *c = CONTAINER_OF(d, struct connector, delay);
	(void)start_next(c); /* failing, it leaves those that are under way to decide */
}

/* One attempt failed and its stream is closed. */
static void
lose(struct connector *c, int error)
{
	c->n_open--;
	note_error(c, error);
	if (!start_next(c) && c->n_open == 0)
		tell(c, c->error, NULL);
}

static void
win(struct connector *c, struct stream *s, size_t at)
{
	int error = 0;
	if (s != c->out) {
		stream_close(c->out);
		if (!stream_move(c->out, s))
			error = errno;
	}
	drop_all_beside(c);
	if (error == 0) {
		stream_set_callback(c->out, NULL, NULL);
		watch_peer(c->out->fd, &c->plan.addrs[at]);
	} else {
		stream_close(c->out);
	}
	tell(c, error, error == 0 ? &c->plan.addrs[at] : NULL);
}

/* Fills in c->local of a connection that stands. Returns 0 or errno. */
static int
look_at_ends(struct connector *c, struct stream *s, size_t at)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	if (getsockname(s->fd, (struct sockaddr *)&ss, &len) != 0)
		return errno;
	endpoint_from_sockaddr(&c->local, (struct sockaddr *)&ss, len);
	if (!endpoint_equal(&c->local, &c->plan.addrs[at]))
		return 0;
	stream_reset(s); /* a connection to itself: a FIN would leave the port in TIME_WAIT */
	return ECONNREFUSED;
}

/* What the edges say of a connecting socket: 0 it stands, EINPROGRESS not yet, else why not. */
static int
look_at_attempt(struct connector *c, struct stream *s, size_t at)
{
	if ((s->ready & STREAM_WRITABLE) == 0)
		return EINPROGRESS;
	int error = (s->ready & STREAM_READABLE) != 0 ? stream_take_error(s) : 0;
	return error != 0 ? error : look_at_ends(c, s, at);
}

static void
on_out_ready(struct stream *s, void *arg)
{
	struct connector *c = arg;
	int error = look_at_attempt(c, s, c->out_at);
	if (error == EINPROGRESS)
		return;
	if (error == 0) {
		win(c, s, c->out_at);
		return;
	}
	stream_close(s);
	lose(c, error);
}

static void
on_beside_ready(struct stream *s, void *arg)
{
	struct beside *a = arg;
	struct connector *c = a->owner;
	int error = look_at_attempt(c, s, a->at);
	if (error == EINPROGRESS)
		return;
	if (error == 0) {
		win(c, s, a->at);
		return;
	}
	drop_attempt(a);
	lose(c, error);
}

/* ---- life ---- */

void
connector_start(struct connector *c, struct loop *l, const struct connect_plan *plan,
		struct stream *out, connect_cb *cb, void *arg)
{
	assert(c->loop == NULL && plan->n_addrs > 0 && !stream_is_open(out));
	c->loop = l;
	c->plan = *plan;
	c->out = out;
	c->next = 0;
	c->n_open = 0;
	c->deferred = false;
	c->error = 0;
	c->cb = cb;
	c->arg = arg;
	list_init(&c->beside);
	deadline_init(&c->delay, on_delay);
	loop_task_init(&c->failed, on_failed);
	if (!start_next(c))
		loop_defer(l, &c->failed);
}

void
connector_cancel(struct connector *c)
{
	if (c->loop == NULL)
		return;
	loop_clear_deadline(c->loop, &c->delay);
	loop_undefer(c->loop, &c->failed);
	drop_all_beside(c);
	stream_close(c->out);
	c->loop = NULL;
}
