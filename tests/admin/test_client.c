/*
 * The command's HTTP client: URLs, tokens, heads of answers cut at every byte, and whole calls to a
 * scripted server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin/client.h"

static const struct {
	const char *url, *want; /* NULL: refused */
} urls[] = {
	{ "http://127.0.0.1:9081", "127.0.0.1:9081" },
	{ "http://127.0.0.1:9081/", "127.0.0.1:9081" },
	{ "HTTP://localhost", "localhost:9080" },
	{ "localhost:1", "localhost:1" },
	{ "127.0.0.1", "127.0.0.1:9080" },
	{ "http://[::1]:9081", "[::1]:9081" },
	{ "https://127.0.0.1:9081", NULL },
	{ "ftp://127.0.0.1", NULL },
	{ "http://127.0.0.1:9081/v1", NULL },
	{ "http://a:b@127.0.0.1", NULL },
	{ "http://127.0.0.1:99999", NULL },
	{ "http://127.0.0.1:", NULL },
	{ "http://", NULL },
	{ "", NULL },
	{ "a b", NULL },
};

static void
test_urls(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
		struct client c;
		char text[ENDPOINT_TEXT_MAX];
		const char *wrong = client_read_url(&c, urls[i].url);
		print_message("%s: %s\n", urls[i].url, wrong != NULL ? wrong : "taken");
		assert_int_equal(wrong == NULL, urls[i].want != NULL);
		if (wrong == NULL)
			assert_string_equal(endpoint_to_text(&c.at, text, sizeof text),
					    urls[i].want);
	}
}

static const struct {
	const char *what, *file, *want;
} tokens[] = {
	{ "a line", "sesame\n", "sesame" },
	{ "no line's end", "sesame", "sesame" },
	{ "of Windows", "sesame\r\n", "sesame" },
	{ "more lines", "sesame\nopen\n", "sesame" },
	{ "empty", "", NULL },
	{ "an empty line", "\nsesame\n", NULL },
	{ "a space", "ses ame\n", NULL },
	{ "a header of its own", "a\rX: y\n", "a" },
	{ "no ASCII", "s\xc3\xa9same\n", NULL },
};

static void
test_tokens(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(tokens); i++) {
		char path[] = "/tmp/sockroute-test-XXXXXX", why[256];
		int fd = mkstemp(path);
		struct client c = { 0 };
		assert_true(fd >= 0);
		assert_int_equal(write(fd, tokens[i].file, strlen(tokens[i].file)),
				 (ssize_t)strlen(tokens[i].file));
		close(fd);
		bool ok = client_read_token(&c, path, why, sizeof why);
		unlink(path);
		print_message("%s\n", tokens[i].what);
		assert_int_equal(ok, tokens[i].want != NULL);
		if (ok)
			assert_string_equal(c.token, tokens[i].want);
	}
}

static void
test_token_too_long_or_missing(void **state)
{
	char path[] = "/tmp/sockroute-test-XXXXXX", why[256], bytes[CLIENT_TOKEN_MAX + 1];
	struct client c = { 0 };
	int fd = mkstemp(path);
	(void)state;
	memset(bytes, 'x', sizeof bytes);
	assert_int_equal(write(fd, bytes, sizeof bytes), sizeof bytes);
	close(fd);
	assert_false(client_read_token(&c, path, why, sizeof why));
	unlink(path);
	assert_false(client_read_token(&c, path, why, sizeof why));
	assert_non_null(strstr(why, path));
}

static const struct {
	const char *what, *head;
	enum client_parse want;
	int status;
	size_t body_len;
} heads[] = {
	{ "usual", "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", CLIENT_HEAD, 200, 12 },
	{ "HTTP/1.0", "HTTP/1.0 404 Not Found\r\n\r\n", CLIENT_HEAD, 404, SIZE_MAX },
	{ "no reason", "HTTP/1.1 204\r\nA: b\r\n\r\n", CLIENT_HEAD, 204, SIZE_MAX },
	{ "case and spaces", "HTTP/1.1 200 OK\r\nX: y\r\ncontent-length:  3 \t\r\n\r\n",
	  CLIENT_HEAD, 200, 3 },
	{ "chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", CLIENT_BAD, 0, 0 },
	{ "a length that is none", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", CLIENT_BAD, 0,
	  0 },
	{ "a length beyond all bounds", "HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n",
	  CLIENT_BAD, 0, 0 },
	{ "a status that is none", "HTTP/1.1 2x0 OK\r\n\r\n", CLIENT_BAD, 0, 0 },
	{ "a low status", "HTTP/1.1 099 OK\r\n\r\n", CLIENT_BAD, 0, 0 },
	{ "another protocol", "SSH-2.0-OpenSSH_9.2\r\n\r\n", CLIENT_BAD, 0, 0 },
	{ "nothing", "\r\n\r\n", CLIENT_BAD, 0, 0 },
};

static void
test_heads(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
		size_t len = strlen(heads[i].head), body_at, body_len;
		int status;
		print_message("%s\n", heads[i].what);
		for (size_t cut = 0; cut < len;
		     cut++) { /* in memory of its own, so that a read too far is seen */
			char *part = malloc(cut + 1);
			memcpy(part, heads[i].head, cut);
			assert_int_equal(client_parse_head(part, cut, &status, &body_at, &body_len),
					 CLIENT_MORE);
			free(part);
		}
		assert_int_equal(
		    client_parse_head(heads[i].head, len, &status, &body_at, &body_len),
		    heads[i].want);
		if (heads[i].want != CLIENT_HEAD)
			continue;
		assert_int_equal(status, heads[i].status);
		assert_int_equal(body_at, len);
		assert_int_equal(body_len, heads[i].body_len);
	}
}

static void
test_endless_head(void **state)
{
	char *bytes = malloc(CLIENT_HEAD_MAX + 1);
	size_t body_at, body_len;
	int status;
	(void)state;
	memset(bytes, 'a', CLIENT_HEAD_MAX + 1);
	assert_int_equal(client_parse_head(bytes, CLIENT_HEAD_MAX, &status, &body_at, &body_len),
			 CLIENT_MORE);
	assert_int_equal(
	    client_parse_head(bytes, CLIENT_HEAD_MAX + 1, &status, &body_at, &body_len),
	    CLIENT_BAD);
	free(bytes);
}

static void
test_arguments(void **state)
{
	char path[64] = "/v1/explain";
	(void)state;
	assert_true(client_add_argument(path, sizeof path, "to", "[::1]:80"));
	assert_true(client_add_argument(path, sizeof path, "client", NULL));
	assert_true(client_add_argument(path, sizeof path, "user", "a&b +c"));
	assert_string_equal(path, "/v1/explain?to=%5B%3A%3A1%5D%3A80&user=a%26b%20%2Bc");
	assert_false(client_add_argument(path, sizeof path, "listener", "much-too-long"));
}

/* ---- whole calls ---- */

struct server {
	int fd;
	const char *answer;
	char request[2048];
};

static void *
serve_once(void *arg)
{
	struct server *s = arg;
	int fd = accept(s->fd, NULL, NULL);
	size_t n = 0;
	ssize_t got;
	while (strstr(s->request, "\r\n\r\n") == NULL &&
	       (got = recv(fd, s->request + n, sizeof s->request - n - 1, 0)) > 0)
		n += (size_t)got;
	for (const char *p = s->answer; *p != '\0'; p++) /* a byte at a time */
		if (send(fd, p, 1, MSG_NOSIGNAL) != 1)
			break;
	close(fd);
	return NULL;
}

static bool
call(const char *answer, struct server *s, struct client_answer *out)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof at;
	char url[64], why[256];
	struct client c;
	pthread_t thread;
	*s = (struct server){ .fd = socket(AF_INET, SOCK_STREAM, 0), .answer = answer };
	assert_int_equal(bind(s->fd, (struct sockaddr *)&at, len), 0);
	assert_int_equal(listen(s->fd, 1), 0);
	assert_int_equal(getsockname(s->fd, (struct sockaddr *)&at, &len), 0);
	snprintf(url, sizeof url, "http://127.0.0.1:%u", ntohs(at.sin_port));
	assert_null(client_read_url(&c, url));
	strcpy(c.token, "sesame");
	assert_int_equal(pthread_create(&thread, NULL, serve_once, s), 0);
	bool ok = client_call(&c, "GET", "/v1/status", NULL, out, why, sizeof why);
	pthread_join(thread, NULL);
	close(s->fd);
	return ok;
}

static void
test_call(void **state)
{
	struct server s;
	struct client_answer a;
	(void)state;
	assert_true(
	    call("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more than that", &s, &a));
	assert_int_equal(a.status, 200);
	assert_int_equal(a.len, 5);
	assert_string_equal(a.body, "hello");
	client_answer_free(&a);
	assert_non_null(strstr(s.request, "GET /v1/status HTTP/1.0\r\n"));
	assert_non_null(strstr(s.request, "\r\nAuthorization: Bearer sesame\r\n"));
	assert_non_null(strstr(s.request, "\r\nHost: 127.0.0.1:"));
	assert_true(call("HTTP/1.1 200 OK\r\n\r\nto the end", &s, &a));
	assert_string_equal(a.body, "to the end");
	client_answer_free(&a);
}

static void
test_call_that_fails(void **state)
{
	static const char *const answers[] = { "", "HTTP/1.1 200",
					       "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
					       "garbage\r\n\r\n" };
	struct server s;
	struct client_answer a;
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(answers); i++)
		assert_false(call(answers[i], &s, &a));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_urls),
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_token_too_long_or_missing),
		cmocka_unit_test(test_heads),
		cmocka_unit_test(test_endless_head),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_call),
		cmocka_unit_test(test_call_that_fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
