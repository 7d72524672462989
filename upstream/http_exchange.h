/*
 * http_exchange: one HTTP request and its judged answer over a stream that leads to the server.
 *
 * Confined to its thread.
 * Life: http_exchange_start -> callback or http_exchange_cancel; the handle ends with either.
 */
#ifndef UPSTREAM_HTTP_EXCHANGE_H
#define UPSTREAM_HTTP_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "policy/policy.h"

struct http_exchange;
struct loop;
struct stream;

/* why: what is wrong with the answer; valid during the call. The stream is open and has no callback. */
typedef void http_exchange_cb(bool good, const char *why, void *arg);

/**
 * @param s      open; stays the caller's, who must not touch it before the callback
 * @param conf   must outlive it
 * @param early  what came from the server already
 * @return NULL: out of memory. cb comes once, from the loop, never from inside this call.
 */
struct http_exchange *http_exchange_start(struct loop *l, struct stream *s,
					  const struct policy_health *conf, const uint8_t *early,
					  size_t early_len, uint64_t timeout_ms,
					  http_exchange_cb *cb, void *arg) WARN_UNUSED;
void http_exchange_cancel(struct http_exchange *x); /* NULL is fine */

#endif
