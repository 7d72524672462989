/*
 * hop_socks5: the handshake with a SOCKS5 proxy (RFC 1928, RFC 1929).
 *
 *   METHOD -+-> STATUS --> REPLY -> done
 *           |--- none -----^
 *           `-> PROVE -----^             GSS-API, which the owner speaks
 * Held, it ends before the request; asking begins at REPLY.
 * Pipelined, all that we say goes out at the start. That takes one method in the offer, as nobody
 * can answer for a choice that has not been made: userpass where there are credentials, else none.
 */
#include "socks/hop.h"

#include "socks/socks5.h"

#include <string.h>

enum { STEP_METHOD, STEP_PROVE, STEP_STATUS, STEP_REPLY };

static unsigned
offer(const struct hop_request *q)
{
	if (q->gssapi)
		return AUTH_GSSAPI;
	if (q->username[0] == '\0')
		return AUTH_NONE;
	return q->pipeline ? AUTH_USERPASS : AUTH_NONE | AUTH_USERPASS;
}

static enum hop_status
say_credentials(struct hop *h, struct buffer *out)
{
	uint8_t msg[SOCKS5_USERPASS_MAX];
	size_t n = socks5_write_userpass(msg, sizeof msg, h->request.username, h->request.password);
	enum hop_status status = hop_say(h, out, msg, n, VERDICT_UPSTREAM_AUTH);
	explicit_bzero(msg, sizeof msg);
	return status;
}

static enum hop_status
say_request(struct hop *h, struct buffer *out)
{
	uint8_t msg[SOCKS5_REQUEST_MAX];
	size_t n = socks5_write_request(msg, sizeof msg, (uint8_t)h->request.command,
	    h->request.to);
	return hop_say(h, out, msg, n, VERDICT_INTERNAL);
}

static enum hop_status
start(struct hop *h, struct buffer *out)
{
	unsigned offered = offer(&h->request);
	uint8_t msg[SOCKS5_GREETING_MAX];
	size_t n = socks5_write_greeting(msg, sizeof msg, offered);
	enum hop_status status = hop_say(h, out, msg, n, VERDICT_INTERNAL);
	if (status == HOP_MORE && h->request.pipeline && offered == AUTH_USERPASS)
		status = say_credentials(h, out);
	if (status == HOP_MORE && h->request.pipeline && !h->request.hold && offered != AUTH_GSSAPI)
		status = say_request(h, out);
	return status;
}

static enum hop_status
ask(struct hop *h, struct buffer *out)
{
	h->authenticated = true;
	h->step = STEP_REPLY;
	return say_request(h, out);
}

/* Past authentication: the request goes out, if it has not gone. */
static enum hop_status
begin_reply(struct hop *h, struct buffer *out)
{
	h->authenticated = true;
	if (h->request.hold)
		return hop_end(h, VERDICT_GRANTED);
	h->step = STEP_REPLY;
	return h->request.pipeline ? HOP_MORE : say_request(h, out);
}

static enum hop_status
feed_method(struct hop *h, struct buffer *in, struct buffer *out)
{
	uint8_t method;
	size_t used;
	switch (socks5_parse_choice(buffer_bytes(in), buffer_len(in), &method, &used)) {
	case PARSE_MORE: return HOP_MORE;
	case PARSE_BAD: return hop_end(h, VERDICT_UPSTREAM_GARBAGE);
	case PARSE_OK: break;
	}
	buffer_take(in, used);
	unsigned offered = offer(&h->request);
	if (method == SOCKS5_METHOD_REFUSED)
		return hop_end(h, VERDICT_UPSTREAM_AUTH);
	if (method == SOCKS5_METHOD_NONE && (offered & AUTH_NONE) != 0)
		return begin_reply(h, out);
	if (method == SOCKS5_METHOD_GSSAPI && offered == AUTH_GSSAPI) {
		h->step = STEP_PROVE;
		return HOP_PROVE;
	}
	if (method != SOCKS5_METHOD_USERPASS || (offered & AUTH_USERPASS) == 0)
		return hop_end(h, VERDICT_UPSTREAM_GARBAGE);
	h->step = STEP_STATUS;
	return h->request.pipeline ? HOP_MORE : say_credentials(h, out);
}

static enum hop_status
feed_status(struct hop *h, struct buffer *in, struct buffer *out)
{
	bool good;
	size_t used;
	switch (socks5_parse_status(buffer_bytes(in), buffer_len(in), &good, &used)) {
	case PARSE_MORE: return HOP_MORE;
	case PARSE_BAD: return hop_end(h, VERDICT_UPSTREAM_GARBAGE);
	case PARSE_OK: break;
	}
	buffer_take(in, used);
	return good ? begin_reply(h, out) : hop_end(h, VERDICT_UPSTREAM_AUTH);
}

static enum hop_status
feed_reply(struct hop *h, struct buffer *in)
{
	struct socks5_reply reply;
	size_t used;
	switch (socks5_parse_reply(buffer_bytes(in), buffer_len(in), &reply, &used)) {
	case PARSE_MORE: return HOP_MORE;
	case PARSE_BAD: return hop_end(h, VERDICT_UPSTREAM_GARBAGE);
	case PARSE_OK: break;
	}
	buffer_take(in, used);
	h->code = reply.rep;
	h->bound = reply.bound;
	return hop_end(h, verdict_from_socks5(reply.rep));
}

static enum hop_status
feed(struct hop *h, struct buffer *in, struct buffer *out)
{
	enum hop_status status;
	uint8_t step;
	do {                               /* the answer to the next message may be there already */
		step = h->step;
		if (step == STEP_METHOD)
			status = feed_method(h, in, out);
		else if (step == STEP_STATUS)
			status = feed_status(h, in, out);
		else
			status = feed_reply(h, in);
	} while (status == HOP_MORE && h->step != step);
	return status;
}

const struct hop_ops hop_socks5 = {
	.name = "socks5",
	.carries_names = true,
	.carries_ipv6 = true,
	.start = start,
	.ask = ask,
	.feed = feed,
	.feed_second = feed_reply,
};
