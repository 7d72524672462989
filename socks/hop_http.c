/*
 * hop_http: the handshake with an HTTP proxy: CONNECT, and an answer whose status decides. Interim
 * answers (1xx) are skipped; what follows the empty line of a 2xx is the tunnel, whatever its
 * fields say.
 */
#include "socks/hop.h"

#include "socks/http_connect.h"

#include <string.h>

enum {
	INTERIM_MAX = 8,                   /* 1xx answers that we sit through; `step` counts them */
	STATUS_SWITCHING = 101,                /* nobody asked for another protocol */
};

static enum hop_status
ask(struct hop *h, struct buffer *out)
{
	const struct hop_request *q = &h->request;
	uint8_t msg[HOP_OUT_MAX];
	if (q->command != SOCKS_CONNECT)
		return hop_end(h, VERDICT_UPSTREAM_NO_COMMAND);
	size_t n = http_write_connect(msg, sizeof msg, q->to, q->username, q->password);
	enum hop_status status = hop_say(h, out, msg, n, VERDICT_UPSTREAM_AUTH);
	explicit_bzero(msg, sizeof msg);
	return status;
}

/* Credentials go with the request: there is nothing to say before it. */
static enum hop_status
start(struct hop *h, struct buffer *out)
{
	return h->request.hold ? hop_end(h, VERDICT_GRANTED) : ask(h, out);
}

static enum hop_status
feed(struct hop *h, struct buffer *in, struct buffer *out)
{
	size_t used;
	(void)out;                             /* all was said at the start */
	for (;;) {
		switch (http_parse_response(buffer_bytes(in), buffer_len(in), &h->status, &used)) {
		case PARSE_MORE: return HOP_MORE;
		case PARSE_BAD: return hop_end(h, VERDICT_UPSTREAM_GARBAGE);
		case PARSE_OK: break;
		}
		buffer_take(in, used);
		if (h->status >= 200)
			break;
		if (h->status == STATUS_SWITCHING || ++h->step > INTERIM_MAX)
			return hop_end(h, VERDICT_UPSTREAM_GARBAGE);
	}
	h->authenticated = h->status != 407;
	return hop_end(h, verdict_from_http(h->status));
}

const struct hop_ops hop_http = {
	.name = "http",
	.carries_names = true,
	.carries_ipv6 = true,
	.start = start,
	.ask = ask,
	.feed = feed,
};
