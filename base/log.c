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
	KEY_AROUND_MAX = 4,                    /* ,"": */
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

/*
 * What a byte may be without being looked at further: part of a value that needs no quotes in text, as it can't be misread there;
 * part of one between quotes that needs no escape in either format.
 */
enum { IS_WORD = 1, IS_EASY = 2 };
static const uint8_t byte_class[256] = {
	[' '] = IS_EASY, ['!'] = IS_EASY | IS_WORD, ['#' ... '<'] = IS_EASY | IS_WORD, ['='] = IS_EASY,
	['>' ... '['] = IS_EASY | IS_WORD, [']' ... '~'] = IS_EASY | IS_WORD,
};

/* How many of the first len bytes are of that class. */
static size_t
run_of(const char *bytes, size_t len, uint8_t class)
{
	size_t n = 0;
	while (n < len && (byte_class[(uint8_t)bytes[n]] & class))
		n++;
	return n;
}

/* The same, copied on the way. */
static inline size_t
copy_run(char *out, const char *bytes, size_t len, uint8_t class)
{
	size_t n = 0;
	for (; n < len && (byte_class[(uint8_t)bytes[n]] & class); n++)
		out[n] = bytes[n];
	return n;
}

/* At most max bytes, cut between characters. */
static void
put_escaped(struct log_line *l, const char *bytes, size_t len, size_t max, bool quoted)
{
	const uint8_t *s = (const uint8_t *)bytes;
	for (size_t at = 0; at < len;) {
		uint32_t v;
		size_t run = run_of(bytes + at, (len < max ? len : max) - at, IS_EASY);
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

static size_t
room_in(const struct log_line *l)
{
	return l->full ? 0 : LOG_LINE_MAX - CLOSING_MAX - l->len;
}

static void
put_value(struct log_line *l, const char *bytes, size_t len)
{
	bool quoted = l->format == LOG_JSON || len == 0 || run_of(bytes, len, IS_WORD) < len;
	if (quoted)
		put_text(l, "\"");
	put_escaped(l, bytes, len, VALUE_MAX, quoted);
	if (quoted)
		put_text(l, "\"");
}

/* A key is a few bytes: two copies that overlap do it without a loop or a call. */
static inline void
copy_key(char *out, const char *key, size_t n)
{
	if (n > 16) {
		memcpy(out, key, n);
	} else if (n >= 8) {
		memcpy(out, key, 8);
		memcpy(out + n - 8, key + n - 8, 8);
	} else if (n >= 4) {
		memcpy(out, key, 4);
		memcpy(out + n - 4, key + n - 4, 4);
	} else if (n > 0) {
		out[0] = key[0];
		out[n / 2] = key[n / 2];
		out[n - 1] = key[n - 1];
	}
}

/* Writes a key and returns where its value goes, if there is room for both. The value counts once end_key was called. */
static inline char *
begin_key(struct log_line *l, const char *key, size_t key_len, size_t value_max)
{
	if (key_len + KEY_AROUND_MAX + value_max > room_in(l))
		return NULL;
	char *out = l->bytes + l->len;
	if (l->format == LOG_JSON) {
		out[0] = ',';
		out[1] = '"';
		copy_key(out + 2, key, key_len);
		out[2 + key_len] = '"';
		out[3 + key_len] = ':';
		return out + key_len + 4;
	}
	out[0] = ' ';
	copy_key(out + 1, key, key_len);
	out[1 + key_len] = '=';
	return out + key_len + 2;
}

static inline void
end_key(struct log_line *l, const char *end)
{
	l->len = (size_t)(end - l->bytes);
}

/* A value that is long or strange: as a whole or not at all. */
static __attribute__((cold, noinline)) void
put_any(struct log_line *l, const char *key, size_t key_len, const char *value, size_t len)
{
	size_t start = l->len;
	char *out = begin_key(l, key, key_len, 0);
	l->full = out == NULL;
	if (out != NULL) {
		end_key(l, out);
		put_value(l, value, len);
	}
	if (l->full)
		l->len = start;
}

/*
 * Most values need no escape: they are looked at and copied in one go, to the NUL or up to len bytes. False: it is not such a
 * value, or has no room.
 */
static inline bool
put_easy(struct log_line *l, const char *key, size_t key_len, const char *value, size_t len, bool to_nul)
{
	size_t most = to_nul || len > VALUE_MAX ? VALUE_MAX : len;
	char *out = begin_key(l, key, key_len, VALUE_MAX + 2);
	if (out == NULL)
		return false;
	if (l->format == LOG_TEXT) {
		size_t n = copy_run(out, value, most, IS_WORD);
		if (n > 0 && (to_nul ? value[n] == '\0' : n == len)) {
			end_key(l, out + n);
			return true;
		}
	}
	*out++ = '"';
	size_t n = copy_run(out, value, most, IS_EASY);
	if (to_nul ? value[n] != '\0' : n != len)
		return false;
	out[n] = '"';
	end_key(l, out + n + 1);
	return true;
}

/* The time: up to its second it is that of the line before, most of the time. */
static char *
add_time(char *out)
{
	static _Thread_local struct {
		int64_t second;
		size_t len;
		char text[32];
	} last = { .second = -1 };
	int64_t ms = clock_wall_ms();
	if (ms < 0 || ms / 1000 != last.second) {
		last.len = strlen(clock_to_text(ms, last.text, sizeof last.text));
		last.second = ms < 0 ? -1 : ms / 1000;
	} else {
		text_write_number(last.text + last.len - 4, (uint64_t)(ms % 1000), 3);     /* "...678Z" */
	}
	memcpy(out, last.text, sizeof last.text);
	return out + last.len;
}

static inline char *
add_text(char *out, const char *text)
{
	while (*text != '\0')
		*out++ = *text++;
	return out;
}

/* All of it fits: it is what comes first, and of bounded length. */
void
log_line_begin(struct log_line *l, enum log_level level, const char *message)
{
	l->full = l->skip = false;
	l->format = (enum log_format)atomic_load_explicit(&current_format, memory_order_relaxed);
	bool json = l->format == LOG_JSON;
	char *out = add_time(add_text(l->bytes, json ? "{\"time\":\"" : ""));
	out = add_text(out, json ? "\",\"level\":\"" : " ");
	out = add_text(out, level_texts[level]);
	out = add_text(out, json ? "\",\"message\":\"" : " ");
	size_t n = copy_run(out, message, MESSAGE_MAX, IS_EASY);
	l->len = (size_t)(out - l->bytes) + n;
	if (message[n] != '\0' && n < MESSAGE_MAX)
		put_escaped(l, message + n, strlen(message + n), MESSAGE_MAX - n, json);
	if (json)
		l->bytes[l->len++] = '"';
}

void
log_line_finish(struct log_line *l)
{
	if (l->format == LOG_JSON)
		l->bytes[l->len++] = '}';
	l->bytes[l->len++] = '\n';
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

void
log_put_bytes(struct log_line *l, const char *key, size_t key_len, const char *value, size_t len)
{
	if (!l->skip && value != NULL && !put_easy(l, key, key_len, value, len, false))
		put_any(l, key, key_len, value, len);
}

void
log_put_str(struct log_line *l, const char *key, size_t key_len, const char *value)
{
	if (!l->skip && value != NULL && !put_easy(l, key, key_len, value, 0, true))
		put_any(l, key, key_len, value, strlen(value));
}

void
log_put_num(struct log_line *l, const char *key, size_t key_len, int64_t value)
{
	if (l->skip)
		return;
	char *out = begin_key(l, key, key_len, TEXT_NUMBER_MAX);
	if ((l->full = out == NULL))
		return;
	if (value < 0)
		*out++ = '-';
	end_key(l, out + text_write_number(out, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, 1));
}

void
log_put_ms(struct log_line *l, const char *key, size_t key_len, uint64_t us)
{
	if (l->skip)
		return;
	char *out = begin_key(l, key, key_len, TEXT_NUMBER_MAX);
	if (!(l->full = out == NULL))
		end_key(l, out + text_write_ms(out, us));
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
