/*
 * explain_command: `sockroute explain`: asks a running router, or a policy's file with a fleet of
 * its own that nobody uses, and looks names up as that policy says.
 */
#include <stdio.h>
#include <stdlib.h>

#include "admin/check.h"
#include "admin/command.h"
#include "admin/commands.h"
#include "admin/explain.h"
#include "admin/json.h"
#include "admin/remote.h"
#include "admin/table.h"
#include "router/control.h"
#include "upstream/fleet.h"

enum { ADDRESSES_MAX = 64, PATH_MAX_BYTES = 8192 };

/* ---- for people ---- */

static const char *
text_at(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text != NULL ? text : "";
}

static void
print_line(const char *what, const char *text)
{
	printf("%-11s", what);
	print_clean(text, stdout);
	putchar('\n');
}

static void
print_tried(const json_t *tried)
{
	size_t i;
	json_t *t;
	json_array_foreach(tried, i, t)
	{
		printf("%-11s%-4s", i == 0 ? "tried" : "",
		       json_is_true(json_object_get(t, "matched")) ? "yes" : "no");
		print_clean(text_at(t, "rule"), stdout);
		fputs(": ", stdout);
		print_clean(text_at(t, "reason"), stdout);
		putchar('\n');
	}
}

static void
print_addresses(const json_t *addresses)
{
	size_t i;
	json_t *a;
	json_array_foreach(addresses, i, a)
	{
		printf("%-11s%s", i == 0 ? "addresses" : "", text_at(a, "address"));
		if (text_at(a, "rejected_by")[0] != '\0') {
			fputs(", which must not be dialled: rule ", stdout);
			print_clean(text_at(a, "rejected_by"), stdout);
		}
		putchar('\n');
	}
}

static void
print_candidates(const json_t *candidates)
{
	size_t i;
	json_t *m;
	json_array_foreach(candidates, i, m)
	{
		printf("%-11s", i == 0 ? "candidates" : "");
		print_clean(text_at(m, "name"), stdout);
		printf(" (%s)", text_at(m, "state"));
		if (!json_is_true(json_object_get(m, "usable"))) {
			fputs(", not usable: ", stdout);
			print_clean(text_at(m, "reason"), stdout);
		}
		putchar('\n');
	}
}

static void
print_path(const json_t *path)
{
	size_t i;
	json_t *hop;
	fputs("path       ", stdout);
	json_array_foreach(path, i, hop)
	{
		fputs(i > 0 ? " > " : "", stdout);
		print_clean(json_string_value(hop) != NULL ? json_string_value(hop) : "", stdout);
	}
	puts(json_array_size(path) == 0 ? "none" : "");
}

static void
print_answer(const json_t *answer)
{
	print_line("rule", text_at(answer, "rule"));
	print_line("route", text_at(answer, "route"));
	print_tried(json_object_get(answer, "tried"));
	print_line("resolve", text_at(answer, "resolve"));
	print_addresses(json_object_get(answer, "addresses"));
	print_candidates(json_object_get(answer, "candidates"));
	print_path(json_object_get(answer, "path"));
}

/* ---- a running router ---- */

static int
ask_router(const struct options *o)
{
	char path[PATH_MAX_BYTES] = "/v1/explain";
	struct client c;
	int code;
	if (!remote_open(&c, o, &code))
		return code;
	if (!client_add_argument(path, sizeof path, "to", o->to) ||
	    !client_add_argument(path, sizeof path, "client", o->client) ||
	    !client_add_argument(path, sizeof path, "user", o->user) ||
	    !client_add_argument(path, sizeof path, "listener", o->listener) ||
	    !client_add_argument(path, sizeof path, "protocol", o->protocol) ||
	    !client_add_argument(path, sizeof path, "command", o->command))
		return usage_error("explain: the options are too long");
	json_t *answer = remote_call(&c, "GET", path, o->json, &code);
	if (answer != NULL)
		print_answer(answer);
	json_decref(answer);
	return code;
}

/* ---- a file ---- */

static int
explain_with(struct fleet *f, const struct options *o)
{
	struct explain_words words = { o->to,       o->client,   o->user,
				       o->listener, o->protocol, o->command };
	struct endpoint list[ADDRESSES_MAX];
	struct explain_addresses addresses = { .list = list };
	struct explain_question q;
	bool unknown;
	char why[256];
	const char *wrong = explain_read(&q, &words, fleet_policy(f), &unknown, why, sizeof why);
	if (wrong != NULL)
		return usage_error("explain: %s", wrong);
	if (explain_needs_addresses(&q, f)) {
		addresses.asked = true;
		addresses.n = control_resolve_alone(fleet_policy(f), q.to.name, list, ADDRESSES_MAX);
	}
	json_t *answer = explain_json(&q, f, &addresses);
	if (answer == NULL)
		return usage_error("out of memory");
	if (o->json)
		json_dumpf(answer, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(JSON_DIGITS));
	else
		print_answer(answer);
	fputs(o->json ? "\n" : "", stdout);
	json_decref(answer);
	return EXIT_DONE;
}

static int
ask_file(const struct options *o)
{
	struct policy_errors errors;
	char why[512] = "out of memory";
	int code = EXIT_USAGE;
	policy_errors_init(&errors);
	struct policy *p = check_load_file(o->config, &errors);
	struct board *b = p != NULL ? board_new() : NULL;
	struct fleet *f = b != NULL ? fleet_new(p, b, why, sizeof why) : NULL;
	if (p == NULL)
		print_policy_errors(&errors, o->config, stderr);
	else if (f == NULL)
		usage_error("%s: %s", o->config, why);
	else
		code = explain_with(f, o);
	fleet_unref(f);
	board_free(b);
	policy_unref(p);
	policy_errors_free(&errors);
	return code;
}

int
command_explain(int argc, char **argv)
{
	struct options o;
	int code;
	if (!options_read(&o, argc, argv,
			  OPTION_TO | OPTION_CLIENT | OPTION_USER | OPTION_LISTENER |
			      OPTION_PROTOCOL | OPTION_COMMAND | OPTION_CONFIG | OPTION_ADMIN |
			      OPTION_TOKEN_FILE | OPTION_JSON,
			  0))
		return EXIT_USAGE;
	if (o.to == NULL)
		code = usage_error("explain: expected --to HOST:PORT");
	else if ((o.config != NULL) == (o.admin != NULL))
		code = usage_error(
		    "explain: expected either --config FILE or --admin URL "
		    "(such as http://127.0.0.1:9080)");
	else
		code = o.config != NULL ? ask_file(&o) : ask_router(&o);
	options_free(&o);
	return code;
}
