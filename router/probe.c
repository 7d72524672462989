/*
 * probe: upstreams asked on request: one of the policy in force, on the control thread, and a path of
 * a policy that nobody serves, for the command. See control.h and upstream/prober.h.
 */
#include "router/probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ares.h>

#include "base/gss_pool.h"
#include "dns/resolver.h"
#include "router/router.h"
#include "upstream/board.h"

enum { PROBE_TIMEOUT_MS = 5000 };

struct errand {
	struct message message;
	struct list link;              /* in control->probes, once it is under way */
	struct prober *prober;
	char name[POLICY_NAME_MAX + 1];
	struct endpoint to;            /* kind NONE: none */
	control_probe_cb *cb;
	void *arg;
};

static void
answer(struct errand *e, enum control_probe_result result, const struct probe_result *r)
{
	e->cb(result, r, e->arg);
	free(e);
}

/* The one that goes there; to nowhere: as far as the upstream itself. */
static enum probe_trial
trial_for(const struct endpoint *to)
{
	switch (to->kind) {
	case ENDPOINT_NONE:
		return PROBE_HANDSHAKE;
	case ENDPOINT_NAME:
		return PROBE_CONNECT_NAME;
	case ENDPOINT_IPV4:
		return PROBE_CONNECT_IPV4;
	default:
		return PROBE_CONNECT_IPV6;
	}
}

static void
on_probed(const struct probe_result results[PROBE_TRIALS], void *arg)
{
	struct errand *e = arg;
	list_remove(&e->link);
	answer(e, CONTROL_PROBE_DONE, &results[trial_for(&e->to)]);
}

static bool
find_upstream(const struct policy *p, const char *name, uint32_t *out)
{
	for (uint32_t i = 0; i < p->n_upstreams; i++)
		if (strcmp(p->upstreams[i].name, name) == 0) {
			*out = i;
			return true;
		}
	return false;
}

static void
on_asked(struct message *m, void *owner, bool closing)
{
	struct errand *e = CONTAINER_OF(m, struct errand, message);
	struct control *c = owner;
	struct probe_plan plan = { .path.n_hops = 1, .to = e->to, .timeout_ms = PROBE_TIMEOUT_MS };
	if (closing) {
		answer(e, CONTROL_PROBE_FAILED, NULL);
		return;
	}
	plan.fleet = c->revision->fleet;
	if (!find_upstream(fleet_policy(plan.fleet), e->name, &plan.path.hops[0])) {
		answer(e, CONTROL_PROBE_UNKNOWN, NULL);
		return;
	}
	plan.trials = 1u << trial_for(&e->to);
	e->prober = prober_start(c->loop, c->dialer, c->resolver, &plan, on_probed, e);
	if (e->prober == NULL)
		answer(e, CONTROL_PROBE_FAILED, NULL);
	else
		list_append(&c->probes, &e->link);
}

void
control_probe(struct control *c, const char *name, const struct endpoint *to, control_probe_cb *cb,
	      void *arg)
{
	struct errand *e = calloc(1, sizeof *e);
	if (e == NULL || strlen(name) > POLICY_NAME_MAX) {
		free(e);
		cb(e == NULL ? CONTROL_PROBE_FAILED : CONTROL_PROBE_UNKNOWN, NULL, arg);
		return;
	}
	list_init(&e->message.link);
	list_init(&e->link);
	e->message.handle = on_asked;
	snprintf(e->name, sizeof e->name, "%s", name);
	if (to != NULL)
		e->to = *to;
	e->cb = cb;
	e->arg = arg;
	if (!mailbox_post(c->mailbox, &e->message))
		answer(e, CONTROL_PROBE_FAILED, NULL);
}

void
probe_abandon(struct control *c)
{
	while (!list_empty(&c->probes)) {
		struct errand *e = LIST_OBJECT(c->probes.next, struct errand, link);
		list_remove(&e->link);
		prober_cancel(e->prober);
		answer(e, CONTROL_PROBE_FAILED, NULL);
	}
}

/* ---- without a router ---- */

struct alone {
	struct loop *loop;
	struct resolver *resolver;
	struct dialer *dialer;
	struct gss_pool *gss;
	struct board *board;
	struct fleet *fleet;
	struct prober *prober;
	struct probe_result *results;
};

static void
on_probed_alone(const struct probe_result results[PROBE_TRIALS], void *arg)
{
	struct alone *a = arg;
	memcpy(a->results, results, PROBE_TRIALS * sizeof *results);
	loop_stop(a->loop);
}

static bool
set_up(struct alone *a, struct policy *p, char *why, size_t cap)
{
	snprintf(why, cap, "out of memory or descriptors");
	return (a->loop = loop_new()) != NULL &&
	       (a->resolver = resolver_new(a->loop, &p->dns)) != NULL &&
	       (a->dialer = dialer_new(a->loop, a->resolver)) != NULL &&
	       (a->gss = gss_pool_new(1)) != NULL &&
	       (a->board = board_new()) != NULL &&
	       (a->fleet = fleet_new(p, a->board, why, cap)) != NULL;
}

static void
tear_down(struct alone *a)
{
	fleet_unref(a->fleet);
	dialer_free(a->dialer);
	gss_pool_free(a->gss);
	resolver_free(a->resolver);
	board_free(a->board);
	loop_free(a->loop);
}

bool
control_probe_alone(struct policy *p, const struct endpoint *to,
		    struct probe_result results[PROBE_TRIALS], char *why, size_t cap)
{
	struct alone a = { .results = results };
	struct probe_plan plan = { .to = *to,
		                   .trials = (1u << PROBE_TRIALS) - 1,
		                   .timeout_ms = PROBE_TIMEOUT_MS };
	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) {
		snprintf(why, cap, "out of memory");
		return false;
	}
	bool ok = set_up(&a, p, why, cap);
	plan.fleet = a.fleet;
	for (; plan.path.n_hops < p->n_upstreams && plan.path.n_hops < PATH_HOPS_MAX; plan.path.n_hops++)
		plan.path.hops[plan.path.n_hops] = plan.path.n_hops;
	if (ok)
		dialer_use_gss(a.dialer, a.gss);
	if (ok)
		a.prober = prober_start(a.loop, a.dialer, a.resolver, &plan, on_probed_alone, &a);
	ok = ok && a.prober != NULL;
	if (ok)
		loop_run(a.loop);
	tear_down(&a);
	ares_library_cleanup();
	return ok;
}
