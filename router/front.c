#include "router/front.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "router/local.h"

void
front_key(const struct policy_listener *conf, char *out, size_t cap)
{
	if (conf->unix_path != NULL)
		snprintf(out, cap, "unix:%s", conf->unix_path);
	else
		endpoint_to_text(&conf->listen, out, cap);
}

/* ---- sockets ---- */

static int
set_flag(int fd, int level, int option)
{
	int on = 1;
	return setsockopt(fd, level, option, &on, sizeof on);
}

/* TCP_NODELAY is inherited by what is accepted, so no call per connection is needed. */
static int
tcp_listen(const struct sockaddr_storage *ss, socklen_t len)
{
	int fd = socket(ss->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (set_flag(fd, SOL_SOCKET, SO_REUSEADDR) < 0 || set_flag(fd, SOL_SOCKET, SO_REUSEPORT) < 0 ||
	    set_flag(fd, IPPROTO_TCP, TCP_NODELAY) < 0 ||
	    (ss->ss_family == AF_INET6 && set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY) < 0) ||
	    bind(fd, (const struct sockaddr *)ss, len) < 0 || listen(fd, FRONT_BACKLOG) < 0) {
		int saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

/* SO_REUSEPORT would let a second router of the same user take half of our clients: look first whether anyone is there. */
static bool
tcp_address_is_free(const struct sockaddr_storage *ss, socklen_t len)
{
	int fd = socket(ss->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	bool ok = set_flag(fd, SOL_SOCKET, SO_REUSEADDR) == 0 &&
		  (ss->ss_family != AF_INET6 || set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY) == 0) &&
		  bind(fd, (const struct sockaddr *)ss, len) == 0;
	int saved = errno;
	close(fd);
	errno = saved;
	return ok;
}

static bool
open_tcp(struct front *f, const struct endpoint *at, bool ours)
{
	struct sockaddr_storage ss;
	socklen_t len = endpoint_to_sockaddr(at, &ss);
	if (len == 0) {
		errno = EADDRNOTAVAIL;
		return false;
	}
	if (at->port != 0 && !ours && !tcp_address_is_free(&ss, len))
		return false;
	for (unsigned i = 0; i < f->n_sockets; i++) {
		if (atomic_load(&f->fds[i]) >= 0)
			continue;
		int fd = tcp_listen(&ss, len);
		if (fd < 0)
			return false;
		atomic_store(&f->fds[i], fd);
		/* Port 0: the others share what the first one got. */
		if (i == 0 && getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
			return false;
	}
	return true;
}

/* A socket file that nobody listens on is left over from a crash. */
static bool
unix_remove_stale(const struct sockaddr_un *sun)
{
	struct stat st;
	if (lstat(sun->sun_path, &st) < 0)
		return errno == ENOENT;
	if (!S_ISSOCK(st.st_mode)) {
		errno = EEXIST;
		return false;
	}
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	bool taken = connect(fd, (const struct sockaddr *)sun, sizeof *sun) == 0 || errno != ECONNREFUSED;
	close(fd);
	if (taken) {
		errno = EADDRINUSE;
		return false;
	}
	return unlink(sun->sun_path) == 0;
}

static bool
open_unix(struct front *f, const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof sun.sun_path) {
		errno = ENAMETOOLONG;
		return false;
	}
	memcpy(sun.sun_path, path, strlen(path));
	if (!unix_remove_stale(&sun))
		return false;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	for (unsigned i = 0; i < f->n_sockets; i++)
		atomic_store(&f->fds[i], fd);
	return bind(fd, (const struct sockaddr *)&sun, sizeof sun) == 0 && listen(fd, FRONT_BACKLOG) == 0;
}

/* ---- life ---- */

static void
front_free(struct front *f)
{
	for (unsigned i = 0; f->fds != NULL && i < f->n_sockets; i++)
		front_close_socket(f, i);
	free(f->fds);
	free(f->key);
	free(f);
}

/* At least as many sockets as workers, and all that were inherited. */
static bool
front_make_sockets(struct front *f, struct inheritance *from, bool *inherited)
{
	int got[TAKEOVER_SOCKETS_MAX];
	unsigned n = 0;
	while (n < TAKEOVER_SOCKETS_MAX && (got[n] = takeover_claim(from, f->key)) >= 0)
		n++;
	*inherited = n > 0;
	f->n_sockets = n > f->n_workers ? n : f->n_workers;
	f->fds = calloc(f->n_sockets, sizeof *f->fds);
	if (f->fds == NULL) {
		while (n-- > 0)
			close(got[n]);
		return false;
	}
	atomic_init(&f->n_listening, f->n_sockets);
	for (unsigned i = 0; i < f->n_sockets; i++)
		atomic_init(&f->fds[i], i < n ? got[i] : n > 0 && f->is_unix ? got[0] : -1);
	return true;
}

struct front *
front_open(const struct policy_listener *conf, unsigned n_workers, struct inheritance *from, bool beside, char *why, size_t cap)
{
	char key[512];
	front_key(conf, key, sizeof key);
	struct front *f = aligned_alloc(64, (sizeof *f + 63) / 64 * 64);
	if (f == NULL) {
		snprintf(why, cap, "out of memory");
		return NULL;
	}
	memset(f, 0, sizeof *f);
	atomic_init(&f->refs, 1);
	f->is_unix = conf->unix_path != NULL;
	f->n_workers = n_workers;
	f->key = strdup(key);
	bool inherited = false;
	if (f->key == NULL || !front_make_sockets(f, from, &inherited)) {
		snprintf(why, cap, "out of memory");
		front_free(f);
		return NULL;
	}
	if (!(f->is_unix ? inherited || open_unix(f, conf->unix_path) : open_tcp(f, &conf->listen, inherited || beside))) {
		snprintf(why, cap, "can't listen on %s: %s", key, strerror(errno));
		front_free(f);
		return NULL;
	}
	for (unsigned i = 0; !f->is_unix && i < f->n_sockets; i++)
		local_watch_peers(atomic_load(&f->fds[i]), &conf->listen);
	return f;
}

struct front *
front_ref(struct front *f)
{
	atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
	return f;
}

void
front_unref(struct front *f)
{
	if (f != NULL && atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) == 1)
		front_free(f);
}

void
front_close_socket(struct front *f, unsigned socket)
{
	int fd = atomic_exchange(&f->fds[socket], -1);
	bool last = fd >= 0 && atomic_fetch_sub(&f->n_listening, 1) == 1;
	if (fd < 0)
		return;
	if (!f->is_unix) {
		close(fd);
	} else if (last) {
		close(fd);
		if (!atomic_load(&f->handed_over))
			unlink(f->key + strlen("unix:"));
	}
}

size_t
front_sockets(const struct front *f, int *fds, size_t cap)
{
	size_t n = 0;
	for (unsigned i = 0; i < f->n_sockets && n < cap && !(f->is_unix && n > 0); i++) {
		int fd = atomic_load(&f->fds[i]);
		if (fd >= 0)
			fds[n++] = fd;
	}
	return n;
}

bool
front_take(struct front *f, uint32_t max)
{
	unsigned open = atomic_load_explicit(&f->open, memory_order_relaxed);
	do {
		if (max > 0 && open >= max)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&f->open, &open, open + 1, memory_order_relaxed,
							memory_order_relaxed));
	return true;
}

void
front_give_back(struct front *f)
{
	atomic_fetch_sub_explicit(&f->open, 1, memory_order_relaxed);
}
