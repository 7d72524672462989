#include "router/watch.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/log.h"

enum { LINKS_MAX = 40 };               /* as the kernel has it */

#define NAME_EVENTS (IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_MOVED_FROM)
#define DIRECTORY_EVENTS (IN_DELETE_SELF | IN_MOVE_SELF)

/* A name in a directory that a path goes through: another file, or another link, by this name is another file at the path's end. */
struct point {
	int wd;                        /* of the directory; several may share one */
	char *name;
};

struct points {
	struct point *list;
	size_t n, cap;
};

struct watch {
	struct loop *loop;
	int fd;
	struct event *event;
	struct deadline settle;
	char **paths;
	size_t n_paths;
	struct points points;
	watch_cb *on_change;
	void *arg;
};

/* ---- points ---- */

static void
points_free(struct points *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->list[i].name);
	free(p->list);
	*p = (struct points){ .list = NULL };
}

static bool
points_have(const struct points *p, int wd)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->list[i].wd == wd)
			return true;
	return false;
}

static bool
points_grow(struct points *p)
{
	size_t cap = p->cap == 0 ? 16 : 2 * p->cap;
	if (p->n < p->cap)
		return true;
	struct point *larger = realloc(p->list, cap * sizeof *larger);
	if (larger == NULL)
		return false;
	p->list = larger;
	p->cap = cap;
	return true;
}

/* A directory that is watched already keeps its number, and with it what the kernel has to tell of it. */
static bool
add_point(const struct watch *w, struct points *p, const char *dir, const char *name)
{
	if (!points_grow(p))
		return false;
	struct point *at = &p->list[p->n];
	at->wd = inotify_add_watch(w->fd, dir, NAME_EVENTS | DIRECTORY_EVENTS);
	if (at->wd < 0 || (at->name = strdup(name)) == NULL)
		return false;
	p->n++;
	return true;
}

/* ---- the way of a path ---- */

/* Where a path leads: a directory without links, and what is still to be gone from there. */
struct way {
	char dir[PATH_MAX], rest[PATH_MAX];
	unsigned n_links;
	bool is_blind;                         /* something on it can't be watched */
};

/* The next name off the rest; false: there is none. */
static bool
next_name(struct way *y, char *name, size_t cap)
{
	char *at = y->rest + strspn(y->rest, "/");
	size_t len = strcspn(at, "/");
	if (len == 0 || len >= cap)
		return false;
	memcpy(name, at, len);
	name[len] = '\0';
	memmove(y->rest, at + len, strlen(at + len) + 1);
	return true;
}

static void
leave_directory(struct way *y)
{
	char *slash = strrchr(y->dir, '/');
	if (slash != NULL)
		*slash = '\0';
}

/* "" is the root. False: the path gets too long. */
static bool
enter(struct way *y, const char *name)
{
	size_t len = strlen(y->dir);
	int n = snprintf(y->dir + len, sizeof y->dir - len, "/%s", name);
	return (size_t)n < sizeof y->dir - len;
}

/* On along a link's text, from the directory that the link is in. */
static bool
follow(struct way *y, const char *text)
{
	char rest[PATH_MAX];
	if (++y->n_links > LINKS_MAX)
		return false;
	int n = snprintf(rest, sizeof rest, "%s%s", text, y->rest);
	if ((size_t)n >= sizeof rest)
		return false;
	memcpy(y->rest, rest, (size_t)n + 1);
	if (text[0] == '/')
		y->dir[0] = '\0';
	return true;
}

enum step { STEP_ON, STEP_END, STEP_LOST };

/* A link is a point, and so is the last name, and one that is not there: it may come. */
static enum step
step(const struct watch *w, struct points *p, struct way *y, const char *name)
{
	char parent[PATH_MAX], text[PATH_MAX];
	snprintf(parent, sizeof parent, "%s", y->dir[0] == '\0' ? "/" : y->dir);
	if (!enter(y, name))
		return STEP_LOST;
	ssize_t n = readlink(y->dir, text, sizeof text - 1);
	bool is_link = n > 0, is_last = y->rest[strspn(y->rest, "/")] == '\0', is_there = is_link || errno == EINVAL;
	/* Where a link can't be watched, what it leads to can. */
	if ((is_link || is_last || !is_there) && !add_point(w, p, parent, name))
		y->is_blind = true;
	if (!is_link)
		return is_last || !is_there ? STEP_END : STEP_ON;
	text[n] = '\0';
	leave_directory(y);
	return follow(y, text) ? STEP_ON : STEP_LOST;
}

static bool
add_path(const struct watch *w, struct points *p, const char *path)
{
	struct way y = { .n_links = 0 };
	char name[NAME_MAX + 1];
	enum step s = STEP_ON;
	if (snprintf(y.rest, sizeof y.rest, "%s", path) >= (int)sizeof y.rest)
		return false;
	while (s == STEP_ON && next_name(&y, name, sizeof name)) {
		if (strcmp(name, "..") == 0)
			leave_directory(&y);
		else if (strcmp(name, ".") != 0)
			s = step(w, p, &y, name);
	}
	return s == STEP_END && !y.is_blind;
}

/* Watches what the paths go through now, and no longer what they went through before. */
static void
look(struct watch *w)
{
	struct points now = { .list = NULL };
	for (size_t i = 0; i < w->n_paths; i++)
		if (!add_path(w, &now, w->paths[i]))
			log_say(LOG_WARN, "changes of %s will not be noticed", w->paths[i]);
	for (size_t i = 0; i < w->points.n; i++)
		if (!points_have(&now, w->points.list[i].wd))
			(void)inotify_rm_watch(w->fd, w->points.list[i].wd);   /* the second time: EINVAL, and fine */
	points_free(&w->points);
	w->points = now;
}

/* ---- what the kernel tells ---- */

static void
on_settled(struct deadline *d)
{
	struct watch *w = CONTAINER_OF(d, struct watch, settle);
	look(w);
	w->on_change(w->arg);
}

static bool
concerns(const struct watch *w, const struct inotify_event *e)
{
	if (e->mask & IN_Q_OVERFLOW)
		return true;
	if (e->mask & DIRECTORY_EVENTS)
		return points_have(&w->points, e->wd);
	for (size_t i = 0; i < w->points.n; i++)
		if (w->points.list[i].wd == e->wd && e->len > 0 && strcmp(w->points.list[i].name, e->name) == 0)
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

/* ---- life ---- */

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
forget_paths(struct watch *w)
{
	for (size_t i = 0; i < w->n_paths; i++)
		free(w->paths[i]);
	free(w->paths);
	w->paths = NULL;
	w->n_paths = 0;
}

void
watch_free(struct watch *w)
{
	if (w == NULL)
		return;
	forget_paths(w);
	points_free(&w->points);
	loop_clear_deadline(w->loop, &w->settle);
	if (w->event != NULL)
		event_free(w->event);
	if (w->fd >= 0)
		close(w->fd);
	free(w);
}

static bool
keep_paths(struct watch *w, const char *const *paths, size_t n)
{
	if ((w->paths = calloc(n, sizeof *w->paths)) == NULL)
		return false;
	for (; w->n_paths < n; w->n_paths++)
		if ((w->paths[w->n_paths] = strdup(paths[w->n_paths])) == NULL)
			return false;
	return true;
}

void
watch_files(struct watch *w, const char *const *paths, size_t n)
{
	/* What the kernel has told of those before is of directories that may not be watched any more. */
	on_readable(w->fd, EV_READ, w);
	forget_paths(w);
	if (n > 0 && !keep_paths(w, paths, n))
		log_say(LOG_WARN, "changes of files will not be noticed: out of memory");
	look(w);
}
