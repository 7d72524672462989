/*
 * list: an intrusive, circular, doubly linked list. The node lives in the object; a node is in one list at most.
 *
 * Zero-filled memory is no list and no unlinked node: call list_init on both. Confined to one thread unless the owner locks.
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/base.h"

struct list {
	struct list *prev, *next;
};

#define LIST_OBJECT(node, type, member) CONTAINER_OF(node, type, member)

static inline void
list_init(struct list *l)
{
	l->prev = l->next = l;
}

static inline bool
list_empty(const struct list *l)
{
	return l->next == l;
}

/** For a node: is it in a list? */
static inline bool
list_linked(const struct list *node)
{
	return node->next != node;
}

static inline void
list_insert_before(struct list *at, struct list *node)
{
	node->prev = at->prev;
	node->next = at;
	at->prev->next = node;
	at->prev = node;
}

static inline void
list_append(struct list *l, struct list *node)
{
	list_insert_before(l, node);
}

/** Takes the node out of its list; a node that is in none stays as it is. */
static inline void
list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

/** The first node, taken out; NULL when empty. */
static inline struct list *
list_take_first(struct list *l)
{
	struct list *node = l->next;
	if (node == l)
		return NULL;
	list_remove(node);
	return node;
}

/** Moves all of `from` to the end of `to`; `from` is empty then. */
static inline void
list_move_all(struct list *to, struct list *from)
{
	if (list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}

/* Safe against removal of the current node, not of the next one. */
#define LIST_FOR_EACH(l, node)                                                                          \
	for (struct list *node = (l)->next, *node##_next = node->next; node != (l);                      \
	     node = node##_next, node##_next = node->next)

#endif
