#include "router/places.h"

#include "router/relay.h"

static unsigned
lesser(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

struct places
places_deal(unsigned all, unsigned used, unsigned n_workers)
{
	unsigned left = all > used ? all - used : 0;
	unsigned eighth = left / 8;
	unsigned pipes = lesser(eighth / 2 / n_workers, RELAY_PIPES_MAX);
	unsigned sessions = (left - 2 * pipes * n_workers - lesser(eighth, PLACES_BESIDE)) / 2;
	return (struct places){ .sessions = sessions > 0 ? sessions : 1, .pipes = pipes };
}
