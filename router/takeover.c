#include "router/takeover.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <event2/event_struct.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/endpoint.h"
#include "base/loop.h"
#include "base/text.h"

#define VARIABLE "SOCKROUTE_TAKEOVER_FD"

extern char **environ;

enum { KEY_MAX = 512 };

static const char READY[] = "ready";

static char **command_line;
static char program[PATH_MAX];

union rights {
	char bytes[CMSG_SPACE(TAKEOVER_SOCKETS_MAX * sizeof(int))];
	struct cmsghdr align;
};

/* ---- the heir ---- */

struct inherited {
	char key[KEY_MAX + 1];
	int fd;                        /* -1: claimed */
};

struct inheritance {
	int channel;
	struct inherited *list;
	size_t n;
};

static bool
keep_sockets(struct inheritance *i, const char *key, const int *fds, size_t n)
{
	struct inherited *more = realloc(i->list, (i->n + n) * sizeof *more);
	if (more == NULL)
		return false;
	i->list = more;
	for (size_t k = 0; k < n; k++) {
		memcpy(more[i->n].key, key, strlen(key) + 1);
		more[i->n++].fd = fds[k];
	}
	return true;
}

/* One message: a key and its sockets; an empty key is the end. */
static bool
receive_key(struct inheritance *i, bool *end)
{
	char key[KEY_MAX + 1];
	union rights rights;
	int fds[TAKEOVER_SOCKETS_MAX];
	struct iovec iov = { .iov_base = key, .iov_len = KEY_MAX };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = rights.bytes, .msg_controllen = sizeof rights.bytes };
	ssize_t n = recvmsg(i->channel, &m, MSG_CMSG_CLOEXEC);
	if (n <= 0 || (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		return false;
	key[n] = '\0';
	*end = key[0] == '\0';
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return *end;
	size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(fds, CMSG_DATA(c), count * sizeof(int));
	return keep_sockets(i, key, fds, count);
}

struct inheritance *
takeover_receive(void)
{
	const char *text = getenv(VARIABLE);
	uint64_t fd;
	if (text == NULL || !text_read_number(text, strlen(text), INT_MAX, &fd))
		return NULL;
	unsetenv(VARIABLE);
	struct inheritance *i = calloc(1, sizeof *i);
	if (i == NULL || fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0) {
		free(i);
		return NULL;
	}
	i->channel = (int)fd;
	for (bool end = false; !end;)
		if (!receive_key(i, &end)) {
			takeover_free(i);
			return NULL;
		}
	return i;
}

int
takeover_claim(struct inheritance *i, const char *key)
{
	for (size_t k = 0; i != NULL && k < i->n; k++)
		if (i->list[k].fd >= 0 && strcmp(i->list[k].key, key) == 0) {
			int fd = i->list[k].fd;
			i->list[k].fd = -1;
			return fd;
		}
	return -1;
}

bool
takeover_moves(struct inheritance *i, const char *prefix, const struct endpoint *at)
{
	bool found = false;
	size_t len = strlen(prefix);
	int on = 1;
	for (size_t k = 0; i != NULL && k < i->n; k++) {
		struct endpoint old;
		const char *key = i->list[k].key;
		if (i->list[k].fd < 0 || strncmp(key, prefix, len) != 0 ||
		    endpoint_from_text(&old, key + len, strlen(key + len)) != ENDPOINT_OK || !endpoint_collide(&old, at))
			continue;
		found |= setsockopt(i->list[k].fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0;
	}
	return found;
}

static void
close_unclaimed(struct inheritance *i)
{
	for (size_t k = 0; k < i->n; k++) {
		if (i->list[k].fd >= 0)
			close(i->list[k].fd);
		i->list[k].fd = -1;
	}
}

void
takeover_ready(struct inheritance *i)
{
	/* Before the old one empties its backlogs: who connects to a socket that only we hold would wait for nobody. */
	if (i != NULL)
		close_unclaimed(i);
	/* If the old one is gone there is nobody left to tell. */
	if (i != NULL)
		(void)!send(i->channel, READY, sizeof READY, MSG_NOSIGNAL);
}

void
takeover_free(struct inheritance *i)
{
	if (i == NULL)
		return;
	close_unclaimed(i);
	close(i->channel);
	free(i->list);
	free(i);
}

/* ---- the testator ---- */

struct takeover {
	struct loop *loop;
	struct event event;
	struct deadline deadline;
	int channel;
	pid_t pid;
	takeover_cb *on_end;
	void *arg;
};

void
takeover_remember(char **argv)
{
	command_line = argv;
	/* The path, not the file behind it: a new binary put in its place is what takes over. */
	ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
	program[n > 0 ? n : 0] = '\0';
}

void
takeover_cancel(struct takeover *t)
{
	if (t == NULL)
		return;
	loop_clear_deadline(t->loop, &t->deadline);
	event_del(&t->event);
	close(t->channel);
	free(t);
}

static void
takeover_end(struct takeover *t, bool ready, const char *why)
{
	takeover_cb *on_end = t->on_end;
	void *arg = t->arg;
	if (!ready && t->pid > 0) {
		kill(t->pid, SIGTERM);
		(void)waitpid(t->pid, NULL, WNOHANG);
	}
	takeover_cancel(t);
	on_end(ready, why, arg);
}

static void
on_word(evutil_socket_t fd, short what, void *arg)
{
	struct takeover *t = arg;
	char word[sizeof READY];
	ssize_t n = recv(fd, word, sizeof word, MSG_DONTWAIT);
	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == sizeof READY && memcmp(word, READY, sizeof READY) == 0)
		takeover_end(t, true, "");
	else
		takeover_end(t, false, "the new process ended before it was ready");
}

static void
on_deadline(struct deadline *d)
{
	takeover_end(CONTAINER_OF(d, struct takeover, deadline), false, "the new process did not become ready in time");
}

/* The environment with the heir's end of the channel in it; malloc'ed, the strings are borrowed. */
static char **
heirs_environment(char *variable)
{
	size_t n = 0;
	while (environ[n] != NULL)
		n++;
	char **list = calloc(n + 2, sizeof *list);
	if (list == NULL)
		return NULL;
	memcpy(list, environ, n * sizeof *list);
	list[n] = variable;
	return list;
}

static int
spawn(pid_t *pid, int channel)
{
	char variable[64];
	snprintf(variable, sizeof variable, VARIABLE "=%d", channel);
	char **list = heirs_environment(variable);
	posix_spawnattr_t attr;
	sigset_t none;
	if (list == NULL)
		return ENOMEM;
	sigemptyset(&none);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	int error = posix_spawn(pid, program, NULL, &attr, command_line, list);
	posix_spawnattr_destroy(&attr);
	free(list);
	return error;
}

struct takeover *
takeover_start(struct loop *l, takeover_cb *on_end, void *arg, char *why, size_t cap)
{
	int pair[2];
	struct takeover *t = calloc(1, sizeof *t);
	if (t == NULL || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0) {
		snprintf(why, cap, "%s", strerror(t == NULL ? ENOMEM : errno));
		free(t);
		return NULL;
	}
	*t = (struct takeover){ .loop = l, .channel = pair[0], .on_end = on_end, .arg = arg };
	deadline_init(&t->deadline, on_deadline);
	event_assign(&t->event, loop_base(l), pair[0], EV_READ | EV_PERSIST, on_word, t);
	/* Our own end is closed in the child, so that its end of file tells us of the other's death. */
	int error = fcntl(pair[0], F_SETFD, FD_CLOEXEC) < 0 || event_add(&t->event, NULL) < 0 ? errno : spawn(&t->pid, pair[1]);
	close(pair[1]);
	if (error != 0) {
		snprintf(why, cap, "can't start %s: %s", program, strerror(error));
		takeover_cancel(t);
		return NULL;
	}
	loop_set_deadline(l, &t->deadline, TAKEOVER_MS);
	return t;
}

bool
takeover_give(struct takeover *t, const char *key, const int *fds, size_t n)
{
	union rights rights = { 0 };
	struct iovec iov = { .iov_base = (char *)(uintptr_t)key, .iov_len = strlen(key) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = rights.bytes, .msg_controllen = CMSG_SPACE(n * sizeof *fds) };
	if (n == 0 || n > TAKEOVER_SOCKETS_MAX || iov.iov_len == 0 || iov.iov_len >= KEY_MAX)
		return n == 0;
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof *fds);
	memcpy(CMSG_DATA(c), fds, n * sizeof *fds);
	return sendmsg(t->channel, &m, MSG_NOSIGNAL) >= 0;
}

bool
takeover_give_end(struct takeover *t)
{
	return send(t->channel, "", 1, MSG_NOSIGNAL) == 1;
}
