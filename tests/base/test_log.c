/*
 * Tests of base/log: the shape of lines, and what happens when the descriptor is slow, full, closed
 * or broken. Whatever happens: lines written plus lines dropped are the lines logged, and no caller
 * waits.
 */
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

enum { CAPTURE_MAX = 8 << 20, PATIENCE_MS = 10000 };

static char captured[CAPTURE_MAX];
static size_t n_captured, n_lines;
static int ends[2];                    /* of the pipe that is logged to */

#define TEXT_HEAD "2026-01-02T03:04:05.678Z "
#define JSON_HEAD "{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":"

/* What an earlier test dropped is told here, so that each test begins with nothing to tell. */
static void
settle(void)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	assert_true(null >= 0);
	assert_true(log_start(null));
	log_set(LOG_INFO, LOG_TEXT);
	log_say(LOG_INFO, "settled");
	log_stop();
	close(null);
}

static void
open_pipe(int flags)
{
	settle();
	assert_int_equal(pipe2(ends, O_CLOEXEC | flags), 0);
	n_captured = n_lines = 0;
	captured[0] = '\0';
}

static void
close_pipe(void)
{
	for (int i = 0; i < 2; i++) {
		if (ends[i] >= 0)
			close(ends[i]);
		ends[i] = -1;
	}
}

/* Reads what is there; false at the end, or when nothing came for wait_ms. */
static bool
read_some(int wait_ms)
{
	struct pollfd p = { .fd = ends[0], .events = POLLIN };
	if (poll(&p, 1, wait_ms) != 1)
		return false;
	assert_true(n_captured < CAPTURE_MAX - 1);
	ssize_t n = read(ends[0], captured + n_captured, CAPTURE_MAX - 1 - n_captured);
	if (n <= 0)
		return false;
	for (ssize_t i = 0; i < n; i++)
		n_lines += captured[n_captured++] == '\n';
	captured[n_captured] = '\0';
	return true;
}

static unsigned
count_of(const char *text)
{
	unsigned n = 0;
	for (const char *at = captured; (at = strstr(at, text)) != NULL; at += strlen(text))
		n++;
	return n;
}

static void
read_file(int fd)
{
	ssize_t n = pread(fd, captured, CAPTURE_MAX - 1, 0);
	assert_true(n >= 0);
	captured[n] = '\0';
}

/* Starts, lets `write_lines` log, stops, and leaves in `captured` what came out. */
static void
capture(enum log_level level, enum log_format format, void (*write_lines)(void))
{
	settle();
	FILE *file = tmpfile();
	assert_non_null(file);
	assert_true(log_start(fileno(file)));
	log_set(level, format);
	write_lines();
	log_stop();
	read_file(fileno(file));
	fclose(file);
}

static void
write_example(void)
{
	struct log_line l;
	log_begin(&l, LOG_INFO, "listener added");
	log_str(&l, "name", "front");
	log_str(&l, "listen", "127.0.0.1:1080");
	log_str(&l, "user", NULL);
	log_bytes(&l, "cut", "front door", 5);
	log_num(&l, "n", -42);
	log_num(&l, "least", INT64_MIN);
	log_ms(&l, "took_ms", 12005);
	log_errno(&l, ENOENT);
	log_end(&l);
	log_say(LOG_WARN, "%d of %s", 3, "4");
}

/* Second after second, and within one; the clock may be set back. */
static void
write_at_times(void)
{
	static const int64_t at_ms[] = { 1767323045678, 1767323045679, 1767323046001, 1767323045009, 1767323045010, -1, -2, 0 };
	for (size_t i = 0; i < ARRAY_LEN(at_ms); i++) {
		clock_fake(1000, at_ms[i]);
		log_say(LOG_INFO, "at");
	}
}

static void
test_time_of_each_line(void **state)
{
	(void)state;
	capture(LOG_INFO, LOG_TEXT, write_at_times);
	assert_string_equal(captured,
	    "2026-01-02T03:04:05.678Z info at\n" "2026-01-02T03:04:05.679Z info at\n"
	    "2026-01-02T03:04:06.001Z info at\n" "2026-01-02T03:04:05.009Z info at\n"
	    "2026-01-02T03:04:05.010Z info at\n" "1969-12-31T23:59:59.999Z info at\n"
	    "1969-12-31T23:59:59.998Z info at\n" "1970-01-01T00:00:00.000Z info at\n");
	clock_fake_stop();
}

static void
test_text_line(void **state)
{
	(void)state;
	capture(LOG_INFO, LOG_TEXT, write_example);
	assert_string_equal(captured,
	    TEXT_HEAD "info listener added name=front listen=127.0.0.1:1080 cut=front n=-42 "
	    "least=-9223372036854775808 took_ms=12.005 error=\"No such file or directory\"\n"
	    TEXT_HEAD "warn 3 of 4\n");
}

static void
test_json_line(void **state)
{
	(void)state;
	capture(LOG_INFO, LOG_JSON, write_example);
	assert_string_equal(captured,
	    JSON_HEAD "\"info\",\"message\":\"listener added\",\"name\":\"front\","
	    "\"listen\":\"127.0.0.1:1080\","
	    "\"cut\":\"front\",\"n\":-42,\"least\":-9223372036854775808,\"took_ms\":12.005,"
	    "\"error\":\"No such file or directory\"}\n"
	    JSON_HEAD "\"warn\",\"message\":\"3 of 4\"}\n");
}

static const struct {
	const char *bytes;
	size_t len;
	const char *text, *json;               /* with the quotes */
} values[] = {
	{ "plain", 5, "plain", "\"plain\"" },
	{ "", 0, "\"\"", "\"\"" },
	{ "a b", 3, "\"a b\"", "\"a b\"" },
	{ "a=b", 3, "\"a=b\"", "\"a=b\"" },
	{ "say \"x\"", 7, "\"say \\\"x\\\"\"", "\"say \\\"x\\\"\"" },
	{ "a\\n", 3, "\"a\\\\n\"", "\"a\\\\n\"" },
	{ "a\nb\r\t", 5, "\"a\\nb\\r\\t\"", "\"a\\nb\\r\\t\"" },
	{ "\0x", 2, "\"\\u0000x\"", "\"\\u0000x\"" },
	{ "\033[2J\177", 5, "\"\\u001b[2J\\u007f\"", "\"\\u001b[2J\\u007f\"" },
	{ "\303\251", 2, "\"\303\251\"", "\"\303\251\"" },
	{ "\360\237\230\200", 4, "\"\360\237\230\200\"", "\"\360\237\230\200\"" },
	{ "\302\205", 2, "\"\\u0085\"", "\"\\u0085\"" },
	{ "\342\200\256", 3, "\"\\u202e\"", "\"\\u202e\"" },
	{ "\377", 1, "\"\\xff\"", "\"\\ufffd\"" },
	{ "\303", 1, "\"\\xc3\"", "\"\\ufffd\"" },
	{ "\303z", 2, "\"\\xc3z\"", "\"\\ufffdz\"" },
	{ "\200", 1, "\"\\x80\"", "\"\\ufffd\"" },
	{ "\300\257", 2, "\"\\xc0\\xaf\"", "\"\\ufffd\\ufffd\"" },
	{ "\340\200\257", 3, "\"\\xe0\\x80\\xaf\"", "\"\\ufffd\\ufffd\\ufffd\"" },
	{ "\355\240\200", 3, "\"\\xed\\xa0\\x80\"", "\"\\ufffd\\ufffd\\ufffd\"" },
	{ "\364\220\200\200", 4, "\"\\xf4\\x90\\x80\\x80\"", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"" },
	{ "\360\237\230", 3, "\"\\xf0\\x9f\\x98\"", "\"\\ufffd\\ufffd\\ufffd\"" },
};

static void
write_values(void)
{
	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		struct log_line l;
		log_begin(&l, LOG_INFO, "m");
		log_bytes(&l, "v", values[i].bytes, values[i].len);
		log_end(&l);
	}
}

static void
test_values_are_escaped(void **state)
{
	(void)state;
	for (enum log_format format = LOG_TEXT; format <= LOG_JSON; format++) {
		bool json = format == LOG_JSON;
		capture(LOG_INFO, format, write_values);
		const char *at = captured;
		for (size_t i = 0; i < ARRAY_LEN(values); i++) {
			char want[256];
			int n = snprintf(want, sizeof want, "%s%s%s", json ?
			    JSON_HEAD "\"info\",\"message\":\"m\",\"v\":" : TEXT_HEAD "info m v=",
			    json ? values[i].json : values[i].text, json ? "}\n" : "\n");
			if (strncmp(at, want, (size_t)n) != 0)
				fail_msg("wanted %s got %.*s", want, (int)strcspn(at, "\n"), at);
			at += n;
		}
		assert_int_equal(*at, '\0');
	}
}

static void
write_strange_message(void)
{
	log_say(LOG_INFO, "no \"%s\" \\ %s", "a\nb", "\377");
}

static void
test_messages_are_escaped_too(void **state)
{
	(void)state;
	capture(LOG_INFO, LOG_TEXT, write_strange_message);
	assert_string_equal(captured, TEXT_HEAD "info no \"a\\nb\" \\\\ \\xff\n");
	capture(LOG_INFO, LOG_JSON, write_strange_message);
	assert_string_equal(captured,
	    JSON_HEAD "\"info\",\"message\":\"no \\\"a\\nb\\\" \\\\ \\ufffd\"}\n");
}

/* 254 letters, then a character of two bytes: it doesn't fit as a whole, so none of it is there. */
static void
write_long_values(void)
{
	char value[400];
	memset(value, 'x', sizeof value);
	struct log_line l;
	log_begin(&l, LOG_INFO, "m");
	log_bytes(&l, "a", value, sizeof value);
	memcpy(value + 254, "\303\251", 2);
	log_bytes(&l, "b", value, sizeof value);
	memcpy(value + 253, "\303\251", 2);
	log_bytes(&l, "c", value, sizeof value);
	log_end(&l);
}

static void
test_values_are_cut_between_characters(void **state)
{
	(void)state;
	capture(LOG_INFO, LOG_TEXT, write_long_values);
	char want[1024], xs[256];
	memset(xs, 'x', 255);
	xs[255] = '\0';
	snprintf(want, sizeof want,
	    TEXT_HEAD "info m a=%s b=\"%.254s\" c=\"%.253s\303\251\"\n", xs, xs, xs);
	/* The value of b is cut, but was not plain ASCII as a whole: it is quoted. */
	assert_string_equal(captured, want);
}

static void
write_huge_lines(void)
{
	char controls[600], key[16];
	memset(controls, 1, sizeof controls);
	controls[sizeof controls - 1] = '\0';
	struct log_line l;
	log_begin(&l, LOG_INFO, controls);
	for (int i = 0; i < 40; i++) {
		snprintf(key, sizeof key, "k%d", i);
		log_str(&l, key, i % 3 == 2 ? controls : "short");
	}
	log_end(&l);
	for (size_t fill = 0; fill < 140; fill++) {        /* the end falls anywhere */
		log_begin(&l, LOG_INFO, controls);
		log_bytes(&l, "fill", controls, fill);
		for (int i = 0; i < 99; i++)
			log_num(&l, "number", 123456789);
		log_end(&l);
	}
}

/*
 * Every line, also the fullest, is whole: its quotes pair up, it ends as it should, its last key
 * has its value.
 */
static void
test_full_lines_keep_their_shape(void **state)
{
	(void)state;
	capture(LOG_INFO, LOG_JSON, write_huge_lines);
	unsigned n = 0;
	for (char *line = captured, *end; (end = strchr(line, '\n')) != NULL; line = end + 1, n++) {
		size_t len = (size_t)(end + 1 - line), n_quotes = 0;
		assert_true(len <= LOG_LINE_MAX && len > LOG_LINE_MAX / 2);
		for (size_t i = 0; i < len; i++)
			n_quotes += line[i] == '"';
		assert_int_equal(n_quotes % 2, 0);
		assert_memory_equal(end - 1, "}", 1);
		if (n > 0)
			assert_memory_equal(end - 19, "\"number\":123456789}", 19);
		else
			assert_memory_equal(line, JSON_HEAD, strlen(JSON_HEAD));
	}
	assert_int_equal(n, 141);
}

static void
write_at_every_level(void)
{
	struct log_line l;
	for (enum log_level level = LOG_ERROR; level < LOG_LEVEL_N; level++)
		log_say(level, "said");
	log_begin(&l, LOG_INFO, "begun");
	log_str(&l, "key", "value");
	log_num(&l, "n", 1);
	log_ms(&l, "ms", 1);
	log_errno(&l, EIO);
	log_end(&l);
	log_begin_access(&l, "access");
	log_end(&l);
}

static void
test_levels(void **state)
{
	(void)state;
	capture(LOG_WARN, LOG_TEXT, write_at_every_level);
	assert_string_equal(captured,
	    TEXT_HEAD "error said\n" TEXT_HEAD "warn said\n" TEXT_HEAD "info access\n");
	assert_true(log_wants(LOG_WARN) && !log_wants(LOG_INFO));
	log_set_level(LOG_DEBUG);
	assert_int_equal(log_get_level(), LOG_DEBUG);
	for (enum log_level level = LOG_ERROR; level < LOG_LEVEL_N; level++) {
		enum log_level got = LOG_LEVEL_N;
		assert_true(log_level_from_text(log_level_text(level), &got));
		assert_int_equal(got, level);
	}
	enum log_level kept = LOG_WARN;
	assert_false(log_level_from_text("warning", &kept) || log_level_from_text("", &kept));
	assert_int_equal(kept, LOG_WARN);
}

static void
test_errno_survives_a_line(void **state)
{
	(void)state;
	open_pipe(0);
	assert_true(log_start(ends[1]));
	errno = EADDRINUSE;
	log_say(LOG_INFO, "x");
	assert_int_equal(errno, EADDRINUSE);
	log_stop();
	close(ends[0]);
	ends[0] = -1;
	errno = EADDRINUSE;
	log_say(LOG_INFO, "into a closed pipe, written by the caller");
	assert_int_equal(errno, EADDRINUSE);
	close_pipe();
}

static void
test_lines_after_stop_are_written_at_once(void **state)
{
	(void)state;
	open_pipe(0);
	assert_true(log_start(ends[1]));
	log_stop();
	log_stop();                            /* again is nothing */
	log_say(LOG_INFO, "late");
	assert_true(read_some(0));
	assert_string_equal(captured, TEXT_HEAD "info late\n");
	close_pipe();
}

enum { N_WRITERS = 4, LINES_EACH = 20000 };

static void *
write_many(void *arg)
{
	for (int i = 0; i < LINES_EACH; i++) {
		struct log_line l;
		log_begin(&l, LOG_INFO, "line");
		log_num(&l, "writer", (intptr_t)arg);
		log_num(&l, "i", i);
		log_end(&l);
	}
	return NULL;
}

static void *
stop_and_close(void *arg)
{
	pthread_t *writers = arg;
	for (int i = 0; i < N_WRITERS; i++)
		pthread_join(writers[i], NULL);
	log_stop();
	close(ends[1]);
	ends[1] = -1;
	return NULL;
}

/* The numbers of each writer go up, with gaps only where lines were dropped. */
static unsigned
check_order(void)
{
	long long last[N_WRITERS] = { -1, -1, -1, -1 };
	unsigned n = 0;
	for (const char *line = captured; *line != '\0'; line = strchr(line, '\n') + 1) {
		long long writer, i;
		if (sscanf(line, TEXT_HEAD "info line writer=%lld i=%lld\n", &writer, &i) != 2)
			continue;
		assert_in_range(writer, 0, N_WRITERS - 1);
		assert_true(i > last[writer]);
		last[writer] = i;
		n++;
	}
	return n;
}

static void
test_threads_lose_nothing_uncounted(void **state)
{
	(void)state;
	open_pipe(0);
	assert_true(log_start(ends[1]));
	uint64_t before = log_dropped();
	pthread_t writers[N_WRITERS], stopper;
	for (intptr_t i = 0; i < N_WRITERS; i++)
		assert_int_equal(pthread_create(&writers[i], NULL, write_many, (void *)i), 0);
	assert_int_equal(pthread_create(&stopper, NULL, stop_and_close, writers), 0);
	while (read_some(PATIENCE_MS))
		;
	pthread_join(stopper, NULL);
	assert_int_equal(check_order() + (log_dropped() - before), N_WRITERS * LINES_EACH);
	close_pipe();
}

/* More than both buffers and the pipe hold. */
static unsigned
log_more_than_fits(void)
{
	char value[200];
	memset(value, 'x', sizeof value);
	const unsigned n = 3 * (1 << 20) / sizeof value;
	for (unsigned i = 0; i < n; i++) {
		struct log_line l;
		log_begin(&l, LOG_INFO, "flood");
		log_bytes(&l, "v", value, sizeof value);
		log_end(&l);
	}
	return n;
}

/* How many lines are missing, by the log's own account. */
static uint64_t
count_told(void)
{
	static const char notice[] = "warn log lines were dropped lines=";
	uint64_t sum = 0;
	for (const char *at = captured; (at = strstr(at, notice)) != NULL; at += strlen(notice))
		sum += strtoull(at + strlen(notice), NULL, 10);
	return sum;
}

static void
check_stalled_reader(int flags)
{
	open_pipe(flags);
	assert_true(log_start(ends[1]));
	uint64_t before = log_dropped(), start_us = clock_now_us();
	unsigned n = log_more_than_fits();
	assert_true(clock_now_us() - start_us < PATIENCE_MS * 1000ull);
	uint64_t dropped = log_dropped() - before;
	assert_true(dropped > 0 && dropped < n);
	/* The reader comes back: the rest arrives, and how many are missing. */
	while (n_lines <= n - dropped || count_told() < dropped)
		assert_true(read_some(PATIENCE_MS));
	log_stop();
	while (read_some(0))
		;
	assert_int_equal(count_told(), dropped);
	assert_int_equal(count_of("info flood v="), n - dropped);
	assert_int_equal(log_dropped() - before, dropped);
	close_pipe();
}

static void
test_stalled_reader_stalls_nobody(void **state)
{
	(void)state;
	clock_fake_stop();
	check_stalled_reader(0);
	check_stalled_reader(O_NONBLOCK);
}

static void
test_stop_gives_a_stalled_reader_up(void **state)
{
	(void)state;
	open_pipe(0);
	assert_true(log_start(ends[1]));
	uint64_t before = log_dropped();
	unsigned n = log_more_than_fits();
	uint64_t start_us = clock_now_us();
	log_stop();
	assert_true(clock_now_us() - start_us < PATIENCE_MS * 1000ull);
	uint64_t dropped = log_dropped() - before;
	while (read_some(0))
		;
	assert_int_equal(count_of("info flood v="), n - dropped);
	close_pipe();
}

/* A full pipe costs the caller of a late line a moment, not more. */
static void
test_late_line_into_a_full_pipe(void **state)
{
	(void)state;
	open_pipe(O_NONBLOCK);
	assert_true(log_start(ends[1]));
	log_stop();
	char bytes[4096] = "";
	while (write(ends[1], bytes, sizeof bytes) > 0)
		;
	uint64_t before = log_dropped(), start_us = clock_now_us();
	log_say(LOG_INFO, "late");
	assert_true(clock_now_us() - start_us < PATIENCE_MS * 1000ull);
	assert_int_equal(log_dropped() - before, 1);
	close_pipe();
}

static void
test_closed_pipe_is_counted(void **state)
{
	(void)state;
	open_pipe(0);
	close(ends[0]);
	ends[0] = -1;
	uint64_t before = log_dropped();
	assert_true(log_start(ends[1]));
	for (int i = 0; i < 100; i++)
		log_say(LOG_INFO, "nobody reads this");
	log_stop();
	assert_int_equal(log_dropped() - before, 100);
	log_say(LOG_INFO, "nor this");
	assert_int_equal(log_dropped() - before, 101);
	close_pipe();
}

static void
test_full_disk_is_counted(void **state)
{
	(void)state;
	settle();
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	assert_true(full >= 0);
	uint64_t before = log_dropped();
	assert_true(log_start(full));
	for (int i = 0; i < 100; i++)
		log_say(LOG_INFO, "no space");
	log_stop();
	assert_int_equal(log_dropped() - before, 100);
	close(full);
}

static void
set_file_limit(rlim_t bytes)
{
	struct rlimit limit;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = bytes;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/*
 * The disk fills within a line; when there is room again, the next line starts on a line of its own
 * and the loss is told.
 */
static void
test_torn_line_does_not_spoil_the_next(void **state)
{
	(void)state;
	settle();
	clock_fake(1, 1767323045678);
	FILE *file = tmpfile();
	assert_non_null(file);
	assert_true(log_start(fileno(file)));
	log_stop();
	struct rlimit before;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	log_say(LOG_INFO, "first");
	set_file_limit(strlen(TEXT_HEAD "info first\n") + 10);
	log_say(LOG_INFO, "second");
	log_say(LOG_INFO, "third");
	set_file_limit(before.rlim_cur);
	log_say(LOG_INFO, "fourth");
	read_file(fileno(file));
	fclose(file);
	assert_string_equal(captured,
	    TEXT_HEAD "info first\n" "2026-01-02\n" TEXT_HEAD "info fourth\n"
	    TEXT_HEAD "warn log lines were dropped lines=2\n");
	clock_fake_stop();
}

/* What waits in the buffer is the parent's; the child's lines are written by the child at once. */
static void
test_child_writes_for_itself(void **state)
{
	(void)state;
	open_pipe(0);
	assert_true(log_start(ends[1]));
	for (int i = 0; i < 100; i++)
		log_say(LOG_INFO, "of the parent");
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		log_say(LOG_INFO, "of the child");
		log_stop();
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	log_stop();
	while (read_some(0))
		;
	assert_int_equal(count_of("of the parent\n"), 100);
	assert_int_equal(count_of("of the child\n"), 1);
	close_pipe();
}

static int
fake_time(void **state)
{
	(void)state;
	clock_fake(1000, 1767323045678);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_text_line, fake_time),
		cmocka_unit_test(test_time_of_each_line),
		cmocka_unit_test_setup(test_json_line, fake_time),
		cmocka_unit_test_setup(test_values_are_escaped, fake_time),
		cmocka_unit_test_setup(test_messages_are_escaped_too, fake_time),
		cmocka_unit_test_setup(test_values_are_cut_between_characters, fake_time),
		cmocka_unit_test_setup(test_full_lines_keep_their_shape, fake_time),
		cmocka_unit_test_setup(test_levels, fake_time),
		cmocka_unit_test_setup(test_errno_survives_a_line, fake_time),
		cmocka_unit_test_setup(test_lines_after_stop_are_written_at_once, fake_time),
		cmocka_unit_test_setup(test_threads_lose_nothing_uncounted, fake_time),
		cmocka_unit_test(test_stalled_reader_stalls_nobody),
		cmocka_unit_test(test_stop_gives_a_stalled_reader_up),
		cmocka_unit_test(test_late_line_into_a_full_pipe),
		cmocka_unit_test(test_closed_pipe_is_counted),
		cmocka_unit_test(test_full_disk_is_counted),
		cmocka_unit_test(test_torn_line_does_not_spoil_the_next),
		cmocka_unit_test(test_child_writes_for_itself),
	};
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
