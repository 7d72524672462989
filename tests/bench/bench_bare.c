/*
 * bench_bare: the barest SOCKS5 relay, for the benchmarks: what the kernel and the handshake cost by themselves on the machine at
 * hand, and so the limit of any SOCKS proxy there.
 *
 *   bench_bare PORT THREADS [UPSTREAM]
 *
 * Plain epoll, edge-triggered, one ADD for a socket; each thread has a listener of its own (SO_REUSEPORT). A handshake without
 * authentication, CONNECT to an IPv4 address, straight or through the SOCKS5 proxy on port UPSTREAM, then copying, with half-close
 * and resets passed on. No policy, no log, no deadlines, no counters, no memory for what isn't taken at once: whoever writes a
 * handshake in pieces or does not read what he is sent is closed. All on 127.0.0.1. It is a measure, nothing to use.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { BATCH = 64, BUFFER_BYTES = 16 << 10, REQUEST_LEN = 10, ATYP_IPV4 = 1, THREADS_MAX = 64 };

/* METHOD and REPLY are an upstream's. */
enum step { STEP_GREETING, STEP_REQUEST, STEP_CONNECTING, STEP_METHOD, STEP_REPLY, STEP_RELAYING, STEP_OVER };

struct end {
	struct link *link;
	int fd;
	bool ended;            /* it sends no more */
};

struct link {
	struct end client, target;
	enum step step;
	bool early;            /* the client was heard before the relay stood: nothing more tells of it */
	uint8_t request[REQUEST_LEN];
	struct link *next;     /* in a list of the thread's */
};

static uint16_t own_port, upstream_port;

static _Thread_local int epoll_fd;
static _Thread_local struct link *over;        /* still named by events of this turn */
static _Thread_local struct link *spare;
static _Thread_local uint8_t memory[BUFFER_BYTES];

static bool
say(int fd, const void *bytes, size_t len)
{
	return send(fd, bytes, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool
watch(struct end *e)
{
	struct epoll_event want = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = e };
	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, e->fd, &want) == 0;
}

static int
new_socket(void)
{
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	return fd;
}

/* ---- the end of a link ---- */

static void
link_end(struct link *l)
{
	if (l->step == STEP_OVER)
		return;
	close(l->client.fd);
	if (l->target.fd >= 0)
		close(l->target.fd);
	l->step = STEP_OVER;
	l->next = over;
	over = l;
}

/* A reset from one side is one to the other. */
static void
link_reset(struct link *l, const struct end *to)
{
	const struct linger at_once = { .l_onoff = 1 };
	(void)setsockopt(to->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	link_end(l);
}

static void
reuse_what_is_over(void)
{
	while (over != NULL) {
		struct link *l = over;
		over = l->next;
		l->next = spare;
		spare = l;
	}
}

/* ---- relaying ---- */

/* A short read has emptied the socket, unless more than data was told of, or may have been. */
static void
relay(struct end *from, uint32_t events)
{
	struct link *l = from->link;
	struct end *to = from == &l->client ? &l->target : &l->client;
	ssize_t n;
	do {
		n = recv(from->fd, memory, sizeof memory, 0);
		if (n < 0) {
			if (errno != EAGAIN)
				link_reset(l, to);
			return;
		}
		if (n == 0) {
			from->ended = true;
			if (to->ended || shutdown(to->fd, SHUT_WR) != 0)
				link_end(l);
			return;
		}
		if (!say(to->fd, memory, (size_t)n)) {
			link_end(l);
			return;
		}
	} while (n == (ssize_t)sizeof memory || (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
}

static void
relay_start(struct link *l, uint32_t events)
{
	l->step = STEP_RELAYING;
	if ((events & (EPOLLIN | EPOLLRDHUP)) != 0)
		relay(&l->target, events);
	if (l->early && l->step == STEP_RELAYING)
		relay(&l->client, EPOLLRDHUP);
}

/* ---- the handshakes ---- */

static bool
target_open(struct link *l)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	memcpy(&to.sin_addr, l->request + 4, 4);
	memcpy(&to.sin_port, l->request + 8, 2);
	if (upstream_port != 0) {
		to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		to.sin_port = htons(upstream_port);
	}
	l->target.fd = new_socket();
	l->step = STEP_CONNECTING;
	return l->target.fd >= 0 && (connect(l->target.fd, (struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS) &&
	       watch(&l->target);
}

static bool
client_greets(struct link *l)
{
	const uint8_t none[] = { 5, 0 };
	ssize_t n = recv(l->client.fd, memory, sizeof memory, 0);
	if (n < 0 && errno == EAGAIN)
		return true;
	l->step = STEP_REQUEST;
	return n >= 3 && memory[0] == 5 && say(l->client.fd, none, sizeof none);
}

static bool
client_asks(struct link *l)
{
	ssize_t n = recv(l->client.fd, l->request, sizeof l->request, 0);
	if (n < 0 && errno == EAGAIN)
		return true;
	return n == REQUEST_LEN && l->request[1] == 1 && l->request[3] == ATYP_IPV4 && target_open(l);
}

static bool
target_stands(struct link *l, uint32_t events)
{
	const uint8_t greeting[] = { 5, 1, 0 };
	uint8_t reply[REQUEST_LEN] = { 5, 0, 0, ATYP_IPV4 };
	struct sockaddr_in at;
	socklen_t len = sizeof at;
	if ((events & (EPOLLERR | EPOLLHUP)) != 0)
		return false;
	if ((events & EPOLLOUT) == 0)
		return true;
	if (upstream_port != 0) {
		l->step = STEP_METHOD;
		return say(l->target.fd, greeting, sizeof greeting);
	}
	if (getsockname(l->target.fd, (struct sockaddr *)&at, &len) != 0)
		return false;
	memcpy(reply + 4, &at.sin_addr, 4);
	memcpy(reply + 8, &at.sin_port, 2);
	if (!say(l->client.fd, reply, sizeof reply))
		return false;
	relay_start(l, events);
	return true;
}

static bool
upstream_answers(struct link *l)
{
	ssize_t n = recv(l->target.fd, memory, 2, 0);
	if (n < 0 && errno == EAGAIN)
		return true;
	l->step = STEP_REPLY;
	return n == 2 && memory[1] == 0 && say(l->target.fd, l->request, sizeof l->request);
}

/* The upstream's reply goes to the client as it is, with what came behind it. */
static bool
upstream_replies(struct link *l, uint32_t events)
{
	ssize_t n = recv(l->target.fd, memory, sizeof memory, 0);
	if (n < 0 && errno == EAGAIN)
		return true;
	if (n < REQUEST_LEN || memory[1] != 0 || !say(l->client.fd, memory, (size_t)n))
		return false;
	relay_start(l, events & ~(uint32_t)EPOLLIN);
	return true;
}

/* ---- a thread ---- */

/* False: it can't go on. */
static bool
serve_handshake(struct end *e, uint32_t events)
{
	struct link *l = e->link;
	if (e == &l->client && l->step >= STEP_CONNECTING) {
		l->early = l->early || (events & ~(uint32_t)EPOLLOUT) != 0;
		return true;
	}
	switch (l->step) {
	case STEP_GREETING: return client_greets(l);
	case STEP_REQUEST: return client_asks(l);
	case STEP_CONNECTING: return target_stands(l, events);
	case STEP_METHOD: return upstream_answers(l);
	case STEP_REPLY: return upstream_replies(l, events);
	default: return true;
	}
}

static void
serve(struct end *e, uint32_t events)
{
	if (e->link->step < STEP_RELAYING) {
		if (!serve_handshake(e, events))
			link_end(e->link);
	} else if (e->link->step == STEP_RELAYING && (events & ~(uint32_t)EPOLLOUT) != 0) {
		relay(e, events);
	}
}

static void
accept_one(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	struct link *l = spare != NULL ? spare : malloc(sizeof *l);
	if (l == NULL)
		abort();
	if (l == spare)
		spare = l->next;
	*l = (struct link){ .client = { .link = l, .fd = fd }, .target = { .link = l, .fd = -1 } };
	if (!watch(&l->client))
		link_end(l);
}

static int
listen_on(uint16_t port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int on = 1, fd = new_socket();
	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0 &&
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0 &&
	    listen(fd, SOMAXCONN) == 0)
		return fd;
	perror("bench_bare: can't listen");
	exit(1);
}

static void *
on_thread(void *arg)
{
	struct epoll_event listening = { .events = EPOLLIN }, ready[BATCH];
	int listener = listen_on(own_port);
	(void)arg;
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &listening) != 0)
		abort();
	for (;;) {
		int n = epoll_wait(epoll_fd, ready, BATCH, -1);
		for (int i = 0; i < n; i++) {
			if (ready[i].data.ptr == NULL)
				accept_one(listener);
			else
				serve(ready[i].data.ptr, ready[i].events);
		}
		reuse_what_is_over();
	}
	return NULL;
}

int
main(int argc, char **argv)
{
	pthread_t thread;
	unsigned long threads = argc >= 3 ? strtoul(argv[2], NULL, 10) : 0;
	if (argc > 4 || threads == 0 || threads > THREADS_MAX) {
		fputs("usage: bench_bare PORT THREADS [UPSTREAM]\n", stderr);
		return 2;
	}
	own_port = (uint16_t)strtoul(argv[1], NULL, 10);
	upstream_port = argc > 3 ? (uint16_t)strtoul(argv[3], NULL, 10) : 0;
	for (unsigned long i = 1; i < threads; i++)
		if (pthread_create(&thread, NULL, on_thread, NULL) != 0)
			abort();
	on_thread(NULL);
	return 0;
}
