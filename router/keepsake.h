/*
 * keepsake: what of the live state goes with a takeover: who is pinned to which member in sticky pools.
 *
 * A file in memory: for each entry the names of pool and member and the key, each with its NUL. Entries begin their time to live
 * anew; what the heir's policy does not know any more is left out. The control thread, before the heir's workers run.
 */
#ifndef ROUTER_KEEPSAKE_H
#define ROUTER_KEEPSAKE_H

#include "upstream/fleet.h"

/** Under what key it travels. */
#define KEEPSAKE_KEY "keepsake"

/** A descriptor of the caller's, -1: nothing to keep, or no memory. */
int keepsake_write(struct fleet *f);
/** Takes fd; -1 is fine. */
void keepsake_read(struct fleet *f, int fd);

#endif
