#include "admin/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "admin/commands.h"
#include "admin/options.h"
#include "base/hash.h"

#define TOKEN_AND_JSON_HELP                                                         \
	"  --token-file FILE  its token, in the first line of a file\n"                    \
	"  --json             the API's own answer\n"
#define REMOTE_HELP                                                                   \
	"  --admin URL        the admin API; http://127.0.0.1:9080 without it\n" TOKEN_AND_JSON_HELP

static const struct command commands[] = {
	{ "run", NULL,
	  "usage: sockroute run [--config FILE]\n"
	  "       sockroute run [--listen ADDR]... [--upstream URL]... [--admin ADDR]\n"
	  "\n"
	  "Serves. Without a file: direct on 127.0.0.1:1080, the admin API on 127.0.0.1:9080.\n"
	  "\n"
	  "  --config FILE      the policy, sockroute.json(5)\n"
	  "  --listen ADDR      where clients connect: HOST:PORT, [V6]:PORT or unix:/PATH;\n"
	  "                     there may be several\n"
	  "  --upstream URL     a proxy that all requests go through; several make a pool\n"
	  "  --admin ADDR       where the admin API listens: HOST:PORT; off: nowhere\n"
	  "\n"
	  "SIGHUP reads the file again; SIGTERM and SIGINT drain, then exit; a second one\n"
	  "exits at once. SIGUSR2 starts the same command line again and hands it the\n"
	  "listening sockets.\n",
	  "serve" },
	{ "check", command_check,
	  "usage: sockroute check FILE\n"
	  "\n"
	  "Checks a policy. Prints every error as FILE:LINE:COLUMN: /pointer: text and exits\n"
	  "with 2, or \"FILE: ok\".\n",
	  "check a policy" },
	{ "explain", command_explain,
	  "usage: sockroute explain --to HOST:PORT [OPTION]... (--config FILE | --admin URL)\n"
	  "\n"
	  "Tells what would become of a request, by which rule and why.\n"
	  "\n"
	  "  --to HOST:PORT     where the client wants to go\n"
	  "  --client IP        where it comes from; without it no rule on clients holds\n"
	  "  --user NAME        who it has proved to be\n"
	  "  --listener NAME    where it connected; may be left out where there is only one\n"
	  "  --protocol P       socks4, socks4a, socks5 (without it) or http\n"
	  "  --command C        connect (without it), bind or udp\n"
	  "  --config FILE      ask this policy; names are looked up as its dns says\n"
	  "  --admin URL        ask the router that has its admin API there, such as\n"
	  "                     http://127.0.0.1:9080\n"
	  TOKEN_AND_JSON_HELP,
	  "what would become of a request, and why" },
	{ "status", command_status,
	  "usage: sockroute status [OPTION]...\n"
	  "\n"
	  "Shows what a running sockroute is doing, and its upstreams.\n"
	  "\n"
	  REMOTE_HELP,
	  "show a running sockroute" },
	{ "connections", command_connections,
	  "usage: sockroute connections [OPTION]...\n"
	  "\n"
	  "Lists the sessions that are open.\n"
	  "\n"
	  REMOTE_HELP,
	  "list open sessions" },
	{ "reload", command_reload,
	  "usage: sockroute reload [OPTION]...\n"
	  "\n"
	  "Has the policy's file read again. A faulty one changes nothing: its errors are\n"
	  "printed, and the exit code is 2.\n"
	  "\n"
	  REMOTE_HELP,
	  "have the policy read again" },
	{ "drain", command_drain,
	  "usage: sockroute drain [OPTION]...\n"
	  "\n"
	  "Has it take no new clients, and exit once the open sessions have ended, or\n"
	  "timeouts.drain has passed.\n"
	  "\n"
	  REMOTE_HELP,
	  "have it end its sessions and exit" },
	{ "probe", command_probe,
	  "usage: sockroute probe URL[,URL]... [--to HOST:PORT] [--json]\n"
	  "\n"
	  "Tells what a proxy can do, or the last of several in a row: methods,\n"
	  "CONNECT by name and address, BIND, UDP, and how long each hop took. A comma\n"
	  "in a password is written %2C.\n"
	  "\n"
	  "  --to HOST:PORT     where to; example.com:80 without it\n"
	  "  --json             the same for programs\n"
	  "\n"
	  "Exit code 0 where it leads there, 1 where it does not.\n",
	  "what a proxy can do" },
	{ "import", command_import,
	  "usage: sockroute import jsocks FILE...\n"
	  "       sockroute import proxychains FILE\n"
	  "\n"
	  "Prints a policy made from another program's configuration. What has no equal\n"
	  "stands in its comment. Nothing is printed that `check` would not take.\n",
	  "make a policy of another program's files" },
	{ "hash-password", command_hash_password,
	  "usage: sockroute hash-password\n"
	  "\n"
	  "Reads a password from the terminal, or the first line of stdin, and prints its\n"
	  "hash for \"password_hash\".\n",
	  "hash a password for a policy" },
};

/* Of the contract, in a later version. */
static const char *const not_yet[] = { "top", "replay" };

static const struct command *
find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static void
print_help(FILE *out)
{
	fputs("usage: sockroute COMMAND [OPTION]...\n\n", out);
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		fprintf(out, "  %-15s%s\n", commands[i].name, commands[i].does);
	fputs("\n"
	      "  --version      print the version\n"
	      "  --help         print this; sockroute COMMAND --help tells of one command\n",
	      out);
}

static int
unknown_command(const char *name)
{
	const char *names[ARRAY_LEN(commands)];
	for (size_t i = 0; i < ARRAY_LEN(not_yet); i++)
		if (strcmp(not_yet[i], name) == 0)
			return usage_error("%s is not in this version", name);
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		names[i] = commands[i].name;
	return usage_unknown("command", name, names, ARRAY_LEN(names), "sockroute --help");
}

/* Help was asked for, wherever it stands: before anything else is judged. */
static bool
wants_help(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return true;
	return false;
}

static int
dispatch(int argc, char **argv)
{
	if (argc < 2) {
		print_help(stderr);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--version") == 0) {
		puts("sockroute " PACKAGE_VERSION);
		return EXIT_DONE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_help(stdout);
		return EXIT_DONE;
	}
	const struct command *c = find(argv[1]);
	if (c == NULL)
		return unknown_command(argv[1]);
	if (wants_help(argc - 1, argv + 1)) {
		fputs(c->help, stdout);
		return EXIT_DONE;
	}
	hash_start();
	json_object_seed(0);
	return c->run(argc - 1, argv + 1);
}

int
command_main(int argc, char **argv)
{
	int code = dispatch(argc, argv);
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	perror("sockroute: stdout");
	return EXIT_FAILED;
}

/* ---- run ---- */

static bool
keep(const char *const *given, size_t n, const char ***list)
{
	if ((*list = calloc(n + 1, sizeof **list)) == NULL)
		return false;
	for (size_t i = 0; i < n; i++)
		(*list)[i] = given[i];
	return true;
}

int
command_parse_run(int argc, char **argv, struct run_options *out)
{
	struct options o;
	*out = (struct run_options){ 0 };
	if (wants_help(argc, argv)) {
		fputs(find("run")->help, stdout);
		return EXIT_DONE;
	}
	if (!options_read(&o, argc, argv,
			  OPTION_CONFIG | OPTION_LISTEN | OPTION_UPSTREAM | OPTION_ADMIN, 0))
		return EXIT_USAGE;
	if (o.config != NULL && (o.n_listen > 0 || o.n_upstreams > 0 || o.admin != NULL)) {
		options_free(&o);
		return usage_error("run: --config goes with no other option: the file says it all");
	}
	out->config = o.config;
	out->admin = o.admin;
	out->n_listen = o.n_listen;
	out->n_upstreams = o.n_upstreams;
	bool ok = keep(o.listen, o.n_listen, &out->listen) &&
		  keep(o.upstreams, o.n_upstreams, &out->upstreams);
	options_free(&o);
	if (ok)
		return -1;
	command_free_run(out);
	fputs("sockroute: out of memory\n", stderr);
	return EXIT_FAILED;
}

void
command_free_run(struct run_options *o)
{
	free(o->listen);
	free(o->upstreams);
	*o = (struct run_options){ 0 };
}
