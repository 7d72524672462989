/*
 * spare: a descriptor that a client brings along for its dial, while the process is short of them.
 *
 * Once descriptors have run out, each that comes free is wanted twice: by accept(2) for a client in the backlog, and by clients that
 * left it and still have to dial. The former would win, only to meet the same shortage. So for SPARE_SHORT_MS after one a client
 * leaves the backlog only where there are two descriptors: the second is held, and let go when the request is known. Who must wait
 * does so in the backlog, and is not refused.
 */
#ifndef ROUTER_SPARE_H
#define ROUTER_SPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"

struct shared;

enum { SPARE_NONE = -1, SPARE_SHORT_MS = 60000 };

/** Any thread: error says that there are no descriptors (EMFILE, ENFILE); another one is none of our business. */
void spare_note(struct shared *shared, uint64_t now_ms, int error);
/** Something failed for want of resources: were it descriptors? False: there is none. */
bool spare_look(struct shared *shared, uint64_t now_ms);
/** Into *spare, SPARE_NONE where none is needed. False: there is none to be had, errno says why. */
bool spare_take(struct shared *shared, uint64_t now_ms, int *spare) WARN_UNUSED;
/** Lets it go; SPARE_NONE is fine, and is what is left. */
void spare_drop(int *spare);

#endif
