/*
 * bench_pool: what a pick costs, by algorithm and number of members, and what a new policy with
 * many upstreams costs. Prints two tables; fails where a bound is not held: a pick within 1 us at
 * 1,000 members and 2 us at 10,000, a policy of 10,000 upstreams in force within 1 s.
 *
 * A pick is what a session does: a path is picked for a client's key and given back.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "policy/policy.h"
#include "upstream/fleet.h"

enum { PICKS = 200000, CLIENTS = 1024, ROUNDS = 3 };

static const struct {
	const char *text;
	double bound_us[4];
} balances[] = {
	{ "round_robin", { 1, 1, 1, 2 } },
	{ "least_connections", { 1, 1, 1, 2 } },
	{ "two_choices", { 1, 1, 1, 2 } },
	{ "least_latency", { 1, 1, 1, 2 } },
	{ "random", { 1, 1, 1, 2 } },
	{ "consistent_hash", { 1, 1, 1, 2 } },
	{ "first", { 1, 1, 1, 2 } },
};

static const unsigned sizes[] = { 10, 100, 1000, 10000 };

/* A policy of n upstreams with a few weights, all in one pool. */
static struct policy *
policy_of(unsigned n, const char *balance, uint64_t *took_us)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	fprintf(out, "{\"upstreams\": [");
	for (unsigned i = 0; i < n; i++)
		fprintf(out, "%s{\"name\": \"u%u\", \"url\": \"socks5://10.%u.%u.%u:1080\"}", i > 0 ? "," : "", i,
			i >> 16, i >> 8 & 255, i & 255);
	fprintf(out, "], \"pools\": [{\"name\": \"p\", \"balance\": \"%s\", \"members\": [", balance);
	for (unsigned i = 0; i < n; i++)
		fprintf(out, "%s{\"name\": \"u%u\", \"weight\": %u}", i > 0 ? "," : "", i, 1 + i % 4);
	fprintf(out, "]}], \"default_route\": \"p\"}");
	fclose(out);
	struct policy_errors errors;
	policy_errors_init(&errors);
	uint64_t start = clock_now_us();
	struct policy *p = policy_load(&(struct policy_source){ .text = text, .len = len, .name = "bench" }, &errors);
	*took_us = clock_now_us() - start;
	if (p == NULL) {
		char *why = policy_errors_to_text(&errors, "bench");
		fputs(why != NULL ? why : "", stderr);
		exit(1);
	}
	policy_errors_free(&errors);
	free(text);
	return p;
}

static struct fleet *
fleet_of(struct policy *p, struct board *b)
{
	char why[256];
	struct fleet *f = fleet_new(p, b, why, sizeof why);
	if (f == NULL) {
		fprintf(stderr, "%s\n", why);
		exit(1);
	}
	return f;
}

/* Of the best round, in microseconds. */
static double
time_picks(struct fleet *f, const struct endpoint *clients)
{
	const struct policy_route route = fleet_policy(f)->default_route;
	double best = 1e9;
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t start = clock_now_us();
		for (unsigned i = 0; i < PICKS; i++) {
			const struct pick_key key = { .client = &clients[i % CLIENTS] };
			struct path path;
			if (fleet_pick_path(f, route, &key, NULL, &path) != PICK_OK)
				exit(1);
			fleet_give_back_path(f, &path);
		}
		double us = (double)(clock_now_us() - start) / PICKS;
		best = us < best ? us : best;
	}
	return best;
}

static bool
print_row(size_t balance, struct board *b, const struct endpoint *clients)
{
	bool ok = true;
	printf("%-18s", balances[balance].text);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		uint64_t took;
		struct policy *p = policy_of(sizes[i], balances[balance].text, &took);
		struct fleet *f = fleet_of(p, b);
		for (uint32_t u = 0; u < sizes[i]; u++)
			board_note_connect(fleet_upstream(f, u), 10000 + u * 7919 % 50000);
		double us = time_picks(f, clients);
		bool held = us <= balances[balance].bound_us[i];
		printf("%9.3f%s", us, held ? " " : "!");
		ok = ok && held;
		fleet_unref(f);
		policy_unref(p);
	}
	printf("\n");
	fflush(stdout);
	return ok;
}

/* The second of two fleets, so that board entries and old members are there already, as in a
 * running router. */
static bool
print_change(size_t balance, struct board *b)
{
	const unsigned n = 10000;
	uint64_t load_us, first_us;
	struct policy *before = policy_of(n - 1, balances[balance].text, &first_us);
	struct fleet *old = fleet_of(before, b);
	struct policy *p = policy_of(n, balances[balance].text, &load_us);
	uint64_t start = clock_now_us();
	struct fleet *f = fleet_of(p, b);
	uint64_t build_us = clock_now_us() - start;
	bool held = load_us + build_us < 1000000;
	printf("%-18s%9.1f%9.1f%s\n", balances[balance].text, (double)load_us / 1000, (double)build_us / 1000,
	       held ? "" : " !");
	fleet_unref(old);
	fleet_unref(f);
	policy_unref(before);
	policy_unref(p);
	return held;
}

int
main(void)
{
	static struct endpoint clients[CLIENTS];
	bool ok = true;
	hash_start();
	struct board *b = board_new();
	for (unsigned i = 0; i < CLIENTS; i++)
		endpoint_set_ipv4(&clients[i], (const uint8_t[]){ 192, 0, (uint8_t)(i >> 8), (uint8_t)i }, 4000);
	printf("a pick and its give-back, us\n%-18s", "members");
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		printf("%9u ", sizes[i]);
	printf("\n");
	for (size_t i = 0; i < ARRAY_LEN(balances); i++)
		ok = print_row(i, b, clients) && ok;
	printf("\na policy of 10000 upstreams, ms\n%-18s%9s%9s\n", "", "load", "build");
	for (size_t i = 0; i < ARRAY_LEN(balances); i++)
		ok = print_change(i, b) && ok;
	board_free(b);
	return ok ? 0 : 1;
}
