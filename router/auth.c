#include "router/auth.h"

#include <crypt.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"

enum { DIGEST = 32, HASH_MAX = 384 /* CRYPT_OUTPUT_SIZE */ };

/* What an unknown user's password is hashed with where the block has no user at all: yescrypt at its default cost. */
static const char DUMMY_HASH[] = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$4rYEnVK59zljZ4NdTxuMte4HF3hsSRI7CDZM.6XQ7sB";

struct remembered {
	uint8_t digest[DIGEST];
	uint64_t until_ms;                     /* 0: free */
};

/* One computation; freed when it is done and its waiters have been posted. */
struct job {
	struct list link;                      /* queued or running */
	struct list waiters;
	uint8_t digest[DIGEST];
	struct endpoint client;
	bool known_user;
	char hash[HASH_MAX];
	size_t password_len;
	char password[256];
};

struct auth_check {
	struct message message;                /* must be first to be posted */
	struct list link;                      /* in its job */
	struct mailbox *box;
	auth_cb *cb;                           /* worker only; NULL: cancelled */
	void *arg;
	enum auth_answer answer;
};

struct auth {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct list queue, running;            /* jobs */
	unsigned n_queued;
	bool stopping;
	uint8_t key[DIGEST];
	struct remembered table[AUTH_REMEMBER_N];
	pthread_t threads[AUTH_THREADS];
	unsigned n_threads;
};

/* ---- hashing ---- */

bool
auth_verify(const char *password, size_t len, const char *hash)
{
	if (hash[0] != '$' && hash[0] != '_' && strlen(hash) < 13)
		return false;                  /* "", "*", "!": locked */
	if (memchr(password, '\0', len) != NULL || len > 255)
		return false;                  /* crypt(3) would see less than was sent */
	struct crypt_data *data = calloc(1, sizeof *data);
	if (data == NULL)
		return false;
	char phrase[256];
	memcpy(phrase, password, len);
	phrase[len] = '\0';
	const char *got = crypt_r(phrase, hash, data);
	bool ok = got != NULL && got[0] != '*' && strlen(got) == strlen(hash) &&
		  CRYPTO_memcmp(got, hash, strlen(hash)) == 0;
	OPENSSL_cleanse(phrase, sizeof phrase);
	OPENSSL_cleanse(data, sizeof *data);
	free(data);
	return ok;
}

static void
digest_of(const struct auth *a, const struct auth_question *q, const char *hash, uint8_t out[DIGEST])
{
	uint8_t text[1024];
	size_t len = 0, part[3] = { strlen(q->user), strlen(hash), q->password_len };
	const void *bytes[3] = { q->user, hash, q->password };
	for (int i = 0; i < 3; i++) {
		/* Lengths go in too, so that no two questions give the same bytes. */
		if (part[i] > 300)
			part[i] = 300;
		text[len++] = (uint8_t)(part[i] >> 8);
		text[len++] = (uint8_t)part[i];
		memcpy(text + len, bytes[i], part[i]);
		len += part[i];
	}
	unsigned n = DIGEST;
	HMAC(EVP_sha256(), a->key, DIGEST, text, len, out, &n);
	OPENSSL_cleanse(text, sizeof text);
}

/* ---- memory of who was right; under the lock ---- */

static struct remembered *
slot_of(struct auth *a, const uint8_t digest[DIGEST])
{
	/* Two places for each digest, the older one gives way: bounded, and no stranger can fill it without being right. */
	size_t at = ((size_t)digest[0] << 8 | digest[1]) % AUTH_REMEMBER_N;
	struct remembered *first = &a->table[at], *second = &a->table[at ^ 1];
	if (first->until_ms != 0 && CRYPTO_memcmp(first->digest, digest, DIGEST) == 0)
		return first;
	if (second->until_ms != 0 && CRYPTO_memcmp(second->digest, digest, DIGEST) == 0)
		return second;
	return first->until_ms <= second->until_ms ? first : second;
}

static bool
is_remembered(struct auth *a, const uint8_t digest[DIGEST], uint64_t now_ms)
{
	const struct remembered *r = slot_of(a, digest);
	return r->until_ms > now_ms && CRYPTO_memcmp(r->digest, digest, DIGEST) == 0;
}

static void
remember(struct auth *a, const uint8_t digest[DIGEST], uint64_t now_ms)
{
	struct remembered *r = slot_of(a, digest);
	memcpy(r->digest, digest, DIGEST);
	r->until_ms = now_ms + AUTH_REMEMBER_MS;
}

void
auth_forget(struct auth *a)
{
	pthread_mutex_lock(&a->lock);
	OPENSSL_cleanse(a->table, sizeof a->table);
	RAND_bytes(a->key, DIGEST);            /* what is being computed now is not remembered under the new key either */
	pthread_mutex_unlock(&a->lock);
}

/* ---- jobs ---- */

static void
job_free(struct job *j)
{
	OPENSSL_cleanse(j->password, sizeof j->password);
	free(j);
}

static void
on_answered(struct message *m, void *owner, bool closing)
{
	(void)owner;
	struct auth_check *c = CONTAINER_OF(m, struct auth_check, message);
	auth_cb *cb = c->cb;
	void *arg = c->arg;
	enum auth_answer answer = c->answer;
	free(c);
	if (cb != NULL && !closing)
		cb(answer, arg);
}

static void
job_answer(struct job *j, enum auth_answer answer)
{
	struct list *node;
	while ((node = list_take_first(&j->waiters)) != NULL) {
		struct auth_check *c = LIST_OBJECT(node, struct auth_check, link);
		c->answer = answer;
		if (!mailbox_post(c->box, &c->message))
			free(c);               /* the worker is gone */
	}
}

static void
run_job(struct auth *a, struct job *j)
{
	pthread_mutex_unlock(&a->lock);
	bool ok = auth_verify(j->password, j->password_len, j->hash) && j->known_user;
	pthread_mutex_lock(&a->lock);
	if (ok)
		remember(a, j->digest, clock_now_ms());
	list_remove(&j->link);
	job_answer(j, ok ? AUTH_ADMITTED : AUTH_REFUSED);
	job_free(j);
}

static void *
auth_thread(void *arg)
{
	struct auth *a = arg;
	pthread_mutex_lock(&a->lock);
	while (!a->stopping) {
		struct list *node = list_take_first(&a->queue);
		if (node == NULL) {
			pthread_cond_wait(&a->wake, &a->lock);
			continue;
		}
		a->n_queued--;
		list_append(&a->running, node);
		run_job(a, LIST_OBJECT(node, struct job, link));
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

static struct job *
find_job(struct list *jobs, const uint8_t digest[DIGEST])
{
	LIST_FOR_EACH (jobs, node) {
		struct job *j = LIST_OBJECT(node, struct job, link);
		if (CRYPTO_memcmp(j->digest, digest, DIGEST) == 0)
			return j;
	}
	return NULL;
}

static unsigned
count_of_client(const struct list *jobs, const struct endpoint *client)
{
	unsigned n = 0;
	LIST_FOR_EACH (jobs, node)
		n += endpoint_same_host(&LIST_OBJECT(node, struct job, link)->client, client);
	return n;
}

static struct job *
job_new(struct auth *a, const struct auth_question *q, const char *hash, bool known, const uint8_t digest[DIGEST])
{
	if (a->n_queued >= AUTH_QUEUE_MAX || count_of_client(&a->queue, q->client) >= AUTH_PER_CLIENT_MAX ||
	    q->password_len >= sizeof((struct job *)0)->password || strlen(hash) >= HASH_MAX)
		return NULL;
	struct job *j = calloc(1, sizeof *j);
	if (j == NULL)
		return NULL;
	list_init(&j->waiters);
	memcpy(j->digest, digest, DIGEST);
	j->client = *q->client;
	j->known_user = known;
	memcpy(j->hash, hash, strlen(hash) + 1);
	memcpy(j->password, q->password, q->password_len);
	j->password_len = q->password_len;
	list_append(&a->queue, &j->link);
	a->n_queued++;
	pthread_cond_signal(&a->wake);
	return j;
}

static struct auth_check *
join_job(struct job *j, struct mailbox *box, auth_cb *cb, void *arg)
{
	struct auth_check *c = calloc(1, sizeof *c);
	if (c == NULL)
		return NULL;
	list_init(&c->message.link);
	c->message.handle = on_answered;
	c->box = box;
	c->cb = cb;
	c->arg = arg;
	list_append(&j->waiters, &c->link);
	return c;
}

enum auth_answer
auth_start(struct auth *a, const struct auth_question *q, struct mailbox *box, struct counters *counters, auth_cb *cb,
           void *arg, struct auth_check **out)
{
	const struct policy_user *user = policy_find_user(q->block, q->user);
	const char *hash = user != NULL		      ? user->password_hash
			   : q->block->n_users > 0 ? q->block->users[0].password_hash
						      : DUMMY_HASH;
	uint8_t digest[DIGEST];
	enum auth_answer answer = AUTH_WAIT;

	pthread_mutex_lock(&a->lock);
	digest_of(a, q, hash, digest);
	if (user != NULL && is_remembered(a, digest, clock_now_ms())) {
		answer = AUTH_ADMITTED;
		counter_add(counters, COUNTER_AUTH_REMEMBERED, 1);
	} else {
		struct job *j = find_job(&a->running, digest);
		if (j == NULL)
			j = find_job(&a->queue, digest);
		if (j == NULL) {
			j = job_new(a, q, hash, user != NULL, digest);
			counter_add(counters, COUNTER_AUTH_CHECKS, j != NULL);
		}
		*out = j == NULL ? NULL : join_job(j, box, cb, arg);
		if (*out == NULL)
			answer = AUTH_REFUSED;
	}
	pthread_mutex_unlock(&a->lock);
	return answer;
}

void
auth_cancel(struct auth_check *c)
{
	if (c != NULL)
		c->cb = NULL;                  /* the message still comes, and frees itself */
}

/* ---- life ---- */

struct auth *
auth_new(void)
{
	struct auth *a = calloc(1, sizeof *a);
	if (a == NULL)
		return NULL;
	list_init(&a->queue);
	list_init(&a->running);
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->wake, NULL);
	bool ok = RAND_bytes(a->key, DIGEST) == 1;
	while (ok && a->n_threads < AUTH_THREADS) {
		ok = pthread_create(&a->threads[a->n_threads], NULL, auth_thread, a) == 0;
		a->n_threads += ok;
	}
	if (!ok) {
		auth_free(a);
		return NULL;
	}
	return a;
}

void
auth_free(struct auth *a)
{
	if (a == NULL)
		return;
	pthread_mutex_lock(&a->lock);
	a->stopping = true;
	pthread_cond_broadcast(&a->wake);
	pthread_mutex_unlock(&a->lock);
	for (unsigned i = 0; i < a->n_threads; i++)
		pthread_join(a->threads[i], NULL);
	struct list *node;
	while ((node = list_take_first(&a->queue)) != NULL) {
		struct job *j = LIST_OBJECT(node, struct job, link);
		job_answer(j, AUTH_REFUSED);
		job_free(j);
	}
	pthread_cond_destroy(&a->wake);
	pthread_mutex_destroy(&a->lock);
	OPENSSL_cleanse(a, sizeof *a);
	free(a);
}
