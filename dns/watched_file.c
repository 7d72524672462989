/*
 * watched_file: device, inode, size, mtime and ctime tell whether the file is another one than
 * before.
 */
#include "dns/watched_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void
watched_file_init(struct watched_file *f, const char *path)
{
	*f = (struct watched_file){ .path = path };
}

static bool
same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool
same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       same_time(&a->st_mtim, &b->st_mtim) && same_time(&a->st_ctim, &b->st_ctim);
}

/* Up to max bytes; a last line that is not whole is left out if it was cut here. */
static char *
read_text(int fd, size_t max)
{
	char *text = malloc(max + 1);
	size_t len = 0;
	if (text == NULL)
		return NULL;
	while (len < max) {
		ssize_t n = read(fd, text + len, max - len);
		if (n == 0)
			break;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			free(text);
			return NULL;
		}
		len += (size_t)n;
	}
	while (len == max && len > 0 && text[len - 1] != '\n')
		max = --len;
	text[len] = '\0';
	return text;
}

/* A FIFO or a device must not hold up the loop: only regular files are read. */
static char *
read_file(const char *path, size_t max, struct stat *st)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char *text = NULL;
	if (fd < 0)
		return NULL;
	if (fstat(fd, st) == 0 && S_ISREG(st->st_mode))
		text = read_text(fd, (uintmax_t)st->st_size < max ? (size_t)st->st_size + 1 : max);
	close(fd);
	return text;
}

bool
watched_file_changed(struct watched_file *f, uint64_t now_ms, size_t max, char **text)
{
	static const struct stat nothing;
	struct stat st;

	*text = NULL;
	if (now_ms < f->next_check_ms)
		return false;
	f->next_check_ms = now_ms + WATCHED_FILE_CHECK_MS;
	if (stat(f->path, &st) != 0) {
		bool gone = (errno == ENOENT || errno == ENOTDIR) && !same_file(&f->seen, &nothing);
		if (gone)
			f->seen = nothing;
		return gone;
	}
	if (same_file(&st, &f->seen))
		return false;
	*text = read_file(f->path, max, &st);
	if (*text == NULL)
		return false;
	f->seen = st;
	return true;
}
