/*
 * race_stage: upstreams a, b, c of a pool p, each with a peer that plays a script, for tests of races; on a fake clock.
 *
 * Life: stage_set_up -> load_three, or add_peer and bench_load -> dials -> stage_tear_down, which asserts that no peer complains.
 */
#ifndef TESTS_UPSTREAM_RACE_STAGE_H
#define TESTS_UPSTREAM_RACE_STAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/upstream/dial_bench.h"
#include "tests/upstream/peer.h"

#define TO "203.0.113.9:80"
#define SILENT ""
#define GREETED "<050100 >0500 "
#define ASKED GREETED "<05010001cb0071090050 "
#define YES ">05000001000000000000 "
#define GRANTS ASKED YES
#define FAILS ASKED ">05010001000000000000 "
/* Byte by byte, so that it takes more turns than anything else here. */
#define GRANTS_SLOWLY                                                                              \
	"<'CONNECT 203.0.113.9:80 HTTP/1.1~Host: 203.0.113.9:80~~' :'HTTP/1.1 200 Fine~Via: "       \
	"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" \
	"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx~~' "

enum { START_MS = 5000000, DELAY_MS = 200, LIMIT_MS = 10000, PEERS_MAX = 4 };

struct stage {
	struct dial_bench bench;
	struct peer *peers[PEERS_MAX];
	size_t n;
};

void pass_ms(uint64_t ms);
int stage_set_up(void **state);
int stage_tear_down(void **state);
uint16_t add_peer(struct stage *s, const char *script);
/** The pool p of a, b and c in that order; more: of the pool's keys. */
void load_three(struct stage *s, const char *script_a, const char *script_b, const char *script_c, const char *more);
void turn_a_few(struct stage *s);
struct dial *start(struct stage *s);
void pass_delay(struct stage *s);
void assert_path(struct stage *s, const char *upstream);
void assert_attempts(struct stage *s, unsigned attempts, unsigned raced, bool won_late);
unsigned failures(struct stage *s, const char *name);
/** Until the upstream is blamed for so many. */
void await_failures(struct stage *s, const char *name, unsigned n);
void await_accepted(struct stage *s, size_t peer, unsigned n);
void await_left(struct stage *s, size_t peer, unsigned n);
/** What the caller has is the connection to that peer. */
void assert_speaks_to(struct stage *s, size_t peer);

#endif
