#include "router/udp_targets.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

static uint32_t
bucket_of(const struct endpoint *e)
{
	uint8_t key[3 + ENDPOINT_NAME_MAX];
	const void *host = e->kind == ENDPOINT_NAME ? (const void *)e->name : e->addr;
	size_t len = e->kind == ENDPOINT_NAME ? e->name_len : e->kind == ENDPOINT_IPV6 ? 16 : 4;
	key[0] = e->kind;
	key[1] = (uint8_t)(e->port >> 8);
	key[2] = (uint8_t)e->port;
	memcpy(key + 3, host, len);
	return (uint32_t)(hash_keyed(key, len + 3) % UDP_TARGET_BUCKETS);
}

/* ---- names ---- */

static void
name_drop(struct udp_name *n)
{
	if (n == NULL || --n->n_users > 0)
		return;
	resolve_cancel(n->resolve);
	list_remove(&n->link);
	free(n);
}

static struct udp_name *
name_take(struct udp_targets *t, const struct endpoint *to)
{
	LIST_FOR_EACH (&t->names, node) {
		struct udp_name *n = LIST_OBJECT(node, struct udp_name, link);
		if (strcmp(n->text, to->name) == 0) {
			n->n_users++;
			return n;
		}
	}
	struct udp_name *n = calloc(1, sizeof *n + to->name_len + 1u);
	if (n == NULL)
		return NULL;
	n->targets = t;
	n->n_users = 1;
	memcpy(n->text, to->name, to->name_len);
	list_append(&t->names, &n->link);
	return n;
}

static void
on_resolved(enum dns_error err, const struct endpoint *addrs, size_t n, void *arg)
{
	struct udp_name *name = arg;
	name->resolve = NULL;
	name->state = err == DNS_OK ? UDP_NAME_KNOWN : UDP_NAME_FAILED;
	name->n_addrs = n < UDP_NAME_ADDRS_MAX ? n : UDP_NAME_ADDRS_MAX;
	for (size_t i = 0; i < name->n_addrs; i++)
		name->addrs[i] = addrs[i];
	name->targets->on_name(name, name->targets->arg);
}

bool
udp_target_look_up(struct udp_targets *t, struct udp_target *x, uint64_t timeout_ms)
{
	struct udp_name *n = x->name;
	if (n->state == UDP_NAME_ASKED || n->state == UDP_NAME_KNOWN)
		return true;
	n->resolve = resolve_start(t->resolver, n->text, timeout_ms, on_resolved, n);
	if (n->resolve != NULL)
		n->state = UDP_NAME_ASKED;
	return n->resolve != NULL;
}

/* ---- the table ---- */

void
udp_targets_init(struct udp_targets *t, struct resolver *r, void (*on_name)(struct udp_name *name, void *arg), void *arg)
{
	*t = (struct udp_targets){ .resolver = r, .on_name = on_name, .arg = arg };
	list_init(&t->all);
	list_init(&t->names);
}

static void
target_drop(struct udp_targets *t, struct udp_target *x)
{
	struct udp_target **at = &t->buckets[x->bucket];
	while (*at != x)
		at = &(*at)->next;
	*at = x->next;
	if (t->last == x)
		t->last = NULL;
	list_remove(&x->link);
	name_drop(x->name);
	t->n--;
	free(x);
}

void
udp_targets_free(struct udp_targets *t)
{
	while (!list_empty(&t->all))
		target_drop(t, LIST_OBJECT(t->all.next, struct udp_target, link));
}

struct udp_target *
udp_targets_find(struct udp_targets *t, const struct endpoint *to)
{
	if (t->last != NULL && endpoint_equal(&t->last->to, to))
		return t->last;
	struct udp_target *x = t->buckets[bucket_of(to)];
	while (x != NULL && !endpoint_equal(&x->to, to))
		x = x->next;
	if (x == NULL)
		return NULL;
	t->last = x;
	list_remove(&x->link);
	list_append(&t->all, &x->link);
	return x;
}

static bool
make_room(struct udp_targets *t)
{
	if (t->n < UDP_TARGETS_MAX)
		return true;
	LIST_FOR_EACH (&t->all, node) {
		struct udp_target *x = LIST_OBJECT(node, struct udp_target, link);
		if (x->n_held == 0) {
			target_drop(t, x);
			return true;
		}
	}
	return false;
}

struct udp_target *
udp_targets_take(struct udp_targets *t, const struct endpoint *to)
{
	struct udp_target *x = udp_targets_find(t, to);
	if (x != NULL)
		return x;
	if (!make_room(t) || (x = calloc(1, sizeof *x)) == NULL)
		return NULL;
	if (to->kind == ENDPOINT_NAME && (x->name = name_take(t, to)) == NULL) {
		free(x);
		return NULL;
	}
	x->to = *to;
	x->bucket = bucket_of(to);
	x->next = t->buckets[x->bucket];
	t->buckets[x->bucket] = x;
	list_init(&x->link);
	list_append(&t->all, &x->link);
	t->n++;
	t->last = x;
	return x;
}
