/*
 * bench_udp: the load generator for datagrams: an echo, and clients that keep a window of datagrams on their way through SOCKS5
 * associations. tests/bench/udp.py calls it.
 *
 *   bench_udp serve PORT [THREADS]
 *   bench_udp echo --to PORT [--socks5 PORT] [--threads N] [--associations N] [--window N] [--bytes N] [--warm S] [--seconds S]
 *
 * All on 127.0.0.1. One JSON object on stdout: echoes in the measured time, echoes in all, datagrams lost, latencies. A window that
 * has brought nothing for LOST_MS counts as lost and is filled again.
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 32, BYTES_MAX = 2048, HEADER = 10, LOST_MS = 100, THREADS_MAX = 16, STAMP = 16, MICROS_MAX = 100000 };

struct options {
	uint16_t to, socks5;
	unsigned threads, associations, window, bytes;
	double warm, seconds;
};

struct association {
	int fd, control;
	unsigned header_len, on_the_way;
	uint8_t header[HEADER];
	uint64_t heard_ns;
};

struct batch {
	struct mmsghdr messages[BATCH];
	struct iovec pieces[BATCH];
	struct sockaddr_in peers[BATCH];
	uint8_t bytes[BATCH][BYTES_MAX + HEADER];
};

struct client {
	pthread_t thread;
	const struct options *o;
	unsigned n;
	uint64_t done, total, sent, bad;
	uint32_t micros[MICROS_MAX];           /* echoes by latency */
};

static atomic_int measuring, ended;
static atomic_uint ready;

static uint64_t
now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static _Noreturn void
give_up(const char *what)
{
	perror(what);
	exit(1);
}

static struct sockaddr_in
at_port(uint16_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons(port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static int
open_socket(int type)
{
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), large = 4 << 20;
	if (fd < 0)
		give_up("socket");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &large, sizeof large) != 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &large, sizeof large);
	return fd;
}

static void
reset(struct batch *b)
{
	for (unsigned i = 0; i < BATCH; i++) {
		b->pieces[i] = (struct iovec){ b->bytes[i], sizeof b->bytes[i] };
		b->messages[i].msg_hdr = (struct msghdr){ .msg_name = &b->peers[i],
							  .msg_namelen = sizeof b->peers[i],
							  .msg_iov = &b->pieces[i],
							  .msg_iovlen = 1 };
	}
}

/* ---- the echo ---- */

static void *
serve(void *arg)
{
	struct batch *b = calloc(1, sizeof *b);
	struct sockaddr_in at = at_port((uint16_t)(uintptr_t)arg);
	int fd = open_socket(SOCK_DGRAM), on = 1;
	if (b == NULL || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0 ||
	    bind(fd, (struct sockaddr *)&at, sizeof at) != 0)
		give_up("serve");
	for (;;) {
		reset(b);
		int n = recvmmsg(fd, b->messages, BATCH, MSG_WAITFORONE, NULL);
		for (int i = 0; i < n; i++)
			b->pieces[i].iov_len = b->messages[i].msg_len;
		if (n > 0)
			(void)sendmmsg(fd, b->messages, (unsigned)n, 0);
	}
}

/* Answers TCP connections too, by closing them: so one can see that it is there. */
static int
run_server(uint16_t port, unsigned threads)
{
	struct sockaddr_in at = at_port(port);
	int fd = open_socket(SOCK_STREAM), on = 1;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	for (unsigned i = 0; i < threads; i++) {
		pthread_t t;
		if (pthread_create(&t, NULL, serve, (void *)(uintptr_t)port) != 0)
			give_up("thread");
	}
	if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 8) != 0)
		give_up("listen");
	for (;;)
		close(accept(fd, NULL, NULL));
}

/* ---- clients ---- */

static void
associate(struct association *a, const struct options *o, struct sockaddr_in *relay)
{
	static const uint8_t hello[] = { 5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0 };
	struct sockaddr_in proxy = at_port(o->socks5);
	uint8_t answer[2 + HEADER];
	a->control = open_socket(SOCK_STREAM);
	if (connect(a->control, (struct sockaddr *)&proxy, sizeof proxy) != 0 || send(a->control, hello, sizeof hello, 0) < 0 ||
	    recv(a->control, answer, sizeof answer, MSG_WAITALL) != sizeof answer || answer[3] != 0 || answer[5] != 1)
		give_up("associate");
	memcpy(&relay->sin_addr, answer + 6, 4);
	memcpy(&relay->sin_port, answer + 10, 2);
	if (relay->sin_addr.s_addr == 0)
		relay->sin_addr = proxy.sin_addr;
	struct sockaddr_in to = at_port(o->to);
	a->header_len = HEADER;
	memcpy(a->header, "\0\0\0\1", 4);
	memcpy(a->header + 4, &to.sin_addr, 4);
	memcpy(a->header + 8, &to.sin_port, 2);
}

static void
open_association(struct association *a, const struct options *o)
{
	struct sockaddr_in relay = at_port(o->to);
	*a = (struct association){ .control = -1, .fd = open_socket(SOCK_DGRAM) };
	if (o->socks5 != 0)
		associate(a, o, &relay);
	if (connect(a->fd, (struct sockaddr *)&relay, sizeof relay) != 0)
		give_up("connect");
}

static void
fill(struct client *c, struct association *a, struct batch *b)
{
	while (a->on_the_way < c->o->window) {
		unsigned n = c->o->window - a->on_the_way < BATCH ? c->o->window - a->on_the_way : BATCH;
		uint64_t stamp[2] = { now_ns(), (uint64_t)(uintptr_t)a };
		for (unsigned i = 0; i < n; i++) {
			memcpy(b->bytes[i], a->header, a->header_len);
			memcpy(b->bytes[i] + a->header_len, stamp, STAMP);
			b->pieces[i] = (struct iovec){ b->bytes[i], a->header_len + c->o->bytes };
			b->messages[i].msg_hdr = (struct msghdr){ .msg_iov = &b->pieces[i], .msg_iovlen = 1 };
		}
		int sent = sendmmsg(a->fd, b->messages, n, MSG_DONTWAIT);
		if (sent <= 0)
			return;
		a->on_the_way += (unsigned)sent;
		c->sent += (uint64_t)sent;
	}
}

static void
take(struct client *c, struct association *a, struct batch *b)
{
	reset(b);
	int n = recvmmsg(a->fd, b->messages, BATCH, MSG_DONTWAIT, NULL);
	uint64_t now = now_ns();
	for (int i = 0; i < n; i++) {
		uint64_t stamp[2];
		memcpy(stamp, b->bytes[i] + a->header_len, STAMP);
		if (b->messages[i].msg_len != a->header_len + c->o->bytes || stamp[1] != (uint64_t)(uintptr_t)a) {
			c->bad++;
			continue;
		}
		uint64_t us = (now - stamp[0]) / 1000;
		c->total++;
		if (atomic_load_explicit(&measuring, memory_order_relaxed)) {
			c->done++;
			c->micros[us < MICROS_MAX ? us : MICROS_MAX - 1]++;
		}
	}
	if (n > 0) {
		a->on_the_way -= a->on_the_way < (unsigned)n ? a->on_the_way : (unsigned)n;
		a->heard_ns = now;
	}
	fill(c, a, b);
}

static void
wake_silent(struct client *c, struct association *list, struct batch *b)
{
	uint64_t now = now_ns();
	for (unsigned i = 0; i < c->n; i++) {
		if (now - list[i].heard_ns < LOST_MS * 1000000ull)
			continue;
		list[i].on_the_way = 0;
		list[i].heard_ns = now;
		fill(c, &list[i], b);
	}
}

static void *
run_client(void *arg)
{
	struct client *c = arg;
	struct association *list = calloc(c->n, sizeof *list);
	struct batch *b = calloc(1, sizeof *b);
	struct epoll_event events[64];
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	if (list == NULL || b == NULL || epoll < 0)
		give_up("client");
	for (unsigned i = 0; i < c->n; i++) {
		open_association(&list[i], c->o);
		struct epoll_event e = { .events = EPOLLIN, .data.ptr = &list[i] };
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, list[i].fd, &e) != 0)
			give_up("epoll");
		atomic_fetch_add(&ready, 1);
	}
	while (!atomic_load_explicit(&ended, memory_order_relaxed)) {
		wake_silent(c, list, b);
		int n = epoll_wait(epoll, events, 64, 20);
		for (int i = 0; i < n; i++)
			take(c, events[i].data.ptr, b);
	}
	for (unsigned i = 0; i < c->n; i++) {
		close(list[i].fd);
		close(list[i].control);
	}
	close(epoll);
	free(list);
	free(b);
	return NULL;
}

/* ---- results ---- */

static unsigned
quantile(const struct client *clients, unsigned n, double share)
{
	uint64_t all = 0, below = 0;
	for (unsigned i = 0; i < n; i++)
		all += clients[i].done;
	for (unsigned us = 0; us < MICROS_MAX; us++) {
		for (unsigned i = 0; i < n; i++)
			below += clients[i].micros[us];
		if (below > 0 && (double)below >= share * (double)all)
			return us;
	}
	return MICROS_MAX;
}

static void
wait_for(double seconds)
{
	struct timespec t = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };
	nanosleep(&t, NULL);
}

static int
run_clients(const struct options *o)
{
	struct client *clients = calloc(o->threads, sizeof *clients);
	uint64_t done = 0, total = 0, sent = 0, bad = 0;
	if (clients == NULL)
		give_up("memory");
	for (unsigned i = 0; i < o->threads; i++) {
		clients[i].o = o;
		clients[i].n = o->associations / o->threads + (i < o->associations % o->threads);
		if (pthread_create(&clients[i].thread, NULL, run_client, &clients[i]) != 0)
			give_up("thread");
	}
	while (atomic_load(&ready) < o->associations)
		wait_for(0.001);
	wait_for(o->warm);
	uint64_t from = now_ns();
	atomic_store(&measuring, 1);
	wait_for(o->seconds);
	atomic_store(&measuring, 0);
	double seconds = (double)(now_ns() - from) / 1e9;
	atomic_store(&ended, 1);
	for (unsigned i = 0; i < o->threads; i++) {
		pthread_join(clients[i].thread, NULL);
		done += clients[i].done;
		total += clients[i].total;
		sent += clients[i].sent;
		bad += clients[i].bad;
	}
	uint64_t under_way = (uint64_t)o->associations * o->window;
	printf("{\"done\": %ju, \"seconds\": %.3f, \"total_done\": %ju, \"lost\": %ju, \"bad\": %ju, \"us\": {\"p50\": %u, \"p99\": %u}}\n",
	       (uintmax_t)done, seconds, (uintmax_t)total, (uintmax_t)(sent > total + under_way ? sent - total - under_way : 0),
	       (uintmax_t)bad, quantile(clients, o->threads, 0.5), quantile(clients, o->threads, 0.99));
	free(clients);
	return bad > 0;
}

static unsigned
number(const char *text, unsigned long least, unsigned long most)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);
	if (*end != '\0' || n < least || n > most) {
		fprintf(stderr, "bench_udp: %s is no number from %lu to %lu\n", text, least, most);
		exit(2);
	}
	return (unsigned)n;
}

int
main(int argc, char **argv)
{
	static const struct option names[] = {
		{ "to", 1, NULL, 't' },           { "socks5", 1, NULL, 's' }, { "threads", 1, NULL, 'n' },
		{ "associations", 1, NULL, 'a' }, { "window", 1, NULL, 'w' }, { "bytes", 1, NULL, 'b' },
		{ "warm", 1, NULL, 'W' },         { "seconds", 1, NULL, 'S' }, { NULL, 0, NULL, 0 },
	};
	struct options o = { .threads = 1, .associations = 1, .window = 16, .bytes = 64, .warm = 0.3, .seconds = 1 };
	if (argc >= 3 && strcmp(argv[1], "serve") == 0)
		return run_server((uint16_t)number(argv[2], 1, 65535), argc > 3 ? number(argv[3], 1, THREADS_MAX) : 1);
	for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
		switch (c) {
		case 't': o.to = (uint16_t)number(optarg, 1, 65535); break;
		case 's': o.socks5 = (uint16_t)number(optarg, 1, 65535); break;
		case 'n': o.threads = number(optarg, 1, THREADS_MAX); break;
		case 'a': o.associations = number(optarg, 1, 10000); break;
		case 'w': o.window = number(optarg, 1, 1024); break;
		case 'b': o.bytes = number(optarg, STAMP, BYTES_MAX); break;
		case 'W': o.warm = strtod(optarg, NULL); break;
		case 'S': o.seconds = strtod(optarg, NULL); break;
		default: return 2;
		}
	}
	return run_clients(&o);
}
