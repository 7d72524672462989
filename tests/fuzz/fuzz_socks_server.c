/*
 * fuzz_socks_server: a client that sends anything at all, in any pieces, to a listener of any
 * protocols and methods.
 *
 * The first three bytes of the input choose protocols, methods and the size of the pieces. A
 * password of even length is good. Of a token the lowest two bits of its first byte say what becomes
 * of it.
 */
#include "socks/gssapi.h"
#include "socks/server.h"

#include "tests/fuzz/fuzz.h"

struct talk {
	struct socks_server server;
	enum shake_result result;
	size_t left;
	size_t said_len;
	uint8_t said[1 << 16];
};

static enum shake_result
feed(struct talk *t, struct buffer *in, struct buffer *out, bool eof)
{
	struct socks_server *s = &t->server;
	for (;;) {
		enum shake_result result = socks_server_feed(s, in, out, eof);
		switch (result) {
		case SHAKE_AUTH:
			must(strlen(s->username) == s->username_len);
			must(strlen(s->password) == s->password_len);
			if (s->password_len % 2 == 0)
				socks_server_admit(s, out);
			else
				socks_server_deny(s, out);
			break;
		case SHAKE_TOKEN:
			must(s->token_len > 0 && !s->admitted);
			if ((s->token[0] & 3) == 3)
				socks_server_deny(s, out);
			else
				socks_server_give_token(s, s->token, s->token[0] & 1,
				    (s->token[0] & 2) != 0, out);
			break;
		case SHAKE_LEVEL:
			must(s->token_len > 0 && !s->admitted);
			if (s->token[0] % 2 == 0)
				socks_server_agree(s, s->token, 1, out);
			else
				socks_server_deny(s, out);
			break;
		default:
			return result;
		}
	}
}

static void
talk(struct talk *t, const struct socks_server_options *options, const uint8_t *data, size_t size,
    size_t piece)
{
	uint8_t memory[GSSAPI_MESSAGE_MAX];
	struct buffer in, out;
	size_t sent = 0;
	buffer_init(&in, memory, sizeof memory);
	buffer_init(&out, t->said, sizeof t->said);
	socks_server_init(&t->server, options);
	do {
		sent = send_piece(&in, data, size, sent, piece);
		t->result = feed(t, &in, &out, sent == size);
		must(t->result != SHAKE_MORE || sent < size);
	} while (t->result == SHAKE_MORE);
	if (t->result == SHAKE_ASKED) {
		const struct socks_request *r = &t->server.request;
		must((r->command >= SOCKS_CONNECT && r->command <= SOCKS_UDP) ||
		     (options->tor_resolve && SOCKS_IS_LOOK_UP(r->command)));
		must(r->to.kind != ENDPOINT_NONE);
		must(r->to.port > 0 || r->command != SOCKS_CONNECT);
		socks_server_reply(&t->server, VERDICT_GRANTED, &r->to, &out);
	} else {
		must(t->server.verdict != VERDICT_GRANTED && t->server.verdict != VERDICT_INTERNAL);
	}
	t->left = size - sent + buffer_len(&in);
	t->said_len = buffer_len(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct talk whole, cut;
	if (size < 3)
		return 0;
	struct socks_server_options options = { .protocols = data[0], .tor_resolve = (data[1] & 16) != 0, .methods = data[1] & 15 };
	talk(&whole, &options, data + 3, size - 3, SIZE_MAX);
	talk(&cut, &options, data + 3, size - 3, data[2] + 1u);
	must(whole.result == cut.result && whole.server.verdict == cut.server.verdict);
	must(whole.said_len == cut.said_len && memcmp(whole.said, cut.said, cut.said_len) == 0);
	must(whole.server.admitted == cut.server.admitted);
	if (whole.result == SHAKE_ASKED)
		must(whole.left == cut.left &&
		     endpoint_equal(&whole.server.request.to, &cut.server.request.to));
	return 0;
}
