/*
 * mailbox: base/mailbox.h with a mutex, a list and an eventfd. The descriptor lives until
 * mailbox_free, so a poster that was between its unlock and its write when the mailbox closed still
 * writes to it and to nothing else.
 */
#include "base/mailbox.h"

#include "base/loop.h"

#include <assert.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>
#include <sys/eventfd.h>

struct mailbox {
	pthread_mutex_t lock;                  /* over inbox and closed */
	struct list inbox;
	bool closed;
	struct list taken;                     /* by the receiver, not handled yet */
	struct event event;
	struct loop *loop;
	void *owner;
	int fd;
};

/* All that was posted so far joins `taken`. */
static void
take_inbox(struct mailbox *b, bool close_it)
{
	pthread_mutex_lock(&b->lock);
	list_move_all(&b->taken, &b->inbox);
	b->closed |= close_it;
	pthread_mutex_unlock(&b->lock);
}

static void
handle_taken(struct mailbox *b, bool closing)
{
	struct list *node;
	while ((node = list_take_first(&b->taken)) != NULL) {
		struct message *m = LIST_OBJECT(node, struct message, link);
		m->handle(m, b->owner, closing);
	}
}

static void
on_posted(evutil_socket_t fd, short what, void *arg)
{
	struct mailbox *b = arg;
	uint64_t count;
	(void)what;
	(void)loop_now(b->loop);
	/*
	 * The descriptor first: a post that comes after the list was taken makes it readable again.
	 */
	if (read(fd, &count, sizeof count) < 0)
		return;
	take_inbox(b, false);
	handle_taken(b, false);
}

struct mailbox *
mailbox_open(struct loop *l, void *owner)
{
	struct mailbox *b = calloc(1, sizeof *b);
	if (b == NULL)
		return NULL;
	b->loop = l;
	b->owner = owner;
	list_init(&b->inbox);
	list_init(&b->taken);
	pthread_mutex_init(&b->lock, NULL);
	b->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (b->fd < 0 ||
	    event_assign(&b->event, loop_base(l), b->fd, EV_READ | EV_PERSIST, on_posted, b) != 0 ||
	    event_add(&b->event, NULL) != 0) {
		b->closed = true;
		mailbox_free(b);
		return NULL;
	}
	return b;
}

bool
mailbox_post(struct mailbox *b, struct message *m)
{
	pthread_mutex_lock(&b->lock);
	bool closed = b->closed, was_empty = list_empty(&b->inbox);
	if (!closed)
		list_append(&b->inbox, &m->link);
	pthread_mutex_unlock(&b->lock);
	if (!closed && was_empty) {
		uint64_t one = 1;
		ssize_t n = write(b->fd, &one, sizeof one);
		assert(n == sizeof one);
		(void)n;
	}
	return !closed;
}

void
mailbox_close(struct mailbox *b)
{
	if (b->closed)
		return;
	event_del(&b->event);
	take_inbox(b, true);
	handle_taken(b, true);
}

void
mailbox_free(struct mailbox *b)
{
	if (b == NULL)
		return;
	mailbox_close(b);
	if (b->fd >= 0)
		close(b->fd);
	pthread_mutex_destroy(&b->lock);
	free(b);
}
