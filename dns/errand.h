/*
 * errand: a question of another file's own, asked through the servers of a resolver: what keeps the
 * servers and the question together until the answer has come. For this room only.
 *
 * c-ares can't take a question back, so an errand outlives whoever gave it up, and ends with its
 * answer or with the resolver, whichever comes first.
 */
#ifndef DNS_ERRAND_H
#define DNS_ERRAND_H

#include <stdbool.h>

#include "base/base.h"
#include "base/list.h"
#include "dns/channel.h"

struct epoch;
struct errand;
struct loop;
struct resolver;

struct errand {
	struct list link;                      /* in the resolver's errands */
	struct resolver *resolver;
	struct epoch *epoch;
	struct ask ask;
	char name[256];
	void (*done)(struct errand *e);        /* the answer is there; it frees e */
	void (*drop)(struct errand *e);        /* the resolver goes: frees e, calls nobody */
};

/**
 * Is the answer known already? Then it is in e->ask.answer, of which kind and target are set, and
 * nothing need be asked. name is set.
 */
bool errand_known(struct resolver *r, struct errand *e, enum record record) WARN_UNUSED;
/** name, done and drop are set. False: too many are under way; nothing was asked. */
bool errand_start(struct resolver *r, struct errand *e, enum record record) WARN_UNUSED;
struct loop *resolver_loop(struct resolver *r);

#endif
