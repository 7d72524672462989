#include "router/spare.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "router/worker.h"

/* The cheapest that there is: it needs no memory to speak of, and nobody waits for what becomes of it. */
static int
open_one(void)
{
	return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

void
spare_note(struct shared *shared, uint64_t now_ms, int error)
{
	if (error == EMFILE || error == ENFILE)
		atomic_store_explicit(&shared->short_ms, now_ms, memory_order_relaxed);
}

bool
spare_look(struct shared *shared, uint64_t now_ms)
{
	int fd = open_one();
	bool found = fd >= 0;
	if (!found)
		spare_note(shared, now_ms, errno);
	spare_drop(&fd);
	return found;
}

bool
spare_take(struct shared *shared, uint64_t now_ms, int *spare)
{
	uint64_t at = atomic_load_explicit(&shared->short_ms, memory_order_relaxed);
	*spare = SPARE_NONE;
	if (at == 0 || now_ms > at + SPARE_SHORT_MS)
		return true;
	*spare = open_one();
	return *spare >= 0;
}

void
spare_drop(int *spare)
{
	if (*spare >= 0)
		close(*spare);
	*spare = SPARE_NONE;
}
