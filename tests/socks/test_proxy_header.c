/*
 * Tests of the PROXY protocol's headers: each cut at every byte, how far one may be read, and what
 * is written.
 */
#include "socks/proxy_header.h"

#include "vectors.h"

struct vector {
	const char *what, *message;
	enum parse_result want;
	const char *from, *to; /* NULL: no addresses */
	size_t decides;        /* 0: the last byte */
};

#define SIGN "0d0a0d0a 00 0d0a515549540a "
#define V4 "c0000201 c6336402 9c41 0438 "
#define A6 "20010db8 00*11 01 "
#define B6 "20010db8 00*11 02 "
static const struct vector vectors[] = {
    {"TCP4", "'PROXY TCP4 192.0.2.1 198.51.100.2 40001 1080' ~", PARSE_OK, "192.0.2.1:40001",
     "198.51.100.2:1080", 0},
    {"TCP6", "'PROXY TCP6 2001:db8::1 2001:db8::2 40001 1080' ~", PARSE_OK, "[2001:db8::1]:40001",
     "[2001:db8::2]:1080", 0},
    {"TCP6, mapped", "'PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 1 2' ~", PARSE_OK,
     "192.0.2.1:1", "198.51.100.2:2", 0},
    {"ports 0 and 65535", "'PROXY TCP4 1.2.3.4 5.6.7.8 0 65535' ~", PARSE_OK, "1.2.3.4:0",
     "5.6.7.8:65535", 0},
    {"data behind it", "'PROXY TCP4 1.2.3.4 5.6.7.8 1 2' ~ 05 01 00", PARSE_OK, "1.2.3.4:1",
     "5.6.7.8:2", 32},
    {"the longest", "'PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535' ~", PARSE_OK, NULL,
     NULL, 0},
    {"UNKNOWN", "'PROXY UNKNOWN' ~", PARSE_OK, NULL, NULL, 0},
    {"UNKNOWN and anything", "'PROXY UNKNOWN what ever 1 ' ~", PARSE_OK, NULL, NULL, 0},
    {"UNKNOWN and a space", "'PROXY UNKNOWN ' ~", PARSE_OK, NULL, NULL, 0},
    {"UNKNOWN and a NUL", "'PROXY UNKNOWN ' 00 ' x' ~", PARSE_OK, NULL, NULL, 0},
    {"more than UNKNOWN", "'PROXY UNKNOWNS 1' ~", PARSE_BAD, NULL, NULL, 0},
    {"107 bytes", "'PROXY UNKNOWN ' 78*91 ~", PARSE_OK, NULL, NULL, 0},
    {"108 bytes", "'PROXY UNKNOWN ' 78*92 ~", PARSE_BAD, NULL, NULL, 107},
    {"endless", "'PROXY ' 78*200", PARSE_BAD, NULL, NULL, 107},
    {"bare LF", "'PROXY TCP4 1.2.3.4 5.6.7.8 1 2' 0a", PARSE_BAD, NULL, NULL, 0},
    {"lower case", "'proxy'", PARSE_BAD, NULL, NULL, 1},
    {"an HTTP request", "'PUT / HTTP/1.1' ~", PARSE_BAD, NULL, NULL, 2},
    {"SOCKS5", "05 01 00", PARSE_BAD, NULL, NULL, 1},
    {"SOCKS4", "04 01", PARSE_BAD, NULL, NULL, 1},
    {"TLS", "16 03 01", PARSE_BAD, NULL, NULL, 1},
    {"UDP4", "'PROXY UDP4 1.2.3.4 5.6.7.8 1 2' ~", PARSE_BAD, NULL, NULL, 0},
    {"IPv6 in TCP4", "'PROXY TCP4 ::1 ::2 1 2' ~", PARSE_BAD, NULL, NULL, 0},
    {"IPv4 in TCP6", "'PROXY TCP6 1.2.3.4 5.6.7.8 1 2' ~", PARSE_BAD, NULL, NULL, 0},
    {"a name", "'PROXY TCP4 localhost 5.6.7.8 1 2' ~", PARSE_BAD, NULL, NULL, 0},
    {"a short spelling", "'PROXY TCP4 127.1 5.6.7.8 1 2' ~", PARSE_BAD, NULL, NULL, 0},
    {"two spaces", "'PROXY TCP4  1.2.3.4 5.6.7.8 1 2' ~", PARSE_BAD, NULL, NULL, 0},
    {"a space at its end", "'PROXY TCP4 1.2.3.4 5.6.7.8 1 2 ' ~", PARSE_BAD, NULL, NULL, 0},
    {"a fifth word", "'PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3' ~", PARSE_BAD, NULL, NULL, 0},
    {"no port", "'PROXY TCP4 1.2.3.4 5.6.7.8 1' ~", PARSE_BAD, NULL, NULL, 0},
    {"a large port", "'PROXY TCP4 1.2.3.4 5.6.7.8 1 65536' ~", PARSE_BAD, NULL, NULL, 0},
    {"a leading zero", "'PROXY TCP4 1.2.3.4 5.6.7.8 01 2' ~", PARSE_BAD, NULL, NULL, 0},
    {"a sign", "'PROXY TCP4 1.2.3.4 5.6.7.8 +1 2' ~", PARSE_BAD, NULL, NULL, 0},
    {"a NUL", "'PROXY TCP4 1.2.3.4' 00 ' 5.6.7.8 1 2' ~", PARSE_BAD, NULL, NULL, 0},
    {"nothing", "'PROXY ' ~", PARSE_BAD, NULL, NULL, 0},

    {"v2 TCP4", SIGN "21 11 000c " V4, PARSE_OK, "192.0.2.1:40001", "198.51.100.2:1080", 0},
    {"v2 TCP6", SIGN "21 21 0024 " A6 B6 "9c41 0438", PARSE_OK, "[2001:db8::1]:40001",
     "[2001:db8::2]:1080", 0},
    {"v2 with TLVs", SIGN "21 11 0013 " V4 "04 0004 01020304", PARSE_OK, "192.0.2.1:40001",
     "198.51.100.2:1080", 0},
    {"v2 and data behind it", SIGN "21 11 000c " V4 "05 01 00", PARSE_OK, "192.0.2.1:40001",
     "198.51.100.2:1080", 28},
    {"v2 LOCAL", SIGN "20 00 0000", PARSE_OK, NULL, NULL, 0},
    {"v2 LOCAL with addresses", SIGN "20 11 000c " V4, PARSE_OK, NULL, NULL, 0},
    {"v2 LOCAL, another family", SIGN "20 f4 0002 0000", PARSE_OK, NULL, NULL, 0},
    {"v2 UNSPEC", SIGN "21 00 0000", PARSE_OK, NULL, NULL, 0},
    {"v2 UDP4", SIGN "21 12 000c " V4, PARSE_OK, NULL, NULL, 0},
    {"v2 UNIX", SIGN "21 31 00d8 00*216", PARSE_OK, NULL, NULL, 0},
    {"v2 the largest", SIGN "21 11 03f0 " V4 "00*996", PARSE_OK, "192.0.2.1:40001",
     "198.51.100.2:1080", 0},
    {"v2 too large", SIGN "21 11 03f1 " V4, PARSE_BAD, NULL, NULL, 16},
    {"v2 too short for TCP4", SIGN "21 11 000b 00*11", PARSE_BAD, NULL, NULL, 0},
    {"v2 too short for TCP6", SIGN "21 21 0023 00*35", PARSE_BAD, NULL, NULL, 0},
    {"v2 another version", SIGN "11 11 000c " V4, PARSE_BAD, NULL, NULL, 0},
    {"v2 another command", SIGN "22 11 000c " V4, PARSE_BAD, NULL, NULL, 0},
    {"v2 another family", SIGN "21 41 000c " V4, PARSE_BAD, NULL, NULL, 0},
    {"v2 another transport", SIGN "21 13 000c " V4, PARSE_BAD, NULL, NULL, 0},
    {"v2 a broken signature", "0d0a0d0a 01", PARSE_BAD, NULL, NULL, 5},
};

static enum parse_result
parse(const uint8_t *in, size_t len, void *value, size_t *used)
{
	return proxy_header_parse(in, len, value, used);
}

static void
test_headers(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		const struct vector *v = &vectors[i];
		struct bytes in;
		struct proxy_header found;
		check_at_every_cut(v->what, parse, &found, bytes_of(&in, v->message), v->want,
				   v->decides);
		if (v->want != PARSE_OK)
			continue;
		assert_int_equal(found.has_addresses, v->from != NULL);
		if (v->from != NULL) {
			check_endpoint(v->what, &found.from, v->from);
			check_endpoint(v->what, &found.to, v->to);
		}
	}
}

/* Reads as much as is wanted again and again: that ends with the header, never behind it. */
static void
test_a_reader_stops_at_the_end(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		const struct vector *v = &vectors[i];
		struct bytes in;
		struct proxy_header found;
		size_t len = 0, used = 0;
		enum parse_result result;
		if (v->want != PARSE_OK)
			continue;
		bytes_of(&in, v->message);
		while ((result = proxy_header_parse(in.data, len, &found, &used)) == PARSE_MORE) {
			size_t wants = proxy_header_wants(in.data, len);
			assert_true(wants > 0);
			len += wants;
		}
		if (result != PARSE_OK || len != used || len != (v->decides ? v->decides : in.len))
			fail_msg("%s: read %zu bytes of %zu", v->what, len, used);
	}
}

struct writing {
	const char *what;
	unsigned version;
	const char *from, *to, *want;  /* OURS for both: no client's */
};

#define OURS "ours"

static size_t
write_header(uint8_t *out, size_t cap, const void *arg)
{
	const struct writing *w = arg;
	if (w->from != NULL && strcmp(w->from, OURS) == 0)
		return proxy_header_write(out, cap, w->version, NULL, NULL);
	struct endpoint from = endpoint_of(w->from), to = endpoint_of(w->to);
	return proxy_header_write(out, cap, w->version, &from, &to);
}

static void
test_writing(void **state)
{
	static const struct writing writings[] = {
	    {"v1 TCP4", 1, "192.0.2.1:40001", "198.51.100.2:1080",
	     "'PROXY TCP4 192.0.2.1 198.51.100.2 40001 1080' ~"},
	    {"v1 TCP6", 1, "[2001:db8::1]:40001", "[::1]:1080",
	     "'PROXY TCP6 2001:db8::1 ::1 40001 1080' ~"},
	    {"v1 both kinds", 1, "[2001:db8::1]:40001", "192.0.2.1:1080",
	     "'PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 40001 1080' ~"},
	    {"v1 no address", 1, NULL, "192.0.2.1:1080", "'PROXY UNKNOWN' ~"},
	    {"v1 a name", 1, "192.0.2.1:1", "example.com:1080", "'PROXY UNKNOWN' ~"},
	    {"v2 TCP4", 2, "192.0.2.1:40001", "198.51.100.2:1080", SIGN "21 11 000c " V4},
	    {"v2 TCP6", 2, "[2001:db8::1]:40001", "[2001:db8::2]:1080",
	     SIGN "21 21 0024 " A6 B6 "9c41 0438"},
	    {"v2 both kinds", 2, "192.0.2.1:40001", "[2001:db8::2]:1080",
	     SIGN "21 21 0024 00*10 ffff c0000201 " B6 "9c41 0438"},
	    {"v2 no address", 2, NULL, NULL, SIGN "21 00 0000"},
	    {"v2 a name", 2, "192.0.2.1:1", "example.com:1080", SIGN "21 00 0000"},
	    {"v1 our own", 1, OURS, OURS, "'PROXY UNKNOWN' ~"},
	    {"v2 our own", 2, OURS, OURS, SIGN "20 00 0000"},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(writings); i++)
		check_writer(writings[i].what, write_header, &writings[i], writings[i].want, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_headers),
	    cmocka_unit_test(test_a_reader_stops_at_the_end),
	    cmocka_unit_test(test_writing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
