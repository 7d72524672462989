/*
 * resolve_alone: a look-up by a policy that nobody serves, for the command. See control.h.
 */
#include "router/control.h"

#include <ares.h>

#include "base/loop.h"
#include "dns/resolver.h"

struct answer {
	struct loop *loop;
	struct endpoint *list;
	size_t cap, n;
};

static void
on_resolved(enum dns_error err, const struct endpoint *addrs, size_t n, void *arg)
{
	struct answer *a = arg;
	for (size_t i = 0; err == DNS_OK && i < n && a->n < a->cap; i++)
		a->list[a->n++] = addrs[i];
	loop_stop(a->loop);
}

size_t
control_resolve_alone(const struct policy *p, const char *name, struct endpoint *list, size_t cap)
{
	struct answer a = { .list = list, .cap = cap };
	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
		return 0;
	struct resolver *r = (a.loop = loop_new()) != NULL ? resolver_new(a.loop, &p->dns) : NULL;
	if (r != NULL && resolve_start(r, name, p->timeouts.connect_ms, on_resolved, &a) != NULL)
		loop_run(a.loop);
	resolver_free(r);
	loop_free(a.loop);
	ares_library_cleanup();
	return a.n;
}
