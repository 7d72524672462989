#include "admin/gate.h"

#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/endpoint.h"
#include "base/text.h"

enum { DIGEST_LEN = 32 };

static bool
digest(const char *text, unsigned char out[DIGEST_LEN])
{
	unsigned len = 0;
	return EVP_Digest(text, strlen(text), out, &len, EVP_sha256(), NULL) == 1 &&
	       len == DIGEST_LEN;
}

bool
gate_token_matches(const char *authorization, const char *token)
{
	static const char scheme[] = "Bearer ";
	unsigned char given[DIGEST_LEN], wanted[DIGEST_LEN];
	if (authorization == NULL || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
		return false;
	const char *rest = authorization + sizeof scheme - 1;
	rest += strspn(rest, " ");
	bool same = digest(rest, given) && digest(token, wanted) &&
		    CRYPTO_memcmp(given, wanted, DIGEST_LEN) == 0;
	OPENSSL_cleanse(given, sizeof given);
	OPENSSL_cleanse(wanted, sizeof wanted);
	return same;
}

/* Without the port and the brackets of an IPv6 address. */
static size_t
host_part(const char **host)
{
	const char *end;
	if (**host == '[') {
		end = strchr(++*host, ']');
		return end != NULL ? (size_t)(end - *host) : 0;
	}
	return strcspn(*host, ":");
}

bool
gate_host_is_local(const char *host)
{
	struct endpoint at = { 0 };
	if (host == NULL)
		return true;
	size_t len = host_part(&host);
	if (len == strlen("localhost") && strncasecmp(host, "localhost", len) == 0)
		return true;
	return endpoint_set_host(&at, host, len) == ENDPOINT_OK && endpoint_is_address(&at) &&
	       endpoint_is_loopback(&at);
}

bool
gate_is_cross_origin(const char *origin, const char *host)
{
	static const char scheme[] = "http://";
	if (origin == NULL)
		return false;
	return host == NULL || strncasecmp(origin, scheme, sizeof scheme - 1) != 0 ||
	       strcasecmp(origin + sizeof scheme - 1, host) != 0;
}

bool
gate_body_is_ambiguous(const char *content_length, const char *transfer_encoding)
{
	uint64_t len;
	if (content_length == NULL)
		return false;
	return transfer_encoding != NULL ||
	       !text_read_number(content_length, strlen(content_length), INT64_MAX, &len);
}

uint64_t
gate_body_len(const char *content_length)
{
	uint64_t len = 0;
	if (content_length == NULL ||
	    !text_read_number(content_length, strlen(content_length), INT64_MAX, &len))
		return 0;
	return len;
}
