/*
 * gss_pool: base/gss_pool.h, queues and their threads.
 *
 *   queued --> taken --> answered --> told
 *      |         |           |
 *      `---------+-----------+--cancelled--> gone
 *
 * All under one lock, for posting the answer too: so after gss_step_cancel no thread of ours will
 * look at the asker's mailbox. A step keeps the pool's memory, for the lock's sake.
 */
#include "base/gss_pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/endpoint.h"
#include "base/list.h"
#include "base/mailbox.h"

enum { LEAVE_SECONDS = 1 };

enum step_state { STEP_QUEUED, STEP_TAKEN, STEP_ANSWERED, STEP_LOST };

/* Steps that wait for the same; it is there while it has any. */
struct lane {
	struct list link;                      /* in the pool's lanes, the next to be served first */
	uint64_t key;
	struct list queue;
	unsigned n_queued, n_taken;
};

struct gss_step {
	struct message message;
	struct list link;                      /* in its lane's queue, while it is QUEUED */
	struct gss_pool *pool;
	struct lane *lane;                     /* while it is QUEUED or TAKEN */
	enum step_state state;                 /* LOST: mailbox or pool went before the answer was told */
	struct mailbox *box;                   /* NULL: cancelled */
	gss_step_cb *cb;
	void *arg;
	struct gss_context *context;
	struct endpoint client;
	enum gss_step_outcome outcome;
	uint8_t *token;                        /* the answer */
	size_t token_len;
	size_t in_len;
	uint8_t in[];
};

struct gss_pool {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct list lanes;
	unsigned n_queued, n_taken;            /* of all lanes */
	unsigned refs;                         /* the owner's, each step's and each thread's */
	bool stopping;
	bool gone;                             /* freed by its owner: mailboxes may go from now on */
	unsigned n_threads, n_threads_max;     /* max: but for lanes that would have none */
	pthread_t threads[GSS_POOL_THREADS_MAX];
};

static void
unref(struct gss_pool *p)
{
	pthread_mutex_lock(&p->lock);
	bool last = --p->refs == 0;
	pthread_mutex_unlock(&p->lock);
	if (!last)
		return;
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static void
step_free(struct gss_step *s)
{
	unref(s->pool);
	gss_context_free(s->context);
	free(s->token);
	free(s);
}

/* On the asker's loop, or where its mailbox closes: then the asker still has to cancel. */
static void
on_answered(struct message *m, void *owner, bool closing)
{
	struct gss_step *s = CONTAINER_OF(m, struct gss_step, message);
	gss_step_cb *cb = s->cb;
	(void)owner;
	if (cb != NULL && closing) {
		s->state = STEP_LOST;
		return;
	}
	s->cb = NULL;
	if (cb != NULL)
		cb(s->outcome, s->token, s->token_len, s->arg);
	step_free(s);
}

/* The lock is held. True: nobody waits for it any more; else it is the asker's from here on. */
static bool
answer(struct gss_step *s)
{
	if (s->box == NULL)
		return true;
	s->state = STEP_ANSWERED;
	if (s->pool->gone || !mailbox_post(s->box, &s->message))
		s->state = STEP_LOST;
	return false;
}

/* ---- lanes; the lock is held ---- */

static struct lane *
lane_of(struct gss_pool *p, uint64_t key)
{
	LIST_FOR_EACH (&p->lanes, node) {
		struct lane *l = LIST_OBJECT(node, struct lane, link);
		if (l->key == key)
			return l;
	}
	struct lane *l = calloc(1, sizeof *l);
	if (l == NULL)
		return NULL;
	l->key = key;
	list_init(&l->link);
	list_init(&l->queue);
	list_append(&p->lanes, &l->link);
	return l;
}

static void
lane_leave(struct lane *l)
{
	if (l->n_queued > 0 || l->n_taken > 0)
		return;
	list_remove(&l->link);
	free(l);
}

static void
lane_append(struct lane *l, struct gss_step *s)
{
	s->lane = l;
	list_append(&l->queue, &s->link);
	l->n_queued++;
	s->pool->n_queued++;
}

/* Out of the queue; its lane is still there. */
static void
lane_remove(struct gss_step *s)
{
	list_remove(&s->link);
	s->lane->n_queued--;
	s->pool->n_queued--;
}

static bool
has_no_thread(const struct lane *l)
{
	return l->n_queued > 0 && l->n_taken == 0;
}

/* The lane whose turn it is: one that has no thread before all others; NULL: none now. */
static struct lane *
next_lane(struct gss_pool *p)
{
	struct lane *any = NULL;
	LIST_FOR_EACH (&p->lanes, node) {
		struct lane *l = LIST_OBJECT(node, struct lane, link);
		if (has_no_thread(l))
			return l;
		if (any == NULL && l->n_queued > 0)
			any = l;
	}
	return p->n_taken < p->n_threads_max ? any : NULL;
}

/* The next step, which is taken then; NULL: none now. */
static struct gss_step *
take_next(struct gss_pool *p)
{
	struct lane *l = next_lane(p);
	if (l == NULL)
		return NULL;
	struct gss_step *s = LIST_OBJECT(l->queue.next, struct gss_step, link);
	lane_remove(s);
	list_remove(&l->link);
	list_append(&p->lanes, &l->link);
	s->state = STEP_TAKEN;
	l->n_taken++;
	p->n_taken++;
	return s;
}

static void
let_go(struct gss_pool *p, struct gss_step *s)
{
	p->n_taken--;
	s->lane->n_taken--;
	lane_leave(s->lane);
	s->lane = NULL;
}

/* ---- threads ---- */

/* The lock is held when it is called and when it returns. */
static void
work(struct gss_pool *p, struct gss_step *s)
{
	const uint8_t *in = s->in_len > 0 ? s->in : NULL;
	if (p->n_queued > 0)
		pthread_cond_signal(&p->wake);         /* maybe for somebody else, too */
	pthread_mutex_unlock(&p->lock);
	s->outcome = gss_context_step(s->context, in, s->in_len, &s->token, &s->token_len);
	pthread_mutex_lock(&p->lock);
	let_go(p, s);
	if (!answer(s))
		return;
	pthread_mutex_unlock(&p->lock);
	step_free(s);
	pthread_mutex_lock(&p->lock);
}

static void *
pool_thread(void *arg)
{
	struct gss_pool *p = arg;
	pthread_mutex_lock(&p->lock);
	while (!p->stopping) {
		struct gss_step *s = take_next(p);
		if (s == NULL)
			pthread_cond_wait(&p->wake, &p->lock);
		else
			work(p, s);
	}
	pthread_mutex_unlock(&p->lock);
	unref(p);
	return NULL;
}

/* Out of the way of signals. The lock is held. */
static void
make_thread(struct gss_pool *p)
{
	sigset_t all, before;
	if (p->n_threads == GSS_POOL_THREADS_MAX)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (pthread_create(&p->threads[p->n_threads], NULL, pool_thread, p) == 0) {
		p->n_threads++;
		p->refs++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/*
 * One more thread, where those that are free are fewer than the steps that may be taken. Who ends a
 * step takes the next, so it is enough to look when one comes. The lock is held. False: there is
 * none at all.
 */
static bool
have_thread(struct gss_pool *p)
{
	unsigned n_free = p->n_threads - p->n_taken, n_wanted = 0;
	if (p->n_threads < p->n_threads_max)
		n_wanted = p->n_queued;
	else if (p->n_threads_max > 0)
		LIST_FOR_EACH (&p->lanes, node)
			n_wanted += has_no_thread(LIST_OBJECT(node, struct lane, link));
	if (n_free < n_wanted)
		make_thread(p);
	return p->n_threads > 0;
}

/* ---- asking ---- */

static unsigned
count_of_client(const struct list *queue, const struct endpoint *client)
{
	unsigned n = 0;
	LIST_FOR_EACH (queue, node)
		n += endpoint_same_host(&LIST_OBJECT(node, struct gss_step, link)->client, client);
	return n;
}

static bool
has_room(const struct lane *l, const struct gss_step *s)
{
	return l->n_queued < GSS_POOL_QUEUE_MAX && (s->client.kind == ENDPOINT_NONE ||
	    count_of_client(&l->queue, &s->client) < GSS_POOL_PER_CLIENT_MAX);
}

static bool
enqueue(struct gss_pool *p, struct gss_step *s)
{
	pthread_mutex_lock(&p->lock);
	struct lane *l = lane_of(p, gss_context_lane(s->context));
	bool done = l != NULL && has_room(l, s);
	if (done) {
		lane_append(l, s);
		if ((done = have_thread(p)))
			pthread_cond_signal(&p->wake);
		else
			lane_remove(s);
	}
	if (l != NULL)
		lane_leave(l);
	pthread_mutex_unlock(&p->lock);
	return done;
}

struct gss_step *
gss_step_start(struct gss_pool *p, struct gss_context *c, const void *in, size_t in_len,
    const struct endpoint *client, struct mailbox *box, gss_step_cb *cb, void *arg)
{
	struct gss_step *s = calloc(1, sizeof *s + in_len);
	if (s == NULL)
		return NULL;
	list_init(&s->link);
	list_init(&s->message.link);
	s->message.handle = on_answered;
	s->pool = p;
	s->box = box;
	s->cb = cb;
	s->arg = arg;
	pthread_mutex_lock(&p->lock);
	p->refs++;
	pthread_mutex_unlock(&p->lock);
	gss_context_hold(c);
	s->context = c;
	if (client != NULL)
		s->client = *client;
	if (in_len > 0)
		memcpy(s->in, in, s->in_len = in_len);
	if (enqueue(p, s))
		return s;
	step_free(s);
	return NULL;
}

void
gss_step_cancel(struct gss_step *s)
{
	if (s == NULL)
		return;
	struct gss_pool *p = s->pool;
	pthread_mutex_lock(&p->lock);
	s->cb = NULL;
	s->box = NULL;
	/* Whoever takes it, or what lies in the mailbox, frees it. */
	bool owned = s->state == STEP_QUEUED || s->state == STEP_LOST;
	if (s->state == STEP_QUEUED) {
		lane_remove(s);
		lane_leave(s->lane);
	}
	pthread_mutex_unlock(&p->lock);
	if (owned)
		step_free(s);
}

/* ---- life ---- */

struct gss_pool *
gss_pool_new(unsigned n_threads)
{
	struct gss_pool *p = calloc(1, sizeof *p);
	if (p == NULL)
		return NULL;
	list_init(&p->lanes);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	p->n_threads_max = n_threads < GSS_POOL_THREADS_MAX ? n_threads : GSS_POOL_THREADS_MAX;
	p->refs = 1;
	return p;
}

/* One that a KDC lets wait is left behind: it has the pool's memory, and touches nothing else. */
static void
end_threads(struct gss_pool *p)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += LEAVE_SECONDS;
	for (unsigned i = 0; i < p->n_threads; i++)
		if (pthread_timedjoin_np(p->threads[i], NULL, &until) != 0)
			pthread_detach(p->threads[i]);
}

/* The lock is held. */
static void
fail_queued(struct lane *l)
{
	while (l->n_queued > 0) {
		struct gss_step *s = LIST_OBJECT(l->queue.next, struct gss_step, link);
		lane_remove(s);
		s->outcome = GSS_STEP_FAILED;
		(void)answer(s);               /* one that was cancelled is not in the queue */
	}
	lane_leave(l);
}

void
gss_pool_free(struct gss_pool *p)
{
	if (p == NULL)
		return;
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
	end_threads(p);
	pthread_mutex_lock(&p->lock);
	LIST_FOR_EACH (&p->lanes, node)
		fail_queued(LIST_OBJECT(node, struct lane, link));
	p->gone = true;
	pthread_mutex_unlock(&p->lock);
	unref(p);
}
