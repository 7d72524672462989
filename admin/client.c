#include "admin/client.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "policy/upstream_url.h"

enum { USUAL_PORT = 9080, READ_BYTES = 64 << 10 };

/* ---- where and with what ---- */

const char *
client_read_url(struct client *c, const char *url)
{
	static const char scheme[] = "http://";
	*c = (struct client){ 0 };
	if (strncasecmp(url, scheme, sizeof scheme - 1) == 0)
		url += sizeof scheme - 1;
	else if (strstr(url, "://") != NULL)
		return "expected http://HOST:PORT";
	size_t len = strcspn(url, "/");
	if (url[len] == '/' && url[len + 1] != '\0')
		return "expected no path";
	if (memchr(url, '@', len) != NULL)
		return "expected no credentials: the token comes from --token-file";
	enum endpoint_error bad = endpoint_from_text(&c->at, url, len);
	if (bad == ENDPOINT_BAD_PORT && memchr(url, ']', len) == NULL &&
	    memchr(url, ':', len) == NULL) {
		bad = endpoint_set_host(&c->at, url, len);
		c->at.port = USUAL_PORT;
	}
	return bad == ENDPOINT_OK ? NULL : endpoint_error_text(bad);
}

bool
client_read_token(struct client *c, const char *path, char *why, size_t cap)
{
	FILE *f = fopen(path, "re");
	if (f == NULL) {
		snprintf(why, cap, "%s: %s", path, strerror(errno));
		return false;
	}
	bool read = fgets(c->token, sizeof c->token, f) != NULL;
	fclose(f);
	size_t len = strcspn(c->token, "\r\n");
	bool whole = c->token[len] != '\0' || len < sizeof c->token - 1;
	c->token[len] = '\0';
	for (size_t i = 0; i < len; i++)
		whole =
		    whole && (unsigned char)c->token[i] > 0x20 && (unsigned char)c->token[i] < 0x7f;
	if (read && whole && len > 0)
		return true;
	snprintf(why, cap, "%s: expected a token of printable characters in the first line", path);
	return false;
}

bool
client_add_argument(char *path, size_t cap, const char *name, const char *value)
{
	size_t len = strlen(path);
	char *encoded = value != NULL ? malloc(3 * strlen(value) + 1) : NULL;
	if (encoded == NULL)
		return value == NULL;
	percent_encode(value, encoded, 3 * strlen(value) + 1);
	int n = snprintf(path + len, cap - len, "%c%s=%s", strchr(path, '?') != NULL ? '&' : '?',
			 name, encoded);
	free(encoded);
	return n > 0 && (size_t)n < cap - len;
}

/* ---- the wire ---- */

static int
left_ms(uint64_t end_ms)
{
	uint64_t now = clock_now_ms();
	return now >= end_ms ? 0 : (int)(end_ms - now);
}

/* False: errno. */
static bool
wait_for(int fd, short events, uint64_t end_ms)
{
	struct pollfd p = { .fd = fd, .events = events };
	int n;
	while ((n = poll(&p, 1, left_ms(end_ms))) < 0 && errno == EINTR)
		;
	if (n == 0)
		errno = ETIMEDOUT;
	return n > 0;
}

static int
open_to(const struct addrinfo *a, uint64_t end_ms)
{
	int error = 0;
	socklen_t size = sizeof error;
	int fd =
	    socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
	if (fd < 0)
		return -1;
	if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
		return fd;
	if (errno == EINPROGRESS && wait_for(fd, POLLOUT, end_ms) &&
	    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0)
		return fd;
	error = error != 0 ? error : errno;
	close(fd);
	errno = error;
	return -1;
}

static int
dial(const struct endpoint *at, uint64_t end_ms, char *why, size_t cap)
{
	char host[ENDPOINT_TEXT_MAX], port[8], text[ENDPOINT_TEXT_MAX];
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
	int fd = -1;
	endpoint_to_text(at, text, sizeof text);
	snprintf(port, sizeof port, "%u", at->port);
	int bad = getaddrinfo(endpoint_host_to_text(at, host, sizeof host), port, &hints, &found);
	if (bad != 0) {
		snprintf(why, cap, "%s: %s", text, gai_strerror(bad));
		return -1;
	}
	for (const struct addrinfo *a = found; a != NULL && fd < 0; a = a->ai_next)
		fd = open_to(a, end_ms);
	if (fd < 0)
		snprintf(why, cap, "%s: %s: is sockroute running, and its admin API there?", text,
			 strerror(errno));
	freeaddrinfo(found);
	return fd;
}

static bool
send_all(int fd, const char *bytes, size_t len, uint64_t end_ms)
{
	while (len > 0) {
		ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno != EAGAIN || !wait_for(fd, POLLOUT, end_ms)))
			return false;
		if (n > 0) {
			bytes += n;
			len -= (size_t)n;
		}
	}
	return true;
}

static bool
send_request(int fd, const struct client *c, const char *method, const char *path, const char *body,
	     uint64_t end_ms)
{
	char host[ENDPOINT_TEXT_MAX], *head = NULL;
	size_t len = body != NULL ? strlen(body) : 0;
	bool token = c->token[0] != '\0';
	int n = asprintf(&head, "%s %s HTTP/1.0\r\nHost: %s\r\n%s%s%sContent-Length: %zu\r\n\r\n",
			 method, path, endpoint_to_text(&c->at, host, sizeof host),
			 token ? "Authorization: Bearer " : "", c->token, token ? "\r\n" : "", len);
	if (n < 0)
		return false;
	bool ok = send_all(fd, head, (size_t)n, end_ms) &&
		  send_all(fd, body != NULL ? body : "", len, end_ms);
	explicit_bzero(head, (size_t)n);
	free(head);
	return ok;
}

/* ---- the answer ---- */

/* The value of the header line if it has this name; NULL: it has another. */
static const char *
header_value(const char *line, const char *name, size_t *len)
{
	size_t n = strlen(name);
	if (strncasecmp(line, name, n) != 0 || line[n] != ':')
		return NULL;
	const char *value = line + n + 1;
	value += strspn(value, " \t");
	*len = strcspn(value, "\r\n");
	while (*len > 0 && (value[*len - 1] == ' ' || value[*len - 1] == '\t'))
		--*len;
	return value;
}

enum client_parse
client_parse_head(const char *bytes, size_t len, int *status, size_t *body_at, size_t *body_len)
{
	const char *end = memmem(bytes, len, "\r\n\r\n", 4);
	uint64_t number;
	size_t n;
	if (end == NULL)
		return len > CLIENT_HEAD_MAX ? CLIENT_BAD : CLIENT_MORE;
	*body_at = (size_t)(end - bytes) + 4;
	*body_len = SIZE_MAX;
	if (*body_at < 14 || memcmp(bytes, "HTTP/1.", 7) != 0 || bytes[8] != ' ' ||
	    !text_read_number(bytes + 9, 3, 599, &number) || number < 100)
		return CLIENT_BAD;
	*status = (int)number;
	for (const char *line = memmem(bytes, len, "\r\n", 2); line < end;
	     line = memmem(line, (size_t)(end - line) + 2, "\r\n", 2)) {
		line += 2;
		const char *value = header_value(line, "Content-Length", &n);
		if (value != NULL) {
			if (!text_read_number(value, n, CLIENT_ANSWER_MAX, &number))
				return CLIENT_BAD;
			*body_len = (size_t)number;
		}
		if (header_value(line, "Transfer-Encoding", &n) != NULL)
			return CLIENT_BAD;
	}
	return CLIENT_HEAD;
}

/* All that comes; NULL: errno. */
static char *
read_to_end(int fd, size_t *len, uint64_t end_ms)
{
	size_t cap = 0;
	char *bytes = NULL;
	*len = 0;
	for (;;) {
		if (cap - *len < READ_BYTES + 1) {
			char *more = *len <= CLIENT_ANSWER_MAX
					 ? realloc(bytes, cap * 2 + 2 * READ_BYTES)
					 : NULL;
			if (more == NULL)
				break;
			bytes = more;
			cap = cap * 2 + 2 * READ_BYTES;
		}
		ssize_t n = recv(fd, bytes + *len, READ_BYTES, 0);
		if (n == 0) {
			bytes[*len] = '\0';
			return bytes;
		}
		if (n > 0)
			*len += (size_t)n;
		else if (errno != EINTR && (errno != EAGAIN || !wait_for(fd, POLLIN, end_ms)))
			break;
	}
	free(bytes);
	return NULL;
}

static bool
read_answer(int fd, struct client_answer *out, uint64_t end_ms, char *why, size_t cap)
{
	size_t len, body_at, body_len;
	char *bytes = read_to_end(fd, &len, end_ms);
	if (bytes == NULL) {
		snprintf(why, cap, "reading the answer: %s", strerror(errno));
		return false;
	}
	if (client_parse_head(bytes, len, &out->status, &body_at, &body_len) != CLIENT_HEAD ||
	    (body_len != SIZE_MAX && len - body_at < body_len)) {
		snprintf(why, cap, "what answers is no admin API, or it broke off");
		free(bytes);
		return false;
	}
	out->len = body_len != SIZE_MAX ? body_len : len - body_at;
	memmove(bytes, bytes + body_at, out->len);
	bytes[out->len] = '\0';
	out->body = bytes;
	return true;
}

bool
client_call(const struct client *c, const char *method, const char *path, const char *body,
	    struct client_answer *out, char *why, size_t cap)
{
	uint64_t end_ms = clock_now_ms() + CLIENT_DEADLINE_MS;
	*out = (struct client_answer){ 0 };
	int fd = dial(&c->at, end_ms, why, cap);
	if (fd < 0)
		return false;
	bool ok = send_request(fd, c, method, path, body, end_ms);
	if (!ok)
		snprintf(why, cap, "sending the request: %s", strerror(errno));
	ok = ok && read_answer(fd, out, end_ms, why, cap);
	close(fd);
	return ok;
}

void
client_answer_free(struct client_answer *a)
{
	free(a->body);
	*a = (struct client_answer){ 0 };
}
