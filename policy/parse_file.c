/*
 * parse_file: the files that a policy names: their paths, and reading them whole, bounded, without
 * waiting on what is no file.
 */
#include "policy/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *
parse_path(struct parse_context *c, const struct json_value *v)
{
	const char *text = parse_string(c, v);
	if (text == NULL || *text == '/')
		return text;
	const char *path = arena_print(c->arena, "%s/%s", c->dir, text);
	if (path == NULL)
		parse_error_memory(c);
	return path;
}

ssize_t
parse_read_up_to(int fd, char *out, size_t cap)
{
	size_t len = 0;
	while (len < cap) {
		ssize_t n = read(fd, out + len, cap - len);
		if (n == 0)
			break;
		if (n < 0 && errno != EINTR)
			return -1;
		len += n > 0 ? (size_t)n : 0;
	}
	return (ssize_t)len;
}

/* Why the open file can't be read whole, or NULL and its text. */
static const char *
read_open_file(int fd, size_t max, char **text, size_t *len)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		return strerror(errno);
	if (!S_ISREG(st.st_mode))
		return "it is no regular file";
	if ((uint64_t)st.st_size > max)
		return "it is larger than what is taken";
	size_t cap = (size_t)st.st_size + 1;
	if ((*text = malloc(cap)) == NULL)
		return "out of memory";
	ssize_t n = parse_read_up_to(fd, *text, cap);
	const char *why = n < 0              ? strerror(errno)
	                  : (size_t)n == cap ? "it grew while it was read"
	                                     : NULL;
	if (why != NULL) {
		free(*text);
		return why;
	}
	(*text)[n] = '\0';
	*len = (size_t)n;
	return NULL;
}

char *
parse_read_file(
    struct parse_context *c, const struct json_value *at, const char *path, size_t max, size_t *len)
{
	char *text = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	const char *why = fd < 0 ? strerror(errno) : read_open_file(fd, max, &text, len);
	if (fd >= 0)
		close(fd);
	if (why == NULL)
		return text;
	parse_error(c, at, "the file %s can't be read: %s", path, why);
	return NULL;
}

const char *
parse_read_secret(
    struct parse_context *c, const struct json_value *at, const char *path, size_t max)
{
	size_t len;
	char *text = parse_read_file(c, at, path, max + 2, &len);
	const char *secret = NULL;
	if (text == NULL)
		return NULL;
	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		len--;
	if (len == 0 || len > max || memchr(text, '\n', len) != NULL ||
	    memchr(text, '\0', len) != NULL)
		parse_error(c, at,
		    "expected one line of 1 to %zu bytes in the file %s, found something else", max,
		    path);
	else if ((secret = arena_copy_text(c->arena, text, len)) == NULL)
		parse_error_memory(c);
	explicit_bzero(text, len);
	free(text);
	return secret;
}
