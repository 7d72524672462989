/*
 * load_client: one thread of clients, each a socket with a step that it waits in. Up to the work itself they are driven by edges, as
 * little as a client can do; bulk is level-triggered, so that the streams take turns.
 */
#include "load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { CLIENT_BATCH = 64, CLIENT_WAIT_MS = 5, SOCKS5_REPLY_IPV4 = 10, CLIENT_ERRORS_MAX = 1000 };

enum step { STEP_CLOSED, STEP_CONNECTING, STEP_METHOD, STEP_REPLY, STEP_ECHO, STEP_BULK, STEP_STILL };

struct client {
	int fd;
	uint8_t step;          /* enum step */
	uint32_t got, unsent;  /* of the message that is under way */
	uint64_t since_ns;     /* when what is measured began; LOAD_SLOW, LOAD_HALF: when it is due again */
};

struct crew {
	const struct load_options *o;
	struct load_found *found;
	struct client *clients;
	unsigned n;
	int epoll;
	uint64_t due_ns, gap_ns;       /* with a rate: when the next echo is to begin, and how far apart they are; 0: none */
	unsigned next;                 /* who may ask next, if free */
	bool all_busy;                 /* nobody is: what is due waits for an answer */
	char *memory;          /* what comes */
	char *message;         /* what is sent */
};

static bool client_open(struct crew *w, struct client *c);

static bool
measuring(void)
{
	return atomic_load_explicit(&load_phase, memory_order_relaxed) == LOAD_MEASURING;
}

static void
count(struct crew *w, uint64_t done, uint64_t bytes)
{
	w->found->total_done += done;
	w->found->total_bytes += bytes;
	if (measuring()) {
		w->found->done += done;
		w->found->bytes += bytes;
	}
}

static void
client_close(struct client *c)
{
	if (c->step != STEP_CLOSED)
		close(c->fd);
	c->step = STEP_CLOSED;
}

/* A connection that broke: counted, and begun anew. */
static void
client_failed(struct crew *w, struct client *c)
{
	client_close(c);
	if (++w->found->errors < CLIENT_ERRORS_MAX)
		(void)client_open(w, c);
}

static bool
say(const struct client *c, const void *bytes, size_t len)
{
	return send(c->fd, bytes, len, MSG_NOSIGNAL) == (ssize_t)len;
}

/* Appends to what came before; true when `want` bytes are there. errno is EAGAIN where more must be waited for. */
static bool
hear(struct crew *w, struct client *c, size_t want)
{
	while (c->got < want) {
		ssize_t n = recv(c->fd, w->memory + c->got, want - c->got, 0);
		if (n <= 0) {
			errno = n == 0 ? ECONNRESET : errno;
			return false;
		}
		c->got += (uint32_t)n;
	}
	c->got = 0;
	return true;
}

static bool
send_greeting(struct client *c)
{
	const uint8_t greeting[] = { 5, 1, 0 };
	c->step = STEP_METHOD;
	return say(c, greeting, sizeof greeting);
}

/* Which of 127.0.0.x a client is at and goes to. */
static struct in_addr
address_of(const struct crew *w, const struct client *c)
{
	uint32_t at = w->o->mode == LOAD_IDLE ? (uint32_t)(c - w->clients) * w->o->threads / LOAD_ADDRESS_USERS : 0;
	return (struct in_addr){ htonl(INADDR_LOOPBACK + at) };
}

static bool
send_request(struct crew *w, struct client *c)
{
	const struct in_addr to = address_of(w, c);
	uint8_t request[10] = { 5, 1, 0, 1 };
	memcpy(request + 4, &to, 4);
	memcpy(request + 8, &w->o->to.sin_port, 2);
	c->step = STEP_REPLY;
	return w->memory[1] == 0 && say(c, request, sizeof request);
}

/* The rest of a message that did not go at once. */
static bool
push(struct crew *w, struct client *c)
{
	while (c->unsent > 0) {
		ssize_t n = send(c->fd, w->message + (w->o->bytes - c->unsent), c->unsent, MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN;
		c->unsent -= (uint32_t)n;
	}
	return true;
}

static bool
send_message(struct crew *w, struct client *c)
{
	c->step = STEP_ECHO;
	c->unsent = w->o->bytes;
	return push(w, c);
}

static bool
start_bulk(struct crew *w, struct client *c)
{
	const char wish = LOAD_STREAM;
	struct epoll_event e = { .events = EPOLLIN | (w->o->mode == LOAD_DUPLEX ? EPOLLOUT : 0), .data.ptr = c };
	c->step = w->o->mode == LOAD_SLOW ? STEP_STILL : STEP_BULK;
	if (w->o->mode == LOAD_SLOW)
		e.events = 0;
	return say(c, &wish, 1) && epoll_ctl(w->epoll, EPOLL_CTL_MOD, c->fd, &e) == 0;
}

/* The way to the target is open. */
static bool
start_work(struct crew *w, struct client *c)
{
	if (w->o->mode != LOAD_CONNECT)
		atomic_fetch_add_explicit(&load_ready, 1, memory_order_relaxed);
	if (w->o->mode == LOAD_DOWN || w->o->mode == LOAD_DUPLEX || w->o->mode == LOAD_SLOW)
		return start_bulk(w, c);
	if (w->o->mode == LOAD_ASK)
		c->since_ns = load_now_ns();
	return send_message(w, c);
}

static bool
connected(struct crew *w, struct client *c)
{
	const uint8_t half = 5;
	if (w->o->mode == LOAD_HALF) {
		c->step = STEP_STILL;
		/* Not all at once, though all may have come at once. */
		c->since_ns = load_now_ns();
		c->since_ns += (LOAD_HOLD_MS / 2 + c->since_ns % LOAD_HOLD_MS) * 1000000ull;
		count(w, 1, 0);
		return say(c, &half, 1);
	}
	return w->o->proxy.sin_port != 0 ? send_greeting(c) : start_work(w, c);
}

/* A whole echo is back. */
static bool
echoed(struct crew *w, struct client *c)
{
	uint64_t now = load_now_ns();
	if (measuring())
		load_note(w->found, (now - c->since_ns) / 1000);
	count(w, 1, w->o->bytes);
	switch (w->o->mode) {
	case LOAD_CONNECT:
		client_close(c);
		return client_open(w, c);
	case LOAD_ASK:
		if (w->gap_ns > 0) {
			c->step = STEP_STILL;
			return true;
		}
		c->since_ns = now;
		return send_message(w, c);
	default:
		c->step = STEP_STILL;
		return true;
	}
}

static bool
move_bulk(struct crew *w, struct client *c, uint32_t events)
{
	if (events & EPOLLIN) {
		ssize_t n = recv(c->fd, w->memory, LOAD_BULK_BYTES, MSG_TRUNC);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			return false;
		count(w, 0, n > 0 ? (uint64_t)n : 0);
	}
	if (events & EPOLLOUT) {
		ssize_t n = send(c->fd, w->memory, LOAD_BULK_BYTES, MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			return false;
		count(w, 0, n > 0 ? (uint64_t)n : 0);
	}
	return true;
}

/* Goes on with one step; true: it may go on with the next at once. False: wait (EAGAIN), or it broke. */
static bool
client_step(struct crew *w, struct client *c, uint32_t events)
{
	errno = EAGAIN;
	switch ((enum step)c->step) {
	case STEP_CONNECTING:
		if (events & EPOLLOUT)
			return connected(w, c) || (errno = ECONNRESET, false);
		return false;
	case STEP_METHOD:
		return hear(w, c, 2) && (send_request(w, c) || (errno = ECONNRESET, false));
	case STEP_REPLY:
		return hear(w, c, SOCKS5_REPLY_IPV4) && ((w->memory[1] == 0 && start_work(w, c)) || (errno = ECONNRESET, false));
	case STEP_ECHO:
		if (!push(w, c))
			return false;
		return hear(w, c, w->o->bytes) && (echoed(w, c) || (errno = ECONNRESET, false));
	case STEP_BULK:
		errno = EAGAIN;
		if (!move_bulk(w, c, events))
			errno = ECONNRESET;
		return false;
	default:
		return false;
	}
}

static void
client_serve(struct crew *w, struct client *c, uint32_t events)
{
	if (c->step == STEP_CLOSED)
		return;
	if (events & EPOLLERR) {
		client_failed(w, c);
		return;
	}
	int fd = c->fd;
	do {
		if (!client_step(w, c, events)) {
			if (errno != EAGAIN && c->step != STEP_CLOSED)
				client_failed(w, c);
			return;
		}
	} while (c->fd == fd && c->step != STEP_CONNECTING && c->step != STEP_STILL);
}

static bool
client_open(struct crew *w, struct client *c)
{
	const struct sockaddr_in *at = w->o->proxy.sin_port != 0 ? &w->o->proxy : &w->o->to;
	int on = 1;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return false;
	c->step = STEP_CONNECTING;
	c->got = c->unsent = 0;
	c->since_ns = load_now_ns();
	w->found->opened++;
	(void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	const struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr = address_of(w, c) };
	if (from.sin_addr.s_addr != htonl(INADDR_LOOPBACK)) {
		(void)setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
		(void)bind(c->fd, (const struct sockaddr *)&from, sizeof from);
	}
	struct epoll_event e = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c };
	if (connect(c->fd, (const struct sockaddr *)at, sizeof *at) != 0 && errno != EINPROGRESS) {
		client_close(c);
		return false;
	}
	return epoll_ctl(w->epoll, EPOLL_CTL_ADD, c->fd, &e) == 0;
}

/* What time alone moves: the byte a second of LOAD_SLOW, the end of a held handshake of LOAD_HALF. */
static void
look_at_the_clock(struct crew *w)
{
	uint64_t now = load_now_ns();
	for (unsigned i = 0; i < w->n; i++) {
		struct client *c = &w->clients[i];
		if (c->step != STEP_STILL || c->since_ns > now)
			continue;
		if (w->o->mode == LOAD_HALF) {
			client_close(c);
			if (!client_open(w, c))
				w->found->errors++;
		} else if (w->o->mode == LOAD_SLOW) {
			c->since_ns = now + 1000000000ull;
			ssize_t n = recv(c->fd, w->memory, 1, 0);
			count(w, n == 1, n == 1);
		}
	}
}

/* Whoever is free begins what is due. It counts from when it was due, so that waiting for somebody to be free is no time saved. */
static void
begin_what_is_due(struct crew *w)
{
	uint64_t now = load_now_ns();
	for (unsigned tried = 0; w->due_ns <= now && tried < w->n; tried++) {
		struct client *c = &w->clients[w->next++ % w->n];
		if (c->step != STEP_STILL)
			continue;
		c->since_ns = w->due_ns;
		w->due_ns += w->gap_ns;
		tried = 0;
		if (!send_message(w, c))
			client_failed(w, c);
	}
	w->all_busy = w->due_ns <= now;
}

/* Until something comes, or the clock is to be looked at. */
static int
wait_events(const struct crew *w, struct epoll_event *ready)
{
	uint64_t ns = CLIENT_WAIT_MS * 1000000ull;
	if (w->gap_ns > 0 && !w->all_busy) {
		uint64_t now = load_now_ns(), left = w->due_ns > now ? w->due_ns - now : 0;
		ns = left < ns ? left : ns;
	}
	const struct timespec at_most = { .tv_nsec = (long)ns };
	return epoll_pwait2(w->epoll, ready, CLIENT_BATCH, &at_most, NULL);
}

/* Opens as many at a time as a listener's queue takes. */
static void
open_more(struct crew *w, unsigned *opened)
{
	unsigned ready = w->o->mode == LOAD_IDLE ? (unsigned)w->found->total_done : *opened;
	unsigned until = ready + 256 < w->n ? ready + 256 : w->n;
	for (; *opened < until; (*opened)++)
		if (!client_open(w, &w->clients[*opened]))
			w->found->errors++;
}

static bool
crew_init(struct crew *w)
{
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	w->clients = calloc(w->n + 1, sizeof *w->clients);
	w->memory = calloc(1, LOAD_BULK_BYTES);
	w->message = malloc(LOAD_MESSAGE_MAX);
	if (w->epoll < 0 || w->clients == NULL || w->memory == NULL || w->message == NULL)
		return false;
	memset(w->message, LOAD_ECHO, LOAD_MESSAGE_MAX);
	return true;
}

void
load_run(const struct load_options *o, unsigned connections, struct load_found *out)
{
	struct crew w = { .o = o, .found = out, .n = connections, .due_ns = load_now_ns() };
	if (o->rate > 0)
		w.gap_ns = 1000000000ull * o->threads / o->rate;
	struct epoll_event ready[CLIENT_BATCH];
	unsigned opened = 0;
	if (!crew_init(&w))
		abort();
	while (atomic_load_explicit(&load_phase, memory_order_relaxed) != LOAD_ENDED && out->errors < CLIENT_ERRORS_MAX) {
		open_more(&w, &opened);
		int n = wait_events(&w, ready);
		for (int i = 0; i < n; i++)
			client_serve(&w, ready[i].data.ptr, ready[i].events);
		if (o->mode == LOAD_SLOW || o->mode == LOAD_HALF)
			look_at_the_clock(&w);
		if (w.gap_ns > 0)
			begin_what_is_due(&w);
	}
	for (unsigned i = 0; i < w.n; i++)
		client_close(&w.clients[i]);
	close(w.epoll);
	free(w.clients);
	free(w.memory);
	free(w.message);
}
