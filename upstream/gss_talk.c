/*
 * gss_talk: see the header.
 *
 *   STEP --token--> SAY -> HEAR --token--> STEP ... --established--> SAY (level) -> HEAR -> done
 */
#include "upstream/gss_talk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/gss_pool.h"
#include "base/stream.h"
#include "socks/gssapi.h"

enum talk_state { TALK_STEP, TALK_SAY, TALK_HEAR, TALK_FAILED };

struct gss_talk {
	struct gss_talk_plan plan;
	struct gss_context *context;   /* NULL: the stream has it */
	struct gss_step *step;
	enum talk_state state;
	bool established;              /* only the level is still to be agreed on */
	bool heard;                    /* a token of the proxy */
	uint8_t *out, *in;             /* what is said, a message that comes */
	size_t out_len, out_at, in_len, in_need;
	enum verdict verdict;
	char why[GSS_WHY_MAX + 64];
};

static enum gss_talk_status
fail(struct gss_talk *t, enum verdict v, const char *what, const char *why)
{
	t->state = TALK_FAILED;
	t->verdict = v;
	snprintf(t->why, sizeof t->why, "%s%s", what, why);
	return GSS_TALK_FAILED;
}

static enum gss_talk_status
fail_memory(struct gss_talk *t)
{
	return fail(t, VERDICT_INTERNAL, "", "out of memory");
}

static enum gss_talk_status
fail_garbage(struct gss_talk *t)
{
	return fail(t, VERDICT_UPSTREAM_GARBAGE, "", "its answer to the Kerberos ticket is none");
}

/* ---- steps ---- */

/* Before the proxy has said anything it is our own ticket that fails, or its name that Kerberos does
 * not know; the library's words for that begin with what it was doing. */
static void
fail_step(struct gss_talk *t)
{
	const char *why = gss_context_why(t->context), *cause = strstr(why, ": ");
	if (t->heard)
		(void)fail(t, VERDICT_UPSTREAM_AUTH, "it can't prove who it is: ", why);
	else
		(void)fail(t, VERDICT_UPSTREAM_AUTH, "no Kerberos credentials: ",
		    cause == NULL ? why : cause + 2);
}

/* Messages to say, `len` bytes of malloc'ed memory, which is taken. */
static void
say(struct gss_talk *t, uint8_t *messages, size_t len)
{
	free(t->out);
	t->out = messages;
	t->out_len = len;
	t->out_at = 0;
	t->state = TALK_SAY;
}

static void
say_token(struct gss_talk *t, const uint8_t *token, size_t len)
{
	uint8_t *message = malloc(GSSAPI_HEADER + len);
	size_t n = message == NULL
		       ? 0
		       : gssapi_write(message, GSSAPI_HEADER + len, GSSAPI_CONTEXT, token, len);
	if (n > 0) {
		say(t, message, n);
		return;
	}
	free(message);
	(void)fail_memory(t);
}

/* The level asked for is sealed, but may be read by all. */
static void
say_level(struct gss_talk *t)
{
	const uint8_t level = (uint8_t)t->plan.who->protection;
	size_t len;
	uint8_t *message = gss_context_wrap(t->context, false, &level, 1, GSSAPI_HEADER, &len);
	if (message == NULL) {
		(void)fail(t, VERDICT_INTERNAL, "", gss_context_why(t->context));
		return;
	}
	gssapi_write_header(message, GSSAPI_LEVEL, (uint16_t)len);
	say(t, message, GSSAPI_HEADER + len);
}

static void
take_step(struct gss_talk *t, enum gss_step_outcome outcome, const uint8_t *token, size_t len)
{
	t->established = outcome == GSS_STEP_DONE;
	if (outcome == GSS_STEP_FAILED)
		fail_step(t);
	else if (outcome == GSS_STEP_MORE && token != NULL)
		say_token(t, token, len);
	else if (outcome == GSS_STEP_DONE && token == NULL)
		say_level(t);
	else /* Kerberos has no such steps: it lets the proxy have the last word, and us the first */
		(void)fail(t, VERDICT_INTERNAL, "", "Kerberos made a step out of turn");
}

static void
on_step(enum gss_step_outcome outcome, const uint8_t *token, size_t len, void *arg)
{
	struct gss_talk *t = arg;
	t->step = NULL;
	take_step(t, outcome, token, len);
	t->plan.on_step(t->plan.arg);
}

static bool
start_step(struct gss_talk *t, const uint8_t *token, size_t len)
{
	t->state = TALK_STEP;
	t->step = gss_step_start(
	    t->plan.pool, t->context, token, len, NULL, t->plan.box, on_step, t);
	return t->step != NULL;
}

/* ---- what comes ---- */

static enum gss_talk_status
take_token(struct gss_talk *t, const struct gssapi_message *m)
{
	if (m->type != GSSAPI_CONTEXT)
		return fail_garbage(t);
	t->heard = true;
	if (start_step(t, m->token, m->len))
		return GSS_TALK_WAITS;
	return fail(t, VERDICT_INTERNAL, "", "too many ask Kerberos at once");
}

/* From here on as was agreed. */
static enum gss_talk_status
seal(struct gss_talk *t, enum gssapi_protection level)
{
	const struct gss_layer_options how = {
		.context = t->context,
		.secret = level == GSSAPI_CONFIDENTIALITY,
		.prefix = { GSSAPI_VERSION, GSSAPI_DATA },
	};
	if (level == GSSAPI_NONE)
		return GSS_TALK_DONE;
	t->context = NULL;
	return stream_start_gss(t->plan.stream, &how, NULL, 0) ? GSS_TALK_DONE : fail_memory(t);
}

/* "Selective": each end seals as it sees fit, so that what it says is whole is all that is sure. */
static enum gssapi_protection
sure_level(uint8_t granted)
{
	return granted == GSSAPI_SELECTIVE ? GSSAPI_INTEGRITY : (enum gssapi_protection)granted;
}

static enum gss_talk_status
take_level(struct gss_talk *t, const struct gssapi_message *m)
{
	size_t at, n;
	uint8_t *token = t->in + GSSAPI_HEADER;
	if (m->type != GSSAPI_LEVEL)
		return fail_garbage(t);
	if (!gss_context_unwrap(t->context, false, GSS_IN_ORDER, token, m->len, &at, &n))
		return fail(t, VERDICT_UPSTREAM_AUTH, "the protection that it grants is forged: ",
		    gss_context_why(t->context));
	if (n != 1 || token[at] > GSSAPI_SELECTIVE)
		return fail_garbage(t);
	enum gssapi_protection level = sure_level(token[at]);
	if (level < t->plan.who->protection)
		return fail(t, VERDICT_UPSTREAM_AUTH, "",
		    "it grants less protection than is asked for");
	return seal(t, level);
}

static enum gss_talk_status
take_message(struct gss_talk *t, const struct gssapi_message *m)
{
	enum gss_talk_status status;
	if (m->type == GSSAPI_ABORT)
		return fail(t, VERDICT_UPSTREAM_AUTH, "", "it refuses our Kerberos ticket");
	status = t->established ? take_level(t, m) : take_token(t, m);
	t->in_len = 0;
	t->in_need = 0;
	return status;
}

/* How much of the message that has begun is sure to come. */
static size_t
need(const struct gss_talk *t)
{
	if (t->in_len < 2)
		return 2;              /* an abort ends there */
	if (t->in_len < GSSAPI_HEADER)
		return GSSAPI_HEADER;
	return GSSAPI_HEADER + ((size_t)t->in[2] << 8 | t->in[3]);
}

static bool
make_room(struct gss_talk *t)
{
	size_t wanted = need(t);
	uint8_t *larger = realloc(t->in, wanted);
	if (larger == NULL)
		return false;
	t->in = larger;
	t->in_need = wanted;
	return true;
}

static enum gss_talk_status
hear(struct gss_talk *t)
{
	struct gssapi_message m;
	size_t n, used;
	for (;;) {
		if (!make_room(t))
			return fail_memory(t);
		switch (stream_read(t->plan.stream, t->in + t->in_len, t->in_need - t->in_len, &n)) {
		case STREAM_OK: break;
		case STREAM_AGAIN: return GSS_TALK_WAITS;
		case STREAM_EOF:
		case STREAM_ERROR:
			return fail(t, VERDICT_UPSTREAM_FAILED, "",
			    "it broke off while Kerberos was spoken");
		}
		t->in_len += n;
		switch (gssapi_parse(t->in, t->in_len, &m, &used)) {
		case PARSE_MORE: break;
		case PARSE_BAD: return fail_garbage(t);
		case PARSE_OK: return take_message(t, &m);
		}
	}
}

/* ---- what goes ---- */

/* A peer that is gone may still have said why. */
static enum gss_talk_status
utter(struct gss_talk *t)
{
	while (t->out_at < t->out_len) {
		size_t n;
		if ((t->plan.stream->ready & STREAM_WRITABLE) == 0)
			return GSS_TALK_WAITS;
		switch (stream_write(
		    t->plan.stream, t->out + t->out_at, t->out_len - t->out_at, &n)) {
		case STREAM_OK: t->out_at += n; break;
		case STREAM_AGAIN: return GSS_TALK_WAITS;
		case STREAM_EOF:
		case STREAM_ERROR: t->out_at = t->out_len; break;
		}
	}
	free(t->out);
	t->out = NULL;
	t->state = TALK_HEAR;
	return GSS_TALK_DONE;
}

enum gss_talk_status
gss_talk_go_on(struct gss_talk *t)
{
	switch (t->state) {
	case TALK_SAY:
		if (utter(t) == GSS_TALK_WAITS)
			return GSS_TALK_WAITS;
		return gss_talk_go_on(t);
	case TALK_HEAR:
		if ((t->plan.stream->ready & STREAM_READABLE) == 0)
			return GSS_TALK_WAITS;
		return hear(t);
	case TALK_FAILED: return GSS_TALK_FAILED;
	case TALK_STEP: break;
	}
	return GSS_TALK_WAITS;
}

enum verdict
gss_talk_verdict(const struct gss_talk *t)
{
	return t->verdict;
}

const char *
gss_talk_why(const struct gss_talk *t)
{
	return t->why;
}

bool
gss_talk_seals(const struct gss_talk *t)
{
	return t->context == NULL;
}

bool
gss_talk_awaits_kerberos(const struct gss_talk *t)
{
	return t->state == TALK_STEP;
}

/* ---- life ---- */

struct gss_talk *
gss_talk_new(const struct gss_talk_plan *plan)
{
	const struct gss_initiator who = {
		.keytab = plan->who->keytab,
		.ccache = plan->who->ccache,
		.principal = plan->who->principal,
		.target = plan->who->target,
	};
	struct gss_talk *t = calloc(1, sizeof *t);
	if (t == NULL)
		return NULL;
	t->plan = *plan;
	if ((t->context = gss_context_new_initiator(&who)) == NULL || !start_step(t, NULL, 0)) {
		gss_talk_free(t);
		return NULL;
	}
	return t;
}

void
gss_talk_free(struct gss_talk *t)
{
	if (t == NULL)
		return;
	gss_step_cancel(t->step);
	gss_context_free(t->context);
	free(t->out);
	free(t->in);
	free(t);
}
