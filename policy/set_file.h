/*
 * set_file: reads the file of a set line by line: plain text, one entry or a comment on each line.
 *
 * A '#' at the start of a line or behind a blank begins a comment; blank lines, blanks around an
 * entry, CR LF and a byte order mark are taken. Only regular files are read, so that a pipe or a
 * device can't hold a load up. The file is never whole in memory.
 */
#ifndef POLICY_SET_FILE_H
#define POLICY_SET_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/base.h"

enum { SET_LINE_MAX = 4096 };          /* bytes of a line, without its end; longer ones are an error */

/** What is wrong, for people: "ads.txt:17: ..." or "ads.txt: ...". Called once for each fault. */
typedef void set_report_fn(void *arg, const char *message);

/**
 * One entry: text without comment and blanks around it, len > 0. Returns NULL, or what is wrong
 * with it (a static text).
 */
typedef const char *set_line_fn(void *arg, const char *text, size_t len);

/**
 * Hands every entry of the file to on_line, and every fault to report. @return true when there was
 * no fault
 */
bool set_file_read(const char *path, set_line_fn *on_line, void *line_arg, set_report_fn *report,
		   void *report_arg) WARN_UNUSED;

#endif
