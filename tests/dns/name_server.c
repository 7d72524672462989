/*
 * name_server: see the header.
 */
#include "tests/dns/name_server.h"

#include "base/list.h"
#include "base/loop.h"
#include "base/reader.h"
#include "tests/dns/message.h"

#include <event2/event.h>

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { QUERIES_MAX = 20000, HEADER_LEN = 12 };

struct query {
	struct list link;              /* in held */
	char name[256];
	uint16_t type, id;
	struct sockaddr_storage from;
	socklen_t from_len;
	int tcp;                       /* -1: by UDP */
};

struct seen {
	char name[64];
	uint16_t type;
};

struct tcp_client {
	struct list link;
	struct name_server *server;
	struct event *event;
	int fd;
	uint8_t bytes[512];
	size_t len;
};

struct name_server {
	struct loop *loop;
	const struct scene *script;
	size_t n_script;
	int udp, tcp;
	struct event *on_udp, *on_tcp;
	struct sockaddr_in at;
	struct list held, clients;
	struct seen *seen;
	size_t n_seen;
	uint8_t ports[65536 / 8];
	unsigned n_ports;
};

static void
send_bytes(struct name_server *s, const struct query *q, const void *bytes, size_t len)
{
	if (q->tcp < 0) {
		assert_int_equal(sendto(s->udp, bytes, len, 0, (const struct sockaddr *)&q->from, q->from_len), len);
		return;
	}
	uint8_t framed[MESSAGE_MAX + 2];
	struct writer w = writer_of(framed, sizeof framed);
	write_u16(&w, (uint16_t)len);
	write_bytes(&w, bytes, len);
	assert_int_equal(write(q->tcp, framed, w.len), w.len);
}

static void
send_answer(struct name_server *s, const struct query *q, const struct scene *scene, uint16_t id, unsigned flags)
{
	uint8_t message[MESSAGE_MAX];
	size_t len = message_write(message, id, scene->rcode | flags, q->name, q->type,
				   scene->records == NULL ? "" : scene->records);
	send_bytes(s, q, message, len);
}

static void
send_wrong_name(struct name_server *s, const struct query *q, const struct scene *scene)
{
	struct query other = *q;
	other.name[0] = other.name[0] == 'x' ? 'y' : 'x';
	send_answer(s, &other, scene, q->id, 0);
}

static const struct scene *
scene_for(const struct name_server *s, const struct query *q)
{
	static const struct scene otherwise = { NULL, 0, PLAY_ANSWER, MESSAGE_NXDOMAIN, "test SOA 900 5" };
	for (size_t i = 0; i < s->n_script; i++) {
		const struct scene *scene = &s->script[i];
		if (strcmp(scene->name, q->name) == 0 && (scene->type == 0 || scene->type == q->type))
			return scene;
	}
	return &otherwise;
}

static void
hold(struct name_server *s, const struct query *q)
{
	struct query *held = malloc(sizeof *held);
	assert_non_null(held);
	*held = *q;
	list_init(&held->link);
	list_append(&s->held, &held->link);
}

static void
play(struct name_server *s, const struct query *q)
{
	const struct scene *scene = scene_for(s, q);
	uint8_t garbage[40];

	switch (scene->play) {
	case PLAY_ANSWER:
		send_answer(s, q, scene, q->id, 0);
		break;
	case PLAY_SILENCE:
		break;
	case PLAY_HOLD:
		hold(s, q);
		break;
	case PLAY_EMPTY_FIRST:
		send_bytes(s, q, "", 0);
		send_answer(s, q, scene, q->id, 0);
		break;
	case PLAY_GARBAGE:
		memset(garbage, 0xff, sizeof garbage);
		send_bytes(s, q, garbage, sizeof garbage);
		send_bytes(s, q, garbage, 1);
		break;
	case PLAY_WRONG_ID:
	case PLAY_WRONG_ID_FIRST:
		send_answer(s, q, scene, (uint16_t)~q->id, 0);
		if (scene->play == PLAY_WRONG_ID_FIRST)
			send_answer(s, q, scene, q->id, 0);
		break;
	case PLAY_WRONG_NAME:
		send_wrong_name(s, q, scene);
		break;
	case PLAY_TRUNCATED:
		send_answer(s, q, q->tcp < 0 ? &(struct scene){ 0 } : scene, q->id, q->tcp < 0 ? MESSAGE_TRUNCATED : 0);
		break;
	}
}

static void
read_query(struct query *q, const uint8_t *bytes, size_t len)
{
	struct reader r = reader_of(bytes, len);
	size_t n = 0;

	q->id = read_u16(&r);
	(void)read_bytes(&r, HEADER_LEN - 2);
	for (uint8_t label; (label = read_u8(&r)) > 0;) {
		const uint8_t *text = read_bytes(&r, label);
		assert_non_null(text);
		n += (size_t)snprintf(q->name + n, sizeof q->name - n, "%s%.*s", n > 0 ? "." : "", (int)label, (const char *)text);
		assert_true(n < sizeof q->name);
	}
	q->type = read_u16(&r);
	assert_false(r.truncated);
}

static void
handle(struct name_server *s, struct query *q, const uint8_t *bytes, size_t len)
{
	read_query(q, bytes, len);
	assert_true(s->n_seen < QUERIES_MAX);
	struct seen *seen = &s->seen[s->n_seen++];
	snprintf(seen->name, sizeof seen->name, "%.63s", q->name);
	seen->type = q->type;
	play(s, q);
}

static void
note_port(struct name_server *s, const struct query *q)
{
	uint16_t port = ((const struct sockaddr_in *)&q->from)->sin_port;
	uint8_t bit = (uint8_t)(1 << (port & 7));
	if ((s->ports[port >> 3] & bit) == 0)
		s->n_ports++;
	s->ports[port >> 3] |= bit;
}

static void
on_udp(evutil_socket_t fd, short what, void *arg)
{
	struct name_server *s = arg;
	uint8_t bytes[1024];
	struct query q = { .tcp = -1 };

	(void)what;
	for (;;) {
		q.from_len = sizeof q.from;
		ssize_t n = recvfrom(fd, bytes, sizeof bytes, MSG_DONTWAIT, (struct sockaddr *)&q.from, &q.from_len);
		if (n < 0)
			return;
		note_port(s, &q);
		handle(s, &q, bytes, (size_t)n);
	}
}

static void
client_close(struct tcp_client *c)
{
	event_free(c->event);
	close(c->fd);
	list_remove(&c->link);
	free(c);
}

static void
on_client(evutil_socket_t fd, short what, void *arg)
{
	struct tcp_client *c = arg;
	struct query q = { .tcp = c->fd };
	ssize_t n = read(fd, c->bytes + c->len, sizeof c->bytes - c->len);

	(void)what;
	if (n <= 0) {
		client_close(c);
		return;
	}
	c->len += (size_t)n;
	while (c->len >= 2 && c->len >= 2U + (unsigned)(c->bytes[0] << 8 | c->bytes[1])) {
		size_t len = (size_t)(c->bytes[0] << 8 | c->bytes[1]);
		handle(c->server, &q, c->bytes + 2, len);
		c->len -= len + 2;
		memmove(c->bytes, c->bytes + 2 + len, c->len);
	}
}

static void
on_accept(evutil_socket_t fd, short what, void *arg)
{
	struct name_server *s = arg;
	struct tcp_client *c = calloc(1, sizeof *c);

	(void)what;
	assert_non_null(c);
	c->server = s;
	c->fd = accept(fd, NULL, NULL);
	assert_true(c->fd >= 0);
	c->event = event_new(loop_base(s->loop), c->fd, EV_READ | EV_PERSIST, on_client, c);
	assert_int_equal(event_add(c->event, NULL), 0);
	list_init(&c->link);
	list_append(&s->clients, &c->link);
}

/* A port that is free for TCP and UDP alike. */
static bool
bind_both(struct name_server *s)
{
	socklen_t len = sizeof s->at;
	s->at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	s->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	s->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(s->udp >= 0 && s->tcp >= 0);
	assert_int_equal(bind(s->udp, (struct sockaddr *)&s->at, len), 0);
	assert_int_equal(getsockname(s->udp, (struct sockaddr *)&s->at, &len), 0);
	if (bind(s->tcp, (struct sockaddr *)&s->at, len) == 0 && listen(s->tcp, 16) == 0)
		return true;
	close(s->udp);
	close(s->tcp);
	return false;
}

struct name_server *
name_server_start(struct loop *l, const struct scene *script, size_t n)
{
	struct name_server *s = calloc(1, sizeof *s);
	int size = 4 << 20;

	assert_non_null(s);
	s->loop = l;
	name_server_play(s, script, n);
	s->seen = calloc(QUERIES_MAX, sizeof *s->seen);
	assert_non_null(s->seen);
	list_init(&s->held);
	list_init(&s->clients);
	for (int tries = 0; !bind_both(s); tries++)
		assert_true(tries < 20);
	setsockopt(s->udp, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	s->on_udp = event_new(loop_base(l), s->udp, EV_READ | EV_PERSIST, on_udp, s);
	s->on_tcp = event_new(loop_base(l), s->tcp, EV_READ | EV_PERSIST, on_accept, s);
	assert_int_equal(event_add(s->on_udp, NULL), 0);
	assert_int_equal(event_add(s->on_tcp, NULL), 0);
	return s;
}

void
name_server_stop(struct name_server *s)
{
	if (s == NULL)
		return;
	LIST_FOR_EACH(&s->held, node)
		free(LIST_OBJECT(node, struct query, link));
	LIST_FOR_EACH(&s->clients, node)
		client_close(LIST_OBJECT(node, struct tcp_client, link));
	event_free(s->on_udp);
	event_free(s->on_tcp);
	close(s->udp);
	close(s->tcp);
	free(s->seen);
	free(s);
}

void
name_server_play(struct name_server *s, const struct scene *script, size_t n)
{
	s->script = script;
	s->n_script = n;
}

struct endpoint
name_server_at(const struct name_server *s)
{
	struct endpoint e;
	endpoint_from_sockaddr(&e, (const struct sockaddr *)&s->at, sizeof s->at);
	return e;
}

unsigned
name_server_queries(const struct name_server *s, const char *name, uint16_t type)
{
	unsigned n = 0;
	for (size_t i = 0; i < s->n_seen; i++)
		n += (name == NULL || strcmp(s->seen[i].name, name) == 0) && (type == 0 || s->seen[i].type == type);
	return n;
}

unsigned
name_server_release(struct name_server *s)
{
	struct list *node;
	unsigned n = 0;
	while ((node = list_take_first(&s->held)) != NULL) {
		struct query *q = LIST_OBJECT(node, struct query, link);
		send_answer(s, q, scene_for(s, q), q->id, 0);
		free(q);
		n++;
	}
	return n;
}

unsigned
name_server_ports_seen(const struct name_server *s)
{
	return s->n_ports;
}
