/*
 * request: policies and requests for the tests of matching and deciding, written as text.
 */
#ifndef TESTS_POLICY_REQUEST_H
#define TESTS_POLICY_REQUEST_H

#include "policy/decide.h"
#include "policy/policy.h"
#include "socks/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEST_ADDRS_MAX = 8 };

struct test_request {
	struct policy_request r;
	struct endpoint to, client, addrs[TEST_ADDRS_MAX];
};

static inline bool
test_host(struct endpoint *e, const char *text, size_t len)
{
	return endpoint_set_host(e, text, len) == ENDPOINT_OK;
}

/* to: "host:port"; client: an address or NULL for a Unix socket; addrs: "192.0.2.1 2001:db8::1" or
 * NULL. SOCKS5 CONNECT at listener 0. */
static inline bool
test_request_init(struct test_request *q, const char *to, const char *client, const char *addrs)
{
	memset(q, 0, sizeof *q);
	q->r = (struct policy_request){.protocol = PROTOCOL_SOCKS5,
				       .command = SOCKS_CONNECT,
				       .client = &q->client,
				       .to = &q->to};
	if (endpoint_from_text(&q->to, to, strlen(to)) != ENDPOINT_OK)
		return false;
	if (client != NULL && !test_host(&q->client, client, strlen(client)))
		return false;
	while (addrs != NULL && *addrs != '\0') {
		size_t len = strcspn(addrs, " ");
		if (!test_host(&q->addrs[q->r.n_addrs++], addrs, len))
			return false;
		q->r.addrs = q->addrs;
		addrs += len + strspn(addrs + len, " ");
	}
	return true;
}

/* Loads a policy, or prints its errors and gives NULL. */
static inline struct policy *
test_policy(const char *text)
{
	struct policy_errors errors;
	struct policy_source from = { .text = text, .len = strlen(text), .name = "test" };
	policy_errors_init(&errors);
	struct policy *p = policy_load(&from, &errors);
	char *why = p == NULL ? policy_errors_to_text(&errors, "test") : NULL;
	if (why != NULL)
		fprintf(stderr, "%s", why);
	free(why);
	policy_errors_free(&errors);
	return p;
}

#endif
