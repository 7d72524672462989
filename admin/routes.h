/*
 * routes: the one table of the API's calls: method, path, who handles it, and whether it needs the
 * token. What is not in it is not there.
 */
#ifndef ADMIN_ROUTES_H
#define ADMIN_ROUTES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/base.h"

struct call;

typedef void route_handler(struct call *c);

enum route_access {
	ROUTE_NEEDS_TOKEN, /* where one is set */
	ROUTE_OPEN,
};

struct route {
	const char *method;
	const char *pattern; /* a "*" stands for a name, a second one for a key */
	route_handler *handle;
	enum route_access access;
	const char *arguments; /* of the query, with a space between them; others are refused */
};

extern const struct route routes[];
extern const size_t n_routes;

enum { ROUTE_ALLOW_MAX = 64 };

bool route_takes_argument(const struct route *r, const char *name);

/**
 * The route of a request; HEAD is GET. path is still percent-encoded.
 * @param name   path from what stands for the first "*" on; "" where the pattern has none
 * @param allow  where the path is known and the method is not: the methods that are, as for
 *               `Allow`; else ""
 * @return NULL: there is none
 */
const struct route *routes_find(const char *method, const char *path, const char **name,
				char allow[ROUTE_ALLOW_MAX]) WARN_UNUSED;

#endif
