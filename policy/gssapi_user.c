/*
 * gssapi_user: which user a principal is. See policy.h.
 */
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"

static int
by_principal(const void *principal, const void *name)
{
	return strcmp(principal, ((const struct policy_gssapi_name *)name)->principal);
}

static const char *
find_mapped(const struct policy_gssapi *g, const char *principal)
{
	const struct policy_gssapi_name *found =
	    g->n_map == 0 ? NULL
			  : bsearch(principal, g->map, g->n_map, sizeof *g->map, by_principal);
	return found == NULL ? NULL : found->user;
}

/* A '+' would begin the session, so who could have that in a principal could be any user. */
static bool
is_user(const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)name[i] <= 0x20 || name[i] == 0x7f || name[i] == '+')
			return false;
	return len > 0;
}

bool
policy_gssapi_user(const struct policy_gssapi *g, const char *principal, char *out, size_t cap)
{
	const char *mapped = find_mapped(g, principal);
	const char *user = mapped != NULL ? mapped : principal;
	const char *realm = strrchr(user, '@');
	size_t len = strlen(user);
	if (mapped == NULL && (realm == NULL || realm == user || realm[1] == '\0'))
		return false;
	if (mapped == NULL && g->realm != NULL) {
		if (strcmp(realm + 1, g->realm) != 0)
			return false;
		len = (size_t)(realm - user);
	}
	if (!is_user(user, len) || len >= cap)
		return false;
	memcpy(out, user, len);
	out[len] = '\0';
	return true;
}
