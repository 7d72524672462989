/*
 * log: lines on stderr, as text or JSON, that never make their writer wait.
 *
 * A line is built on the stack, key by key, and handed over as bytes; a thread of the log's own
 * writes them. When it can't keep up or the descriptor fails, lines are dropped and counted, and
 * the count is told in a line of its own later. Values from strangers are escaped (control bytes,
 * quotes, non-UTF-8) and cut at 255 bytes, in text and JSON alike. There is no formatter for
 * credentials.
 *   text: 2026-01-02T03:04:05.678Z info listener added name=front listen=127.0.0.1:1080
 *   JSON: {"time":"...","level":"info","message":"listener added","name":"front",...}
 * Thread-safe. Before log_start and after log_stop lines are written at once.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/base.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_LEVEL_N };
enum log_format { LOG_TEXT, LOG_JSON };

enum { LOG_LINE_MAX = 4096 };  /* bytes; longer ones lose their last keys, never their shape */

struct log_line {
	char bytes[LOG_LINE_MAX];
	size_t len;
	enum log_format format;
	bool full, skip;
};

/** Starts the writing thread on fd. False: errno. */
bool log_start(int fd) WARN_UNUSED;
/** Writes out what is there (at most for a second) and ends the thread. */
void log_stop(void);
void log_set(enum log_level level, enum log_format format);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/** "error", "warn", "info", "debug". */
bool log_level_from_text(const char *text, enum log_level *level);
const char *log_level_text(enum log_level level);
/** Lines dropped so far. */
uint64_t log_dropped(void);

static inline bool
log_wants(enum log_level level)
{
	return level <= log_get_level();
}

/* A line: begin, keys in order, end. Lines under the level cost nothing but the call. */
void log_begin(struct log_line *l, enum log_level level, const char *message);
/** An access line: level info, but kept whatever the level is. */
void log_begin_access(struct log_line *l, const char *message);
void log_errno(struct log_line *l, int error);                                 /* key "error" */
void log_end(struct log_line *l);

/* Keys are literals, so their length is known where they are written. */
void log_put_str(struct log_line *l, const char *key, size_t key_len, const char *value);
void log_put_bytes(struct log_line *l, const char *key, size_t key_len, const char *value, size_t len);
void log_put_num(struct log_line *l, const char *key, size_t key_len, int64_t value);
void log_put_ms(struct log_line *l, const char *key, size_t key_len, uint64_t us);

static inline void
log_str(struct log_line *l, const char *key, const char *value)                /* NULL: left out */
{
	log_put_str(l, key, strlen(key), value);
}

static inline void
log_bytes(struct log_line *l, const char *key, const char *value, size_t len)  /* NULL: left out */
{
	log_put_bytes(l, key, strlen(key), value, len);
}

static inline void
log_num(struct log_line *l, const char *key, int64_t value)
{
	log_put_num(l, key, strlen(key), value);
}

static inline void
log_ms(struct log_line *l, const char *key, uint64_t us)                       /* "12.345" */
{
	log_put_ms(l, key, strlen(key), us);
}

/** A line with a printf message and no keys. */
void log_say(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
