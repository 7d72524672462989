/*
 * pool_key: see pool_key.h.
 */
#include "upstream/pool_key.h"

#include <stdio.h>
#include <string.h>

static size_t
copy_text(const char *text, char out[POOL_KEY_MAX])
{
	if (text == NULL)
		return 0;
	snprintf(out, POOL_KEY_MAX, "%s", text);
	return strlen(out);
}

static size_t
host_text(const struct endpoint *e, char out[POOL_KEY_MAX])
{
	if (e == NULL || e->kind == ENDPOINT_NONE)
		return 0;
	endpoint_host_to_text(e, out, POOL_KEY_MAX);
	return strlen(out);
}

size_t
pool_key_text(enum pool_key what, const struct pick_key *key, char out[POOL_KEY_MAX])
{
	out[0] = '\0';
	if (key == NULL)
		return 0;
	switch (what) {
	case KEY_CLIENT_IP:
		return host_text(key->client, out);
	case KEY_USER:
		return copy_text(key->user, out);
	case KEY_SESSION:
		return copy_text(key->session, out);
	case KEY_DESTINATION:
		if (key->to == NULL || key->to->kind == ENDPOINT_NONE)
			return 0;
		endpoint_to_text(key->to, out, POOL_KEY_MAX);
		return strlen(out);
	case KEY_DESTINATION_HOST:
		return host_text(key->to, out);
	case KEY_NONE:
		break;
	}
	return 0;
}
