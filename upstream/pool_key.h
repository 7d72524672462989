/*
 * pool_key: what of a request says that it belongs together with others: the text behind a pool's
 * hash_key and sticky.key. Pure. The text is the same on every node, and what the API shows.
 */
#ifndef UPSTREAM_POOL_KEY_H
#define UPSTREAM_POOL_KEY_H

#include <stddef.h>

#include "base/endpoint.h"
#include "policy/policy.h"
#include "upstream/fleet.h"

enum { POOL_KEY_MAX = ENDPOINT_TEXT_MAX > 256 ? ENDPOINT_TEXT_MAX : 256 };

/**
 * Writes it with NUL. Returns its length; 0: the request has no such thing (no user, say).
 * @param key  may be NULL: a request that nothing is known of
 */
size_t pool_key_text(enum pool_key what, const struct pick_key *key, char out[POOL_KEY_MAX]);

#endif
