/*
 * log: builds lines, key by key, in memory of the caller. Who writes them is log_writer's business.
 *
 * A key that does not fit is taken back as a whole and no other follows, so a line is always
 * complete in itself: room for what closes it is kept free throughout.
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log_writer.h"
#include "base/text.h"

enum {
	CLOSING_MAX = 2,                       /* "}\n" */
	VALUE_MAX = 255,
	MESSAGE_MAX = 512,                     /* fits beside time and level, each byte escaped */
};

static const char *const level_texts[LOG_LEVEL_N] = {
	[LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"
};

static atomic_int current_level = LOG_INFO;
static atomic_int current_format = LOG_TEXT;

void
log_set_level(enum log_level level)
{
	atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

void
log_set(enum log_level level, enum log_format format)
{
	atomic_store_explicit(&current_format, (int)format, memory_order_relaxed);
	log_set_level(level);
}

enum log_level
log_get_level(void)
{
	return (enum log_level)atomic_load_explicit(&current_level, memory_order_relaxed);
}

bool
log_level_from_text(const char *text, enum log_level *level)
{
	for (size_t i = 0; i < LOG_LEVEL_N; i++) {
		if (strcmp(text, level_texts[i]) == 0) {
			*level = (enum log_level)i;
			return true;
		}
	}
	return false;
}

const char *
log_level_text(enum log_level level)
{
	return level_texts[level];
}

static void
put_bytes(struct log_line *l, const char *bytes, size_t n)
{
	if (l->full || n > LOG_LINE_MAX - CLOSING_MAX - l->len) {
		l->full = true;
		return;
	}
	memcpy(l->bytes + l->len, bytes, n);
	l->len += n;
}

static void
put_text(struct log_line *l, const char *text)
{
	put_bytes(l, text, strlen(text));
}

/*
 * The length of the UTF-8 sequence at s (RFC 3629: shortest form, no surrogates, up to U+10FFFF)
 * and its value; 0: it is none.
 */
static size_t
read_utf8(const uint8_t *s, size_t len, uint32_t *value)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc0 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if (n == 0 || n > len || s[0] > 0xf4)
		return 0;
	uint32_t v = n == 1 ? s[0] : s[0] & 0x7fu >> n;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		v = v << 6 | (s[i] & 0x3fu);
	}
	if (v < least[n] || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff))
		return 0;
	*value = v;
	return n;
}

/*
 * What would act on a terminal or a viewer instead of being shown: controls, line separators, marks
 * of writing direction.
 */
static bool
is_unseen(uint32_t v)
{
	return v < 0x20 || (v >= 0x7f && v < 0xa0) || (v >= 0x2028 && v <= 0x202e) ||
	    (v >= 0x2066 && v <= 0x2069) || v == 0xfeff;
}

static void
put_escape(struct log_line *l, uint32_t v)
{
	static const char short_forms[] = {
		['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'
	};
	char out[8] = { '\\' };
	if (v < sizeof short_forms && short_forms[v] != 0)
		out[1] = short_forms[v];
	else
		snprintf(out, sizeof out, "\\u%04x", (unsigned)(v & 0xffff));
	put_text(l, out);
}

/* A byte that is no UTF-8: JSON can't carry it, text shows what it was. */
static void
put_bad_byte(struct log_line *l, uint8_t byte)
{
	char out[8] = "\\ufffd";
	if (l->format == LOG_TEXT)
		snprintf(out, sizeof out, "\\x%02x", byte);
	put_text(l, out);
}

/* How many bytes at the start of s need no escape in either format: visible ASCII and blanks. */
static size_t
plain_run(const uint8_t *s, size_t len)
{
	size_t n = 0;
	while (n < len && s[n] >= ' ' && s[n] <= '~' && s[n] != '\\' && s[n] != '"')
		n++;
	return n;
}

/* At most max bytes, cut between characters. */
static void
put_escaped(struct log_line *l, const char *bytes, size_t len, size_t max, bool quoted)
{
	const uint8_t *s = (const uint8_t *)bytes;
	for (size_t at = 0; at < len;) {
		uint32_t v;
		size_t run = plain_run(s + at, (len < max ? len : max) - at);
		put_bytes(l, bytes + at, run);
		at += run;
		if (at == len || at == max)
			return;
		size_t n = read_utf8(s + at, len - at, &v);
		if (at + (n == 0 ? 1 : n) > max)
			return;
		if (n == 0)
			put_bad_byte(l, s[at]);
		else if (is_unseen(v))
			put_escape(l, v);
		else if (v == '\\' || (v == '"' && quoted))
			put_bytes(l, v == '"' ? "\\\"" : "\\\\", 2);
		else
			put_bytes(l, bytes + at, n);
		at += n == 0 ? 1 : n;
	}
}

/* In text a value goes without quotes where that can't be misread: visible ASCII. */
static bool
is_plain(uint8_t c)
{
	static const uint64_t plain[] = {
		UINT64_MAX << ('!' & 63) & ~(UINT64_C(1) << '"') & ~(UINT64_C(1) << '='),
		UINT64_MAX >> 1 & ~(UINT64_C(1) << ('\\' & 63)), 0, 0,
	};
	return plain[c >> 6] >> (c & 63) & 1;
}

static bool
is_plain_word(const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!is_plain((uint8_t)bytes[i]))
			return false;
	return len > 0;
}

static size_t
room_in(const struct log_line *l)
{
	return l->full ? 0 : LOG_LINE_MAX - CLOSING_MAX - l->len;
}

/* Most values are such words: looked at and copied in one go. False: it is none, or has no room. */
static bool
put_plain_word(struct log_line *l, const char *bytes, size_t len)
{
	char *out = l->bytes + l->len;
	if (len == 0 || len > VALUE_MAX || len > room_in(l))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!is_plain((uint8_t)bytes[i]))
			return false;
		out[i] = bytes[i];
	}
	l->len += len;
	return true;
}

static void
put_value(struct log_line *l, const char *bytes, size_t len)
{
	if (l->format == LOG_TEXT && put_plain_word(l, bytes, len))
		return;
	bool quoted = l->format == LOG_JSON || !is_plain_word(bytes, len);
	if (quoted)
		put_text(l, "\"");
	put_escaped(l, bytes, len, VALUE_MAX, quoted);
	if (quoted)
		put_text(l, "\"");
}

static void
put_key(struct log_line *l, const char *key)
{
	bool json = l->format == LOG_JSON;
	size_t n = strlen(key), len = n + (json ? 4 : 2);
	if (len > room_in(l)) {
		l->full = true;
		return;
	}
	char *out = l->bytes + l->len;
	*out++ = json ? ',' : ' ';
	if (json)
		*out++ = '"';
	memcpy(out, key, n);
	if (json)
		out[n++] = '"';
	out[n] = json ? ':' : '=';
	l->len += len;
}

/* The time: up to its second it is that of the line before, most of the time. */
static void
put_time(struct log_line *l)
{
	static _Thread_local struct {
		int64_t second;
		char text[32];
		size_t len;
	} last = { .second = -1 };
	int64_t ms = clock_wall_ms();
	if (ms < 0 || ms / 1000 != last.second) {
		last.len = strlen(clock_to_text(ms, last.text, sizeof last.text));
		last.second = ms < 0 ? -1 : ms / 1000;
	} else {
		text_write_number(last.text + last.len - 4, (uint64_t)(ms % 1000), 3);     /* "...678Z" */
	}
	put_bytes(l, last.text, last.len);
}

void
log_line_begin(struct log_line *l, enum log_level level, const char *message)
{
	l->len = 0;
	l->full = l->skip = false;
	l->format = (enum log_format)atomic_load_explicit(&current_format, memory_order_relaxed);
	bool json = l->format == LOG_JSON;
	put_text(l, json ? "{\"time\":\"" : "");
	put_time(l);
	put_text(l, json ? "\",\"level\":\"" : " ");
	put_text(l, level_texts[level]);
	put_text(l, json ? "\",\"message\":\"" : " ");
	put_escaped(l, message, strlen(message), MESSAGE_MAX, json);
	put_text(l, json ? "\"" : "");
}

void
log_line_finish(struct log_line *l)
{
	const char *closing = l->format == LOG_JSON ? "}\n" : "\n";
	size_t n = strlen(closing);
	memcpy(l->bytes + l->len, closing, n);
	l->len += n;
}

void
log_begin(struct log_line *l, enum log_level level, const char *message)
{
	l->skip = true;
	if (log_wants(level))
		log_line_begin(l, level, message);
}

void
log_begin_access(struct log_line *l, const char *message)
{
	log_line_begin(l, LOG_INFO, message);
}

/* Where a key begins; end_key goes back there if the key did not fit as a whole. */
static size_t
begin_key(struct log_line *l, const char *key)
{
	size_t start = l->len;
	put_key(l, key);
	return start;
}

static void
end_key(struct log_line *l, size_t start)
{
	if (l->full)
		l->len = start;
}

void
log_bytes(struct log_line *l, const char *key, const char *value, size_t len)
{
	if (l->skip || value == NULL)
		return;
	size_t start = begin_key(l, key);
	put_value(l, value, len);
	end_key(l, start);
}

void
log_str(struct log_line *l, const char *key, const char *value)
{
	if (value != NULL)
		log_bytes(l, key, value, strlen(value));
}

static void
put_plain(struct log_line *l, const char *key, const char *text, size_t len)
{
	size_t start = begin_key(l, key);
	put_bytes(l, text, len);
	end_key(l, start);
}

void
log_num(struct log_line *l, const char *key, int64_t value)
{
	char text[32];
	if (l->skip)
		return;
	size_t sign = value < 0;
	text[0] = '-';
	size_t n = text_write_number(text + sign, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, 1);
	put_plain(l, key, text, sign + n);
}

void
log_ms(struct log_line *l, const char *key, uint64_t us)
{
	char text[32];
	if (l->skip)
		return;
	size_t n = text_write_number(text, us / 1000, 1);
	text[n++] = '.';
	n += text_write_number(text + n, us % 1000, 3);
	put_plain(l, key, text, n);
}

void
log_errno(struct log_line *l, int error)
{
	char memory[128];
	if (!l->skip)
		log_str(l, "error", strerror_r(error, memory, sizeof memory));
}

void
log_end(struct log_line *l)
{
	if (l->skip)
		return;
	int error = errno;                     /* the caller may still look at it */
	log_line_finish(l);
	log_writer_put(l->bytes, l->len);
	l->skip = true;
	errno = error;
}

void
log_say(enum log_level level, const char *fmt, ...)
{
	struct log_line l;
	char message[MESSAGE_MAX + 1];
	if (!log_wants(level))
		return;
	va_list args;
	va_start(args, fmt);
	vsnprintf(message, sizeof message, fmt, args);
	va_end(args);
	log_begin(&l, level, message);
	log_end(&l);
}
