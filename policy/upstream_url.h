/*
 * upstream_url: takes an upstream's URL apart: SCHEME://[USERNAME[:PASSWORD]@]HOST[:PORT], or
 * direct://. Pure.
 *
 * User name and password are percent-decoded. Ports where none is written are curl's: 1080, and 443
 * for https. What comes out of here to be read by people never holds the password.
 */
#ifndef POLICY_UPSTREAM_URL_H
#define POLICY_UPSTREAM_URL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/base.h"
#include "base/endpoint.h"
#include "policy/policy.h"

struct arena;

enum { CREDENTIAL_MAX = 255 }; /* bytes of a user name or a password, as RFC 1929 carries them */

struct upstream_url {
	enum upstream_scheme scheme;
	char scheme_text[16]; /* as written */
	struct endpoint at;   /* kind NONE for direct:// */
	bool has_username, has_password;
	char username[CREDENTIAL_MAX + 1], password[CREDENTIAL_MAX + 1];
};

/** Returns NULL, or what is wrong with it: a sentence "expected ..." that quotes at most the
 * scheme, in why (cap bytes). */
const char *upstream_url_read(
    struct upstream_url *out, const char *text, char *why, size_t cap) WARN_UNUSED;

/** Where the password stands in the text, still encoded. False: it has none. */
bool upstream_url_find_password(const char *text, size_t *at, size_t *len);
/** The same text with `mask` for its password; NULL: out of memory. */
char *upstream_url_mask(struct arena *a, const char *text, const char *mask) WARN_UNUSED;

/** Percent-decodes into out (cap bytes with NUL). False: a faulty %XX, a NUL, or too long. */
bool percent_decode(const char *text, size_t len, char *out, size_t cap);
/** Percent-encodes all but RFC 3986's unreserved characters and the braces of {user}; cap: 3 *
 * length + 1 never cuts. */
void percent_encode(const char *text, char *out, size_t cap);

#endif
