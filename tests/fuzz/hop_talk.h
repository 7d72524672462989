/*
 * hop_talk: one talk with an upstream of a given kind, for the fuzz targets of the hops.
 *
 * The first byte of the input chooses credentials, pipelining and the kind of destination, the
 * second the size of the pieces.
 */
#ifndef TESTS_FUZZ_HOP_TALK_H
#define TESTS_FUZZ_HOP_TALK_H

#include "base/endpoint.h"
#include "socks/hop.h"
#include "tests/fuzz/fuzz.h"

struct hop_talk {
	struct hop hop;
	enum hop_status status;
	size_t left;
	size_t said_len;
	uint8_t said[HOP_OUT_MAX];
};

static inline void
hop_talk(struct hop_talk *t, const struct hop_ops *ops, uint8_t flags, const uint8_t *data,
    size_t size, size_t piece)
{
	static const char *const targets[] = {
		"a.b:80", "192.0.2.1:80", "[2001:db8::1]:80", "x:1"
	};
	const char *target = targets[flags >> 2 & 3];
	struct endpoint to = { .kind = ENDPOINT_NONE };
	struct hop_request request = {
		.command = flags & 16 ? (enum socks_command)(flags >> 5) : SOCKS_CONNECT,
		.to = &to,
		.username = flags & 1 ? "alice" : NULL,
		.password = "secret",
		.pipeline = (flags & 2) != 0,
		.gssapi = flags == 0xff,
	};
	uint8_t memory[HOP_IN_MAX];
	struct buffer in, out;
	size_t sent = 0;
	buffer_init(&in, memory, sizeof memory);
	buffer_init(&out, t->said, sizeof t->said);
	must(endpoint_from_text(&to, target, strlen(target)) == ENDPOINT_OK);
	t->status = hop_start(&t->hop, ops, &request, &out);
	while (t->status == HOP_MORE) {
		sent = send_piece(&in, data, size, sent, piece);
		t->status = hop_feed(&t->hop, &in, &out, sent == size);
		if (t->status == HOP_PROVE && (t->status = hop_proven(&t->hop, &out)) == HOP_MORE)
			t->status = hop_feed(&t->hop, &in, &out, sent == size);
		must(t->status != HOP_MORE || sent < size);
	}
	t->left = size - sent + buffer_len(&in);
	t->said_len = buffer_len(&out);
}

static inline void
hop_compare(const struct hop_ops *ops, const uint8_t *data, size_t size)
{
	struct hop_talk whole, cut;
	if (size < 2)
		return;
	hop_talk(&whole, ops, data[0], data + 2, size - 2, SIZE_MAX);
	hop_talk(&cut, ops, data[0], data + 2, size - 2, data[1] + 1u);
	must(whole.status == cut.status && whole.hop.verdict == cut.hop.verdict);
	must((whole.status == HOP_DONE) == (whole.hop.verdict == VERDICT_GRANTED));
	must(whole.said_len == cut.said_len && memcmp(whole.said, cut.said, cut.said_len) == 0);
	if (whole.status == HOP_DONE)
		must(whole.left == cut.left && endpoint_equal(&whole.hop.bound, &cut.hop.bound));
}

#endif
