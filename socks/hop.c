/*
 * hop: what all kinds of upstream handshake have in common: how they begin, how they end, and what
 * the peer's end means.
 */
#include "socks/hop.h"

static void
reset(struct hop *h, const struct hop_ops *ops, const struct hop_request *request)
{
	*h = (struct hop){ .ops = ops, .request = *request, .verdict = VERDICT_UPSTREAM_FAILED };
	if (h->request.username == NULL)
		h->request.username = "";
	if (h->request.password == NULL)
		h->request.password = "";
}

static bool
carries(const struct hop_ops *ops, const struct endpoint *to)
{
	return (to->kind != ENDPOINT_NAME || ops->carries_names) &&
	       (to->kind != ENDPOINT_IPV6 || ops->carries_ipv6);
}

enum hop_status
hop_start(struct hop *h, const struct hop_ops *ops, const struct hop_request *request,
    struct buffer *out)
{
	reset(h, ops, request);
	if (!request->hold && !carries(ops, request->to))
		return hop_end(h, VERDICT_UPSTREAM_NO_ADDRESS);
	return ops->start(h, out);
}

enum hop_status
hop_ask(struct hop *h, const struct hop_ops *ops, const struct hop_request *request,
    struct buffer *out)
{
	reset(h, ops, request);
	h->request.hold = false;
	if (!carries(ops, request->to))
		return hop_end(h, VERDICT_UPSTREAM_NO_ADDRESS);
	return ops->ask(h, out);
}

enum hop_status
hop_proven(struct hop *h, struct buffer *out)
{
	if (!h->request.hold)
		return h->ops->ask(h, out);
	h->authenticated = true;
	return hop_end(h, VERDICT_GRANTED);
}

enum hop_status
hop_feed(struct hop *h, struct buffer *in, struct buffer *out, bool eof)
{
	enum hop_status status = h->ops->feed(h, in, out);
	return status == HOP_MORE && eof ? hop_end(h, VERDICT_UPSTREAM_FAILED) : status;
}

void
hop_start_second(struct hop *h, const struct hop_ops *ops)
{
	*h = (struct hop){ .ops = ops, .verdict = VERDICT_UPSTREAM_FAILED, .authenticated = true };
}

enum hop_status
hop_feed_second(struct hop *h, struct buffer *in, bool eof)
{
	enum hop_status status = h->ops->feed_second(h, in);
	return status == HOP_MORE && eof ? hop_end(h, VERDICT_UPSTREAM_FAILED) : status;
}

enum hop_status
hop_end(struct hop *h, enum verdict v)
{
	h->verdict = v;
	return v == VERDICT_GRANTED ? HOP_DONE : HOP_FAILED;
}

enum hop_status
hop_say(struct hop *h, struct buffer *out, const uint8_t *message, size_t len, enum verdict v)
{
	if (len == 0)
		return hop_end(h, v);
	return buffer_append(out, message, len) ? HOP_MORE : hop_end(h, VERDICT_INTERNAL);
}
