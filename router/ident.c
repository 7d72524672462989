#include "router/ident.h"

#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "base/stream.h"
#include "socks/ident.h"
#include "upstream/connector.h"

struct ident {
	struct loop *loop;
	struct connector connector;
	struct stream stream;
	struct deadline deadline;
	struct endpoint identd, source;
	struct ident_ports ports;
	uint8_t query[IDENT_QUERY_MAX];
	size_t query_len, query_sent;
	uint8_t in[IDENT_LINE_MAX + 2]; /* with CRLF */
	size_t in_len;
	ident_cb *cb;
	void *arg;
};

void
ident_cancel(struct ident *i)
{
	if (i == NULL)
		return;
	connector_cancel(&i->connector);
	stream_close(&i->stream);
	loop_clear_deadline(i->loop, &i->deadline);
	free(i);
}

/* The last thing that is done with it. */
static void
ident_end(struct ident *i, enum ident_outcome outcome, const char *user)
{
	char name[IDENT_USER_MAX + 1] = "";
	ident_cb *cb = i->cb;
	void *arg = i->arg;
	memcpy(name, user, strlen(user));
	ident_cancel(i);
	cb(outcome, name, arg);
}

/* True: the line is not whole yet. */
static bool
ident_wants_more(struct ident *i)
{
	struct ident_answer answer;
	size_t used;
	switch (ident_parse_answer(i->in, i->in_len, i->ports, &answer, &used)) {
	case PARSE_MORE:
		return true;
	case PARSE_OK:
		ident_end(i, answer.found ? IDENT_NAMED : IDENT_UNNAMED, answer.user);
		return false;
	default:
		ident_end(i, IDENT_SILENT, "");
		return false;
	}
}

static void
ident_listen(struct ident *i)
{
	while (i->stream.ready & STREAM_READABLE) {
		size_t n = 0;
		switch (stream_read(&i->stream, i->in + i->in_len, sizeof i->in - i->in_len, &n)) {
		case STREAM_OK:
			i->in_len += n;
			if (!ident_wants_more(i))
				return;
			break;
		case STREAM_AGAIN:
			return;
		default:
			ident_end(i, IDENT_SILENT, "");
			return;
		}
	}
}

/* False: it ended. */
static bool
ident_ask(struct ident *i)
{
	while (i->query_sent < i->query_len && (i->stream.ready & STREAM_WRITABLE)) {
		size_t n = 0;
		enum stream_status status = stream_write(&i->stream, i->query + i->query_sent,
							 i->query_len - i->query_sent, &n);
		if (status == STREAM_ERROR) {
			ident_end(i, IDENT_SILENT, "");
			return false;
		}
		i->query_sent += n;
	}
	return true;
}

static void
on_ready(struct stream *stream, void *arg)
{
	(void)stream;
	if (ident_ask(arg))
		ident_listen(arg);
}

static void
on_connected(int error, const struct endpoint *peer, const struct endpoint *local, void *arg)
{
	struct ident *i = arg;
	(void)peer, (void)local;
	if (error != 0) {
		ident_end(i, IDENT_SILENT, "");
		return;
	}
	stream_set_callback(&i->stream, on_ready, i);
	on_ready(&i->stream, i);
}

static void
on_deadline(struct deadline *d)
{
	ident_end(CONTAINER_OF(d, struct ident, deadline), IDENT_SILENT, "");
}

struct ident *
ident_start(struct loop *l, const struct ident_question *q, ident_cb *cb, void *arg)
{
	struct ident *i = calloc(1, sizeof *i);
	if (i == NULL)
		return NULL;
	i->loop = l;
	i->cb = cb;
	i->arg = arg;
	i->identd = *q->client;
	i->identd.port = q->port;
	i->ports = (struct ident_ports){.theirs = q->client->port, .ours = q->reached->port};
	i->query_len = ident_write_query(i->query, sizeof i->query, i->ports);
	if (q->reached_is_ours)
		i->source = *q->reached;
	i->source.port = 0;
	stream_init(&i->stream, l);
	deadline_init(&i->deadline, on_deadline);
	loop_set_deadline(l, &i->deadline, q->timeout_ms);
	struct connect_plan plan = {.addrs = &i->identd, .n_addrs = 1, .source = &i->source};
	connector_start(&i->connector, l, &plan, &i->stream, on_connected, i);
	return i;
}

enum verdict
ident_judge(const struct policy_network *n, enum ident_outcome outcome, const char *user,
	    const char *claimed)
{
	if (outcome == IDENT_SILENT)
		return VERDICT_IDENT_UNREACHABLE;
	if (outcome != IDENT_NAMED || !policy_network_has_user(n, user))
		return VERDICT_IDENT_DIFFERS;
	return *claimed == '\0' || strcmp(claimed, user) == 0 ? VERDICT_GRANTED
							      : VERDICT_IDENT_DIFFERS;
}
