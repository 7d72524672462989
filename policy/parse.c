/*
 * parse: see parse.h. What is common to all objects of the document; the objects themselves are in
 * parse_*.c.
 */
#include "policy/parse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "policy/errors.h"
#include "policy/utf8.h"

enum { QUOTE_MAX = 64, FOUND_MAX = 128, EXPECTED_MAX = 640 };

static const struct parse_field comment_field = { .key = "comment", .kind = PARSE_COMMENT };

/* ---- reporting ---- */

static void PRINTF_LIKE(6, 0)
report(struct parse_context *c, const struct json_value *at, const char *key, unsigned line,
    unsigned column, const char *fmt, va_list args)
{
	char *pointer = json_pointer(at, key);
	policy_errors_add_va(c->errors, pointer != NULL ? pointer : "", line, column, fmt, args);
	free(pointer);
}

void
parse_error(struct parse_context *c, const struct json_value *at, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	report(c, at, NULL, at->line, at->column, fmt, args);
	va_end(args);
}

void
parse_error_at_key(struct parse_context *c, const struct json_value *member, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	report(c, member, NULL, member->key_line, member->key_column, fmt, args);
	va_end(args);
}

void
parse_error_memory(struct parse_context *c)
{
	c->no_memory = true;
	policy_errors_add(c->errors, "", 0, 0, "out of memory");
}

const char *
parse_quote(const char *text, char *out, size_t cap)
{
	size_t len = 0, left = strlen(text);
	text_append(out, cap, &len, "\"");
	while (left > 0 && len < QUOTE_MAX) {
		size_t n = utf8_length(text, left);
		unsigned char byte = (unsigned char)*text;
		if (n == 0 || byte < 0x20 || byte == 0x7f)
			text_append(out, cap, &len, "\\x%02x", byte);
		else
			text_append(out, cap, &len, "%.*s", (int)n, text);
		n += n == 0;
		text += n;
		left -= n;
	}
	text_append(out, cap, &len, left > 0 ? "...\"" : "\"");
	return out;
}

static const char *
describe(const struct json_value *v, char *out, size_t cap)
{
	if (v->type == SCAN_STRING)
		return parse_quote(v->text, out, cap);
	if (v->type == SCAN_NUMBER)
		snprintf(out, cap, v->text_len > QUOTE_MAX ? "%.64s..." : "%s", v->text);
	else if (v->type == SCAN_BOOL)
		snprintf(out, cap, "%s", v->truth ? "true" : "false");
	else if (v->type == SCAN_ARRAY && v->n == 0)
		snprintf(out, cap, "an empty array");
	else
		snprintf(out, cap, "%s", json_type_text(v->type));
	return out;
}

void
parse_error_expected(struct parse_context *c, const struct json_value *found, const char *what)
{
	char text[FOUND_MAX];
	if (!found->faulty)
		parse_error(
		    c, found, "expected %s, found %s", what, describe(found, text, sizeof text));
}

void
parse_error_expected_secret(
    struct parse_context *c, const struct json_value *found, const char *what)
{
	bool empty = found->type == SCAN_STRING && found->text_len == 0;
	if (!found->faulty)
		parse_error(c, found, "expected %s, found %s", what,
		    empty                        ? "an empty string"
		    : found->type == SCAN_STRING ? "another string (not shown)"
		                                 : json_type_text(found->type));
}

const char *
parse_hint(struct parse_context *c, const char *name, const char *const *candidates, size_t n,
    char *out, size_t cap)
{
	const char *nearest = NULL;
	*out = '\0';
	if (n <= c->hints_left) {
		c->hints_left -= n;
		nearest = text_nearest(name, candidates, n);
	}
	if (nearest != NULL)
		snprintf(out, cap, ": did you mean \"%s\"?", nearest);
	return out;
}

/* ---- values ---- */

void *
parse_take(struct parse_context *c, size_t n, size_t size)
{
	void *taken = arena_take_array(c->arena, n, size);
	if (taken == NULL)
		parse_error_memory(c);
	return taken;
}

static const char *
copy_text(struct parse_context *c, const char *text, size_t len)
{
	const char *copy = arena_copy_text(c->arena, text, len);
	if (copy == NULL)
		parse_error_memory(c);
	return copy;
}

static bool
is_sound_string(const struct json_value *v)
{
	return v->type == SCAN_STRING && !v->faulty;
}

const char *
parse_string(struct parse_context *c, const struct json_value *v)
{
	if (is_sound_string(v) && v->text_len > 0)
		return copy_text(c, v->text, v->text_len);
	parse_error_expected(c, v, "a string that is not empty");
	return NULL;
}

/* PARSE_TEXT and PARSE_SECRET. */
static bool
read_text(struct parse_context *c, const struct json_value *v, const struct parse_field *f,
    const char **out)
{
	char expected[80];
	if (is_sound_string(v) && v->text_len >= f->min && v->text_len <= f->max)
		return (*out = copy_text(c, v->text, v->text_len)) != NULL;
	snprintf(expected, sizeof expected, "a string of %llu to %llu bytes",
	    (unsigned long long)f->min, (unsigned long long)f->max);
	if (f->kind == PARSE_SECRET)
		parse_error_expected_secret(c, v, expected);
	else
		parse_error_expected(c, v, expected);
	return false;
}

/* Fit to be a name: it will stand in log lines, paths of URLs and metrics. */
static bool
is_name(const struct json_value *v)
{
	if (!is_sound_string(v) || v->text_len == 0 || v->text_len > POLICY_NAME_MAX)
		return false;
	for (const char *p = v->text; *p != '\0'; p++)
		if ((unsigned char)*p <= 0x20 || *p == 0x7f)
			return false;
	return true;
}

static bool
read_name(struct parse_context *c, const struct json_value *v, const char **out)
{
	char expected[80];
	if (is_name(v))
		return (*out = copy_text(c, v->text, v->text_len)) != NULL;
	snprintf(
	    expected, sizeof expected, "a name of 1 to %d bytes without spaces", POLICY_NAME_MAX);
	parse_error_expected(c, v, expected);
	return false;
}

bool
parse_number(
    struct parse_context *c, const struct json_value *v, uint64_t min, uint64_t max, uint64_t *out)
{
	char expected[80];
	if (v->type == SCAN_NUMBER && v->integer && v->number >= 0 && (uint64_t)v->number >= min &&
	    (uint64_t)v->number <= max) {
		*out = (uint64_t)v->number;
		return true;
	}
	snprintf(expected, sizeof expected, "an integer from %llu to %llu", (unsigned long long)min,
	    (unsigned long long)max);
	parse_error_expected(c, v, expected);
	return false;
}

bool
parse_bool(struct parse_context *c, const struct json_value *v, bool *out)
{
	if (v->type == SCAN_BOOL) {
		*out = v->truth;
		return true;
	}
	parse_error_expected(c, v, "true or false");
	return false;
}

/* Writes a duration as people do: the largest unit that divides it. */
static const char *
duration_text(uint64_t ms, char *out, size_t cap)
{
	static const struct {
		const char *name;
		uint64_t ms;
	} units[] = { { "h", 3600000 }, { "m", 60000 }, { "s", 1000 } };
	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		if (ms == 0 || ms % units[i].ms == 0) {
			snprintf(out, cap, "\"%llu%s\"", (unsigned long long)(ms / units[i].ms),
			    ms == 0 ? "s" : units[i].name);
			return out;
		}
	snprintf(out, cap, "\"%llums\"", (unsigned long long)ms);
	return out;
}

static bool
read_duration(
    struct parse_context *c, const struct json_value *v, const struct parse_field *f, uint64_t *out)
{
	char expected[120], least[32], most[32];
	uint64_t ms;
	if (is_sound_string(v) && text_read_duration(v->text, v->text_len, &ms) && ms >= f->min &&
	    ms <= f->max) {
		*out = ms;
		return true;
	}
	snprintf(expected, sizeof expected,
	    "a duration from %s to %s, a string with one of the units ms, s, m, h",
	    duration_text(f->min, least, sizeof least), duration_text(f->max, most, sizeof most));
	parse_error_expected(c, v, expected);
	return false;
}

static bool
read_percent(
    struct parse_context *c, const struct json_value *v, const struct parse_field *f, uint32_t *out)
{
	char expected[80];
	uint64_t percent;
	if (is_sound_string(v) && v->text_len > 1 && v->text[v->text_len - 1] == '%' &&
	    text_read_number(v->text, v->text_len - 1, f->max, &percent) && percent >= f->min) {
		*out = (uint32_t)percent;
		return true;
	}
	snprintf(expected, sizeof expected, "a string from \"%llu%%\" to \"%llu%%\"",
	    (unsigned long long)f->min, (unsigned long long)f->max);
	parse_error_expected(c, v, expected);
	return false;
}

bool
parse_is_list(struct parse_context *c, const struct json_value *v, const char *of_what)
{
	char expected[120];
	if (v->type == SCAN_ARRAY && v->n > 0)
		return true;
	snprintf(expected, sizeof expected, "a list of %s that is not empty", of_what);
	parse_error_expected(c, v, expected);
	return false;
}

bool
parse_endpoint(struct parse_context *c, const struct json_value *v, struct endpoint *out)
{
	enum endpoint_error err = ENDPOINT_EMPTY;
	char expected[200];
	if (is_sound_string(v) &&
	    (err = endpoint_from_text(out, v->text, v->text_len)) == ENDPOINT_OK && out->port > 0)
		return true;
	if (!is_sound_string(v))
		parse_error_expected(c, v, "a string of the form \"host:port\"");
	else {
		snprintf(expected, sizeof expected,
		    "\"host:port\" with a port from 1 to 65535 (%s)",
		    err == ENDPOINT_OK ? "the port is 0" : endpoint_error_text(err));
		parse_error_expected(c, v, expected);
	}
	return false;
}

bool
parse_address(struct parse_context *c, const struct json_value *v, struct endpoint *out)
{
	memset(out, 0, sizeof *out);
	if (is_sound_string(v) && endpoint_set_host(out, v->text, v->text_len) == ENDPOINT_OK &&
	    endpoint_is_address(out))
		return true;
	parse_error_expected(c, v, "an IPv4 or IPv6 address");
	return false;
}

/* ---- words ---- */

static bool
report_unknown_word(
    struct parse_context *c, const struct json_value *v, const struct parse_word *words)
{
	char expected[EXPECTED_MAX] = "one of", hint[FOUND_MAX], found[FOUND_MAX];
	const char *candidates[32];
	size_t n = 0, len = strlen(expected);
	for (; words[n].text != NULL && n < ARRAY_LEN(candidates); n++) {
		candidates[n] = words[n].text;
		if (!words[n].later)
			text_append(expected, sizeof expected, &len, "%s \"%s\"", n > 0 ? "," : "",
			    words[n].text);
	}
	if (!is_sound_string(v)) {
		parse_error_expected(c, v, expected);
		return false;
	}
	parse_error(c, v, "expected %s, found %s%s", expected,
	    parse_quote(v->text, found, sizeof found),
	    parse_hint(c, v->text, candidates, n, hint, sizeof hint));
	return false;
}

bool
parse_word(struct parse_context *c, const struct json_value *v, const struct parse_word *words,
    unsigned *out)
{
	const struct parse_word *w = words;
	if (is_sound_string(v))
		while (w->text != NULL && strcmp(w->text, v->text) != 0)
			w++;
	if (!is_sound_string(v) || w->text == NULL)
		return report_unknown_word(c, v, words);
	if (w->later) {
		parse_error(c, v, "\"%s\" is known but not available in this version", w->text);
		return false;
	}
	*out = w->value;
	return true;
}

bool
parse_words(struct parse_context *c, const struct json_value *v, const struct parse_word *words,
    unsigned *out)
{
	bool ok = parse_is_list(c, v, "words");
	unsigned all = 0;
	if (!ok)
		return false;
	for (const struct json_value *e = v->first; e != NULL; e = e->next) {
		unsigned bit = 0;
		if (!parse_word(c, e, words, &bit)) {
			ok = false;
			continue;
		}
		if ((all & bit) != 0) {
			parse_error(c, e, "found \"%s\" twice, expected each word once", e->text);
			ok = false;
		}
		all |= bit;
	}
	*out = all;
	return ok;
}

/* ---- lists and objects ---- */

bool
parse_list(struct parse_context *c, const struct json_value *v, const char *of_what, size_t size,
    parse_field_fn *read, void **list, size_t *n)
{
	char expected[120];
	bool ok = true;
	if (v->type != SCAN_ARRAY) {
		snprintf(expected, sizeof expected, "a list of %s", of_what);
		parse_error_expected(c, v, expected);
		return false;
	}
	if ((*list = parse_take(c, v->n, size)) == NULL)
		return false;
	*n = v->n;
	for (const struct json_value *e = v->first; e != NULL; e = e->next)
		ok = read(c, e, (char *)*list + e->index * size) && ok;
	return ok;
}

static bool
read_word_kind(
    struct parse_context *c, const struct json_value *v, const struct parse_field *f, void *at)
{
	unsigned value;
	if (!(f->kind == PARSE_WORD ? parse_word : parse_words)(c, v, f->words, &value))
		return false;
	memcpy(at, &value, sizeof value);
	return true;
}

bool
parse_member(
    struct parse_context *c, const struct json_value *v, const struct parse_field *f, void *object)
{
	void *at = (char *)object + f->offset;
	uint64_t number;
	switch (f->kind) {
	case PARSE_COMMENT:
		if (v->type != SCAN_STRING)
			parse_error_expected(c, v, "a string");
		return v->type == SCAN_STRING;
	case PARSE_BOOL:
		return parse_bool(c, v, at);
	case PARSE_U32:
		if (!parse_number(c, v, f->min, f->max, &number))
			return false;
		*(uint32_t *)at = (uint32_t)number;
		return true;
	case PARSE_TEXT:
	case PARSE_SECRET:
		return read_text(c, v, f, at);
	case PARSE_NAME:
		return read_name(c, v, at);
	case PARSE_PATH:
		return (*(const char **)at = parse_path(c, v)) != NULL;
	case PARSE_DURATION:
		return read_duration(c, v, f, at);
	case PARSE_PERCENT:
		return read_percent(c, v, f, at);
	case PARSE_WORD:
	case PARSE_WORDS:
		return read_word_kind(c, v, f, at);
	case PARSE_CUSTOM:
		return f->read(c, v, object);
	case PARSE_LATER:
		break;
	}
	parse_error_at_key(
	    c, v, "the key \"%s\" is known but not available in this version", f->key);
	return false;
}

static const struct parse_field *
find_field(const struct parse_field *fields, size_t n_fields, const char *key)
{
	for (size_t i = 0; i < n_fields; i++)
		if (strcmp(fields[i].key, key) == 0)
			return &fields[i];
	return strcmp(key, comment_field.key) == 0 ? &comment_field : NULL;
}

static void
report_unknown_key(struct parse_context *c, const struct json_value *member,
    const struct parse_field *fields, size_t n_fields)
{
	char expected[EXPECTED_MAX], hint[FOUND_MAX], found[FOUND_MAX];
	const char *candidates[64];
	size_t n = 0, len = 0;
	expected[0] = '\0';
	for (size_t i = 0; i < n_fields && n < ARRAY_LEN(candidates) - 1; i++) {
		candidates[n++] = fields[i].key;
		if (fields[i].kind != PARSE_LATER)
			text_append(expected, sizeof expected, &len, "\"%s\", ", fields[i].key);
	}
	candidates[n++] = comment_field.key;
	parse_hint(c, member->key, candidates, n, hint, sizeof hint);
	parse_quote(member->key, found, sizeof found);
	if (*hint != '\0')
		parse_error_at_key(c, member, "unknown key %s%s", found, hint);
	else
		parse_error_at_key(
		    c, member, "unknown key %s, expected one of %s\"comment\"", found, expected);
}

bool
parse_object(struct parse_context *c, const struct json_value *v, const struct parse_field *fields,
    size_t n_fields, void *object)
{
	bool ok = true;
	if (v->type != SCAN_OBJECT) {
		parse_error_expected(c, v, "an object");
		return false;
	}
	for (size_t i = 0; i < n_fields; i++) {
		const struct json_value *member = json_member(v, fields[i].key);
		if (member != NULL) {
			ok = parse_member(c, member, &fields[i], object) && ok;
		} else if ((fields[i].flags & PARSE_REQUIRED) != 0) {
			parse_error(c, v, "the key \"%s\" is missing", fields[i].key);
			ok = false;
		}
	}
	for (const struct json_value *member = v->first; member != NULL; member = member->next) {
		const struct parse_field *known = find_field(fields, n_fields, member->key);
		if (known == NULL)
			report_unknown_key(c, member, fields, n_fields);
		else if (known == &comment_field)
			ok = parse_member(c, member, known, object) && ok;
		ok = ok && known != NULL;
	}
	return ok;
}
