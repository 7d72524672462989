#include "admin/routes.h"

#include <string.h>

#include "admin/handlers.h"
#include "base/text.h"

#define LIST "limit offset"
#define FILTER "client user upstream to"

const struct route routes[] = {
	{ "GET", "/healthz", handle_healthz, ROUTE_OPEN, "" },
	{ "GET", "/readyz", handle_readyz, ROUTE_OPEN, "" },
	{ "GET", "/metrics", handle_metrics, ROUTE_NEEDS_TOKEN, "" },
	{ "GET", "/v1/status", handle_status, ROUTE_NEEDS_TOKEN, "" },
	{ "GET", "/v1/stats", handle_stats, ROUTE_NEEDS_TOKEN, "" },
	{ "GET", "/v1/upstreams", handle_upstreams, ROUTE_NEEDS_TOKEN, LIST },
	{ "GET", "/v1/upstreams/*", handle_upstream, ROUTE_NEEDS_TOKEN, "" },
	{ "PATCH", "/v1/upstreams/*", handle_patch_upstream, ROUTE_NEEDS_TOKEN, "" },
	{ "POST", "/v1/upstreams/*/probe", handle_probe_upstream, ROUTE_NEEDS_TOKEN, "to" },
	{ "GET", "/v1/pools", handle_pools, ROUTE_NEEDS_TOKEN, LIST },
	{ "GET", "/v1/pools/*", handle_pool, ROUTE_NEEDS_TOKEN, "" },
	{ "GET", "/v1/pools/*/sticky", handle_sticky, ROUTE_NEEDS_TOKEN, LIST },
	{ "DELETE", "/v1/pools/*/sticky", handle_drop_sticky, ROUTE_NEEDS_TOKEN, "" },
	{ "PUT", "/v1/pools/*/sticky/*", handle_put_sticky_key, ROUTE_NEEDS_TOKEN, "" },
	{ "DELETE", "/v1/pools/*/sticky/*", handle_drop_sticky_key, ROUTE_NEEDS_TOKEN, "" },
	{ "GET", "/v1/chains", handle_chains, ROUTE_NEEDS_TOKEN, LIST },
	{ "GET", "/v1/rules", handle_rules, ROUTE_NEEDS_TOKEN, LIST },
	{ "GET", "/v1/listeners", handle_listeners, ROUTE_NEEDS_TOKEN, LIST },
	{ "GET", "/v1/connections", handle_connections, ROUTE_NEEDS_TOKEN, FILTER " " LIST },
	{ "DELETE", "/v1/connections", handle_close_connections, ROUTE_NEEDS_TOKEN, FILTER },
	{ "DELETE", "/v1/connections/*", handle_close_connection, ROUTE_NEEDS_TOKEN, "" },
	{ "GET", "/v1/policy", handle_policy, ROUTE_NEEDS_TOKEN, "" },
	{ "PUT", "/v1/policy", handle_put_policy, ROUTE_NEEDS_TOKEN, "persist" },
	{ "POST", "/v1/policy/check", handle_check_policy, ROUTE_NEEDS_TOKEN, "" },
	{ "POST", "/v1/policy/reload", handle_reload_policy, ROUTE_NEEDS_TOKEN, "" },
	{ "GET", "/v1/explain", handle_explain, ROUTE_NEEDS_TOKEN,
	  "to client user listener protocol command" },
	{ "GET", "/v1/events", handle_events, ROUTE_NEEDS_TOKEN, "" },
	{ "GET", "/v1/dns/cache", handle_dns_cache, ROUTE_NEEDS_TOKEN, LIST },
	{ "DELETE", "/v1/dns/cache", handle_drop_dns, ROUTE_NEEDS_TOKEN, "name" },
	{ "GET", "/v1/log/level", handle_log_level, ROUTE_NEEDS_TOKEN, "" },
	{ "PUT", "/v1/log/level", handle_put_log_level, ROUTE_NEEDS_TOKEN, "" },
	{ "POST", "/v1/drain", handle_drain, ROUTE_NEEDS_TOKEN, "" },
};
const size_t n_routes = ARRAY_LEN(routes);

/* From what stands for the first "*" on, "" without one; NULL: the path is another. */
static const char *
match(const char *pattern, const char *path)
{
	const char *name = NULL;
	while (*pattern != '\0') {
		if (*pattern != '*') {
			if (*pattern++ != *path++)
				return NULL;
			continue;
		}
		size_t len = strcspn(path, "/");
		if (len == 0)
			return NULL;
		name = name != NULL ? name : path;
		path += len;
		pattern++;
	}
	return *path != '\0' ? NULL : name != NULL ? name : path;
}

const struct route *
routes_find(const char *method, const char *path, const char **name, char allow[ROUTE_ALLOW_MAX])
{
	const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
	size_t len = 0;
	allow[0] = '\0';
	for (size_t i = 0; i < n_routes; i++) {
		const char *rest = match(routes[i].pattern, path);
		if (rest == NULL)
			continue;
		if (strcmp(routes[i].method, wanted) == 0) {
			*name = rest;
			allow[0] = '\0';
			return &routes[i];
		}
		bool get = strcmp(routes[i].method, "GET") == 0;
		text_append(allow, ROUTE_ALLOW_MAX, &len, "%s%s%s", len > 0 ? ", " : "",
			    routes[i].method, get ? ", HEAD" : "");
	}
	return NULL;
}

bool
route_takes_argument(const struct route *r, const char *name)
{
	size_t len = strlen(name);
	for (const char *at = r->arguments; *at != '\0'; at += strspn(at, " ")) {
		size_t word = strcspn(at, " ");
		if (word == len && strncmp(at, name, len) == 0)
			return true;
		at += word;
	}
	return false;
}
