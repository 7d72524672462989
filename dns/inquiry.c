/*
 * inquiry: see the header.
 *
 *   ASKED --all answers--> settled, ended
 *     \--addresses of one kind, grace over--> settled --the late answer--> ended
 */
#include "dns/inquiry.h"

#include "dns/cache.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

bool
family_wants(enum dns_family family, enum record record)
{
	if (family == DNS_IPV4_ONLY)
		return record == RECORD_A;
	return family != DNS_IPV6_ONLY || record == RECORD_AAAA;
}

static bool
is_waiting(const struct inquiry *q)
{
	return q->questions[RECORD_A].state == QUESTION_UNDER_WAY ||
	       q->questions[RECORD_AAAA].state == QUESTION_UNDER_WAY;
}

static const struct answer *
answer_of(const struct inquiry *q, enum record record)
{
	const struct question *question = &q->questions[record];
	return question->state == QUESTION_ANSWERED ? &question->ask.answer : NULL;
}

/*
 * An address to go on with: with those that lead nowhere it is better to wait for the other kind.
 */
static bool
has_good_address(struct inquiry *q)
{
	address_sources_refresh(q->sources, loop_now(q->loop));
	for (enum record record = 0; record < RECORD_N; record++) {
		const struct answer *a = answer_of(q, record);
		for (size_t i = 0; a != NULL && i < a->n; i++) {
			if (address_is_wanted(q->family, &a->addrs[i]) &&
			    address_is_reachable(q->sources, &a->addrs[i]))
				return true;
		}
	}
	return false;
}

static void
settle(struct inquiry *q)
{
	loop_clear_deadline(q->loop, &q->grace);
	if (q->settled)
		return;
	q->settled = true;
	q->ops->on_settled(q);
}

static void
on_grace(struct deadline *d)
{
	settle(CONTAINER_OF(d, struct inquiry, grace));
}

static void
begin_grace(struct inquiry *q)
{
	bool a_is_there = q->questions[RECORD_A].state == QUESTION_ANSWERED;
	if (q->settled || deadline_armed(&q->grace) || !has_good_address(q))
		return;
	loop_set_deadline(q->loop, &q->grace,
			  a_is_there ? INQUIRY_WAIT_FOR_AAAA_MS : INQUIRY_WAIT_FOR_A_MS);
}

/* The asks lie in the inquiry, one for each record, in their order. */
static void
on_done(struct ask *ask)
{
	struct question *question = CONTAINER_OF(ask, struct question, ask);
	struct question *first = question - ask->record;
	struct inquiry *q = CONTAINER_OF(first, struct inquiry, questions);

	question->state = QUESTION_ANSWERED;
	q->ops->on_answer(q, ask->record, &ask->answer);
	if (is_waiting(q)) {
		begin_grace(q);
		return;
	}
	settle(q);
	q->ops->on_ended(q);
}

struct inquiry *
inquiry_new(struct loop *l, const char *name, enum dns_family family,
	    struct address_sources *sources, const struct inquiry_ops *ops)
{
	size_t size = strlen(name) + 1;
	struct inquiry *q = calloc(1, sizeof *q + size);
	if (q == NULL)
		return NULL;
	memcpy(q->name, name, size);
	q->node.name = q->name;
	list_init(&q->link);
	list_init(&q->waiters);
	q->loop = l;
	q->family = family;
	q->sources = sources;
	q->ops = ops;
	deadline_init(&q->grace, on_grace);
	return q;
}

static void
take_known(struct question *question, const struct cache_outcome *known)
{
	struct answer *a = &question->ask.answer;
	a->kind = known->n > 0 ? ANSWER_ADDRESSES : ANSWER_NO_DATA;
	a->n = (uint8_t)known->n;
	if (known->n > 0)
		memcpy(a->addrs, known->addrs, known->n * sizeof *a->addrs);
	question->state = QUESTION_ANSWERED;
}

unsigned
inquiry_start(struct inquiry *q, struct channel *c, const struct cache_entry *known)
{
	uint64_t now = loop_now(q->loop);
	unsigned asked = 0;

	for (enum record record = 0; record < RECORD_N; record++) {
		struct question *question = &q->questions[record];
		const struct cache_outcome *o = NULL;
		if (!family_wants(q->family, record))
			continue;
		if (known != NULL)
			o = cache_outcome(known, record, now);
		if (o != NULL) {
			take_known(question, o);
			continue;
		}
		question->state = QUESTION_UNDER_WAY;
		channel_ask(c, &question->ask, q->name, record, on_done);
		asked++;
	}
	assert(asked > 0);
	begin_grace(q);
	return asked;
}

/* Failures are not answers: "not found" needs all that was asked to say so. */
static enum dns_error
error_of(const struct inquiry *q)
{
	enum dns_error err = DNS_NOT_FOUND;
	for (enum record record = 0; record < RECORD_N; record++) {
		const struct answer *a = answer_of(q, record);
		if (q->questions[record].state == QUESTION_UNDER_WAY ||
		    (a != NULL && a->kind == ANSWER_TIMEOUT))
			return DNS_TIMEOUT;
		if (a != NULL && a->kind == ANSWER_FAILED)
			err = DNS_FAILED;
	}
	return err;
}

struct result *
inquiry_result(struct inquiry *q)
{
	struct dns_address addrs[RECORD_N * ANSWER_ADDRS_MAX];
	size_t n = 0;

	for (enum record record = 0; record < RECORD_N; record++) {
		const struct answer *a = answer_of(q, record);
		if (a == NULL)
			continue;
		memcpy(addrs + n, a->addrs, a->n * sizeof *addrs);
		n += a->n;
	}
	address_sources_refresh(q->sources, loop_now(q->loop));
	return result_new(q->sources, q->family, addrs, n, error_of(q));
}

void
inquiry_free(struct inquiry *q)
{
	loop_clear_deadline(q->loop, &q->grace);
	list_remove(&q->link);
	free(q);
}
