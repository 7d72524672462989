/*
 * channel: asks one list of name servers, by way of c-ares (RFC 1035, EDNS0 of RFC 6891, TCP where
 * UDP was cut).
 *
 * c-ares calls back from anywhere, inside the asking too. Here its answers are read and queued at
 * once, and told from a task of the loop's only. The ares_channel behind is replaced after a while
 * or a number of questions, so that its UDP ports and an EDNS that one bad answer turned off don't
 * last; when resolv.conf changes, too. Confined to the loop's thread.
 * Life: channel_new -> channel_ask * n -> channel_free (not from inside an ask_cb).
 */
#ifndef DNS_CHANNEL_H
#define DNS_CHANNEL_H
#include "base/endpoint.h"
#include "base/list.h"
#include "dns/answer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct channel;
struct conduit;
struct loop;
struct ask;

/* a->answer is there. The owner may release a, and ask again. */
typedef void ask_cb(struct ask *a);

/*
 * One question under way. Embedded by its owner; neither moves nor goes before its callback came or
 * the channel was freed.
 */
struct ask {
	struct list link;
	struct conduit *conduit;
	const char *name;
	enum record record;
	ask_cb *done;
	struct answer answer;
};

struct channel_conf {
	const struct endpoint *servers;        /* copied; addresses with ports */
	size_t n_servers;                      /* 0: those of resolv_conf; none there: all fails */
	const char *resolv_conf;               /* its path; must live as long as the channel */
	uint32_t timeout_ms, attempts;         /* for each server; doubled each time round */
};

enum { CHANNEL_SERVERS_MAX = 16 };             /* more are left out */

/** NULL: out of memory, or c-ares refused the servers. */
struct channel *channel_new(struct loop *l, const struct channel_conf *conf);
/** Calls nobody: asks under way are their owners' again. NULL is fine. */
void channel_free(struct channel *c);
/**
 * Asks. name stays as long as a does; one that is no valid name is answered with ANSWER_NO_NAME.
 * done comes exactly once, from the loop.
 */
void channel_ask(struct channel *c, struct ask *a, const char *name, enum record record,
		 ask_cb *done);

#endif
