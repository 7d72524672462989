/*
 * inquiry: one name being asked of name servers, for all who wait for it: A and AAAA at the same
 * time, each with its own outcome.
 *
 * When addresses of one kind have come, the other kind has a short while left (RFC 8305 section 3);
 * then the waiters get what is there, and the late answer still comes in. A late A is waited for
 * longer: nothing can be added to an answer once given, and AAAA alone is no use to a socks4
 * upstream or where IPv6 leads nowhere. An outcome that is known already is not asked again.
 * Owned by the resolver, in whose table it is found; it ends when the last answer has come.
 * Life: inquiry_new -> (on_settled at most once) -> on_ended -> inquiry_free.
 */
#ifndef DNS_INQUIRY_H
#define DNS_INQUIRY_H
#include "base/list.h"
#include "base/loop.h"
#include "dns/channel.h"
#include "dns/name_table.h"
#include "dns/result.h"

#include <stdbool.h>

struct cache_entry;
struct epoch;
struct inquiry;

enum { INQUIRY_WAIT_FOR_AAAA_MS = 50, INQUIRY_WAIT_FOR_A_MS = 250 };

struct inquiry_ops {
	/* Each answer that came from a server. */
	void (*on_answer)(struct inquiry *q, enum record record, const struct answer *a);
	/* Waiters may go; inquiry_result has what is there. */
	void (*on_settled)(struct inquiry *q);
	/* Nothing is under way any more: free it. */
	void (*on_ended)(struct inquiry *q);
};

enum question_state { QUESTION_UNWANTED, QUESTION_UNDER_WAY, QUESTION_ANSWERED };

struct question {
	enum question_state state;
	struct ask ask;                        /* its answer, once answered */
};

struct inquiry {
	struct name_node node;
	struct list link;
	struct list waiters;                   /* the owner's */
	unsigned n_waiters;
	struct epoch *epoch;                   /* the owner's: what it was asked under */
	void *owner;
	bool in_table;                         /* newcomers may join; the owner's */
	bool settled;
	enum dns_family family;
	const struct inquiry_ops *ops;
	struct loop *loop;
	struct address_sources *sources;
	struct deadline grace;
	struct question questions[RECORD_N];
	char name[];
};

/**
 * Nothing is asked yet. NULL: out of memory. sources is the owner's, refreshed here when needed.
 */
struct inquiry *inquiry_new(struct loop *l, const char *name, enum dns_family family,
			    struct address_sources *sources, const struct inquiry_ops *ops);
/**
 * Asks what the family wants and known (NULL: nothing) doesn't have, at least one record. Returns
 * how many questions went out. The ops are called from the loop, never from inside this call.
 */
unsigned inquiry_start(struct inquiry *q, struct channel *c, const struct cache_entry *known);
/** What is there now; what is still under way counts as timed out. */
struct result *inquiry_result(struct inquiry *q);
/** Calls nobody. Its channel must be freed before, unless it has ended. */
void inquiry_free(struct inquiry *q);

/** Does the policy's family want this record? */
bool family_wants(enum dns_family family, enum record record);

#endif
