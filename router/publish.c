#include "router/publish.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "dns/resolver.h"
#include "policy/errors.h"
#include "router/auth.h"
#include "router/gather.h"
#include "router/takeover.h"
#include "router/tell.h"
#include "router/watch.h"
#include "upstream/board.h"
#include "upstream/health.h"

/* A change on its way. */
struct change {
	struct list link;
	struct message message;
	char *text;                    /* NULL: the file again */
	size_t len;
	bool same_text;                /* the text in force again: a file that it names has changed */
	bool persist;
	char *if_match;
	control_policy_cb *cb;         /* NULL: nobody asks; the log is told */
	void *arg;
};

/* The way of a revision to the workers and back. */
struct publishing {
	struct gather gather;
	struct revision *revision;
};

static void next_change(struct control *c);

/* ---- answers ---- */

static void
change_free(struct change *ch)
{
	if (ch == NULL)
		return;
	if (ch->text != NULL)
		explicit_bzero(ch->text, ch->len);
	free(ch->text);
	free(ch->if_match);
	free(ch);
}

/* Files change by themselves, and may do so several times on the way to one fault: a file goes, then its folder. */
static bool
is_news(struct control *c, const struct change *ch, const struct control_policy_answer *a, const char *file)
{
	uint64_t before = c->told_faults;
	c->told_faults = 0;
	if (a->result != CONTROL_PUT_FAULTY || ch->cb != NULL)
		return true;
	char *text = policy_errors_to_text(a->errors, file);
	if (text != NULL)
		c->told_faults = hash_stable(text, strlen(text), 0);
	free(text);
	return !ch->same_text || c->told_faults == 0 || c->told_faults != before;
}

static void
change_answer(struct control *c, struct change *ch, const struct control_policy_answer *a)
{
	const char *file = c->policy_path != NULL ? c->policy_path : "policy";
	bool news = is_news(c, ch, a, file);
	if (a->result == CONTROL_PUT_FAULTY && ch->cb == NULL && news)
		tell_errors(a->errors, file);
	if (a->result != CONTROL_PUT_OK && news)
		tell_refused(c->events, c->revision, ch->text != NULL ? "api" : file, a);
	if (ch->cb != NULL)
		ch->cb(a, ch->arg);
	change_free(ch);
}

static void
change_failed(struct control *c, struct change *ch, enum control_put result, const char *detail)
{
	change_answer(c, ch, &(struct control_policy_answer){ .result = result, .detail = detail });
}

/* ---- fronts ---- */

static struct front *
front_in_force(const struct control *c, const struct policy_listener *conf)
{
	char key[512];
	front_key(conf, key, sizeof key);
	if (c->revision == NULL)
		return NULL;
	for (size_t i = 0; i < c->revision->policy->n_listeners; i++)
		if (strcmp(c->revision->fronts[i]->key, key) == 0)
			return c->revision->fronts[i];
	return NULL;
}

/* Has a listener in force, one that goes, its address among others, or one of its addresses? */
static bool
front_goes_for(const struct control *c, const struct policy_listener *conf)
{
	if (c->revision == NULL)
		return takeover_moves(c->inheritance, "", &conf->listen);
	const struct policy *p = c->revision->policy;
	for (size_t i = 0; i < p->n_listeners; i++)
		if (endpoint_collide(&p->listeners[i].listen, &conf->listen))
			return true;
	return false;
}

/* All or none: the index of the one that can't be opened, or n_listeners. */
static size_t
open_fronts(struct control *c, const struct policy *p, struct front **fronts, char *why, size_t cap)
{
	size_t n = 0;
	for (; n < p->n_listeners; n++) {
		struct front *there = front_in_force(c, &p->listeners[n]);
		fronts[n] = there != NULL ? front_ref(there) : front_open(&p->listeners[n], c->n_workers, c->inheritance, front_goes_for(c, &p->listeners[n]), why, cap);
		if (fronts[n] == NULL)
			break;
	}
	for (size_t i = 0; n < p->n_listeners && i < n; i++)
		front_unref(fronts[i]);
	return n;
}

/* Takes the reference of p. Errors are added for what can't be opened. */
static struct revision *
build_revision(struct control *c, struct policy *p, struct policy_errors *errors)
{
	char why[512] = "", pointer[64];
	struct front **fronts = calloc(p->n_listeners + 1, sizeof *fronts);
	if (fronts == NULL) {
		policy_unref(p);
		policy_errors_add(errors, "", 0, 0, "out of memory");
		return NULL;
	}
	struct fleet *fleet = fleet_new(p, c->shared.board, why, sizeof why);
	if (fleet == NULL) {
		policy_errors_add(errors, "/upstreams", 0, 0, "%s", why);
		policy_unref(p);
		free(fronts);
		return NULL;
	}
	size_t bad = open_fronts(c, p, fronts, why, sizeof why);
	struct revision *r = NULL;
	if (bad < p->n_listeners) {
		snprintf(pointer, sizeof pointer, "/listeners/%zu/listen", bad);
		policy_errors_add(errors, pointer, p->listeners[bad].line, p->listeners[bad].column, "%s", why);
		fleet_unref(fleet);
		policy_unref(p);
	} else if ((r = revision_new(p, fleet, fronts, c->n_workers)) == NULL) {
		policy_errors_add(errors, "", 0, 0, "out of memory");
	} else if ((bad = revision_load_tls(r, why, sizeof why)) < p->n_listeners) {
		snprintf(pointer, sizeof pointer, "/listeners/%zu/tls", bad);
		policy_errors_add(errors, pointer, 0, 0, "%s", why);
		revision_unref(r);
		r = NULL;
	}
	free(fronts);
	return r;
}

/* ---- in force ---- */

static void
watch_policy_files(struct control *c, const struct policy *p)
{
	const char **paths = calloc(p->n_sets + p->n_auths + 3 * p->n_listeners + 1, sizeof *paths);
	size_t n = 0;
	if (paths == NULL)
		return;
	for (size_t i = 0; i < p->n_sets; i++)
		if (p->sets[i].file != NULL)
			paths[n++] = p->sets[i].file;
	for (size_t i = 0; i < p->n_auths; i++)
		if (p->auths[i].users_file != NULL)
			paths[n++] = p->auths[i].users_file;
	for (size_t i = 0; i < p->n_listeners; i++) {
		const struct policy_listener_tls *tls = &p->listeners[i].tls;
		const char *const files[] = { tls->certificate, tls->key, tls->client_ca };
		for (size_t k = 0; k < ARRAY_LEN(files); k++)
			if (files[k] != NULL)
				paths[n++] = files[k];
	}
	watch_files(c->watch, paths, n);
	free(paths);
}

/* What PATCH has set holds until the next policy; the same one loaded again is no next policy. */
static void
reset_patches(struct fleet *f)
{
	const struct policy *p = fleet_policy(f);
	for (uint32_t i = 0; i < p->n_upstreams; i++) {
		struct board_entry *e = fleet_upstream(f, i);
		atomic_store(&e->admin, UPSTREAM_ENABLED);
		atomic_store(&e->weight, -1);
		fleet_state_changed(f, i, "another policy is in force");
	}
}

/* What hangs on the policy in the control thread. */
static void
follow_revision(struct control *c, struct revision *r)
{
	log_set(r->policy->log.level, r->policy->log.format);
	if (!resolver_reconfigure(c->resolver, &r->policy->dns))
		log_say(LOG_ERROR, "the health checks keep the dns settings from before: out of memory");
	if (c->health != NULL)
		health_use(c->health, r->fleet);
	watch_policy_files(c, r->policy);
}

static void
put_in_force(struct control *c, struct revision *r)
{
	struct revision *old = c->revision;
	if (old != NULL && strcmp(old->policy->etag, r->policy->etag) != 0)
		reset_patches(r->fleet);
	pthread_mutex_lock(&c->lock);
	c->revision = r;
	pthread_mutex_unlock(&c->lock);
	tell_in_force(c->events, old, r);
	revision_unref(old);
	auth_forget(c->shared.auth);
	follow_revision(c, r);
}

void
publish_started(struct control *c)
{
	follow_revision(c, c->revision);
	tell_in_force(c->events, NULL, c->revision);
}

static void
publishing_ask(struct question *q, struct worker *w)
{
	struct publishing *x = CONTAINER_OF(q->gather, struct publishing, gather);
	worker_use(w, revision_ref(x->revision));
}

static void
publishing_merge(struct gather *g, struct question *q)
{
	(void)g, (void)q;
}

static void
publishing_done(struct gather *g, bool incomplete)
{
	struct publishing *x = CONTAINER_OF(g, struct publishing, gather);
	struct control *c = g->control;
	struct change *ch = c->change;
	const struct policy *p = x->revision->policy;
	char etag[sizeof p->etag];
	if (ch == NULL)
		return;                        /* abandoned: the router stops, and much of it has gone */
	if (incomplete)
		log_say(LOG_WARN, "a worker has not taken up revision %llu yet", (unsigned long long)p->revision);
	snprintf(etag, sizeof etag, "%s", p->etag);
	struct control_policy_answer a = { .result = CONTROL_PUT_OK, .revision = p->revision, .etag = etag };
	put_in_force(c, revision_ref(x->revision));
	c->change = NULL;
	change_answer(c, ch, &a);
	next_change(c);
}

static void
publishing_free(struct gather *g)
{
	struct publishing *x = CONTAINER_OF(g, struct publishing, gather);
	revision_unref(x->revision);
	free(x);
}

static const struct gather_ops publishing_ops = {
	.ask = publishing_ask,
	.merge = publishing_merge,
	.done = publishing_done,
	.release = free,
	.free = publishing_free,
};

/* ---- the file ---- */

static bool
write_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, text, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		text += n;
		len -= (size_t)n;
	}
	return fsync(fd) == 0;
}

static bool
sync_directory(const char *path)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	snprintf(dir, sizeof dir, "%.*s", slash == path ? 1 : (int)(slash - path), path);
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool ok = fd >= 0 && fsync(fd) == 0;
	if (fd >= 0)
		close(fd);
	return ok;
}

/* Beside the file, then renamed over it, with its mode and owner: a reader finds the old one or the new one, whole. A link to it
 * stays one. */
static bool
write_policy_file(const char *name, const char *text, size_t len)
{
	char path[PATH_MAX], temp[PATH_MAX];
	struct stat st;
	if (realpath(name, path) == NULL || stat(path, &st) < 0 ||
	    snprintf(temp, sizeof temp, "%s.XXXXXX", path) >= (int)sizeof temp)
		return false;
	int fd = mkostemp(temp, O_CLOEXEC);
	if (fd < 0)
		return false;
	bool ok = fchmod(fd, st.st_mode & 07777) == 0 && (fchown(fd, st.st_uid, st.st_gid) == 0 || errno == EPERM) &&
		  write_all(fd, text, len);
	ok = close(fd) == 0 && ok;
	if (ok && rename(temp, path) == 0)
		return sync_directory(path);
	int saved = errno;
	unlink(temp);
	errno = saved;
	return false;
}

/* ---- one change ---- */

static struct policy *
load_change(struct control *c, const struct change *ch, struct policy_errors *errors)
{
	const struct policy *now = c->revision->policy;
	struct policy_source from = { .text = ch->text, .len = ch->len, .name = "api", .dir = now->dir, .before = now };
	if (ch->text != NULL)
		return policy_load(&from, errors);
	if (c->policy_path != NULL && !ch->same_text)
		return policy_load_file(c->policy_path, NULL, errors);
	from = (struct policy_source){ .text = now->text, .len = now->text_len, .name = now->source, .dir = now->dir, .before = NULL };
	return policy_load(&from, errors);
}

static void
warn_of_what_waits(const struct policy *before, const struct policy *now)
{
	if (before->workers != now->workers)
		log_say(LOG_WARN, "workers takes effect at the next start");
	if (before->admin.enabled != now->admin.enabled || !endpoint_equal(&before->admin.listen, &now->admin.listen))
		log_say(LOG_WARN, "admin.listen takes effect at the next start");
}

static void
publish_revision(struct control *c, struct revision *r)
{
	struct publishing *x = calloc(1, sizeof *x);
	if (x == NULL) {
		revision_unref(r);
		struct change *ch = c->change;
		c->change = NULL;
		change_failed(c, ch, CONTROL_PUT_FAILED, "out of memory");
		next_change(c);
		return;
	}
	x->revision = r;
	gather_start(&x->gather, c, &publishing_ops);
}

/* The new revision, or NULL and the change has been answered. */
static struct revision *
prepare(struct control *c, struct change *ch)
{
	struct policy_errors errors;
	char why[256];
	if (atomic_load(&c->state) != CONTROL_RUNNING) {
		change_failed(c, ch, CONTROL_PUT_UNFIT, "draining");
		return NULL;
	}
	if (ch->persist && c->policy_path == NULL) {
		change_failed(c, ch, CONTROL_PUT_UNFIT, "there is no policy file to write: it was started without one");
		return NULL;
	}
	if (ch->if_match != NULL && strcmp(ch->if_match, c->revision->policy->etag) != 0) {
		change_failed(c, ch, CONTROL_PUT_MISMATCH, "the policy has changed since it was read");
		return NULL;
	}
	policy_errors_init(&errors);
	struct revision *r = NULL;
	struct policy *p = load_change(c, ch, &errors);
	if (p != NULL) {
		p->revision = c->last_revision + 1;
		warn_of_what_waits(c->revision->policy, p);
		r = build_revision(c, p, &errors);
	}
	if (r == NULL) {
		change_answer(c, ch, &(struct control_policy_answer){ .result = CONTROL_PUT_FAULTY, .errors = &errors });
	} else if (ch->persist && !write_policy_file(c->policy_path, r->policy->text, r->policy->text_len)) {
		snprintf(why, sizeof why, "can't write the policy's file: %s", strerror(errno));
		revision_unref(r);
		r = NULL;
		change_failed(c, ch, CONTROL_PUT_FAILED, why);
	} else {
		c->last_revision++;
	}
	policy_errors_free(&errors);
	return r;
}

static void
next_change(struct control *c)
{
	struct list *node;
	while (c->change == NULL && (node = list_take_first(&c->changes)) != NULL) {
		struct change *ch = CONTAINER_OF(node, struct change, link);
		struct revision *r = prepare(c, ch);
		if (r != NULL) {
			c->change = ch;
			publish_revision(c, r);
		}
	}
}

static void
on_change(struct message *m, void *owner, bool closing)
{
	struct change *ch = CONTAINER_OF(m, struct change, message);
	struct control *c = owner;
	if (closing) {
		change_failed(c, ch, CONTROL_PUT_FAILED, "stopping");
		return;
	}
	list_append(&c->changes, &ch->link);
	next_change(c);
}

static struct change *
change_new(const struct control_policy_change *from)
{
	struct change *ch = calloc(1, sizeof *ch);
	if (ch == NULL)
		return NULL;
	list_init(&ch->link);
	list_init(&ch->message.link);
	ch->message.handle = on_change;
	if (from == NULL)
		return ch;
	ch->persist = from->persist;
	ch->len = from->len;
	if ((from->text != NULL && (ch->text = malloc(from->len + 1)) == NULL) ||
	    (from->if_match != NULL && (ch->if_match = strdup(from->if_match)) == NULL)) {
		change_free(ch);
		return NULL;
	}
	if (from->text != NULL && from->len > 0)
		memcpy(ch->text, from->text, from->len);
	return ch;
}

/* ---- the door ---- */

void
publish_ask(struct control *c, const struct control_policy_change *change, control_policy_cb *cb, void *arg)
{
	struct change *ch = change_new(change);
	struct control_policy_answer failed = { .result = CONTROL_PUT_FAILED, .detail = "out of memory" };
	if (ch == NULL) {
		cb(&failed, arg);
		return;
	}
	ch->cb = cb;
	ch->arg = arg;
	if (!mailbox_post(c->mailbox, &ch->message)) {
		failed.detail = "stopping";
		cb(&failed, arg);
		change_free(ch);
	}
}

void
publish_reload(struct control *c, bool same_text)
{
	struct change *ch = change_new(NULL);
	if (ch == NULL) {
		log_say(LOG_ERROR, "can't reload: out of memory");
		return;
	}
	ch->same_text = same_text;
	list_append(&c->changes, &ch->link);
	next_change(c);
}

void
publish_abandon(struct control *c)
{
	struct list *node;
	while ((node = list_take_first(&c->changes)) != NULL)
		change_failed(c, CONTAINER_OF(node, struct change, link), CONTROL_PUT_FAILED, "stopping");
	if (c->change != NULL)
		change_failed(c, c->change, CONTROL_PUT_FAILED, "stopping");
	c->change = NULL;
}

struct revision *
publish_first(struct control *c, struct policy *p, char *why, size_t cap)
{
	struct policy_errors errors;
	policy_errors_init(&errors);
	p->revision = ++c->last_revision;
	struct revision *r = build_revision(c, p, &errors);
	const struct policy_error *e = errors.n > 0 ? &errors.list[0] : NULL;
	if (r == NULL && e != NULL && e->line > 0 && c->policy_path != NULL)
		snprintf(why, cap, "%s:%u:%u: %s: %s", c->policy_path, e->line, e->column, e->pointer, e->message);
	else if (r == NULL)
		snprintf(why, cap, "%s: %s", e != NULL ? e->pointer : "", e != NULL ? e->message : "out of memory");
	policy_errors_free(&errors);
	/* Before anyone can see that we serve: from now on no change is missed. */
	if (r != NULL)
		watch_policy_files(c, r->policy);
	return r;
}
