#include "router/watch.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/log.h"

struct watched {
	int wd;                /* of its directory; several files may share one */
	char *path, *name;     /* name: the part after the last slash, in path */
};

struct watch {
	struct loop *loop;
	int fd;
	struct event *event;
	struct deadline settle;
	struct watched *files;
	size_t n;
	watch_cb *on_change;
	void *arg;
};

static void
on_settled(struct deadline *d)
{
	struct watch *w = CONTAINER_OF(d, struct watch, settle);
	w->on_change(w->arg);
}

static bool
concerns(const struct watch *w, const struct inotify_event *e)
{
	if (e->mask & IN_Q_OVERFLOW)
		return true;
	for (size_t i = 0; i < w->n; i++)
		if (w->files[i].wd == e->wd && e->len > 0 && strcmp(w->files[i].name, e->name) == 0)
			return true;
	return false;
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct watch *w = arg;
	_Alignas(struct inotify_event) char bytes[4096];
	bool changed = false;
	ssize_t n;
	(void)what;
	while ((n = read(fd, bytes, sizeof bytes)) > 0) {
		for (char *at = bytes; at < bytes + n;) {
			const struct inotify_event *e = (const struct inotify_event *)(const void *)at;
			changed |= concerns(w, e);
			at += sizeof *e + e->len;
		}
	}
	if (changed)
		loop_set_deadline(w->loop, &w->settle, WATCH_SETTLE_MS);
}

struct watch *
watch_new(struct loop *l, watch_cb *on_change, void *arg)
{
	struct watch *w = calloc(1, sizeof *w);
	if (w == NULL)
		return NULL;
	*w = (struct watch){ .loop = l, .on_change = on_change, .arg = arg, .fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC) };
	deadline_init(&w->settle, on_settled);
	if (w->fd < 0 || (w->event = event_new(loop_base(l), w->fd, EV_READ | EV_PERSIST, on_readable, w)) == NULL ||
	    event_add(w->event, NULL) < 0) {
		watch_free(w);
		return NULL;
	}
	return w;
}

static void
forget_files(struct watch *w)
{
	for (size_t i = 0; i < w->n; i++) {
		if (w->files[i].wd >= 0)
			inotify_rm_watch(w->fd, w->files[i].wd);   /* the second file of a directory: EINVAL, and fine */
		free(w->files[i].path);
	}
	free(w->files);
	w->files = NULL;
	w->n = 0;
}

void
watch_free(struct watch *w)
{
	if (w == NULL)
		return;
	forget_files(w);
	loop_clear_deadline(w->loop, &w->settle);
	if (w->event != NULL)
		event_free(w->event);
	if (w->fd >= 0)
		close(w->fd);
	free(w);
}

static bool
watch_file(struct watch *w, struct watched *f, const char *path)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	if (slash == NULL || (f->path = strdup(path)) == NULL)
		return false;
	f->name = f->path + (slash + 1 - path);
	snprintf(dir, sizeof dir, "%.*s", slash == path ? 1 : (int)(slash - path), path);
	f->wd = inotify_add_watch(w->fd, dir, IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE);
	return f->wd >= 0;
}

static bool
watch_next(struct watch *w, const char *path)
{
	return watch_file(w, &w->files[w->n++], path);
}

void
watch_files(struct watch *w, const char *const *paths, size_t n)
{
	char real[PATH_MAX];
	forget_files(w);
	if (n == 0 || (w->files = calloc(2 * n, sizeof *w->files)) == NULL)
		return;
	for (size_t i = 0; i < n; i++) {
		bool ok = watch_next(w, paths[i]);
		if (realpath(paths[i], real) != NULL && strcmp(real, paths[i]) != 0)
			ok = watch_next(w, real) && ok;
		if (!ok)
			log_say(LOG_WARN, "changes of %s will not be noticed", paths[i]);
	}
}
