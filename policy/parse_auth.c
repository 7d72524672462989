/*
 * parse_auth: how clients may prove who they are: methods, users, users' files.
 */
#include <crypt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/sections.h"

#include "base/base.h"
#include "policy/errors.h"
#include "policy/upstream_url.h"
#include "socks/command.h"

enum { HASH_MAX = CRYPT_OUTPUT_SIZE - 1, USERS_FILE_MAX = POLICY_BYTES_MAX };
enum { IDENT_TIMEOUT_MS = 5000, IDENT_TIMEOUT_MAX_MS = 60000 };

/* ---- users ---- */

/* A '+' would begin the session, so such a user could never be met. */
static bool
read_user_name(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_user *u = object;
	if (v->type == SCAN_STRING && !v->faulty && v->text_len >= 1 &&
	    v->text_len <= CREDENTIAL_MAX && strchr(v->text, '+') == NULL)
		return (u->name = parse_string(c, v)) != NULL;
	parse_error_expected(c, v, "a user name of 1 to 255 bytes without '+'");
	return false;
}

/* Of the forms of crypt(3) those that begin with '$': anything could be a traditional one, a
 * password in plain text too. */
static bool
is_hash(const char *text)
{
	int salt = *text == '$' ? crypt_checksalt(text) : CRYPT_SALT_INVALID;
	return salt == CRYPT_SALT_OK || salt == CRYPT_SALT_METHOD_LEGACY ||
	       salt == CRYPT_SALT_TOO_CHEAP;
}

static bool
read_hash(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy_user *u = object;
	if (v->type == SCAN_STRING && !v->faulty && v->text_len <= HASH_MAX && is_hash(v->text))
		return (u->password_hash = parse_string(c, v)) != NULL;
	parse_error_expected_secret(c, v,
	    "a hash as crypt(3) makes them, such as \"$y$...\" (`sockroute hash-password` prints "
	    "one)");
	return false;
}

static const struct parse_field user_fields[] = {
	{ .key = "name", .kind = PARSE_CUSTOM, .flags = PARSE_REQUIRED, .read = read_user_name },
	{ .key = "password_hash",
	    .kind = PARSE_CUSTOM,
	    .flags = PARSE_REQUIRED,
	    .read = read_hash },
};

static bool
read_user(struct parse_context *c, const struct json_value *v, void *object)
{
	return parse_object(c, v, user_fields, ARRAY_LEN(user_fields), object);
}

struct user_list {
	struct policy_user *list;
	size_t n;
};

static bool
read_user_list(struct parse_context *c, const struct json_value *v, struct user_list *out)
{
	void *list = NULL;
	bool ok = parse_list(c, v, "users", sizeof *out->list, read_user, &list, &out->n);
	out->list = list;
	return ok;
}

/* Errors of the file's text, each at `at`, with their own place in front. */
static void
report_file_errors(struct parse_context *c, const struct json_value *at, const char *path,
    const struct policy_errors *errors)
{
	for (size_t i = 0; i < errors->n; i++)
		parse_error(c, at, "%s:%u:%u: %s: %s", path, errors->list[i].line,
		    errors->list[i].column, errors->list[i].pointer, errors->list[i].message);
	if (errors->dropped > 0)
		parse_error(c, at, "%s: %zu more errors", path, errors->dropped);
}

static bool
read_users_file(
    struct parse_context *c, const struct json_value *at, const char *path, struct user_list *out)
{
	size_t len;
	char *text = parse_read_file(c, at, path, USERS_FILE_MAX, &len);
	struct policy_errors errors;
	struct parse_context own = *c;
	struct arena scanned;
	if (text == NULL)
		return false;
	policy_errors_init(&errors);
	arena_init(&scanned);
	own.errors = &errors;
	const struct json_value *root = json_scan(text, len, &scanned, &errors);
	bool ok = root != NULL && read_user_list(&own, root, out) && !policy_errors_any(&errors);
	report_file_errors(c, at, path, &errors);
	policy_errors_free(&errors);
	arena_free(&scanned);
	explicit_bzero(text, len);
	free(text);
	return ok;
}

/* ---- blocks ---- */

struct auth_parse {
	struct policy_auth auth;
	struct user_list users;
};

static bool
read_users(struct parse_context *c, const struct json_value *v, void *object)
{
	struct auth_parse *a = object;
	return read_user_list(c, v, &a->users);
}

static const struct parse_field ident_fields[] = {
	{ .key = "timeout",
	    .kind = PARSE_DURATION,
	    .offset = offsetof(struct policy_auth, ident_timeout_ms),
	    .min = 1,
	    .max = IDENT_TIMEOUT_MAX_MS },
};

static bool
read_ident(struct parse_context *c, const struct json_value *v, void *object)
{
	struct auth_parse *a = object;
	return parse_object(c, v, ident_fields, ARRAY_LEN(ident_fields), &a->auth);
}

static bool
read_networks(struct parse_context *c, const struct json_value *v, void *object)
{
	struct auth_parse *a = object;
	return parse_networks(c, v, &a->auth);
}

static bool
read_gssapi(struct parse_context *c, const struct json_value *v, void *object)
{
	struct auth_parse *a = object;
	return parse_gssapi(c, v, &a->auth.gssapi);
}

static const struct parse_word method_words[] = {
	{ .text = "none", .value = AUTH_NONE },
	{ .text = "userpass", .value = AUTH_USERPASS },
	{ .text = "ident", .value = AUTH_IDENT },
	{ .text = "gssapi", .value = AUTH_GSSAPI },
	{ .text = NULL },
};

#define AT(member) .offset = offsetof(struct auth_parse, member)
static const struct parse_field auth_fields[] = {
	{ .key = "name", .kind = PARSE_NAME, .flags = PARSE_REQUIRED, AT(auth.name) },
	{ .key = "methods",
	    .kind = PARSE_WORDS,
	    .flags = PARSE_REQUIRED,
	    AT(auth.methods),
	    .words = method_words },
	{ .key = "users", .kind = PARSE_CUSTOM, .read = read_users },
	{ .key = "users_file", .kind = PARSE_PATH, AT(auth.users_file) },
	{ .key = "ident", .kind = PARSE_CUSTOM, .read = read_ident },
	{ .key = "networks", .kind = PARSE_CUSTOM, .read = read_networks },
	{ .key = "gssapi", .kind = PARSE_CUSTOM, .read = read_gssapi },
};
#undef AT

static int
by_user_name(const void *a, const void *b)
{
	return strcmp(((const struct policy_user *)a)->name, ((const struct policy_user *)b)->name);
}

/* Both lists into one, sorted, each name once. */
static bool
join_users(struct parse_context *c, const struct json_value *v, struct policy_auth *a,
    const struct user_list *x, const struct user_list *y)
{
	char quoted[128];
	bool ok = true;
	if ((a->users = parse_take(c, x->n + y->n, sizeof *a->users)) == NULL)
		return false;
	if (x->n > 0)
		memcpy(a->users, x->list, x->n * sizeof *a->users);
	if (y->n > 0)
		memcpy(a->users + x->n, y->list, y->n * sizeof *a->users);
	a->n_users = x->n + y->n;
	qsort(a->users, a->n_users, sizeof *a->users, by_user_name);
	for (size_t i = 1; i < a->n_users; i++) {
		if (strcmp(a->users[i - 1].name, a->users[i].name) != 0)
			continue;
		parse_error(c, v,
		    "found the user %s twice in \"users\" and \"users_file\", expected each once",
		    parse_quote(a->users[i].name, quoted, sizeof quoted));
		ok = false;
	}
	return ok;
}

static bool
check_methods_and_users(
    struct parse_context *c, const struct json_value *v, const struct policy_auth *a)
{
	const struct json_value *users = json_member(v, "users"), *file = json_member(v, "users_"
	                                                                                 "file");
	if ((a->methods & AUTH_USERPASS) != 0) {
		if (users == NULL && file == NULL)
			parse_error(c, v,
			    "the method \"userpass\" needs \"users\" or \"users_file\", found "
			    "neither");
		return users != NULL || file != NULL;
	}
	if (users != NULL || file != NULL)
		parse_error_at_key(c, users != NULL ? users : file,
		    "found users, expected the method \"userpass\", which alone asks for them");
	return users == NULL && file == NULL;
}

static bool
check_ident(struct parse_context *c, const struct json_value *v, const struct policy_auth *a)
{
	const struct json_value *networks = json_member(v, "networks"),
	                        *ident = json_member(v, "ident");
	if ((a->methods & AUTH_IDENT) != 0) {
		if (networks == NULL)
			parse_error(c, v,
			    "the method \"ident\" needs \"networks\", which say who may come from "
			    "where");
		return networks != NULL;
	}
	if (networks != NULL || ident != NULL)
		parse_error_at_key(c, networks != NULL ? networks : ident,
		    "found \"%s\", expected the method \"ident\", which alone asks for it",
		    networks != NULL ? "networks" : "ident");
	return networks == NULL && ident == NULL;
}

static bool
check_gssapi(struct parse_context *c, const struct json_value *v, const struct policy_auth *a)
{
	const struct json_value *gssapi = json_member(v, "gssapi");
	bool asked = (a->methods & AUTH_GSSAPI) != 0;
	if (asked && gssapi == NULL)
		parse_error(c, v,
		    "the method \"gssapi\" needs \"gssapi\", which says where the keytab is");
	if (!asked && gssapi != NULL)
		parse_error_at_key(c, gssapi,
		    "found \"gssapi\", expected the method \"gssapi\", which alone asks for it");
	return asked == (gssapi != NULL);
}

static bool
read_auth(struct parse_context *c, const struct json_value *v, void *object)
{
	struct auth_parse a = { .auth.ident_timeout_ms = IDENT_TIMEOUT_MS };
	struct user_list from_file = { NULL, 0 };
	bool ok = parse_object(c, v, auth_fields, ARRAY_LEN(auth_fields), &a);
	if (a.auth.users_file != NULL &&
	    !read_users_file(c, json_member(v, "users_file"), a.auth.users_file, &from_file))
		ok = false;
	ok = ok && check_methods_and_users(c, v, &a.auth) && check_ident(c, v, &a.auth) &&
	     check_gssapi(c, v, &a.auth) &&
	     join_users(c, v, &a.auth, &a.users, &from_file);
	*(struct policy_auth *)object = a.auth;
	return ok;
}

bool
parse_auths(struct parse_context *c, const struct json_value *v, void *object)
{
	struct policy *p = object;
	void *list = NULL;
	bool ok = parse_list(c, v, "auth blocks", sizeof *p->auths, read_auth, &list, &p->n_auths);
	p->auths = list;
	return ok;
}
