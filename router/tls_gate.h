/*
 * tls_gate: how many TLS handshakes with clients a worker has under way, and how much of its time they get.
 *
 * A handshake costs a worker's loop a signature and some tens of KiB, before anybody has said who it is. So TLS_GATE_MAX of them are
 * inside; who comes beyond that waits outside, in the order in which it came, its bytes in the kernel, within `timeouts.handshake`.
 * And the steps of those inside have TLS_GATE_TURN_US of a turn of the loop (turn_share): what is left follows in the next turn, behind
 * the sessions that are open already.
 *
 * Who is inside and stalls keeps others out. So while somebody waits outside, those whom we have given TLS_GATE_PATIENCE_MS inside
 * are told to make way, who came first first, one for each who waits. Time that they waited for a step is ours, not theirs.
 *
 * Life: tls_gate_init -> passes come and go -> tls_gate_free. The worker's thread.
 */
#ifndef ROUTER_TLS_GATE_H
#define ROUTER_TLS_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"
#include "base/counters.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/turn_share.h"

enum { TLS_GATE_MAX = 512, TLS_GATE_TURN_US = 2000, TLS_GATE_PATIENCE_MS = 3000, TLS_GATE_LOOK_MS = 100 };

struct tls_gate {
	struct loop *loop;
	struct counters *counters;
	unsigned n_inside;
	struct list inside, outside;           /* in the order in which they came in, or to the door */
	struct turn_share share;               /* of those inside */
	struct loop_task room;                 /* somebody may come in */
	struct deadline look;                  /* while somebody waits outside */
};

/** go: take a step now (tls_gate_may_step will say yes). Else: it must make way. From the loop; the pass may be given back in it. */
typedef void tls_pass_cb(void *arg, bool go);

/* One handshake's. Embedded by its owner. */
struct tls_pass {
	struct tls_gate *gate;                 /* NULL: it needs none */
	tls_pass_cb *told;
	void *arg;
	struct list link;                      /* in gate->inside or gate->outside */
	struct turn_step step;
	uint64_t since_ms;                     /* inside; later by what it waited for us */
	bool inside;
};

void tls_gate_init(struct tls_gate *g, struct loop *l, struct counters *c);
/** All passes have been given back. */
void tls_gate_free(struct tls_gate *g);

/** g: NULL where no gate is to be passed. */
void tls_pass_init(struct tls_pass *p, struct tls_gate *g, tls_pass_cb *told, void *arg);
/** May the handshake take a step now? False: `told` comes when it may. */
bool tls_gate_may_step(struct tls_pass *p) WARN_UNUSED;
/** The step that it took was so long. */
void tls_gate_note_step(struct tls_pass *p, uint64_t us);
/** The handshake is done, or given up. Again is fine. */
void tls_pass_give_back(struct tls_pass *p);

#endif
