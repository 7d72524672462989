/*
 * channel: see the header. Each ares_channel is a conduit: the current one, where new questions go,
 * and retired ones, which go when their last question is answered, never from inside a call of
 * c-ares.
 *
 * Sockets come by ARES_OPT_SOCK_STATE_CB, each with a level-triggered event of its own, deleted
 * inside the call that tells of the closing. For timeouts c-ares is called at a steady tick while
 * questions are under way: asking it for the next one (ares_timeout) would walk all of them each
 * time.
 */
#include "dns/channel.h"

#include "base/log.h"
#include "base/loop.h"
#include "dns/resolv_conf.h"
#include "dns/watched_file.h"

#include <ares.h>
#include <event2/event.h>
#include <event2/event_struct.h>

#include <assert.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
	TICK_MS = 50,
	CONDUIT_QUESTIONS_MAX = 200,
	CONDUIT_AGE_MS = 30 * 1000,
	EDNS_BYTES = 1232,                     /* fits an IPv6 packet of the smallest MTU */
};

struct conduit {
	struct list link;                      /* in retired; else unlinked */
	struct channel *channel;
	ares_channel ares;
	struct list sockets;
	uint64_t born_ms;
	unsigned n_asked, n_under_way;
};

struct conduit_socket {
	struct list link;
	struct conduit *conduit;
	struct event event;
	int fd;
};

struct channel {
	struct loop *loop;
	struct endpoint servers[CHANNEL_SERVERS_MAX];
	size_t n_servers;
	bool of_system;
	struct watched_file resolv_conf;       /* if of_system */
	uint32_t timeout_ms, attempts;
	struct conduit *current;               /* NULL: none yet, or there is no server */
	struct list retired;
	struct list done;                      /* answered asks */
	struct loop_task tell;
	struct deadline tick;
	bool dying;                            /* c-ares's callbacks find nobody home */
};

static void
on_socket_event(evutil_socket_t fd, short what, void *arg)
{
	struct conduit_socket *s = arg;        /* may be gone as soon as c-ares was called */
	ares_process_fd(s->conduit->ares, (what & EV_READ) != 0 ? fd : ARES_SOCKET_BAD,
			(what & EV_WRITE) != 0 ? fd : ARES_SOCKET_BAD);
}

static void
socket_close(struct conduit_socket *s)
{
	event_del(&s->event);
	list_remove(&s->link);
	free(s);
}

static struct conduit_socket *
socket_find(struct conduit *p, int fd)
{
	LIST_FOR_EACH(&p->sockets, node) {
		struct conduit_socket *s = LIST_OBJECT(node, struct conduit_socket, link);
		if (s->fd == fd)
			return s;
	}
	return NULL;
}

/* Its event is not added yet. NULL: out of memory. */
static struct conduit_socket *
socket_add(struct conduit *p, int fd)
{
	struct conduit_socket *s = calloc(1, sizeof *s);
	if (s == NULL)
		return NULL;
	s->conduit = p;
	s->fd = fd;
	event_assign(&s->event, loop_base(p->channel->loop), fd, EV_READ, on_socket_event, s);
	list_init(&s->link);
	list_append(&p->sockets, &s->link);
	return s;
}

/*
 * From c-ares, before it closes fd and whenever it wants other events. Without memory its questions
 * run into their timeouts.
 */
static void
on_socket_state(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct conduit *p = arg;
	struct conduit_socket *s = socket_find(p, fd);
	bool closing = !readable && !writable;
	short what = (short)((readable ? EV_READ : 0) | (writable ? EV_WRITE : 0) | EV_PERSIST);

	if (s == NULL && (closing || (s = socket_add(p, fd)) == NULL))
		return;
	event_del(&s->event);
	if (!closing) {
		event_assign(&s->event, loop_base(p->channel->loop), fd, what, on_socket_event, s);
		closing = event_add(&s->event, NULL) != 0;
	}
	if (closing)
		socket_close(s);
}

static void
conduit_free(struct conduit *p)
{
	if (p == NULL)
		return;
	if (p->ares != NULL)
		ares_destroy(p->ares);         /* tells of each socket that it closes */
	assert(list_empty(&p->sockets));
	list_remove(&p->link);
	free(p);
}

static void
node_set(struct ares_addr_port_node *node, const struct endpoint *server)
{
	*node = (struct ares_addr_port_node){ .udp_port = server->port, .tcp_port = server->port };
	if (server->kind == ENDPOINT_IPV4) {
		node->family = AF_INET;
		memcpy(&node->addr.addr4, server->addr, sizeof node->addr.addr4);
	} else {
		node->family = AF_INET6;
		memcpy(&node->addr.addr6, server->addr, sizeof node->addr.addr6);
	}
}

static bool
conduit_set_servers(struct conduit *p)
{
	struct ares_addr_port_node nodes[CHANNEL_SERVERS_MAX];
	struct channel *c = p->channel;

	for (size_t i = 0; i < c->n_servers; i++) {
		node_set(&nodes[i], &c->servers[i]);
		nodes[i].next = i + 1 < c->n_servers ? &nodes[i + 1] : NULL;
	}
	return ares_set_servers_ports(p->ares, nodes) == ARES_SUCCESS;
}

/*
 * All that c-ares would else take from the environment, resolv.conf and other files is set here, so
 * it reads none of them.
 */
static bool
conduit_start(struct conduit *p)
{
	char lookups[] = "b";
	struct ares_options o = {
		.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_EDNS,
		.timeout = (int)p->channel->timeout_ms,
		.tries = (int)p->channel->attempts,
		.ndots = 1,
		.lookups = lookups,
		.ednspsz = EDNS_BYTES,
		.sock_state_cb = on_socket_state,
		.sock_state_cb_data = p,
	};
	int given = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_NDOTS |
		    ARES_OPT_LOOKUPS | ARES_OPT_EDNSPSZ | ARES_OPT_SOCK_STATE_CB |
		    ARES_OPT_SERVERS | ARES_OPT_DOMAINS | ARES_OPT_SORTLIST | ARES_OPT_NOROTATE;
	if (ares_init_options(&p->ares, &o, given) != ARES_SUCCESS) {
		p->ares = NULL;
		return false;
	}
	return conduit_set_servers(p);
}

static struct conduit *
conduit_new(struct channel *c)
{
	struct conduit *p = calloc(1, sizeof *p);
	if (p == NULL)
		return NULL;
	p->channel = c;
	p->born_ms = loop_now(c->loop);
	list_init(&p->link);
	list_init(&p->sockets);
	if (!conduit_start(p)) {
		conduit_free(p);
		return NULL;
	}
	return p;
}

static void
drop_idle_conduits(struct channel *c)
{
	LIST_FOR_EACH(&c->retired, node) {
		struct conduit *p = LIST_OBJECT(node, struct conduit, link);
		if (p->n_under_way == 0)
			conduit_free(p);
	}
}

static void
on_tell(struct loop_task *t)
{
	struct channel *c = CONTAINER_OF(t, struct channel, tell);
	struct list batch, *node;

	list_init(&batch);
	list_move_all(&batch, &c->done);
	while ((node = list_take_first(&batch)) != NULL) {
		struct ask *a = LIST_OBJECT(node, struct ask, link);
		a->done(a);
	}
	drop_idle_conduits(c);
}

static bool
conduit_is_waiting(const struct conduit *p)
{
	return p != NULL && p->n_under_way > 0;
}

static void
on_tick(struct deadline *d)
{
	struct channel *c = CONTAINER_OF(d, struct channel, tick);
	bool waiting = conduit_is_waiting(c->current);

	if (waiting)
		ares_process_fd(c->current->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	LIST_FOR_EACH(&c->retired, node) {
		struct conduit *p = LIST_OBJECT(node, struct conduit, link);
		ares_process_fd(p->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
		waiting = waiting || conduit_is_waiting(p);
	}
	if (waiting)
		loop_set_deadline(c->loop, d, TICK_MS);
}

static void
library_start(void)
{
	ares_library_init(ARES_LIB_INIT_ALL);
}

static bool
set_servers(struct channel *c, const struct endpoint *servers, size_t n)
{
	for (size_t i = 0; i < n && i < CHANNEL_SERVERS_MAX; i++) {
		if (!endpoint_is_address(&servers[i]))
			return false;
		c->servers[c->n_servers++] = servers[i];
	}
	c->current = conduit_new(c);
	return c->current != NULL;
}

struct channel *
channel_new(struct loop *l, const struct channel_conf *conf)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct channel *c = calloc(1, sizeof *c);

	pthread_once(&once, library_start);
	if (c == NULL)
		return NULL;
	c->loop = l;
	c->of_system = conf->n_servers == 0;
	c->timeout_ms = conf->timeout_ms;
	c->attempts = conf->attempts;
	watched_file_init(&c->resolv_conf, conf->resolv_conf);
	list_init(&c->retired);
	list_init(&c->done);
	loop_task_init(&c->tell, on_tell);
	deadline_init(&c->tick, on_tick);
	if (!c->of_system && !set_servers(c, conf->servers, conf->n_servers)) {
		channel_free(c);
		return NULL;
	}
	return c;
}

void
channel_free(struct channel *c)
{
	if (c == NULL)
		return;
	c->dying = true;
	loop_undefer(c->loop, &c->tell);
	loop_clear_deadline(c->loop, &c->tick);
	conduit_free(c->current);
	LIST_FOR_EACH(&c->retired, node)
		conduit_free(LIST_OBJECT(node, struct conduit, link));
	free(c);
}

static void
retire_current(struct channel *c)
{
	if (c->current == NULL)
		return;
	list_append(&c->retired, &c->current->link);
	c->current = NULL;
	loop_defer(c->loop, &c->tell);         /* which drops it, if nothing is under way */
}

/*
 * The system's servers may change while we run. A file that is gone, or names none, leaves us
 * without: never 127.0.0.1 by guess.
 */
static void
follow_resolv_conf(struct channel *c)
{
	char *text;
	if (!watched_file_changed(&c->resolv_conf, loop_now(c->loop), RESOLV_CONF_BYTES_MAX, &text))
		return;
	c->n_servers = text == NULL ? 0 : resolv_conf_read(text, c->servers, CHANNEL_SERVERS_MAX);
	free(text);
	retire_current(c);
	if (c->n_servers == 0)
		log_say(LOG_WARN, "%s names no name server: names can't be looked up",
			c->resolv_conf.path);
}

/* NULL: no server, or out of memory. */
static struct conduit *
conduit_for_next(struct channel *c)
{
	struct conduit *p, *fresh;

	if (c->of_system)
		follow_resolv_conf(c);
	p = c->current;
	if (c->n_servers == 0)
		return NULL;
	if (p != NULL && p->n_asked < CONDUIT_QUESTIONS_MAX &&
	    loop_now(c->loop) - p->born_ms < CONDUIT_AGE_MS)
		return p;
	fresh = conduit_new(c);
	if (fresh == NULL)
		return p;
	retire_current(c);
	return c->current = fresh;
}

static void
finish(struct channel *c, struct ask *a)
{
	list_append(&c->done, &a->link);
	loop_defer(c->loop, &c->tell);
}

static enum answer_kind
kind_without_message(int status)
{
	switch (status) {
	case ARES_ENOTFOUND:                   /* c-ares answers .onion itself (RFC 7686) */
	case ARES_EBADNAME:
		return ANSWER_NO_NAME;
	case ARES_ETIMEOUT:
		return ANSWER_TIMEOUT;
	default:
		return ANSWER_FAILED;
	}
}

static void
on_answer(void *arg, int status, int timeouts, unsigned char *message, int len)
{
	struct ask *a = arg;
	struct conduit *p = a->conduit;

	(void)timeouts;
	if (p->channel->dying)
		return;
	if (message != NULL && len > 0)
		answer_read(&a->answer, message, (size_t)len, a->name, a->record);
	else
		a->answer.kind = (uint8_t)kind_without_message(status);
	p->n_under_way--;
	finish(p->channel, a);
}

void
channel_ask(struct channel *c, struct ask *a, const char *name, enum record record, ask_cb *done)
{
	enum { CLASS_IN = 1 };

	list_init(&a->link);
	a->name = name;
	a->record = record;
	a->done = done;
	a->answer = (struct answer){ .kind = ANSWER_NO_NAME, .ttl_s = ANSWER_TTL_NONE };
	if (!record_name_is_valid(name)) {
		finish(c, a);
		return;
	}
	a->conduit = conduit_for_next(c);
	if (a->conduit == NULL) {
		a->answer.kind = ANSWER_FAILED;
		finish(c, a);
		return;
	}
	a->conduit->n_asked++;
	a->conduit->n_under_way++;
	if (!deadline_armed(&c->tick))
		loop_set_deadline(c->loop, &c->tick, TICK_MS);
	ares_query(a->conduit->ares, name, CLASS_IN, record_type(record), on_answer, a);
}
