/*
 * name_table: finds objects by their name. The node lives in the object, which owns the name.
 *
 * Names may be chosen by strangers, so the hash is keyed (base/hash.h). Names are compared byte for
 * byte: lower case is the caller's matter. Zero-filled memory is an empty table. Confined to one
 * thread.
 */
#ifndef DNS_NAME_TABLE_H
#define DNS_NAME_TABLE_H
#include "base/base.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct name_node {
	struct name_node *next;
	uint64_t hash;
	const char *name;                      /* NUL-terminated */
};

struct name_table {
	struct name_node **buckets;
	size_t n_buckets, n;
};

/** The node's name is set and not in the table yet. False: out of memory, and nothing was added. */
bool name_table_add(struct name_table *t, struct name_node *node) WARN_UNUSED;
/** NULL: there is none. */
struct name_node *name_table_find(const struct name_table *t, const char *name);
/** The node is in the table. */
void name_table_remove(struct name_table *t, struct name_node *node);
/** Takes any node out; NULL when empty. For tear-down. */
struct name_node *name_table_take(struct name_table *t);
/** Releases the table's own memory; the objects are not touched. It is empty then, and usable. */
void name_table_free(struct name_table *t);

#endif
