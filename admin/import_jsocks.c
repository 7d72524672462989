/*
 * import_jsocks: the properties files of jsocks. The first one has the settings; each has a range
 * of clients and the users that may come from it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/import.h"

enum { TIMEOUT_MS = 180000 /* jsocks's own default */, PORT = 1080 };

/* ---- properties ---- */

struct property {
	char *key, *value;
	unsigned line;
};

struct properties {
	struct property *list;
	size_t n;
	char *text;
};

static void
properties_free(struct properties *p)
{
	free(p->list);
	free(p->text);
}

/* A line that ends in an odd number of backslashes goes on in the next one, without its blanks. */
static bool
goes_on(const char *line)
{
	size_t len = strlen(line), n = 0;
	while (n < len && line[len - 1 - n] == '\\')
		n++;
	return n % 2 == 1;
}

/* The character of "uXXXX". 0: there is none that could stand here alone. */
static unsigned
read_unicode(const char *text)
{
	unsigned code = 0;
	for (int k = 1; k <= 4; k++) {
		static const char digits[] = "0123456789abcdefABCDEF";
		const char *digit = text[k] != '\0' ? strchr(digits, text[k]) : NULL;
		if (digit == NULL)
			return 0;
		unsigned value = (unsigned)(digit - digits);
		code = code << 4 | (value < 16 ? value : value - 6);
	}
	return code >= 0xd800 && code < 0xe000 ? 0 : code;
}

/* As UTF-8, of at most three bytes; returns their end. */
static char *
put_unicode(char *out, unsigned code)
{
	if (code < 0x80) {
		*out++ = (char)code;
		return out;
	}
	if (code < 0x800) {
		*out++ = (char)(0xc0 | code >> 6);
	} else {
		*out++ = (char)(0xe0 | code >> 12);
		*out++ = (char)(0x80 | (code >> 6 & 0x3f));
	}
	*out++ = (char)(0x80 | (code & 0x3f));
	return out;
}

/* \t, \n, \uXXXX and the like; of any other character the backslash goes. */
static void
unescape(char *text)
{
	static const char from[] = "tnrf", to[] = "\t\n\r\f";
	char *out = text;
	for (; *text != '\0'; text++) {
		if (*text != '\\' || text[1] == '\0') {
			*out++ = *text;
			continue;
		}
		const char *known = strchr(from, *++text);
		unsigned code = *text == 'u' ? read_unicode(text) : 0;
		if (code != 0) {
			out = put_unicode(out, code);
			text += 4;
		} else {
			*out++ = known != NULL ? to[known - from] : *text;
		}
	}
	*out = '\0';
}

/* KEY = VALUE, KEY : VALUE or KEY VALUE; the blanks behind a value are a part of it. */
static void
split(char *line, struct property *p)
{
	char *end = line;
	while (*end != '\0' && strchr("=: \t\f", *end) == NULL)
		end += *end == '\\' && end[1] != '\0' ? 2 : 1;
	char *value = end + strspn(end, " \t\f");
	if (*value == '=' || *value == ':')
		value += 1 + strspn(value + 1, " \t\f");
	*end = '\0';
	p->key = line;
	p->value = value;
	unescape(p->key);
	unescape(p->value);
}

/* Appends the next line's text to the one before, in place. */
static void
join(struct import *i, char *line, char **rest)
{
	while (goes_on(line)) {
		char *next = import_next_line(i, rest);
		char *end = line + strlen(line) - 1;
		if (next == NULL) {
			*end = '\0';
			return;
		}
		next += strspn(next, " \t\f");
		memmove(end, next, strlen(next) + 1);
	}
}

static bool
read_properties(struct import *i, const char *path, struct properties *out)
{
	*out = (struct properties){.text = import_read(i, path)};
	char *rest = out->text, *line;
	if (out->text == NULL)
		return false;
	if ((out->list = calloc(strlen(out->text) + 1, sizeof *out->list)) == NULL) {
		i->no_memory = true;
		return false;
	}
	while ((line = import_next_line(i, &rest)) != NULL) {
		unsigned at = i->line;
		line += strspn(line, " \t\f");
		if (*line == '\0' || *line == '#' || *line == '!')
			continue;
		join(i, line, &rest);
		out->list[out->n].line = at;
		split(line, &out->list[out->n++]);
	}
	return true;
}

/* The last one of a name counts. Notes are of its line from here on. NULL: there is none. */
static char *
find(struct import *i, const struct properties *p, const char *key)
{
	i->line = 0;
	for (size_t k = p->n; k > 0; k--)
		if (strcmp(p->list[k - 1].key, key) == 0) {
			i->line = p->list[k - 1].line;
			return p->list[k - 1].value;
		}
	return NULL;
}

/* The first word of the value: what stands behind it is taken for a remark. */
static uint64_t
find_number(struct import *i, const struct properties *p, const char *key, uint64_t otherwise)
{
	const char *value = find(i, p, key);
	if (value == NULL)
		return otherwise;
	value += strspn(value, " \t");
	size_t len = strcspn(value, " \t");
	uint64_t number = 0;
	for (size_t k = 0; k < len; k++) {
		if (value[k] < '0' || value[k] > '9' || number > INT32_MAX / 10) {
			import_note(i, "%s is no number; the default is taken", key);
			return otherwise;
		}
		number = number * 10 + (uint64_t)(value[k] - '0');
	}
	return len > 0 ? number : otherwise;
}

/* ---- ranges ---- */

/* What one "a;b;c" says, by what policies know. */
struct range {
	json_t *blocks, *suffixes, *names;
	bool all;
};

static struct range
range_new(struct import *i)
{
	struct range r = {json_array(), json_array(), json_array(), false};
	i->no_memory = i->no_memory || r.blocks == NULL || r.suffixes == NULL || r.names == NULL;
	return r;
}

static void
range_free(struct range *r)
{
	json_decref(r->blocks);
	json_decref(r->suffixes);
	json_decref(r->names);
}

/* "130.220." is 130.220.0.0/16. */
static bool
add_prefix(struct import *i, const char *text, struct range *out)
{
	struct endpoint at = {.kind = ENDPOINT_NONE};
	char full[64];
	unsigned dots = 0;
	for (const char *p = text; *p != '\0'; p++)
		dots += *p == '.';
	static const char *const zeros[] = {NULL, "0.0.0", "0.0", "0"};
	if (dots < 1 || dots > 3 || strspn(text, "0123456789.") != strlen(text))
		return false;
	snprintf(full, sizeof full, "%s%s", text, zeros[dots]);
	if (endpoint_set_host(&at, full, strlen(full)) != ENDPOINT_OK || at.kind != ENDPOINT_IPV4)
		return false;
	import_append(i, out->blocks, import_print(i, "%s/%u", full, 8 * dots));
	return true;
}

static bool
read_host(const char *text, struct endpoint *out)
{
	static const uint8_t loopback[4] = {127, 0, 0, 1};
	*out = (struct endpoint){.kind = ENDPOINT_NONE};
	if (endpoint_set_host(out, text, strlen(text)) != ENDPOINT_OK)
		return false;
	if (out->kind == ENDPOINT_NAME && strcmp(out->name, "localhost") == 0)
		endpoint_set_ipv4(out, loopback, 0);
	return true;
}

static void
add_from_to(struct import *i, const char *from_text, const char *to_text, struct range *out)
{
	struct endpoint from, to;
	if (!read_host(from_text, &from) || !read_host(to_text, &to) ||
	    !endpoint_is_address(&from) || from.kind != to.kind)
		import_note(i, "the range %s:%s has no equal: both ends must be addresses",
			    from_text, to_text);
	else if (memcmp(from.addr, to.addr, from.kind == ENDPOINT_IPV4 ? 4 : 16) > 0)
		import_note(i, "the range %s:%s ends before it begins: nobody is in it", from_text,
			    to_text);
	else
		import_append_range(i, out->blocks, &from, &to);
}

static void
add_address(struct import *i, const struct endpoint *e, struct range *out)
{
	char address[ENDPOINT_TEXT_MAX];
	const char *text = endpoint_host_to_text(e, address, sizeof address);
	import_append(i, out->blocks, import_string(i, text));
}

static void
add_entry(struct import *i, char *text, struct range *out)
{
	struct endpoint host;
	text = import_trim(text);
	if (strchr(text, ':') != NULL && read_host(text, &host)) {
		add_address(i, &host, out);
		return;
	}
	char *rest = NULL, *first = strtok_r(text, ": \t", &rest), *second;
	if (first == NULL)
		return;
	if ((second = strtok_r(NULL, ": \t", &rest)) != NULL) {
		add_from_to(i, first, second, out);
	} else if (strcmp(first, ".") == 0) {
		out->all = true;
	} else if (first[0] == '.') {
		import_append(i, out->suffixes, import_string(i, first + 1));
	} else if (first[strlen(first) - 1] == '.' && add_prefix(i, first, out)) {
		return;
	} else if (!read_host(first, &host)) {
		import_note(i, "\"%s\" is neither a host nor a range", first);
	} else if (host.kind == ENDPOINT_NAME) {
		import_append(i, out->names, import_string(i, host.name));
	} else {
		add_address(i, &host, out);
	}
}

static struct range
read_range(struct import *i, char *value)
{
	struct range r = range_new(i);
	char *rest = NULL;
	for (char *e = strtok_r(value, ";", &rest); e != NULL; e = strtok_r(NULL, ";", &rest))
		add_entry(i, e, &r);
	return r;
}

/* ---- who may come ---- */

static json_t *
read_users(struct import *i, char *value)
{
	json_t *users = json_array();
	char *rest = NULL;
	for (char *u = strtok_r(value, ";", &rest); u != NULL; u = strtok_r(NULL, ";", &rest)) {
		char *name = import_trim(u);
		if (*name != '\0')
			import_append(i, users, import_string(i, name));
	}
	if (json_array_size(users) == 0)
		import_fail(i, "\"users\" names nobody, so nobody of this range could come");
	return users;
}

static void
add_clients(struct import *i, json_t *network, const char *key, json_t *list)
{
	if (json_array_size(list) > 0)
		import_set(i, network, key, json_incref(list));
}

/* One file's range and users as an entry of "networks". */
static bool
add_network(struct import *i, const struct properties *p, json_t *networks, bool *open)
{
	char *value = find(i, p, "range");
	if (value == NULL)
		return import_fail(i, "there is no \"range\", which jsocks demands");
	struct range r = read_range(i, value);
	if (r.all) {
		import_append(i, r.blocks, json_string("0.0.0.0/0"));
		import_append(i, r.blocks, json_string("::/0"));
	}
	value = find(i, p, "users");
	json_t *network = json_object();
	add_clients(i, network, "ip_cidr", r.blocks);
	add_clients(i, network, "domain", r.names);
	add_clients(i, network, "domain_suffix", r.suffixes);
	if (json_object_size(network) > 0) {
		if (value != NULL)
			import_set(i, network, "users", read_users(i, value));
		import_append(i, networks, json_incref(network));
		*open = *open || (r.all && value == NULL);
	}
	json_decref(network);
	range_free(&r);
	return !i->failed;
}

/* ---- settings ---- */

static void
add_timeouts(struct import *i, const struct properties *p)
{
	static const struct {
		const char *theirs, *ours;
	} names[] = {
	    {"iddleTimeout", "idle"},
	    {"acceptTimeout", "bind"},
	    {"udpTimeout", "udp_idle"},
	};
	json_t *timeouts = json_object();
	for (size_t k = 0; k < ARRAY_LEN(names); k++)
		import_set(i, timeouts, names[k].ours,
			   import_duration(i, find_number(i, p, names[k].theirs, TIMEOUT_MS)));
	import_set(i, i->policy, "timeouts", timeouts);
}

/* host[:port[:user[:password]]]; a user without a password is SOCKS4's. */
static bool
add_proxy(struct import *i, char *entry, unsigned number, json_t *hops)
{
	char *rest = NULL, *parts[4] = {NULL}, name[24];
	uint16_t port = PORT;
	size_t n = 0;
	for (char *p = strtok_r(entry, ":", &rest); p != NULL && n < 4;
	     p = strtok_r(NULL, ":", &rest)) {
		parts[n] = n < 2 ? import_trim(p) : p;
		n++;
	}
	if (n == 0)
		return import_fail(i, "a proxy without a host");
	if (n > 1 && (!endpoint_read_port(parts[1], strlen(parts[1]), &port) || port == 0))
		return import_fail(i, "\"%s\" is no port of a proxy", parts[1]);
	snprintf(name, sizeof name, "proxy-%u", number);
	import_append(i, hops, json_string(name));
	return import_upstream(i, name, n == 3 ? "socks4" : "socks5", parts[0], port, parts[2],
			       parts[3]);
}

static void
add_direct_rule(struct import *i, const char *name, const char *key, json_t *values, bool resolve)
{
	json_t *rule = json_object(), *match = json_object();
	import_set(i, match, key, values);
	import_set(i, rule, "name", json_string(name));
	import_set(i, rule, "match", match);
	if (resolve) {
		import_set(i, rule, "resolve", json_true());
		import_set(i, rule, "comment",
			   json_string("Names are looked up here to see whether their addresses "
				       "are direct, as jsocks "
				       "does; without \"resolve\" names are left to the proxy."));
	}
	import_set(i, rule, "route", json_string("direct"));
	import_append(i, import_list(i, "rules"), rule);
}

static void
add_direct_hosts(struct import *i, char *value)
{
	struct range r = read_range(i, value);
	if (r.all) {
		import_set(i, i->policy, "default_route", json_string("direct"));
		import_note(i,
			    "\".\" makes everything direct: no request goes through the proxies");
	}
	if (json_array_size(r.names) > 0)
		add_direct_rule(i, "direct-hosts", "domain", json_incref(r.names), false);
	if (json_array_size(r.suffixes) > 0)
		add_direct_rule(i, "direct-domains", "domain_suffix", json_incref(r.suffixes),
				false);
	if (json_array_size(r.blocks) > 0)
		add_direct_rule(i, "direct-addresses", "ip_cidr", json_incref(r.blocks), true);
	range_free(&r);
}

static bool
add_proxies(struct import *i, const struct properties *p)
{
	char *value = find(i, p, "proxy"), *rest = NULL;
	json_t *hops = json_array();
	unsigned n = 0;
	bool ok = true;
	for (char *e = value != NULL ? strtok_r(value, ";", &rest) : NULL; ok && e != NULL;
	     e = strtok_r(NULL, ";", &rest))
		ok = add_proxy(i, e, ++n, hops);
	if (ok && n > 1) {
		json_t *chain = json_object();
		import_set(i, chain, "name", json_string("proxies"));
		import_set(i, chain, "hops", json_incref(hops));
		import_append(i, import_list(i, "chains"), chain);
	}
	import_set(i, i->policy, "default_route",
		   json_string(n == 0   ? "direct"
			       : n == 1 ? "proxy-1"
					: "proxies"));
	json_decref(hops);
	if (ok && n > 0 && (value = find(i, p, "directHosts")) != NULL)
		add_direct_hosts(i, value);
	return ok;
}

/* A name is not looked up, and nothing is opened wider than it was. */
static bool
listen_address(struct import *i, const struct properties *p, struct endpoint *out)
{
	static const uint8_t any[4] = {0}, loopback[4] = {127, 0, 0, 1};
	uint64_t port = find_number(i, p, "port", PORT);
	char *host;
	if (port == 0 || port > UINT16_MAX)
		return import_fail(i, "expected a port from 1 to 65535");
	endpoint_set_ipv4(out, any, (uint16_t)port);
	if ((host = find(i, p, "host")) == NULL)
		return true;
	struct endpoint at;
	host = import_trim(host);
	if (read_host(host, &at) && endpoint_is_address(&at)) {
		*out = at;
	} else {
		import_note(i,
			    "\"%s\" is no address: listens on 127.0.0.1 until \"listen\" has the "
			    "one that it means",
			    host);
		endpoint_set_ipv4(out, loopback, 0);
	}
	out->port = (uint16_t)port;
	return true;
}

/* The buffer that jsocks reads a datagram into. */
static void
add_datagram_size(struct import *i, const struct properties *p, json_t *listener)
{
	uint64_t bytes = find_number(i, p, "datagramSize", UINT16_MAX);
	char size[32];
	if (bytes == 0 || bytes >= UINT16_MAX)
		return;
	json_t *udp = json_object();
	snprintf(size, sizeof size, "%uB", (unsigned)bytes);
	import_set(i, udp, "max_datagram", json_string(size));
	import_set(i, listener, "udp", udp);
}

static bool
add_listener(struct import *i, const struct properties *p, bool open)
{
	struct endpoint at;
	char text[ENDPOINT_TEXT_MAX];
	if (!listen_address(i, p, &at))
		return false;
	json_t *listener = json_object();
	import_set(i, listener, "name", json_string("socks"));
	import_set(i, listener, "listen",
		   import_string(i, endpoint_to_text(&at, text, sizeof text)));
	import_set(i, listener, "auth", json_string("clients"));
	if (open && !endpoint_is_loopback(&at)) {
		import_set(i, listener, "allow_open", json_true());
		import_set(
		    i, listener, "comment",
		    json_string("An open relay: the range \".\" without users lets anybody in."));
	}
	add_datagram_size(i, p, listener);
	import_append(i, import_list(i, "listeners"), listener);
	return true;
}

static void
note_the_rest(struct import *i, const struct properties *p, bool first)
{
	static const char *const everywhere[] = {"range", "users"};
	static const char *const settings[] = {"port",          "host",       "iddleTimeout",
					       "acceptTimeout", "udpTimeout", "datagramSize",
					       "log",           "proxy",      "directHosts"};
	for (size_t k = 0; k < p->n; k++) {
		bool known = false, setting = false;
		for (size_t e = 0; e < ARRAY_LEN(everywhere); e++)
			known |= strcmp(p->list[k].key, everywhere[e]) == 0;
		for (size_t s = 0; s < ARRAY_LEN(settings); s++)
			setting |= strcmp(p->list[k].key, settings[s]) == 0;
		i->line = p->list[k].line;
		if (!known && !setting)
			import_note(i, "\"%s\" is no property of jsocks", p->list[k].key);
		else if (setting && !first)
			import_note(i, "\"%s\" counts in the first file only", p->list[k].key);
	}
	i->line = 0;
}

static bool
add_settings(struct import *i, const struct properties *p, bool open)
{
	json_t *logging = json_object();
	char *file = find(i, p, "log");
	if (file != NULL && strcmp(file, "-") != 0)
		import_note(i, "logs go to stderr: send them to %s from there", file);
	import_set(i, logging, "access", json_boolean(file != NULL));
	import_set(i, i->policy, "log", logging);
	if (!add_listener(i, p, open))
		return false;
	add_timeouts(i, p);
	return add_proxies(i, p);
}

/* The listener hangs on whether any range is open, so the settings come last. */
bool
import_jsocks(struct import *i, char **files, int n)
{
	struct properties first = {NULL, 0, NULL};
	json_t *networks = json_array();
	bool ok = true, open = false;
	for (int k = 0; ok && k < n; k++) {
		struct properties p;
		ok = read_properties(i, files[k], &p) && add_network(i, &p, networks, &open);
		if (ok)
			note_the_rest(i, &p, k == 0);
		if (k == 0)
			first = p;
		else
			properties_free(&p);
	}
	i->file = files[0];
	i->line = 0;
	if (ok && json_array_size(networks) == 0)
		ok = import_fail(i, "no range of addresses is left, so nobody could come");
	if (ok && (ok = add_settings(i, &first, open))) {
		json_t *block = json_pack("{s:s, s:[s], s:O}", "name", "clients", "methods",
					  "ident", "networks", networks);
		import_append(i, import_list(i, "auth"), block);
	}
	json_decref(networks);
	properties_free(&first);
	return ok && !i->failed;
}
