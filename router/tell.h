/*
 * tell: what operators are told when something changes: a line of the log, an event for those who watch, or both.
 */
#ifndef ROUTER_TELL_H
#define ROUTER_TELL_H

#include "router/control.h"
#include "router/events.h"
#include "router/revision.h"
#include "upstream/board.h"

/** A board_news_cb: an event. arg: the struct events. */
void tell_board_news(const struct board_news *news, void *arg);
/** A health_cb: a line of the log; the board tells the event. */
void tell_health(const char *upstream, enum upstream_state before, enum upstream_state now, const char *why, void *arg);

/** before: NULL at the start. */
void tell_in_force(struct events *e, const struct revision *before, const struct revision *now);
/** Every error of a policy file, for the log. */
void tell_errors(const struct policy_errors *errors, const char *file);
/** A change that was not made. */
void tell_refused(struct events *e, const struct revision *in_force, const char *source, const struct control_policy_answer *a);
/** The drain begins. */
void tell_draining(struct events *e, const struct revision *in_force);

#endif
