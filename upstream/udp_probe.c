/*
 * udp_probe: see the header.
 *
 *   dial to hop 1 -> dial through it to hop 2 -> ... -> send, wait, send again
 */
#include "upstream/udp_probe.h"

#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <event2/event_struct.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/stream.h"
#include "socks/socks5.h"

enum {
	PORT_DNS = 53,
	ANSWER_MAX = 8192,     /* what is longer is cut, and an answer all the same */
};

struct udp_probe {
	struct loop *loop;
	struct dialer *dialer;
	struct udp_probe_plan plan;
	struct path path;
	struct endpoint to;
	udp_probe_cb *cb;
	void *arg;
	struct dial *dial;
	struct stream streams[PATH_HOPS_MAX];  /* of the associations; the first n_stand are there */
	struct endpoint relays[PATH_HOPS_MAX];
	unsigned n_stand;
	int fd;                                /* towards the first relay; -1: not yet */
	struct event event;
	struct deadline again;
	uint64_t until_ms;
	size_t len;
	uint8_t datagram[PATH_HOPS_MAX * SOCKS5_UDP_HEADER_MAX + 32];
};

void
udp_probe_cancel(struct udp_probe *p)
{
	if (p == NULL)
		return;
	dial_cancel(p->dial);
	for (unsigned i = 0; i < p->path.n_hops; i++)
		stream_close(&p->streams[i]);
	if (p->fd >= 0) {
		event_del(&p->event);
		close(p->fd);
	}
	loop_clear_deadline(p->loop, &p->again);
	free(p);
}

static void
tell(struct udp_probe *p, const struct udp_probe_result *r)
{
	udp_probe_cb *cb = p->cb;
	void *arg = p->arg;
	udp_probe_cancel(p);
	cb(r, arg);
}

/* ---- the datagram ---- */

static void
write_datagram(struct udp_probe *p)
{
	/* An id, "recursion desired", one question: the root's NS records (RFC 1035 section 4). */
	static const uint8_t question[] = { 0x50, 0x52, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1 };
	static const char text[] = "sockroute probe\n";
	bool dns = p->to.port == PORT_DNS;
	const void *payload = dns ? (const void *)question : text;
	size_t len = dns ? sizeof question : sizeof text - 1;
	for (unsigned i = 1; i < p->path.n_hops; i++)
		p->len += socks5_write_udp(p->datagram + p->len, sizeof p->datagram - p->len, 0, &p->relays[i]);
	p->len += socks5_write_udp(p->datagram + p->len, sizeof p->datagram - p->len, 0, &p->to);
	memcpy(p->datagram + p->len, payload, len);
	p->len += len;
}

/* Is it an answer, with a header of each hop? *sender: who stands in the last one. */
static bool
is_answer(const struct udp_probe *p, const uint8_t *in, size_t len, struct endpoint *sender)
{
	struct socks5_udp header;
	size_t used;
	for (unsigned i = 0; i < p->path.n_hops; i++) {
		if (socks5_parse_udp(in, len, &header, &used) != PARSE_OK || header.frag != 0)
			return false;
		in += used;
		len -= used;
	}
	*sender = header.to;
	return true;
}

/* What the kernel says of earlier datagrams is read off and not believed: the next one may arrive. */
static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	uint8_t in[ANSWER_MAX];
	struct udp_probe *p = arg;
	struct udp_probe_result r = { .end = UDP_PROBE_ANSWERED };
	(void)what;
	(void)loop_now(p->loop);
	ssize_t n = recv(fd, in, sizeof in, MSG_DONTWAIT);
	if (n > 0 && is_answer(p, in, (size_t)n, &r.sender))
		tell(p, &r);
}

static void
send_again(struct udp_probe *p)
{
	(void)send(p->fd, p->datagram, p->len, MSG_DONTWAIT | MSG_NOSIGNAL);
	loop_set_deadline(p->loop, &p->again, UDP_PROBE_AGAIN_MS);
}

static void
on_again(struct deadline *d)
{
	struct udp_probe *p = CONTAINER_OF(d, struct udp_probe, again);
	if (loop_now(p->loop) < p->until_ms)
		send_again(p);
	else
		tell(p, &(struct udp_probe_result){ .end = UDP_PROBE_SILENT });
}

static bool
open_socket(struct udp_probe *p)
{
	struct sockaddr_storage ss;
	socklen_t len = endpoint_to_sockaddr(&p->relays[0], &ss);
	int fd = len > 0 ? socket(ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) : -1;
	if (fd < 0)
		return false;
	event_assign(&p->event, loop_base(p->loop), fd, EV_READ | EV_PERSIST, on_readable, p);
	if (connect(fd, (struct sockaddr *)&ss, len) != 0 || event_add(&p->event, NULL) != 0) {
		close(fd);
		return false;
	}
	p->fd = fd;
	return true;
}

/* ---- the associations ---- */

static void on_dialled(const struct dial_result *r, void *arg);

static bool
dial_next(struct udp_probe *p)
{
	static const struct endpoint unspecified = { .kind = ENDPOINT_IPV4 };  /* whoever holds the connection */
	struct path part = fleet_first_hops(&p->path, p->n_stand + 1);
	const struct dial_request request = {
		.fleet = p->plan.fleet,
		.command = SOCKS_UDP,
		.to = unspecified,
		.timeout_ms = p->plan.timeout_ms,
		.fixed = &part,
	};
	p->dial = dial_start(p->dialer, &request, &p->streams[p->n_stand], on_dialled, p);
	return p->dial != NULL;
}

static void
on_dialled(const struct dial_result *r, void *arg)
{
	struct udp_probe *p = arg;
	p->dial = NULL;
	if (r->verdict != VERDICT_GRANTED) {
		tell(p, &(struct udp_probe_result){ .end = UDP_PROBE_FAILED, .dial = r });
		return;
	}
	p->relays[p->n_stand++] = r->bound;
	if (p->n_stand < p->path.n_hops ? !dial_next(p) : !open_socket(p)) {
		tell(p, &(struct udp_probe_result){ .end = UDP_PROBE_FAILED });
		return;
	}
	if (p->fd < 0)
		return;
	write_datagram(p);
	p->until_ms = loop_now(p->loop) + UDP_PROBE_WAIT_MS;
	send_again(p);
}

struct udp_probe *
udp_probe_start(struct loop *l, struct dialer *d, const struct udp_probe_plan *plan, udp_probe_cb *cb, void *arg)
{
	struct udp_probe *p = calloc(1, sizeof *p);
	if (p == NULL)
		return NULL;
	p->loop = l;
	p->dialer = d;
	p->plan = *plan;
	p->path = *plan->path;
	p->to = *plan->to;
	p->cb = cb;
	p->arg = arg;
	p->fd = -1;
	for (unsigned i = 0; i < p->path.n_hops; i++)
		stream_init(&p->streams[i], l);
	deadline_init(&p->again, on_again);
	if (dial_next(p))
		return p;
	udp_probe_cancel(p);
	return NULL;
}
