/*
 * mailbox: the only door between threads. Anyone posts; the owner's loop handles, in the order of
 * posting.
 *
 * A short list under a mutex and one eventfd write when it was empty. The receiver reads the
 * eventfd first and takes the whole list then, so no wake-up is lost.
 * Life: mailbox_open on the receiver's loop -> post * n -> mailbox_close (by the receiver's thread,
 * or after it was joined; messages still inside are handed to their `handle` with the mailbox
 * closing, so that their senders get an answer).
 */
#ifndef BASE_MAILBOX_H
#define BASE_MAILBOX_H

#include <stdbool.h>

#include "base/base.h"
#include "base/list.h"

struct loop;
struct mailbox;

/*
 * Embedded in what is sent. The message belongs to the receiver from mailbox_post() on, until
 * handle() decides otherwise.
 */
struct message {
	struct list link;
	/*
	 * owner: the one given to mailbox_open. closing: nobody is home; release or answer "gone"
	 * and touch nothing else.
	 */
	void (*handle)(struct message *m, void *owner, bool closing);
};

/** NULL: no memory or no descriptor. */
struct mailbox *mailbox_open(struct loop *l, void *owner);
/** From any thread. False: the mailbox is closed, and the message still belongs to the caller. */
bool mailbox_post(struct mailbox *b, struct message *m) WARN_UNUSED;
/** After this, mailbox_post says false. The memory goes with mailbox_free. */
void mailbox_close(struct mailbox *b);
/** Only when no other thread can still hold the pointer. NULL is fine; closes first. */
void mailbox_free(struct mailbox *b);

#endif
