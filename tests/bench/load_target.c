/*
 * load_target: what the benchmark's connections lead to. Each thread accepts on a socket of its own (SO_REUSEPORT) and serves what
 * it accepted, level-triggered, with one shared piece of memory: nothing is kept for a connection but its wish.
 */
#include "load.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { TARGET_BATCH = 64 };

static char stream_bytes[LOAD_BULK_BYTES];

struct target {
	int fd;
	char wish;             /* 0: not told yet */
	size_t unsent;         /* of an echo, at the front of memory of its own */
	char *held;
};

static int
listen_on(uint16_t port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, SOMAXCONN) == 0)
		return fd;
	close(fd);
	return -1;
}

static void
target_close(struct target *t)
{
	close(t->fd);
	free(t->held);
	free(t);
}

static void
target_accept(int epoll, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	struct target *t = calloc(1, sizeof *t);
	if (t == NULL) {
		close(fd);
		return;
	}
	t->fd = fd;
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = t };
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) != 0)
		target_close(t);
}

static void
target_want(int epoll, struct target *t, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = t };
	(void)epoll_ctl(epoll, EPOLL_CTL_MOD, t->fd, &e);
}

/* What the client does not take is kept, and nothing more is read until it has. False: closed. */
static bool
target_send_back(int epoll, struct target *t, const char *bytes, size_t len)
{
	ssize_t n = send(t->fd, bytes, len, MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN)
		return false;
	size_t sent = n > 0 ? (size_t)n : 0;
	if (sent == len) {
		if (t->unsent > 0)
			target_want(epoll, t, EPOLLIN);
		t->unsent = 0;
		return true;
	}
	if (t->held == NULL && (t->held = malloc(LOAD_BULK_BYTES)) == NULL)
		return false;
	memmove(t->held, bytes + sent, len - sent);
	if (t->unsent == 0)
		target_want(epoll, t, EPOLLOUT);
	t->unsent = len - sent;
	return true;
}

static bool
target_read(int epoll, struct target *t, char *memory)
{
	int flags = t->wish == LOAD_STREAM ? MSG_TRUNC : 0;
	ssize_t n = recv(t->fd, memory, LOAD_BULK_BYTES, flags);
	if (n < 0)
		return errno == EAGAIN;
	if (n == 0)
		return false;
	if (t->wish == 0) {
		t->wish = memory[0];
		if (t->wish == LOAD_STREAM)
			target_want(epoll, t, EPOLLIN | EPOLLOUT);
	}
	return t->wish == LOAD_STREAM || target_send_back(epoll, t, memory, (size_t)n);
}

static bool
target_write(int epoll, struct target *t)
{
	if (t->wish != LOAD_STREAM)
		return target_send_back(epoll, t, t->held, t->unsent);
	return send(t->fd, stream_bytes, sizeof stream_bytes, MSG_NOSIGNAL) >= 0 || errno == EAGAIN;
}

static bool
target_serve(int epoll, const struct epoll_event *e, char *memory)
{
	struct target *t = e->data.ptr;
	if ((e->events & EPOLLERR) || ((e->events & (EPOLLIN | EPOLLHUP)) && !target_read(epoll, t, memory)))
		return false;
	return !(e->events & EPOLLOUT) || target_write(epoll, t);
}

static void *
target_thread(void *arg)
{
	int listener = (int)(intptr_t)arg, epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = NULL }, ready[TARGET_BATCH];
	char *memory = malloc(LOAD_BULK_BYTES);
	if (memory == NULL || epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e) != 0)
		abort();
	for (;;) {
		int n = epoll_wait(epoll, ready, TARGET_BATCH, -1);
		for (int i = 0; i < n; i++) {
			if (ready[i].data.ptr == NULL)
				target_accept(epoll, listener);
			else if (!target_serve(epoll, &ready[i], memory))
				target_close(ready[i].data.ptr);
		}
	}
	return NULL;
}

bool
load_serve(uint16_t port, unsigned threads)
{
	pthread_t last = 0;
	for (unsigned i = 0; i < threads; i++) {
		int listener = listen_on(port);
		if (listener < 0 || pthread_create(&last, NULL, target_thread, (void *)(intptr_t)listener) != 0)
			return false;
	}
	return threads == 0 || pthread_join(last, NULL) == 0;
}
