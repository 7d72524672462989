/*
 * board: see board.h. Entries live in one hash table by name and identity, under the board's mutex;
 * whoever holds an entry needs neither.
 */
#include "upstream/board.h"

#define HASH_NONFATAL_OOM 1

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "base/clock.h"

enum { EWMA_DECAY_MS = 10000, EWMA_GAIN = 8 };

struct node {
	struct board_entry entry;
	unsigned refs;                         /* under the board's mutex */
	size_t key_len;
	UT_hash_handle hh;
	char key[];                            /* name, NUL, identity, NUL */
};

struct board {
	pthread_mutex_t mutex;
	struct node *nodes;
	pthread_mutex_t ejecting;
	atomic_uint_least64_t next_trial_ms;
	board_news_cb *listener;               /* NULL: nobody listens */
	void *listener_arg;
};

void
board_listen(struct board *b, board_news_cb *cb, void *arg)
{
	b->listener = cb;
	b->listener_arg = arg;
}

atomic_uint_least64_t *
board_next_trial(struct board *b)
{
	return &b->next_trial_ms;
}

pthread_mutex_t *
board_ejecting(struct board *b)
{
	return &b->ejecting;
}

struct board *
board_new(void)
{
	struct board *b = calloc(1, sizeof *b);
	if (b == NULL)
		return NULL;
	atomic_init(&b->next_trial_ms, UINT64_MAX);
	if (pthread_mutex_init(&b->mutex, NULL) != 0) {
		free(b);
		return NULL;
	}
	if (pthread_mutex_init(&b->ejecting, NULL) != 0) {
		pthread_mutex_destroy(&b->mutex);
		free(b);
		return NULL;
	}
	return b;
}

void
board_free(struct board *b)
{
	if (b == NULL)
		return;
	assert(b->nodes == NULL);
	pthread_mutex_destroy(&b->ejecting);
	pthread_mutex_destroy(&b->mutex);
	free(b);
}

static struct node *
node_new(const char *name, const char *identity)
{
	size_t name_len = strlen(name) + 1, identity_len = strlen(identity) + 1;
	size_t size = sizeof(struct node) + name_len + identity_len;
	size = (size + 63) / 64 * 64;
	struct node *n = aligned_alloc(64, size);
	if (n == NULL)
		return NULL;
	memset(n, 0, size);
	if (pthread_mutex_init(&n->entry.lock, NULL) != 0) {
		free(n);
		return NULL;
	}
	memcpy(n->key, name, name_len);
	memcpy(n->key + name_len, identity, identity_len);
	n->key_len = name_len + identity_len;
	n->entry.name = n->key;
	n->entry.identity = n->key + name_len;
	list_init(&n->entry.watches);
	n->entry.told = board_state_text(&n->entry);
	atomic_init(&n->entry.weight, -1);
	return n;
}

static void
node_free(struct node *n)
{
	pthread_mutex_destroy(&n->entry.lock);
	free(n->entry.failed_ms);
	free(n);
}

/* With the mutex held. */
static struct node *
find_or_add(struct board *b, struct node *fresh)
{
	struct node *found;
	HASH_FIND(hh, b->nodes, fresh->key, fresh->key_len, found);
	if (found == NULL) {
		HASH_ADD_KEYPTR(hh, b->nodes, fresh->key, fresh->key_len, fresh);
		found = fresh->hh.tbl != NULL ? fresh : NULL;
	}
	if (found != NULL)
		found->refs++;
	return found;
}

struct board_entry *
board_hold(struct board *b, const char *name, const char *identity)
{
	struct node *fresh = node_new(name, identity);
	if (fresh == NULL)
		return NULL;
	fresh->entry.board = b;
	pthread_mutex_lock(&b->mutex);
	struct node *n = find_or_add(b, fresh);
	pthread_mutex_unlock(&b->mutex);
	if (n != fresh)
		node_free(fresh);
	return n != NULL ? &n->entry : NULL;
}

void
board_release(struct board *b, struct board_entry *e)
{
	if (e == NULL)
		return;
	struct node *n = CONTAINER_OF(e, struct node, entry);
	pthread_mutex_lock(&b->mutex);
	assert(n->refs > 0);
	bool last = --n->refs == 0;
	if (last)
		HASH_DEL(b->nodes, n);
	pthread_mutex_unlock(&b->mutex);
	if (!last)
		return;
	assert(list_empty(&e->watches));
	if (e->kept != NULL)
		e->free_kept(e->kept);
	node_free(n);
}

size_t
board_count(struct board *b)
{
	pthread_mutex_lock(&b->mutex);
	size_t n = HASH_COUNT(b->nodes);
	pthread_mutex_unlock(&b->mutex);
	return n;
}

void
board_watch(struct board_entry *e, struct board_watch *w)
{
	pthread_mutex_lock(&e->lock);
	list_append(&e->watches, &w->link);
	pthread_mutex_unlock(&e->lock);
}

void
board_unwatch(struct board_entry *e, struct board_watch *w)
{
	pthread_mutex_lock(&e->lock);
	list_remove(&w->link);
	pthread_mutex_unlock(&e->lock);
}

/* ---- what the listener is told, with the entry's lock held ---- */

static void
tell_listener(struct board_entry *e, struct board_news news)
{
	news.name = e->name;
	if (e->board->listener != NULL)
		e->board->listener(&news, e->board->listener_arg);
}

static void
tell_state(struct board_entry *e, const char *why)
{
	const char *was = e->told, *now = board_state_text(e);
	if (strcmp(was, now) == 0)
		return;
	e->told = now;
	tell_listener(e, (struct board_news){ BOARD_NEWS_STATE, .was = was, .now = now, .why = why });
	atomic_store(&e->drain_due, atomic_load(&e->admin) == UPSTREAM_DRAINING);
}

/* drain_due and in_use are sequentially consistent here and where they change: whoever begins a
 * drain, or whoever ends the last session, sees both. */
static bool
is_drained(struct board_entry *e)
{
	return atomic_load(&e->drain_due) != 0 && atomic_load(&e->in_use) <= atomic_load(&e->warm);
}

static void
tell_drained(struct board_entry *e)
{
	const char *now = board_state_text(e);
	if (is_drained(e) && atomic_exchange(&e->drain_due, 0) != 0)
		tell_listener(e, (struct board_news){ BOARD_NEWS_DRAINED, .was = now, .now = now, .why = "" });
}

void
board_tell(struct board_entry *e, const char *why)
{
	pthread_mutex_lock(&e->lock);
	LIST_FOR_EACH(&e->watches, link) {
		struct board_watch *w = LIST_OBJECT(link, struct board_watch, link);
		w->changed(w);
	}
	tell_state(e, why);
	tell_drained(e);
	pthread_mutex_unlock(&e->lock);
}

void
board_note_queue_full(struct board_entry *e)
{
	pthread_mutex_lock(&e->lock);
	uint64_t now = clock_now_ms(); /* under the lock: never before full_ms */
	e->n_turned_away++;
	if (e->full_ms == 0 || now - e->full_ms >= BOARD_FULL_MS) {
		const struct board_news news = { BOARD_NEWS_QUEUE_FULL, .was = "", .now = "", .why = "",
			                         .n_turned_away = e->n_turned_away };
		e->full_ms = now;
		e->n_turned_away = 0;
		tell_listener(e, news);
	}
	pthread_mutex_unlock(&e->lock);
}

static bool
take_free_slot(struct board_entry *e, uint32_t max)
{
	if (max == 0) {
		atomic_fetch_add(&e->in_use, 1);
		return true;
	}
	unsigned now = atomic_load(&e->in_use);
	while (now < max) {
		if (atomic_compare_exchange_weak(&e->in_use, &now, now + 1))
			return true;
	}
	return false;
}

bool
board_take_slot(struct board_entry *e, uint32_t max)
{
	unsigned ejection = atomic_load_explicit(&e->ejection, memory_order_relaxed);
	if (ejection == EJECTION_NONE)
		return take_free_slot(e, max);
	unsigned trial = EJECTION_TRIAL;
	if (!atomic_compare_exchange_strong(&e->ejection, &trial, EJECTION_TRIED))
		return false;
	if (take_free_slot(e, max))
		return true;
	atomic_store(&e->ejection, EJECTION_TRIAL);
	return false;
}

void
board_give_back_slot(struct board_entry *e)
{
	unsigned before = atomic_fetch_sub(&e->in_use, 1);
	assert(before > 0);
	(void)before;
	if ((atomic_load(&e->waiting) != 0 && atomic_exchange(&e->waiting, 0) != 0) || is_drained(e))
		board_tell(e, "");
}

bool
board_has_slot(struct board_entry *e, uint32_t max)
{
	if (max == 0 || atomic_load(&e->in_use) < max)
		return true;
	atomic_store(&e->waiting, 1);
	return atomic_load(&e->in_use) < max;
}

bool
board_usable(const struct board_entry *e)
{
	enum upstream_state state = board_state(e);
	unsigned admin = atomic_load_explicit(&e->admin, memory_order_relaxed);
	unsigned ejection = atomic_load_explicit(&e->ejection, memory_order_relaxed);
	return admin == UPSTREAM_ENABLED && state != UPSTREAM_DOWN &&
	       (ejection == EJECTION_NONE || ejection == EJECTION_TRIAL);
}

const char *
board_state_text(const struct board_entry *e)
{
	static const char *const states[] = { "unknown", "up", "down" };
	unsigned admin = atomic_load_explicit(&e->admin, memory_order_relaxed);
	if (admin == UPSTREAM_DRAINING)
		return "draining";
	if (admin == UPSTREAM_DISABLED)
		return "disabled";
	if (board_state(e) != UPSTREAM_DOWN && atomic_load(&e->ejection) != EJECTION_NONE)
		return "ejected";
	return states[board_state(e)];
}

/* ---- connect times ---- */

uint64_t
board_hist_end_us(unsigned i)
{
	uint64_t end = UINT64_C(100) << (i / 2);
	return i % 2 == 0 ? end : end * 1414214 / 1000000;
}

static unsigned
bucket_of(uint64_t us)
{
	unsigned i = 0;
	while (i < BOARD_HIST_N - 1 && us >= board_hist_end_us(i))
		i++;
	return i;
}

/* An old average counts for less the longer ago it was moved; in a burst each sample counts for
 * one in EWMA_GAIN. */
static uint64_t
ewma_next(uint64_t old, uint64_t us, uint64_t age_ms)
{
	double gain = (double)age_ms / (double)(age_ms + EWMA_DECAY_MS);
	if (gain < 1.0 / EWMA_GAIN)
		gain = 1.0 / EWMA_GAIN;
	double next = (double)old + ((double)us - (double)old) * gain;
	return next < 1 ? 1 : (uint64_t)(next + 0.5);
}

static double
double_of(uint64_t bits)
{
	double d;
	memcpy(&d, &bits, sizeof d);
	return d;
}

double
board_peak(const struct board_entry *e)
{
	return double_of(atomic_load_explicit(&e->peak_bits, memory_order_relaxed));
}

/* old: what board_peak() says; age_ms: since it was moved. Below a microsecond nothing counts. */
static double
peak_next(double old, uint64_t us, uint64_t now_ms, uint64_t age_ms)
{
	double at = (double)now_ms / BOARD_PEAK_TAU_MS, sample = us > 0 ? (double)us : 1;
	if (!(old > 0) || old <= at + log(sample))
		return at + log(sample);
	if (age_ms == 0)
		return old;
	return at + log(exp(old - at) + sample * -expm1(-(double)age_ms / BOARD_PEAK_TAU_MS));
}

static void
move_peak(struct board_entry *e, uint64_t us, uint64_t now, uint64_t age_ms)
{
	uint64_t old = atomic_load_explicit(&e->peak_bits, memory_order_relaxed), next;
	do {
		double d = peak_next(double_of(old), us, now, age_ms);
		memcpy(&next, &d, sizeof next);
	} while (!atomic_compare_exchange_weak_explicit(
	    &e->peak_bits, &old, next, memory_order_relaxed, memory_order_relaxed));
}

void
board_note_failure(struct board_entry *e)
{
	atomic_fetch_add_explicit(&e->failures_total, 1, memory_order_relaxed);
	move_peak(e, BOARD_FAILURE_US, clock_now_ms(), 0);
}

void
board_note_waited(struct board_entry *e, uint64_t us)
{
	move_peak(e, us, clock_now_ms(), 0);
}

void
board_note_connect(struct board_entry *e, uint64_t us)
{
	atomic_fetch_add_explicit(&e->hist[bucket_of(us)], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&e->connect_us_total, us, memory_order_relaxed);
	uint64_t now = clock_now_ms();
	uint64_t at = atomic_exchange_explicit(&e->ewma_at_ms, now, memory_order_relaxed);
	uint64_t old = atomic_load_explicit(&e->ewma_us, memory_order_relaxed), next;
	do {
		next = old == 0 ? (us > 0 ? us : 1) : ewma_next(old, us, now > at ? now - at : 0);
	} while (!atomic_compare_exchange_weak_explicit(
	    &e->ewma_us, &old, next, memory_order_relaxed, memory_order_relaxed));
	move_peak(e, us, now, now > at ? now - at : 0);
}

uint64_t
board_connect_quantile(const struct board_entry *e, double q)
{
	uint64_t counts[BOARD_HIST_N], total = 0;
	for (unsigned i = 0; i < BOARD_HIST_N; i++)
		total += counts[i] = atomic_load_explicit(&e->hist[i], memory_order_relaxed);
	if (total == 0)
		return 0;
	double want = q * (double)total, seen = 0;
	unsigned i = 0; /* where the wanted one lies; never an empty bucket */
	for (unsigned at = 0; at < BOARD_HIST_N; at++) {
		if (counts[at] == 0)
			continue;
		i = at;
		if (seen + (double)counts[at] >= want)
			break;
		seen += (double)counts[at];
	}
	double from = i == 0 ? 0 : (double)board_hist_end_us(i - 1), to = (double)board_hist_end_us(i);
	double part = (want - seen) / (double)counts[i];
	part = part < 0 ? 0 : part > 1 ? 1 : part;
	return (uint64_t)(from + (to - from) * part);
}
