#include "router/keepsake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PARTS = 3, BYTES_MAX = 256 << 20 };

struct writing {
	FILE *out;
	const char *pool;
};

static void
write_part(FILE *out, const char *text)
{
	fwrite(text, 1, strlen(text) + 1, out);
}

static void
on_pin(const char *key, const char *member, uint64_t left_ms, void *arg)
{
	const struct writing *w = arg;
	(void)left_ms;
	write_part(w->out, w->pool);
	write_part(w->out, member);
	write_part(w->out, key);
}

int
keepsake_write(struct fleet *f)
{
	const struct policy *p = fleet_policy(f);
	int fd = memfd_create("keepsake", MFD_CLOEXEC);
	int copy = fd >= 0 ? dup(fd) : -1;     /* the stream closes its own */
	struct writing w = { .out = copy >= 0 ? fdopen(copy, "w") : NULL };
	if (w.out == NULL) {
		if (copy >= 0)
			close(copy);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	for (uint32_t i = 0; i < p->n_pools; i++) {
		w.pool = p->pools[i].name;
		fleet_each_pin(f, i, on_pin, &w);
	}
	bool ok = fflush(w.out) == 0 && ftell(w.out) > 0;
	fclose(w.out);
	if (!ok) {
		close(fd);
		return -1;
	}
	return fd;
}

static void
pin(struct fleet *f, char *const part[PARTS])
{
	const struct policy *p = fleet_policy(f);
	for (uint32_t i = 0; i < p->n_pools; i++)
		if (strcmp(p->pools[i].name, part[0]) == 0 && !fleet_pin(f, i, part[2], part[1]))
			return;                /* the pool has no such member any more */
}

/* Entries come most recently used first: from the last on, so that they are that again. */
static void
pin_all(struct fleet *f, char *bytes, size_t len)
{
	char *part[PARTS];
	int n = PARTS;
	for (char *at = bytes + len - 1; at > bytes; at--) {
		if (at[-1] != '\0' && at - 1 > bytes)
			continue;
		part[--n] = at[-1] == '\0' ? at : at - 1;
		if (n == 0) {
			pin(f, part);
			n = PARTS;
		}
	}
}

void
keepsake_read(struct fleet *f, int fd)
{
	struct stat st;
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && st.st_size > 0 && st.st_size <= BYTES_MAX) {
		size_t len = (size_t)st.st_size;
		char *bytes = malloc(len);
		if (bytes != NULL && pread(fd, bytes, len, 0) == (ssize_t)len && bytes[len - 1] == '\0')
			pin_all(f, bytes, len);
		free(bytes);
	}
	close(fd);
}
