/*
 * import_proxychains: a proxychains.conf. Programs, which it preloads itself into, connect to a
 * listener instead.
 *
 *   strict_chain       a chain of all
 *   dynamic_chain      a pool that takes the longest chain whose hops are all up
 *   random_chain       a chain of chain_len times the pool of all
 *   round_robin_chain  a pool that takes in turn the pools that stand for the places where a chain
 *                      begins: of the chains from there on it takes the first whose hops are all up
 */
#include <stdlib.h>
#include <string.h>

#include "admin/import.h"

enum { PROXIES_MAX = 256, HOPS_MAX = 16, SUBSETS_OF = 6, RETRIES = 15 };
/* In a policy the two are one, of an hour at most. */
enum { READ_MS = 4000, CONNECT_MS = 10000, TIME_MAX_MS = 1800000 };

enum way { STRICT, DYNAMIC, RANDOM, ROUND_ROBIN };

struct proxy {
	char name[24];
	char *type, *host, *username, *password; /* into the text; the last two NULL: none */
	uint16_t port;
	unsigned line;
};

struct conf {
	enum way way;
	unsigned chain_len; /* 0: not said */
	bool proxy_dns;
	uint64_t read_ms, connect_ms;
	struct proxy proxies[PROXIES_MAX];
	unsigned n;
};

/* ---- lines ---- */

/* Up to max words of the line, as far as a remark; what is behind them is left out, as proxychains
 * does. */
static unsigned
split(char *line, char **words, unsigned max)
{
	char *rest = NULL;
	unsigned n = 0;
	for (char *w = strtok_r(line, " \t", &rest); w != NULL && n < max && strcmp(w, "#") != 0;
	     w = strtok_r(NULL, " \t", &rest))
		words[n++] = w;
	return n;
}

static bool
read_number(const char *text, uint64_t max, uint64_t *out)
{
	uint64_t number = 0;
	if (*text == '\0')
		return false;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9' || number > max)
			return false;
		number = number * 10 + (uint64_t)(*text - '0');
	}
	*out = number;
	return number <= max;
}

/* 255.255.0.0 or 16. */
static bool
read_mask(const char *text, const struct endpoint *at, unsigned *bits)
{
	struct endpoint mask = {.kind = ENDPOINT_NONE};
	uint64_t number;
	if (strchr(text, '.') == NULL) {
		bool ok = read_number(text, at->kind == ENDPOINT_IPV4 ? 32 : 128, &number);
		*bits = ok ? (unsigned)number : 0;
		return ok;
	}
	if (endpoint_set_host(&mask, text, strlen(text)) != ENDPOINT_OK ||
	    mask.kind != ENDPOINT_IPV4)
		return false;
	uint32_t ones = (uint32_t)mask.addr[0] << 24 | (uint32_t)mask.addr[1] << 16 |
			(uint32_t)mask.addr[2] << 8 | mask.addr[3];
	for (*bits = 0; *bits < 32 && (ones & 0x80000000u >> *bits) != 0; ++*bits)
		;
	return *bits == 32 || ones << *bits == 0;
}

/* ADDRESS[:PORT]/MASK, an IPv6 address with a port in brackets. */
static bool
read_localnet(char *text, struct endpoint *at, unsigned *bits)
{
	char *slash = strchr(text, '/');
	*at = (struct endpoint){.kind = ENDPOINT_NONE};
	if (slash == NULL)
		return false;
	*slash = '\0';
	bool has_port = *text == '[' || (strchr(text, ':') != NULL && strchr(text, '.') != NULL);
	enum endpoint_error err = has_port ? endpoint_from_text(at, text, strlen(text))
					   : endpoint_set_host(at, text, strlen(text));
	return err == ENDPOINT_OK && endpoint_is_address(at) && read_mask(slash + 1, at, bits);
}

static void
add_localnet(struct import *i, char *text)
{
	struct endpoint at;
	unsigned bits;
	char shown[ENDPOINT_TEXT_MAX];
	if (!read_localnet(text, &at, &bits)) {
		import_note(i, "this localnet is not understood: nothing of it goes direct");
		return;
	}
	json_t *rule = json_object(), *match = json_object(), *blocks = json_array(),
	       *rules = import_list(i, "rules");
	import_append(
	    i, blocks,
	    import_print(i, "%s/%u", endpoint_host_to_text(&at, shown, sizeof shown), bits));
	import_set(i, match, "ip_cidr", blocks);
	if (at.port != 0) {
		json_t *ports = json_array();
		import_append(i, ports, json_integer(at.port));
		import_set(i, match, "port", ports);
	}
	import_set(i, rule, "name", import_print(i, "localnet-%zu", json_array_size(rules) + 1));
	import_set(i, rule, "match", match);
	import_set(i, rule, "route", json_string("direct"));
	import_append(i, rules, rule);
}

/* An IPv6 address may stand in brackets. */
static char *
without_brackets(char *host)
{
	size_t len = strlen(host);
	if (host[0] != '[' || host[len - 1] != ']' || strchr(host, ':') == NULL)
		return host;
	host[len - 1] = '\0';
	return host + 1;
}

static bool
add_proxy(struct import *i, struct conf *c, char **words, unsigned n)
{
	struct proxy *p = &c->proxies[c->n];
	uint64_t port;
	if (n < 3 || !read_number(words[2], UINT16_MAX, &port) || port == 0)
		return import_fail(i, "expected a proxy: TYPE ADDRESS PORT [USER PASSWORD]");
	if (strcmp(words[0], "raw") == 0) {
		import_note(i, "a proxy of type \"raw\" has no equal and is left out");
		return true;
	}
	if (strcmp(words[0], "http") != 0 && strcmp(words[0], "socks4") != 0 &&
	    strcmp(words[0], "socks5") != 0)
		return import_fail(i, "expected http, socks4, socks5 or raw, found \"%s\"",
				   words[0]);
	if (c->n == PROXIES_MAX)
		return import_fail(i, "expected at most %d proxies", PROXIES_MAX);
	snprintf(p->name, sizeof p->name, "proxy-%u", ++c->n);
	p->type = words[0];
	p->host = without_brackets(words[1]);
	p->port = (uint16_t)port;
	p->username = n > 3 ? words[3] : NULL;
	p->password = n > 4 ? words[4] : NULL;
	p->line = i->line;
	return true;
}

static bool
is_one_of(const char *word, const char *const *list)
{
	while (*list != NULL && strcmp(*list, word) != 0)
		list++;
	return *list != NULL;
}

static void
take_time(struct import *i, const char *key, const char *value, uint64_t *ms)
{
	uint64_t number;
	if (read_number(value, TIME_MAX_MS, &number) && number > 0)
		*ms = number;
	else
		import_note(i, "%s is no number from 1 to %d: the default is taken", key, TIME_MAX_MS);
}

static void
take_setting(struct import *i, struct conf *c, char **words, unsigned n)
{
	static const char *const ways[] = {"strict_chain", "dynamic_chain", "random_chain",
					   "round_robin_chain", NULL};
	static const char *const no_part[] = {"quiet_mode", "remote_dns_subnet", NULL};
	static const char *const dns[] = {"proxy_dns", "proxy_dns_old", "proxy_dns_daemon", NULL};
	char *value = n > 1 ? words[1] : words[0] + strlen(words[0]);
	for (unsigned w = 0; ways[w] != NULL; w++)
		if (strcmp(words[0], ways[w]) == 0) {
			c->way = (enum way)w;
			return;
		}
	if (is_one_of(words[0], no_part))
		return;
	if (is_one_of(words[0], dns))
		c->proxy_dns = true;
	else if (strcmp(words[0], "localnet") == 0)
		add_localnet(i, value);
	else if (strcmp(words[0], "tcp_read_time_out") == 0)
		take_time(i, words[0], value, &c->read_ms);
	else if (strcmp(words[0], "tcp_connect_time_out") == 0)
		take_time(i, words[0], value, &c->connect_ms);
	else
		import_note(i, "\"%s\" has no equal", words[0]);
}

/* "chain_len = 2", with or without blanks. False: it is none. */
static bool
take_chain_len(struct import *i, struct conf *c, char *line)
{
	static const char key[] = "chain_len";
	uint64_t number;
	if (strncmp(line, key, sizeof key - 1) != 0)
		return false;
	line += sizeof key - 1;
	line += strspn(line, " \t=");
	line[strcspn(line, " \t")] = '\0';
	if (read_number(line, PROXIES_MAX, &number) && number > 0)
		c->chain_len = (unsigned)number;
	else
		import_note(i, "this chain_len is no number of proxies");
	return true;
}

static bool
read_conf(struct import *i, char *text, struct conf *c)
{
	static const char list_head[] = "[ProxyList]";
	bool listing = false, ok = true;
	char *line;
	while (ok && (line = import_next_line(i, &text)) != NULL) {
		char *words[5];
		line = import_trim(line);
		if (*line == '\0' || *line == '#')
			continue;
		if (strncmp(line, list_head, sizeof list_head - 1) == 0)
			listing = true;
		else if (!listing && take_chain_len(i, c, line))
			continue;
		else if (listing)
			ok = add_proxy(i, c, words, split(line, words, ARRAY_LEN(words)));
		else
			take_setting(i, c, words, split(line, words, ARRAY_LEN(words)));
	}
	i->line = 0;
	return ok && (c->n > 0 || import_fail(i, "there is no proxy in it"));
}

/* ---- routes ---- */

static void
add_chain(struct import *i, const char *name, json_t *hops)
{
	json_t *chain = json_object();
	import_set(i, chain, "name", import_string(i, name));
	import_set(i, chain, "hops", hops);
	import_append(i, import_list(i, "chains"), chain);
}

static bool
has_chain(struct import *i, const char *name)
{
	size_t k;
	json_t *chain;
	json_array_foreach(import_list(i, "chains"), k, chain)
		if (strcmp(json_string_value(json_object_get(chain, "name")), name) == 0)
			return true;
	return false;
}

/* The way through these proxies: a bit each, in the order of the list from `first` round to it.
 * Writes its name. */
static void
name_way(struct import *i, const struct conf *c, unsigned first, unsigned long long which, char *name,
	 size_t cap)
{
	json_t *hops = json_array();
	const char *only = "";
	size_t len = 0;
	name[0] = '\0';
	for (unsigned nth = 0; nth < c->n; nth++) {
		unsigned k = (first + nth) % c->n;
		if ((which >> k & 1) == 0)
			continue;
		len +=
		    (size_t)snprintf(name + len, cap - len, "%s%u", len > 0 ? "-" : "way-", k + 1);
		only = c->proxies[k].name;
		import_append(i, hops, import_string(i, only));
	}
	if (json_array_size(hops) > 1 && !has_chain(i, name)) {
		add_chain(i, name, hops);
		return;
	}
	if (json_array_size(hops) == 1)
		snprintf(name, cap, "%s", only);
	json_decref(hops);
}

static json_t *
add_plain_pool(struct import *i, const char *name, json_t *members, const char *balance)
{
	json_t *pool = json_object();
	import_set(i, pool, "name", json_string(name));
	import_set(i, pool, "members", members);
	import_set(i, pool, "balance", json_string(balance));
	import_append(i, import_list(i, "pools"), pool);
	return pool;
}

/* Checked, and tried until a way is found: a dead proxy is skipped before the first check tells. */
static void
add_pool(struct import *i, const char *name, json_t *members, const char *balance)
{
	json_t *pool = add_plain_pool(i, name, members, balance);
	import_set(i, pool, "health", json_pack("{s:s}", "check", "connect"));
	import_set(i, pool, "retry", json_pack("{s:i, s:i}", "attempts", RETRIES, "budget_percent", 100));
}

static const char *
route_strict(struct import *i, const struct conf *c)
{
	json_t *hops = json_array();
	for (unsigned k = 0; k < c->n; k++)
		import_append(i, hops, import_string(i, c->proxies[k].name));
	if (c->n > HOPS_MAX)
		import_fail(i, "expected at most %d proxies in a strict_chain, found %u", HOPS_MAX,
			    c->n);
	add_chain(i, "strict", hops);
	return "strict";
}

static unsigned
count_bits(unsigned long long which)
{
	return (unsigned)__builtin_popcountll(which);
}

/* All ways that leave dead proxies out: the longest first. For many proxies not all of them. */
static const char *
route_dynamic(struct import *i, const struct conf *c)
{
	json_t *members = json_array();
	char name[128];
	if (c->n > HOPS_MAX) {
		import_fail(i, "expected at most %d proxies in a dynamic_chain, found %u", HOPS_MAX,
			    c->n);
		json_decref(members);
		return "dynamic";
	}
	unsigned long long all = (1ull << c->n) - 1;
	for (unsigned left_out = 0; left_out < c->n; left_out++)
		for (unsigned long long which = all; which > 0; which--) {
			bool wanted = c->n <= SUBSETS_OF || left_out <= 1 || left_out == c->n - 1;
			if (count_bits(which) != c->n - left_out || !wanted)
				continue;
			name_way(i, c, 0, which, name, sizeof name);
			import_append(i, members, import_string(i, name));
		}
	if (c->n > SUBSETS_OF)
		import_note(i,
			    "dynamic_chain: of %u proxies there are too many combinations; those "
			    "with all, all but one, and "
			    "each alone are here",
			    c->n);
	add_pool(i, "dynamic", members, "first");
	return "dynamic";
}

static unsigned
length_of(struct import *i, const struct conf *c)
{
	unsigned len = c->chain_len == 0 ? 1 : c->chain_len > c->n ? c->n : c->chain_len;
	if (len > HOPS_MAX) {
		import_note(i, "chain_len is cut to %d hops", HOPS_MAX);
		len = HOPS_MAX;
	}
	return len;
}

static const char *
route_random(struct import *i, const struct conf *c)
{
	json_t *members = json_array(), *hops = json_array();
	unsigned len = length_of(i, c);
	for (unsigned k = 0; k < c->n; k++)
		import_append(i, members, import_string(i, c->proxies[k].name));
	add_pool(i, "any", members, "random");
	for (unsigned k = 0; k < len; k++)
		import_append(i, hops, json_string("any"));
	if (len == 1) {
		json_decref(hops);
		return "any";
	}
	add_chain(i, "random", hops);
	return "random";
}

/* The chain of len proxies from this one on. */
static void
add_run(struct import *i, const struct conf *c, unsigned first, unsigned len, const char *name)
{
	json_t *hops = json_array();
	for (unsigned k = 0; k < len; k++)
		import_append(i, hops, import_string(i, c->proxies[(first + k) % c->n].name));
	add_chain(i, name, hops);
}

/* The pool of all chains of len proxies from this one on, the nearest first: the dead are skipped. */
static void
add_runs(struct import *i, const struct conf *c, unsigned first, unsigned len, const char *name)
{
	json_t *members = json_array();
	char way[64];
	for (unsigned long long nearest = 1ull << c->n; --nearest > 0;) {
		unsigned long long which = 0;
		for (unsigned k = 0; k < c->n; k++)     /* its highest bit is the first */
			which |= (nearest >> (c->n - 1 - k) & 1) << (first + k) % c->n;
		if (count_bits(which) != len)
			continue;
		name_way(i, c, first, which, way, sizeof way);
		import_append(i, members, import_string(i, way));
	}
	add_pool(i, name, members, "first");
}

/* Each chain begins behind the one before it, round the list. */
static const char *
route_round_robin(struct import *i, const struct conf *c)
{
	json_t *members = json_array();
	unsigned len = length_of(i, c), first = 0;
	bool few = c->n <= SUBSETS_OF;
	char name[32];
	do {
		snprintf(name, sizeof name, "from-%u", first + 1);
		if (len == 1)
			snprintf(name, sizeof name, "%s", c->proxies[first].name);
		else if (few)
			add_runs(i, c, first, len, name);
		else
			add_run(i, c, first, len, name);
		import_append(i, members, import_string(i, name));
		first = (first + len) % c->n;
	} while (first != 0);
	if (len > 1 && few) {
		add_plain_pool(i, "in-turn", members, "round_robin");
		return "in-turn";
	}
	add_pool(i, "in-turn", members, "round_robin");
	if (len > 1)
		import_note(i,
			    "round_robin_chain: of %u proxies there are too many combinations; a chain with a "
			    "dead proxy is passed over as a whole",
			    c->n);
	return "in-turn";
}

/* ---- the rest ---- */

static bool
add_upstreams(struct import *i, const struct conf *c)
{
	bool ok = true;
	for (unsigned k = 0; ok && k < c->n; k++) {
		const struct proxy *p = &c->proxies[k];
		bool socks4 = strcmp(p->type, "socks4") == 0;
		i->line = p->line;
		if (socks4 && p->password != NULL)
			import_note(i, "SOCKS4 has no passwords: this one is left out");
		ok = import_upstream(i, p->name, socks4 && c->proxy_dns ? "socks4a" : p->type,
				     p->host, p->port, p->username, socks4 ? NULL : p->password);
		json_t *list = import_list(i, "upstreams");
		if (ok && !c->proxy_dns && !socks4)
			import_set(i, json_array_get(list, json_array_size(list) - 1), "resolve",
				   json_string("local"));
	}
	i->line = 0;
	return ok;
}

/* Programs that look names up themselves reach the local nets of those names too. */
static void
resolve_for_localnets(struct import *i)
{
	size_t k;
	json_t *rule;
	json_array_foreach(json_object_get(i->policy, "rules"), k, rule)
		import_set(i, rule, "resolve", json_true());
}

static void
add_frame(struct import *i, const struct conf *c)
{
	if (!c->proxy_dns)
		resolve_for_localnets(i);
	import_append(i, import_list(i, "listeners"),
		      json_pack("{s:s, s:s, s:[s,s,s,s]}", "name", "local", "listen",
				"127.0.0.1:1080", "protocols", "socks4", "socks4a", "socks5",
				"http"));
	import_note(i, "programs are not preloaded: they connect to 127.0.0.1:1080");
	json_t *timeouts = json_object();
	import_set(i, timeouts, "connect", import_duration(i, c->connect_ms + c->read_ms));
	import_set(
	    i, timeouts, "comment",
	    json_string("\"connect\" bounds an attempt through all hops: tcp_connect_time_out and "
			"tcp_read_time_out together."));
	import_set(i, i->policy, "timeouts", timeouts);
}

bool
import_proxychains(struct import *i, char **files, int n)
{
	static const char *(*const routes[])(struct import * i, const struct conf *c) = {
	    [STRICT] = route_strict,
	    [DYNAMIC] = route_dynamic,
	    [RANDOM] = route_random,
	    [ROUND_ROBIN] = route_round_robin,
	};
	struct conf *c = calloc(1, sizeof *c);
	char *text = import_read(i, files[n - 1]);
	bool ok = c != NULL && text != NULL;
	if (c == NULL)
		i->no_memory = true;
	if (ok) {
		c->read_ms = READ_MS;
		c->connect_ms = CONNECT_MS;
		ok = read_conf(i, text, c);
	}
	if (ok)
		add_frame(i, c);
	if (ok && (ok = add_upstreams(i, c)))
		import_set(i, i->policy, "default_route",
			   json_string(c->n == 1 ? c->proxies[0].name : routes[c->way](i, c)));
	free(text);
	free(c);
	return ok && !i->failed;
}
