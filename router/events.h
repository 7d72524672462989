/*
 * events: what happened lately, for those who watch: a ring of the last EVENTS_KEPT, numbered from 1 on.
 *
 * Any thread posts and reads, under one mutex that is held for a copy and no longer. Nobody waits for a reader: each knows the
 * number that it wants next, and where that one is gone it is told how many it has lost. One watcher is told of each post, with the
 * mutex held: it may only wake somebody.
 * Life: events_new -> events_post, events_read * n -> events_free.
 */
#ifndef ROUTER_EVENTS_H
#define ROUTER_EVENTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "policy/policy.h"

enum { EVENTS_KEPT = 2048, EVENT_TEXT_MAX = 512 };

enum event_kind { EVENT_UPSTREAM, EVENT_POOL, EVENT_POLICY, EVENT_LISTENER };

/* One event. Texts that are pointers are literals; what is too long for its place is cut. */
struct router_event {
	uint64_t number;
	int64_t at_ms;                         /* wall clock */
	enum event_kind kind;
	const char *what;                      /* "down", "drained", "queue_full", "in_force", "refused", "opened", ... */
	char name[POLICY_NAME_MAX + 1];        /* of the upstream, pool or listener */
	const char *was, *now;                 /* of an upstream: its state */
	uint32_t n_turned_away;                /* of a pool */
	uint64_t revision;                     /* of a policy: the one in force */
	char etag[20];
	char where[EVENT_TEXT_MAX];            /* a listener's address; where a policy came from */
	char why[EVENT_TEXT_MAX];              /* "": goes without saying */
};

struct events;

typedef void events_posted_fn(void *arg);

struct events *events_new(void);               /* NULL: out of memory */
void events_free(struct events *e);            /* NULL is fine */
/** Takes a copy; number and at_ms are set here. */
void events_post(struct events *e, const struct router_event *event);
/** The number that the next event will have. */
uint64_t events_next(struct events *e);
/**
 * Copies up to cap events from *from on and moves *from behind them. *lost: how many of those asked for are gone already; they come
 * before the first.
 */
size_t events_read(struct events *e, uint64_t *from, struct router_event *out, size_t cap, uint64_t *lost);
/** Calls fn after each post; NULL: no more, and not from another thread either when this returns. */
void events_watch(struct events *e, events_posted_fn *fn, void *arg);

#endif
