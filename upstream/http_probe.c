/*
 * http_probe: an HTTP request through a tunnel, and whether the answer is right. See http_probe.h.
 */
#include "upstream/http_probe.h"

#include <stdio.h>
#include <string.h>

#include "socks/http_connect.h"

void
http_probe_init(struct http_probe *p, const struct policy_health *conf)
{
	p->conf = conf;
	p->body = 0;
	p->status = 0;
	p->in_body = false;
	p->why[0] = '\0';
	buffer_init(&p->in, p->bytes, sizeof p->bytes);
}

size_t
http_probe_request(const struct http_probe *p, uint8_t out[HTTP_PROBE_REQUEST_MAX])
{
	const struct policy_health *h = p->conf;
	int len = snprintf((char *)out, HTTP_PROBE_REQUEST_MAX,
			   "%s %s HTTP/1.0\r\nHost: %s\r\nUser-Agent: sockroute\r\nAccept: */*\r\n"
			   "Connection: close\r\n\r\n",
			   h->method, h->path, h->host);
	return (size_t)len; /* the policy bounds each text to a quarter of it */
}

static bool
is_expected(const struct policy_health *h, uint16_t status)
{
	for (size_t i = 0; i < h->n_statuses; i++)
		if (status >= h->statuses[i].from && status <= h->statuses[i].to)
			return true;
	return false;
}

static enum http_probe_result
bad(struct http_probe *p, const char *why)
{
	snprintf(p->why, sizeof p->why, "%s", why);
	return HTTP_PROBE_BAD;
}

/* The end of a head is an empty line; it is looked for when the status alone does not decide. */
static bool
skip_head(struct http_probe *p)
{
	const uint8_t *bytes = buffer_bytes(&p->in);
	size_t len = buffer_len(&p->in);
	for (size_t i = 0; i + 1 < len; i++) {
		if (bytes[i] != '\n')
			continue;
		size_t next = bytes[i + 1] == '\r' ? i + 2 : i + 1;
		if (next >= len || bytes[next] != '\n')
			continue;
		buffer_take(&p->in, next + 1);
		return p->in_body = true;
	}
	return false;
}

/* Keeps just as much as the text may have begun in. */
static enum http_probe_result
search_body(struct http_probe *p, bool eof)
{
	size_t len = buffer_len(&p->in), want = strlen(p->conf->body);
	if (memmem(buffer_bytes(&p->in), len, p->conf->body, want) != NULL)
		return HTTP_PROBE_GOOD;
	if (len >= want) {
		p->body += len - (want - 1);
		buffer_take(&p->in, len - (want - 1));
	}
	if (eof || p->body > HTTP_PROBE_BODY_MAX)
		return bad(p, "the expected text is not in the answer");
	return HTTP_PROBE_MORE;
}

static enum http_probe_result
judge_status(struct http_probe *p)
{
	if (!is_expected(p->conf, p->status)) {
		snprintf(p->why, sizeof p->why, "HTTP status %u", p->status);
		return HTTP_PROBE_BAD;
	}
	return p->conf->body == NULL ? HTTP_PROBE_GOOD : HTTP_PROBE_MORE;
}

/* Interim answers are skipped with their heads: what they say decides nothing. */
static enum http_probe_result
read_head(struct http_probe *p)
{
	for (;;) {
		uint16_t status;
		size_t used;
		switch (http_parse_response(buffer_bytes(&p->in), buffer_len(&p->in), &status,
					    &used)) {
		case PARSE_MORE:
			return HTTP_PROBE_MORE;
		case PARSE_BAD:
			return bad(p, "the answer is not HTTP");
		case PARSE_OK:
			break;
		}
		if (status >= 200) {
			p->status = status;
			return judge_status(p);
		}
		buffer_take(&p->in, used);
	}
}

enum http_probe_result
http_probe_feed(struct http_probe *p, bool eof)
{
	if (p->status == 0) {
		enum http_probe_result r = read_head(p);
		if (r != HTTP_PROBE_MORE)
			return r;
	}
	if (p->status != 0 && (p->in_body || skip_head(p)))
		return search_body(p, eof);
	if (eof)
		return bad(p, "the answer ended early");
	return buffer_make_room(&p->in) > 0 ? HTTP_PROBE_MORE : bad(p, "the answer's head is too long");
}
