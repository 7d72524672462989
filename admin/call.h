/*
 * call: one HTTP request to the API, as its handler sees it: what was asked, and the one answer it
 * gets.
 *
 * A handler answers at once, or it waits: call_wait suspends the request, and whoever has the
 * answer later (from any thread) asks waiting_take for the call and answers it then. The HTTP
 * thread never waits for anybody. Whoever gets no answer because the API stops has been told 503 by
 * then, and waiting_take says NULL. Life: call_new (first sight of the request) -> arguments, body
 * -> handler -> one call_answer* -> call_queue -> call_free.
 */
#ifndef ADMIN_CALL_H
#define ADMIN_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>
#include <pthread.h>
#include <sys/types.h>

#include "base/base.h"
#include "base/list.h"
#include "policy/policy.h"

struct MHD_Connection;
struct call;
struct control;
struct event_feed;
struct fleet;
struct policy_errors;
struct route;
struct waiting;

/* All calls of an API: what they share. */
struct calls {
	struct control *control;
	struct event_feed *feed;
	pthread_mutex_t lock; /* over what follows */
	pthread_cond_t changed;
	struct list waiting;
	unsigned unsent;   /* calls that have waited, or are answered by a stream, and are not over yet */
	size_t body_bytes; /* held by all requests under way */
	bool stopping;
};

enum {
	CALL_BODY_MAX = 32 << 20,    /* of one request; more is a 413 */
	CALL_BODIES_MAX = 128 << 20, /* of all that are under way; more is a 503 */
	CALL_NAME_MAX = 255,
	CALL_ARGUMENTS_MAX = 32,
};

void calls_init(struct calls *all, struct control *c, struct event_feed *feed);
/**
 * From now on nobody may wait; those who do are told 503, and up to a second is given for the
 * answers to leave.
 */
void calls_stop(struct calls *all);
void calls_destroy(struct calls *all);

/* ---- for handlers ---- */

struct control *call_control(const struct call *c);
struct event_feed *call_feed(const struct call *c);
struct MHD_Connection *call_connection(const struct call *c);
/** The fleet and the policy in force when the request came; valid until it is over. */
struct fleet *call_fleet(const struct call *c);
const struct policy *call_policy(const struct call *c);
/** What stands for the "*" of the route's pattern, decoded. */
const char *call_name(const struct call *c);
/** The same of its second "*". */
const char *call_key(const struct call *c);
/** An argument of the query, decoded; NULL: not given. */
const char *call_argument(const struct call *c, const char *name);
/** A header of the request; NULL: not given. */
const char *call_header(const struct call *c, const char *name);
const char *call_body(const struct call *c, size_t *len);
/** "true" and "false"; not given: false. False after a 400. */
bool call_read_flag(struct call *c, const char *name, bool *out) WARN_UNUSED;
/** A number up to max. Not given: *out stays. False after a 400. */
bool call_read_number(struct call *c, const char *name, size_t max, size_t *out) WARN_UNUSED;
/** The body as a JSON object, to be released; NULL after a 400. */
json_t *call_read_object(struct call *c) WARN_UNUSED;

/* One answer for each call. */

/** Takes the value; NULL, for want of memory, is a 500. */
void call_answer_json(struct call *c, unsigned status, json_t *value);
/** Text is copied. */
void call_answer_text(struct call *c, unsigned status, const char *type, const char *text,
		      size_t len);
/** 204. */
void call_answer_nothing(struct call *c);
/** application/problem+json (RFC 9457), with what went wrong in this case. */
void call_answer_problem(struct call *c, unsigned status, const char *fmt, ...) PRINTF_LIKE(3, 4);
/** The same with every error of a policy. */
void call_answer_errors(struct call *c, unsigned status, const struct policy_errors *errors);
/**
 * A header of the answer; at most 4. `name` is a literal, the value is copied. Before the answer.
 */
void call_add_header(struct call *c, const char *name, const char *value);

/* An answer whose end is not known. Both are called by the HTTP thread, as libmicrohttpd says of
 * MHD_create_response_from_callback(); over comes once, last. */
struct call_stream {
	const char *type;
	ssize_t (*read)(void *arg, uint64_t at, char *out, size_t cap);
	void (*over)(void *arg);
	void *arg;
};
/** 200. The call lets go of its fleet and policy: they are not asked for any more. */
void call_answer_stream(struct call *c, const struct call_stream *stream);

typedef void call_sent_fn(struct control *c);
/** Calls fn once the answer has left, or can't any more. */
void call_when_sent(struct call *c, call_sent_fn *fn);

/**
 * Suspends the call. From here on it is not the handler's any more: the waiting is handed to
 * whoever answers. NULL: no memory, or the API stops; the call has been answered.
 */
struct waiting *call_wait(struct call *c) WARN_UNUSED;
/**
 * Once for each call_wait. The call, to be answered and then given to waiting_done; NULL: nobody
 * waits any more.
 */
struct call *waiting_take(struct waiting *w) WARN_UNUSED;
/** The call has its answer: it goes on. */
void waiting_done(struct waiting *w);

/* ---- for the HTTP server ---- */

/** NULL: out of memory. */
struct call *call_new(struct calls *all, struct MHD_Connection *connection);
void call_free(struct call *c); /* NULL is fine; the request is over */
/**
 * Reads and decodes the query's arguments. False: one is faulty or not the route's, and the call
 * has been answered.
 */
bool call_take_arguments(struct call *c, const struct route *route) WARN_UNUSED;
/**
 * The path from its first "*" on, still encoded: "NAME", "NAME/word" or "NAME/word/KEY". False:
 * faulty or too long.
 */
bool call_take_name(struct call *c, const char *encoded) WARN_UNUSED;
/**
 * Adds to the body. Where it is too much the call has been answered, nothing is held any more, and
 * the rest is thrown away. False: even that is too much, the connection is to be closed.
 */
bool call_take_body(struct call *c, const char *bytes, size_t len) WARN_UNUSED;
bool call_is_answered(const struct call *c);
/**
 * Does it wait now? To be asked by the HTTP thread straight after the handler; if so nothing else
 * may be.
 */
bool call_waits(const struct call *c);
/** Hands the answer to the server. False: the connection is to be closed. */
bool call_queue(struct call *c) WARN_UNUSED;

#endif
