/*
 * Tests of upstream/http_probe: every answer in pieces of every size, and what a request says.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "upstream/http_probe.h"

#include <string.h>

#define OK "HTTP/1.1 200 OK\r\n"
#define X100 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static const struct {
	const char *body, *answer;
	enum http_probe_result want; /* with the end behind it */
	size_t decides;              /* the byte that does; 0: the end */
	const char *why;
} answers[] = {
	{ NULL, OK "\r\n", HTTP_PROBE_GOOD, 19, "" },
	{ NULL, OK "A: b\r\n\r\n", HTTP_PROBE_GOOD, 25, "" },
	{ NULL, "HTTP/1.0 299 x\n\n", HTTP_PROBE_GOOD, 16, "" },
	{ NULL, "HTTP/1.1 404 x\r\n", HTTP_PROBE_GOOD, 16, "" },
	{ NULL, "HTTP/1.1 405 x\r\n", HTTP_PROBE_BAD, 16, "HTTP status 405" },
	{ NULL, "HTTP/1.1 100 x\r\n\r\nHTTP/1.1 300 y\r\n", HTTP_PROBE_BAD, 34, "HTTP status 300" },
	{ NULL, "SSH-", HTTP_PROBE_BAD, 1, "the answer is not HTTP" },
	{ NULL, OK, HTTP_PROBE_BAD, 0, "the answer ended early" },
	{ NULL, "", HTTP_PROBE_BAD, 0, "the answer ended early" },
	{ "well", OK "\r\nall is well", HTTP_PROBE_GOOD, 30, "" },
	{ "well", OK "\r\nwewewelwell!", HTTP_PROBE_GOOD, 30, "" },
	{ "well", OK "A: well\r\n\r\nwel", HTTP_PROBE_BAD, 0, "the expected text is not in the answer" },
	{ "w", OK "\r\n" X100 X100 X100 "w", HTTP_PROBE_GOOD, 320, "" },
	{ "gone", "HTTP/1.1 404 x\r\nA: b\r\n\r\ngone", HTTP_PROBE_GOOD, 28, "" },
};

static struct policy_status_range good[] = { { 200, 299 }, { 404, 404 } };

static enum http_probe_result
hear(struct http_probe *p, const char *bytes, size_t len, size_t piece, size_t *decided)
{
	enum http_probe_result r = HTTP_PROBE_MORE;
	for (size_t at = 0; at < len && r == HTTP_PROBE_MORE;) {
		size_t n = len - at < piece ? len - at : piece;
		assert_true(buffer_append(&p->in, bytes + at, n));
		at += n;
		*decided = at;
		r = http_probe_feed(p, false);
	}
	return r;
}

static void
test_pieces_of_every_size(void **state)
{
	static struct http_probe p;
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		const struct policy_health conf = { .statuses = good, .n_statuses = 2,
			                            .body = answers[i].body };
		size_t len = strlen(answers[i].answer);
		for (size_t piece = 1; piece <= len + 1; piece++) {
			size_t decided = 0;
			http_probe_init(&p, &conf);
			enum http_probe_result r = hear(&p, answers[i].answer, len, piece, &decided);
			if (answers[i].decides == 0) {
				assert_int_equal(r, HTTP_PROBE_MORE);
				r = http_probe_feed(&p, true);
			} else if (piece == 1) {
				assert_int_equal(decided, answers[i].decides);
			}
			if (r != answers[i].want || strcmp(p.why, answers[i].why) != 0)
				fail_msg("%s in pieces of %zu: %d, %s", answers[i].answer, piece, r,
					 p.why);
		}
	}
}

static void
test_bounds(void **state)
{
	static struct http_probe p;
	const struct policy_health conf = { .statuses = good, .n_statuses = 2, .body = "well" };
	uint8_t waste[1000];
	(void)state;
	memset(waste, 'x', sizeof waste);
	http_probe_init(&p, &conf);
	assert_true(buffer_append(&p.in, "HTTP/1.1 404 ", 13));
	enum http_probe_result r = HTTP_PROBE_MORE;
	size_t fed = 0;
	for (; r == HTTP_PROBE_MORE && fed < 2 * HTTP_PROBE_IN_MAX; fed++) {
		assert_true(buffer_append(&p.in, "x", 1));
		r = http_probe_feed(&p, false);
	}
	assert_int_equal(r, HTTP_PROBE_BAD);
	assert_in_range(fed, 1000, HTTP_PROBE_IN_MAX);
	http_probe_init(&p, &conf);
	assert_true(buffer_append(&p.in, OK "\r\n", 19));
	for (r = http_probe_feed(&p, false), fed = 0; r == HTTP_PROBE_MORE; fed += sizeof waste) {
		assert_true(buffer_append(&p.in, waste, sizeof waste));
		r = http_probe_feed(&p, false);
	}
	assert_string_equal(p.why, "the expected text is not in the answer");
	assert_in_range(fed, HTTP_PROBE_BODY_MAX, HTTP_PROBE_BODY_MAX + 2000);
}

static void
test_request(void **state)
{
	static struct http_probe p;
	const struct policy_health conf = { .method = "HEAD", .path = "/a?b", .host = "c.example:81" };
	uint8_t out[HTTP_PROBE_REQUEST_MAX];
	static const char want[] = "HEAD /a?b HTTP/1.0\r\nHost: c.example:81\r\nUser-Agent: sockroute\r\n"
				   "Accept: */*\r\nConnection: close\r\n\r\n";
	(void)state;
	http_probe_init(&p, &conf);
	assert_int_equal(http_probe_request(&p, out), sizeof want - 1);
	assert_memory_equal(out, want, sizeof want - 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pieces_of_every_size),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_request),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
