#include "router/listener.h"

#include <errno.h>
#include <stdlib.h>

#include <sys/socket.h>
#include <unistd.h>

#include "base/counters.h"
#include "base/log.h"
#include "base/loop.h"
#include "router/clients.h"
#include "router/session.h"
#include "router/spare.h"
#include "router/worker.h"

static const struct policy_listener *
conf_of(const struct listener *l)
{
	return &l->worker->lease->revision->policy->listeners[l->index];
}

static void
listener_pause(struct listener *l)
{
	if (l->paused)
		return;
	event_del(&l->event);
	l->paused = true;
	counter_add(&l->worker->counters, COUNTER_ACCEPT_PAUSES, 1);
	if (!deadline_armed(&l->worker->resume))
		loop_set_deadline(l->worker->loop, &l->worker->resume, LISTENER_RETRY_MS);
}

void
listener_resume(struct listener *l)
{
	if (l->paused && event_add(&l->event, NULL) == 0)
		l->paused = false;
}

/* Not for each pause: who comes and goes at the limit would fill the log. */
static void
warn_once(struct listener *l, int error)
{
	uint64_t now = loop_now(l->worker->loop);
	if (l->warned && now - l->warned_ms < LISTENER_WARN_MS)
		return;
	l->warned = true;
	l->warned_ms = now;
	struct log_line line;
	log_begin(&line, LOG_WARN, "accepting pauses");
	log_str(&line, "listener", conf_of(l)->name);
	log_errno(&line, error);
	log_end(&line);
}

/* The bound of the policy, or of the descriptors: a client is better off in the backlog than in a session that can't dial. */
static bool
take_place_of_all(struct listener *l)
{
	struct shared *shared = l->worker->shared;
	uint32_t max = l->worker->lease->revision->policy->limits.max_connections;
	bool by_descriptors = max == 0 || max > shared->places;
	unsigned open = atomic_load_explicit(&shared->open, memory_order_relaxed);
	if (by_descriptors)
		max = shared->places;
	while (open < max)
		if (atomic_compare_exchange_weak_explicit(&shared->open, &open, open + 1, memory_order_relaxed,
							  memory_order_relaxed))
			return true;
	if (by_descriptors)
		warn_once(l, EMFILE);
	return false;
}

/* Places are taken before accept(2), so that a client never leaves the backlog only to be turned away. */
static bool
take_places(struct listener *l)
{
	if (!take_place_of_all(l))
		return false;
	if (front_take(l->front, conf_of(l)->max_connections))
		return true;
	atomic_fetch_sub_explicit(&l->worker->shared->open, 1, memory_order_relaxed);
	return false;
}

static void
give_places_back(struct listener *l)
{
	front_give_back(l->front);
	atomic_fetch_sub_explicit(&l->worker->shared->open, 1, memory_order_relaxed);
}

/* What accept(2) failing with this means: nobody there any more, a passing trouble of one client, or of ours. */
static bool
accept_failed(struct listener *l, int error)
{
	switch (error) {
	case EAGAIN:
		l->accepts = 1;
		l->in_a_row = 0;
		return false;
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case ENOBUFS:
		warn_once(l, error);
		spare_note(l->worker->shared, loop_now(l->worker->loop), error);
		relay_pool_shrink(&l->worker->relays);
		listener_pause(l);
		return false;
	case EBADF:
	case EINVAL:
	case ENOTSOCK:
		warn_once(l, error);
		if (!l->paused)
			event_del(&l->event);
		l->paused = true;
		return false;
	default:                       /* ECONNABORTED, EINTR, EPROTO, ENETDOWN, ...: that client's trouble */
		return true;
	}
}

bool
listener_count_client(struct worker *w, struct front *front, const struct policy_listener *conf,
    const struct endpoint *client)
{
	if (clients_take(w->shared->clients, front, client, conf->max_connections_per_client))
		return true;
	atomic_fetch_add_explicit(&front->refused, 1, memory_order_relaxed);
	counter_add(&w->counters, COUNTER_CLIENT_LIMIT, 1);
	return false;
}

static void
admit(struct listener *l, int fd, int spare, const struct endpoint *client)
{
	const struct policy_listener *conf = conf_of(l);
	struct worker *w = l->worker;
	bool count = conf->max_connections_per_client > 0 && !conf->proxy_protocol;
	if (count && !listener_count_client(w, l->front, conf, client)) {
		give_places_back(l);
		spare_drop(&spare);
		close(fd);
		return;
	}
	atomic_fetch_add_explicit(&l->front->accepted, 1, memory_order_relaxed);
	session_start(w, l->index, fd, spare, client, count);
}

/* False: no more for this turn. */
static bool
accept_one(struct listener *l)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	int spare;
	if (!take_places(l)) {
		listener_pause(l);
		return false;
	}
	if (!spare_take(l->worker->shared, loop_now(l->worker->loop), &spare)) {
		int error = errno;
		give_places_back(l);
		return accept_failed(l, error);
	}
	int fd = accept4(atomic_load_explicit(&l->front->fds[l->socket], memory_order_relaxed),
			 (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		int error = errno;
		spare_drop(&spare);
		give_places_back(l);
		return accept_failed(l, error);
	}
	struct endpoint client;
	endpoint_from_sockaddr(&client, (struct sockaddr *)&ss, len);
	admit(l, fd, spare, &client);
	return true;
}

/* accept(2) in vain costs as much as a send, so more than one is tried only where clients have been waiting turn after turn. */
static void
adapt_accepts(struct listener *l)
{
	uint64_t turn = loop_turns(l->worker->loop);
	if (turn != l->turn + 1) {
		l->accepts = 1;
		l->in_a_row = 0;
	} else if (++l->in_a_row % LISTENER_PATIENCE == 0 && l->accepts < LISTENER_ACCEPTS_MAX) {
		l->accepts *= 2;
	}
	l->turn = turn;
}

static void
on_acceptable(evutil_socket_t fd, short what, void *arg)
{
	struct listener *l = arg;
	(void)fd, (void)what;
	adapt_accepts(l);
	for (unsigned i = 0; i < l->accepts; i++)
		if (!accept_one(l))
			return;
}

struct listener *
listener_open(struct worker *w, struct front *front, unsigned socket, uint32_t index)
{
	struct listener *l = calloc(1, sizeof *l);
	if (l == NULL)
		return NULL;
	*l = (struct listener){ .worker = w, .front = front_ref(front), .socket = socket, .index = index, .accepts = 1 };
	list_append(&w->listeners, &l->link);
	event_assign(&l->event, loop_base(w->loop), atomic_load(&front->fds[socket]), EV_READ | EV_PERSIST,
		     on_acceptable, l);
	if (event_add(&l->event, NULL) < 0) {
		listener_close(l);
		return NULL;
	}
	return l;
}

void
listener_abandon(struct listener *l)
{
	if (!l->paused)
		event_del(&l->event);
	list_remove(&l->link);
	front_close_socket(l->front, l->socket);
	front_unref(l->front);
	free(l);
}

void
listener_close(struct listener *l)
{
	if (!l->paused)
		event_del(&l->event);
	l->paused = true;                      /* so that a limit met now can't pause it again */
	for (unsigned i = 0; i < FRONT_BACKLOG && accept_one(l); i++)
		;
	listener_abandon(l);
}
