/*
 * password: `sockroute hash-password`: a password from the terminal, without echo, or the first
 * line of stdin; its hash to stdout.
 */
#include <crypt.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "admin/command.h"
#include "admin/commands.h"
#include "admin/options.h"
#include "policy/upstream_url.h"

enum { LINE_MAX_BYTES = CREDENTIAL_MAX + 3 }; /* and "\r\n" and NUL, so that a longer one is seen */

/* Why it can't be used; NULL: fine. The line's end is cut off. */
static const char *
read_line(char line[LINE_MAX_BYTES])
{
	if (fgets(line, LINE_MAX_BYTES, stdin) == NULL)
		return "no password was given";
	size_t len = strcspn(line, "\r\n");
	line[len] = '\0';
	if (len == 0)
		return "an empty password is none";
	return len <= CREDENTIAL_MAX ? NULL : "a password has at most 255 bytes";
}

static void
set_echo(bool on)
{
	struct termios t;
	if (tcgetattr(STDIN_FILENO, &t) != 0)
		return;
	t.c_lflag = on ? t.c_lflag | ECHO : t.c_lflag & ~(tcflag_t)ECHO;
	(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &t);
}

static void
on_signal(int number)
{
	set_echo(true); /* tcsetattr is async-signal-safe */
	signal(number, SIG_DFL);
	raise(number);
}

static const char *
prompt(const char *text, char line[LINE_MAX_BYTES])
{
	fputs(text, stderr);
	const char *wrong = read_line(line);
	fputc('\n', stderr);
	return wrong;
}

/* Twice, as it can't be seen. The echo is off before the first prompt: who types at once is not
 * seen, nor is anything lost. */
static const char *
ask_terminal(char password[LINE_MAX_BYTES])
{
	char again[LINE_MAX_BYTES];
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	set_echo(false);
	const char *wrong = prompt("Password: ", password);
	if (wrong == NULL)
		wrong = prompt("Once more: ", again);
	set_echo(true);
	if (wrong == NULL && strcmp(password, again) != 0)
		wrong = "the two are not the same";
	explicit_bzero(again, sizeof again);
	return wrong;
}

static int
print_hash(const char *password)
{
	char salt[CRYPT_GENSALT_OUTPUT_SIZE];
	struct crypt_data *data = calloc(1, sizeof *data);
	int code = EXIT_FAILED;
	const char *hash = NULL;
	if (data != NULL && crypt_gensalt_rn("$y$", 0, NULL, 0, salt, sizeof salt) != NULL)
		hash = crypt_r(password, salt, data);
	if (hash != NULL && hash[0] != '*') {
		puts(hash);
		code = EXIT_DONE;
	} else {
		fprintf(stderr, "sockroute: hashing: %s\n", strerror(errno));
	}
	if (data != NULL)
		explicit_bzero(data, sizeof *data);
	free(data);
	return code;
}

int
command_hash_password(int argc, char **argv)
{
	struct options o;
	char password[LINE_MAX_BYTES];
	int code;
	if (!options_read(&o, argc, argv, 0, 0))
		return EXIT_USAGE;
	options_free(&o);
	const char *wrong = isatty(STDIN_FILENO) ? ask_terminal(password) : read_line(password);
	if (wrong != NULL) {
		fprintf(stderr, "sockroute: %s\n", wrong);
		code = EXIT_FAILED;
	} else {
		code = print_hash(password);
	}
	explicit_bzero(password, sizeof password);
	return code;
}
