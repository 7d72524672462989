#include "admin/events.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <microhttpd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "admin/call.h"
#include "admin/gate.h"
#include "admin/handlers.h"
#include "admin/json.h"
#include "base/clock.h"
#include "base/text.h"
#include "router/control.h"
#include "upstream/fleet.h"

enum { READ_AT_ONCE = 16 };

struct event_feed {
	struct control *control;
	struct events *events;
	char run[20]; /* tells this process's event numbers from another's: part of each id */
	int wake;     /* an eventfd */
	pthread_t thread;
	bool joined; /* event_feed_end's thread's */
	pthread_mutex_t lock; /* over what follows, and over what the streams say is under it */
	struct list streams;
	unsigned n_streams;
	bool ending;
};

struct event_stream {
	struct event_feed *feed;
	struct MHD_Connection *connection;
	int fd; /* the connection's; valid while suspended */

	/* under the feed's lock */
	struct list link;
	bool suspended;
	bool gone;         /* the client has closed */
	uint64_t awake_ms; /* when something was last said */

	/* the HTTP thread's */
	uint64_t next;  /* the number that is read next */
	bool lost_some; /* the id that it came with is of another process */
	char *text;     /* said, and not yet taken */
	size_t len, at;
};

/* ---- events as text ---- */

static json_t *
event_json(const struct router_event *e)
{
	json_t *at = json_time(e->at_ms);
	switch (e->kind) {
	case EVENT_UPSTREAM:
		return json_pack("{s:s, s:o, s:o, s:s, s:s, s:o}", "event", e->what, "at", at,
				 "name", json_text(e->name), "state", e->now, "was", e->was,
				 "reason", json_text_or_null(e->why));
	case EVENT_POOL:
		return json_pack("{s:s, s:o, s:o, s:i}", "event", e->what, "at", at, "name",
				 json_text(e->name), "turned_away", (int)e->n_turned_away);
	case EVENT_POLICY:
		return json_pack("{s:s, s:o, s:o, s:s, s:o, s:o}", "event", e->what, "at", at,
				 "revision", json_count(e->revision), "etag", e->etag, "source",
				 json_text(e->where), "reason", json_text_or_null(e->why));
	case EVENT_LISTENER:
		return json_pack("{s:s, s:o, s:o, s:o}", "event", e->what, "at", at, "name",
				 json_text(e->name), "listen", json_text(e->where));
	}
	json_decref(at);
	return NULL;
}

static void
write_event(FILE *out, const struct event_feed *f, const struct router_event *e)
{
	static const char *const names[] = { [EVENT_UPSTREAM] = "upstream",
					     [EVENT_POOL] = "pool",
					     [EVENT_POLICY] = "policy",
					     [EVENT_LISTENER] = "listener" };
	json_t *value = event_json(e);
	char *data = value != NULL ? json_dumps(value, JSON_COMPACT) : NULL;
	json_decref(value);
	if (data != NULL)
		fprintf(out, "id: %s-%" PRIu64 "\nevent: %s\ndata: %s\n\n", f->run, e->number,
			names[e->kind], data);
	free(data);
}

/* n 0: nobody knows how many. */
static void
write_lost(FILE *out, uint64_t n)
{
	fputs("event: lost\ndata: {\"n\":", out);
	if (n > 0)
		fprintf(out, "%" PRIu64, n);
	else
		fputs("null", out);
	fputs("}\n\n", out);
}

/* ---- what a stream says next: the HTTP thread ---- */

/* A token that was changed holds at once, for streams too. */
static bool
is_still_welcome(const struct event_stream *s)
{
	struct fleet *f = control_fleet(s->feed->control);
	const char *token = fleet_policy(f)->admin.token;
	const char *given = MHD_lookup_connection_value(s->connection, MHD_HEADER_KIND,
							"Authorization");
	bool ok = token == NULL || gate_token_matches(given, token);
	fleet_unref(f);
	return ok;
}

enum refill { REFILL_SOME, REFILL_NONE, REFILL_UNWELCOME, REFILL_FAILED };

static enum refill
refill(struct event_stream *s)
{
	struct router_event list[READ_AT_ONCE];
	uint64_t lost;
	size_t n = events_read(s->feed->events, &s->next, list, READ_AT_ONCE, &lost);
	if (n == 0 && lost == 0 && !s->lost_some)
		return REFILL_NONE;
	/* Each time: the event that told of another token may be lost, or older than the stream. */
	if (!is_still_welcome(s))
		return REFILL_UNWELCOME;
	free(s->text);
	s->text = NULL;
	s->len = s->at = 0;
	FILE *out = open_memstream(&s->text, &s->len);
	if (out == NULL)
		return REFILL_FAILED;
	if (lost > 0 || s->lost_some)
		write_lost(out, lost);
	s->lost_some = false;
	for (size_t i = 0; i < n; i++)
		write_event(out, s->feed, &list[i]);
	return fclose(out) == 0 ? REFILL_SOME : REFILL_FAILED;
}

static void
wake(void *arg)
{
	const struct event_feed *f = arg;
	uint64_t one = 1;
	ssize_t n = write(f->wake, &one, sizeof one);
	(void)n; /* full is awake */
}

static bool
is_due(const struct event_stream *s, uint64_t now_ms)
{
	return now_ms >= s->awake_ms + EVENT_HEARTBEAT_MS;
}

/*
 * There is nothing to read. Looks once more with the lock held: the feed's thread looks with it too,
 * after a post, so one of the two sees an event that comes now.
 */
static ssize_t
pause_or_beat(struct event_stream *s, char *out, size_t cap)
{
	static const char heartbeat[] = ":\n\n";
	struct event_feed *f = s->feed;
	ssize_t n = 0;
	pthread_mutex_lock(&f->lock);
	if (s->gone) {
		n = MHD_CONTENT_READER_END_WITH_ERROR;
	} else if (f->ending) {
		n = MHD_CONTENT_READER_END_OF_STREAM;
	} else if (is_due(s, clock_now_ms()) && cap >= sizeof heartbeat) {
		n = sizeof heartbeat - 1;
		memcpy(out, heartbeat, (size_t)n);
		s->awake_ms = clock_now_ms();
	} else if (events_next(f->events) == s->next) {
		s->suspended = true;
		MHD_suspend_connection(s->connection);
		wake(f);
	}
	pthread_mutex_unlock(&f->lock);
	return n;
}

static ssize_t
take(struct event_stream *s, char *out, size_t cap)
{
	size_t n = s->len - s->at < cap ? s->len - s->at : cap;
	memcpy(out, s->text + s->at, n);
	s->at += n;
	pthread_mutex_lock(&s->feed->lock);
	s->awake_ms = clock_now_ms();
	pthread_mutex_unlock(&s->feed->lock);
	return (ssize_t)n;
}

static ssize_t
on_read(void *arg, uint64_t at, char *out, size_t cap)
{
	struct event_stream *s = arg;
	(void)at;
	enum refill result = s->at < s->len ? REFILL_SOME : refill(s);
	switch (result) {
	case REFILL_SOME:
		return take(s, out, cap);
	case REFILL_NONE:
		return pause_or_beat(s, out, cap);
	case REFILL_UNWELCOME:
		return MHD_CONTENT_READER_END_OF_STREAM;
	case REFILL_FAILED:
		break;
	}
	return MHD_CONTENT_READER_END_WITH_ERROR;
}

static void
on_over(void *arg)
{
	struct event_stream *s = arg;
	pthread_mutex_lock(&s->feed->lock);
	list_remove(&s->link);
	s->feed->n_streams--;
	pthread_mutex_unlock(&s->feed->lock);
	free(s->text);
	free(s);
}

/* ---- a stream begins ---- */

/* "RUN-NUMBER", the id of the last event that the client saw: it goes on behind it. */
static void
go_on_behind(struct event_stream *s, const char *id)
{
	size_t len = strlen(s->feed->run);
	uint64_t number;
	if (strncmp(id, s->feed->run, len) != 0 || id[len] != '-')
		s->lost_some = true;
	else if (text_read_number(id + len + 1, strlen(id + len + 1), s->next, &number) &&
		 number < s->next)
		s->next = number + 1;
}

/* The first words are a comment: the client sees that it listens. */
static struct event_stream *
stream_new(struct event_feed *f, const struct call *c)
{
	static const char hello[] = ": listening\n\n";
	struct event_stream *s = calloc(1, sizeof *s);
	if (s == NULL)
		return NULL;
	s->feed = f;
	s->connection = call_connection(c);
	s->fd = MHD_get_connection_info(s->connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	list_init(&s->link);
	s->awake_ms = clock_now_ms();
	s->next = events_next(f->events);
	const char *id = call_header(c, "Last-Event-ID");
	if (id != NULL)
		go_on_behind(s, id);
	if ((s->text = strdup(hello)) == NULL) {
		free(s);
		return NULL;
	}
	s->len = sizeof hello - 1;
	return s;
}

/* False: why not. */
static bool
stream_enter(struct event_stream *s, const char **why)
{
	struct event_feed *f = s->feed;
	pthread_mutex_lock(&f->lock);
	*why = f->ending				? "stopping"
	       : f->n_streams >= EVENT_STREAMS_MAX ? "as many streams as there may be"
						   : NULL;
	if (*why == NULL) {
		list_append(&f->streams, &s->link);
		f->n_streams++;
	}
	pthread_mutex_unlock(&f->lock);
	return *why == NULL;
}

void
handle_events(struct call *c)
{
	struct event_stream *s = stream_new(call_feed(c), c);
	const char *why = "out of memory";
	if (s == NULL || !stream_enter(s, &why)) {
		if (s != NULL)
			free(s->text);
		free(s);
		call_add_header(c, "Retry-After", "5");
		call_answer_problem(c, 503, "%s", why);
		return;
	}
	call_answer_stream(c, &(struct call_stream){ "text/event-stream", on_read, on_over, s });
}

/* ---- the feed's thread ---- */

/* Those who are suspended, each with its socket to see the client leave. Only this thread resumes,
 * so the sockets stay open until it does. *timeout_ms: until the next heartbeat; -1: none. */
static size_t
gather_waiting(struct event_feed *f, struct pollfd *polls, struct event_stream **waiting,
	       int *timeout_ms)
{
	size_t n = 0;
	uint64_t now = clock_now_ms();
	*timeout_ms = -1;
	pthread_mutex_lock(&f->lock);
	LIST_FOR_EACH (&f->streams, node) {
		struct event_stream *s = LIST_OBJECT(node, struct event_stream, link);
		if (!s->suspended)
			continue;
		uint64_t due = s->awake_ms + EVENT_HEARTBEAT_MS;
		int left = due > now ? (int)(due - now) : 0;
		if (*timeout_ms < 0 || left < *timeout_ms)
			*timeout_ms = left;
		polls[n] = (struct pollfd){ .fd = s->fd, .events = POLLRDHUP };
		waiting[n++] = s;
	}
	pthread_mutex_unlock(&f->lock);
	return n;
}

/* False: that was the last time. */
static bool
resume_some(struct event_feed *f, const struct pollfd *polls, struct event_stream *const *waiting,
	    size_t n)
{
	uint64_t next = events_next(f->events), now = clock_now_ms();
	pthread_mutex_lock(&f->lock);
	for (size_t i = 0; i < n; i++)
		waiting[i]->gone = polls[i].revents != 0;
	LIST_FOR_EACH (&f->streams, node) {
		struct event_stream *s = LIST_OBJECT(node, struct event_stream, link);
		if (!s->suspended || !(f->ending || s->gone || s->next < next || is_due(s, now)))
			continue;
		s->suspended = false;
		MHD_resume_connection(s->connection);
	}
	bool more = !f->ending;
	pthread_mutex_unlock(&f->lock);
	return more;
}

static void *
feed_main(void *arg)
{
	struct event_feed *f = arg;
	struct pollfd polls[1 + EVENT_STREAMS_MAX] = { { .fd = f->wake, .events = POLLIN } };
	struct event_stream *waiting[EVENT_STREAMS_MAX];
	size_t n;
	do {
		int timeout_ms;
		uint64_t drop;
		n = gather_waiting(f, polls + 1, waiting, &timeout_ms);
		if (poll(polls, (nfds_t)n + 1, timeout_ms) <= 0)
			for (size_t i = 0; i <= n; i++)
				polls[i].revents = 0;
		ssize_t len = read(f->wake, &drop, sizeof drop);
		(void)len; /* none: it was not that */
	} while (resume_some(f, polls + 1, waiting, n));
	return NULL;
}

/* ---- life ---- */

struct event_feed *
event_feed_new(struct control *c)
{
	struct event_feed *f = calloc(1, sizeof *f);
	if (f == NULL)
		return NULL;
	f->control = c;
	f->events = control_events(c);
	snprintf(f->run, sizeof f->run, "%" PRIx64, (uint64_t)clock_wall_ms());
	list_init(&f->streams);
	pthread_mutex_init(&f->lock, NULL);
	f->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (f->wake < 0 || pthread_create(&f->thread, NULL, feed_main, f) != 0) {
		f->joined = true;
		event_feed_free(f);
		return NULL;
	}
	pthread_setname_np(f->thread, "events");
	events_watch(f->events, wake, f);
	return f;
}

void
event_feed_end(struct event_feed *f)
{
	if (f->joined)
		return;
	events_watch(f->events, NULL, NULL);
	pthread_mutex_lock(&f->lock);
	f->ending = true;
	pthread_mutex_unlock(&f->lock);
	wake(f);
	pthread_join(f->thread, NULL);
	f->joined = true;
}

void
event_feed_free(struct event_feed *f)
{
	if (f == NULL)
		return;
	event_feed_end(f);
	if (f->wake >= 0)
		close(f->wake);
	pthread_mutex_destroy(&f->lock);
	free(f);
}
