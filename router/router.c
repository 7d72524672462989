#include "router/router.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/gss_pool.h"
#include "base/log.h"
#include "dns/resolver.h"
#include "router/auth.h"
#include "router/clients.h"
#include "router/keepsake.h"
#include "router/places.h"
#include "router/probe.h"
#include "router/publish.h"
#include "router/takeover.h"
#include "router/tell.h"
#include "router/watch.h"
#include "upstream/board.h"
#include "upstream/dialer.h"
#include "upstream/health.h"

enum { DESCRIPTORS_AT_START = 64, GSS_THREADS = 2, INITIATOR_THREADS = 4 };

static const int handled_signals[] = { SIGHUP, SIGTERM, SIGINT, SIGUSR2 };

/* A message without contents, from control to worker or back. */
struct note {
	struct message message;
	struct control *control;
	struct worker *worker;
};

static bool
note_post(struct control *c, struct worker *w, struct mailbox *to,
          void (*handle)(struct message *m, void *owner, bool closing))
{
	struct note *n = calloc(1, sizeof *n);
	if (n == NULL)
		return false;
	list_init(&n->message.link);
	n->message.handle = handle;
	n->control = c;
	n->worker = w;
	if (mailbox_post(to, &n->message))
		return true;
	free(n);
	return false;
}

/* ---- workers' lives ---- */

static void
on_ping(struct message *m, void *owner, bool closing)
{
	struct worker_thread *t = CONTAINER_OF(m, struct worker_thread, ping);
	(void)owner, (void)closing;
	atomic_store_explicit(&t->ping_seen_ms, clock_now_ms(), memory_order_release);
}

/* A loop with nothing to do does not turn, so it is asked to. */
static void
on_ping_timer(struct deadline *d)
{
	struct control *c = CONTAINER_OF(d, struct control, ping_timer);
	for (unsigned i = 0; i < c->n_workers; i++) {
		struct worker_thread *t = &c->threads[i];
		uint64_t sent = atomic_load(&t->ping_sent_ms);
		if (sent > atomic_load_explicit(&t->ping_seen_ms, memory_order_acquire))
			continue;              /* still on its way */
		uint64_t now = clock_now_ms();
		if (now <= sent)
			continue;
		atomic_store(&t->ping_sent_ms, now);
		list_init(&t->ping.link);
		t->ping.handle = on_ping;
		if (!mailbox_post(t->worker->mailbox, &t->ping))
			atomic_store(&t->ping_seen_ms, now);   /* it is going away */
	}
	loop_set_deadline(c->loop, &c->ping_timer, PING_MS);
}

/*
 * Who wakes as SCHED_BATCH takes no core away from whoever runs: on a full machine more has come by the time the worker looks, and
 * each of its turns does more. On a free core it starts as early as ever. Whoever chose a policy of their own (chrt) keeps it.
 */
static void
batch_this_thread(void)
{
	struct sched_param none = { 0 };
	if (sched_getscheduler(0) == SCHED_OTHER)
		(void)sched_setscheduler(0, SCHED_BATCH, &none);   /* refused by a sandbox: slower, no more */
}

static void *
worker_main(void *arg)
{
	struct worker *w = arg;
	batch_this_thread();
	loop_run(w->loop);
	return NULL;
}

static void
on_stop(struct message *m, void *owner, bool closing)
{
	struct worker *w = owner;
	if (!closing)
		loop_stop(w->loop);
	free(CONTAINER_OF(m, struct note, message));
}

/* In the worker's thread its sessions, dials and look-ups end, so that nothing is under way when it is joined. */
static void
on_cut(struct message *m, void *owner, bool closing)
{
	if (!closing)
		worker_cut(owner);
	free(CONTAINER_OF(m, struct note, message));
}

static bool
start_workers(struct control *c)
{
	for (unsigned i = 0; i < c->n_workers; i++) {
		char name[24];
		if (pthread_create(&c->threads[i].thread, NULL, worker_main, c->threads[i].worker) != 0)
			return false;
		c->threads[i].started = true;
		snprintf(name, sizeof name, "worker-%u", i);
		pthread_setname_np(c->threads[i].thread, name);
	}
	return true;
}

static void
stop_workers(struct control *c)
{
	for (unsigned i = 0; i < c->n_workers; i++)
		if (c->threads[i].started && !note_post(c, c->threads[i].worker, c->threads[i].worker->mailbox, on_stop))
			log_say(LOG_ERROR, "can't stop worker %u", i);
	for (unsigned i = 0; i < c->n_workers; i++)
		if (c->threads[i].started) {
			pthread_join(c->threads[i].thread, NULL);
			c->threads[i].started = false;
		}
}

/* ---- drain ---- */

static void
on_worker_is_drained(struct message *m, void *owner, bool closing)
{
	struct control *c = owner;
	free(CONTAINER_OF(m, struct note, message));
	if (!closing && --c->undrained == 0)
		loop_stop(c->loop);
}

static struct control *control_of(struct worker *w);

static void
on_drained(struct worker *w)
{
	struct control *c = control_of(w);
	(void)note_post(c, w, c->mailbox, on_worker_is_drained);
}

static void
on_drain(struct message *m, void *owner, bool closing)
{
	if (!closing)
		worker_drain(owner, on_drained);
	free(CONTAINER_OF(m, struct note, message));
}

static struct control *
control_of(struct worker *w)
{
	return CONTAINER_OF(w->shared, struct control, shared);
}

static void
on_drain_deadline(struct deadline *d)
{
	struct control *c = CONTAINER_OF(d, struct control, drain_deadline);
	log_say(LOG_WARN, "timeouts.drain has passed: sessions that are open are cut");
	c->cut = true;
	for (unsigned i = 0; i < c->n_workers; i++)
		(void)note_post(c, c->threads[i].worker, c->threads[i].worker->mailbox, on_cut);
}

void
router_drain(struct control *c)
{
	if (atomic_exchange(&c->state, CONTROL_DRAINING) == CONTROL_DRAINING)
		return;
	tell_draining(c->events, c->revision);
	health_free(c->health);
	c->health = NULL;
	c->undrained = c->n_workers;
	for (unsigned i = 0; i < c->n_workers; i++)
		if (!note_post(c, c->threads[i].worker, c->threads[i].worker->mailbox, on_drain))
			c->undrained--;
	loop_set_deadline(c->loop, &c->drain_deadline, c->revision->policy->timeouts.drain_ms);
	if (c->undrained == 0)
		loop_stop(c->loop);
}

/* ---- takeover ---- */

static void
on_takeover_end(bool ready, const char *why, void *arg)
{
	struct control *c = arg;
	c->takeover = NULL;
	if (!ready) {
		log_say(LOG_ERROR, "not handed over, going on: %s", why);
		return;
	}
	log_say(LOG_INFO, "handed over to a new process");
	for (size_t i = 0; i < c->revision->policy->n_listeners; i++)
		atomic_store(&c->revision->fronts[i]->handed_over, true);
	c->hooks->handed_over(c->hooks->arg);
	router_drain(c);
}

static bool
give_sockets(struct control *c)
{
	int fds[TAKEOVER_SOCKETS_MAX];
	char key[128];
	for (size_t i = 0; i < c->revision->policy->n_listeners; i++) {
		const struct front *f = c->revision->fronts[i];
		if (!takeover_give(c->takeover, f->key, fds, front_sockets(f, fds, ARRAY_LEN(fds))))
			return false;
	}
	fds[0] = keepsake_write(c->revision->fleet);
	bool given = fds[0] < 0 || takeover_give(c->takeover, KEEPSAKE_KEY, fds, 1);
	if (fds[0] >= 0)
		close(fds[0]);
	if (!given)
		return false;
	fds[0] = c->hooks->admin_socket(c->hooks->arg, key, sizeof key);
	return (fds[0] < 0 || takeover_give(c->takeover, key, fds, 1)) && takeover_give_end(c->takeover);
}

static void
hand_over(struct control *c)
{
	char why[256];
	if (c->takeover != NULL || atomic_load(&c->state) != CONTROL_RUNNING)
		return;
	c->takeover = takeover_start(c->loop, on_takeover_end, c, why, sizeof why);
	if (c->takeover == NULL) {
		log_say(LOG_ERROR, "can't hand over: %s", why);
	} else if (!give_sockets(c)) {
		log_say(LOG_ERROR, "can't hand over: %s", strerror(errno));
		takeover_cancel(c->takeover);
		c->takeover = NULL;
	}
}

/* ---- signals ---- */

static void
on_signal(evutil_socket_t number, short what, void *arg)
{
	struct control *c = arg;
	(void)what;
	if (number == SIGHUP) {
		publish_reload(c, false);
		return;
	}
	if (number == SIGUSR2) {
		hand_over(c);
		return;
	}
	if (atomic_load(&c->state) == CONTROL_DRAINING)
		_exit(1);
	router_drain(c);
}

static bool
add_signals(struct control *c)
{
	for (size_t i = 0; i < ARRAY_LEN(handled_signals); i++) {
		c->signals[i] = evsignal_new(loop_base(c->loop), handled_signals[i], on_signal, c);
		if (c->signals[i] == NULL || event_add(c->signals[i], NULL) < 0)
			return false;
	}
	return true;
}

/* Blocked while threads are made, so that none of them ever takes one; the control thread alone lets them in. */
static void
let_signals_in(bool in)
{
	sigset_t set;
	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(handled_signals); i++)
		sigaddset(&set, handled_signals[i]);
	pthread_sigmask(in ? SIG_UNBLOCK : SIG_BLOCK, &set, NULL);
}

void
router_block_signals(void)
{
	let_signals_in(false);
}

/* ---- life ---- */

static void
on_files_changed(void *arg)
{
	publish_reload(arg, true);
}

static bool
make_workers(struct control *c, uint32_t wanted)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned n = wanted > 0 ? wanted : cores > 0 ? (unsigned)cores : 1;
	if ((c->threads = calloc(n, sizeof *c->threads)) == NULL)
		return false;
	c->n_workers = c->shared.n_workers = n;
	for (unsigned i = 0; i < n; i++)
		if ((c->threads[i].worker = worker_new(&c->shared, i)) == NULL)
			return false;
	return true;
}

static bool
make_parts(struct control *c, const struct policy *p)
{
	atomic_init(&c->shared.next_id, 1);
	atomic_init(&c->shared.short_ms, 0);
	if ((c->events = events_new()) == NULL || (c->shared.board = board_new()) == NULL)
		return false;
	board_listen(c->shared.board, tell_board_news, c->events);
	return (c->shared.auth = auth_new()) != NULL && (c->shared.gss = gss_pool_new(GSS_THREADS)) != NULL &&
	       (c->shared.initiators = gss_pool_new(INITIATOR_THREADS)) != NULL &&
	       (c->shared.clients = clients_new()) != NULL && (c->loop = loop_new()) != NULL &&
	       (c->mailbox = mailbox_open(c->loop, c)) != NULL && (c->watch = watch_new(c->loop, on_files_changed, c)) != NULL &&
	       (c->resolver = resolver_new(c->loop, &p->dns)) != NULL &&
	       (c->dialer = dialer_new(c->loop, c->resolver)) != NULL &&
	       (c->health = health_new(c->loop, c->dialer, tell_health, NULL)) != NULL && add_signals(c) &&
	       make_workers(c, p->workers);
}

struct control *
router_new(const struct router_options *o, char *why, size_t cap)
{
	struct control *c = aligned_alloc(64, (sizeof *c + 63) / 64 * 64);
	if (c == NULL) {
		policy_unref(o->policy);
		snprintf(why, cap, "out of memory");
		return NULL;
	}
	memset(c, 0, sizeof *c);
	pthread_mutex_init(&c->lock, NULL);
	list_init(&c->changes);
	list_init(&c->probes);
	deadline_init(&c->ping_timer, on_ping_timer);
	deadline_init(&c->drain_deadline, on_drain_deadline);
	c->started_ms = clock_now_ms();
	c->policy_path = o->policy_path;
	c->inheritance = o->inheritance;
	c->hooks = o->hooks;
	if (!make_parts(c, o->policy)) {
		snprintf(why, cap, "can't start: %s", strerror(errno));
		policy_unref(o->policy);
		router_free(c);
		return NULL;
	}
	dialer_use_gss(c->dialer, c->shared.initiators);
	c->revision = publish_first(c, o->policy, why, cap);
	c->inheritance = NULL;
	if (c->revision == NULL) {
		router_free(c);
		return NULL;
	}
	keepsake_read(c->revision->fleet, takeover_claim(o->inheritance, KEEPSAKE_KEY));
	return c;
}

/* What is open before the first client comes. */
static unsigned
count_descriptors(void)
{
	unsigned n = 0;
	DIR *d = opendir("/proc/self/fd");
	if (d == NULL)
		return DESCRIPTORS_AT_START;
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

static struct places
places_here(unsigned n_workers)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > UINT_MAX)
		return places_deal(UINT_MAX, 0, n_workers);
	return places_deal((unsigned)limit.rlim_cur, count_descriptors(), n_workers);
}

int
router_run(struct control *c)
{
	struct places places = places_here(c->n_workers);
	c->shared.places = places.sessions;
	for (unsigned i = 0; i < c->n_workers; i++)
		relay_pool_bound(&c->threads[i].worker->relays, places.pipes);
	for (unsigned i = 0; i < c->n_workers; i++)
		worker_use(c->threads[i].worker, revision_ref(c->revision));
	publish_started(c);
	if (!start_workers(c)) {
		log_say(LOG_ERROR, "can't start the workers: %s", strerror(errno));
		stop_workers(c);
		return 1;
	}
	loop_set_deadline(c->loop, &c->ping_timer, PING_MS);
	let_signals_in(true);
	loop_run(c->loop);
	let_signals_in(false);
	stop_workers(c);
	return c->cut ? 1 : 0;
}

void
router_free(struct control *c)
{
	if (c == NULL)
		return;
	if (c->loop != NULL) {
		loop_clear_deadline(c->loop, &c->ping_timer);
		loop_clear_deadline(c->loop, &c->drain_deadline);
	}
	takeover_cancel(c->takeover);
	publish_abandon(c);
	/* What they compute ends in a mailbox: none of it may still come. */
	auth_free(c->shared.auth);
	gss_pool_free(c->shared.gss);
	for (unsigned i = 0; i < c->n_workers; i++)
		worker_free(c->threads[i].worker);
	free(c->threads);
	mailbox_free(c->mailbox);
	probe_abandon(c);
	health_free(c->health);
	dialer_free(c->dialer);
	resolver_free(c->resolver);
	watch_free(c->watch);
	for (size_t i = 0; i < ARRAY_LEN(c->signals); i++)
		if (c->signals[i] != NULL)
			event_free(c->signals[i]);
	revision_unref(c->revision);
	gss_pool_free(c->shared.initiators);
	clients_free(c->shared.clients);
	board_free(c->shared.board);
	events_free(c->events);
	loop_free(c->loop);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

struct revision *
router_hold_revision(struct control *c)
{
	pthread_mutex_lock(&c->lock);
	struct revision *r = revision_ref(c->revision);
	pthread_mutex_unlock(&c->lock);
	return r;
}
