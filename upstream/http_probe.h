/*
 * http_probe: the HTTP half of a health check: a request through a tunnel, and whether the answer is
 * right. Bytes in, bytes out; no socket.
 *
 * HTTP/1.0, so that no answer comes in chunks and every peer ends the connection when it is through.
 * A status that is not wanted ends it at once, as does one that is wanted where no text is looked
 * for; else the body is searched, HTTP_PROBE_BODY_MAX bytes of it.
 * Life: http_probe_init -> http_probe_request, http_probe_feed * n. Nothing to free.
 */
#ifndef UPSTREAM_HTTP_PROBE_H
#define UPSTREAM_HTTP_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "base/buffer.h"
#include "policy/policy.h"

enum {
	HTTP_PROBE_REQUEST_MAX = 4096,
	HTTP_PROBE_IN_MAX = 8192,      /* a head must fit, and any text that is looked for */
	HTTP_PROBE_BODY_MAX = 1 << 20,
};

enum http_probe_result { HTTP_PROBE_MORE, HTTP_PROBE_GOOD, HTTP_PROBE_BAD };

struct http_probe {
	const struct policy_health *conf;
	struct buffer in;              /* what was heard and is not judged yet */
	size_t body;                   /* bytes of it so far */
	uint16_t status;               /* 0: not known yet */
	bool in_body;
	char why[160];                 /* of BAD */
	uint8_t bytes[HTTP_PROBE_IN_MAX];
};

/** conf must outlive it. */
void http_probe_init(struct http_probe *p, const struct policy_health *conf);
/** The request; its length. */
size_t http_probe_request(const struct http_probe *p, uint8_t out[HTTP_PROBE_REQUEST_MAX]);
/** What came was put into p->in. eof: nothing more will; then the answer is not MORE. */
enum http_probe_result http_probe_feed(struct http_probe *p, bool eof) WARN_UNUSED;

#endif
