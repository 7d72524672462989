/*
 * json_scan: see json_scan.h. A recursive descent that is bounded by POLICY_DEPTH_MAX; each
 * function takes what it is named after, or reports and says false, which ends the scan.
 */
#include "policy/json_scan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/errors.h"
#include "policy/utf8.h"

struct scan {
	const char *text, *at, *end;
	const char *mark; /* columns are counted from here, where mark_column is known */
	uint32_t line, mark_column;
	uint32_t values;
	struct arena *arena;
	struct policy_errors *errors;
};

struct place {
	uint32_t line, column;
};

enum { BYTE_ORDER_MARK = 0xfeff };

static bool scan_value(struct scan *s, struct json_value *v, unsigned depth);

/* ---- places and errors ---- */

/* Where s->at is. Each byte is looked at once over the whole scan. */
static struct place
scan_place(struct scan *s)
{
	for (; s->mark < s->at; s->mark++)
		s->mark_column += ((unsigned char)*s->mark & 0xc0) != 0x80;
	return (struct place){ s->line, s->mark_column };
}

/* What stands at s->at, for a message: at most one character, since it may be part of a secret. */
static const char *
scan_found(const struct scan *s, char *out, size_t cap)
{
	size_t len = utf8_length(s->at, (size_t)(s->end - s->at));
	if (s->at == s->end)
		snprintf(out, cap, "the end of the text");
	else if (len == 0 || (unsigned char)*s->at < 0x20 || *s->at == 0x7f)
		snprintf(out, cap, "the byte 0x%02x", (unsigned char)*s->at);
	else if (len > 1)                          /* some of them look like a blank, or like nothing */
		snprintf(out, cap, "'%.*s' (U+%04X%s)", (int)len, s->at, (unsigned)utf8_read(s->at, len),
		    utf8_read(s->at, len) == BYTE_ORDER_MARK ? ", a byte order mark" : "");
	else
		snprintf(out, cap, "'%.*s'", (int)len, s->at);
	return out;
}

/* Ends the scan: one error at the empty pointer, at s->at. */
static bool PRINTF_LIKE(2, 3) scan_fail(struct scan *s, const char *fmt, ...)
{
	struct place at = scan_place(s);
	va_list args;
	va_start(args, fmt);
	policy_errors_add_va(s->errors, "", at.line, at.column, fmt, args);
	va_end(args);
	return false;
}

static bool
scan_fail_expected(struct scan *s, const char *expected)
{
	char found[64];
	return scan_fail(
	    s, "syntax error: expected %s, found %s", expected, scan_found(s, found, sizeof found));
}

/* Reports something about v, or about its member `key`, and lets the scan go on. */
static void PRINTF_LIKE(5, 6) scan_report(struct scan *s, const struct json_value *v,
    const char *key, struct place at, const char *fmt, ...)
{
	char *pointer = json_pointer(v, key);
	va_list args;
	va_start(args, fmt);
	policy_errors_add_va(
	    s->errors, pointer != NULL ? pointer : "", at.line, at.column, fmt, args);
	va_end(args);
	free(pointer);
}

/* ---- the grammar's small parts ---- */

static void
skip_space(struct scan *s)
{
	for (; s->at < s->end; s->at++) {
		if (*s->at == '\n') {
			s->line++;
			s->mark = s->at + 1;
			s->mark_column = 1;
		} else if (*s->at != ' ' && *s->at != '\t' && *s->at != '\r') {
			return;
		}
	}
}

static bool
at_byte(const struct scan *s, char byte)
{
	return s->at < s->end && *s->at == byte;
}

static bool
take_byte(struct scan *s, char byte)
{
	if (!at_byte(s, byte))
		return false;
	s->at++;
	return true;
}

static bool
take_digits(struct scan *s)
{
	const char *start = s->at;
	while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
		s->at++;
	return s->at > start || scan_fail_expected(s, "a digit");
}

static bool
scan_literal(struct scan *s, struct json_value *v)
{
	static const struct {
		const char *word;
		enum scan_type type;
		bool truth;
	} literals[] = { { "true", SCAN_BOOL, true }, { "false", SCAN_BOOL, false },
		{ "null", SCAN_NULL, false } };
	for (size_t i = 0; i < ARRAY_LEN(literals); i++) {
		size_t len = strlen(literals[i].word);
		if ((size_t)(s->end - s->at) < len || memcmp(s->at, literals[i].word, len) != 0)
			continue;
		s->at += len;
		v->type = (uint8_t)literals[i].type;
		v->truth = literals[i].truth;
		return true;
	}
	return scan_fail_expected(s, "a value");
}

/* ---- numbers ---- */

/* The integer's value; false: 64 bits don't hold it. text: as the grammar has it. */
static bool
read_integer(const char *text, int64_t *out)
{
	bool negative = *text == '-';
	uint64_t most = negative ? (uint64_t)INT64_MAX + 1 : INT64_MAX, value = 0;
	for (text += negative; *text != '\0'; text++) {
		uint64_t digit = (uint64_t)(*text - '0');
		if (value > (most - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*out = negative ? (int64_t)(0 - value) : (int64_t)value;
	return true;
}

static bool
take_number(struct scan *s, bool *integer)
{
	*integer = true;
	take_byte(s, '-');
	if (!take_byte(s, '0') && !take_digits(s))
		return false;
	if (take_byte(s, '.')) {
		*integer = false;
		if (!take_digits(s))
			return false;
	}
	if (take_byte(s, 'e') || take_byte(s, 'E')) {
		*integer = false;
		if (!take_byte(s, '-'))
			take_byte(s, '+');
		if (!take_digits(s))
			return false;
	}
	return true;
}

static bool
scan_number(struct scan *s, struct json_value *v)
{
	const char *start = s->at;
	if (!take_number(s, &v->integer))
		return false;
	v->type = SCAN_NUMBER;
	v->text_len = (uint32_t)(s->at - start);
	if ((v->text = arena_copy_text(s->arena, start, v->text_len)) == NULL)
		return scan_fail(s, "out of memory");
	if (v->integer && !read_integer(v->text, &v->number)) {
		v->integer = false;
		v->faulty = true;
		scan_report(s, v, NULL, (struct place){ v->line, v->column },
		    "found an integer that 64 bits can't hold, expected one from %lld to %lld",
		    (long long)INT64_MIN, (long long)INT64_MAX);
	}
	return true;
}

/* ---- strings ---- */

/* Takes the four digits of \uXXXX. */
static bool
take_hex4(struct scan *s, uint32_t *value)
{
	*value = 0;
	for (int i = 0; i < 4; i++) {
		char c = s->at < s->end ? *s->at : '\0';
		unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
		                 : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
		                 : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
		                                        : 16;
		if (digit == 16)
			return scan_fail_expected(s, "a hexadecimal digit");
		*value = *value << 4 | digit;
		s->at++;
	}
	return true;
}

/* Takes what follows \u. *spoiled: why the character can't be kept; untouched if it can. */
static bool
take_unicode(struct scan *s, uint32_t *point, const char **spoiled)
{
	uint32_t low;
	if (!take_hex4(s, point))
		return false;
	if (*point == 0) {
		*spoiled = "found \\u0000, expected text without NUL characters";
	} else if (*point >= 0xd800 && *point < 0xdc00 && s->end - s->at >= 2 && s->at[0] == '\\' &&
	           s->at[1] == 'u') {
		s->at += 2;
		if (!take_hex4(s, &low))
			return false;
		if (low >= 0xdc00 && low < 0xe000)
			*point = 0x10000 + ((*point - 0xd800) << 10) + (low - 0xdc00);
		else
			*spoiled = "found half a surrogate pair, expected both halves as "
			           "\\uXXXX\\uXXXX";
	} else if (*point >= 0xd800 && *point < 0xe000) {
		*spoiled = "found half a surrogate pair, expected both halves as \\uXXXX\\uXXXX";
	}
	if (*spoiled != NULL)
		*point = 0xfffd;
	return true;
}

/* Takes an escape, s->at behind its backslash, and writes its character: at most as long as the
 * escape. */
static bool
take_escape(struct scan *s, char **out, const char **spoiled)
{
	static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
	const char *known = s->at < s->end && *s->at != '\0' ? strchr(escapes, *s->at) : NULL;
	uint32_t point;
	if (known != NULL) {
		s->at++;
		*(*out)++ = meanings[known - escapes];
		return true;
	}
	if (!take_byte(s, 'u'))
		return scan_fail_expected(s, "one of \" \\ / b f n r t u behind the backslash");
	if (!take_unicode(s, &point, spoiled))
		return false;
	*out += utf8_write(point, *out);
	return true;
}

/* How many bytes the string takes up to its closing quote or the end of the text, as written. */
static size_t
string_extent(const struct scan *s)
{
	const char *p = s->at;
	while (p < s->end && *p != '"')
		p += *p == '\\' && s->end - p > 1 ? 2 : 1;
	return (size_t)(p - s->at);
}

/* Takes a string with both quotes. *spoiled: an escape in it that can't be kept; NULL: none. */
static bool
take_string(struct scan *s, const char **text, uint32_t *len, const char **spoiled)
{
	*spoiled = NULL;
	s->at++;
	char *out = arena_take(s->arena, string_extent(s) + 1);
	if (out == NULL)
		return scan_fail(s, "out of memory");
	*text = out;
	while (!at_byte(s, '"')) {
		size_t n = utf8_length(s->at, (size_t)(s->end - s->at));
		if (s->at == s->end)
			return scan_fail_expected(s, "the '\"' that ends the string");
		if (n == 0)
			return scan_fail_expected(s, "UTF-8");
		if ((unsigned char)*s->at < 0x20)
			return scan_fail_expected(s, "control characters in a string to be "
			                             "escaped");
		if (take_byte(s, '\\')) {
			if (!take_escape(s, &out, spoiled))
				return false;
			continue;
		}
		memcpy(out, s->at, n);
		out += n;
		s->at += n;
	}
	s->at++;
	*len = (uint32_t)(out - *text);
	return true;
}

static bool
scan_string(struct scan *s, struct json_value *v)
{
	const char *spoiled;
	v->type = SCAN_STRING;
	if (!take_string(s, &v->text, &v->text_len, &spoiled))
		return false;
	if (spoiled != NULL) {
		v->faulty = true;
		scan_report(s, v, NULL, (struct place){ v->line, v->column }, "%s", spoiled);
	}
	return true;
}

/* ---- arrays and objects ---- */

static struct json_value *
value_new(struct scan *s, const struct json_value *parent, uint32_t index)
{
	if (++s->values > JSON_VALUES_MAX) {
		scan_fail(s,
		    "the document has more than %d values, which is the most that is taken",
		    JSON_VALUES_MAX);
		return NULL;
	}
	struct json_value *v = arena_take(s->arena, sizeof *v);
	if (v == NULL) {
		scan_fail(s, "out of memory");
		return NULL;
	}
	v->parent = parent;
	v->index = index;
	return v;
}

static bool
scan_array(struct scan *s, struct json_value *array, unsigned depth)
{
	struct json_value **tail = &array->first;
	array->type = SCAN_ARRAY;
	s->at++;
	skip_space(s);
	if (take_byte(s, ']'))
		return true;
	for (;;) {
		struct json_value *v = value_new(s, array, array->n);
		if (v == NULL || !scan_value(s, v, depth + 1))
			return false;
		*tail = v;
		tail = &v->next;
		array->n++;
		skip_space(s);
		if (take_byte(s, ']'))
			return true;
		if (!take_byte(s, ','))
			return scan_fail_expected(s, "',' or ']'");
		skip_space(s);
		if (at_byte(s, ']'))
			return scan_fail_expected(s, "a value behind the comma");
	}
}

/* Takes `"key" :` into v. *spoiled as in take_string; reported here. */
static bool
scan_key(struct scan *s, struct json_value *v, const char **spoiled)
{
	uint32_t len;
	struct place at = scan_place(s);
	v->key_line = at.line;
	v->key_column = at.column;
	if (!at_byte(s, '"'))
		return scan_fail_expected(s, "a key, in double quotes");
	if (string_extent(&(struct scan){ .at = s->at + 1, .end = s->end }) > JSON_KEY_MAX)
		return scan_fail(s,
		    "the key is longer than %d bytes, which is the most that is taken",
		    JSON_KEY_MAX);
	if (!take_string(s, &v->key, &len, spoiled))
		return false;
	if (*spoiled != NULL)
		scan_report(s, v->parent, NULL, at, "in a key: %s", *spoiled);
	skip_space(s);
	return take_byte(s, ':') || scan_fail_expected(s, "':' behind the key");
}

static int
by_key_and_place(const void *a, const void *b)
{
	const struct json_value *x = *(struct json_value *const *)a,
	                        *y = *(struct json_value *const *)b;
	int order = strcmp(x->key, y->key);
	return order != 0 ? order : x->index < y->index ? -1 : x->index > y->index;
}

/* Takes the members out of the object's list whose key has come before, and reports each. */
static void
drop_repeated(struct scan *s, struct json_value *object, struct json_value **sorted)
{
	const struct json_value *original = sorted[0];
	for (size_t i = 1; i < object->n; i++) {
		struct json_value *v = sorted[i];
		if (strcmp(original->key, v->key) != 0) {
			original = v;
			continue;
		}
		scan_report(s, object, v->key, (struct place){ v->key_line, v->key_column },
		    "the key is repeated, expected once: it is there at line %u, column %u",
		    original->key_line, original->key_column);
		v->key = NULL;
	}
	object->n = 0;
	for (struct json_value **link = &object->first; *link != NULL;) {
		if ((*link)->key == NULL) {
			*link = (*link)->next;
			continue;
		}
		object->n++;
		link = &(*link)->next;
	}
}

/* By sorting, so that an object of a million keys costs no more than it should. */
static bool
check_repeated(struct scan *s, struct json_value *object)
{
	if (object->n < 2)
		return true;
	struct json_value **sorted = malloc(object->n * sizeof *sorted);
	size_t n = 0;
	if (sorted == NULL)
		return scan_fail(s, "out of memory");
	for (struct json_value *v = object->first; v != NULL; v = v->next)
		sorted[n++] = v;
	qsort(sorted, n, sizeof *sorted, by_key_and_place);
	bool repeated = false;
	for (size_t i = 1; i < n; i++)
		repeated |= strcmp(sorted[i - 1]->key, sorted[i]->key) == 0;
	if (repeated)
		drop_repeated(s, object, sorted);
	free(sorted);
	return true;
}

/* One `"key": value`, put behind *tail unless its key is spoiled. */
static bool
scan_member(struct scan *s, struct json_value *object, struct json_value ***tail, uint32_t index,
    unsigned depth)
{
	const char *spoiled = NULL;
	struct json_value *v = value_new(s, object, index);
	if (v == NULL || !scan_key(s, v, &spoiled))
		return false;
	skip_space(s);
	if (!scan_value(s, v, depth + 1))
		return false;
	if (spoiled != NULL)
		return true;
	**tail = v;
	*tail = &v->next;
	object->n++;
	return true;
}

static bool
scan_object(struct scan *s, struct json_value *object, unsigned depth)
{
	struct json_value **tail = &object->first;
	object->type = SCAN_OBJECT;
	s->at++;
	skip_space(s);
	if (take_byte(s, '}'))
		return true;
	for (uint32_t index = 0;; index++) {
		if (!scan_member(s, object, &tail, index, depth))
			return false;
		skip_space(s);
		if (take_byte(s, '}'))
			return check_repeated(s, object);
		if (!take_byte(s, ','))
			return scan_fail_expected(s, "',' or '}'");
		skip_space(s);
	}
}

static bool
scan_value(struct scan *s, struct json_value *v, unsigned depth)
{
	struct place at = scan_place(s);
	char first = s->at < s->end ? *s->at : '\0';
	bool nested = first == '{' || first == '[', taken;
	v->line = at.line;
	v->column = at.column;
	v->start = (uint32_t)(s->at - s->text);
	if (nested && depth > POLICY_DEPTH_MAX)
		return scan_fail(s,
		    "arrays and objects are nested deeper than %d levels, which is the most that "
		    "is taken",
		    POLICY_DEPTH_MAX);
	if (nested)
		taken = first == '{' ? scan_object(s, v, depth) : scan_array(s, v, depth);
	else if (first == '"')
		taken = scan_string(s, v);
	else if (first == '-' || (first >= '0' && first <= '9'))
		taken = scan_number(s, v);
	else
		taken = scan_literal(s, v);
	v->end = (uint32_t)(s->at - s->text);
	return taken;
}

struct json_value *
json_scan(const char *text, size_t len, struct arena *arena, struct policy_errors *errors)
{
	struct scan s = {
		.text = text,
		.at = text,
		.end = text + len,
		.mark = text,
		.line = 1,
		.mark_column = 1,
		.arena = arena,
		.errors = errors,
	};
	if (len > POLICY_BYTES_MAX) {
		scan_fail(&s, DOCUMENT_TOO_LARGE, POLICY_BYTES_MAX);
		return NULL;
	}
	skip_space(&s);
	struct json_value *root = value_new(&s, NULL, 0);
	if (root == NULL || !scan_value(&s, root, 1))
		return NULL;
	skip_space(&s);
	if (s.at < s.end) {
		scan_fail_expected(&s, "the end of the text behind the document");
		return NULL;
	}
	return root;
}

/* ---- the tree ---- */

struct json_value *
json_member(const struct json_value *object, const char *key)
{
	if (object->type != SCAN_OBJECT)
		return NULL;
	struct json_value *v = object->first;
	while (v != NULL && strcmp(v->key, key) != 0)
		v = v->next;
	return v;
}

static void
write_token(FILE *out, const char *key)
{
	fputc('/', out);
	for (; *key != '\0'; key++) {
		if (*key == '~' || *key == '/')
			fputs(*key == '~' ? "~0" : "~1", out);
		else
			fputc(*key, out);
	}
}

static void
write_pointer(FILE *out, const struct json_value *v)
{
	if (v->parent == NULL)
		return;
	write_pointer(out, v->parent);
	if (v->key != NULL)
		write_token(out, v->key);
	else
		fprintf(out, "/%u", v->index);
}

char *
json_pointer(const struct json_value *v, const char *key)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	if (out == NULL)
		return NULL;
	write_pointer(out, v);
	if (key != NULL)
		write_token(out, key);
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

const char *
json_type_text(enum scan_type type)
{
	static const char *const texts[] = {
		[SCAN_NULL] = "null",
		[SCAN_BOOL] = "a boolean",
		[SCAN_NUMBER] = "a number",
		[SCAN_STRING] = "a string",
		[SCAN_ARRAY] = "an array",
		[SCAN_OBJECT] = "an object",
	};
	return texts[type];
}
