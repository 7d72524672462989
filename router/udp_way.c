#include "router/udp_way.h"

#include <stdlib.h>
#include <string.h>

#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "router/local.h"
#include "router/revision.h"
#include "router/worker.h"

static const struct policy *
policy_of(const struct udp_way *y)
{
	return fleet_policy(y->owner->fleet);
}

static struct udp_hop *
hop_at(struct udp_way *y, unsigned i)
{
	return i < y->n_before ? &y->before[i] : &y->last;
}

bool
udp_way_is_direct(const struct udp_way *y)
{
	return y->path.n_hops == 0 || y->line != NULL;
}

bool
udp_way_needs_address(const struct udp_way *y)
{
	return udp_way_is_direct(y) || policy_of(y)->upstreams[y->path.hops[y->path.n_hops - 1]].resolve_local;
}

/* ---- the end ---- */

static struct udp_pool *
pool_of(const struct udp_way *y)
{
	return &y->owner->worker->datagrams;
}

static void
hop_close(struct udp_hop *h)
{
	dial_cancel(h->dial);
	h->dial = NULL;
	h->seal = (struct udp_seal){ .context = NULL };
	stream_close(&h->stream);
	h->way->n_lost += udp_assembly_end(&h->answers);
}

static void
way_close(struct udp_way *y)
{
	udp_way_note(y);
	for (unsigned i = 0; i < y->n_before; i++)
		hop_close(&y->before[i]);
	hop_close(&y->last);
	free(y->before);
	free(y->prefix);
	y->before = NULL;
	y->prefix = NULL;
	y->n_before = 0;
	y->prefix_len = 0;
	y->line = NULL;
	udp_socket_close(&y->sockets[0]);
	udp_socket_close(&y->sockets[1]);
	fleet_give_back_path(y->owner->fleet, &y->path);
	y->path = (struct path){ .held = false };
	y->state = UDP_WAY_CLOSED;
}

static void
way_fail(struct udp_way *y)
{
	way_close(y);
	y->avoid.n = 0;
	y->retry_ms = loop_now(y->owner->worker->loop) + UDP_WAY_RETRY_MS;
	y->owner->changed(y, y->owner->arg);
}

unsigned
udp_way_free(struct udp_way *y)
{
	way_close(y);
	unsigned lost = y->n_lost;
	list_remove(&y->link);
	free(y);
	return lost;
}

/* ---- opening ---- */

/* Nothing is said on its connection any more: it stands for the association, whose end it tells, as a flood does. */
static bool
hop_lives(struct udp_hop *h)
{
	return stream_waste(&h->stream) == STREAM_AGAIN;
}

static void
on_hop_stream(struct stream *s, void *arg)
{
	struct udp_hop *h = arg;
	(void)s;
	if (!hop_lives(h))
		way_fail(h->way);
}

static void
on_datagrams(struct udp_socket *s, void *arg)
{
	struct udp_way *y = arg;
	y->owner->readable(y, s, y->owner->arg);
}

static bool
write_prefix(struct udp_way *y)
{
	if (y->n_before == 0)
		return true;
	size_t cap = y->n_before * SOCKS5_UDP_HEADER_MAX;
	if ((y->prefix = malloc(cap)) == NULL)
		return false;
	for (unsigned i = 1; i <= y->n_before; i++)
		y->prefix_len += socks5_write_udp(y->prefix + y->prefix_len, cap - y->prefix_len, 0, &hop_at(y, i)->relay);
	return true;
}

/* The socket towards the first relay: only that one is heard on it. */
static bool
open_towards_relay(struct udp_way *y)
{
	struct udp_address to;
	const struct endpoint *relay = &hop_at(y, 0)->relay;
	udp_address_from(&to, relay);
	if (to.len == 0 || relay->port == 0)
		return false;
	int fd = local_open_outward(to.ss.ss_family, &policy_of(y)->upstreams[y->path.hops[0]]);
	if (fd < 0)
		return false;
	if (connect(fd, (struct sockaddr *)&to.ss, to.len) != 0) {
		close(fd);
		return false;
	}
	return udp_socket_open(&y->sockets[0], y->owner->worker->loop, fd, on_datagrams, y);
}

static void
way_stands(struct udp_way *y)
{
	if (!udp_way_is_direct(y) && (!write_prefix(y) || !open_towards_relay(y))) {
		way_fail(y);
		return;
	}
	y->avoid.n = 0;
	y->state = UDP_WAY_OPEN;
	y->owner->changed(y, y->owner->arg);
}

static void
hop_stands(struct udp_hop *h, const struct dial_result *r)
{
	h->relay = r->bound;
	if (r->sealed)                 /* else its datagrams go as they are, whatever seals its connection on the way there */
		h->seal = (struct udp_seal){ stream_gss_context(&h->stream), stream_gss_is_secret(&h->stream) };
	stream_set_callback(&h->stream, on_hop_stream, h);
	if (!hop_lives(h))             /* what is there already makes no new edge */
		way_fail(h->way);
	else if (--h->way->n_missing == 0)
		way_stands(h->way);
}

/*
 * For each path that was in vain: TRIED_MAX + 1 of them at most, one behind the other, and then none for UDP_WAY_RETRY_MS. What is
 * dropped meanwhile is only counted.
 */
static void
log_failure(const struct udp_way *y, const struct dial_result *r)
{
	struct log_line line;
	char client[ENDPOINT_TEXT_MAX];
	if (!log_wants(LOG_DEBUG))
		return;
	log_begin(&line, LOG_DEBUG, "no way for datagrams");
	const struct endpoint *at = y->owner->key.client;
	log_str(&line, "client", at->kind == ENDPOINT_NONE ? "unix" : endpoint_host_to_text(at, client, sizeof client));
	log_str(&line, "route", policy_route_name(policy_of(y), y->route));
	log_str(&line, "verdict", verdict_text(r->verdict));
	log_str(&line, "detail", r->detail);
	log_end(&line);
}

/* Another path, without the choice that led to this hop. False: no pool has made it, or too many have been in vain. */
static bool
open_without(struct udp_way *y, unsigned hop)
{
	struct tried *t = &y->avoid;
	if (y->path.hop_pick[hop] == UINT8_MAX || t->n == ARRAY_LEN(t->list))
		return false;
	t->list[t->n++] = y->path.picks[y->path.hop_pick[hop]];
	way_close(y);
	return udp_way_open(y);
}

static void
on_before(const struct dial_result *r, void *arg)
{
	struct udp_hop *h = arg;
	struct udp_way *y = h->way;
	h->dial = NULL;
	if (r->verdict == VERDICT_GRANTED) {
		hop_stands(h, r);
		return;
	}
	log_failure(y, r);
	if (r->late || !open_without(y, (unsigned)(h - y->before)))
		way_fail(y);
}

static void
tell_reached(struct endpoint *out, void *arg)
{
	const struct udp_hop *h = arg;
	*out = h->way->owner->reached;
}

static bool
hop_dial(struct udp_hop *h, const struct path *fixed, dial_cb *cb)
{
	const struct udp_way_owner *o = h->way->owner;
	struct dial_request request = {
		.fleet = o->fleet,
		.route = h->way->route,
		.command = SOCKS_UDP,
		.key = o->key,
		.timeout_ms = fleet_policy(o->fleet)->timeouts.connect_ms,
		.fixed = fixed,
		.tell_reached = tell_reached,
		.avoid = &h->way->avoid,
	};
	static const uint8_t unspecified[4];
	endpoint_set_ipv4(&request.to, unspecified, 0);        /* whoever holds the connection, from whatever port */
	h->dial = dial_start(o->worker->dialer, &request, &h->stream, cb, h);
	return h->dial != NULL;
}

static void
hop_init(struct udp_hop *h, struct udp_way *y)
{
	*h = (struct udp_hop){ .way = y };
	stream_init(&h->stream, y->owner->worker->loop);
	udp_assembly_init(&h->answers, &y->owner->worker->assemblies, y->owner->key.client);
}

/* Along the same path, but each shorter one only as far as its last hop, which is asked for an association of its own. */
static bool
dial_before(struct udp_way *y)
{
	unsigned n = y->path.n_hops - 1u;
	if (n == 0)
		return true;
	if ((y->before = calloc(n, sizeof *y->before)) == NULL)
		return false;
	y->n_before = n;
	for (unsigned i = 0; i < n; i++)
		hop_init(&y->before[i], y);
	for (unsigned i = 0; i < n; i++) {
		struct path part = fleet_first_hops(&y->path, i + 1);
		if (!hop_dial(&y->before[i], &part, on_before))
			return false;
	}
	return true;
}

static void
on_last(const struct dial_result *r, void *arg)
{
	struct udp_hop *h = arg;
	struct udp_way *y = h->way;
	h->dial = NULL;
	if (r->verdict != VERDICT_GRANTED) {
		log_failure(y, r);
		way_fail(y);
		return;
	}
	y->path = r->path;
	if (!stream_is_open(&h->stream)) {
		y->line = y->path.n_hops > 0 ? &policy_of(y)->upstreams[y->path.hops[0]] : NULL;
		way_stands(y);
		return;
	}
	y->n_missing = y->path.n_hops;
	if (dial_before(y))
		hop_stands(h, r);
	else
		way_fail(y);
}

bool
udp_way_open(struct udp_way *y)
{
	if (loop_now(y->owner->worker->loop) < y->retry_ms || !hop_dial(&y->last, NULL, on_last))
		return false;
	y->state = UDP_WAY_OPENING;
	return true;
}

struct udp_way *
udp_way_new(const struct udp_way_owner *o, struct policy_route route)
{
	struct udp_way *y = calloc(1, sizeof *y);
	if (y == NULL)
		return NULL;
	list_init(&y->link);
	y->owner = o;
	y->route = route;
	hop_init(&y->last, y);
	udp_socket_init(&y->sockets[0]);
	udp_socket_init(&y->sockets[1]);
	return y;
}

/* ---- datagrams ---- */

void
udp_way_aim(const struct udp_way *y, const struct endpoint *to, struct udp_aim *out)
{
	*out = (struct udp_aim){ .header_len = 0 };
	if (udp_way_is_direct(y))
		udp_address_from(&out->to, to);
	else
		out->header_len = (uint16_t)socks5_write_udp(out->header, sizeof out->header, 0, to);
}

/* The socket for a family, opened where this is its first datagram; NULL: the host has no such addresses. */
static struct udp_socket *
direct_socket(struct udp_way *y, int family)
{
	struct udp_socket *s = &y->sockets[family == AF_INET6];
	if (s->fd >= 0)
		return s;
	int fd = local_open_outward(family, y->line);
	return fd >= 0 && udp_socket_open(s, y->owner->worker->loop, fd, on_datagrams, y) ? s : NULL;
}

static bool
is_sealed(struct udp_way *y)
{
	for (unsigned i = 0; i <= y->n_before; i++)
		if (hop_at(y, i)->seal.context != NULL)
			return true;
	return false;
}

/* From the inside out: the last hop's header and seal, then those of the hops before it. */
static bool
send_sealed(struct udp_way *y, struct udp_pool *p, const uint8_t *payload, size_t len, const struct udp_aim *aim)
{
	uint8_t header[SOCKS5_UDP_HEADER_MAX], *bytes = NULL;
	for (unsigned i = y->n_before + 1; i-- > 0;) {
		bool is_last = i == y->n_before;
		size_t header_len = is_last ? aim->header_len :
					      socks5_write_udp(header, sizeof header, 0, &hop_at(y, i + 1)->relay);
		uint8_t *outer = udp_seal_wrap(&hop_at(y, i)->seal, is_last ? aim->header : header, header_len,
					       bytes != NULL ? bytes : payload, len, &len);
		free(bytes);
		if ((bytes = outer) == NULL)
			return false;
	}
	const struct udp_parcel d = { .payload = bytes, .payload_len = len, .owned = bytes };
	udp_send(p, &y->sockets[0], &d, &aim->to, COUNTER_UDP_UP);
	return true;
}

bool
udp_way_send(struct udp_way *y, struct udp_pool *p, const uint8_t *payload, size_t len, const struct udp_aim *aim)
{
	struct udp_socket *s = udp_way_is_direct(y) ? direct_socket(y, aim->to.ss.ss_family) : &y->sockets[0];
	y->bytes_up += len;
	if (s == NULL)
		return false;
	if (is_sealed(y))
		return send_sealed(y, p, payload, len, aim);
	const struct udp_parcel d = { .prefix = y->prefix,
				      .prefix_len = y->prefix_len,
				      .header = aim->header,
				      .header_len = aim->header_len,
				      .payload = payload,
				      .payload_len = len };
	udp_send(p, s, &d, &aim->to, COUNTER_UDP_UP);
	return true;
}

/* Did this header's sender stand where the next hop's relay is? One that gave a name may answer from any address. */
static bool
is_relay(const struct endpoint *sender, const struct endpoint *relay)
{
	return sender->port == relay->port && (relay->kind == ENDPOINT_NAME || endpoint_same_host(sender, relay));
}

/* One hop's header off; where it is of a part, the whole of it in its place, if that is all there. */
static enum udp_answer
unwrap_hop(struct udp_way *y, unsigned i, struct udp_datagram *d, struct endpoint *sender, unsigned *lost)
{
	struct udp_assembly *a = &hop_at(y, i)->answers;
	const struct udp_seal *seal = &hop_at(y, i)->seal;
	struct socks5_udp header;
	size_t used;
	if ((seal->context != NULL && !udp_seal_open(seal, d)) || socks5_parse_udp(d->bytes, d->len, &header, &used) != PARSE_OK)
		return UDP_ANSWER_STRANGE;
	d->bytes += used;
	d->len -= used;
	*sender = header.to;
	if (header.frag == 0) {
		*lost += udp_assembly_end(a);
		return UDP_ANSWER_WHOLE;
	}
	if (!udp_assembly_add(a, &header, d->bytes, d->len, loop_now(y->owner->worker->loop), lost))
		return UDP_ANSWER_PART;
	y->assembled |= UINT32_C(1) << i;
	d->bytes = udp_assembly_bytes(a, &d->len);
	return UDP_ANSWER_WHOLE;
}

enum udp_answer
udp_way_unwrap(struct udp_way *y, struct udp_datagram *d, struct endpoint *sender, unsigned *lost)
{
	if (udp_way_is_direct(y))
		endpoint_from_sockaddr(sender, (const struct sockaddr *)&d->from->ss, d->from->len);
	else
		for (unsigned i = 0; i <= y->n_before; i++) {
			enum udp_answer answer = unwrap_hop(y, i, d, sender, lost);
			if (answer != UDP_ANSWER_WHOLE)
				return answer;
			if (i < y->n_before && !is_relay(sender, &hop_at(y, i + 1)->relay))
				return UDP_ANSWER_STRANGE;
		}
	y->bytes_down += d->len;
	return UDP_ANSWER_WHOLE;
}

void
udp_way_release(struct udp_way *y)
{
	if (y->assembled == 0)
		return;
	udp_flush(pool_of(y));
	for (unsigned i = 0; i <= y->n_before; i++)
		if ((y->assembled & UINT32_C(1) << i) != 0)
			(void)udp_assembly_end(&hop_at(y, i)->answers);
	y->assembled = 0;
}

unsigned
udp_way_expire(struct udp_way *y)
{
	unsigned lost = y->n_lost;
	y->n_lost = 0;
	for (unsigned i = 0; i <= y->n_before; i++)
		lost += udp_assembly_expire(&hop_at(y, i)->answers, loop_now(y->owner->worker->loop));
	return lost;
}

void
udp_way_note(struct udp_way *y)
{
	uint64_t up = y->bytes_up - y->noted_up, down = y->bytes_down - y->noted_down;
	if (up == 0 && down == 0)
		return;
	for (unsigned i = 0; i < y->path.n_hops; i++) {
		struct board_entry *e = fleet_upstream(y->owner->fleet, y->path.hops[i]);
		atomic_fetch_add_explicit(&e->bytes_up, up, memory_order_relaxed);
		atomic_fetch_add_explicit(&e->bytes_down, down, memory_order_relaxed);
	}
	y->noted_up = y->bytes_up;
	y->noted_down = y->bytes_down;
}
