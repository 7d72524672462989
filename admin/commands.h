/*
 * commands: what each command of the command line is. argv[0] is its name; the exit code is
 * returned.
 */
#ifndef ADMIN_COMMANDS_H
#define ADMIN_COMMANDS_H

#include <stdio.h>

struct command {
	const char *name;
	int (*run)(int argc, char **argv); /* NULL: `run`, which is router/main.c's */
	const char *help;
	const char *does; /* in a few words, for the list of commands */
};

struct policy_errors;

/** FILE:LINE:COLUMN: /pointer: text, one line for each error. */
void print_policy_errors(const struct policy_errors *errors, const char *file, FILE *out);

int command_check(int argc, char **argv);   /* check.c */
int command_explain(int argc, char **argv); /* explain_command.c */
int command_status(int argc, char **argv);  /* operate.c */
int command_connections(int argc, char **argv);
int command_reload(int argc, char **argv);
int command_drain(int argc, char **argv);
int command_probe(int argc, char **argv);         /* probe_command.c */
int command_import(int argc, char **argv);        /* import.c */
int command_hash_password(int argc, char **argv); /* password.c */

#endif
