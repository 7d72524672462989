#include "dns/reverse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "dns/errand.h"

struct reverse {
	struct errand errand;
	struct loop *loop;
	struct deadline deadline;
	struct loop_task at_once;              /* known already, or nothing could be asked */
	reverse_cb *cb;                        /* NULL: given up, or told */
	void *arg;
};

const char *
reverse_name(const struct endpoint *address, char out[REVERSE_NAME_MAX])
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *a = address->addr;
	char *at = out;
	if (address->kind == ENDPOINT_IPV4) {
		snprintf(out, REVERSE_NAME_MAX, "%u.%u.%u.%u.in-addr.arpa", a[3], a[2], a[1], a[0]);
		return out;
	}
	for (int i = 15; i >= 0; i--) {
		*at++ = digits[a[i] & 15];
		*at++ = '.';
		*at++ = digits[a[i] >> 4];
		*at++ = '.';
	}
	memcpy(at, "ip6.arpa", sizeof "ip6.arpa");
	return out;
}

static void
reverse_free(struct errand *e)
{
	struct reverse *q = CONTAINER_OF(e, struct reverse, errand);
	loop_clear_deadline(q->loop, &q->deadline);
	loop_undefer(q->loop, &q->at_once);
	free(q);
}

/* Nobody is told twice, nor once it gave up. */
static void
tell(struct reverse *q, enum dns_error err, const char *name)
{
	reverse_cb *cb = q->cb;
	q->cb = NULL;
	if (cb != NULL)
		cb(err, name, q->arg);
}

static enum dns_error
error_of(const struct answer *a)
{
	switch ((enum answer_kind)a->kind) {
	case ANSWER_ADDRESSES: return DNS_OK;
	case ANSWER_NO_DATA:
	case ANSWER_NO_NAME: return DNS_NOT_FOUND;
	case ANSWER_TIMEOUT: return DNS_TIMEOUT;
	default: return DNS_FAILED;
	}
}

static void
on_done(struct errand *e)
{
	struct reverse *q = CONTAINER_OF(e, struct reverse, errand);
	char name[sizeof e->ask.answer.target];
	enum dns_error err = error_of(&e->ask.answer);
	reverse_cb *cb = q->cb;
	void *arg = q->arg;
	memcpy(name, e->ask.answer.target, sizeof name);
	reverse_free(e);
	if (cb != NULL)
		cb(err, err == DNS_OK ? name : "", arg);
}

static void
on_deadline(struct deadline *d)
{
	tell(CONTAINER_OF(d, struct reverse, deadline), DNS_TIMEOUT, "");
}

static void
on_at_once(struct loop_task *t)
{
	on_done(&CONTAINER_OF(t, struct reverse, at_once)->errand);
}

struct reverse *
reverse_start(struct resolver *r, const struct endpoint *address, uint64_t timeout_ms,
	      reverse_cb *cb, void *arg)
{
	char name[REVERSE_NAME_MAX];
	struct reverse *q = calloc(1, sizeof *q);
	if (q == NULL)
		return NULL;
	q->loop = resolver_loop(r);
	q->cb = cb;
	q->arg = arg;
	q->errand.done = on_done;
	q->errand.drop = reverse_free;
	snprintf(q->errand.name, sizeof q->errand.name, "%s", reverse_name(address, name));
	deadline_init(&q->deadline, on_deadline);
	loop_task_init(&q->at_once, on_at_once);
	q->errand.ask.answer.kind = ANSWER_FAILED;
	if (!errand_known(r, &q->errand, RECORD_PTR) && errand_start(r, &q->errand, RECORD_PTR))
		loop_set_deadline(q->loop, &q->deadline, timeout_ms);
	else
		loop_defer(q->loop, &q->at_once);
	return q;
}

void
reverse_cancel(struct reverse *q)
{
	if (q == NULL)
		return;
	if (list_linked(&q->at_once.link)) { /* nothing was asked: no answer will come to free it */
		reverse_free(&q->errand);
		return;
	}
	q->cb = NULL;
	loop_clear_deadline(q->loop, &q->deadline);
}
