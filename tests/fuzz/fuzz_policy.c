/*
 * fuzz_policy: any bytes as a policy: it is refused with an error, or it is a policy whose public
 * text, sent back, is the same policy with the same secrets.
 */
#include "policy/policy.h"

#include "fuzz.h"

static struct policy *
load(const char *text, size_t len, const struct policy *before, struct policy_errors *errors)
{
	struct policy_source from = {
		.text = text, .len = len, .name = "fuzz", .dir = "/", .before = before
	};
	policy_errors_init(errors);
	struct policy *p = policy_load(&from, errors);
	must((p == NULL) == (errors->n > 0));
	return p;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct policy_errors errors;
	struct policy *p = load((const char *)data, size, NULL, &errors);
	for (size_t i = 0; i < errors.n; i++)
		must(*errors.list[i].message != '\0' &&
		     (*errors.list[i].pointer == '\0' || *errors.list[i].pointer == '/'));
	policy_errors_free(&errors);
	if (p == NULL)
		return 0;
	struct policy *again = load(p->public_text, strlen(p->public_text), p, &errors);
	must(again != NULL);
	must(strcmp(again->public_text, p->public_text) == 0);
	must(again->n_rules == p->n_rules && again->n_upstreams == p->n_upstreams);
	for (size_t i = 0; i < p->n_upstreams; i++) {
		const char *was = p->upstreams[i].password, *is = again->upstreams[i].password;
		must((was == NULL) == (is == NULL) && (was == NULL || strcmp(was, is) == 0));
	}
	policy_unref(again);
	policy_unref(p);
	policy_errors_free(&errors);
	return 0;
}
