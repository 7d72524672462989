#include "router/client_name.h"

#include <stdio.h>
#include <stdlib.h>

#include "dns/resolver.h"
#include "dns/reverse.h"

struct client_name {
	struct resolver *resolver;
	struct reverse *reverse;
	struct resolve *resolve;
	struct endpoint client;
	uint64_t timeout_ms;
	client_name_cb *cb;
	void *arg;
	char name[ENDPOINT_NAME_MAX + 1];
};

void
client_name_cancel(struct client_name *c)
{
	if (c == NULL)
		return;
	reverse_cancel(c->reverse);
	resolve_cancel(c->resolve);
	free(c);
}

static void
tell(struct client_name *c, bool found)
{
	c->cb(found ? c->name : "", c->arg);
	free(c);
}

static void
on_addresses(enum dns_error err, const struct endpoint *addrs, size_t n, void *arg)
{
	struct client_name *c = arg;
	bool leads_back = false;
	c->resolve = NULL;
	for (size_t i = 0; err == DNS_OK && i < n; i++)
		leads_back |= endpoint_same_host(&addrs[i], &c->client);
	tell(c, leads_back);
}

static void
on_name(enum dns_error err, const char *name, void *arg)
{
	struct client_name *c = arg;
	c->reverse = NULL;
	if (err != DNS_OK) {
		tell(c, false);
		return;
	}
	snprintf(c->name, sizeof c->name, "%s", name);
	c->resolve = resolve_start(c->resolver, c->name, c->timeout_ms, on_addresses, c);
	if (c->resolve == NULL)
		tell(c, false);
}

struct client_name *
client_name_start(struct resolver *r, const struct endpoint *client, uint64_t timeout_ms, client_name_cb *cb, void *arg)
{
	struct client_name *c = calloc(1, sizeof *c);
	if (c == NULL)
		return NULL;
	c->resolver = r;
	c->client = *client;
	c->timeout_ms = timeout_ms;
	c->cb = cb;
	c->arg = arg;
	c->reverse = reverse_start(r, client, timeout_ms, on_name, c);
	if (c->reverse != NULL)
		return c;
	free(c);
	return NULL;
}
