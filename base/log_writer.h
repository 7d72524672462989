/*
 * log_writer: the second half of log: takes finished lines and has a thread of its own write them.
 * Only for base/log.c.
 *
 * Two buffers: callers fill one under a mutex that is held for a copy, the thread writes the other;
 * it swaps them when it is done. A line that finds no room is dropped and counted. log_start,
 * log_stop and log_dropped (base/log.h) live here too.
 */
#ifndef BASE_LOG_WRITER_H
#define BASE_LOG_WRITER_H

#include <stddef.h>

#include "base/log.h"

/**
 * Takes a line, or more of them, each with its newline. Thread-safe; never waits once the thread
 * runs.
 */
void log_writer_put(const char *lines, size_t len);

/** Provided by log.c: closes the line's shape and adds the newline. */
void log_line_finish(struct log_line *l);
/** Provided by log.c: begins a line that is kept whatever the level is. */
void log_line_begin(struct log_line *l, enum log_level level, const char *message);

#endif
