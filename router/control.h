/*
 * control: the door through which the admin side sees and changes a running router. Values in, values out; no session, no worker.
 *
 * All functions may be called from any thread (the HTTP server's). Those that ask workers or the control thread take a callback, which
 * comes exactly once, from another thread, possibly before the call returns; CONTROL_DEADLINE_MS bounds it: a worker that does
 * not answer in time is left out and `incomplete` says so. The rest answer at once from atomics.
 */
#ifndef ROUTER_CONTROL_H
#define ROUTER_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/counters.h"
#include "base/endpoint.h"
#include "base/histogram.h"
#include "policy/policy.h"
#include "router/events.h"
#include "socks/verdict.h"
#include "upstream/fleet.h"
#include "upstream/prober.h"

struct control;

enum { CONTROL_DEADLINE_MS = 5000 };

enum control_state { CONTROL_RUNNING, CONTROL_DRAINING };

/* ---- at once ---- */

struct control_status {
	enum control_state state;
	uint64_t uptime_ms;
	unsigned workers;
	unsigned stuck_workers;                /* whose loop has not turned for 5 s */
};
void control_get_status(struct control *c, struct control_status *out);
/** The fleet (and with it the policy) in force, with a reference: fleet_unref when done. */
struct fleet *control_fleet(struct control *c);
/** Sums over workers, in the order of base/counters.h. */
void control_sum_counters(struct control *c, uint64_t out[COUNTER_N]);
/** Answers given, by verdict. */
void control_sum_replies(struct control *c, uint64_t out[VERDICT_N]);
/** Times from accept to a whole request, over all workers. */
void control_sum_handshakes(struct control *c, struct histogram_sums *out);
/** Times that the turns of the workers' loops took. */
void control_sum_turns(struct control *c, struct histogram_sums *out);
/** Bytes held for sessions and for what they have under way. */
struct control_memory {
	uint64_t sessions, buffers;
};
void control_get_memory(struct control *c, struct control_memory *out);
/** Open sessions and accepted ones of a listener of the policy in force (index as in policy->listeners). */
struct control_listener {
	bool listening;
	uint64_t open, accepted, refused;
};
void control_get_listener(struct control *c, const struct policy *p, size_t listener, struct control_listener *out);
/** Hits of a rule of the policy in force; rule == n_rules: the default route. */
uint64_t control_rule_hits(struct control *c, const struct policy *p, size_t rule);

/** What happened lately: router/events.h. Valid as long as the router. */
struct events *control_events(struct control *c);

/* ---- policy ---- */

enum control_put { CONTROL_PUT_OK, CONTROL_PUT_FAULTY, CONTROL_PUT_MISMATCH /* If-Match */,
	CONTROL_PUT_UNFIT /* for the state that this process is in */, CONTROL_PUT_FAILED /* the system */ };

struct control_policy_change {
	const char *text;                      /* copied; NULL: read the file again */
	size_t len;
	const char *if_match;                  /* an etag, without quotes; copied; NULL: any */
	bool persist;                          /* write it to the policy's file too */
};

struct control_policy_answer {
	enum control_put result;
	const struct policy_errors *errors;    /* FAULTY */
	const char *detail;                    /* the others that are not OK */
	uint64_t revision;                     /* OK */
	const char *etag;
};
typedef void control_policy_cb(const struct control_policy_answer *a, void *arg);
void control_change_policy(struct control *c, const struct control_policy_change *change, control_policy_cb *cb, void *arg);

/* ---- sessions ---- */

struct control_hop { char name[64]; uint32_t us; };

/* One session as the API shows it. Strings are in the struct. */
struct control_connection {
	uint64_t id;
	char client[64], user[64], to[ENDPOINT_TEXT_MAX];
	char listener[64], protocol[12], command[12], rule[64], route[64], state[16];
	uint64_t age_ms, idle_ms, bytes_up, bytes_down;
	uint32_t handshake_us, resolve_us, total_us;
	uint8_t n_hops, n_timed;               /* the time of the first n_timed is known */
	struct control_hop hops[PATH_HOPS_MAX + 1];
};

struct control_filter {                        /* empty strings match all */
	uint64_t id;                           /* 0: any */
	char client[64], user[256], upstream[256], to[ENDPOINT_TEXT_MAX];
};

typedef void control_connections_cb(const struct control_connection *list, size_t n, size_t total, bool incomplete, void *arg);
/** Sorted by id; n of total from offset on. */
void control_list_connections(struct control *c, const struct control_filter *f, size_t limit, size_t offset, control_connections_cb *cb, void *arg);

typedef void control_count_cb(size_t n, bool incomplete, void *arg);
/** Ends the sessions that match. n: how many. */
void control_close_connections(struct control *c, const struct control_filter *f, control_count_cb *cb, void *arg);

/* ---- upstreams ---- */

struct control_patch {
	int state;                             /* enum upstream_admin; -1: leave */
	int weight;                            /* 0-256; -1: leave */
};
/** False: no such upstream in force. At once (atomics and a pool look). */
bool control_patch_upstream(struct control *c, const char *name, const struct control_patch *patch);

enum control_probe_result { CONTROL_PROBE_DONE, CONTROL_PROBE_UNKNOWN, CONTROL_PROBE_FAILED /* ours */ };
typedef void control_probe_cb(enum control_probe_result result, const struct probe_result *r /* of DONE */, void *arg);
/** Asks an upstream now: a handshake, or where `to` is not NULL a tunnel to there. States are not changed by what it says. */
void control_probe(struct control *c, const char *name, const struct endpoint *to, control_probe_cb *cb, void *arg);
/**
 * Every trial along all upstreams of a policy that nobody serves, first hop first; waits for the end, in this thread.
 * False: it could not begin, and why.
 */
bool control_probe_alone(struct policy *p, const struct endpoint *to, struct probe_result results[PROBE_TRIALS], char *why, size_t cap);

/* ---- dns ---- */

struct control_dns_entry { char name[ENDPOINT_NAME_MAX + 1]; uint64_t ttl_ms; size_t n; struct endpoint addrs[8]; };
typedef void control_dns_cb(const struct control_dns_entry *list, size_t n, bool incomplete, void *arg);
/** Caches of all workers, merged by name. */
void control_list_dns(struct control *c, control_dns_cb *cb, void *arg);
void control_drop_dns(struct control *c, const char *name /* NULL: all */, control_count_cb *cb, void *arg);
/** Looks a name up as a worker would, for explain. */
typedef void control_resolve_cb(bool ok, const struct endpoint *addrs, size_t n, void *arg);
void control_resolve(struct control *c, const char *name, control_resolve_cb *cb, void *arg);
/**
 * The same by the dns block of a policy that nobody serves, within its timeouts.connect as a session's look-up; waits for the end, in
 * this thread. Returns how many addresses it has put into list; 0: none, for whatever reason.
 */
size_t control_resolve_alone(const struct policy *p, const char *name, struct endpoint *list, size_t cap);

/* ---- the process ---- */

/** As SIGTERM. */
void control_drain(struct control *c);

#endif
