/*
 * secrets: see secrets.h. One table says where secrets stand; masking and merging both walk it.
 */
#include "policy/secrets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/errors.h"
#include "policy/json_write.h"
#include "policy/upstream_url.h"

enum secret_kind { SECRET_NONE, SECRET_WHOLE, SECRET_IN_URL };

/* '*' is any element of an array; the last step is the secret's key. */
static const struct secret_place {
	const char *steps[5];
	enum secret_kind kind;
} places[] = {
	{ { "admin", "token" }, SECRET_WHOLE },
	{ { "upstreams", "*", "password" }, SECRET_WHOLE },
	{ { "upstreams", "*", "url" }, SECRET_IN_URL },
	{ { "auth", "*", "users", "*", "password_hash" }, SECRET_WHOLE },
};

/* ---- places ---- */

static size_t
depth_of(const struct json_value *v)
{
	size_t depth = 0;
	for (; v->parent != NULL; v = v->parent)
		depth++;
	return depth;
}

static bool
stands_at(const struct json_value *v, const struct secret_place *place, size_t depth)
{
	for (size_t i = depth; i-- > 0; v = v->parent)
		if (v->key != NULL ? strcmp(v->key, place->steps[i]) != 0
		                   : strcmp("*", place->steps[i]) != 0)
			return false;
	return true;
}

/* Is this string a secret, or does it hold one? */
static enum secret_kind
secret_kind_of(const struct json_value *v)
{
	if (v->type != SCAN_STRING || v->key == NULL)
		return SECRET_NONE;
	size_t depth = depth_of(v);
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		size_t steps = 0;
		while (steps < ARRAY_LEN(places[i].steps) && places[i].steps[steps] != NULL)
			steps++;
		if (steps == depth && stands_at(v, &places[i], depth))
			return places[i].kind;
	}
	return SECRET_NONE;
}

/* ---- masking ---- */

static void
write_url_with(FILE *out, const char *url, size_t at, size_t len, const char *password)
{
	fprintf(out, "%.*s%s%s", (int)at, url, password, url + at + len);
}

static bool
write_masked(FILE *out, const struct json_value *v, void *arg)
{
	enum secret_kind kind = secret_kind_of(v);
	char *masked = NULL;
	size_t at, len, size;
	(void)arg;
	if (kind == SECRET_WHOLE) {
		json_write_string(out, SECRET_MASK, strlen(SECRET_MASK));
		return true;
	}
	if (kind == SECRET_NONE || !upstream_url_find_password(v->text, &at, &len))
		return false;
	FILE *url = open_memstream(&masked, &size);
	if (url == NULL) {
		json_write_string(out, SECRET_MASK, strlen(SECRET_MASK));
		return true;
	}
	write_url_with(url, v->text, at, len, SECRET_MASK);
	if (fclose(url) == 0)
		json_write_string(out, masked, size);
	else
		json_write_string(out, SECRET_MASK, strlen(SECRET_MASK));
	free(masked);
	return true;
}

char *
secrets_public_text(const struct json_value *root)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	if (out == NULL)
		return NULL;
	json_write(out, root, write_masked, NULL);
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

/* ---- merging ---- */

struct merge {
	struct parse_context *context;
	const struct json_value *before; /* the other document's root, or NULL */
	const struct json_value
	    *last;        /* the element found last by name: documents seldom differ in order */
	const char *text; /* of this document */
	size_t written;   /* of text, to out */
	FILE *out;
	bool masked, ok;
};

static const struct json_value *
string_member(const struct json_value *object, const char *key)
{
	const struct json_value *v = json_member(object, key);
	return v != NULL && v->type == SCAN_STRING ? v : NULL;
}

/* The counterpart of an array's element: the element of other with the same name, looked for from
 * the one found last. */
static const struct json_value *
same_name(struct merge *m, const struct json_value *object, const struct json_value *other)
{
	const struct json_value *name = string_member(object, "name");
	if (name == NULL || other->type != SCAN_ARRAY)
		return NULL;
	const struct json_value *v = m->last != NULL && m->last->parent == other ? m->last : NULL;
	for (uint32_t i = 0; i <= other->n; i++, v = v->next) {
		if (v == NULL && (v = other->first) == NULL)
			return NULL;
		const struct json_value *its = string_member(v, "name");
		if (its != NULL && strcmp(its->text, name->text) == 0)
			return m->last = v;
	}
	return NULL;
}

/* The value at the same place in the other document, elements found by name. */
static const struct json_value *
counterpart(struct merge *m, const struct json_value *v)
{
	if (v->parent == NULL)
		return m->before;
	const struct json_value *parent = counterpart(m, v->parent);
	if (parent == NULL)
		return NULL;
	return v->key != NULL ? json_member(parent, v->key) : same_name(m, v, parent);
}

/* An upstream's password, wherever it is written, decoded; NULL: it has none. */
static const char *
upstream_password(struct parse_context *c, const struct json_value *upstream)
{
	const struct json_value *password = string_member(upstream, "password"),
	                        *url = string_member(upstream, "url");
	char decoded[CREDENTIAL_MAX + 1];
	size_t at, len;
	if (password != NULL)
		return password->text;
	if (url == NULL || !upstream_url_find_password(url->text, &at, &len) ||
	    !percent_decode(url->text + at, len, decoded, sizeof decoded))
		return NULL;
	return arena_copy_text(c->arena, decoded, strlen(decoded));
}

/* What v's mask stands for; NULL: nothing. */
static const char *
kept_secret(struct merge *m, const struct json_value *v)
{
	const struct json_value *object = m->before != NULL ? counterpart(m, v->parent) : NULL;
	if (object == NULL)
		return NULL;
	if (strcmp(v->key, "password") == 0 || strcmp(v->key, "url") == 0)
		return upstream_password(m->context, object);
	const struct json_value *secret = string_member(object, v->key);
	return secret != NULL ? secret->text : NULL;
}

/* The string that v is to be: the secret, or the URL with the secret in it; NULL: out of memory. */
static const char *
filled_in(
    struct parse_context *c, const struct json_value *v, enum secret_kind kind, const char *secret)
{
	char encoded[3 * CREDENTIAL_MAX + 1];
	size_t at, len;
	if (kind == SECRET_WHOLE || !upstream_url_find_password(v->text, &at, &len))
		return arena_copy_text(c->arena, secret, strlen(secret));
	percent_encode(secret, encoded, sizeof encoded);
	return arena_print(c->arena, "%.*s%s%s", (int)at, v->text, encoded, v->text + at + len);
}

static bool
is_masked(const struct json_value *v, enum secret_kind kind)
{
	size_t at, len;
	if (kind == SECRET_WHOLE)
		return strcmp(v->text, SECRET_MASK) == 0;
	return kind == SECRET_IN_URL && upstream_url_find_password(v->text, &at, &len) &&
	       len == strlen(SECRET_MASK) && memcmp(v->text + at, SECRET_MASK, len) == 0;
}

static void
merge_string(struct merge *m, struct json_value *v)
{
	enum secret_kind kind = secret_kind_of(v);
	if (kind == SECRET_NONE || v->faulty || !is_masked(v, kind))
		return;
	const char *secret = kept_secret(m, v);
	const char *filled = secret != NULL ? filled_in(m->context, v, kind, secret) : NULL;
	if (filled == NULL) {
		parse_error(m->context, v,
		    "found \"" SECRET_MASK "\", which keeps the secret of the object of the same "
		                           "name, but there is none "
		    "to keep");
		v->faulty = true;
		m->ok = false;
		return;
	}
	fwrite(m->text + m->written, 1, v->start - m->written, m->out);
	json_write_string(m->out, filled, strlen(filled));
	m->written = v->end;
	m->masked = true;
	v->text = filled;
	v->text_len = (uint32_t)strlen(filled);
}

/* In the order of the text, since that is how it is copied. */
static void
merge_value(struct merge *m, struct json_value *v)
{
	if (v->type == SCAN_STRING)
		merge_string(m, v);
	for (struct json_value *e = v->first; e != NULL; e = e->next)
		merge_value(m, e);
}

/* The document before was sound when it was published, so its errors are of no interest. */
static const struct json_value *
scan_before(const struct policy *before, struct arena *arena)
{
	struct policy_errors errors;
	if (before == NULL)
		return NULL;
	policy_errors_init(&errors);
	const struct json_value *root = json_scan(before->text, before->text_len, arena, &errors);
	policy_errors_free(&errors);
	return root;
}

/* Is there a mask at all? Nearly always not, and then the other document need not be read. */
static bool
has_mask(const struct json_value *v)
{
	if (v->type == SCAN_STRING && is_masked(v, secret_kind_of(v)))
		return true;
	for (const struct json_value *e = v->first; e != NULL; e = e->next)
		if (has_mask(e))
			return true;
	return false;
}

bool
secrets_merge(struct parse_context *c, struct json_value *root, const char *text, size_t len,
    const struct policy *before, char **merged, size_t *merged_len)
{
	struct arena scanned;
	*merged = NULL;
	if (!has_mask(root))
		return true;
	struct merge m = { .context = c, .text = text, .ok = true };
	if ((m.out = open_memstream(merged, merged_len)) == NULL) {
		parse_error_memory(c);
		return false;
	}
	arena_init(&scanned);
	m.before = scan_before(before, &scanned);
	merge_value(&m, root);
	fwrite(text + m.written, 1, len - m.written, m.out);
	arena_free(&scanned);
	if (fclose(m.out) != 0) {
		parse_error_memory(c);
		free(*merged);
		*merged = NULL;
		return false;
	}
	return m.ok;
}
