/*
 * peer: a scripted peer for the tests of connector and dialer. See peer.h.
 */
#include "tests/upstream/peer.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <dirent.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/list.h"
#include "base/loop.h"
#include "base/stream.h"
#include "base/tls.h"

enum { DATA_MAX = 16384, TAIL_MAX = 1024, DEADLINE_S = 5 };

struct peer {
	struct loop *loop;
	char *script, *later; /* later: of all connections but the first; NULL: the same */
	int fd;
	struct event *event;
	struct endpoint at;
	struct list talks;
	struct tls_context *tls;
	unsigned accepted, played, left;
	char complaint[256];
	char tail[TAIL_MAX];
};

/* One connection. */
struct talk {
	struct list link;
	struct peer *peer;
	struct loop_task next_byte;
	struct stream stream;
	const char *at; /* in the script */
	size_t n_done;  /* bytes of the token at `at` */
	size_t tail_len;
};

static void
complain(struct peer *p, const char *what, const char *token)
{
	if (p->complaint[0] == '\0')
		snprintf(p->complaint, sizeof p->complaint, "%s at %.60s", what, token);
}

static void
talk_free(struct talk *t)
{
	list_remove(&t->link);
	loop_undefer(t->peer->loop, &t->next_byte);
	stream_close(&t->stream);
	free(t);
}

/* The other end is gone. */
static void
leave(struct talk *t)
{
	t->peer->left++;
	talk_free(t);
}

static uint8_t
hex_digit(char c)
{
	return (uint8_t)(isdigit((unsigned char)c) ? c - '0'
						   : tolower((unsigned char)c) - 'a' + 10);
}

/* Reads DATA at text; returns what follows. */
static const char *
read_data(const char *text, uint8_t *out, size_t *n)
{
	*n = 0;
	if (*text == '\'') {
		for (text++; *text != '\''; text++) {
			assert(*text != '\0' && *n + 2 <= DATA_MAX);
			if (*text == '~')
				out[(*n)++] = '\r';
			out[(*n)++] = *text == '~' ? '\n' : (uint8_t)*text;
		}
		return text + 1;
	}
	for (; isxdigit((unsigned char)*text); text += 2) {
		assert(isxdigit((unsigned char)text[1]) && *n < DATA_MAX);
		out[(*n)++] = (uint8_t)(hex_digit(text[0]) << 4 | hex_digit(text[1]));
	}
	assert(*text == ' ' || *text == '\0');
	return text;
}

/* Each play_x returns true when its token is done. After a false the talk may be over. */
static bool
play_expect(struct talk *t, const uint8_t *data, size_t n)
{
	uint8_t got[DATA_MAX];
	size_t n_got;
	switch (stream_read(&t->stream, got, n - t->n_done, &n_got)) {
	case STREAM_AGAIN:
		return false;
	case STREAM_OK:
		break;
	default:
		complain(t->peer, "the other end left", t->at);
		leave(t);
		return false;
	}
	if (memcmp(got, data + t->n_done, n_got) != 0) {
		complain(t->peer, "other bytes came", t->at);
		t->at = "";
		return false;
	}
	t->n_done += n_got;
	return t->n_done == n || play_expect(t, data, n);
}

/* The > of a script: all n bytes, which a socket takes at once. False: the other end has heard
 * enough and left. */
static bool
send_all(struct talk *t, const uint8_t *data, size_t n)
{
	size_t sent;
	enum stream_status s = stream_write(&t->stream, data, n, &sent);
	if (s == STREAM_ERROR)
		leave(t);
	else if (s != STREAM_OK || sent != n)
		complain(t->peer, "can't send", t->at);
	return s != STREAM_ERROR;
}

static bool
play_dribble(struct talk *t, const uint8_t *data, size_t n)
{
	if (!send_all(t, data + t->n_done, 1))
		return false;
	t->n_done++;
	if (t->n_done < n)
		loop_defer(t->peer->loop, &t->next_byte);
	return t->n_done == n;
}

/* TLS from here on, within that which is there. */
static bool
play_tls(struct talk *t)
{
	if (t->n_done == 0)
		stream_start_tls(&t->stream, tls_new(t->peer->tls, t->stream.fd, NULL));
	t->n_done = 1;
	enum stream_status status = stream_handshake(&t->stream);
	if (status == STREAM_OK) {
		t->n_done = 0;
		t->at += strlen("tls");
		return true;
	}
	if (status != STREAM_AGAIN) {
		complain(t->peer, tls_error_text(t->stream.tls), t->at);
		leave(t);
	}
	return false;
}

/* False: there is nothing more to play now, and the talk may be over. */
static bool
play_word(struct talk *t)
{
	if (strncmp(t->at, "tls", 3) == 0)
		return play_tls(t);
	if (strncmp(t->at, "fin", 3) == 0) {
		stream_shut_write(&t->stream);
		t->at += strlen("fin");
		return true;
	}
	if (strncmp(t->at, "reset", 5) == 0)
		stream_reset(&t->stream);
	else
		assert(strncmp(t->at, "close", 5) == 0);
	t->peer->played++;
	talk_free(t);
	return false;
}

static void
keep_tail(struct talk *t)
{
	struct peer *p = t->peer;
	size_t n;
	for (;;) {
		char *room = p->tail + t->tail_len;
		enum stream_status s =
		    stream_read(&t->stream, room, TAIL_MAX - 1 - t->tail_len, &n);
		if (s == STREAM_AGAIN)
			return;
		if (s != STREAM_OK)
			break;
		t->tail_len += n;
		p->tail[t->tail_len] = '\0';
	}
	leave(t);
}

static void
play(struct talk *t)
{
	uint8_t data[DATA_MAX];
	while (*t->at != '\0') {
		size_t n;
		char kind = *t->at;
		if (kind == ' ') {
			t->at++;
			continue;
		}
		if (strchr("<>:", kind) == NULL) {
			if (!play_word(t))
				return;
			continue;
		}
		const char *next = read_data(t->at + 1, data, &n);
		bool done = kind == '<'   ? play_expect(t, data, n)
			    : kind == '>' ? send_all(t, data, n)
					  : play_dribble(t, data, n);
		if (!done)
			return;
		t->n_done = 0;
		t->at = next;
		if (*next == '\0')
			t->peer->played++;
	}
	keep_tail(t);
}

static void
on_ready(struct stream *s, void *arg)
{
	(void)s;
	play(arg);
}

static void
on_next_byte(struct loop_task *task)
{
	play(CONTAINER_OF(task, struct talk, next_byte));
}

static void
on_accept(evutil_socket_t fd, short what, void *arg)
{
	struct peer *p = arg;
	(void)what;
	int got = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (got < 0)
		return;
	int on = 1; /* each byte of a dribble is a segment of its own */
	setsockopt(got, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	struct talk *t = calloc(1, sizeof *t);
	assert(t != NULL);
	p->accepted++;
	p->tail[0] = '\0';
	t->peer = p;
	t->at = p->accepted > 1 && p->later != NULL ? p->later : p->script;
	loop_task_init(&t->next_byte, on_next_byte);
	list_init(&t->link);
	list_append(&p->talks, &t->link);
	stream_init(&t->stream, p->loop);
	if (!stream_open(&t->stream, got, STREAM_READABLE | STREAM_WRITABLE, on_ready, t))
		abort();
	play(t);
}

static int
bound_socket(struct endpoint *at)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof sin;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert(fd >= 0);
	if (bind(fd, (struct sockaddr *)&sin, sizeof sin) != 0 ||
	    getsockname(fd, (struct sockaddr *)&sin, &len) != 0)
		abort();
	endpoint_from_sockaddr(at, (struct sockaddr *)&sin, len);
	return fd;
}

struct peer *
peer_new(struct loop *l, const char *script)
{
	struct peer *p = calloc(1, sizeof *p);
	assert(p != NULL);
	p->loop = l;
	p->script = strdup(script);
	list_init(&p->talks);
	p->fd = bound_socket(&p->at);
	if (listen(p->fd, 16) != 0)
		abort();
	p->event = event_new(loop_base(l), p->fd, EV_READ | EV_PERSIST, on_accept, p);
	event_add(p->event, NULL);
	return p;
}

void
peer_free(struct peer *p)
{
	if (p == NULL)
		return;
	while (!list_empty(&p->talks))
		talk_free(LIST_OBJECT(p->talks.next, struct talk, link));
	event_free(p->event);
	close(p->fd);
	free(p->script);
	free(p->later);
	free(p);
}

void
peer_play_later(struct peer *p, const char *script)
{
	assert(p->later == NULL);
	p->later = strdup(script);
}

void
peer_use_tls(struct peer *p, struct tls_context *c)
{
	p->tls = c;
}

const struct endpoint *
peer_at(const struct peer *p)
{
	return &p->at;
}

unsigned
peer_accepted(const struct peer *p)
{
	return p->accepted;
}

unsigned
peer_played(const struct peer *p)
{
	return p->played;
}

const char *
peer_complaint(const struct peer *p)
{
	return p->complaint;
}

const char *
peer_tail(const struct peer *p)
{
	return p->tail;
}

unsigned
peer_left(const struct peer *p)
{
	return p->left;
}

int
refusing_port(struct endpoint *at)
{
	return bound_socket(at); /* bound, so nobody else gets it; not listening */
}

void
silent_port(struct endpoint *at, int fds[2])
{
	struct sockaddr_storage ss;
	fds[0] = bound_socket(at);
	if (listen(fds[0], 0) != 0)
		abort();
	fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = endpoint_to_sockaddr(at, &ss);
	if (connect(fds[1], (struct sockaddr *)&ss, len) != 0)
		abort();
}

static double
real_seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

bool
turn_until(struct loop *l, const bool *done)
{
	double end = real_seconds() + DEADLINE_S;
	while (!*done && real_seconds() < end)
		loop_turn(l, 10);
	return *done;
}

void
turn_some(struct loop *l)
{
	for (int i = 0; i < 20; i++)
		loop_turn(l, 0);
	loop_turn(l, 1);
}

unsigned
open_descriptors(void)
{
	unsigned n = 0;
	DIR *d = opendir("/proc/self/fd");
	assert(d != NULL);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n - 3; /* ".", ".." and the directory itself */
}
