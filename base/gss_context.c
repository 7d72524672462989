/*
 * gss_context: base/gss_context.h over MIT Kerberos. The first half makes contexts and takes steps,
 * the second half seals and opens.
 */
#include "base/gss_context.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gssapi/gssapi_ext.h>
#include <gssapi/gssapi_krb5.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"

#define KEYTAB_KIND "FILE:"

struct gss_context {
	atomic_uint refs;
	bool initiates;
	unsigned steps;
	gss_ctx_id_t ctx;
	gss_cred_id_t cred;
	gss_name_t target;
	char *keytab, *ccache, *target_text;
	char *principal;                       /* acceptor: the service */
	bool numbered;                         /* a message came: */
	uint64_t newest, seen;                 /* the last one's number; bit i: newest - i came */
	char peer[GSS_PRINCIPAL_MAX];
	char why[GSS_WHY_MAX];
};

/* ---- failures ---- */

/* One line of what the library says of a status; "" where it says nothing. */
static void
status_text(OM_uint32 status, int kind, char *out, size_t cap)
{
	OM_uint32 minor, more = 0;
	gss_buffer_desc text = GSS_C_EMPTY_BUFFER;
	out[0] = '\0';
	if (gss_display_status(&minor, status, kind, gss_mech_krb5, &more, &text) == GSS_S_COMPLETE)
		snprintf(out, cap, "%.*s", (int)text.length, (const char *)text.value);
	gss_release_buffer(&minor, &text);
}

/* The mechanism's own word is nearest to the cause. */
static bool
fail(struct gss_context *c, const char *what, OM_uint32 major, OM_uint32 minor)
{
	char text[GSS_WHY_MAX / 2];
	status_text(minor, GSS_C_MECH_CODE, text, sizeof text);
	if (minor == 0 || text[0] == '\0')
		status_text(major, GSS_C_GSS_CODE, text, sizeof text);
	snprintf(c->why, sizeof c->why, "%s: %s", what, text);
	return false;
}

static bool
fail_plainly(struct gss_context *c, const char *why)
{
	snprintf(c->why, sizeof c->why, "%s", why);
	return false;
}

/* ---- life ---- */

static struct gss_context *
context_new(bool initiates)
{
	struct gss_context *c = calloc(1, sizeof *c);
	if (c == NULL)
		return NULL;
	atomic_init(&c->refs, 1);
	c->initiates = initiates;
	return c;
}

/* "PREFIX" and the text, or NULL of NULL. False: out of memory. */
static bool
copy_text(char **out, const char *prefix, const char *text)
{
	return text == NULL || asprintf(out, "%s%s", prefix, text) >= 0;
}

struct gss_context *
gss_context_new_acceptor(const char *keytab, const char *service)
{
	struct gss_context *c = context_new(false);
	if (c == NULL)
		return NULL;
	if (!copy_text(&c->keytab, KEYTAB_KIND, keytab) || !copy_text(&c->principal, "", service)) {
		gss_context_free(c);
		return NULL;
	}
	return c;
}

/* Tickets that a keytab brings are kept for the next contexts of the same keytab and principal. */
static bool
choose_cache(struct gss_context *c, const struct gss_initiator *i)
{
	if (i->ccache != NULL || i->keytab == NULL)
		return copy_text(&c->ccache, "", i->ccache);
	return asprintf(&c->ccache, "MEMORY:sockroute:%s:%s", i->keytab,
	    i->principal != NULL ? i->principal : "") >= 0;
}

struct gss_context *
gss_context_new_initiator(const struct gss_initiator *i)
{
	struct gss_context *c = context_new(true);
	if (c == NULL)
		return NULL;
	if (!copy_text(&c->keytab, KEYTAB_KIND, i->keytab) || !choose_cache(c, i) ||
	    !copy_text(&c->principal, "", i->principal) ||
	    !copy_text(&c->target_text, "", i->target)) {
		gss_context_free(c);
		return NULL;
	}
	return c;
}

uint64_t
gss_context_lane(const struct gss_context *c)
{
	const char *parts[] = { c->keytab, c->ccache, c->principal, c->target_text };
	uint64_t lane = c->initiates;
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		lane = parts[i] != NULL ? hash_stable(parts[i], strlen(parts[i]), lane) : lane + 1;
	return lane;
}

void
gss_context_hold(struct gss_context *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
}

static void
release_credentials(struct gss_context *c)
{
	OM_uint32 minor;
	(void)gss_release_cred(&minor, &c->cred);
	(void)gss_release_name(&minor, &c->target);
}

void
gss_context_free(struct gss_context *c)
{
	OM_uint32 minor;
	if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) > 1)
		return;
	(void)gss_delete_sec_context(&minor, &c->ctx, GSS_C_NO_BUFFER);
	release_credentials(c);
	free(c->keytab);
	free(c->ccache);
	free(c->principal);
	free(c->target_text);
	free(c);
}

const char *
gss_context_peer(const struct gss_context *c)
{
	return c->peer;
}

const char *
gss_context_why(const struct gss_context *c)
{
	return c->why;
}

/* ---- credentials ---- */

static bool
import_name(struct gss_context *c, const char *text, gss_OID kind, gss_name_t *out)
{
	OM_uint32 minor;
	gss_buffer_desc name = { strlen(text), (void *)(uintptr_t)text };
	OM_uint32 major = gss_import_name(&minor, &name, kind, out);
	return major == GSS_S_COMPLETE || fail(c, "the principal's name", major, minor);
}

/* A service without a host stands for that service of any host in the keytab. */
static gss_OID
kind_of_own_name(const struct gss_context *c)
{
	bool is_principal = c->initiates || strpbrk(c->principal, "/@") != NULL;
	return is_principal ? (gss_OID)(uintptr_t)GSS_KRB5_NT_PRINCIPAL_NAME :
	    GSS_C_NT_HOSTBASED_SERVICE;
}

static void
add_element(gss_key_value_set_desc *store, const char *key, const char *value)
{
	if (value != NULL)
		store->elements[store->count++] = (gss_key_value_element_desc){ key, value };
}

/*
 * What an acceptor can't read is not shown to the library, which leaks the name that it looks for
 * then.
 */
static bool
check_keytab(struct gss_context *c)
{
	struct stat what;
	int fd = open(c->keytab + strlen(KEYTAB_KIND), O_RDONLY | O_CLOEXEC);
	int error = fd < 0 || fstat(fd, &what) < 0 ? errno : S_ISREG(what.st_mode) ? 0 : EINVAL;
	if (fd >= 0)
		close(fd);
	if (error != 0)
		snprintf(c->why, sizeof c->why, "the keytab: %s", strerror(error));
	return error == 0;
}

static bool
acquire(struct gss_context *c)
{
	gss_key_value_element_desc elements[2];
	gss_key_value_set_desc store = { 0, elements };
	gss_OID_set_desc krb5_alone = { 1, (gss_OID)(uintptr_t)gss_mech_krb5 };
	gss_name_t own = GSS_C_NO_NAME;
	OM_uint32 minor, ignored;
	if (!c->initiates && !check_keytab(c))
		return false;
	add_element(&store, c->initiates ? "client_keytab" : "keytab", c->keytab);
	add_element(&store, "ccache", c->ccache);
	if (c->principal != NULL && !import_name(c, c->principal, kind_of_own_name(c), &own))
		return false;
	OM_uint32 major = gss_acquire_cred_from(&minor, own, GSS_C_INDEFINITE, &krb5_alone,
	    c->initiates ? GSS_C_INITIATE : GSS_C_ACCEPT, &store, &c->cred, NULL, NULL);
	(void)gss_release_name(&ignored, &own);
	return major == GSS_S_COMPLETE || fail(c, "credentials", major, minor);
}

static bool
begin(struct gss_context *c)
{
	if (!acquire(c))
		return false;
	return !c->initiates || import_name(c, c->target_text,
	    (gss_OID)(uintptr_t)GSS_KRB5_NT_PRINCIPAL_NAME, &c->target);
}

/* ---- steps ---- */

static bool
keep_peer(struct gss_context *c, gss_name_t name)
{
	OM_uint32 minor;
	gss_buffer_desc text = GSS_C_EMPTY_BUFFER;
	OM_uint32 major = gss_display_name(&minor, name, &text, NULL);
	if (major != GSS_S_COMPLETE)
		return fail(c, "the peer's name", major, minor);
	bool fits = text.length < sizeof c->peer && memchr(text.value, 0, text.length) == NULL;
	if (fits)
		memcpy(c->peer, text.value, text.length);      /* zeros follow */
	(void)gss_release_buffer(&minor, &text);
	return fits || fail_plainly(c, "the peer's name is too long");
}

/* Who is nobody, whatever name the realm gives to such a one, is no user. */
static bool
finish(struct gss_context *c, gss_name_t peer, OM_uint32 flags)
{
	if ((flags & GSS_C_ANON_FLAG) != 0)
		return fail_plainly(c, "the peer is anonymous");
	return keep_peer(c, peer);
}

static OM_uint32
accept_token(struct gss_context *c, gss_buffer_t in, gss_buffer_t out, OM_uint32 *minor, bool *ok)
{
	gss_name_t peer = GSS_C_NO_NAME;
	OM_uint32 flags = 0, ignored;
	OM_uint32 major = gss_accept_sec_context(minor, &c->ctx, c->cred, in,
	    GSS_C_NO_CHANNEL_BINDINGS, &peer, NULL, out, &flags, NULL, NULL);
	if (major == GSS_S_COMPLETE)
		*ok = finish(c, peer, flags);
	(void)gss_release_name(&ignored, &peer);
	return major;
}

static OM_uint32
initiate(struct gss_context *c, gss_buffer_t in, gss_buffer_t out, OM_uint32 *minor, bool *ok)
{
	static const OM_uint32 wanted = GSS_C_MUTUAL_FLAG | GSS_C_REPLAY_FLAG |
	    GSS_C_SEQUENCE_FLAG | GSS_C_INTEG_FLAG | GSS_C_CONF_FLAG;
	OM_uint32 flags = 0;
	OM_uint32 major = gss_init_sec_context(minor, c->cred, &c->ctx, c->target,
	    (gss_OID)(uintptr_t)gss_mech_krb5, wanted, GSS_C_INDEFINITE, GSS_C_NO_CHANNEL_BINDINGS,
	    in, NULL, out, &flags, NULL);
	if (major == GSS_S_COMPLETE)
		*ok = (flags & wanted) == wanted ? keep_peer(c, c->target) :
		    fail_plainly(c, "the context lacks protection that was asked for");
	return major;
}

static bool
take_token(struct gss_context *c, gss_buffer_t made, uint8_t **token, size_t *len)
{
	if (made->length == 0)
		return true;
	if (made->length > GSS_TOKEN_MAX)
		return fail_plainly(c, "a token is too long");
	if ((*token = malloc(made->length)) == NULL)
		return fail_plainly(c, "out of memory");
	memcpy(*token, made->value, made->length);
	*len = made->length;
	return true;
}

enum gss_step_outcome
gss_context_step(struct gss_context *c, const void *in, size_t in_len, uint8_t **token,
    size_t *token_len)
{
	gss_buffer_desc given = { in_len, (void *)(uintptr_t)in }, made = GSS_C_EMPTY_BUFFER;
	OM_uint32 minor = 0, ignored;
	bool ok = true;
	*token = NULL;
	*token_len = 0;
	if (c->steps++ == 0 && !begin(c))
		return GSS_STEP_FAILED;
	if (c->steps > GSS_STEPS_MAX) {
		(void)fail_plainly(c, "the peers can't come to an end");
		return GSS_STEP_FAILED;
	}
	OM_uint32 major = (c->initiates ? initiate : accept_token)(c, &given, &made, &minor, &ok);
	if (GSS_ERROR(major))
		ok = fail(c, c->initiates ? "initiating" : "accepting", major, minor);
	ok = ok && take_token(c, &made, token, token_len);
	(void)gss_release_buffer(&ignored, &made);
	if (!ok)
		return GSS_STEP_FAILED;
	if ((major & GSS_S_CONTINUE_NEEDED) != 0)
		return GSS_STEP_MORE;
	release_credentials(c);
	return GSS_STEP_DONE;
}

/* ---- messages ---- */

size_t
gss_context_wrap_max(struct gss_context *c, bool secret)
{
	OM_uint32 minor, max = 0;
	OM_uint32 major = gss_wrap_size_limit(&minor, c->ctx, secret, GSS_C_QOP_DEFAULT,
	    GSS_TOKEN_MAX, &max);
	if (major != GSS_S_COMPLETE) {
		(void)fail(c, "sealing", major, minor);
		return 0;
	}
	return max;
}

uint8_t *
gss_context_wrap(struct gss_context *c, bool secret, const void *bytes, size_t len, size_t room,
    size_t *token_len)
{
	gss_buffer_desc given = { len, (void *)(uintptr_t)bytes }, made = GSS_C_EMPTY_BUFFER;
	OM_uint32 minor, ignored;
	int is_secret = 0;
	uint8_t *out = NULL;
	OM_uint32 major = gss_wrap(&minor, c->ctx, secret, GSS_C_QOP_DEFAULT, &given, &is_secret,
	    &made);
	if (major != GSS_S_COMPLETE)
		(void)fail(c, "sealing", major, minor);
	else if (secret && !is_secret)
		(void)fail_plainly(c, "sealing: it would not be secret");
	else if ((out = malloc(room + made.length)) == NULL)
		(void)fail_plainly(c, "sealing: out of memory");
	else
		memcpy(out + room, made.value, *token_len = made.length);
	(void)gss_release_buffer(&ignored, &made);
	return out;
}

/* The number of a message (RFC 4121 section 4.2.6.2); false: it is of an older kind. */
static bool
number_of(const uint8_t *token, size_t len, uint64_t *number)
{
	if (len < 16 || token[0] != 5 || token[1] != 4)
		return false;
	*number = 0;
	for (size_t i = 8; i < 16; i++)
		*number = *number << 8 | token[i];
	return true;
}

/*
 * Is this number, which its message's checksum covers, one that may come now? The library looks at
 * no more than the initiator asked for, and takes what is too old to tell for a late one.
 */
static bool
is_new(struct gss_context *c, enum gss_order order, uint64_t number)
{
	uint64_t ahead = number - c->newest, back = c->newest - number;
	if (c->numbered && order == GSS_IN_ORDER && ahead != 1)
		return false;
	if (!c->numbered || (ahead != 0 && ahead <= INT64_MAX)) {
		c->seen = !c->numbered || ahead > 63 ? 1 : c->seen << ahead | 1;
		c->newest = number;
		c->numbered = true;
		return true;
	}
	if (back > 63 || (c->seen >> back & 1) != 0)
		return false;
	c->seen |= UINT64_C(1) << back;
	return true;
}

static OM_uint32
open_in_place(struct gss_context *c, uint8_t *token, size_t len, int *secret, OM_uint32 *minor,
    size_t *at, size_t *n)
{
	gss_iov_buffer_desc parts[2] = {
		{ .type = GSS_IOV_BUFFER_TYPE_STREAM, .buffer = { len, token } },
		{ .type = GSS_IOV_BUFFER_TYPE_DATA },
	};
	OM_uint32 major = gss_unwrap_iov(minor, c->ctx, secret, NULL, parts, 2);
	*n = parts[1].buffer.length;
	*at = *n > 0 ? (size_t)((uint8_t *)parts[1].buffer.value - token) : 0;
	return major;
}

/* By way of a copy: opened in place, MIT's library keeps a message that is out of order to itself. */
static OM_uint32
open_by_copy(struct gss_context *c, uint8_t *token, size_t len, int *secret, OM_uint32 *minor,
    size_t *at, size_t *n)
{
	gss_buffer_desc given = { len, token }, opened = GSS_C_EMPTY_BUFFER;
	OM_uint32 ignored, major = gss_unwrap(minor, c->ctx, &given, &opened, secret, NULL);
	*at = 0;
	*n = opened.length <= len ? opened.length : 0;
	if (*n > 0)
		memcpy(token, opened.value, *n);
	(void)gss_release_buffer(&ignored, &opened);
	return major;
}

bool
gss_context_unwrap(struct gss_context *c, bool secret, enum gss_order order, uint8_t *token,
    size_t len, size_t *at, size_t *n)
{
	static const OM_uint32 twice = GSS_S_DUPLICATE_TOKEN | GSS_S_OLD_TOKEN;
	static const OM_uint32 astray = GSS_S_UNSEQ_TOKEN | GSS_S_GAP_TOKEN;
	OM_uint32 minor;
	int was_secret = 0;
	uint64_t number = 0;
	bool has_number = number_of(token, len, &number);      /* nothing of it is left after */
	OM_uint32 amiss = order == GSS_IN_ORDER || !has_number ? twice | astray : twice;
	OM_uint32 major = (order == GSS_IN_ORDER ? open_in_place : open_by_copy)(c, token, len,
	    &was_secret, &minor, at, n);
	if (GSS_ERROR(major))
		return fail(c, "opening", major, minor);
	if ((major & amiss) != 0 || (has_number && !is_new(c, order, number)))
		return fail_plainly(c, "opening: the message is out of order");
	if (secret && !was_secret)
		return fail_plainly(c, "opening: the message is not secret");
	return true;
}
