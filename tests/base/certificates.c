/*
 * certificates: tests/base/certificates.h by OpenSSL's own functions; P-256, as it is quick.
 */
#include "tests/base/certificates.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define NEED(what)                                                                                 \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "certificates: %s failed\n", #what);                       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

enum { DAY = 24 * 3600 };

static char directory[] = "/tmp/sockroute-certificates-XXXXXX";

struct identity {
	X509 *certificate;
	EVP_PKEY *key;
};

const char *
certificate_path(const char *file)
{
	static char paths[8][320];
	static unsigned next;
	char *path = paths[next++ % 8];
	snprintf(path, sizeof paths[0], "%s/%s", directory, file);
	return path;
}

static void
add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	NEED(e != NULL && X509_add_ext(x, e, -1) == 1);
	X509_EXTENSION_free(e);
}

/* issuer NULL: signed by itself. names NULL: none. */
static struct identity
make(const char *cn, const char *names, long from, long to, const struct identity *issuer, bool ca)
{
	static long serial = 1;
	struct identity id = { X509_new(), EVP_EC_gen("P-256") };
	X509 *x = id.certificate;
	NEED(x != NULL && id.key != NULL);
	X509_set_version(x, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(x), serial++);
	X509_gmtime_adj(X509_getm_notBefore(x), from);
	X509_gmtime_adj(X509_getm_notAfter(x), to);
	X509_set_pubkey(x, id.key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
	    (const unsigned char *)cn, -1, -1, 0);
	X509 *by = issuer != NULL ? issuer->certificate : x;
	X509_set_issuer_name(x, X509_get_subject_name(by));
	add_extension(x, by, NID_basic_constraints, ca ? "critical,CA:TRUE" : "CA:FALSE");
	if (names != NULL)
		add_extension(x, by, NID_subject_alt_name, names);
	NEED(X509_sign(x, issuer != NULL ? issuer->key : id.key, EVP_sha256()) > 0);
	return id;
}

static FILE *
create(const char *file)
{
	FILE *f = fopen(certificate_path(file), "w");
	NEED(f != NULL);
	return f;
}

static void
write_identity(const struct identity *id, const char *certificate, const char *key)
{
	FILE *f = create(certificate);
	NEED(PEM_write_X509(f, id->certificate) == 1);
	fclose(f);
	f = create(key);
	NEED(PEM_write_PrivateKey(f, id->key, NULL, NULL, 0, NULL, NULL) == 1);
	fclose(f);
}

static void
write_oddities(const struct identity *good)
{
	FILE *f = create("locked.key");
	NEED(PEM_write_PrivateKey(f, good->key, EVP_aes_128_cbc(), (const unsigned char *)"secret", 6, NULL,
	    NULL) == 1);
	fclose(f);
	f = create("both.pem");
	NEED(PEM_write_X509(f, good->certificate) == 1);
	NEED(PEM_write_PrivateKey(f, good->key, NULL, NULL, 0, NULL, NULL) == 1);
	fclose(f);
	f = create("garbage.pem");
	fputs("this is no certificate\n", f);
	fclose(f);
}

static void
identity_free(struct identity *id)
{
	X509_free(id->certificate);
	EVP_PKEY_free(id->key);
}

void
certificates_make(void)
{
	NEED(mkdtemp(directory) != NULL);
	struct identity ca = make("test authority", NULL, -DAY, DAY, NULL, true);
	struct {
		const char *certificate, *key;
		struct identity id;
	} all[] = {
		{ "good.pem", "good.key",
		  make("good", "DNS:good.example,DNS:*.wild.example,DNS:xn--gtt-sna.example", -DAY, DAY, &ca, false) },
		{ "ip.pem", "ip.key", make("ip", "IP:127.0.0.1,IP:::1", -DAY, DAY, &ca, false) },
		{ "expired.pem", "expired.key", make("expired", "DNS:good.example", -2 * DAY, -DAY, &ca, false) },
		{ "client.pem", "client.key", make("alice", NULL, -DAY, DAY, &ca, false) },
		{ "stranger.pem", "stranger.key",
		  make("stranger", "DNS:good.example", -DAY, DAY, NULL, false) },
	};
	write_identity(&ca, "ca.pem", "ca.key");
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		write_identity(&all[i].id, all[i].certificate, all[i].key);
	write_oddities(&all[0].id);
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		identity_free(&all[i].id);
	identity_free(&ca);
}

void
certificates_remove(void)
{
	DIR *d = opendir(directory);
	struct dirent *e;
	while (d != NULL && (e = readdir(d)) != NULL)
		(void)unlink(certificate_path(e->d_name));     /* "." and ".." stay */
	if (d != NULL)
		closedir(d);
	(void)rmdir(directory);
}
