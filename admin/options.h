/*
 * options: the options of the command line, one table for all commands: each command names those
 * that it takes.
 */
#ifndef ADMIN_OPTIONS_H
#define ADMIN_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/base.h"

enum option_set {
	OPTION_CONFIG = 1 << 0,
	OPTION_LISTEN = 1 << 1,
	OPTION_UPSTREAM = 1 << 2,
	OPTION_ADMIN = 1 << 3,
	OPTION_TOKEN_FILE = 1 << 4,
	OPTION_JSON = 1 << 5,
	OPTION_TO = 1 << 6,
	OPTION_CLIENT = 1 << 7,
	OPTION_USER = 1 << 8,
	OPTION_LISTENER = 1 << 9,
	OPTION_PROTOCOL = 1 << 10,
	OPTION_COMMAND = 1 << 11,
};

/* Strings are argv's; NULL where not given. */
struct options {
	const char *config, *admin, *token_file, *to, *client, *user, *listener, *protocol,
	    *command;
	const char **listen, **upstreams;
	size_t n_listen, n_upstreams;
	bool json;
	const char *operand; /* the one argument that is no option */
};

/**
 * Reads argv; argv[0] is the command's name. Both "--admin X" and "--admin=X" are taken.
 * @param takes       enum option_set
 * @param n_operands  0, or 1 that must be there
 * @return false: told on stderr, nothing to free
 */
bool options_read(struct options *o, int argc, char **argv, unsigned takes,
		  int n_operands) WARN_UNUSED;
void options_free(struct options *o);

/** Tells on stderr what is wrong with the command line; EXIT_USAGE. */
int usage_error(const char *fmt, ...) PRINTF_LIKE(1, 2);
/**
 * The same for a word that is none of the known ones, with the nearest of them, or with the
 * command line that lists them.
 */
int usage_unknown(const char *what, const char *word, const char *const *known, size_t n,
		  const char *help);

#endif
