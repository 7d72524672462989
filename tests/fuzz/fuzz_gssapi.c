/*
 * fuzz_gssapi: any bytes as messages of RFC 1961, and as the sealed bytes of a stream. How they were cut makes no difference, and
 * nothing is read or kept beyond what a message may be.
 *
 * The first byte of the input is the size of the pieces; the sealing is a toy, so that what is inside can be made up.
 */
#include "socks/gssapi.h"

#include "base/gss_layer.h"
#include "tests/base/toy_gss.h"
#include "tests/fuzz/fuzz.h"

static void
check_codec(const uint8_t *data, size_t size)
{
	struct gssapi_message whole, cut;
	size_t used = 0, used_cut = 0, len = 0;
	enum parse_result want = gssapi_parse(data, size, &whole, &used), got;
	do
		got = gssapi_parse(data, len, &cut, &used_cut);
	while (got == PARSE_MORE && len++ < size);
	must(got == want);
	if (want == PARSE_MORE)
		must(size < GSSAPI_MESSAGE_MAX);
	if (want != PARSE_OK)
		return;
	must(used == used_cut && used <= size && whole.type == cut.type && whole.len == cut.len);
	must(whole.type == GSSAPI_ABORT ? whole.token == NULL : whole.token == data + GSSAPI_HEADER && whole.len > 0);
	must(used == (whole.type == GSSAPI_ABORT ? 2 : GSSAPI_HEADER + whole.len));
}

struct opened {
	enum gss_layer_status status;
	bool cut;
	size_t len;
	uint8_t bytes[1 << 16];
};

static void
open_all(struct opened *o, const uint8_t *data, size_t size, size_t piece, size_t out_max)
{
	struct gss_layer_options options = { .context = toy_context(), .secret = true, .prefix = { GSSAPI_VERSION, GSSAPI_DATA } };
	struct gss_layer *l = gss_layer_new(&options);
	size_t sent = 0, cap, n;
	must(l != NULL);
	o->len = 0;
	for (;;) {
		while ((o->status = gss_layer_read(l, o->bytes + o->len, out_max, &n)) == GSS_LAYER_OK) {
			must(n > 0 && n <= out_max);
			o->len += n;
			must(o->len < size);
		}
		must(gss_layer_has_more(l) == (o->status == GSS_LAYER_FAILED));
		o->cut = gss_layer_is_cut(l);
		if (o->status == GSS_LAYER_FAILED || sent == size)
			break;
		uint8_t *room = gss_layer_room(l, &cap);
		must(room != NULL && cap > 0 && cap <= GSSAPI_MESSAGE_MAX + GSS_LAYER_READ);
		n = size - sent < piece ? size - sent : piece;
		n = n < cap ? n : cap;
		memcpy(room, data + sent, n);
		gss_layer_filled(l, n);
		sent += n;
	}
	gss_layer_free(l);
	must(toy_contexts() == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct opened whole, cut;
	if (size < 1 || size > sizeof whole.bytes)
		return 0;
	check_codec(data + 1, size - 1);
	open_all(&whole, data + 1, size - 1, SIZE_MAX, sizeof whole.bytes / 2);
	open_all(&cut, data + 1, size - 1, data[0] % 64u + 1u, data[0] / 64u + 1u);
	must(whole.status == cut.status && whole.len == cut.len && memcmp(whole.bytes, cut.bytes, cut.len) == 0);
	must(whole.status == GSS_LAYER_FAILED || whole.cut == cut.cut);
	return 0;
}
