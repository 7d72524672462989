/*
 * explain: what would become of a request, and why: made up from words, decided by the very
 * functions that sessions use.
 *
 * The same for the API and for `sockroute explain --config`; who asks brings the addresses of a
 * name where they are needed.
 *   explain_read -> explain_needs_addresses? look `to` up -> explain_json
 */
#ifndef ADMIN_EXPLAIN_H
#define ADMIN_EXPLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/base.h"
#include "base/endpoint.h"
#include "policy/policy.h"

struct fleet;

/* As people write them; NULL: not given. */
struct explain_words {
	const char *to, *client, *user, *listener, *protocol, *command;
};

struct explain_question {
	struct endpoint to,
	    client; /* client: kind NONE where not given; no rule on clients holds then */
	char user[256], session[256];
	uint32_t listener; /* UINT32_MAX: not given, and there are several */
	uint8_t protocol, command;
};

/** What was found of to's addresses. */
struct explain_addresses {
	const struct endpoint *list;
	size_t n;
	bool asked; /* n == 0: in vain */
};

/**
 * NULL, or what is wrong with the words, in why (cap bytes); *unknown: it is a listener's name
 * that does not exist.
 */
const char *explain_read(struct explain_question *q, const struct explain_words *words,
			 const struct policy *p, bool *unknown, char *why, size_t cap) WARN_UNUSED;
/** Would `to` be looked up here? */
bool explain_needs_addresses(const struct explain_question *q, struct fleet *f);
/** {rule, route, tried, resolve, addresses, candidates, path}; NULL: out of memory. */
json_t *explain_json(const struct explain_question *q, struct fleet *f,
		     const struct explain_addresses *addresses);

#endif
