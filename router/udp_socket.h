/*
 * udp_socket: a datagram socket on a loop, read and written in batches: recvmmsg(2) and sendmmsg(2) of UDP_BATCH messages, and runs
 * of equal length of one peer as one message, which the kernel cuts on the way out (UDP_SEGMENT) and has put together on the way in
 * (UDP_GRO), for it is calls and trips through the kernel that cost.
 *
 * One batch is under way at a time in a worker. Its datagrams lie in the pool, one behind the other where they came as one message;
 * what is to be sent is noted and goes out with udp_flush, which must come before the next udp_receive. Headers are copied, and short
 * payloads behind them, so that a run is one piece for the kernel; long payloads are not.
 *
 * No error ends anything: what can't be sent is dropped and counted, ICMP's answers are read off and forgotten.
 */
#ifndef ROUTER_UDP_SOCKET_H
#define ROUTER_UDP_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <event2/event.h>
#include <event2/event_struct.h>
#include <sys/socket.h>

#include "base/base.h"
#include "base/counters.h"
#include "base/endpoint.h"

struct loop;

enum {
	UDP_BATCH = 32,                /* messages received, and datagrams noted, at a time */
	UDP_PAYLOAD_MAX = 65536,       /* of a message, too: the kernel puts no more together */
	UDP_HEADERS_MAX = 4352,        /* of POLICY_HOPS_MAX hops, each with a name */
	UDP_BLOCKS_BYTES_MAX = 8 << 20,        /* of memory that may be lent out in one worker for one purpose */
};

struct udp_address {
	struct sockaddr_storage ss;
	socklen_t len;                 /* 0: the socket is connected */
};

/* One of a batch. */
struct udp_datagram {
	const uint8_t *bytes;          /* until the next udp_receive */
	size_t len;
	const struct udp_address *from;
};

/* What goes as one datagram. Headers are copied, and are UDP_HEADERS_MAX together at most; the payload must stay until udp_flush. */
struct udp_parcel {
	const uint8_t *prefix, *header, *payload;
	size_t prefix_len, header_len, payload_len;
	uint8_t *owned;                /* malloc'ed memory that the payload is in, which is taken; NULL: it is the caller's */
};

/* As the kernel gives it: a datagram, or several of one length, but for the last, which may be shorter. */
struct udp_message {
	const uint8_t *bytes;
	size_t len, segment;           /* segment: of each datagram */
	struct udp_address from;
};

/* As it goes to the kernel. */
struct udp_noted {
	const uint8_t *copied, *rest;  /* headers, and the payload where it is short; else the payload */
	uint8_t *owned;                /* to be freed when it has gone */
	size_t copied_len, len;        /* len: of both */
	struct udp_address to;
};

struct udp_socket;
typedef void udp_ready_cb(struct udp_socket *s, void *arg);

struct udp_socket {
	struct event event;
	struct loop *loop;
	udp_ready_cb *on_ready;
	void *arg;
	int fd;                        /* -1: closed */
	uint32_t segment_max;          /* longest datagram that the kernel was not seen to refuse to cut; 0: none */
};

/* What is lent out for one purpose. */
struct udp_blocks {
	size_t lent;                   /* bytes */
};

/* What the sockets of one worker share. */
struct udp_pool {
	struct counters *counters;
	struct udp_memory *memory;     /* of messages and headers; made for the first association */
	struct udp_message in[UDP_BATCH];
	unsigned n_in, at_in;          /* messages; the one that the next datagram is taken from */
	struct udp_socket *out_socket; /* of what is noted */
	enum counter out_counter;
	struct udp_noted out[UDP_BATCH];
	unsigned n_out;
	size_t out_len;                /* bytes copied */
	struct udp_blocks parts, held; /* of datagrams that are not whole yet, of those that wait: neither keeps the other out */
};

void udp_pool_init(struct udp_pool *p, struct counters *c);
void udp_pool_free(struct udp_pool *p);
/** Memory for the batches is there. False: out of memory. */
bool udp_pool_ready(struct udp_pool *p) WARN_UNUSED;
/** Memory for `len` bytes; NULL: too much is lent out, or out of memory. */
uint8_t *udp_block_take(struct udp_blocks *b, size_t len) WARN_UNUSED;
void udp_block_give_back(struct udp_blocks *b, uint8_t *bytes);        /* NULL is fine */

void udp_socket_init(struct udp_socket *s);
/** Takes fd, on failure too. Level-triggered: on_ready may leave datagrams for the next turn. */
bool udp_socket_open(struct udp_socket *s, struct loop *l, int fd, udp_ready_cb *on_ready, void *arg) WARN_UNUSED;
void udp_socket_close(struct udp_socket *s);   /* twice is fine */

/** Takes one batch off the socket, for udp_next. */
void udp_receive(struct udp_pool *p, struct udp_socket *s);
/** The batch's next datagram. False: that was all. */
bool udp_next(struct udp_pool *p, struct udp_datagram *d) WARN_UNUSED;
/** Notes a datagram for udp_flush; flushes by itself where it must. `sent` is counted for each that goes. */
void udp_send(struct udp_pool *p, struct udp_socket *s, const struct udp_parcel *d, const struct udp_address *to, enum counter sent);
void udp_flush(struct udp_pool *p);

void udp_address_from(struct udp_address *a, const struct endpoint *e);
/** How much may be in a datagram to this address. */
size_t udp_longest(const struct udp_address *a);
bool udp_address_equal(const struct udp_address *a, const struct udp_address *b);

#endif
