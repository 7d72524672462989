/*
 * probe: the router's side of control_probe.
 */
#ifndef ROUTER_PROBE_H
#define ROUTER_PROBE_H

struct control;

/** Cancels all that are under way; who asked is told. The control thread has ended its loop. */
void probe_abandon(struct control *c);

#endif
