/*
 * credentials: {user} and {session} in what we show an upstream. See credentials.h.
 */
#include "upstream/credentials.h"

#include <string.h>

/* The value of a place that begins at text; its length in the template in *used. NULL: no place
 * begins here. */
static const char *
value_at(const char *text, const char *user, const char *session, size_t *used)
{
	static const char user_place[] = "{user}", session_place[] = "{session}";
	if (strncmp(text, user_place, sizeof user_place - 1) == 0) {
		*used = sizeof user_place - 1;
		return user == NULL ? "" : user;
	}
	if (strncmp(text, session_place, sizeof session_place - 1) == 0) {
		*used = sizeof session_place - 1;
		return session == NULL ? "" : session;
	}
	return NULL;
}

bool
credentials_expand(const char *template, const char *user, const char *session, char *out,
		   size_t cap)
{
	size_t len = 0;
	const char *at = template == NULL ? "" : template;
	while (*at != '\0') {
		size_t used = 1, n = 1;
		const char *from = value_at(at, user, session, &used);
		if (from == NULL)
			from = at;
		else
			n = strlen(from);
		if (n >= cap - len)
			return false;
		memcpy(out + len, from, n);
		len += n;
		at += used;
	}
	if (len >= cap)
		return false;
	out[len] = '\0';
	return true;
}
