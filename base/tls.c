/*
 * tls: base/tls.h over OpenSSL 3. The first half makes contexts, the second half drives one
 * connection.
 *
 * After each call the error queue and SSL_get_error are read at once, and only once something
 * failed a text is made.
 */
#include "base/tls.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include "base/gss_carrier.h"

enum { ALPN_MAX = 64, WHY_MAX = 200 };

struct tls_context {
	SSL_CTX *ctx;
	atomic_uint refs;                      /* its maker and each connection */
	bool server, verify;
	unsigned char alpn[ALPN_MAX + 1];      /* as on the wire: length, name; length 0: none */
};

struct tls {
	SSL *ssl;                              /* NULL: sealed */
	struct gss_carrier *sealed;            /* no TLS at all, but a layer that TLS may lie on */
	struct tls_context *context;
	struct tls *below;                     /* NULL: the socket */
	int error;                             /* of the last failure */
	bool read_failed, write_failed;        /* for good; one that takes no more may be read on */
	bool established;                      /* OpenSSL says otherwise while keys change */
	bool notified;                         /* close_notify was sent */
	char why[WHY_MAX];
};

/* ---- contexts ---- */

static void
ignore_sigpipe(void)
{
	struct sigaction now;
	if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
		signal(SIGPIPE, SIG_IGN);
}

/* The oldest error in the queue is nearest to the cause. */
static const char *
reason_text(void)
{
	unsigned long e = ERR_peek_error();
	const char *text = NULL;
	if (e != 0)
		text = ERR_SYSTEM_ERROR(e) ? strerror(ERR_GET_REASON(e)) :
		    ERR_reason_error_string(e);
	return text != NULL ? text : "unknown error";
}

static bool
say_why(char *why, size_t cap, const char *what, const char *file)
{
	snprintf(why, cap, "%s%s%s: %s", what, file != NULL ? " " : "", file != NULL ? file : "",
	    reason_text());
	return false;
}

/* Without this OpenSSL would ask on the terminal. */
static int
no_pass_phrase(char *out, int cap, int writing, void *arg)
{
	(void)out, (void)cap, (void)writing, (void)arg;
	return 0;
}

static bool
load_certificate(SSL_CTX *ctx, const struct tls_options *o, char *why, size_t cap)
{
	const char *key = o->key_file != NULL ? o->key_file : o->certificate_file;
	if (o->certificate_file == NULL) {
		if (!o->server && o->key_file == NULL)
			return true;
		snprintf(why, cap, "%s%s", o->server ? "a server needs a certificate file" :
		    "there is no certificate file for the key ", o->server ? "" : o->key_file);
		return false;
	}
	SSL_CTX_set_default_passwd_cb(ctx, no_pass_phrase);
	if (SSL_CTX_use_certificate_chain_file(ctx, o->certificate_file) != 1)
		return say_why(why, cap, "certificate file", o->certificate_file);
	if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
		return say_why(why, cap, "key file", key);
	if (SSL_CTX_check_private_key(ctx) != 1)
		return say_why(why, cap, "key file", key);
	return true;
}

static bool
load_server_trust(SSL_CTX *ctx, const struct tls_options *o, char *why, size_t cap)
{
	if (o->ca_file == NULL) {
		if (o->verify)
			snprintf(why, cap, "client certificates need a CA file to verify them");
		return !o->verify;
	}
	STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(o->ca_file);
	if (names == NULL || SSL_CTX_load_verify_file(ctx, o->ca_file) != 1) {
		sk_X509_NAME_pop_free(names, X509_NAME_free);
		return say_why(why, cap, "CA file", o->ca_file);
	}
	SSL_CTX_set_client_CA_list(ctx, names);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | (o->verify ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
	    NULL);
	return true;
}

static bool
load_client_trust(SSL_CTX *ctx, const struct tls_options *o, char *why, size_t cap)
{
	if (o->ca_file != NULL && SSL_CTX_load_verify_file(ctx, o->ca_file) != 1)
		return say_why(why, cap, "CA file", o->ca_file);
	if (o->ca_file == NULL && SSL_CTX_set_default_verify_paths(ctx) != 1)
		return say_why(why, cap, "the system's CA certificates", NULL);
	SSL_CTX_set_verify(ctx, o->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	return true;
}

static int
on_alpn_offer(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
    unsigned in_len, void *arg)
{
	const struct tls_context *c = arg;
	(void)ssl;
	for (unsigned i = 0; i < in_len; i += 1u + in[i]) {
		if (in_len - i > c->alpn[0] && memcmp(in + i, c->alpn, 1u + c->alpn[0]) == 0) {
			*out = in + i + 1;
			*out_len = in[i];
			return SSL_TLSEXT_ERR_OK;
		}
	}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static bool
set_alpn(struct tls_context *c, const char *name, char *why, size_t cap)
{
	size_t len = name != NULL ? strlen(name) : 0;
	if (name == NULL)
		return true;
	if (len == 0 || len > ALPN_MAX) {
		snprintf(why, cap, "an ALPN name has 1 to %d bytes", ALPN_MAX);
		return false;
	}
	c->alpn[0] = (unsigned char)len;
	memcpy(c->alpn + 1, name, len);
	if (c->server)
		SSL_CTX_set_alpn_select_cb(c->ctx, on_alpn_offer, c);
	else if (SSL_CTX_set_alpn_protos(c->ctx, c->alpn, (unsigned)len + 1) != 0)
		return say_why(why, cap, "ALPN", NULL);
	return true;
}

/*
 * A peer may ask for new keys in the middle of a TLS 1.3 stream (RFC 8446, section 4.6.3). OpenSSL 3.0 then changes its own, the
 * kernel goes on with the old ones, and the stream is broken: so such streams stay with OpenSSL. Only TLS 1.3 has this state, which
 * comes before the keys of the data.
 */
static void
on_step(const SSL *ssl, int where, int ret)
{
	(void)where;
	(void)ret;
	OSSL_HANDSHAKE_STATE state = SSL_get_state(ssl);
	if (state == TLS_ST_SW_ENCRYPTED_EXTENSIONS || state == TLS_ST_CR_ENCRYPTED_EXTENSIONS)
		SSL_clear_options((SSL *)(uintptr_t)ssl, SSL_OP_ENABLE_KTLS);
}

static void
set_manners(SSL_CTX *ctx)
{
	SSL_CTX_set_info_callback(ctx, on_step);
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
	    SSL_OP_NO_TICKET | SSL_OP_ENABLE_KTLS);
	SSL_CTX_set_num_tickets(ctx, 0);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
	    SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_read_ahead(ctx, 0);
}

struct tls_context *
tls_context_new(const struct tls_options *o, char *why, size_t cap)
{
	ERR_clear_error();
	ignore_sigpipe();
	struct tls_context *c = calloc(1, sizeof *c);
	const SSL_METHOD *method = o->server ? TLS_server_method() : TLS_client_method();
	if (c == NULL || (c->ctx = SSL_CTX_new(method)) == NULL) {
		snprintf(why, cap, "out of memory");
		free(c);
		return NULL;
	}
	atomic_init(&c->refs, 1);
	c->server = o->server;
	c->verify = o->verify;
	set_manners(c->ctx);
	if (!load_certificate(c->ctx, o, why, cap) ||
	    !(o->server ? load_server_trust : load_client_trust)(c->ctx, o, why, cap) ||
	    !set_alpn(c, o->alpn, why, cap)) {
		ERR_clear_error();
		tls_context_free(c);
		return NULL;
	}
	return c;
}

void
tls_context_free(struct tls_context *c)
{
	if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) > 1)
		return;
	SSL_CTX_free(c->ctx);
	free(c);
}

/* ---- connections ---- */

static bool
is_address(const char *host)
{
	unsigned char addr[sizeof(struct in6_addr)];
	return inet_pton(AF_INET, host, addr) == 1 || inet_pton(AF_INET6, host, addr) == 1;
}

/* Whom we want to meet. An empty name would turn OpenSSL's check off, so it is no host. */
static bool
set_host(SSL *ssl, const char *host, bool verify)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	if (host == NULL || host[0] == '\0')
		return !verify;
	if (is_address(host))
		return !verify || X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1;
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set_tlsext_host_name(ssl, host) == 1 &&
	    (!verify || X509_VERIFY_PARAM_set1_host(param, host, 0) == 1);
}

struct tls *
tls_new(struct tls_context *c, int fd, const char *host)
{
	struct tls *t = calloc(1, sizeof *t);
	if (t == NULL)
		return NULL;
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	t->context = c;
	if ((t->ssl = SSL_new(c->ctx)) == NULL || SSL_set_fd(t->ssl, fd) != 1 ||
	    (!c->server && !set_host(t->ssl, host, c->verify))) {
		ERR_clear_error();
		tls_free(t);
		return NULL;
	}
	if (c->server)
		SSL_set_accept_state(t->ssl);
	else
		SSL_set_connect_state(t->ssl);
	return t;
}

void
tls_free(struct tls *t)
{
	while (t != NULL) {
		struct tls *below = t->below;
		SSL_free(t->ssl);
		gss_carrier_free(t->sealed);
		tls_context_free(t->context);
		free(t);
		t = below;
	}
}

const char *
tls_error_text(const struct tls *t)
{
	return t->why;
}

int
tls_error(const struct tls *t)
{
	return t->error;
}

static const char no_close_notify[] = "the peer ended the connection without close_notify";

static enum tls_status
fail(struct tls *t, int error, const char *text)
{
	t->read_failed = t->write_failed = true;
	t->error = error;
	snprintf(t->why, sizeof t->why, "%s", text);
	return TLS_FAILED;
}

static enum tls_status
fail_protocol(struct tls *t)
{
	unsigned long e = ERR_peek_error();
	long verdict = SSL_get_verify_result(t->ssl);
	if (ERR_GET_REASON(e) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		return fail(t, EPROTO, no_close_notify);
	if (ERR_GET_REASON(e) == SSL_R_CERTIFICATE_VERIFY_FAILED && verdict != X509_V_OK) {
		char text[WHY_MAX];
		snprintf(text, sizeof text, "certificate not accepted: %s",
		    X509_verify_cert_error_string(verdict));
		return fail(t, EPROTO, text);
	}
	return fail(t, EPROTO, reason_text());
}

/* Before each call: what it leaves in errno and the error queue is its own. */
static void
prepare(struct tls *t)
{
	ERR_clear_error();
	errno = 0;
	t->why[0] = '\0';
}

static enum tls_status
outcome(struct tls *t, int result)
{
	int error = errno;
	if (result > 0)
		return TLS_OK;
	switch (SSL_get_error(t->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		return TLS_WANT_READ;
	case SSL_ERROR_WANT_WRITE:
		return TLS_WANT_WRITE;
	case SSL_ERROR_ZERO_RETURN:
		return TLS_EOF;
	case SSL_ERROR_SYSCALL:
		if (error == 0)
			return fail(t, EPROTO, no_close_notify);
		return fail(t, error, strerror(error));
	default:
		return fail_protocol(t);
	}
}

/*
 * As outcome, for calls that only send: they meet no end, and the socket's trouble with it says
 * nothing of what is there to read.
 */
static enum tls_status
outcome_of_sending(struct tls *t, int result)
{
	int error = errno;
	bool read_failed = t->read_failed;
	bool by_socket = result <= 0 && ERR_peek_error() == 0;
	enum tls_status status = outcome(t, result);
	if (status == TLS_EOF)
		status = fail(t, error != 0 ? error : EPIPE, strerror(error != 0 ? error : EPIPE));
	if (status == TLS_FAILED && by_socket)
		t->read_failed = read_failed;
	return status;
}

/* ---- on a sealed layer ---- */

struct tls *
tls_new_sealed(struct gss_layer *l, int fd, struct tls *below)
{
	struct tls *t = calloc(1, sizeof *t);
	if (t == NULL || (t->sealed = gss_carrier_new(l, fd, below)) == NULL) {
		free(t);
		return NULL;
	}
	t->below = below;
	t->established = true;
	return t;
}

static enum tls_status
outcome_of_sealed(struct tls *t, enum tls_status status)
{
	if (status != TLS_FAILED)
		return status;
	return fail(t, gss_carrier_error(t->sealed), "what Kerberos seals was broken off or forged");
}

/* A BIO of OpenSSL's whose bytes pass the layer below. */

static int
bio_result(BIO *bio, const struct tls *below, enum tls_status status, size_t n)
{
	BIO_clear_retry_flags(bio);
	switch (status) {
	case TLS_OK:
		return (int)n;
	case TLS_WANT_READ:
		BIO_set_retry_read(bio);
		return -1;
	case TLS_WANT_WRITE:
		BIO_set_retry_write(bio);
		return -1;
	case TLS_EOF:
		errno = 0;
		return 0;
	case TLS_FAILED:
		break;
	}
	errno = tls_error(below);
	return -1;
}

static int
bio_read(BIO *bio, char *out, int cap)
{
	struct tls *below = BIO_get_data(bio);
	size_t n = 0;
	enum tls_status status = cap > 0 ? tls_read(below, out, (size_t)cap, &n) : TLS_WANT_READ;
	return bio_result(bio, below, status, n);
}

static int
bio_write(BIO *bio, const char *bytes, int len)
{
	struct tls *below = BIO_get_data(bio);
	size_t n = 0;
	enum tls_status status = len > 0 ? tls_write(below, bytes, (size_t)len, &n) : TLS_WANT_WRITE;
	return bio_result(bio, below, status, n);
}

static long
bio_control(BIO *bio, int command, long number, void *pointer)
{
	(void)bio, (void)number, (void)pointer;
	return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *sealed_method;

static void
make_sealed_method(void)
{
	sealed_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "sealed");
	if (sealed_method == NULL)
		return;
	BIO_meth_set_read(sealed_method, bio_read);
	BIO_meth_set_write(sealed_method, bio_write);
	BIO_meth_set_ctrl(sealed_method, bio_control);
}

static BIO *
bio_of_sealed(struct tls *below)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, make_sealed_method);
	BIO *bio = sealed_method == NULL ? NULL : BIO_new(sealed_method);
	if (bio == NULL)
		return NULL;
	BIO_set_data(bio, below);
	BIO_set_init(bio, 1);
	return bio;
}

/* OpenSSL's own BIO for TLS on TLS, which passes on to the socket whether the kernel seals: that is said of the lower layer. */

static BIO_METHOD *stacked_method;

static long
stacked_control(BIO *bio, int command, long number, void *pointer)
{
	if (command == BIO_CTRL_GET_KTLS_SEND || command == BIO_CTRL_GET_KTLS_RECV)
		return 0;
	return BIO_meth_get_ctrl(BIO_f_ssl())(bio, command, number, pointer);
}

static void
make_stacked_method(void)
{
	const BIO_METHOD *own = BIO_f_ssl();
	stacked_method = BIO_meth_new(BIO_TYPE_SSL, "stacked");
	if (stacked_method == NULL)
		return;
	BIO_meth_set_read_ex(stacked_method, BIO_meth_get_read_ex(own));
	BIO_meth_set_write_ex(stacked_method, BIO_meth_get_write_ex(own));
	BIO_meth_set_create(stacked_method, BIO_meth_get_create(own));
	BIO_meth_set_destroy(stacked_method, BIO_meth_get_destroy(own));
	BIO_meth_set_ctrl(stacked_method, stacked_control);
}

static BIO *
bio_of_tls(struct tls *below)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, make_stacked_method);
	BIO *bio = stacked_method == NULL ? NULL : BIO_new(stacked_method);
	if (bio != NULL)
		BIO_set_ssl(bio, below->ssl, BIO_NOCLOSE);
	return bio;
}

/* ---- a connection ---- */

void
tls_stack(struct tls *t, struct tls *below)
{
	BIO *bio = below->sealed != NULL ? bio_of_sealed(below) : bio_of_tls(below);
	t->below = below;
	if (bio == NULL)
		(void)fail(t, ENOMEM, "out of memory");
	else
		SSL_set_bio(t->ssl, bio, bio);
	/* The kernel would take its keys for those of the socket. */
	SSL_clear_options(t->ssl, SSL_OP_ENABLE_KTLS);
}

enum tls_status
tls_handshake(struct tls *t)
{
	if (t->read_failed || t->write_failed)
		return TLS_FAILED;
	if (t->established)
		return TLS_OK;
	prepare(t);
	enum tls_status status = outcome(t, SSL_do_handshake(t->ssl));
	t->established = status == TLS_OK;
	return status == TLS_EOF ? fail(t, EPROTO, "the peer closed within the handshake") : status;
}

enum tls_status
tls_read(struct tls *t, void *out, size_t cap, size_t *n)
{
	if (t->read_failed)
		return TLS_FAILED;
	if (t->sealed != NULL)
		return outcome_of_sealed(t, gss_carrier_read(t->sealed, out, cap, n));
	prepare(t);
	return outcome(t, SSL_read_ex(t->ssl, out, cap, n));
}

/* On the socket, and not what Kerberos seals. */
static bool
is_lowest_tls(const struct tls *t)
{
	return t->below == NULL && t->ssl != NULL;
}

bool
tls_kernel_reads(const struct tls *t)
{
	return is_lowest_tls(t) && BIO_get_ktls_recv(SSL_get_rbio(t->ssl)) != 0 &&
	    SSL_has_pending(t->ssl) == 0;
}

bool
tls_kernel_writes(const struct tls *t)
{
	return is_lowest_tls(t) && BIO_get_ktls_send(SSL_get_wbio(t->ssl)) != 0 &&
	    SSL_is_init_finished(t->ssl);
}

/*
 * OpenSSL 3.0 keeps the address of what it could not hand to the kernel at once, wherever the owner has moved it since: so what the
 * kernel seals is sent without it.
 */
static enum tls_status
send_by_kernel(struct tls *t, const void *bytes, size_t len, size_t *n)
{
	ssize_t put;
	do
		put = send(SSL_get_fd(t->ssl), bytes, len, MSG_NOSIGNAL);
	while (put < 0 && errno == EINTR);
	*n = put > 0 ? (size_t)put : 0;
	if (put >= 0)
		return TLS_OK;
	if (errno == EAGAIN)
		return TLS_WANT_WRITE;
	bool read_failed = t->read_failed;
	(void)fail(t, errno, strerror(errno));
	t->read_failed = read_failed;
	return TLS_FAILED;
}

enum tls_status
tls_write(struct tls *t, const void *bytes, size_t len, size_t *n)
{
	if (t->write_failed)
		return TLS_FAILED;
	if (t->sealed != NULL)
		return outcome_of_sealed(t, gss_carrier_write(t->sealed, bytes, len, n));
	if (tls_kernel_writes(t))
		return send_by_kernel(t, bytes, len, n);
	prepare(t);
	return outcome_of_sending(t, SSL_write_ex(t->ssl, bytes, len, n));
}

enum tls_status
tls_shut_write(struct tls *t)
{
	for (; t != NULL; t = t->below) {
		if (t->write_failed)
			return TLS_FAILED;
		if (t->sealed != NULL) {
			enum tls_status flushed = outcome_of_sealed(t, gss_carrier_flush(t->sealed));
			if (flushed != TLS_OK)
				return flushed;
			continue;
		}
		if (t->notified || !t->established)
			continue;
		prepare(t);
		int result = SSL_shutdown(t->ssl);
		/* 0: ours is sent, theirs has not come. */
		enum tls_status status = result == 0 ? TLS_OK : outcome_of_sending(t, result);
		if (status != TLS_OK)
			return status;
		t->notified = true;
	}
	return TLS_OK;
}

struct tls *
tls_peel(struct tls *t)
{
	struct tls *below = t->below;
	t->below = NULL;
	tls_free(t);
	return below;
}

bool
tls_is_stacked(const struct tls *t)
{
	return t->below != NULL;
}

const char *
tls_peer_subject(const struct tls *t, char *out, size_t cap)
{
	out[0] = '\0';
	X509 *peer = SSL_get0_peer_certificate(t->ssl);
	if (peer == NULL || SSL_get_verify_mode(t->ssl) == SSL_VERIFY_NONE ||
	    SSL_get_verify_result(t->ssl) != X509_V_OK)
		return out;
	BIO *text = BIO_new(BIO_s_mem());
	if (text == NULL)
		return out;
	if (X509_NAME_print_ex(text, X509_get_subject_name(peer), 0, XN_FLAG_RFC2253) >= 0) {
		int n = BIO_read(text, out, (int)cap - 1);
		out[n > 0 ? n : 0] = '\0';
	}
	BIO_free(text);
	return out;
}
