/*
 * policy: see policy.h. The document's top level, and the life of a policy.
 */
#include "policy/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "policy/domain_set.h"
#include "policy/errors.h"
#include "policy/ip_set.h"
#include "policy/json_scan.h"
#include "policy/names.h"
#include "policy/parse.h"
#include "policy/rule_index.h"
#include "policy/secrets.h"
#include "policy/sections.h"

enum { WORKERS_MAX = 1024, HINTS_MAX = 500000 };

/* What others see is inside; the rest is the owner's. */
struct policy_box {
	struct policy policy;
	struct arena arena;
	atomic_size_t refs;
};

static const struct parse_field policy_fields[] = {
	{ .key = "$schema", .kind = PARSE_COMMENT },
	{ .key = "workers",
	    .kind = PARSE_U32,
	    .offset = offsetof(struct policy, workers),
	    .max = WORKERS_MAX },
	{ .key = "log", .kind = PARSE_CUSTOM, .read = parse_log },
	{ .key = "listeners", .kind = PARSE_CUSTOM, .read = parse_listeners },
	{ .key = "auth", .kind = PARSE_CUSTOM, .read = parse_auths },
	{ .key = "admin", .kind = PARSE_CUSTOM, .read = parse_admin },
	{ .key = "dns", .kind = PARSE_CUSTOM, .read = parse_dns },
	{ .key = "upstreams", .kind = PARSE_CUSTOM, .read = parse_upstreams },
	{ .key = "pools", .kind = PARSE_CUSTOM, .read = parse_pools },
	{ .key = "chains", .kind = PARSE_CUSTOM, .read = parse_chains },
	{ .key = "sets", .kind = PARSE_CUSTOM, .read = parse_sets },
	{ .key = "rules", .kind = PARSE_CUSTOM, .read = parse_rules },
	{ .key = "default_route",
	    .kind = PARSE_CUSTOM,
	    .flags = PARSE_REQUIRED,
	    .read = parse_default_route },
	{ .key = "limits", .kind = PARSE_CUSTOM, .read = parse_limits },
	{ .key = "timeouts", .kind = PARSE_CUSTOM, .read = parse_timeouts },
};

static void
set_defaults(struct policy *p)
{
	p->log.level = LOG_INFO;
	p->log.format = LOG_TEXT;
	p->log.access = true;
	p->dns = (struct policy_dns){
		.timeout_ms = 2000,
		.attempts = 2,
		.family = DNS_AUTO,
		.cache_max_entries = 10000,
		.cache_max_ttl_ms = 3600 * 1000,
		.cache_negative_ttl_ms = 10 * 1000,
	};
	p->timeouts = (struct policy_timeouts){
		.handshake_ms = 10 * 1000,
		.connect_ms = 10 * 1000,
		.bind_ms = 120 * 1000,
		.idle_ms = 600 * 1000,
		.drain_ms = 30 * 1000,
		.udp_idle_ms = 60 * 1000,
	};
}

/* ---- life ---- */

static void
box_free(struct policy_box *b)
{
	if (b == NULL)
		return;
	for (size_t i = 0; b->policy.sets != NULL && i < b->policy.n_sets; i++) {
		domain_set_free(b->policy.sets[i].domains);
		ip_set_free(b->policy.sets[i].ips);
	}
	rule_index_free(b->policy.index);
	free((char *)b->policy.public_text);
	arena_free(&b->arena);
	free(b);
}

struct policy *
policy_ref(struct policy *p)
{
	struct policy_box *b = CONTAINER_OF(p, struct policy_box, policy);
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
	return p;
}

void
policy_unref(struct policy *p)
{
	if (p == NULL)
		return;
	struct policy_box *b = CONTAINER_OF(p, struct policy_box, policy);
	if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1)
		box_free(b);
}

/* ---- loading ---- */

/* "." and symbolic links are resolved, so that what hangs on it stays where it is. NULL: reported.
 */
static const char *
absolute_dir(struct parse_context *c, const char *dir)
{
	char *real = realpath(dir != NULL ? dir : ".", NULL);
	if (real == NULL) {
		policy_errors_add(c->errors, "", 0, 0, "the directory %s can't be used: %s",
		    dir != NULL ? dir : ".", strerror(errno));
		return NULL;
	}
	const char *kept = arena_copy_text(c->arena, real, strlen(real));
	if (kept == NULL)
		parse_error_memory(c);
	free(real);
	return kept;
}

/* The texts that a policy is known by. text: with secrets. */
static bool
keep_texts(struct parse_context *c, const struct policy_source *from, const struct json_value *root,
    const char *text, size_t len)
{
	struct policy *p = c->policy;
	p->source = arena_copy_text(c->arena, from->name, strlen(from->name));
	p->text = arena_copy_text(c->arena, text, len);
	p->text_len = len;
	p->public_text = secrets_public_text(root);
	snprintf(p->etag, sizeof p->etag, "%016llx", (unsigned long long)hash_keyed(text, len));
	p->loaded_at_ms = clock_wall_ms();
	if (p->source != NULL && p->text != NULL && p->public_text != NULL)
		return true;
	parse_error_memory(c);
	return false;
}

static bool
compile(struct parse_context *c, const struct json_value *root)
{
	names_collect(c, root);
	if (c->policy->names == NULL)
		return false;
	bool ok = parse_object(c, root, policy_fields, ARRAY_LEN(policy_fields), c->policy);
	if (!c->no_memory)
		policy_check(c, root);
	if (!ok || policy_errors_any(c->errors))
		return false;
	if ((c->policy->index = rule_index_new(c->policy)) == NULL)
		parse_error_memory(c);
	return c->policy->index != NULL;
}

/* The tree lives no longer than this; a policy's own strings are copies. */
static bool
load(struct parse_context *c, const struct policy_source *from, struct arena *scanned)
{
	char *merged = NULL;
	size_t merged_len = from->len;
	if ((c->dir = c->policy->dir = absolute_dir(c, from->dir)) == NULL)
		return false;
	struct json_value *root = json_scan(from->text, from->len, scanned, c->errors);
	if (root == NULL)
		return false;
	bool ok = secrets_merge(c, root, from->text, from->len, from->before, &merged, &merged_len);
	ok = compile(c, root) && ok;
	ok = ok && keep_texts(c, from, root, merged != NULL ? merged : from->text, merged_len);
	free(merged);
	return ok;
}

struct policy *
policy_load(const struct policy_source *from, struct policy_errors *errors)
{
	struct policy_box *b = calloc(1, sizeof *b);
	struct arena scanned;
	if (b == NULL) {
		policy_errors_add(errors, "", 0, 0, "out of memory");
		return NULL;
	}
	arena_init(&b->arena);
	arena_init(&scanned);
	atomic_init(&b->refs, 1);
	set_defaults(&b->policy);
	struct parse_context c = {
		.policy = &b->policy, .errors = errors, .arena = &b->arena, .hints_left = HINTS_MAX
	};
	bool ok = load(&c, from, &scanned) && !policy_errors_any(errors);
	names_forget_values(b->policy.names);
	arena_free(&scanned);
	policy_errors_sort(errors);
	if (ok)
		return &b->policy;
	box_free(b);
	return NULL;
}

/* The file's text, one byte more than a policy may have at most; NULL: errno, EFBIG for a file that
 * is known to be too large. A pipe is fine here: the user named it. */
static char *
read_policy_file(const char *path, size_t *len)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return NULL;
	bool sized = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
	if (sized && st.st_size > POLICY_BYTES_MAX) {
		close(fd);
		errno = EFBIG;
		return NULL;
	}
	size_t cap = sized ? (size_t)st.st_size + 1 : (size_t)POLICY_BYTES_MAX + 1;
	char *text = malloc(cap);
	ssize_t n = text != NULL ? parse_read_up_to(fd, text, cap) : -1;
	int error = errno;
	close(fd);
	if (n < 0) {
		free(text);
		errno = error;
		return NULL;
	}
	*len = (size_t)n;
	return text;
}

struct policy *
policy_load_file(const char *path, const struct policy *before, struct policy_errors *errors)
{
	struct policy_source from = { .name = path, .before = before };
	char *text = read_policy_file(path, &from.len);
	char *path_copy = strdup(path);
	struct policy *p = NULL;
	if (text == NULL && errno == EFBIG) {
		policy_errors_add(errors, "", 1, 1, DOCUMENT_TOO_LARGE, POLICY_BYTES_MAX);
	} else if (text == NULL) {
		policy_errors_add(
		    errors, "", 0, 0, "the file %s can't be read: %s", path, strerror(errno));
	} else if (path_copy == NULL) {
		policy_errors_add(errors, "", 0, 0, "out of memory");
	} else {
		from.text = text;
		from.dir = dirname(path_copy);
		p = policy_load(&from, errors);
	}
	free(path_copy);
	free(text);
	return p;
}

/* ---- questions ---- */

const char *
policy_route_name(const struct policy *p, struct policy_route r)
{
	switch ((enum route_kind)r.kind) {
	case ROUTE_UPSTREAM:
		return p->upstreams[r.index].name;
	case ROUTE_POOL:
		return p->pools[r.index].name;
	case ROUTE_CHAIN:
		return p->chains[r.index].name;
	case ROUTE_REJECT:
		return "reject";
	case ROUTE_DIRECT:
		break;
	}
	return "direct";
}

bool
policy_find_route(const struct policy *p, const char *name, struct policy_route *out)
{
	static const struct policy_route direct = { ROUTE_DIRECT, 0 }, reject = { ROUTE_REJECT, 0 };
	const struct name_entry *e = names_find(p->names, NAMES_ROUTES, name);
	bool is_direct = strcmp(name, "direct") == 0, is_reject = strcmp(name, "reject") == 0;
	if (e == NULL && !is_direct && !is_reject)
		return false;
	*out = e != NULL ? e->leads_to : is_direct ? direct : reject;
	return true;
}

bool
policy_route_needs_addresses(const struct policy *p, struct policy_route r)
{
	const struct policy_upstream *u;
	switch ((enum route_kind)r.kind) {
	case ROUTE_UPSTREAM:
		u = &p->upstreams[r.index];
		return u->scheme == SCHEME_DIRECT || u->scheme == SCHEME_SOCKS4 || u->resolve_local;
	case ROUTE_POOL:
		return p->pools[r.index].needs_addresses;
	case ROUTE_CHAIN:
		return p->chains[r.index].needs_addresses;
	case ROUTE_REJECT:
		return false;
	case ROUTE_DIRECT:
		break;
	}
	return true;
}

struct tls_options
policy_listener_tls_options(const struct policy_listener_tls *t)
{
	return (struct tls_options){
		.server = true,
		.ca_file = t->client_ca,
		.certificate_file = t->certificate,
		.key_file = t->key != NULL ? t->key : t->certificate,
		.verify = t->client_ca != NULL,
	};
}

const struct policy_user *
policy_find_user(const struct policy_auth *a, const char *name)
{
	size_t low = 0, high = a->n_users;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(name, a->users[middle].name);
		if (order == 0)
			return &a->users[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

static int
by_text(const void *text, const void *entry)
{
	return strcmp(text, *(const char *const *)entry);
}

static bool
list_has(const char *const *list, size_t n, const char *text)
{
	return n > 0 && bsearch(text, list, n, sizeof *list, by_text) != NULL;
}

/* Each part of the name that begins a label, and all of it. */
static bool
network_has_name(const struct policy_network *n, const char *name)
{
	if (list_has(n->domains, n->n_domains, name))
		return true;
	for (const char *from = name; from != NULL && *from != '\0'; from = strchr(from, '.')) {
		from += *from == '.';
		if (list_has(n->suffixes, n->n_suffixes, from))
			return true;
	}
	return false;
}

const struct policy_network *
policy_find_network(const struct policy_auth *a, const struct endpoint *client, const char *name, bool *wants_name)
{
	*wants_name = false;
	for (size_t i = 0; i < a->n_networks; i++) {
		const struct policy_network *n = &a->networks[i];
		if (ip_prefixes_have(n->prefixes, n->n_prefixes, client))
			return n;
		if (n->n_domains + n->n_suffixes == 0)
			continue;
		if (name == NULL) {
			*wants_name = true;
			return NULL;
		}
		if (network_has_name(n, name))
			return n;
	}
	return NULL;
}

bool
policy_network_has_user(const struct policy_network *n, const char *user)
{
	return list_has(n->users, n->n_users, user);
}
