/*
 * bench_policy: how long a policy with a set of a million domains takes to load, what memory it
 * holds, and how long one decision takes with 1, 100 and 10,000 rules. `make bench-policy` runs it;
 * it writes to a temporary directory only.
 *
 * Each decision is timed by itself, on a name drawn at random, so the set's memory is as cold as in
 * use; the time that reading the clock takes is measured first and subtracted.
 */
#include "base/hash.h"
#include "policy/decide.h"
#include "policy/domain_set.h"
#include "policy/policy.h"
#include "policy/rule_index.h"
#include "socks/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { N_DOMAINS = 1000000, N_DECISIONS = 200000, LOAD_GOAL_MS = 2000, DECISION_GOAL_NS = 1000 };

static const char set_name[] = "domains.txt", policy_name[] = "policy.json";

static void
give_up(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t
now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static double
resident_mib(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	if (f == NULL || fscanf(f, "%*s %ld", &pages) != 1)
		pages = 0;
	if (f != NULL)
		fclose(f);
	return (double)pages * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

/* ---- what is loaded ---- */

/* The i-th domain of the set: of two to four labels, 10 to 40 bytes, as block lists have them. */
static void
set_domain(char out[64], uint32_t i)
{
	static const char *const ends[] = {"com",        "net",  "org", "de",
					   "co.example", "info", "io",  "example"};
	uint32_t mixed = i * 2654435761u;
	const char *end = ends[mixed >> 29];
	switch (i % 3) {
	case 0: snprintf(out, 64, "d%x.%s", i, end); break;
	case 1: snprintf(out, 64, "ads-%x.tracker%u.%s", mixed, i % 5000, end); break;
	default: snprintf(out, 64, "cdn%u.pixel-%x.%s", i % 97, i, end); break;
	}
}

static void
write_set(void)
{
	char name[64];
	FILE *f = fopen(set_name, "w");
	for (uint32_t i = 0; f != NULL && i < N_DOMAINS; i++) {
		set_domain(name, i);
		fprintf(f, "%s\n", name);
	}
	if (f == NULL || fclose(f) != 0)
		give_up(set_name);
}

/* All kinds of keys in turn, none of which the requests for the set meet. */
static void
write_rule(FILE *f, unsigned i)
{
	switch (i % 5) {
	case 0: fprintf(f, "{\"match\": {\"domain_suffix\": [\"r%u.rules.test\"]}, \"route\": \"direct\"}", i); break;
	case 1: fprintf(f, "{\"match\": {\"domain\": [\"www.r%u.rules.test\"]}, \"route\": \"direct\"}", i); break;
	case 2: fprintf(f, "{\"match\": {\"ip_cidr\": [\"10.%u.%u.0/24\"]}, \"route\": \"direct\"}", i / 256, i % 256); break;
	case 3: fprintf(f, "{\"match\": {\"user\": [\"user%u\"], \"port\": [443, \"8000-9000\"]}, \"route\": \"direct\"}", i); break;
	default: fprintf(f, "{\"match\": {\"port\": [%u], \"client_cidr\": [\"172.16.%u.0/24\"]}, \"route\": \"direct\"}", 10000 + i, i % 256);
	}
}

/* The rule on the set is the last one. */
static void
write_policy(unsigned n_rules)
{
	FILE *f = fopen(policy_name, "w");
	if (f == NULL)
		give_up(policy_name);
	fprintf(f, "{\"sets\": [{\"name\": \"million\", \"type\": \"domain\", \"file\": \"%s\"}],\n\"rules\": [", set_name);
	for (unsigned i = 0; i + 1 < n_rules; i++) {
		write_rule(f, i);
		fprintf(f, ",\n");
	}
	fprintf(f, "{\"name\": \"set\", \"match\": {\"set\": [\"million\"]}, \"route\": \"reject\"}], \"default_route\": \"direct\"}\n");
	if (fclose(f) != 0)
		give_up(policy_name);
}

static struct policy *
load(void)
{
	struct policy_errors errors;
	policy_errors_init(&errors);
	struct policy *p = policy_load_file(policy_name, NULL, &errors);
	if (p == NULL) {
		char *text = policy_errors_to_text(&errors, policy_name);
		fprintf(stderr, "%s", text != NULL ? text : "out of memory\n");
		exit(1);
	}
	policy_errors_free(&errors);
	return p;
}

/* ---- requests ---- */

enum wanted { WANT_SET, WANT_RULE, WANT_NOTHING };

static void
draw_host(enum wanted what, unsigned n_rules, struct random *r, char out[80])
{
	uint32_t drawn = random_below(r, N_DOMAINS);
	uint32_t rule = n_rules > 5 ? random_below(r, (n_rules - 1) / 5) * 5 : 0;
	switch (what) {
	case WANT_SET:
		snprintf(out, 80, "%s", random_below(r, 2) ? "www." : "");
		set_domain(out + strlen(out), drawn);
		break;
	case WANT_RULE:
		if (random_below(r, 3) == 0)
			snprintf(out, 80, "10.%u.%u.7", (rule + 2) / 256, (rule + 2) % 256);
		else
			snprintf(out, 80, "a.b.r%u.rules.test", rule);
		break;
	case WANT_NOTHING:
		snprintf(out, 80, "www.site-%x.example.net", drawn);
		break;
	}
}

static int
compare_ns(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

/* What reading the clock twice takes, the median of many. */
static uint64_t
clock_cost_ns(uint32_t *samples)
{
	for (size_t i = 0; i < N_DECISIONS; i++) {
		uint64_t start = now_ns();
		samples[i] = (uint32_t)(now_ns() - start);
	}
	qsort(samples, N_DECISIONS, sizeof *samples, compare_ns);
	return samples[N_DECISIONS / 2];
}

/* Times decisions into samples, sorted. False: a decision was not the one wanted. */
static bool
decide_many(const struct policy *p, enum wanted what, unsigned n_rules, uint64_t cost,
	    uint32_t *samples)
{
	struct random r;
	struct endpoint client = { .kind = ENDPOINT_NONE }, to = { .port = 443 };
	struct policy_request q = {.protocol = PROTOCOL_SOCKS5,
				   .command = SOCKS_CONNECT,
				   .client = &client,
				   .to = &to,
				   .user = "nobody"};
	bool right = true;
	random_seed(&r, 1 + (uint64_t)what);
	endpoint_set_ipv4(&client, (const uint8_t[4]){ 192, 0, 2, 1 }, 0);
	for (size_t i = 0; i < N_DECISIONS; i++) {
		char host[80];
		struct policy_decision d;
		draw_host(what, n_rules, &r, host);
		if (endpoint_set_host(&to, host, strlen(host)) != ENDPOINT_OK)
			return false;
		uint64_t start = now_ns();
		policy_decide(p, &q, &d);
		uint64_t took = now_ns() - start;
		samples[i] = (uint32_t)(took > cost ? took - cost : 0);
		int last = (int)n_rules - 1;
		right &= what == WANT_SET       ? d.rule == last
			 : what == WANT_NOTHING ? d.rule == -1
						: d.rule >= 0 && d.rule < last;
	}
	qsort(samples, N_DECISIONS, sizeof *samples, compare_ns);
	return right;
}

static bool
bench_rules(unsigned n_rules, uint64_t cost, uint32_t *samples)
{
	static const char *const texts[] = { "in the set", "a rule's own", "in nothing" };
	bool met = true;
	write_policy(n_rules);
	double before = resident_mib();
	uint64_t start = now_ns();
	struct policy *p = load();
	double load_ms = (double)(now_ns() - start) / 1e6;
	printf("%u rule%s: loaded in %.0f ms; set %.1f MiB for %zu domains, index %.2f MiB, "
	       "process +%.1f MiB\n",
	       n_rules, n_rules == 1 ? "" : "s", load_ms,
	       (double)domain_set_bytes(p->sets[0].domains) / (1 << 20), p->sets[0].n_entries,
	       (double)rule_index_bytes(p->index) / (1 << 20), resident_mib() - before);
	met &= load_ms < LOAD_GOAL_MS;
	for (enum wanted what = WANT_SET; what <= WANT_NOTHING; what++) {
		if (what == WANT_RULE && n_rules == 1)
			continue;
		if (!decide_many(p, what, n_rules, cost, samples)) {
			fprintf(stderr, "a destination %s met the wrong rule\n", texts[what]);
			exit(1);
		}
		printf("    destination %-13s median %4u ns, p99 %5u ns\n", texts[what],
		       samples[N_DECISIONS / 2], samples[N_DECISIONS / 100 * 99]);
		met &= samples[N_DECISIONS / 2] < DECISION_GOAL_NS;
	}
	policy_unref(p);
	return met;
}

int
main(void)
{
	static const unsigned counts[] = { 1, 100, 10000 };
	char dir[] = "/tmp/sockroute-bench-XXXXXX";
	uint32_t *samples = calloc(N_DECISIONS, sizeof *samples);
	bool met = true;
	if (samples == NULL || mkdtemp(dir) == NULL || chdir(dir) != 0)
		give_up("temporary directory");
	hash_start();
	write_set();
	uint64_t cost = clock_cost_ns(samples);
	for (size_t i = 0; i < ARRAY_LEN(counts); i++)
		met &= bench_rules(counts[i], cost, samples);
	printf("goals (load < %d ms, median decision < %d ns): %s\n", LOAD_GOAL_MS,
	       DECISION_GOAL_NS, met ? "met" : "NOT met");
	unlink(set_name);
	unlink(policy_name);
	if (chdir("/") != 0 || rmdir(dir) != 0)
		give_up(dir);
	free(samples);
	return 0;
}
