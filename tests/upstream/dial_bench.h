/*
 * dial_bench: a dialer with all that it stands on (a policy, its fleet, a resolver), for tests: one
 * dial at a time, what it told, and the proof that nothing was left behind.
 */
#ifndef TESTS_UPSTREAM_DIAL_BENCH_H
#define TESTS_UPSTREAM_DIAL_BENCH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/base.h"
#include "base/stream.h"
#include "upstream/dialer.h"
#include "upstream/fleet.h"

struct dial_bench {
	struct loop *loop;
	struct policy *policy;
	struct board *board;
	struct fleet *fleet;
	struct resolver *resolver;
	struct dialer *dialer;
	struct stream out;
	struct dial_request request; /* for the next dials; zeroed but for fleet, command, time */
	unsigned descriptors;        /* before any of it */
	const char *what; /* the row of a table that is at work, for failures; NULL: none */
	unsigned told;
	bool done;
	void (*on_told)(struct dial_bench *b); /* from inside the callback; NULL: nothing */
	/* what was told last; the pointers lead to the copies below */
	struct dial_result result;
	char detail[256], early[16384];
};

/** The loop; then servers and peers may be made, and bench_load called with what they are. */
void bench_open(struct dial_bench *b);
/** members: of the policy's object, as JSON; text in '' becomes text in "". What has no
 * default_route gets "direct". */
void bench_load(struct dial_bench *b, const char *format, ...) PRINTF_LIKE(2, 3);
/** Gives back what was granted; asserts that no slot is held and, after all was freed, that no
 * descriptor is open. */
void bench_close(struct dial_bench *b);

/** Starts a dial along a route of that name, to "host:port". */
struct dial *bench_start(struct dial_bench *b, const char *route, const char *to);
/** Turns the loop until it is told; asserts the verdict and what always holds. */
void bench_finish(struct dial_bench *b, enum verdict want);
void bench_dial(struct dial_bench *b, const char *route, const char *to, enum verdict want);
/** Ends the session of what was granted. */
void bench_give_back(struct dial_bench *b);
/** All sessions that the board counts as open. */
unsigned bench_in_use(struct dial_bench *b);
/** The board's entry of an upstream; NULL: of "direct". */
struct board_entry *bench_entry(struct dial_bench *b, const char *name);

#endif
