/*
 * parse_health: how a pool's members are checked: which check, what it asks for, how often, and what
 * is right.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/sections.h"

#include "base/base.h"

enum { ROUNDS_MAX = 1000, HTTP_TEXT_MAX = 1024, STATUS_MIN = 100, STATUS_MAX = 599, HTTP_PORT = 80 };

#define HOURS (60u * 60 * 1000)

static const char http_scheme[] = "http://";


static const struct parse_word check_words[] = {
	{ .text = "none", .value = HEALTH_NONE },
	{ .text = "connect", .value = HEALTH_CONNECT },
	{ .text = "handshake", .value = HEALTH_HANDSHAKE },
	{ .text = "tunnel", .value = HEALTH_TUNNEL },
	{ .text = "http", .value = HEALTH_HTTP },
	{ .text = NULL },
};

/* ---- what an HTTP answer must be ---- */

/* Three digits. */
static bool
read_status(const char *text, uint16_t *out)
{
	if (strspn(text, "0123456789") < 3)
		return false;
	*out = (uint16_t)((text[0] - '0') * 100 + (text[1] - '0') * 10 + (text[2] - '0'));
	return *out >= STATUS_MIN && *out <= STATUS_MAX;
}

static bool
read_statuses(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_status_range *r = object;
	if (v->type == SCAN_NUMBER && v->integer && v->number >= STATUS_MIN &&
	    v->number <= STATUS_MAX) {
		r->from = r->to = (uint16_t)v->number;
		return true;
	}
	if (v->type == SCAN_STRING && v->text_len == 7 && v->text[3] == '-' &&
	    read_status(v->text, &r->from) && read_status(v->text + 4, &r->to) && r->from <= r->to)
		return true;
	parse_error_expected(c, v, "a status from 100 to 599 or a range \"200-299\" of them");
	return false;
}

/* One, or a list of them. */
static bool
read_expected_status(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_health *h = object;
	void *list = NULL;
	bool ok;
	if (v->type == SCAN_ARRAY) {
		ok = parse_is_list(c, v, "statuses") &&
		     parse_list(c, v, "statuses", sizeof *h->statuses, read_statuses, &list,
				&h->n_statuses);
		h->statuses = list;
		return ok;
	}
	h->statuses = parse_take(c, 1, sizeof *h->statuses);
	h->n_statuses = 1;
	return h->statuses != NULL && read_statuses(c, v, h->statuses);
}

#define AT(member) .offset = offsetof(struct policy_health, member)
static const struct parse_field expect_fields[] = {
	{ .key = "status", .kind = PARSE_CUSTOM, .read = read_expected_status },
	{ .key = "body", .kind = PARSE_TEXT, AT(body), .min = 1, .max = HTTP_TEXT_MAX },
};

/* A status, a list of them, or an object that says more. */
static bool
read_expect(struct parse_context *c, const struct json_value *v, void *object)
{
	if (v->type == SCAN_OBJECT)
		return parse_object(c, v, expect_fields, ARRAY_LEN(expect_fields), object);
	if (v->type == SCAN_NUMBER || v->type == SCAN_STRING || v->type == SCAN_ARRAY)
		return read_expected_status(c, v, object);
	parse_error_expected(c, v,
			     "a status, a list of statuses, or an object with \"status\" and \"body\"");
	return false;
}

/* ---- targets ---- */

/* What stands in a request's line or in a header: no blank, no control byte. */
static bool
is_one_word(const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++)
		if (*p <= ' ' || *p >= 0x7f)
			return false;
	return true;
}

static bool
read_word(struct parse_context *c, const struct json_value *v, const char **out)
{
	const char *text = parse_string(c, v);
	if (text == NULL)
		return false;
	if (strlen(text) > HTTP_TEXT_MAX || !is_one_word(text)) {
		parse_error_expected(c, v, "1 to 1024 bytes of ASCII without blanks");
		return false;
	}
	*out = arena_copy_text(c->arena, text, strlen(text));
	if (*out == NULL)
		parse_error_memory(c);
	return *out != NULL;
}

static bool
read_method(struct parse_context *c, const struct json_value *v, void *object)
{
	return read_word(c, v, &((struct policy_health *)object)->method);
}

static bool
read_path(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_health *h = object;
	if (!read_word(c, v, &h->path))
		return false;
	if (h->path[0] != '/')
		parse_error_expected(c, v, "a path that begins with \"/\"");
	return h->path[0] == '/';
}

static bool
read_host(struct parse_context *c, const struct json_value *v, void *object)
{
	return read_word(c, v, &((struct policy_health *)object)->host);
}

/* Looked at when the check is known. */
static bool
read_target(struct parse_context *c, const struct json_value *v, void *object)
{
	(void)object;
	return parse_string(c, v) != NULL;
}

static bool
read_reference(struct parse_context *c, const struct json_value *v, void *object)
{
	return parse_endpoint(c, v, &((struct policy_health *)object)->reference);
}

/* "host[:port]" of a URL, and where it stands as the Host header wants it. */
static bool
read_authority(struct parse_context *c, const char *text, size_t len, struct policy_health *h)
{
	char at[ENDPOINT_TEXT_MAX + 8];
	if (len == 0 || len >= ENDPOINT_TEXT_MAX)
		return false;
	snprintf(at, sizeof at, "%.*s", (int)len, text);
	const char *colon = strrchr(at, ':');
	if (colon == NULL || strchr(colon, ']') != NULL)
		snprintf(at + len, sizeof at - len, ":%u", HTTP_PORT);
	if (endpoint_from_text(&h->target, at, strlen(at)) != ENDPOINT_OK || h->target.port == 0)
		return false;
	if (h->host == NULL)
		h->host = arena_copy_text(c->arena, text, len);
	return h->host != NULL;
}

/* http://HOST[:PORT][/PATH] */
static bool
take_url(struct parse_context *c, const struct json_value *v, struct policy_health *h)
{
	size_t scheme = strlen(http_scheme);
	bool ok = strncmp(v->text, http_scheme, scheme) == 0 && is_one_word(v->text) &&
		  v->text_len <= HTTP_TEXT_MAX && strpbrk(v->text, "@#") == NULL;
	const char *authority = v->text + scheme;
	size_t len = ok ? strcspn(authority, "/?") : 0;
	if (!ok || authority[len] == '?' || !read_authority(c, authority, len, h)) {
		parse_error_expected(c, v, "a URL \"http://host[:port][/path]\"");
		return false;
	}
	if (authority[len] == '\0')
		return true;
	if (json_member(v->parent, "path") != NULL) {
		parse_error(c, v, "found a path in the URL and in \"path\", expected one of them");
		return false;
	}
	h->path = arena_copy_text(c->arena, authority + len, strlen(authority + len));
	if (h->path == NULL)
		parse_error_memory(c);
	return h->path != NULL;
}

/* ---- the object ---- */

static const struct parse_word start_words[] = {
	{ .text = "up", .value = false },
	{ .text = "down", .value = true },
	{ .text = NULL },
};

static bool
read_start(struct parse_context *c, const struct json_value *v, void *object)
{
	unsigned down;
	if (!parse_word(c, v, start_words, &down))
		return false;
	((struct policy_health *)object)->start_down = down;
	return true;
}

static const struct parse_field health_fields[] = {
	{ .key = "check",
	    .kind = PARSE_WORD,
	    .flags = PARSE_REQUIRED,
	    AT(check),
	    .words = check_words },
	{ .key = "target", .kind = PARSE_CUSTOM, .read = read_target },
	{ .key = "method", .kind = PARSE_CUSTOM, .read = read_method },
	{ .key = "path", .kind = PARSE_CUSTOM, .read = read_path },
	{ .key = "host", .kind = PARSE_CUSTOM, .read = read_host },
	{ .key = "expect", .kind = PARSE_CUSTOM, .read = read_expect },
	{ .key = "interval",
	    .kind = PARSE_DURATION,
	    AT(interval_ms),
	    .min = 100,
	    .max = 24 * HOURS },
	{ .key = "fast_interval",
	    .kind = PARSE_DURATION,
	    AT(fast_interval_ms),
	    .min = 100,
	    .max = 24 * HOURS },
	{ .key = "timeout", .kind = PARSE_DURATION, AT(timeout_ms), .min = 1, .max = HOURS },
	{ .key = "rise", .kind = PARSE_U32, AT(rise), .min = 1, .max = ROUNDS_MAX },
	{ .key = "fall", .kind = PARSE_U32, AT(fall), .min = 1, .max = ROUNDS_MAX },
	{ .key = "jitter", .kind = PARSE_PERCENT, AT(jitter_percent), .max = 100 },
	{ .key = "start", .kind = PARSE_CUSTOM, .read = read_start },
	{ .key = "reference", .kind = PARSE_CUSTOM, .read = read_reference },
};
#undef AT

/* Keys that only some checks have a use for. */
static bool
check_keys(struct parse_context *c, const struct json_value *v, enum health_check check)
{
	static const char *const of_http[] = { "method", "path", "host", "expect" };
	const struct json_value *target = json_member(v, "target");
	const char *name = check == HEALTH_HTTP ? "http" : "tunnel";
	bool wants = check == HEALTH_TUNNEL || check == HEALTH_HTTP, ok = true;
	if (wants && target == NULL) {
		parse_error(c, v, "the key \"target\" is missing: the check \"%s\" needs one", name);
		ok = false;
	} else if (!wants && target != NULL) {
		parse_error_at_key(c, target, "found \"target\", expected it for the checks "
					      "\"tunnel\" and \"http\" only");
		ok = false;
	}
	for (size_t i = 0; check != HEALTH_HTTP && i < ARRAY_LEN(of_http); i++) {
		const struct json_value *key = json_member(v, of_http[i]);
		if (key == NULL)
			continue;
		parse_error_at_key(c, key, "found \"%s\", expected it for the check \"http\" only",
				   of_http[i]);
		ok = false;
	}
	return ok;
}

static bool
fill_http(struct parse_context *c, const struct json_value *v, struct policy_health *h)
{
	static const struct policy_status_range good = { 200, 399 };
	if (!take_url(c, json_member(v, "target"), h))
		return false;
	if (h->method == NULL)
		h->method = "GET";
	if (h->path == NULL)
		h->path = "/";
	if (h->n_statuses > 0)
		return true;
	if ((h->statuses = parse_take(c, 1, sizeof *h->statuses)) == NULL)
		return false;
	h->statuses[0] = good;
	h->n_statuses = 1;
	return true;
}

void
parse_health_defaults(struct policy_health *h)
{
	*h = (struct policy_health){
		.check = HEALTH_NONE,
		.interval_ms = 10000,
		.fast_interval_ms = 10000,
		.timeout_ms = 3000,
		.rise = 2,
		.fall = 3,
		.jitter_percent = 10,
	};
}

bool
parse_health(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_health *h = object;
	bool ok = parse_object(c, v, health_fields, ARRAY_LEN(health_fields), h);
	if (v->type != SCAN_OBJECT || !ok || !check_keys(c, v, h->check))
		return false;
	if (json_member(v, "fast_interval") == NULL)
		h->fast_interval_ms = h->interval_ms;
	if (h->fast_interval_ms > h->interval_ms) {
		parse_error(c, json_member(v, "fast_interval"),
			    "found a longer time than \"interval\", expected at most that");
		return false;
	}
	if (h->check == HEALTH_TUNNEL)
		return parse_endpoint(c, json_member(v, "target"), &h->target);
	return h->check != HEALTH_HTTP || fill_http(c, v, h);
}
