/*
 * gather: a question to every worker, and their answers in one place. The control thread asks and merges; nobody waits.
 *
 *   asker --mailbox--> control --a question each--> workers --the same message back--> control --cb--> asker
 *
 * After CONTROL_DEADLINE_MS what has come so far is the answer, marked incomplete; a late answer is thrown away when it comes.
 */
#ifndef ROUTER_GATHER_H
#define ROUTER_GATHER_H

#include <stdbool.h>

#include "base/mailbox.h"
#include "base/wheel.h"
#include "router/router.h"

struct gather;

/* One worker's copy. `answer` is made by ask() and belongs to the question; `release` ends it. */
struct question {
	struct message message;
	struct gather *gather;
	struct worker *worker;
	void *answer;
};

struct gather_ops {
	/** On the worker's thread: fill q->answer (NULL: nothing to say). */
	void (*ask)(struct question *q, struct worker *w);
	/** On the control thread, for each answer that came in time. */
	void (*merge)(struct gather *g, struct question *q);
	/** On the control thread, once: all are in, or the deadline has passed. Tells the asker. */
	void (*done)(struct gather *g, bool incomplete);
	/** Frees an answer. */
	void (*release)(void *answer);
	/** Frees the gather's owner, after the last question came back. */
	void (*free)(struct gather *g);
};

/* Embedded first in the owner. */
struct gather {
	const struct gather_ops *ops;
	struct control *control;
	struct message message;                /* the way to the control thread */
	struct deadline deadline;
	unsigned outstanding;
	bool told;
};

/** From any thread; the control thread asks all workers. ops->done comes exactly once, then ops->free. */
void gather_start(struct gather *g, struct control *c, const struct gather_ops *ops);

#endif
