/*
 * gate: who may talk to the API: pure questions about the headers of a request, asked before
 * anything else is done with it.
 */
#ifndef ADMIN_GATE_H
#define ADMIN_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

/**
 * `Authorization: Bearer TOKEN` with this very token? Compared in constant time, as digests of
 * equal length.
 * @param authorization  the header's value, or NULL
 */
bool gate_token_matches(const char *authorization, const char *token) WARN_UNUSED;

/**
 * On a loopback listener: does the Host header name this machine's loopback? A web page that made
 * its own name lead to 127.0.0.1 is kept out by this (DNS rebinding). NULL, as HTTP/1.0 has it, is
 * fine: no browser sends none.
 */
bool gate_host_is_local(const char *host) WARN_UNUSED;

/**
 * Does the request come from a page of another origin? The API has no CORS, but a simple POST
 * needs none. Either may be NULL.
 */
bool gate_is_cross_origin(const char *origin, const char *host) WARN_UNUSED;

/**
 * Content-Length beside Transfer-Encoding, or a Content-Length that is no number: where the body
 * ends is anybody's guess.
 */
bool gate_body_is_ambiguous(const char *content_length, const char *transfer_encoding) WARN_UNUSED;
/** What Content-Length says; 0 where there is none. Not asked of an ambiguous one. */
uint64_t gate_body_len(const char *content_length);

#endif
