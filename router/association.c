#include "router/association.h"

#include <stdlib.h>
#include <string.h>

#include <sys/socket.h>

#include "base/loop.h"
#include "policy/decide.h"
#include "router/local.h"
#include "router/revision.h"
#include "router/udp_assembly.h"
#include "router/udp_targets.h"
#include "router/worker.h"

/* A datagram that waits until its target is ready. */
struct held {
	struct list link;
	struct udp_target *target;
	uint8_t *payload;              /* a block of the pool */
	size_t len;
};

struct association {
	struct worker *worker;
	struct udp_pool *pool;
	struct revision *revision;
	uint32_t listener;
	struct endpoint client;
	struct endpoint holder;        /* of its connection: the client, or a proxy that named it in a header */
	uint16_t port;                 /* that it will use; 0: whichever it uses first */
	size_t payload_max;            /* of a datagram, either way */
	struct udp_socket socket;
	struct udp_address client_at;  /* len 0: it has sent nothing yet */
	struct udp_seal seal;          /* of what the client sends and gets */
	struct udp_way_owner owner;
	struct list ways;
	struct udp_targets targets;
	struct list held;
	unsigned n_held;
	struct udp_assembly assembly;
	struct deadline tick;
	struct association_counts counts;
	char user[256], session[256];
};

static void
drop(struct association *a, enum counter why, unsigned n)
{
	counter_add(&a->worker->counters, why, n);
	a->counts.dropped += n;
}

/* ---- policy ---- */

static void
fill_policy_request(const struct association *a, const struct endpoint *to, const struct udp_name *name,
		    struct policy_request *out)
{
	*out = (struct policy_request){
		.listener = a->listener,
		.protocol = PROTOCOL_SOCKS5,
		.command = SOCKS_UDP,
		.client = &a->client,
		.user = a->user,
		.to = to,
		.addrs = name != NULL && name->n_addrs > 0 ? name->addrs : NULL,
		.n_addrs = name != NULL ? name->n_addrs : 0,
		.resolve_failed = name != NULL && name->state == UDP_NAME_FAILED,
	};
}

static struct udp_way *
way_of(struct association *a, struct policy_route route)
{
	LIST_FOR_EACH (&a->ways, node) {
		struct udp_way *y = LIST_OBJECT(node, struct udp_way, link);
		if (y->route.kind == route.kind && y->route.index == route.index)
			return y;
	}
	struct udp_way *y = udp_way_new(&a->owner, route);
	if (y != NULL)
		list_append(&a->ways, &y->link);
	return y;
}

/* What keeps a datagram from being sent now. */
enum obstacle { NO_OBSTACLE, MUST_WAIT, IS_REJECTED, IS_UNRESOLVED, HAS_NO_WAY };

static enum obstacle
look_up(struct association *a, struct udp_target *x)
{
	uint64_t timeout_ms = a->revision->policy->timeouts.connect_ms;
	return udp_target_look_up(&a->targets, x, timeout_ms) ? MUST_WAIT : IS_UNRESOLVED;
}

static enum obstacle
target_decide(struct association *a, struct udp_target *x)
{
	struct policy_request request;
	struct policy_decision d;
	fill_policy_request(a, &x->to, x->name, &request);
	policy_decide(a->revision->policy, &request, &d);
	if (d.kind == DECIDE_NEEDS_ADDRESSES)
		return look_up(a, x);
	revision_hit(a->revision, a->worker->number, d.rule);
	if (d.route.kind == ROUTE_REJECT) {
		x->state = UDP_TARGET_REJECTED;
		return IS_REJECTED;
	}
	if ((x->way = way_of(a, d.route)) == NULL)
		return HAS_NO_WAY;
	x->state = UDP_TARGET_ROUTED;
	return NO_OBSTACLE;
}

/* The first of the name's addresses that no rule forbids. False: there is none. */
static bool
choose_address(const struct association *a, const struct udp_target *x, struct endpoint *out)
{
	struct policy_request request;
	fill_policy_request(a, &x->to, x->name, &request);
	for (size_t i = 0; i < x->name->n_addrs; i++) {
		*out = x->name->addrs[i];
		out->port = x->to.port;
		if (policy_address_rejected(a->revision->policy, &request, out) < 0)
			return true;
	}
	return false;
}

/* Answers come from the address, so that one is remembered as spoken to. */
static void
remember_address(struct association *a, struct udp_target *x, const struct endpoint *address)
{
	x->n_held++;                   /* not to be the one that makes room */
	struct udp_target *alias = udp_targets_take(&a->targets, address);
	x->n_held--;
	if (alias != NULL)
		alias->spoken = true;
}

static enum obstacle
target_aim(struct association *a, struct udp_target *x)
{
	struct endpoint to = x->to;
	if (x->way->state == UDP_WAY_OPENING)
		return MUST_WAIT;
	if (x->way->state == UDP_WAY_CLOSED)
		return udp_way_open(x->way) ? MUST_WAIT : HAS_NO_WAY;
	if (x->name != NULL && udp_way_needs_address(x->way)) {
		if (x->name->state != UDP_NAME_KNOWN)
			return look_up(a, x);
		if (!choose_address(a, x, &to)) {
			x->state = UDP_TARGET_REJECTED;
			return IS_REJECTED;
		}
		remember_address(a, x, &to);
	}
	udp_way_aim(x->way, &to, &x->aim);
	x->state = UDP_TARGET_READY;
	x->spoken = true;
	return NO_OBSTACLE;
}

static enum obstacle
target_advance(struct association *a, struct udp_target *x)
{
	enum obstacle o = NO_OBSTACLE;
	if (x->state == UDP_TARGET_READY && x->way->state != UDP_WAY_OPEN)
		x->state = UDP_TARGET_ROUTED;  /* it may be another path next time */
	if (x->state == UDP_TARGET_REJECTED)
		return IS_REJECTED;
	if (x->state == UDP_TARGET_NEW)
		o = target_decide(a, x);
	if (o == NO_OBSTACLE && x->state == UDP_TARGET_ROUTED)
		o = target_aim(a, x);
	return o;
}

/* ---- up ---- */

static const enum counter obstacle_counters[] = {
	[IS_REJECTED] = COUNTER_UDP_DROPPED_REJECTED,
	[IS_UNRESOLVED] = COUNTER_UDP_DROPPED_UNRESOLVED,
	[HAS_NO_WAY] = COUNTER_UDP_DROPPED_NO_WAY,
};

static void
pass_up(struct association *a, struct udp_target *x, const uint8_t *payload, size_t len)
{
	if (!udp_way_send(x->way, a->pool, payload, len, &x->aim)) {
		drop(a, COUNTER_UDP_DROPPED_UNREACHABLE, 1);
		return;
	}
	a->counts.up += len;
	a->counts.datagrams_up++;
	a->counts.active_ms = loop_now(a->worker->loop);
	counter_add(&a->worker->counters, COUNTER_BYTES_UP, len);
}

static void
held_free(struct association *a, struct held *h)
{
	list_remove(&h->link);
	udp_block_give_back(&a->pool->held, h->payload);
	h->target->n_held--;
	a->n_held--;
	free(h);
}

/* Where all places are taken the oldest makes room: a name that is never found must not keep the others out. */
static void
hold(struct association *a, struct udp_target *x, const uint8_t *payload, size_t len)
{
	if (a->n_held == UDP_HELD_MAX) {
		held_free(a, LIST_OBJECT(a->held.next, struct held, link));
		drop(a, COUNTER_UDP_DROPPED_FULL, 1);
	}
	uint8_t *copy = udp_block_take(&a->pool->held, len);
	struct held *h = copy != NULL ? malloc(sizeof *h) : NULL;
	if (h == NULL) {
		udp_block_give_back(&a->pool->held, copy);
		drop(a, COUNTER_UDP_DROPPED_FULL, 1);
		return;
	}
	memcpy(copy, payload, len);
	*h = (struct held){ .target = x, .payload = copy, .len = len };
	list_append(&a->held, &h->link);
	a->n_held++;
	x->n_held++;
}

/* A name or a way has made up its mind. What was held for it goes out or is lost; the rest waits on, in its order. */
static void
retry_held(struct association *a, const struct udp_name *failed)
{
	LIST_FOR_EACH (&a->held, node) {
		struct held *h = LIST_OBJECT(node, struct held, link);
		bool lost = failed != NULL && h->target->name == failed && h->target->state == UDP_TARGET_ROUTED;
		enum obstacle o = lost ? IS_UNRESOLVED : target_advance(a, h->target);
		if (o == MUST_WAIT)
			continue;
		if (o == NO_OBSTACLE) {
			pass_up(a, h->target, h->payload, h->len);
			udp_flush(a->pool);
		} else {
			drop(a, obstacle_counters[o], 1);
		}
		held_free(a, h);
	}
}

static void
on_way_changed(struct udp_way *y, void *arg)
{
	(void)y;
	retry_held(arg, NULL);
}

static void
on_name(struct udp_name *name, void *arg)
{
	retry_held(arg, name->state == UDP_NAME_FAILED ? name : NULL);
}

static void
take_whole(struct association *a, const struct endpoint *to, const uint8_t *payload, size_t len)
{
	if (len > a->payload_max) {
		drop(a, COUNTER_UDP_DROPPED_SIZE, 1);
		return;
	}
	struct udp_target *x = to->port != 0 ? udp_targets_take(&a->targets, to) : NULL;
	if (x == NULL) {
		drop(a, to->port != 0 ? COUNTER_UDP_DROPPED_FULL : COUNTER_UDP_DROPPED_HEADER, 1);
		return;
	}
	enum obstacle o = x->state == UDP_TARGET_READY && x->way->state == UDP_WAY_OPEN ? NO_OBSTACLE : target_advance(a, x);
	if (o == NO_OBSTACLE)
		pass_up(a, x, payload, len);
	else if (o == MUST_WAIT)
		hold(a, x, payload, len);
	else
		drop(a, obstacle_counters[o], 1);
}

static void
take_fragment(struct association *a, const struct socks5_udp *header, const uint8_t *payload, size_t len)
{
	unsigned lost = 0;
	bool whole = udp_assembly_add(&a->assembly, header, payload, len, loop_now(a->worker->loop), &lost);
	drop(a, COUNTER_UDP_DROPPED_FRAGMENT, lost);
	if (!whole)
		return;
	payload = udp_assembly_bytes(&a->assembly, &len);
	take_whole(a, udp_assembly_of(&a->assembly), payload, len);
	udp_flush(a->pool);
	(void)udp_assembly_end(&a->assembly);
}

/*
 * The client's host, from the port that it announced, or used first. Or that of the proxy that named the client: a SOCKS proxy passes
 * datagrams on itself, from a port of its own.
 */
static bool
is_client(const struct association *a, const struct udp_datagram *d)
{
	struct endpoint from;
	if (a->client_at.len > 0)
		return udp_address_equal(&a->client_at, d->from);
	endpoint_from_sockaddr(&from, (const struct sockaddr *)&d->from->ss, d->from->len);
	if (endpoint_same_host(&from, &a->client))
		return a->port == 0 || a->port == from.port;
	/* What holds the connection through a Unix socket is on this host. */
	return a->holder.kind == ENDPOINT_NONE ? endpoint_is_loopback(&from) : endpoint_same_host(&from, &a->holder);
}

static void
take_datagram(struct association *a, struct udp_datagram *d)
{
	struct socks5_udp header;
	size_t used;
	if (!is_client(a, d)) {
		drop(a, COUNTER_UDP_DROPPED_SENDER, 1);
		return;
	}
	if (a->seal.context != NULL && !udp_seal_open(&a->seal, d)) {
		drop(a, COUNTER_UDP_DROPPED_HEADER, 1);
		return;
	}
	if (a->client_at.len == 0)
		a->client_at = *d->from;
	if (socks5_parse_udp(d->bytes, d->len, &header, &used) != PARSE_OK) {
		drop(a, COUNTER_UDP_DROPPED_HEADER, 1);
		return;
	}
	if (header.frag != 0) {
		take_fragment(a, &header, d->bytes + used, d->len - used);
		return;
	}
	drop(a, COUNTER_UDP_DROPPED_FRAGMENT, udp_assembly_end(&a->assembly));
	take_whole(a, &header.to, d->bytes + used, d->len - used);
}

static void
on_client_datagrams(struct udp_socket *s, void *arg)
{
	struct association *a = arg;
	struct udp_datagram d;
	udp_receive(a->pool, s);
	while (udp_next(a->pool, &d))
		take_datagram(a, &d);
	udp_flush(a->pool);
}

/* ---- down ---- */

static bool
is_welcome(struct association *a, const struct endpoint *sender)
{
	struct udp_target *x = udp_targets_find(&a->targets, sender);
	struct policy_request request;
	struct policy_decision d;
	if (x != NULL && (x->spoken || x->state == UDP_TARGET_REJECTED))
		return x->spoken;
	fill_policy_request(a, sender, NULL, &request);
	policy_decide(a->revision->policy, &request, &d);
	return d.route.kind != ROUTE_REJECT;
}

/* Behind a header with its true sender. With that the longest that there are no longer fit a datagram. */
static void
pass_down(struct association *a, const struct endpoint *sender, const struct udp_datagram *d)
{
	uint8_t header[SOCKS5_UDP_HEADER_MAX];
	const struct udp_parcel parcel = { .header = header,
					   .header_len = socks5_write_udp(header, sizeof header, 0, sender),
					   .payload = d->bytes,
					   .payload_len = d->len };
	if (parcel.header_len + d->len > udp_longest(&a->client_at)) {
		drop(a, COUNTER_UDP_DROPPED_SIZE, 1);
		return;
	}
	if (a->seal.context == NULL) {
		udp_send(a->pool, &a->socket, &parcel, &a->client_at, COUNTER_UDP_DOWN);
	} else if (!udp_seal_send(&a->seal, a->pool, &a->socket, &parcel, &a->client_at, COUNTER_UDP_DOWN)) {
		drop(a, COUNTER_UDP_DROPPED_FULL, 1);
		return;
	}
	a->counts.down += d->len;
	a->counts.datagrams_down++;
	a->counts.active_ms = loop_now(a->worker->loop);
	counter_add(&a->worker->counters, COUNTER_BYTES_DOWN, d->len);
}

static void
take_answer(struct association *a, struct udp_way *y, struct udp_datagram *d)
{
	struct endpoint sender;
	unsigned lost = 0;
	enum udp_answer answer = udp_way_unwrap(y, d, &sender, &lost);
	drop(a, COUNTER_UDP_DROPPED_FRAGMENT, lost);
	if (answer == UDP_ANSWER_STRANGE)
		drop(a, COUNTER_UDP_DROPPED_HEADER, 1);
	else if (answer == UDP_ANSWER_WHOLE && d->len > a->payload_max)
		drop(a, COUNTER_UDP_DROPPED_SIZE, 1);
	else if (answer == UDP_ANSWER_WHOLE && udp_way_is_direct(y) && !is_welcome(a, &sender))
		drop(a, COUNTER_UDP_DROPPED_REJECTED, 1);
	else if (answer == UDP_ANSWER_WHOLE)
		pass_down(a, &sender, d);
	udp_way_release(y);
}

static void
on_way_readable(struct udp_way *y, struct udp_socket *s, void *arg)
{
	struct association *a = arg;
	struct udp_datagram d;
	udp_receive(a->pool, s);
	while (udp_next(a->pool, &d))
		take_answer(a, y, &d);
	udp_flush(a->pool);
}

/* ---- life ---- */

static void
on_tick(struct deadline *d)
{
	struct association *a = CONTAINER_OF(d, struct association, tick);
	unsigned lost = udp_assembly_expire(&a->assembly, loop_now(a->worker->loop));
	LIST_FOR_EACH (&a->ways, node) {
		struct udp_way *y = LIST_OBJECT(node, struct udp_way, link);
		lost += udp_way_expire(y);
		udp_way_note(y);
	}
	drop(a, COUNTER_UDP_DROPPED_FRAGMENT, lost);
	loop_set_deadline(a->worker->loop, &a->tick, ASSOCIATION_TICK_MS);
}

static void
holder_of(int fd, struct endpoint *out)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	endpoint_clear(out);
	if (getpeername(fd, (struct sockaddr *)&ss, &len) == 0)
		endpoint_from_sockaddr(out, (struct sockaddr *)&ss, len);
}

/* Behind NAT a client does not know who it is, nor from which port it will be seen to speak. */
static uint16_t
choose_port(const struct association_request *q)
{
	return endpoint_same_host(q->announced, q->client) ? q->announced->port : 0;
}

static struct association *
association_make(const struct association_request *q)
{
	struct association *a = calloc(1, sizeof *a);
	if (a == NULL)
		return NULL;
	a->worker = q->worker;
	a->pool = &q->worker->datagrams;
	a->revision = q->revision;
	a->listener = q->listener;
	a->client = *q->client;
	holder_of(q->client_fd, &a->holder);
	a->port = choose_port(q);
	a->seal = q->seal;
	a->payload_max = SIZE_MAX;
	strncpy(a->user, q->user, sizeof a->user - 1);
	strncpy(a->session, q->session, sizeof a->session - 1);
	a->owner = (struct udp_way_owner){
		.worker = q->worker,
		.fleet = q->revision->fleet,
		.key = { .client = &a->client, .user = a->user, .session = a->session },
		.reached = *q->reached,
		.changed = on_way_changed,
		.readable = on_way_readable,
		.arg = a,
	};
	list_init(&a->ways);
	list_init(&a->held);
	udp_socket_init(&a->socket);
	udp_targets_init(&a->targets, q->worker->resolver, on_name, a);
	udp_assembly_init(&a->assembly, &q->worker->assemblies, &a->client);
	deadline_init(&a->tick, on_tick);
	a->counts.active_ms = loop_now(q->worker->loop);
	return a;
}

struct association *
association_new(const struct association_request *q, struct endpoint *told, enum verdict *why)
{
	struct local_socket s;
	struct endpoint own;
	const struct policy_sockets *conf = &q->revision->policy->listeners[q->listener].udp;
	struct association *a = association_make(q);
	*why = VERDICT_INTERNAL;
	if (a == NULL)
		return NULL;
	if (conf->max_datagram > 0)
		a->payload_max = conf->max_datagram;
	local_address_of(q->client_fd, &own);
	if (!udp_pool_ready(a->pool) || !local_open(SOCK_DGRAM, conf, &own, NULL, &q->worker->random, &s) ||
	    !udp_socket_open(&a->socket, q->worker->loop, s.fd, on_client_datagrams, a)) {
		association_free(a);
		return NULL;
	}
	loop_set_deadline(q->worker->loop, &a->tick, ASSOCIATION_TICK_MS);
	*told = s.told;
	return a;
}

void
association_free(struct association *a)
{
	if (a == NULL)
		return;
	while (!list_empty(&a->held))
		held_free(a, LIST_OBJECT(a->held.next, struct held, link));
	unsigned lost = udp_assembly_end(&a->assembly);
	udp_targets_free(&a->targets);
	while (!list_empty(&a->ways))
		lost += udp_way_free(LIST_OBJECT(a->ways.next, struct udp_way, link));
	drop(a, COUNTER_UDP_DROPPED_FRAGMENT, lost);
	udp_socket_close(&a->socket);
	loop_clear_deadline(a->worker->loop, &a->tick);
	free(a);
}

void
association_get_counts(const struct association *a, struct association_counts *out)
{
	*out = a->counts;
}

static void
add_once(uint32_t *hops, size_t *n, size_t cap, uint32_t hop)
{
	for (size_t i = 0; i < *n; i++)
		if (hops[i] == hop)
			return;
	if (*n < cap)
		hops[(*n)++] = hop;
}

size_t
association_get_hops(const struct association *a, uint32_t *hops, size_t cap)
{
	size_t n = 0;
	LIST_FOR_EACH (&a->ways, node) {
		const struct udp_way *y = LIST_OBJECT(node, struct udp_way, link);
		if (y->state == UDP_WAY_OPEN && y->path.n_hops == 0)
			add_once(hops, &n, cap, UINT32_MAX);
		for (unsigned i = 0; y->state == UDP_WAY_OPEN && i < y->path.n_hops; i++)
			add_once(hops, &n, cap, y->path.hops[i]);
	}
	return n;
}
