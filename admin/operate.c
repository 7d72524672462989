/*
 * operate: the commands that look at a running router or tell it something: status, connections,
 * reload, drain.
 */
#include <inttypes.h>
#include <stdio.h>

#include "admin/command.h"
#include "admin/commands.h"
#include "admin/remote.h"
#include "admin/table.h"

enum { NUMBER_MAX = 32 };

/* ---- reading an answer: what is missing reads as "" and 0 ---- */

static const char *
text_at(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text != NULL ? text : "";
}

static uint64_t
number_at(const json_t *object, const char *key)
{
	double value = json_number_value(json_object_get(object, key));
	return value > 0 ? (uint64_t)value : 0;
}

static void
add_number(struct table *t, uint64_t n)
{
	char text[NUMBER_MAX];
	snprintf(text, sizeof text, "%" PRIu64, n);
	table_add(t, text);
}

/* "1.5MiB": three digits are enough to look at. */
static void
add_bytes(struct table *t, uint64_t n)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	char text[NUMBER_MAX];
	double value = (double)n;
	unsigned unit = 0;
	for (; value >= 1024 && unit + 1 < ARRAY_LEN(units); unit++)
		value /= 1024;
	snprintf(text, sizeof text, unit > 0 && value < 100 ? "%.1f%s" : "%.0f%s", value,
		 units[unit]);
	table_add(t, text);
}

static void
write_age(char *out, size_t cap, uint64_t s)
{
	if (s >= 86400)
		snprintf(out, cap, "%" PRIu64 "d%02" PRIu64 "h", s / 86400, s % 86400 / 3600);
	else if (s >= 3600)
		snprintf(out, cap, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s % 3600 / 60);
	else if (s >= 60)
		snprintf(out, cap, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
	else
		snprintf(out, cap, "%" PRIu64 "s", s);
}

/* ---- status ---- */

static void
print_status(const json_t *status, const json_t *stats)
{
	const json_t *policy = json_object_get(status, "policy"),
		     *sessions = json_object_get(stats, "sessions");
	char age[NUMBER_MAX];
	write_age(age, sizeof age, number_at(status, "uptime_seconds"));
	printf("sockroute %s, %s for %s, %" PRIu64 " workers\n", text_at(status, "version"),
	       text_at(status, "state"), age, number_at(status, "workers"));
	printf("policy: revision %" PRIu64 ", loaded %s from ", number_at(policy, "revision"),
	       text_at(policy, "loaded_at"));
	print_clean(text_at(policy, "source"), stdout);
	printf("\nsessions: %" PRIu64 " open, %" PRIu64 " accepted, %" PRIu64 " granted, %" PRIu64
	       " rejected, %" PRIu64 " failed\n",
	       number_at(sessions, "open"), number_at(sessions, "accepted"),
	       number_at(sessions, "granted"), number_at(sessions, "rejected"),
	       number_at(sessions, "failed"));
}

static void
print_upstreams(const json_t *answer)
{
	static const char *const head[] = { "UPSTREAM", "STATE", "OPEN", "TOTAL", "FAILED",
					    "CONNECT",  "UP",    "DOWN", "URL" };
	struct table t;
	size_t i;
	json_t *u;
	if (json_array_size(json_object_get(answer, "upstreams")) == 0)
		return;
	table_init(&t, ARRAY_LEN(head), 0xfc);
	for (i = 0; i < ARRAY_LEN(head); i++)
		table_add(&t, head[i]);
	json_array_foreach(json_object_get(answer, "upstreams"), i, u)
	{
		const json_t *bytes = json_object_get(u, "bytes");
		char ms[NUMBER_MAX];
		double ewma =
		    json_number_value(json_object_get(json_object_get(u, "connect_ms"), "ewma"));
		snprintf(ms, sizeof ms, "-");
		if (ewma > 0)
			snprintf(ms, sizeof ms, "%.1fms", ewma);
		table_add(&t, text_at(u, "name"));
		table_add(&t, text_at(u, "state"));
		add_number(&t, number_at(u, "sessions_open"));
		add_number(&t, number_at(u, "sessions_total"));
		add_number(&t, number_at(u, "failures_total"));
		table_add(&t, ms);
		add_bytes(&t, number_at(bytes, "up"));
		add_bytes(&t, number_at(bytes, "down"));
		table_add(&t, text_at(u, "url"));
	}
	putchar('\n');
	table_print(&t, stdout);
	table_free(&t);
}

static int
show_status(const struct client *c, bool raw)
{
	int code;
	json_t *status = remote_call(c, "GET", "/v1/status", raw, &code);
	if (status == NULL)
		return code;
	json_t *stats = remote_call(c, "GET", "/v1/stats", false, &code);
	json_t *upstreams =
	    stats != NULL ? remote_call(c, "GET", "/v1/upstreams", false, &code) : NULL;
	if (upstreams != NULL) {
		print_status(status, stats);
		print_upstreams(upstreams);
	}
	json_decref(upstreams);
	json_decref(stats);
	json_decref(status);
	return code;
}

/* ---- connections ---- */

static void
add_path(struct table *t, const json_t *path)
{
	char text[TABLE_CELL_MAX] = "";
	size_t i, len = 0;
	json_t *hop;
	json_array_foreach(path, i, hop) if (len < sizeof text) len += (size_t)snprintf(
	    text + len, sizeof text - len, "%s%s", i > 0 ? ">" : "", json_string_value(hop));
	table_add(t, text);
}

static void
add_connection(struct table *t, const json_t *x)
{
	char age[NUMBER_MAX];
	write_age(age, sizeof age, number_at(x, "age_seconds"));
	add_number(t, number_at(x, "id"));
	table_add(t, text_at(x, "client"));
	table_add(t, text_at(x, "user"));
	table_add(t, text_at(x, "protocol"));
	table_add(t, text_at(x, "to"));
	table_add(t, text_at(x, "rule"));
	add_path(t, json_object_get(x, "path"));
	table_add(t, text_at(x, "state"));
	table_add(t, age);
	add_bytes(t, number_at(json_object_get(x, "bytes"), "up"));
	add_bytes(t, number_at(json_object_get(x, "bytes"), "down"));
}

static void
print_connections(const json_t *answer)
{
	static const char *const head[] = { "ID",   "CLIENT", "USER", "PROTOCOL", "TO",  "RULE",
					    "PATH", "STATE",  "AGE",  "UP",       "DOWN" };
	const json_t *list = json_object_get(answer, "connections");
	struct table t;
	size_t i;
	json_t *x;
	table_init(&t, ARRAY_LEN(head), 0x701);
	for (i = 0; i < ARRAY_LEN(head); i++)
		table_add(&t, head[i]);
	json_array_foreach(list, i, x) add_connection(&t, x);
	table_print(&t, stdout);
	table_free(&t);
	if (number_at(answer, "total") > json_array_size(list))
		fprintf(stderr, "%zu of %" PRIu64 " are shown\n", json_array_size(list),
			number_at(answer, "total"));
}

static int
show_connections(const struct client *c, bool raw)
{
	int code;
	json_t *answer = remote_call(c, "GET", "/v1/connections?limit=10000", raw, &code);
	if (answer != NULL)
		print_connections(answer);
	json_decref(answer);
	return code;
}

/* ---- telling it something ---- */

static int
do_reload(const struct client *c, bool raw)
{
	int code;
	json_t *answer = remote_call(c, "POST", "/v1/policy/reload", raw, &code);
	if (answer != NULL)
		printf("revision %" PRIu64 " is in force\n", number_at(answer, "revision"));
	json_decref(answer);
	return code;
}

static int
do_drain(const struct client *c, bool raw)
{
	int code;
	json_t *answer = remote_call(c, "POST", "/v1/drain", raw, &code);
	if (answer != NULL)
		printf("draining\n");
	json_decref(answer);
	return code;
}

/* ---- the commands ---- */

typedef int operation(const struct client *c, bool raw);

static int
operate(int argc, char **argv, operation *op)
{
	struct options o;
	struct client c;
	int code;
	if (!options_read(&o, argc, argv, OPTION_ADMIN | OPTION_TOKEN_FILE | OPTION_JSON, 0))
		return EXIT_USAGE;
	if (remote_open(&c, &o, &code))
		code = op(&c, o.json);
	options_free(&o);
	return code;
}

int
command_status(int argc, char **argv)
{
	return operate(argc, argv, show_status);
}

int
command_connections(int argc, char **argv)
{
	return operate(argc, argv, show_connections);
}

int
command_reload(int argc, char **argv)
{
	return operate(argc, argv, do_reload);
}

int
command_drain(int argc, char **argv)
{
	return operate(argc, argv, do_drain);
}
