#include "router/udp_socket.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <netinet/in.h>
#include <netinet/udp.h>
#include <unistd.h>

#include "base/loop.h"

/* linux/udp.h, whose other names clash */
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum {
	SEGMENTS_BYTES_MAX = 65000,    /* of one message to be cut: an IP packet less its headers */
	SOCKET_BUFFER = 1 << 20,
	COPY_MAX = 2048,               /* a payload that is copied behind its headers: a piece more for the kernel costs more */
	OUT_BYTES = UDP_BATCH * (UDP_HEADERS_MAX + COPY_MAX),
};

/* Room for the one thing that is said beside a message: the length of its datagrams. */
union control {
	struct cmsghdr align;
	uint8_t bytes[CMSG_SPACE(sizeof(int))];
};

struct udp_memory {
	struct mmsghdr messages[UDP_BATCH];    /* as recvmmsg wants them: what a call changes is set back behind it */
	struct iovec pieces[UDP_BATCH];
	union control control[UDP_BATCH];
	uint8_t out[OUT_BYTES];        /* headers and copied payloads of what is noted, one behind the other */
	uint8_t in[UDP_BATCH][UDP_PAYLOAD_MAX];
};

/* ---- pool ---- */

void
udp_pool_init(struct udp_pool *p, struct counters *c)
{
	*p = (struct udp_pool){ .counters = c };
}

void
udp_pool_free(struct udp_pool *p)
{
	free(p->memory);
	p->memory = NULL;
}

/* Room for what recvmmsg tells of a message, as it must be before each call. */
static void
give_room(struct msghdr *m)
{
	m->msg_namelen = sizeof(struct sockaddr_storage);
	m->msg_controllen = sizeof(union control);
}

bool
udp_pool_ready(struct udp_pool *p)
{
	struct udp_memory *m = p->memory;
	if (m != NULL)
		return true;
	if ((m = malloc(sizeof *m)) == NULL)
		return false;
	for (unsigned i = 0; i < UDP_BATCH; i++) {
		m->pieces[i] = (struct iovec){ m->in[i], UDP_PAYLOAD_MAX };
		m->messages[i].msg_hdr = (struct msghdr){ .msg_name = &p->in[i].from.ss,
							  .msg_iov = &m->pieces[i],
							  .msg_iovlen = 1,
							  .msg_control = &m->control[i] };
		give_room(&m->messages[i].msg_hdr);
	}
	p->memory = m;
	return true;
}

uint8_t *
udp_block_take(struct udp_blocks *b, size_t len)
{
	size_t size = sizeof size + len;
	if (size > UDP_BLOCKS_BYTES_MAX - b->lent)
		return NULL;
	uint8_t *block = malloc(size);
	if (block == NULL)
		return NULL;
	b->lent += size;
	memcpy(block, &size, sizeof size);
	return block + sizeof size;
}

void
udp_block_give_back(struct udp_blocks *b, uint8_t *bytes)
{
	size_t size;
	if (bytes == NULL)
		return;
	uint8_t *block = bytes - sizeof size;
	memcpy(&size, block, sizeof size);
	b->lent -= size;
	free(block);
}

/* ---- life ---- */

void
udp_socket_init(struct udp_socket *s)
{
	*s = (struct udp_socket){ .fd = -1 };
}

static void
on_event(evutil_socket_t fd, short what, void *arg)
{
	struct udp_socket *s = arg;
	(void)fd, (void)what;
	(void)loop_now(s->loop);
	s->on_ready(s, s->arg);
}

bool
udp_socket_open(struct udp_socket *s, struct loop *l, int fd, udp_ready_cb *on_ready, void *arg)
{
	int bytes = SOCKET_BUFFER, on = 1;
	*s = (struct udp_socket){ .loop = l, .on_ready = on_ready, .arg = arg, .fd = fd, .segment_max = UDP_PAYLOAD_MAX };
	/* As much as the system allows: a burst must outlast the turn that others take. */
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
	(void)setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on);        /* an older kernel hands them out one by one */
	event_assign(&s->event, loop_base(l), fd, EV_READ | EV_PERSIST, on_event, s);
	if (event_add(&s->event, NULL) == 0)
		return true;
	close(fd);
	s->fd = -1;
	return false;
}

void
udp_socket_close(struct udp_socket *s)
{
	if (s->fd < 0)
		return;
	event_del(&s->event);
	close(s->fd);
	s->fd = -1;
}

/* ---- receiving ---- */

/* The length of the datagrams that came as this message. */
static size_t
segment_of(struct msghdr *m, size_t len)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
		int segment;
		if (c->cmsg_level != SOL_UDP || c->cmsg_type != UDP_GRO || c->cmsg_len < CMSG_LEN(sizeof segment))
			continue;
		memcpy(&segment, CMSG_DATA(c), sizeof segment);
		if (segment > 0)
			return (size_t)segment;
	}
	return len;
}

/* What came cut, or with what belongs to it cut, is no datagram: its length is not known. */
static void
take_message(struct udp_pool *p, struct mmsghdr *m)
{
	struct udp_message *in = &p->in[p->n_in];
	if ((m->msg_hdr.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
		counter_add(p->counters, COUNTER_UDP_DROPPED_FULL, 1);
		return;
	}
	in->bytes = m->msg_hdr.msg_iov->iov_base;
	in->len = m->msg_len;
	in->segment = segment_of(&m->msg_hdr, in->len);
	in->from.len = m->msg_hdr.msg_namelen;
	if (m->msg_hdr.msg_name != &in->from.ss)
		memcpy(&in->from.ss, m->msg_hdr.msg_name, m->msg_hdr.msg_namelen);
	p->n_in++;
}

/* An error is what ICMP said about something sent before: it has been taken off the socket by being told. */
void
udp_receive(struct udp_pool *p, struct udp_socket *s)
{
	struct mmsghdr *messages = p->memory->messages;
	int n = recvmmsg(s->fd, messages, UDP_BATCH, MSG_DONTWAIT, NULL);
	p->n_in = p->at_in = 0;
	for (int i = 0; i < n; i++) {
		take_message(p, &messages[i]);
		give_room(&messages[i].msg_hdr);
	}
}

bool
udp_next(struct udp_pool *p, struct udp_datagram *d)
{
	if (p->at_in == p->n_in)
		return false;
	struct udp_message *m = &p->in[p->at_in];
	*d = (struct udp_datagram){ m->bytes, m->len < m->segment ? m->len : m->segment, &m->from };
	m->bytes += d->len;
	m->len -= d->len;
	if (m->len == 0)
		p->at_in++;
	return true;
}

/* ---- sending ---- */

/* One message: a datagram, or a run of them that the kernel cuts. */
struct run {
	unsigned first, n;
	union control control;
};

void
udp_address_from(struct udp_address *a, const struct endpoint *e)
{
	a->len = endpoint_to_sockaddr(e, &a->ss);
}

/* 16 bits of length, less a header of UDP, and in IPv4 its own. */
size_t
udp_longest(const struct udp_address *a)
{
	return UINT16_MAX - 8 - (a->ss.ss_family == AF_INET ? 20 : 0);
}

bool
udp_address_equal(const struct udp_address *a, const struct udp_address *b)
{
	const struct sockaddr_in *a4 = (const void *)&a->ss, *b4 = (const void *)&b->ss;
	const struct sockaddr_in6 *a6 = (const void *)&a->ss, *b6 = (const void *)&b->ss;
	if (a->len != b->len || a->len == 0)
		return a->len == b->len;
	if (a->ss.ss_family != b->ss.ss_family)
		return false;
	if (a->ss.ss_family == AF_INET)
		return a4->sin_port == b4->sin_port && a4->sin_addr.s_addr == b4->sin_addr.s_addr;
	return a6->sin6_port == b6->sin6_port && memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof a6->sin6_addr) == 0;
}

/* How many of the datagrams from `first` on go as one message: equal in length, but that the last may be shorter. */
static unsigned
run_length(const struct udp_pool *p, unsigned first)
{
	size_t len = p->out[first].len, total = len;
	unsigned n = 1;
	if (len == 0 || len > p->out_socket->segment_max)
		return 1;
	for (; first + n < p->n_out; n++) {
		size_t next = p->out[first + n].len;
		total += next;
		if (next == 0 || next > len || p->out[first + n - 1].len < len || total > SEGMENTS_BYTES_MAX ||
		    !udp_address_equal(&p->out[first].to, &p->out[first + n].to))
			break;
	}
	return n;
}

static void
ask_to_cut(struct run *r, struct msghdr *m, size_t len)
{
	uint16_t segment = (uint16_t)len;
	m->msg_control = &r->control;
	m->msg_controllen = CMSG_SPACE(sizeof segment);
	struct cmsghdr *c = CMSG_FIRSTHDR(m);
	c->cmsg_level = SOL_UDP;
	c->cmsg_type = UDP_SEGMENT;
	c->cmsg_len = CMSG_LEN(sizeof segment);
	memcpy(CMSG_DATA(c), &segment, sizeof segment);
}

/* Adds bytes to a message: to its last piece, where they lie behind it. */
static void
add_piece(struct msghdr *m, const uint8_t *bytes, size_t len)
{
	struct iovec *last = m->msg_iovlen > 0 ? &m->msg_iov[m->msg_iovlen - 1] : NULL;
	if (last != NULL && (const uint8_t *)last->iov_base + last->iov_len == bytes)
		last->iov_len += len;
	else
		m->msg_iov[m->msg_iovlen++] = (struct iovec){ (void *)(uintptr_t)bytes, len };
}

/* What is noted from `first` on, as messages. Returns how many there are. */
static unsigned
make_messages(struct udp_pool *p, unsigned first, struct run *runs, struct mmsghdr *messages, struct iovec *pieces)
{
	unsigned n = 0, n_pieces = 0;
	for (unsigned at = first; at < p->n_out; at += runs[n++].n) {
		struct msghdr *m = &messages[n].msg_hdr;
		runs[n].first = at;
		runs[n].n = run_length(p, at);
		*m = (struct msghdr){ .msg_iov = &pieces[n_pieces] };
		for (unsigned i = at; i < at + runs[n].n; i++) {
			const struct udp_noted *d = &p->out[i];
			if (d->copied_len > 0)
				add_piece(m, d->copied, d->copied_len);
			if (d->len > d->copied_len)
				add_piece(m, d->rest, d->len - d->copied_len);
		}
		n_pieces += (unsigned)m->msg_iovlen;
		if (p->out[at].to.len > 0) {
			m->msg_name = &p->out[at].to.ss;
			m->msg_namelen = p->out[at].to.len;
		}
		if (runs[n].n > 1)
			ask_to_cut(&runs[n], m, p->out[at].len);
	}
	return n;
}

/* The kernel refuses to cut: for its length (it does not fit the way's packets), or at all. */
static bool
cut_less(struct udp_socket *s, size_t len, int error)
{
	if (error == EINVAL || error == EMSGSIZE)
		s->segment_max = (uint32_t)len - 1;
	else if (error == EIO || error == ENOPROTOOPT || error == EOPNOTSUPP)
		s->segment_max = 0;
	else
		return false;
	return true;
}

/*
 * The message could not be sent. Returns how many datagrams are done with: 0, they go again, uncut; all that is left, where the
 * socket is full; or those of the message.
 */
static unsigned
fail_message(struct udp_pool *p, const struct run *r, int error)
{
	if (r->n > 1 && cut_less(p->out_socket, p->out[r->first].len, error))
		return 0;
	bool full = error == EAGAIN || error == ENOBUFS || error == ENOMEM;
	unsigned n = error == EAGAIN ? p->n_out - r->first : r->n;
	counter_add(p->counters, full ? COUNTER_UDP_DROPPED_FULL : COUNTER_UDP_DROPPED_UNREACHABLE, n);
	return n;
}

/* Sends from `first` on until something fails. Returns the first that is still to be sent. */
static unsigned
flush_from(struct udp_pool *p, unsigned first)
{
	struct run runs[UDP_BATCH];
	struct mmsghdr messages[UDP_BATCH];
	struct iovec pieces[2 * UDP_BATCH];
	unsigned n = make_messages(p, first, runs, messages, pieces);
	int sent = sendmmsg(p->out_socket->fd, messages, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	int error = errno;
	if (sent < 0 && error == EINTR)
		return first;
	if (sent <= 0)
		return first + fail_message(p, &runs[0], error);
	const struct run *last = &runs[sent - 1];
	counter_add(p->counters, p->out_counter, last->first + last->n - first);
	return last->first + last->n;
}

void
udp_flush(struct udp_pool *p)
{
	for (unsigned at = 0; at < p->n_out;)
		at = flush_from(p, at);
	for (unsigned i = 0; i < p->n_out; i++)
		free(p->out[i].owned);
	p->n_out = 0;
	p->out_len = 0;
}

static uint8_t *
append(uint8_t *at, const uint8_t *bytes, size_t len)
{
	if (len > 0)
		memcpy(at, bytes, len);
	return at + len;
}

void
udp_send(struct udp_pool *p, struct udp_socket *s, const struct udp_parcel *d, const struct udp_address *to, enum counter sent)
{
	if (p->n_out == UDP_BATCH || (p->n_out > 0 && (p->out_socket != s || p->out_counter != sent)))
		udp_flush(p);
	struct udp_noted *out = &p->out[p->n_out];
	uint8_t *at = p->memory->out + p->out_len;
	assert(d->prefix_len + d->header_len <= UDP_HEADERS_MAX);
	out->copied = at;
	at = append(at, d->prefix, d->prefix_len);
	at = append(at, d->header, d->header_len);
	if (d->payload_len <= COPY_MAX)
		at = append(at, d->payload, d->payload_len);
	out->copied_len = (size_t)(at - out->copied);
	out->rest = d->payload;
	out->owned = d->owned;
	out->len = d->prefix_len + d->header_len + d->payload_len;
	memcpy(&out->to.ss, &to->ss, to->len);
	out->to.len = to->len;
	p->out_len += out->copied_len;
	p->out_socket = s;
	p->out_counter = sent;
	p->n_out++;
}
