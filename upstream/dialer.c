/*
 * dialer: dials, from what was asked for to how it ended: what is copied, who is told, what is
 * freed. How one is tried is in attempt.h.
 */
#include "upstream/dialer.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/idn.h"
#include "base/text.h"
#include "upstream/dial.h"
#include "upstream/warm.h"

const char *
dial_stage_text(enum dial_stage s)
{
	static const char *const texts[] = {"pick", "resolve",   "connect",
					    "tls",  "handshake", "done"};
	return (size_t)s < ARRAY_LEN(texts) ? texts[s] : "unknown";
}

/* ---- the dialer ---- */

enum { TLS_TURN_US = 2000 };

struct dialer *
dialer_new(struct loop *l, struct resolver *r)
{
	struct dialer *d = calloc(1, sizeof *d);
	if (d == NULL || (d->mailbox = mailbox_open(l, d)) == NULL) {
		free(d);
		return NULL;
	}
	d->loop = l;
	d->resolver = r;
	list_init(&d->dials);
	turn_share_init(&d->tls, l, TLS_TURN_US);
	slab_init(&d->dial_slab, sizeof(struct dial), offsetof(struct dial, first) + ATTEMPT_HEAD);
	slab_init(&d->racer_slab, sizeof(struct racer), ATTEMPT_HEAD);
	slab_init(&d->shake_slab, sizeof(struct shake), offsetof(struct shake, username));
	d->warm = warm_new(l, d);
	if (d->warm == NULL) {
		dialer_free(d);
		return NULL;
	}
	return d;
}

void
dialer_free(struct dialer *d)
{
	if (d == NULL)
		return;
	warm_free(d->warm);
	while (!list_empty(&d->dials))
		dial_cancel(LIST_OBJECT(d->dials.next, struct dial, link));
	turn_share_free(&d->tls);
	mailbox_free(d->mailbox);
	slab_free(&d->dial_slab);
	slab_free(&d->racer_slab);
	slab_free(&d->shake_slab);
	free(d);
}

void
dialer_trim(struct dialer *d)
{
	slab_trim(&d->dial_slab);
	slab_trim(&d->racer_slab);
	slab_trim(&d->shake_slab);
}

void
dialer_use_gss(struct dialer *d, struct gss_pool *p)
{
	d->gss = p;
}

void
dialer_keep_warm(struct dialer *d, struct fleet *f, unsigned n_workers)
{
	warm_use(d->warm, f, n_workers);
}

/* ---- a dial ---- */

static void
dial_free(struct dial *x)
{
	list_remove(&x->link);
	race_free(x);
	dial_free_addresses(&x->given);
	dial_free_addresses(&x->destination);
	fleet_unref(x->request.fleet);
	slab_give_back(&x->dialer->dial_slab, x);
}

void
dial_end(struct attempt *a)
{
	struct dial *x = a->dial;
	if (a->result.verdict != VERDICT_GRANTED && !a->decides && race_has_others(a)) {
		race_leave(a);
		return;
	}
	race_end(a);
	a->result.attempts = x->n_attempts;
	a->result.n_raced = x->n_raced;
	a->result.n_passed = x->n_passed;
	a->result.won_late = a != &x->first;
	x->telling = true;
	x->cb(&a->result, x->arg);
	dial_free(x);
}

/* Copies what the request points to. False: out of memory, or a name that no protocol carries. */
static bool
copy_request(struct dial *x, const struct dial_request *r)
{
	memcpy(&x->request, r, offsetof(struct dial_request, to));
	endpoint_copy(&x->request.to, &r->to);
	x->request.key.to = idn_known_form(&x->request.to, &x->known_to);
	x->request.key.command = (uint8_t)r->command;
	x->request.key.user = x->user;
	x->request.key.session = x->session;
	text_copy(x->user, sizeof x->user, r->key.user);
	text_copy(x->session, sizeof x->session, r->key.session);
	if (r->key.client != NULL) {
		endpoint_copy(&x->client, r->key.client);
		x->request.key.client = &x->client;
	} else {
		endpoint_clear(&x->client);
	}
	if (r->fixed != NULL) {
		x->fixed = *r->fixed;
		x->request.fixed = &x->fixed;
	}
	if (r->avoid != NULL)
		x->tried = *r->avoid;
	x->request.avoid = NULL;
	x->request.addrs = NULL;
	x->request.n_addrs = 0;
	return r->n_addrs == 0 ||
	       dial_keep_addresses(x, &x->given, r->addrs, r->n_addrs, r->to.port);
}

struct dial *
dial_start(struct dialer *d, const struct dial_request *request, struct stream *out, dial_cb *cb,
	   void *arg)
{
	struct dial *x = slab_take(&d->dial_slab);
	if (x == NULL)
		return NULL;
	x->dialer = d;
	x->out = out;
	x->cb = cb;
	x->arg = arg;
	list_init(&x->link);
	list_append(&d->dials, &x->link);
	race_init(x);
	attempt_init(&x->first, x, out);
	bool copied = copy_request(x, request);
	fleet_ref(x->request.fleet);
	if (!copied) {
		dial_free(x);
		return NULL;
	}
	attempt_start(&x->first);
	if (x->first.stage == DIAL_DONE)
		loop_defer(d->loop, &x->first.ended);
	return x;
}

void
dial_cancel(struct dial *x)
{
	if (x == NULL || x->telling)
		return;
	race_stop(x);
	dial_free(x);
}

bool
dial_waits(const struct dial *x)
{
	return LIST_OBJECT(x->attempts.next, struct attempt, link)->wait != NULL;
}

unsigned
dial_raced(const struct dial *x)
{
	return x->n_raced;
}

enum dial_stage
dial_stage(const struct dial *x, struct path *path)
{
	const struct attempt *a = LIST_OBJECT(x->attempts.next, struct attempt, link);
	*path = a->result.path;
	return a->stage;
}
