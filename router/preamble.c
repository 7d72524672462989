#include "router/preamble.h"

#include <assert.h>
#include <errno.h>

#include <sys/socket.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/stream.h"
#include "base/tls.h"

void
preamble_init(struct preamble *p, bool wants_header, struct tls_context *tls, struct tls_gate *gate, tls_pass_cb *told,
    void *arg)
{
	p->passed = !wants_header && tls == NULL;
	p->wants_header = wants_header;
	p->in_tls = false;
	p->tls = tls;
	p->proxy.has_addresses = false; /* the addresses themselves are not looked at then */
	tls_pass_init(&p->pass, tls != NULL ? gate : NULL, told, arg);
}

void
preamble_release(struct preamble *p)
{
	tls_pass_give_back(&p->pass);
}

/* Reads what surely belongs to the header. */
static enum preamble_status
read_piece(struct stream *client, struct buffer *in)
{
	size_t wants = proxy_header_wants(buffer_bytes(in), buffer_len(in)), n = 0;
	assert(wants <= in->cap - in->tail);
	switch (stream_read(client, buffer_room(in), wants, &n)) {
	case STREAM_OK:
		buffer_filled(in, n);
		return PREAMBLE_PASSED;
	case STREAM_AGAIN:
		return PREAMBLE_MORE;
	default:
		return PREAMBLE_LEFT;
	}
}

static enum preamble_status
read_header(struct preamble *p, struct stream *client, struct buffer *in)
{
	while (client->ready & STREAM_READABLE) {
		size_t used;
		enum preamble_status status = read_piece(client, in);
		if (status != PREAMBLE_PASSED)
			return status;
		switch (proxy_header_parse(buffer_bytes(in), buffer_len(in), &p->proxy, &used)) {
		case PARSE_OK:
			assert(used == buffer_len(in));
			buffer_take(in, used);
			p->wants_header = false;
			return PREAMBLE_PASSED;
		case PARSE_BAD:
			return PREAMBLE_BAD_HEADER;
		case PARSE_MORE:
			break;
		}
	}
	return PREAMBLE_MORE;
}

/* Exactly the header was read, so that nobody knows whether there is more. */
static void
look_behind(struct stream *client)
{
	char first;
	if (recv(client->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN)
		client->ready &= (uint8_t)~STREAM_READABLE;
}

static enum preamble_status
shake_tls(struct preamble *p, struct stream *client)
{
	uint64_t from_us = clock_now_us();
	enum stream_status status = stream_handshake(client);
	tls_gate_note_step(&p->pass, clock_now_us() - from_us);
	switch (status) {
	case STREAM_OK:
		p->in_tls = false;
		tls_pass_give_back(&p->pass);
		return PREAMBLE_PASSED;
	case STREAM_AGAIN:
		return PREAMBLE_MORE;
	case STREAM_EOF:
		return PREAMBLE_LEFT;
	default:
		return PREAMBLE_BAD_TLS;
	}
}

static enum preamble_status
pass(struct preamble *p)
{
	p->passed = true;
	return PREAMBLE_PASSED;
}

enum preamble_status
preamble_step(struct preamble *p, struct stream *client, struct buffer *in)
{
	if (p->wants_header) {
		enum preamble_status status = read_header(p, client, in);
		if (status != PREAMBLE_PASSED)
			return status;
		if (p->tls != NULL)
			look_behind(client);
	}
	if (p->tls == NULL && !p->in_tls)
		return pass(p);
	/* Who has said nothing yet takes no one's place. */
	if (p->tls != NULL && !(client->ready & STREAM_READABLE))
		return PREAMBLE_MORE;
	if (!tls_gate_may_step(&p->pass))
		return p->tls != NULL && (client->ready & STREAM_HUP) ? PREAMBLE_LEFT : PREAMBLE_MORE;
	if (p->tls != NULL) {
		struct tls *tls = tls_new(p->tls, client->fd, NULL);
		if (tls == NULL)
			return PREAMBLE_NO_MEMORY;
		stream_start_tls(client, tls);
		p->tls = NULL;
		p->in_tls = true;
	}
	enum preamble_status status = shake_tls(p, client);
	return status == PREAMBLE_PASSED ? pass(p) : status;
}
