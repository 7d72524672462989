/*
 * publish: takes a policy from text to force: load, open what is new, write it down where asked, hand it to every worker, wait for all of
 * them, let the old one go. All or nothing: a fault at any step leaves everything as it was. One change at a time, in order.
 */
#ifndef ROUTER_PUBLISH_H
#define ROUTER_PUBLISH_H

#include "router/control.h"
#include "router/router.h"

struct change;

/** Builds the first revision. NULL: why. Takes the reference of p. */
struct revision *publish_first(struct control *c, struct policy *p, char *why, size_t cap);
/** The first revision is in force: checks, watches and log settings follow it. */
void publish_started(struct control *c);
/** A change from the API, by message; any thread. */
void publish_ask(struct control *c, const struct control_policy_change *change, control_policy_cb *cb, void *arg);
/** The file again (SIGHUP), or with same_text the text in force because a file that it names has changed. Control thread. */
void publish_reload(struct control *c, bool same_text);
/** Those that wait are answered FAILED. */
void publish_abandon(struct control *c);

#endif
