#include "admin/call.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <microhttpd.h>

#include "admin/json.h"
#include "admin/routes.h"
#include "base/text.h"
#include "policy/policy.h"
#include "policy/upstream_url.h"
#include "router/control.h"
#include "upstream/fleet.h"

enum { ANSWER_HEADERS_MAX = 4, DETAIL_MAX = 1024, STREAM_BLOCK = 4096 };

struct argument {
	char *name, *value;
};

struct answer {
	unsigned status;
	const char *type; /* NULL: no body */
	char *text;
	size_t len;
	struct {
		const char *name;
		char *value;
	} headers[ANSWER_HEADERS_MAX];
	size_t n_headers;
	struct call_stream stream; /* read NULL: it is `text` */
};

struct call {
	struct calls *all;
	struct MHD_Connection *connection;
	struct fleet *fleet;
	char name[CALL_NAME_MAX + 1], key[CALL_NAME_MAX + 1];
	struct argument arguments[CALL_ARGUMENTS_MAX];
	size_t n_arguments;
	bool bad_arguments;
	char *body;
	size_t body_len, body_cap, body_dropped;
	bool waits, is_unsent, answered;
	struct answer answer;
	call_sent_fn *when_sent;
};

/* A call that is suspended. Belongs to whoever was asked; the last to touch the call is whoever
 * wins `taken`. */
struct waiting {
	struct list link; /* in calls.waiting until taken */
	struct call *call;
	atomic_bool taken;
};

/* ---- all of them ---- */

void
calls_init(struct calls *all, struct control *c, struct event_feed *feed)
{
	*all = (struct calls){ .control = c, .feed = feed };
	pthread_mutex_init(&all->lock, NULL);
	pthread_cond_init(&all->changed, NULL);
	list_init(&all->waiting);
}

void
calls_destroy(struct calls *all)
{
	pthread_cond_destroy(&all->changed);
	pthread_mutex_destroy(&all->lock);
}

static void
resume(struct call *c)
{
	MHD_resume_connection(c->connection);
}

void
calls_stop(struct calls *all)
{
	struct timespec end;
	struct list *node;
	pthread_mutex_lock(&all->lock);
	all->stopping = true;
	while ((node = list_take_first(&all->waiting)) != NULL) {
		struct waiting *w = LIST_OBJECT(node, struct waiting, link);
		if (atomic_exchange(&w->taken, true))
			continue; /* its answer is on the way */
		struct call *c = w->call;
		call_answer_problem(c, 503, "stopping");
		resume(c);
	}
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec++;
	while (all->unsent > 0 && pthread_cond_timedwait(&all->changed, &all->lock, &end) == 0)
		;
	pthread_mutex_unlock(&all->lock);
}

/* ---- one ---- */

struct call *
call_new(struct calls *all, struct MHD_Connection *connection)
{
	struct call *c = calloc(1, sizeof *c);
	if (c == NULL)
		return NULL;
	c->all = all;
	c->connection = connection;
	c->fleet = control_fleet(all->control);
	return c;
}

static void
release_body(struct call *c)
{
	pthread_mutex_lock(&c->all->lock);
	c->all->body_bytes -= c->body_cap;
	pthread_mutex_unlock(&c->all->lock);
	if (c->body != NULL)
		explicit_bzero(c->body, c->body_len);
	free(c->body);
	c->body = NULL;
	c->body_len = c->body_cap = 0;
}

static void
answer_free(struct answer *a)
{
	free(a->text);
	if (a->stream.read != NULL)
		a->stream.over(a->stream.arg);
	for (size_t i = 0; i < a->n_headers; i++)
		free(a->headers[i].value);
	*a = (struct answer){ 0 };
}

void
call_free(struct call *c)
{
	if (c == NULL)
		return;
	release_body(c);
	if (c->when_sent != NULL)
		c->when_sent(c->all->control);
	if (c->is_unsent) {
		pthread_mutex_lock(&c->all->lock);
		c->all->unsent--;
		pthread_cond_signal(&c->all->changed);
		pthread_mutex_unlock(&c->all->lock);
	}
	for (size_t i = 0; i < c->n_arguments; i++) {
		free(c->arguments[i].name);
		free(c->arguments[i].value);
	}
	answer_free(&c->answer);
	fleet_unref(c->fleet);
	free(c);
}

/* ---- what was asked ---- */

struct control *
call_control(const struct call *c)
{
	return c->all->control;
}

struct event_feed *
call_feed(const struct call *c)
{
	return c->all->feed;
}

struct MHD_Connection *
call_connection(const struct call *c)
{
	return c->connection;
}

struct fleet *
call_fleet(const struct call *c)
{
	return c->fleet;
}

const struct policy *
call_policy(const struct call *c)
{
	return fleet_policy(c->fleet);
}

const char *
call_name(const struct call *c)
{
	return c->name;
}

const char *
call_key(const struct call *c)
{
	return c->key;
}

const char *
call_argument(const struct call *c, const char *name)
{
	for (size_t i = 0; i < c->n_arguments; i++)
		if (strcmp(c->arguments[i].name, name) == 0)
			return c->arguments[i].value;
	return NULL;
}

const char *
call_header(const struct call *c, const char *name)
{
	return MHD_lookup_connection_value(c->connection, MHD_HEADER_KIND, name);
}

const char *
call_body(const struct call *c, size_t *len)
{
	*len = c->body_len;
	return c->body != NULL ? c->body : "";
}

bool
call_read_flag(struct call *c, const char *name, bool *out)
{
	const char *text = call_argument(c, name);
	*out = text != NULL && strcmp(text, "true") == 0;
	if (text == NULL || *out || strcmp(text, "false") == 0)
		return true;
	call_answer_problem(c, 400, "%s: expected true or false", name);
	return false;
}

bool
call_read_number(struct call *c, const char *name, size_t max, size_t *out)
{
	const char *text = call_argument(c, name);
	uint64_t value;
	if (text == NULL)
		return true;
	if (text_read_number(text, strlen(text), max, &value)) {
		*out = (size_t)value;
		return true;
	}
	call_answer_problem(c, 400, "%s: expected a number up to %zu", name, max);
	return false;
}

json_t *
call_read_object(struct call *c)
{
	json_error_t error;
	json_t *value =
	    json_loadb(c->body != NULL ? c->body : "", c->body_len, JSON_REJECT_DUPLICATES, &error);
	if (value == NULL) {
		call_answer_problem(c, 400, "the body is not JSON: line %d, column %d: %s",
				    error.line, error.column, error.text);
		return NULL;
	}
	if (!json_is_object(value)) {
		json_decref(value);
		call_answer_problem(c, 400, "the body: expected an object");
		return NULL;
	}
	return value;
}

/* Decoded to a copy; NULL: faulty, or no memory. */
static char *
decode(const char *text)
{
	size_t len = text != NULL ? strlen(text) : 0;
	char *out = malloc(len + 1);
	if (out != NULL && !percent_decode(text != NULL ? text : "", len, out, len + 1)) {
		free(out);
		return NULL;
	}
	return out;
}

static enum MHD_Result
on_argument(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct call *c = arg;
	(void)kind;
	if (c->n_arguments == CALL_ARGUMENTS_MAX) {
		c->bad_arguments = true;
		return MHD_NO;
	}
	struct argument *a = &c->arguments[c->n_arguments++];
	a->name = decode(name);
	a->value = decode(value);
	c->bad_arguments |= a->name == NULL || a->value == NULL;
	return MHD_YES;
}

bool
call_take_arguments(struct call *c, const struct route *route)
{
	(void)MHD_get_connection_values(c->connection, MHD_GET_ARGUMENT_KIND, on_argument, c);
	if (c->bad_arguments) {
		call_answer_problem(c, 400, "the query: a faulty %%XX, or more than %d arguments",
				    CALL_ARGUMENTS_MAX);
		return false;
	}
	for (size_t i = 0; i < c->n_arguments; i++)
		if (!route_takes_argument(route, c->arguments[i].name) ||
		    call_argument(c, c->arguments[i].name) != c->arguments[i].value) {
			call_answer_problem(c, 400,
					    "%s: not an argument of this call, or there twice",
					    c->arguments[i].name);
			return false;
		}
	return true;
}

bool
call_take_name(struct call *c, const char *encoded)
{
	const char *word = strchr(encoded, '/'), *key = strrchr(encoded, '/');
	if (key != word && !percent_decode(key + 1, strlen(key + 1), c->key, sizeof c->key))
		return false;
	return percent_decode(encoded, strcspn(encoded, "/"), c->name, sizeof c->name);
}

/* Room for more; by doubling, and only for bytes that have come. */
static bool
reserve(struct call *c, size_t len)
{
	size_t cap = c->body_cap > 0 ? c->body_cap : 4096;
	while (cap < len)
		cap *= 2;
	if (cap == c->body_cap)
		return true;
	pthread_mutex_lock(&c->all->lock);
	bool room = c->all->body_bytes + (cap - c->body_cap) <= CALL_BODIES_MAX;
	if (room)
		c->all->body_bytes += cap - c->body_cap;
	pthread_mutex_unlock(&c->all->lock);
	char *more = room ? realloc(c->body, cap) : NULL;
	if (more == NULL) {
		pthread_mutex_lock(&c->all->lock);
		c->all->body_bytes -= room ? cap - c->body_cap : 0;
		pthread_mutex_unlock(&c->all->lock);
		return false;
	}
	c->body = more;
	c->body_cap = cap;
	return true;
}

bool
call_take_body(struct call *c, const char *bytes, size_t len)
{
	if (!c->answered && len > CALL_BODY_MAX - c->body_len) {
		release_body(c);
		call_answer_problem(c, 413, "the body has more than %d bytes", CALL_BODY_MAX);
	} else if (!c->answered && !reserve(c, c->body_len + len)) {
		release_body(c);
		call_answer_problem(c, 503, "too many large requests at once");
	}
	if (c->answered) {
		c->body_dropped += len;
		return c->body_dropped <= CALL_BODY_MAX;
	}
	memcpy(c->body + c->body_len, bytes, len);
	c->body_len += len;
	return true;
}

bool
call_is_answered(const struct call *c)
{
	return c->answered;
}

/* ---- the answer ---- */

static void
answer(struct call *c, unsigned status, const char *type, char *text, size_t len)
{
	if (c->answered) { /* whoever came first decided it */
		free(text);
		return;
	}
	c->answered = true;
	c->answer.status = status;
	c->answer.type = type;
	c->answer.text = text;
	c->answer.len = len;
}

static void
answer_value(struct call *c, unsigned status, const char *type, json_t *value)
{
	char *text = value != NULL ? json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY |
							   JSON_REAL_PRECISION(JSON_DIGITS))
				   : NULL;
	size_t len = text != NULL ? strlen(text) : 0;
	json_decref(value);
	if (text == NULL) {
		answer(c, 500, NULL, NULL, 0);
		return;
	}
	text[len++] = '\n'; /* in the place of the NUL */
	answer(c, status, type, text, len);
}

void
call_answer_json(struct call *c, unsigned status, json_t *value)
{
	answer_value(c, status, "application/json", value);
}

void
call_answer_text(struct call *c, unsigned status, const char *type, const char *text, size_t len)
{
	char *copy = malloc(len + 1);
	if (copy == NULL) {
		answer(c, 500, NULL, NULL, 0);
		return;
	}
	memcpy(copy, text, len);
	answer(c, status, type, copy, len);
}

void
call_answer_nothing(struct call *c)
{
	answer(c, 204, NULL, NULL, 0);
}

void
call_answer_stream(struct call *c, const struct call_stream *stream)
{
	if (c->answered) {
		stream->over(stream->arg);
		return;
	}
	pthread_mutex_lock(&c->all->lock);
	c->all->unsent++;
	c->is_unsent = true;
	pthread_mutex_unlock(&c->all->lock);
	answer(c, 200, stream->type, NULL, 0);
	c->answer.stream = *stream;
	fleet_unref(c->fleet);
	c->fleet = NULL;
}

static json_t *
problem(unsigned status, const char *detail)
{
	return json_pack("{s:s, s:i, s:o}", "title", MHD_get_reason_phrase_for(status), "status",
			 (int)status, "detail", json_text(detail));
}

void
call_answer_problem(struct call *c, unsigned status, const char *fmt, ...)
{
	char detail[DETAIL_MAX];
	va_list args;
	va_start(args, fmt);
	vsnprintf(detail, sizeof detail, fmt, args);
	va_end(args);
	answer_value(c, status, "application/problem+json", problem(status, detail));
}

void
call_answer_errors(struct call *c, unsigned status, const struct policy_errors *errors)
{
	char detail[128];
	snprintf(detail, sizeof detail, "the policy has %zu error%s", errors->n + errors->dropped,
		 errors->n + errors->dropped == 1 ? "" : "s");
	json_t *value = problem(status, detail);
	if (value != NULL &&
	    json_object_set_new(value, "errors", json_policy_errors(errors)) != 0) {
		json_decref(value);
		value = NULL;
	}
	answer_value(c, status, "application/problem+json", value);
}

void
call_add_header(struct call *c, const char *name, const char *value)
{
	struct answer *a = &c->answer;
	if (c->answered || a->n_headers == ANSWER_HEADERS_MAX)
		return;
	char *copy = strdup(value);
	if (copy == NULL)
		return;
	a->headers[a->n_headers].name = name;
	a->headers[a->n_headers++].value = copy;
}

void
call_when_sent(struct call *c, call_sent_fn *fn)
{
	c->when_sent = fn;
}

/* What it holds is the response's then. NULL: out of memory. */
static struct MHD_Response *
make_response(struct answer *a)
{
	struct MHD_Response *r;
	if (a->stream.read != NULL)
		r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK,
						      a->stream.read, a->stream.arg,
						      a->stream.over);
	else
		r = MHD_create_response_from_buffer(
		    a->len, a->text != NULL ? a->text : "",
		    a->text != NULL ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
	if (r != NULL) {
		a->text = NULL;
		a->stream.read = NULL;
	}
	return r;
}

bool
call_queue(struct call *c)
{
	struct answer *a = &c->answer;
	struct MHD_Response *r = make_response(a);
	if (r == NULL)
		return false;
	if (a->type != NULL)
		(void)MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, a->type);
	(void)MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	(void)MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	for (size_t i = 0; i < a->n_headers; i++)
		(void)MHD_add_response_header(r, a->headers[i].name, a->headers[i].value);
	enum MHD_Result ok = MHD_queue_response(c->connection, a->status, r);
	MHD_destroy_response(r);
	return ok == MHD_YES;
}

/* ---- waiting ---- */

/* Suspended before anybody is asked, as the answer may come at once. */
struct waiting *
call_wait(struct call *c)
{
	struct waiting *w = calloc(1, sizeof *w);
	pthread_mutex_lock(&c->all->lock);
	if (w == NULL || c->all->stopping) {
		pthread_mutex_unlock(&c->all->lock);
		call_answer_problem(c, 503, "%s", w == NULL ? "out of memory" : "stopping");
		free(w);
		return NULL;
	}
	w->call = c;
	c->waits = c->is_unsent = true;
	c->all->unsent++;
	list_init(&w->link);
	list_append(&c->all->waiting, &w->link);
	MHD_suspend_connection(c->connection);
	pthread_mutex_unlock(&c->all->lock);
	return w;
}

struct call *
waiting_take(struct waiting *w)
{
	if (atomic_exchange(&w->taken, true)) {
		free(w); /* the API has stopped, and all that the call was is gone */
		return NULL;
	}
	struct calls *all = w->call->all;
	pthread_mutex_lock(&all->lock);
	list_remove(&w->link);
	pthread_mutex_unlock(&all->lock);
	return w->call;
}

void
waiting_done(struct waiting *w)
{
	struct call *c = w->call;
	free(w);
	resume(c);
}

bool
call_waits(const struct call *c)
{
	return c->waits;
}
