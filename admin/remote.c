#include "admin/remote.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "admin/command.h"
#include "admin/commands.h"
#include "admin/table.h"

static const char usual_url[] = "http://127.0.0.1:9080";

bool
remote_open(struct client *c, const struct options *o, int *code)
{
	char why[512];
	const char *wrong = client_read_url(c, o->admin != NULL ? o->admin : usual_url);
	if (wrong != NULL) {
		*code = usage_error("--admin %s: %s", o->admin, wrong);
		return false;
	}
	if (o->token_file != NULL && !client_read_token(c, o->token_file, why, sizeof why)) {
		fprintf(stderr, "sockroute: --token-file %s\n", why);
		*code = EXIT_FAILED;
		return false;
	}
	return true;
}

static const char *
text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text != NULL ? text : "";
}

/* Each error of a policy as `check` tells it, without a file's name. */
static void
print_errors(const json_t *errors)
{
	size_t i;
	json_t *e;
	json_array_foreach(errors, i, e)
	{
		fprintf(stderr, "%" JSON_INTEGER_FORMAT ":%" JSON_INTEGER_FORMAT ": ",
			json_integer_value(json_object_get(e, "line")),
			json_integer_value(json_object_get(e, "column")));
		print_clean(text_of(e, "pointer"), stderr);
		fputs(": ", stderr);
		print_clean(text_of(e, "message"), stderr);
		fputc('\n', stderr);
	}
}

/* What a problem document says; the exit code. */
static int
tell_problem(const struct client_answer *a)
{
	json_t *problem = json_loadb(a->body, a->len, 0, NULL);
	const char *detail = text_of(problem, "detail");
	fprintf(stderr, "sockroute: %d ", a->status);
	print_clean(detail[0] != '\0' ? detail : "the API refused", stderr);
	fputc('\n', stderr);
	print_errors(json_object_get(problem, "errors"));
	json_decref(problem);
	return a->status == 400 || a->status == 422 ? EXIT_USAGE : EXIT_FAILED;
}

json_t *
remote_call(const struct client *c, const char *method, const char *path, bool raw, int *code)
{
	struct client_answer a;
	char why[512];
	json_t *value = NULL;
	*code = EXIT_FAILED;
	if (!client_call(c, method, path, NULL, &a, why, sizeof why)) {
		fprintf(stderr, "sockroute: %s\n", why);
		return NULL;
	}
	if (a.status < 200 || a.status > 299) {
		*code = tell_problem(&a);
	} else if (raw) {
		fwrite(a.body, 1, a.len, stdout);
		*code = EXIT_DONE;
	} else if ((value = json_loadb(a.body, a.len, 0, NULL)) == NULL) {
		fprintf(stderr, "sockroute: what answers is no admin API\n");
	} else {
		*code = EXIT_DONE;
	}
	client_answer_free(&a);
	return value;
}
