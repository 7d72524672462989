/*
 * watch: tells the control thread when one of the files that the policy names has changed (sets, users).
 *
 * Directories are watched, not files, since editors replace a file by renaming; what comes within WATCH_SETTLE_MS is one change.
 * Watched are the file and each symbolic link on the way to it, wherever in its path: a link that leads elsewhere, as Kubernetes has
 * it, is a change, and so is a file that goes, or comes back.
 */
#ifndef ROUTER_WATCH_H
#define ROUTER_WATCH_H

#include <stddef.h>

#include "base/loop.h"

struct watch;

enum { WATCH_SETTLE_MS = 200 };

typedef void watch_cb(void *arg);

/** NULL: no memory or no inotify. */
struct watch *watch_new(struct loop *l, watch_cb *on_change, void *arg);
void watch_free(struct watch *w);              /* NULL is fine */
/** From now on these files (absolute paths, copied) and no others. */
void watch_files(struct watch *w, const char *const *paths, size_t n);

#endif
