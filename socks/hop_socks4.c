/*
 * hop_socks4: the handshake with a SOCKS4 or SOCKS4a proxy: one request, one reply. The user name
 * goes as the user id; there is no password. The two differ in one thing: 4a carries names.
 */
#include "socks/hop.h"

#include "socks/socks4.h"

static enum hop_status
ask(struct hop *h, struct buffer *out)
{
	const struct hop_request *q = &h->request;
	uint8_t msg[SOCKS4_REQUEST_MAX];
	if (q->command != SOCKS_CONNECT && q->command != SOCKS_BIND)
		return hop_end(h, VERDICT_UPSTREAM_NO_COMMAND);
	h->authenticated = true; /* a user id is all that there is, and it comes with the request */
	size_t n = socks4_write_request(msg, sizeof msg, (uint8_t)q->command, q->to, q->username);
	return hop_say(h, out, msg, n, VERDICT_UPSTREAM_AUTH);
}

/* The request is the first thing that is said. */
static enum hop_status
start(struct hop *h, struct buffer *out)
{
	return h->request.hold ? hop_end(h, VERDICT_GRANTED) : ask(h, out);
}

static enum hop_status
feed_reply(struct hop *h, struct buffer *in)
{
	struct socks4_reply reply;
	size_t used;
	switch (socks4_parse_reply(buffer_bytes(in), buffer_len(in), &reply, &used)) {
	case PARSE_MORE: return HOP_MORE;
	case PARSE_BAD: return hop_end(h, VERDICT_UPSTREAM_GARBAGE);
	case PARSE_OK: break;
	}
	buffer_take(in, used);
	h->code = reply.code;
	h->bound = reply.bound;
	return hop_end(h, verdict_from_socks4(reply.code));
}

static enum hop_status
feed(struct hop *h, struct buffer *in, struct buffer *out)
{
	(void)out;                             /* all was said at the start */
	return feed_reply(h, in);
}

const struct hop_ops hop_socks4 = {
	.name = "socks4",
	.start = start,
	.ask = ask,
	.feed = feed,
	.feed_second = feed_reply,
};
const struct hop_ops hop_socks4a = {
	.name = "socks4a",
	.carries_names = true,
	.start = start,
	.ask = ask,
	.feed = feed,
	.feed_second = feed_reply,
};
