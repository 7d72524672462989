/*
 * zones: a name_table of suffixes; a name is looked up whole, then without its first label, and so
 * on: the first hit is the longest.
 */
#include "dns/zones.h"

#include "dns/channel.h"
#include "dns/name_table.h"

#include <stdlib.h>
#include <string.h>

struct zone {
	struct name_node node;
	struct channel *channel;
	char suffix[];
};

struct zones {
	struct channel *others;                /* of dns.servers */
	struct channel **of_rules;
	size_t n_rules;
	struct name_table table;
};

/* False: out of memory. Of two equal suffixes the first counts. */
static bool
zone_add(struct zones *z, const char *suffix, struct channel *channel)
{
	size_t size = strlen(suffix) + 1;
	if (name_table_find(&z->table, suffix) != NULL)
		return true;
	struct zone *zone = calloc(1, sizeof *zone + size);
	if (zone == NULL)
		return false;
	memcpy(zone->suffix, suffix, size);
	zone->node.name = zone->suffix;
	zone->channel = channel;
	if (name_table_add(&z->table, &zone->node))
		return true;
	free(zone);
	return false;
}

static struct channel *
open_channel(struct loop *l, const struct policy_dns *conf, const struct endpoint *servers,
	     size_t n, const char *file)
{
	struct channel_conf c = {
		.servers = servers,
		.n_servers = n,
		.resolv_conf = file,
		.timeout_ms = conf->timeout_ms,
		.attempts = conf->attempts,
	};
	return channel_new(l, &c);
}

static bool
open_all(struct zones *z, struct loop *l, const struct policy_dns *conf, const char *file)
{
	z->others = open_channel(l, conf, conf->servers, conf->n_servers, file);
	z->of_rules = calloc(conf->n_rules + 1, sizeof(struct channel *));
	if (z->others == NULL || z->of_rules == NULL)
		return false;
	for (size_t i = 0; i < conf->n_rules; i++) {
		const struct policy_dns_rule *rule = &conf->rules[i];
		struct channel *channel =
		    open_channel(l, conf, rule->servers, rule->n_servers, file);
		if (channel == NULL)
			return false;
		z->of_rules[z->n_rules++] = channel;
		for (size_t k = 0; k < rule->n_suffixes; k++) {
			if (!zone_add(z, rule->suffixes[k], channel))
				return false;
		}
	}
	return true;
}

struct zones *
zones_new(struct loop *l, const struct policy_dns *conf, const char *resolv_conf)
{
	struct zones *z = calloc(1, sizeof *z);
	if (z != NULL && !open_all(z, l, conf, resolv_conf)) {
		zones_free(z);
		return NULL;
	}
	return z;
}

void
zones_free(struct zones *z)
{
	struct name_node *node;
	if (z == NULL)
		return;
	channel_free(z->others);
	for (size_t i = 0; i < z->n_rules; i++)
		channel_free(z->of_rules[i]);
	free(z->of_rules);
	while ((node = name_table_take(&z->table)) != NULL)
		free(CONTAINER_OF(node, struct zone, node));
	name_table_free(&z->table);
	free(z);
}

struct channel *
zones_find(const struct zones *z, const char *name)
{
	for (const char *tail = name; tail != NULL && *tail != '\0';) {
		struct name_node *node = name_table_find(&z->table, tail);
		if (node != NULL)
			return CONTAINER_OF(node, struct zone, node)->channel;
		tail = strchr(tail, '.');
		if (tail != NULL)
			tail++;
	}
	return z->others;
}
