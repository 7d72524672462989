/*
 * bench_udp: the load generator for datagrams: an echo, and clients that keep a window of datagrams on their way through SOCKS5
 * associations. tests/bench/udp.py calls it.
 *
 *   bench_udp serve PORT [--runs]
 *   bench_udp echo --to PORT [--socks5 PORT] [--threads N] [--associations N] [--window N] [--bytes N] [--warm S] [--seconds S] [--runs]
 *
 * With --runs a client hands what fills its window to the kernel as one message, which the kernel cuts (UDP_SEGMENT), as programs
 * that speak QUIC do; both ends take what the kernel has put together (UDP_GRO), and the echo answers a message as it came, so that
 * on either side of a proxy that sends runs there are runs. Without it both ends know of datagrams alone: they send and get each by
 * itself, whatever the proxy does. The echo is one thread.
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
#include <netinet/udp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* linux/udp.h, whose other names clash */
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { BATCH = 32, BYTES_MAX = 2048, HEADER = 10, LOST_MS = 100, THREADS_MAX = 16, STAMP = 16, MICROS_MAX = 100000, MESSAGE_MAX = 65536 };

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
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control[BATCH];
	uint8_t bytes[BATCH][MESSAGE_MAX];
};

struct client {
	pthread_t thread;
	const struct options *o;
	unsigned n;
	uint64_t done, total, sent, bad;
	uint32_t micros[MICROS_MAX];           /* echoes by latency */
};

static bool with_runs;
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
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), large = 4 << 20, on = 1;
	if (fd < 0)
		give_up("socket");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &large, sizeof large) != 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &large, sizeof large);
	if (type == SOCK_DGRAM && with_runs)
		(void)setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on);
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
							  .msg_iovlen = 1,
							  .msg_control = &b->control[i],
							  .msg_controllen = sizeof b->control[i].bytes };
	}
}

/* The length of the datagrams that came as this message. */
static unsigned
segment_of(struct mmsghdr *m)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(&m->msg_hdr);
	int segment = 0;
	if (c != NULL && c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO)
		memcpy(&segment, CMSG_DATA(c), sizeof segment);
	return segment > 0 ? (unsigned)segment : m->msg_len;
}

/* The kernel is to cut the i-th message into datagrams of this length. */
static void
cut(struct batch *b, unsigned i, unsigned segment)
{
	struct msghdr *m = &b->messages[i].msg_hdr;
	uint16_t len = (uint16_t)segment;
	m->msg_control = &b->control[i];
	m->msg_controllen = CMSG_SPACE(sizeof len);
	struct cmsghdr *c = CMSG_FIRSTHDR(m);
	c->cmsg_level = SOL_UDP;
	c->cmsg_type = UDP_SEGMENT;
	c->cmsg_len = CMSG_LEN(sizeof len);
	memcpy(CMSG_DATA(c), &len, sizeof len);
}

/* ---- the echo ---- */

static void
answer(struct batch *b, unsigned n, int fd)
{
	for (unsigned i = 0; i < n; i++) {
		unsigned segment = segment_of(&b->messages[i]);
		b->pieces[i].iov_len = b->messages[i].msg_len;
		b->messages[i].msg_hdr.msg_control = NULL;
		b->messages[i].msg_hdr.msg_controllen = 0;
		if (segment < b->messages[i].msg_len)
			cut(b, i, segment);
	}
	for (unsigned at = 0; at < n;) {
		int sent = sendmmsg(fd, b->messages + at, n - at, 0);
		at += sent > 0 ? (unsigned)sent : 1;
	}
}

static void *
serve(void *arg)
{
	struct batch *b = calloc(1, sizeof *b);
	struct sockaddr_in at = at_port((uint16_t)(uintptr_t)arg);
	int fd = open_socket(SOCK_DGRAM);
	if (b == NULL || bind(fd, (struct sockaddr *)&at, sizeof at) != 0)
		give_up("serve");
	for (;;) {
		reset(b);
		int n = recvmmsg(fd, b->messages, BATCH, MSG_WAITFORONE, NULL);
		if (n > 0)
			answer(b, (unsigned)n, fd);
	}
}

/* Answers TCP connections too, by closing them: so one can see that it is there. */
static int
run_server(uint16_t port)
{
	struct sockaddr_in at = at_port(port);
	int fd = open_socket(SOCK_STREAM), on = 1;
	pthread_t t;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (pthread_create(&t, NULL, serve, (void *)(uintptr_t)port) != 0)
		give_up("thread");
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
write_datagram(const struct association *a, uint8_t *out, uint64_t now)
{
	uint64_t stamp[2] = { now, (uint64_t)(uintptr_t)a };
	memcpy(out, a->header, a->header_len);
	memcpy(out + a->header_len, stamp, STAMP);
}

/* n datagrams as one message. Returns how many went. */
static unsigned
send_run(struct client *c, struct association *a, struct batch *b, unsigned n)
{
	unsigned len = a->header_len + c->o->bytes;
	uint64_t now = now_ns();
	n = n < MESSAGE_MAX / len - 1 ? n : MESSAGE_MAX / len - 1;
	for (unsigned i = 0; i < n; i++)
		write_datagram(a, b->bytes[0] + (size_t)i * len, now);
	b->pieces[0] = (struct iovec){ b->bytes[0], (size_t)n * len };
	b->messages[0].msg_hdr = (struct msghdr){ .msg_iov = &b->pieces[0], .msg_iovlen = 1 };
	if (n > 1)
		cut(b, 0, len);
	return sendmsg(a->fd, &b->messages[0].msg_hdr, MSG_DONTWAIT) > 0 ? n : 0;
}

/* The same, each by itself. */
static unsigned
send_each(struct client *c, struct association *a, struct batch *b, unsigned n)
{
	uint64_t now = now_ns();
	for (unsigned i = 0; i < n; i++) {
		write_datagram(a, b->bytes[i], now);
		b->pieces[i] = (struct iovec){ b->bytes[i], a->header_len + c->o->bytes };
		b->messages[i].msg_hdr = (struct msghdr){ .msg_iov = &b->pieces[i], .msg_iovlen = 1 };
	}
	int sent = sendmmsg(a->fd, b->messages, n, MSG_DONTWAIT);
	return sent > 0 ? (unsigned)sent : 0;
}

static void
fill(struct client *c, struct association *a, struct batch *b)
{
	while (a->on_the_way < c->o->window) {
		unsigned n = c->o->window - a->on_the_way < BATCH ? c->o->window - a->on_the_way : BATCH;
		unsigned sent = with_runs ? send_run(c, a, b, n) : send_each(c, a, b, n);
		if (sent == 0)
			return;
		a->on_the_way += sent;
		c->sent += sent;
	}
}

static void
take_one(struct client *c, struct association *a, const uint8_t *bytes, size_t len, uint64_t now)
{
	uint64_t stamp[2];
	memcpy(stamp, bytes + a->header_len, STAMP);
	if (len != a->header_len + c->o->bytes || stamp[1] != (uint64_t)(uintptr_t)a) {
		c->bad++;
		return;
	}
	uint64_t us = (now - stamp[0]) / 1000;
	c->total++;
	a->on_the_way -= a->on_the_way > 0;
	if (atomic_load_explicit(&measuring, memory_order_relaxed)) {
		c->done++;
		c->micros[us < MICROS_MAX ? us : MICROS_MAX - 1]++;
	}
}

static void
take(struct client *c, struct association *a, struct batch *b)
{
	reset(b);
	int n = recvmmsg(a->fd, b->messages, BATCH, MSG_DONTWAIT, NULL);
	uint64_t now = now_ns();
	for (int i = 0; i < n; i++) {
		unsigned segment = segment_of(&b->messages[i]), left = b->messages[i].msg_len;
		for (const uint8_t *at = b->bytes[i]; left > 0; at += segment) {
			unsigned len = segment < left ? segment : left;
			take_one(c, a, at, len, now);
			left -= len;
		}
	}
	if (n > 0)
		a->heard_ns = now;
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
		{ "warm", 1, NULL, 'W' },         { "seconds", 1, NULL, 'S' }, { "runs", 0, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	struct options o = { .threads = 1, .associations = 1, .window = 16, .bytes = 64, .warm = 0.3, .seconds = 1 };
	const char *served_port = argc >= 3 && strcmp(argv[1], "serve") == 0 ? argv[2] : NULL;
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
		case 'r': with_runs = true; break;
		default: return 2;
		}
	}
	return served_port != NULL ? run_server((uint16_t)number(served_port, 1, 65535)) : run_clients(&o);
}
