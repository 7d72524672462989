/*
 * log_writer: the thread that writes the log, and the two buffers between it and everyone else.
 *
 *   not running --log_start--> running --log_stop, all written or a second later--> not running
 *
 * While it is not running, and in a child after fork, lines are written by their caller, with a
 * short bound on waiting. The thread asks poll(2) before each write of at most PIPE_BUF bytes, as
 * such a write doesn't wait then, on a blocking descriptor either (stderr is shared with others, so
 * it must not be made non-blocking). Should it wait nevertheless, only this thread is stuck: lines
 * are dropped, and log_stop leaves it behind.
 */
#include "base/log_writer.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	BUFFER_BYTES = 1 << 20,
	POLL_MS = 100,         /* how soon a stop is seen while the descriptor is full */
	RETRY_MS = 10,         /* after EAGAIN in spite of poll */
	DIRECT_MS = 100,       /* how long a line that its caller writes may take */
	STOP_MS = 1000,
	GATHER_MS = 10,        /* from a first line to the writing of all that came with it */
	GATHER_BYTES = BUFFER_BYTES / 4,
	FILE_PIECE = 64 << 10, /* a regular file takes this at once, and never makes anyone wait */
};

static const uint64_t no_deadline = UINT64_MAX;

static struct {
	/* Guards all but the atomics and what is the thread's own. */
	pthread_mutex_t lock;
	pthread_cond_t filled, ended;
	char *filling;                         /* one of `buffers`; the other is the thread's */
	size_t len;
	pthread_t thread;
	int fd;
	bool running, stopping, stuck, fork_handled;
	bool is_file;                          /* fd is a regular file */
	atomic_uint_least64_t dropped;
	atomic_uint_least64_t give_up_at;      /* monotonic ms */
	/* The thread's own while it runs, else under the lock. */
	uint64_t told;                         /* of `dropped`, how many a line has told of */
	bool torn;                             /* the last write ended within a line */
	char buffers[2][BUFFER_BYTES];
} writer = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.filled = PTHREAD_COND_INITIALIZER,
	.ended = PTHREAD_COND_INITIALIZER,
	.filling = writer.buffers[0],
	.fd = STDERR_FILENO,
};

/* Not clock_now_ms: that may stand still in a test. */
static uint64_t
now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void
count_dropped(const char *lines, size_t len)
{
	uint64_t n = 0;
	for (size_t i = 0; i < len; i++)
		n += lines[i] == '\n';
	atomic_fetch_add_explicit(&writer.dropped, n, memory_order_relaxed);
}

/* Waits until the descriptor takes bytes. False: not before give_up_at. */
static bool
wait_writable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	for (;;) {
		/* An error or a hang-up counts as writable: the write will tell. */
		if (poll(&p, 1, POLL_MS) > 0)
			return true;
		if (now_ms() >= atomic_load_explicit(&writer.give_up_at, memory_order_relaxed))
			return false;
	}
}

/* Writes all n <= PIPE_BUF bytes or as many as it can; returns how many. */
static size_t
write_piece(int fd, const char *bytes, size_t n)
{
	size_t done = 0;
	while (done < n && (writer.is_file || wait_writable(fd))) {
		ssize_t got = write(fd, bytes + done, n - done);
		if (got > 0)
			done += (size_t)got;
		else if (got < 0 && errno == EAGAIN)
			poll(NULL, 0, RETRY_MS);
		else if (got == 0 || errno != EINTR)
			break;
	}
	if (done > 0)
		writer.torn = bytes[done - 1] != '\n';
	return done;
}

/*
 * As many whole lines as one write takes at once, so that they don't mix with those of other
 * processes.
 */
static size_t
piece_of(const char *lines, size_t len)
{
	size_t most = writer.is_file ? FILE_PIECE : PIPE_BUF;
	if (len <= most)
		return len;
	const char *end = memrchr(lines, '\n', most);
	assert(end != NULL);
	return (size_t)(end - lines) + 1;
}

/* False: the descriptor failed, or took too long; what was not written is dropped and counted. */
static bool
write_lines(int fd, const char *lines, size_t len)
{
	if (writer.torn && write_piece(fd, "\n", 1) != 1) {
		count_dropped(lines, len);
		return false;
	}
	while (len > 0) {
		size_t piece = piece_of(lines, len);
		size_t done = write_piece(fd, lines, piece);
		lines += done;
		len -= done;
		if (done < piece) {
			count_dropped(lines, len);
			return false;
		}
	}
	return true;
}

/*
 * Called after a write that went well. A notice that fails is not counted, so it can't cause the
 * next one.
 */
static void
tell_dropped(int fd)
{
	struct log_line l;
	uint64_t dropped = atomic_load_explicit(&writer.dropped, memory_order_relaxed);
	if (dropped == writer.told)
		return;
	log_line_begin(&l, LOG_WARN, "log lines were dropped");
	log_num(&l, "lines", (int64_t)(dropped - writer.told));
	log_line_finish(&l);
	if (write_piece(fd, l.bytes, l.len) == l.len)
		writer.told = dropped;
}

static void
write_batch(int fd, const char *lines, size_t len)
{
	if (write_lines(fd, lines, len))
		tell_dropped(fd);
}

/*
 * Under the lock: lets more lines come before the first is written. A wake-up for each line would cost its
 * writer more than the line.
 */
static void
gather(void)
{
	struct timespec end;
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += GATHER_MS * 1000000;
	end.tv_sec += end.tv_nsec / 1000000000;
	end.tv_nsec %= 1000000000;
	while (writer.len < GATHER_BYTES && !writer.stopping &&
	    pthread_cond_clockwait(&writer.filled, &writer.lock, CLOCK_MONOTONIC, &end) == 0)
		;
}

/*
 * Ends only when nothing is left: a line is either written here or, from then on, by its caller; so
 * their order holds.
 */
static void *
run_writer(void *arg)
{
	char *mine = arg;
	pthread_mutex_lock(&writer.lock);
	for (;;) {
		while (writer.len == 0 && !writer.stopping)
			pthread_cond_wait(&writer.filled, &writer.lock);
		if (writer.len == 0)
			break;
		gather();
		char *full = writer.filling;
		size_t len = writer.len;
		int fd = writer.fd;
		writer.filling = mine;
		writer.len = 0;
		mine = full;
		pthread_mutex_unlock(&writer.lock);
		write_batch(fd, mine, len);
		pthread_mutex_lock(&writer.lock);
	}
	writer.running = false;
	pthread_cond_signal(&writer.ended);
	pthread_mutex_unlock(&writer.lock);
	return NULL;
}

/* Under the lock. The caller waits for DIRECT_MS at most. */
static void
write_directly(const char *lines, size_t len)
{
	atomic_store_explicit(&writer.give_up_at, now_ms() + DIRECT_MS, memory_order_relaxed);
	write_batch(writer.fd, lines, len);
}

void
log_writer_put(const char *lines, size_t len)
{
	pthread_mutex_lock(&writer.lock);
	if (writer.stuck || (writer.running && len > BUFFER_BYTES - writer.len)) {
		count_dropped(lines, len);
	} else if (writer.running) {
		size_t before = writer.len;
		memcpy(writer.filling + before, lines, len);
		writer.len += len;
		if (before == 0 || (before < GATHER_BYTES && writer.len >= GATHER_BYTES))
			pthread_cond_signal(&writer.filled);
	} else {
		write_directly(lines, len);
	}
	pthread_mutex_unlock(&writer.lock);
}

static void
on_before_fork(void)
{
	pthread_mutex_lock(&writer.lock);
}

static void
on_fork_in_parent(void)
{
	pthread_mutex_unlock(&writer.lock);
}

/* The thread is not there in the child, and what waits in the buffer is the parent's to write. */
static void
on_fork_in_child(void)
{
	writer.running = writer.stopping = writer.torn = false;
	writer.len = 0;
	pthread_cond_init(&writer.filled, NULL);
	pthread_cond_init(&writer.ended, NULL);
	pthread_mutex_unlock(&writer.lock);
}

/* No signal is ever handled on the log's thread; SIGPIPE is left pending there. */
static int
create_thread(void)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	char *other = writer.buffers[writer.filling == writer.buffers[0]];
	int err = pthread_create(&writer.thread, NULL, run_writer, other);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}

static int
start_locked(int fd)
{
	assert(!writer.running);
	if (writer.stuck)
		return EBUSY;
	if (!writer.fork_handled) {
		int err = pthread_atfork(on_before_fork, on_fork_in_parent, on_fork_in_child);
		if (err != 0)
			return err;
		writer.fork_handled = true;
	}
	struct stat st;
	writer.fd = fd;
	writer.is_file = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
	writer.torn = writer.stopping = false;
	atomic_store_explicit(&writer.give_up_at, no_deadline, memory_order_relaxed);
	int err = create_thread();
	writer.running = err == 0;
	return err;
}

bool
log_start(int fd)
{
	pthread_mutex_lock(&writer.lock);
	int err = start_locked(fd);
	pthread_mutex_unlock(&writer.lock);
	errno = err;
	return err == 0;
}

/* Under the lock: until the thread is at its end. False: it sits in a write that nothing ends. */
static bool
wait_ended(void)
{
	struct timespec end;
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += 2 * STOP_MS / 1000;      /* it gives up after STOP_MS; a little remains */
	while (writer.running) {
		int err = pthread_cond_clockwait(&writer.ended, &writer.lock, CLOCK_MONOTONIC,
		    &end);
		if (err == ETIMEDOUT && writer.running)
			return false;
	}
	return true;
}

void
log_stop(void)
{
	pthread_mutex_lock(&writer.lock);
	if (!writer.running) {
		pthread_mutex_unlock(&writer.lock);
		return;
	}
	writer.stopping = true;
	atomic_store_explicit(&writer.give_up_at, now_ms() + STOP_MS, memory_order_relaxed);
	pthread_cond_signal(&writer.filled);
	writer.stuck = !wait_ended();
	bool stuck = writer.stuck;
	pthread_mutex_unlock(&writer.lock);
	if (stuck)
		pthread_detach(writer.thread);
	else
		pthread_join(writer.thread, NULL);
}

uint64_t
log_dropped(void)
{
	return atomic_load_explicit(&writer.dropped, memory_order_relaxed);
}
