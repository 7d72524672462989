/*
 * gss_pool: base/gss_pool.h, a queue and its threads.
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

enum { THREADS_MAX = 8, LEAVE_SECONDS = 1 };

enum step_state { STEP_QUEUED, STEP_TAKEN, STEP_ANSWERED, STEP_LOST };

struct gss_step {
	struct message message;
	struct list link;                      /* in the queue, while it is QUEUED */
	struct gss_pool *pool;
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
	struct list queue;
	unsigned n_queued, n_idle;
	unsigned refs;                         /* the owner's, each step's and each thread's */
	bool stopping;
	bool gone;                             /* freed by its owner: mailboxes may go from now on */
	unsigned n_threads, n_threads_max;
	pthread_t threads[THREADS_MAX];
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

/* The lock is held when it is called and when it returns. */
static void
take_step(struct gss_pool *p, struct gss_step *s)
{
	const uint8_t *in = s->in_len > 0 ? s->in : NULL;
	p->n_queued--;
	s->state = STEP_TAKEN;
	pthread_mutex_unlock(&p->lock);
	s->outcome = gss_context_step(s->context, in, s->in_len, &s->token, &s->token_len);
	pthread_mutex_lock(&p->lock);
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
		struct list *node = list_take_first(&p->queue);
		if (node == NULL) {
			p->n_idle++;
			pthread_cond_wait(&p->wake, &p->lock);
			p->n_idle--;
		} else {
			take_step(p, LIST_OBJECT(node, struct gss_step, link));
		}
	}
	pthread_mutex_unlock(&p->lock);
	unref(p);
	return NULL;
}

/* One more thread where all are busy, out of the way of signals. The lock is held. False: there is
 * none at all. */
static bool
have_thread(struct gss_pool *p)
{
	sigset_t all, before;
	if (p->n_idle > p->n_queued || p->n_threads == p->n_threads_max)
		return p->n_threads > 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (pthread_create(&p->threads[p->n_threads], NULL, pool_thread, p) == 0) {
		p->n_threads++;
		p->refs++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
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
enqueue(struct gss_pool *p, struct gss_step *s)
{
	pthread_mutex_lock(&p->lock);
	bool has_room = p->n_queued < GSS_POOL_QUEUE_MAX && (s->client.kind == ENDPOINT_NONE ||
	    count_of_client(&p->queue, &s->client) < GSS_POOL_PER_CLIENT_MAX) && have_thread(p);
	if (has_room) {
		list_append(&p->queue, &s->link);
		p->n_queued++;
		pthread_cond_signal(&p->wake);
	}
	pthread_mutex_unlock(&p->lock);
	return has_room;
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
		list_remove(&s->link);
		p->n_queued--;
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
	list_init(&p->queue);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	p->n_threads_max = n_threads < THREADS_MAX ? n_threads : THREADS_MAX;
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

void
gss_pool_free(struct gss_pool *p)
{
	struct list *node;
	if (p == NULL)
		return;
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
	end_threads(p);
	pthread_mutex_lock(&p->lock);
	while ((node = list_take_first(&p->queue)) != NULL) {
		struct gss_step *s = LIST_OBJECT(node, struct gss_step, link);
		s->outcome = GSS_STEP_FAILED;
		(void)answer(s);               /* one that was cancelled is not in the queue */
	}
	p->gone = true;
	pthread_mutex_unlock(&p->lock);
	unref(p);
}
