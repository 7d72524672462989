#include "router/tell.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* ---- upstreams and pools ---- */

void
tell_board_news(const struct board_news *news, void *arg)
{
	struct router_event e = {
		.kind = news->kind == BOARD_NEWS_QUEUE_FULL ? EVENT_POOL : EVENT_UPSTREAM,
		.what = news->kind == BOARD_NEWS_QUEUE_FULL ? "queue_full" : news->kind == BOARD_NEWS_DRAINED ? "drained" : news->now,
		.was = news->was,
		.now = news->now,
		.n_turned_away = news->n_turned_away,
	};
	snprintf(e.name, sizeof e.name, "%s", news->name);
	snprintf(e.why, sizeof e.why, "%s", news->why);
	events_post(arg, &e);
}

void
tell_health(const char *upstream, enum upstream_state before, enum upstream_state now, const char *why, void *arg)
{
	(void)before, (void)arg;
	struct log_line l;
	log_begin(&l, now == UPSTREAM_UP ? LOG_INFO : LOG_WARN, now == UPSTREAM_UP ? "upstream is up" : "upstream is down");
	log_str(&l, "upstream", upstream);
	log_str(&l, "why", why);
	log_end(&l);
}

/* ---- listeners ---- */

static bool
has_front(const struct revision *r, const struct front *f)
{
	for (size_t i = 0; r != NULL && i < r->policy->n_listeners; i++)
		if (r->fronts[i] == f)
			return true;
	return false;
}

static void
post_listener(struct events *e, const char *what, const struct revision *of, size_t i)
{
	struct router_event event = { .kind = EVENT_LISTENER, .what = what };
	snprintf(event.name, sizeof event.name, "%s", of->policy->listeners[i].name);
	snprintf(event.where, sizeof event.where, "%s", of->fronts[i]->key);
	events_post(e, &event);
}

/* The listeners of one revision that the other does not have. Either may be NULL. */
static void
tell_listeners(struct events *e, const char *message, const char *what, const struct revision *of, const struct revision *than)
{
	for (size_t i = 0; of != NULL && i < of->policy->n_listeners; i++) {
		struct log_line l;
		if (has_front(than, of->fronts[i]))
			continue;
		log_begin(&l, LOG_INFO, message);
		log_str(&l, "name", of->policy->listeners[i].name);
		log_str(&l, "listen", of->fronts[i]->key);
		log_end(&l);
		post_listener(e, what, of, i);
	}
}

void
tell_draining(struct events *e, const struct revision *in_force)
{
	log_say(LOG_INFO, "draining: no new clients, open sessions may end");
	for (size_t i = 0; i < in_force->policy->n_listeners; i++)
		post_listener(e, "draining", in_force, i);
}

/* ---- the policy ---- */

static struct router_event
policy_event(const char *what, const struct policy *in_force, const char *source, const char *why)
{
	struct router_event e = { .kind = EVENT_POLICY, .what = what, .revision = in_force->revision };
	snprintf(e.etag, sizeof e.etag, "%s", in_force->etag);
	snprintf(e.where, sizeof e.where, "%s", source);
	snprintf(e.why, sizeof e.why, "%s", why);
	return e;
}

void
tell_in_force(struct events *e, const struct revision *before, const struct revision *now)
{
	const struct policy *p = now->policy;
	struct router_event event = policy_event("in_force", p, p->source, "");
	struct log_line l;
	log_begin(&l, LOG_INFO, "policy in force");
	log_num(&l, "revision", (int64_t)p->revision);
	log_str(&l, "source", p->source);
	log_str(&l, "etag", p->etag);
	log_end(&l);
	events_post(e, &event);
	tell_listeners(e, "listener added", "opened", now, before);
	tell_listeners(e, "listener removed", "closed", before, now);
}

void
tell_errors(const struct policy_errors *errors, const char *file)
{
	char *text = policy_errors_to_text(errors, file);
	if (text == NULL)
		return;
	for (char *save, *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		struct log_line l;
		log_begin(&l, LOG_ERROR, "policy error");
		log_str(&l, "at", line);
		log_end(&l);
	}
	free(text);
}

/* The first error stands for all: the rest is in the log, or in the answer to who asked. */
static void
write_errors(const struct policy_errors *errors, char *out, size_t cap)
{
	size_t n = errors->n + errors->dropped;
	int len = snprintf(out, cap, "it has %zu error%s", n, n == 1 ? "" : "s");
	if (errors->n > 0 && (size_t)len < cap)
		snprintf(out + len, cap - (size_t)len, ": %s: %s", errors->list[0].pointer, errors->list[0].message);
}

void
tell_refused(struct events *e, const struct revision *in_force, const char *source, const struct control_policy_answer *a)
{
	char why[EVENT_TEXT_MAX];
	if (a->result == CONTROL_PUT_FAULTY)
		write_errors(a->errors, why, sizeof why);
	else
		snprintf(why, sizeof why, "%s", a->detail);
	log_say(LOG_WARN, "policy not changed: %s",
		a->result == CONTROL_PUT_FAULTY ? "it has errors; the one in force stays" : a->detail);
	struct router_event event = policy_event("refused", in_force->policy, source, why);
	events_post(e, &event);
}
