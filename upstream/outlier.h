/*
 * outlier: members that fail real requests are taken out for a while, however well they look to
 * checks.
 *
 *   NONE --`failures` within `window`--> EJECTED --its time is over--> TRIAL --a request--> TRIED
 *    ^                                      ^                                                | |
 *    |                                      `------------- that failed too -----------------' |
 *    `------------------------------------- that was served ---------------------------------'
 *
 * An upstream is ejected for all pools at once, by the rules of the pool in which it failed, and for
 * twice as long each time (OUTLIER_LONGER times at most); for each such while that it then does
 * well one time is forgotten. A trial that says nothing (the client left) is followed by another
 * one after the pool's `ejection`. All of it is on the board: `ejection` and until_ms are atomic,
 * the rest is under the entry's lock; who may be ejected is decided under one mutex of the board.
 * There is no timer: a pick that finds one due lets it out.
 */
#ifndef UPSTREAM_OUTLIER_H
#define UPSTREAM_OUTLIER_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/policy.h"
#include "upstream/board.h"

enum { OUTLIER_LONGER = 16 };

/**
 * A request failed by its fault. True: enough of them did within the window, or it was its trial,
 * so it is to be ejected if the pool can spare it.
 */
bool outlier_note_failure(struct board_entry *e, const struct policy_outlier *conf, uint64_t now_ms);
/** Until when is returned. Whoever watches is to be told. */
uint64_t outlier_eject(struct board_entry *e, const struct policy_outlier *conf, uint64_t now_ms);
/** It served a request. True: that was its trial, and it is back: whoever watches is to be told. */
bool outlier_note_success(struct board_entry *e, uint64_t now_ms);
/**
 * Its time is over: a trial is due. True: whoever watches is to be told. *next_ms: brought down to
 * when there is something to do.
 */
bool outlier_revive(struct board_entry *e, uint64_t now_ms, uint64_t *next_ms);

#endif
