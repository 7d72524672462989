/*
 * main: builds everything, wires it, runs, tears down in reverse. No logic.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ares.h>
#include <jansson.h>
#include <sys/resource.h>
#include <unistd.h>

#include "admin/command.h"
#include "admin/hints.h"
#include "admin/http.h"
#include "base/hash.h"
#include "base/log.h"
#include "policy/policy.h"
#include "router/router.h"
#include "router/takeover.h"

static void
raise_descriptor_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int
print_errors(const struct policy_errors *errors, const char *name)
{
	char *text = policy_errors_to_text(errors, name);
	if (text != NULL)
		fputs(text, stderr);
	free(text);
	return EXIT_USAGE;
}

/* The policy of the file, or the one that the command line makes. *path: malloc'ed; NULL without a file. */
static struct policy *
load_policy(const struct run_options *o, char **path, struct policy_errors *errors)
{
	*path = NULL;
	if (o->config != NULL) {
		*path = realpath(o->config, NULL);
		return policy_load_file(*path != NULL ? *path : o->config, NULL, errors);
	}
	char *text = policy_default_text(o->listen, o->n_listen, o->upstreams, o->n_upstreams, o->admin);
	if (text == NULL)
		return NULL;
	struct policy_source from = { .text = text, .len = strlen(text), .name = "built-in" };
	struct policy *p = policy_load(&from, errors);
	free(text);
	return p;
}

/* ---- what a takeover needs of the roof ---- */

struct roof {
	struct admin *admin;
	struct endpoint at;            /* where the API listens */
};

static void
admin_key(const struct endpoint *at, char *key, size_t cap)
{
	char text[ENDPOINT_TEXT_MAX];
	snprintf(key, cap, "admin:%s", endpoint_to_text(at, text, sizeof text));
}

static int
on_admin_socket(void *arg, char *key, size_t cap)
{
	const struct roof *r = arg;
	admin_key(&r->at, key, cap);
	return r->admin != NULL ? admin_socket(r->admin) : -1;
}

static void
on_handed_over(void *arg)
{
	struct roof *r = arg;
	if (r->admin != NULL)
		admin_quiesce(r->admin);
}

static bool
start_admin(struct roof *r, struct control *c, struct inheritance *from, char *why, size_t cap)
{
	char key[ENDPOINT_TEXT_MAX + 8];
	admin_key(&r->at, key, sizeof key);
	int inherited = takeover_claim(from, key);
	r->admin = admin_start(c, &r->at, inherited, takeover_moves(from, "admin:", &r->at), why, cap);
	return r->admin != NULL;
}

static int
serve(struct policy *p, const char *path)
{
	char why[512] = "";
	struct roof roof = { .at = p->admin.listen };
	struct router_hooks hooks = { .admin_socket = on_admin_socket, .handed_over = on_handed_over, .arg = &roof };
	struct inheritance *from = takeover_receive();
	int code = EXIT_USAGE;
	policy_ref(p);                         /* its admin block and the hints are read below */
	struct router_options o = { .policy = p, .policy_path = path, .inheritance = from, .hooks = &hooks };
	struct control *control = router_new(&o, why, sizeof why);
	if (control == NULL || (p->admin.enabled && !start_admin(&roof, control, from, why, sizeof why))) {
		log_say(LOG_ERROR, "can't start: %s", why);
		takeover_free(from);
	} else {
		hints_print(p, stderr);
		takeover_ready(from);
		takeover_free(from);
		code = router_run(control);
	}
	admin_stop(roof.admin);
	router_free(control);
	policy_unref(p);
	return code;
}

static int
run(int argc, char **argv)
{
	struct run_options options;
	struct policy_errors errors;
	char *path = NULL;
	int code = command_parse_run(argc, argv, &options);
	if (code >= 0)
		return code;
	policy_errors_init(&errors);
	struct policy *p = load_policy(&options, &path, &errors);
	if (p == NULL) {
		code = print_errors(&errors, options.config != NULL ? options.config : "command line");
	} else {
		log_set(p->log.level, p->log.format);
		code = serve(p, path);
	}
	policy_errors_free(&errors);
	command_free_run(&options);
	free(path);
	return code;
}

int
main(int argc, char **argv)
{
	if (argc < 2 || strcmp(argv[1], "run") != 0)
		return command_main(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	router_block_signals();
	takeover_remember(argv);
	raise_descriptor_limit();
	hash_start();
	json_object_seed(0);
	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS || !log_start(STDERR_FILENO)) {
		fprintf(stderr, "sockroute: can't start: %s\n", strerror(errno));
		return EXIT_FAILED;
	}
	int code = run(argc - 1, argv + 1);
	log_stop();
	ares_library_cleanup();
	return code;
}
