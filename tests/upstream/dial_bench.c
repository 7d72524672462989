/*
 * dial_bench: a dialer with all that it stands on. See dial_bench.h.
 */
#include "tests/upstream/dial_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/loop.h"
#include "dns/resolver.h"
#include "tests/upstream/peer.h"

enum { TIMEOUT_MS = 60000 };

void
bench_open(struct dial_bench *b)
{
	memset(b, 0, sizeof *b);
	b->descriptors = open_descriptors();
	b->loop = loop_new();
	assert_non_null(b->loop);
	stream_init(&b->out, b->loop);
}

static struct policy *
load(const char *members)
{
	char text[8192];
	struct policy_errors errors;
	struct policy_source from = {.text = text, .name = "test"};
	bool has_default = strstr(members, "'default_route'") != NULL;
	from.len = (size_t)snprintf(text, sizeof text, "{%s%s%s}", members,
				    has_default          ? ""
				    : members[0] != '\0' ? ", "
							 : "",
				    has_default ? "" : "'default_route': 'direct'");
	for (char *c = text; *c != '\0'; c++)
		*c = *c == '\'' ? '"' : *c;
	policy_errors_init(&errors);
	struct policy *p = policy_load(&from, &errors);
	if (p == NULL)
		fail_msg("%s\n%s", text, policy_errors_to_text(&errors, "test"));
	policy_errors_free(&errors);
	return p;
}

void
bench_load(struct dial_bench *b, const char *format, ...)
{
	char members[8000], why[256];
	va_list args;
	va_start(args, format);
	vsnprintf(members, sizeof members, format, args);
	va_end(args);
	b->policy = load(members);
	b->board = board_new();
	assert_non_null(b->board);
	b->fleet = fleet_new(b->policy, b->board, why, sizeof why);
	if (b->fleet == NULL)
		fail_msg("%s", why);
	b->resolver = resolver_new(b->loop, &b->policy->dns);
	assert_non_null(b->resolver);
	b->dialer = dialer_new(b->loop, b->resolver);
	assert_non_null(b->dialer);
	b->request = (struct dial_request){
	    .fleet = b->fleet, .command = SOCKS_CONNECT, .timeout_ms = TIMEOUT_MS};
}

void
bench_close(struct dial_bench *b)
{
	bench_give_back(b);
	if (b->fleet != NULL)
		assert_int_equal(bench_in_use(b), 0);
	dialer_free(b->dialer);
	resolver_free(b->resolver);
	fleet_unref(b->fleet);
	if (b->board != NULL)
		board_free(b->board);
	policy_unref(b->policy);
	loop_free(b->loop);
	assert_int_equal(open_descriptors(), b->descriptors);
}

static void
on_dialed(const struct dial_result *r, void *arg)
{
	struct dial_bench *b = arg;
	b->told++;
	b->done = true;
	b->result = *r;
	snprintf(b->detail, sizeof b->detail, "%s", r->detail);
	assert_true(r->early_len < sizeof b->early);
	if (r->early_len > 0)
		memcpy(b->early, r->early, r->early_len);
	b->early[r->early_len] = '\0';
	b->result.detail = b->detail;
	b->result.early = NULL;
	if (b->on_told != NULL)
		b->on_told(b);
}

struct dial *
bench_start(struct dial_bench *b, const char *route, const char *to)
{
	assert_true(policy_find_route(b->policy, route, &b->request.route));
	assert_int_equal(endpoint_from_text(&b->request.to, to, strlen(to)), ENDPOINT_OK);
	b->told = 0;
	b->done = false;
	struct dial *x = dial_start(b->dialer, &b->request, &b->out, on_dialed, b);
	assert_non_null(x);
	assert_int_equal(b->told, 0);
	return x;
}

void
bench_finish(struct dial_bench *b, enum verdict want)
{
	if (!turn_until(b->loop, &b->done))
		fail_msg("it never ended");
	turn_some(b->loop);
	assert_int_equal(b->told, 1);
	if (b->result.verdict != want)
		fail_msg("%s: %s (%s), expected %s", b->what != NULL ? b->what : "dial",
			 verdict_text(b->result.verdict), b->detail, verdict_text(want));
	assert_int_equal(stream_is_open(&b->out), want == VERDICT_GRANTED);
	assert_int_equal(b->result.path.held, want == VERDICT_GRANTED && b->request.fixed == NULL);
	assert_int_equal(b->result.stage == DIAL_DONE, want == VERDICT_GRANTED);
	if (want != VERDICT_GRANTED) {
		assert_int_equal(bench_in_use(b), 0);
		assert_string_not_equal(b->detail, "");
	}
}

void
bench_dial(struct dial_bench *b, const char *route, const char *to, enum verdict want)
{
	bench_start(b, route, to);
	bench_finish(b, want);
}

void
bench_give_back(struct dial_bench *b)
{
	stream_close(&b->out);
	if (b->fleet != NULL)
		fleet_give_back_path(b->fleet, &b->result.path);
	b->result.path.held = false;
}

unsigned
bench_in_use(struct dial_bench *b)
{
	unsigned n = board_in_use(fleet_direct(b->fleet));
	for (uint32_t i = 0; i < b->policy->n_upstreams; i++)
		n += board_in_use(fleet_upstream(b->fleet, i));
	for (uint32_t i = 0; i < b->policy->n_pools; i++)
		n += board_in_use(fleet_pool(b->fleet, i));
	for (uint32_t i = 0; i < b->policy->n_chains; i++)
		n += board_in_use(fleet_chain(b->fleet, i));
	return n;
}

struct board_entry *
bench_entry(struct dial_bench *b, const char *name)
{
	struct policy_route r;
	if (name == NULL)
		return fleet_direct(b->fleet);
	assert_true(policy_find_route(b->policy, name, &r) && r.kind == ROUTE_UPSTREAM);
	return fleet_upstream(b->fleet, r.index);
}
