#include "base/gss_pool.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/endpoint.h"
#include "base/list.h"
#include "base/mailbox.h"

enum { THREADS_MAX = 8 };

struct gss_step {
	struct message message;
	struct list link;                      /* in the queue; unlinked: being taken, or answered */
	struct gss_pool *pool;
	struct mailbox *box;
	gss_step_cb *cb;                       /* the asker's thread only; NULL: cancelled */
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
	unsigned n_queued;
	bool stopping;
	unsigned n_threads;
	pthread_t threads[THREADS_MAX];
};

static void
step_free(struct gss_step *s)
{
	gss_context_free(s->context);
	free(s->token);
	free(s);
}

static void
on_answered(struct message *m, void *owner, bool closing)
{
	struct gss_step *s = CONTAINER_OF(m, struct gss_step, message);
	gss_step_cb *cb = s->cb;
	(void)owner;
	s->cb = NULL;
	if (cb != NULL && !closing)
		cb(s->outcome, s->token, s->token_len, s->arg);
	step_free(s);
}

static void
answer(struct gss_step *s, enum gss_step_outcome outcome)
{
	s->outcome = outcome;
	if (!mailbox_post(s->box, &s->message))
		step_free(s);                  /* the asker is gone */
}

static void *
pool_thread(void *arg)
{
	struct gss_pool *p = arg;
	pthread_mutex_lock(&p->lock);
	while (!p->stopping) {
		struct list *node = list_take_first(&p->queue);
		if (node == NULL) {
			pthread_cond_wait(&p->wake, &p->lock);
			continue;
		}
		p->n_queued--;
		pthread_mutex_unlock(&p->lock);
		struct gss_step *s = LIST_OBJECT(node, struct gss_step, link);
		const uint8_t *in = s->in_len > 0 ? s->in : NULL;
		answer(s, gss_context_step(s->context, in, s->in_len, &s->token, &s->token_len));
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
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
	    count_of_client(&p->queue, &s->client) < GSS_POOL_PER_CLIENT_MAX);
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

/* One that nobody has begun with is taken out; of another the answer still comes, and frees it. */
void
gss_step_cancel(struct gss_step *s)
{
	if (s == NULL)
		return;
	struct gss_pool *p = s->pool;
	s->cb = NULL;
	pthread_mutex_lock(&p->lock);
	bool waits = list_linked(&s->link);
	if (waits) {
		list_remove(&s->link);
		p->n_queued--;
	}
	pthread_mutex_unlock(&p->lock);
	if (waits)
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
	while (p->n_threads < n_threads && p->n_threads < THREADS_MAX) {
		if (pthread_create(&p->threads[p->n_threads], NULL, pool_thread, p) != 0) {
			gss_pool_free(p);
			return NULL;
		}
		p->n_threads++;
	}
	return p;
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
	for (unsigned i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);
	while ((node = list_take_first(&p->queue)) != NULL)
		answer(LIST_OBJECT(node, struct gss_step, link), GSS_STEP_FAILED);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
