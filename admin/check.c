#include "admin/check.h"

#include <stdio.h>
#include <stdlib.h>

#include "admin/command.h"
#include "admin/commands.h"
#include "admin/options.h"
#include "policy/errors.h"
#include "upstream/fleet.h"

/* The fleet reads the upstreams' TLS files. Takes the policy; NULL: an error was added. */
static struct policy *
check_upstreams(struct policy *p, struct policy_errors *errors)
{
	char why[512] = "out of memory";
	struct board *b = board_new();
	struct fleet *f = b != NULL ? fleet_new(p, b, why, sizeof why) : NULL;
	if (f == NULL) {
		policy_errors_add(errors, "/upstreams", 0, 0, "%s", why);
		policy_unref(p);
		p = NULL;
	}
	fleet_unref(f);
	board_free(b);
	return p;
}

struct policy *
check_load(const struct policy_source *from, struct policy_errors *errors)
{
	struct policy *p = policy_load(from, errors);
	return p != NULL ? check_upstreams(p, errors) : NULL;
}

struct policy *
check_load_file(const char *path, struct policy_errors *errors)
{
	struct policy *p = policy_load_file(path, NULL, errors);
	return p != NULL ? check_upstreams(p, errors) : NULL;
}

void
print_policy_errors(const struct policy_errors *errors, const char *file, FILE *out)
{
	char *text = policy_errors_to_text(errors, file);
	fputs(text != NULL ? text : "out of memory\n", out);
	free(text);
}

int
command_check(int argc, char **argv)
{
	struct options o;
	struct policy_errors errors;
	if (!options_read(&o, argc, argv, 0, 1))
		return EXIT_USAGE;
	policy_errors_init(&errors);
	struct policy *p = check_load_file(o.operand, &errors);
	if (p != NULL)
		printf("%s: ok\n", o.operand);
	else
		print_policy_errors(&errors, o.operand, stdout);
	policy_unref(p);
	policy_errors_free(&errors);
	options_free(&o);
	return p != NULL ? EXIT_DONE : EXIT_USAGE;
}
