/*
 * set_file: the file of a set, cut into lines and entries; see the header. Holds one block of the
 * file at a time.
 */
#include "policy/set_file.h"

#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK_SIZE = 64 << 10, QUOTED_MAX = 60, MESSAGE_MAX = 1024 };

struct set_reader {
	const char *path;
	set_line_fn *on_line;
	void *line_arg;
	set_report_fn *report;
	void *report_arg;
	unsigned long line;                    /* number of the line being read */
	bool too_long;                         /* its beginning was thrown away */
	bool fine;
};

/* line 0: it is about the file as a whole. */
static void
fault(struct set_reader *r, unsigned long line, const char *why, const char *quoted)
{
	char message[MESSAGE_MAX];
	size_t len = 0;
	r->fine = false;
	text_append(message, sizeof message, &len, "%s:", r->path);
	if (line > 0)
		text_append(message, sizeof message, &len, "%lu:", line);
	text_append(message, sizeof message, &len, " %s%s", why, quoted);
	r->report(r->report_arg, message);
}

/* The entry as a message shows it: bytes that a terminal might act on become '?', a long one is
 * cut. */
static const char *
quote(char out[QUOTED_MAX + 16], const char *text, size_t len)
{
	char shown[QUOTED_MAX + 1];
	size_t n = len < QUOTED_MAX ? len : QUOTED_MAX;
	for (size_t i = 0; i < n; i++)
		shown[i] = text[i] > ' ' && text[i] < 0x7f ? text[i] : text[i] == ' ' ? ' ' : '?';
	shown[n] = '\0';
	snprintf(out, QUOTED_MAX + 16, ": \"%s\"%s", shown, n < len ? "..." : "");
	return out;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* A '#' begins a comment where it can't be part of an entry: at the start, or behind a blank. */
static size_t
without_comment(const char *text, size_t len)
{
	const char *at = text;
	while ((at = memchr(at, '#', len - (size_t)(at - text))) != NULL) {
		if (at == text || is_blank(at[-1]))
			return (size_t)(at - text);
		at++;
	}
	return len;
}

static void
take_line(struct set_reader *r, const char *text, size_t len)
{
	r->line++;
	if (r->too_long || len > SET_LINE_MAX) {
		r->too_long = false;
		fault(r, r->line, "the line is longer than 4096 bytes", "");
		return;
	}
	if (r->line == 1 && len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		text += 3, len -= 3;
	len = without_comment(text, len);
	while (len > 0 && is_blank(text[0]))
		text++, len--;
	while (len > 0 && is_blank(text[len - 1]))
		len--;
	if (len == 0)
		return;
	const char *why = r->on_line(r->line_arg, text, len);
	char quoted[QUOTED_MAX + 16];
	if (why != NULL)
		fault(r, r->line, why, quote(quoted, text, len));
}

/* All whole lines of block[0 .. len); returns how many bytes they were. */
static size_t
take_lines(struct set_reader *r, const char *block, size_t len)
{
	const char *at = block, *end = block + len, *newline;
	while ((newline = memchr(at, '\n', (size_t)(end - at))) != NULL) {
		take_line(r, at, (size_t)(newline - at));
		at = newline + 1;
	}
	return (size_t)(at - block);
}

static void
read_all(struct set_reader *r, int fd)
{
	char block[BLOCK_SIZE];
	size_t len = 0;
	for (;;) {
		ssize_t n = read(fd, block + len, sizeof block - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			fault(r, 0, strerror(errno), "");
			return;
		}
		if (n == 0)
			break;
		len += (size_t)n;
		size_t used = take_lines(r, block, len);
		len -= used;
		memmove(block, block + used, len);
		if (len > SET_LINE_MAX) {
			r->too_long = true;
			len = 0;
		}
	}
	if (len > 0 || r->too_long)
		take_line(r, block, len);
}

/* Opened without waiting, for a FIFO would wait for its writer. */
static int
open_regular(struct set_reader *r)
{
	struct stat st;
	int fd = open(r->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) != 0) {
		fault(r, 0, strerror(errno), "");
	} else if (!S_ISREG(st.st_mode)) {
		fault(r, 0, "not a regular file", "");
	} else {
		return fd;
	}
	if (fd >= 0)
		close(fd);
	return -1;
}

bool
set_file_read(const char *path, set_line_fn *on_line, void *line_arg, set_report_fn *report,
	      void *report_arg)
{
	struct set_reader r = {
		.path = path, .on_line = on_line, .line_arg = line_arg,
		.report = report, .report_arg = report_arg, .fine = true
	};
	int fd = open_regular(&r);
	if (fd < 0)
		return false;
	read_all(&r, fd);
	close(fd);
	return r.fine;
}
