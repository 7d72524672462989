#include "router/revision.h"

#include <stdlib.h>
#include <string.h>

#include "base/tls.h"

enum { LINE = 64 / sizeof(atomic_uint_least64_t) };

static void
revision_free(struct revision *r)
{
	for (size_t i = 0; r->fronts != NULL && i < r->policy->n_listeners; i++)
		front_unref(r->fronts[i]);
	for (size_t i = 0; r->tls != NULL && i < r->policy->n_listeners; i++)
		tls_context_free(r->tls[i]);
	free(r->tls);
	free(r->fronts);
	fleet_unref(r->fleet);
	policy_unref(r->policy);
	free(r->hits);
	free(r);
}

struct revision *
revision_new(struct policy *p, struct fleet *f, struct front **fronts, unsigned n_workers)
{
	size_t stride = (p->n_rules + 1 + LINE - 1) / LINE * LINE;
	struct revision *r = calloc(1, sizeof *r);
	struct front **copy = calloc(p->n_listeners + 1, sizeof *copy);
	atomic_uint_least64_t *hits = aligned_alloc(64, n_workers * stride * sizeof *hits);
	struct tls_context **tls = calloc(p->n_listeners + 1, sizeof *tls);
	if (r == NULL || copy == NULL || hits == NULL || tls == NULL) {
		for (size_t i = 0; i < p->n_listeners; i++)
			front_unref(fronts[i]);
		fleet_unref(f);
		policy_unref(p);
		free(r);
		free(copy);
		free(hits);
		free(tls);
		return NULL;
	}
	memset(hits, 0, n_workers * stride * sizeof *hits);
	if (p->n_listeners > 0)
		memcpy(copy, fronts, p->n_listeners * sizeof *copy);
	r->policy = p;
	r->fleet = f;
	r->fronts = copy;
	r->tls = tls;
	r->n_workers = n_workers;
	r->hits_stride = stride;
	r->hits = hits;
	atomic_init(&r->refs, 1);
	return r;
}

size_t
revision_load_tls(struct revision *r, char *why, size_t cap)
{
	size_t n = r->policy->n_listeners;
	for (size_t i = 0; i < n; i++) {
		const struct policy_listener_tls *conf = &r->policy->listeners[i].tls;
		struct tls_options options = policy_listener_tls_options(conf);
		if (conf->certificate != NULL && (r->tls[i] = tls_context_new(&options, why, cap)) == NULL)
			return i;
	}
	return n;
}

struct revision *
revision_ref(struct revision *r)
{
	atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
	return r;
}

void
revision_unref(struct revision *r)
{
	if (r != NULL && atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) == 1)
		revision_free(r);
}

uint64_t
revision_sum_hits(const struct revision *r, size_t rule)
{
	uint64_t sum = 0;
	for (unsigned w = 0; w < r->n_workers; w++)
		sum += atomic_load_explicit(&r->hits[w * r->hits_stride + rule], memory_order_relaxed);
	return sum;
}
