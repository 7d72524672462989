/*
 * udp_socket on loopback: runs that the kernel cuts and puts together, what lies between them, headers, and what can't be sent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/counters.h"
#include "base/loop.h"
#include "router/udp_socket.h"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SEGMENT = 103, GRO = 104, LENGTH_MAX = 4000 };   /* linux/udp.h */

/* Two sockets that are each other's peers, and a third that is nobody's. */
struct fixture {
	struct loop *loop;
	struct counters counters;
	struct udp_pool pool;
	struct udp_socket near, far;
	struct udp_address at_far;
	int stranger;
};

static void
on_ready(struct udp_socket *s, void *arg)
{
	(void)s, (void)arg;
	fail();
}

static int
open_bound(struct udp_address *at)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof any), 0);
	at->len = sizeof at->ss;
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at->ss, &at->len), 0);
	return fd;
}

static int
set_up(void **state)
{
	static struct fixture f;
	struct udp_address at;
	memset(&f, 0, sizeof f);
	f.loop = loop_new();
	udp_pool_init(&f.pool, &f.counters);
	assert_true(udp_pool_ready(&f.pool));
	assert_true(udp_socket_open(&f.near, f.loop, open_bound(&at), on_ready, NULL));
	assert_true(udp_socket_open(&f.far, f.loop, open_bound(&f.at_far), on_ready, NULL));
	f.stranger = open_bound(&at);
	*state = &f;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;
	udp_socket_close(&f->near);
	udp_socket_close(&f->far);
	close(f->stranger);
	udp_pool_free(&f->pool);
	loop_free(f->loop);
	return 0;
}

/* The i-th datagram's bytes: no two are alike. */
static void
fill(uint8_t *out, size_t len, unsigned i)
{
	for (size_t k = 0; k < len; k++)
		out[k] = (uint8_t)(i * 7 + k);
}

/* A datagram takes its time, on loopback too. */
static void
wait_readable(struct fixture *f)
{
	struct pollfd p = { .fd = f->far.fd, .events = POLLIN };
	(void)poll(&p, 1, 5000);
}

/* Takes everything off `far`; the i-th has the length lengths[i]. Returns in how many messages it came. */
static unsigned
check_arrivals(struct fixture *f, const size_t *lengths, unsigned n)
{
	uint8_t want[LENGTH_MAX];
	struct udp_datagram d;
	unsigned got = 0, messages = 0;
	do {
		if (got < n)
			wait_readable(f);
		udp_receive(&f->pool, &f->far);
		messages += f->pool.n_in;
		while (udp_next(&f->pool, &d)) {
			assert_true(got < n);
			assert_int_equal(d.len, lengths[got]);
			fill(want, d.len, got);
			assert_memory_equal(d.bytes, want, d.len);
			got++;
		}
	} while (f->pool.n_in > 0);
	assert_int_equal(got, n);
	return messages;
}

/* Headers of 3 and 2 bytes where there is room, the rest is payload; the first byte of a datagram tells which it is. */
static void
send_all(struct fixture *f, const size_t *lengths, unsigned n)
{
	static uint8_t bytes[64][LENGTH_MAX];
	for (unsigned i = 0; i < n; i++) {
		uint8_t headers[5];
		size_t headers_len = lengths[i] >= 5 && i % 2 == 0 ? 5 : 0;
		fill(bytes[i], lengths[i], i);
		memcpy(headers, bytes[i], headers_len);
		const struct udp_parcel d = { .prefix = headers,
					      .prefix_len = headers_len > 0 ? 3 : 0,
					      .header = headers + 3,
					      .header_len = headers_len > 0 ? 2 : 0,
					      .payload = bytes[i] + headers_len,
					      .payload_len = lengths[i] - headers_len };
		udp_send(&f->pool, &f->near, &d, &f->at_far, COUNTER_UDP_UP);
		memset(headers, 0xee, sizeof headers);         /* they are copied */
	}
	udp_flush(&f->pool);
	assert_int_equal(counter_get(&f->counters, COUNTER_UDP_UP), n);
}

static bool
kernel_puts_together(void)
{
	int on = 1, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool can = setsockopt(fd, SOL_UDP, GRO, &on, sizeof on) == 0;
	close(fd);
	return can;
}

/* A run goes out as one message and comes in as one, and each datagram is what it was. */
static void
test_runs(void **state)
{
	size_t lengths[30];
	for (unsigned i = 0; i < 30; i++)
		lengths[i] = i < 29 ? 1200 : 700;      /* the last may be shorter */
	send_all(*state, lengths, 30);
	unsigned messages = check_arrivals(*state, lengths, 30);
	assert_int_equal(messages, kernel_puts_together() ? 1 : 30);
}

/* Lengths that end a run, empty ones, more than a batch; all in order. */
static void
test_a_medley(void **state)
{
	size_t lengths[60];
	for (unsigned i = 0; i < 60; i++)
		lengths[i] = i % 11 == 0 ? 0 : i % 7 == 0 ? 1 + i : i < 30 ? 300 : 1500;
	send_all(*state, lengths, 60);
	unsigned messages = check_arrivals(*state, lengths, 60);
	if (kernel_puts_together())
		assert_true(messages > 10 && messages < 40);
	assert_int_equal(counter_get(&((struct fixture *)*state)->counters, COUNTER_UDP_DROPPED_FULL), 0);
}

/* Payloads that are copied behind their headers beside those that are too long for it, in runs and alone. */
static void
test_long_ones(void **state)
{
	size_t lengths[40];
	for (unsigned i = 0; i < 40; i++)
		lengths[i] = i < 12 ? 3000 : i < 24 ? 2044 + i : i < 36 ? 2053 : 4000;
	send_all(*state, lengths, 40);
	unsigned messages = check_arrivals(*state, lengths, 40);
	if (kernel_puts_together())
		assert_true(messages < 20);
}

/* A client that has its datagrams cut by the kernel itself. */
static void
test_a_run_of_a_stranger(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[900];
	const size_t lengths[] = { 200, 200, 200, 200, 100 };
	uint16_t segment = 200;
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof segment)];
	} control = { .bytes = { 0 } };
	for (unsigned i = 0; i < ARRAY_LEN(lengths); i++)
		fill(bytes + i * (size_t)segment, lengths[i], i);
	struct iovec piece = { bytes, sizeof bytes };
	struct msghdr m = { .msg_name = &f->at_far.ss,
			    .msg_namelen = f->at_far.len,
			    .msg_iov = &piece,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = sizeof control.bytes };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_UDP;
	c->cmsg_type = SEGMENT;
	c->cmsg_len = CMSG_LEN(sizeof segment);
	memcpy(CMSG_DATA(c), &segment, sizeof segment);
	if (sendmsg(f->stranger, &m, 0) < 0)
		skip();
	unsigned messages = check_arrivals(f, lengths, ARRAY_LEN(lengths));
	assert_int_equal(messages, kernel_puts_together() ? 1 : ARRAY_LEN(lengths));
}

static bool
next(struct fixture *f, struct udp_datagram *d)
{
	if (udp_next(&f->pool, d))
		return true;
	wait_readable(f);
	udp_receive(&f->pool, &f->far);
	return udp_next(&f->pool, d);
}

/* Each sender is told, also where others' messages lie between. */
static void
test_senders(void **state)
{
	struct fixture *f = *state;
	struct udp_datagram d;
	struct udp_address first;
	const size_t one = 9;
	for (unsigned i = 0; i < 2; i++) {
		f->counters = (struct counters){ 0 };
		send_all(f, &one, 1);
		assert_int_equal(sendto(f->stranger, "x", 1, 0, (struct sockaddr *)&f->at_far.ss, f->at_far.len), 1);
	}
	assert_true(next(f, &d));
	first = *d.from;
	assert_true(next(f, &d) && d.len == 1 && !udp_address_equal(d.from, &first));
	assert_true(next(f, &d) && d.len == 9 && udp_address_equal(d.from, &first));
	assert_true(next(f, &d) && d.len == 1 && !udp_address_equal(d.from, &first));
	assert_false(udp_next(&f->pool, &d));
}

/* One that can't be sent is counted, and those behind it go. */
static void
test_what_the_kernel_refuses(void **state)
{
	struct fixture *f = *state;
	static uint8_t large[UDP_PAYLOAD_MAX];
	const struct udp_parcel too_much = { .payload = large, .payload_len = sizeof large };
	const size_t one = 20;
	udp_send(&f->pool, &f->near, &too_much, &f->at_far, COUNTER_UDP_UP);
	send_all(f, &one, 1);
	assert_int_equal(check_arrivals(f, &one, 1), 1);
	assert_int_equal(counter_get(&f->counters, COUNTER_UDP_DROPPED_UNREACHABLE), 1);
}

/* No more is lent out than is said, and all of it comes back. */
static void
test_blocks(void **state)
{
	struct fixture *f = *state;
	uint8_t *blocks[UDP_BLOCKS_BYTES_MAX / UDP_PAYLOAD_MAX];
	unsigned n = 0;
	while ((blocks[n] = udp_block_take(&f->pool.held, UDP_PAYLOAD_MAX)) != NULL)
		assert_true(++n < ARRAY_LEN(blocks));
	assert_int_equal(n, ARRAY_LEN(blocks) - 1);    /* each has a word before it */
	while (n > 0)
		udp_block_give_back(&f->pool.held, blocks[--n]);
	udp_block_give_back(&f->pool.held, NULL);
	assert_int_equal(f->pool.held.lent, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_runs, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_medley, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_long_ones, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_run_of_a_stranger, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_senders, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_the_kernel_refuses, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_blocks, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
