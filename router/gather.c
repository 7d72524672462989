#include "router/gather.h"

#include <stdlib.h>

static void on_back(struct message *m, void *owner, bool closing);

static void
gather_tell(struct gather *g, bool incomplete)
{
	if (g->told)
		return;
	g->told = true;
	loop_clear_deadline(g->control->loop, &g->deadline);
	g->ops->done(g, incomplete);
}

static void
gather_count_back(struct gather *g)
{
	if (--g->outstanding > 0)
		return;
	gather_tell(g, false);
	g->ops->free(g);
}

static void
question_free(struct question *q)
{
	struct gather *g = q->gather;
	if (q->answer != NULL)
		g->ops->release(q->answer);
	free(q);
}

/* On the worker's thread. */
static void
on_asked(struct message *m, void *owner, bool closing)
{
	struct question *q = CONTAINER_OF(m, struct question, message);
	if (!closing)
		q->gather->ops->ask(q, owner);
	q->message.handle = on_back;
	/* The control's mailbox outlives the workers, so this can't fail while a worker lives. */
	if (!mailbox_post(q->gather->control->mailbox, &q->message))
		question_free(q);
}

static void
on_back(struct message *m, void *owner, bool closing)
{
	struct question *q = CONTAINER_OF(m, struct question, message);
	struct gather *g = q->gather;
	(void)owner, (void)closing;
	if (!g->told && q->answer != NULL)
		g->ops->merge(g, q);
	question_free(q);
	gather_count_back(g);
}

static void
on_deadline(struct deadline *d)
{
	gather_tell(CONTAINER_OF(d, struct gather, deadline), true);
}

static bool
ask_worker(struct gather *g, struct worker *w)
{
	struct question *q = calloc(1, sizeof *q);
	if (q == NULL)
		return false;
	list_init(&q->message.link);
	q->message.handle = on_asked;
	q->gather = g;
	q->worker = w;
	g->outstanding++;
	if (mailbox_post(w->mailbox, &q->message))
		return true;
	g->outstanding--;
	free(q);
	return false;
}

static void
on_begin(struct message *m, void *owner, bool closing)
{
	struct gather *g = CONTAINER_OF(m, struct gather, message);
	struct control *c = owner;
	bool all = !closing;
	g->outstanding = 1;                    /* this call's own, so that no answer ends it early */
	for (unsigned i = 0; !closing && i < c->n_workers; i++)
		all &= ask_worker(g, c->threads[i].worker);
	if (!closing && all)
		loop_set_deadline(c->loop, &g->deadline, CONTROL_DEADLINE_MS);
	else
		gather_tell(g, true);
	gather_count_back(g);
}

void
gather_start(struct gather *g, struct control *c, const struct gather_ops *ops)
{
	g->ops = ops;
	g->control = c;
	g->outstanding = 0;
	g->told = false;
	list_init(&g->message.link);
	g->message.handle = on_begin;
	deadline_init(&g->deadline, on_deadline);
	if (!mailbox_post(c->mailbox, &g->message)) {
		g->told = true;
		ops->done(g, true);
		ops->free(g);
	}
}
