/*
 * test_events: when a stream of events that has nothing to say is resumed for a heartbeat, by a clock that stands until it is told.
 * What the streams say is in the whole-program tests. The HTTP server's part is played here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <microhttpd.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin/call.h"
#include "admin/events.h"
#include "admin/handlers.h"
#include "base/clock.h"
#include "router/control.h"
#include "router/events.h"

enum { START_MS = 1000000, PATIENCE_SECONDS = 300 };

/* A client: its connection, and what it was given. */
struct client {
	int fds[2];
	struct call_stream stream;
	unsigned n_suspended, n_resumed;
};

static struct {
	pthread_mutex_t lock;          /* over the counts of the clients */
	pthread_cond_t changed;
	struct events *events;
	struct event_feed *feed;
	struct client *calling;        /* in handle_events */
} scene = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

/* ---- what the feed calls ---- */

static struct client *
client_of(struct MHD_Connection *connection)
{
	return (struct client *)(void *)connection;
}

struct event_feed *
call_feed(const struct call *c)
{
	(void)c;
	return scene.feed;
}

struct MHD_Connection *
call_connection(const struct call *c)
{
	(void)c;
	return (struct MHD_Connection *)(void *)scene.calling;
}

const char *
call_header(const struct call *c, const char *name)
{
	(void)c, (void)name;
	return NULL;
}

void
call_add_header(struct call *c, const char *name, const char *value)
{
	(void)c, (void)name, (void)value;
}

void
call_answer_problem(struct call *c, unsigned status, const char *fmt, ...)
{
	(void)c, (void)fmt;
	fail_msg("%u", status);
}

void
call_answer_stream(struct call *c, const struct call_stream *stream)
{
	(void)c;
	scene.calling->stream = *stream;
}

const union MHD_ConnectionInfo *
MHD_get_connection_info(struct MHD_Connection *connection, enum MHD_ConnectionInfoType what, ...)
{
	static union MHD_ConnectionInfo info;
	assert_int_equal(what, MHD_CONNECTION_INFO_CONNECTION_FD);
	info.connect_fd = client_of(connection)->fds[0];
	return &info;
}

static void
count(unsigned *n)
{
	pthread_mutex_lock(&scene.lock);
	++*n;
	pthread_cond_signal(&scene.changed);
	pthread_mutex_unlock(&scene.lock);
}

void
MHD_suspend_connection(struct MHD_Connection *connection)
{
	count(&client_of(connection)->n_suspended);
}

void
MHD_resume_connection(struct MHD_Connection *connection)
{
	count(&client_of(connection)->n_resumed);
}

struct events *
control_events(struct control *c)
{
	(void)c;
	return scene.events;
}

struct fleet *
control_fleet(struct control *c)
{
	(void)c;
	fail_msg("there is nothing to tell");
	return NULL;
}

/* ---- the HTTP server's part ---- */

static void
set_up(void)
{
	clock_fake(START_MS, 0);
	assert_non_null(scene.events = events_new());
	assert_non_null(scene.feed = event_feed_new(NULL));
}

static void
tear_down(void)
{
	event_feed_free(scene.feed);
	events_free(scene.events);
	clock_fake_stop();
}

static void
pass(unsigned ms)
{
	clock_fake(clock_now_ms() + ms, 0);
}

/* What it is told now; "": nothing, and it is suspended. */
static void
check_told(struct client *c, const char *want)
{
	char out[64];
	ssize_t n = c->stream.read(c->stream.arg, 0, out, sizeof out);
	assert_int_equal(n, strlen(want));
	assert_memory_equal(out, want, strlen(want));
}

static void
come(struct client *c)
{
	*c = (struct client){ .n_resumed = 0 };
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, c->fds), 0);
	scene.calling = c;
	handle_events(NULL);
	check_told(c, ": listening\n\n");
	check_told(c, "");
}

static void
leave(struct client *c)
{
	c->stream.over(c->stream.arg);
	close(c->fds[0]);
	close(c->fds[1]);
}

static unsigned
resumed(const struct client *c)
{
	pthread_mutex_lock(&scene.lock);
	unsigned n = c->n_resumed;
	pthread_mutex_unlock(&scene.lock);
	return n;
}

static void
wait_resumed(const struct client *c, unsigned n)
{
	pthread_mutex_lock(&scene.lock);
	while (c->n_resumed < n)
		pthread_cond_wait(&scene.changed, &scene.lock);
	pthread_mutex_unlock(&scene.lock);
}

/* ---- tests ---- */

/*
 * Each in its time, counted from what it was told last; those whose time has not come stay suspended. Whoever is suspended wakes the feed's
 * thread, which finds that few milliseconds are left then: no time passes by itself.
 */
static void
test_a_heartbeat_shows_that_it_lives(void **state)
{
	struct client early, late;
	(void)state;
	set_up();
	come(&early);
	pass(EVENT_HEARTBEAT_MS - 5);
	come(&late);                   /* from now on the feed's thread knows how little is left */
	pass(5);
	for (unsigned n = 1; n <= 2; n++) {
		wait_resumed(&early, n);
		assert_int_equal(resumed(&late), n - 1);
		check_told(&early, ":\n\n");
		pass(EVENT_HEARTBEAT_MS - 10);
		check_told(&early, "");
		pass(5);
		wait_resumed(&late, n);
		assert_int_equal(resumed(&early), n);
		check_told(&late, ":\n\n");
		check_told(&late, "");
		pass(5);
	}
	wait_resumed(&early, 3);
	event_feed_end(scene.feed);    /* resumes all */
	wait_resumed(&late, 3);
	leave(&early);
	leave(&late);
	tear_down();
}

/* One that leaves is resumed, to be let go, though nothing was to be said. */
static void
test_a_client_that_leaves(void **state)
{
	struct client c;
	char out[64];
	(void)state;
	set_up();
	come(&c);
	assert_int_equal(shutdown(c.fds[1], SHUT_WR), 0);
	wait_resumed(&c, 1);
	assert_int_equal(c.stream.read(c.stream.arg, 0, out, sizeof out), MHD_CONTENT_READER_END_WITH_ERROR);
	leave(&c);
	tear_down();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_heartbeat_shows_that_it_lives),
		cmocka_unit_test(test_a_client_that_leaves),
	};
	(void)alarm(PATIENCE_SECONDS);         /* to wait in vain is to fail */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
