/*
 * watched_file: a small text file of the system that is read again when it has changed; looked at
 * once a second at most.
 *
 * For /etc/hosts and /etc/resolv.conf, which are on a local disk: stat(2) and read(2) are made on
 * the caller's thread.
 */
#ifndef DNS_WATCHED_FILE_H
#define DNS_WATCHED_FILE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

enum { WATCHED_FILE_CHECK_MS = 1000 };

struct watched_file {
	const char *path;                      /* the caller's */
	uint64_t next_check_ms;
	struct stat seen;                      /* when last read; all 0: never, or not there */
};

void watched_file_init(struct watched_file *f, const char *path);
/**
 * Has it changed since this last said so? The first time it has, if it is there. On true, *text is
 * its bytes (malloc'ed, NUL-terminated, at most max of them, cut after a whole line), or NULL where
 * it is gone. What can't be read is no change.
 */
bool watched_file_changed(struct watched_file *f, uint64_t now_ms, size_t max, char **text);

#endif
