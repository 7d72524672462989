/*
 * policy: the document in force: shown, checked, replaced, read again.
 */
#include <stdio.h>
#include <string.h>

#include "admin/call.h"
#include "admin/check.h"
#include "admin/handlers.h"
#include "admin/json.h"
#include "policy/policy.h"
#include "router/control.h"

enum { ETAG_MAX = 32 };

static void
add_etag(struct call *c, const char *etag)
{
	char quoted[ETAG_MAX];
	snprintf(quoted, sizeof quoted, "\"%s\"", etag);
	call_add_header(c, "ETag", quoted);
}

void
handle_policy(struct call *c)
{
	const struct policy *p = call_policy(c);
	add_etag(c, p->etag);
	call_answer_text(c, 200, "application/json", p->public_text, strlen(p->public_text));
}

/* ---- a new one ---- */

static void
answer_change(struct call *c, const struct control_policy_answer *a)
{
	switch (a->result) {
	case CONTROL_PUT_OK:
		add_etag(c, a->etag);
		call_answer_json(
		    c, 200,
		    json_pack("{s:o, s:s}", "revision", json_count(a->revision), "etag", a->etag));
		break;
	case CONTROL_PUT_FAULTY:
		call_answer_errors(c, 422, a->errors);
		break;
	case CONTROL_PUT_MISMATCH:
		call_answer_problem(c, 412, "%s", a->detail);
		break;
	case CONTROL_PUT_UNFIT:
		call_answer_problem(c, 409, "%s", a->detail);
		break;
	case CONTROL_PUT_FAILED:
		call_answer_problem(c, 500, "%s", a->detail);
		break;
	}
}

static void
on_changed(const struct control_policy_answer *a, void *arg)
{
	struct waiting *w = arg;
	struct call *c = waiting_take(w);
	if (c == NULL)
		return;
	answer_change(c, a);
	waiting_done(w);
}

/*
 * If-Match (RFC 9110 section 13.1.1) with one strong tag, or "*"; a tag without its quotes, as JSON
 * answers show it, will do. Anything else matches nothing that we could have given. False: answered.
 */
static bool
read_if_match(struct call *c, char etag[ETAG_MAX], bool *given)
{
	const char *text = call_header(c, "If-Match");
	*given = text != NULL && strcmp(text, "*") != 0;
	if (!*given)
		return true;
	size_t len = strlen(text);
	if (len >= 2 && text[0] == '"' && text[len - 1] == '"') {
		text++;
		len -= 2;
	}
	if (len > 0 && len < ETAG_MAX) {
		snprintf(etag, ETAG_MAX, "%.*s", (int)len, text);
		return true;
	}
	call_answer_problem(c, 412, "If-Match: expected the ETag of GET /v1/policy");
	return false;
}

static void
change(struct call *c, const struct control_policy_change *x)
{
	struct waiting *w = call_wait(c);
	if (w != NULL)
		control_change_policy(call_control(c), x, on_changed, w);
}

void
handle_put_policy(struct call *c)
{
	struct control_policy_change x = { 0 };
	char etag[ETAG_MAX];
	bool given;
	if (!call_read_flag(c, "persist", &x.persist) || !read_if_match(c, etag, &given))
		return;
	x.text = call_body(c, &x.len);
	x.if_match = given ? etag : NULL;
	change(c, &x);
}

void
handle_reload_policy(struct call *c)
{
	change(c, &(struct control_policy_change){ 0 });
}

/* ---- a check only ---- */

void
handle_check_policy(struct call *c)
{
	struct policy_errors errors;
	struct policy_source from = { .name = "api",
				      .dir = call_policy(c)->dir,
				      .before = call_policy(c) };
	from.text = call_body(c, &from.len);
	policy_errors_init(&errors);
	struct policy *p = check_load(&from, &errors);
	if (p != NULL)
		call_answer_json(c, 200, json_pack("{s:b, s:s}", "ok", 1, "etag", p->etag));
	else
		call_answer_errors(c, 422, &errors);
	policy_unref(p);
	policy_errors_free(&errors);
}
