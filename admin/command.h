/*
 * command: what `sockroute COMMAND ...` does besides `run`: check, explain, status, connections,
 * reload, drain, hash-password, help.
 *
 * The client half talks to a running router's API; check and hash-password need none. Only what was
 * asked for goes to stdout.
 */
#ifndef ADMIN_COMMAND_H
#define ADMIN_COMMAND_H

#include "base/base.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/**
 * The options of `run`, in the order in which they were given. The arrays belong to the caller of
 * command_parse_run.
 */
struct run_options {
	const char *config; /* NULL: none */
	const char **listen, **upstreams;
	size_t n_listen, n_upstreams;
	const char *admin; /* NULL: as usual */
};

/**
 * Reads `run`'s options (argv[0] is "run"). -1: go on; else the exit code (help was printed, or the
 * usage error told). Release with command_free_run.
 */
int command_parse_run(int argc, char **argv, struct run_options *out) WARN_UNUSED;
void command_free_run(struct run_options *o);

/** Every other command; argv as main got it. The exit code. */
int command_main(int argc, char **argv);

#endif
