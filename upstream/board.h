/*
 * board: the one thing that workers share: what is known of each upstream right now. It outlives a
 * reload.
 *
 * One entry, on cache lines of its own, for each upstream, pool and chain by name (an upstream also
 * by where it is: another address under the old name begins anew), plus "direct". Entries are made
 * and dropped under the board's mutex and held by count; what is in them is atomic. Who writes
 * what:
 *   in_use          the fleet, when a path is taken and given back; by compare-and-swap against the
 *                   limit, so that a limit holds over all workers. With `waiting` sequentially
 *                   consistent: whoever found no slot sets `waiting` and looks once more, whoever
 *                   gives one back looks at `waiting` after: one of the two sees it.
 *   state, check_*  health, on the control thread
 *   admin, weight   the control door (PATCH); fleet_state_changed() after
 *   drain_due       board_tell() when a drain begins, whoever finds the last session gone after it;
 *                   sequentially consistent, as in_use is
 *   the rest        dialers and sessions
 * All but in_use, waiting and drain_due are relaxed: each figure stands alone, nothing is published through
 * it.
 */
#ifndef UPSTREAM_BOARD_H
#define UPSTREAM_BOARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <pthread.h>

#include "base/base.h"
#include "base/list.h"

/* What checks and traffic say, and what the operator says. */
enum upstream_state { UPSTREAM_UNKNOWN, UPSTREAM_UP, UPSTREAM_DOWN };
enum upstream_admin { UPSTREAM_ENABLED, UPSTREAM_DRAINING, UPSTREAM_DISABLED };

/* Does it take a handshake in one piece? Found out by dialers, where a policy wishes it. */
enum board_pipeline { PIPELINE_UNKNOWN, PIPELINE_WORKS, PIPELINE_FAILS };

/* Connect times: bucket i counts times under 2^(i/2) * 100 us; the last one, all above too. */
/* What failed requests say: upstream/outlier.h. TRIAL: one request may go there; TRIED: it has. */
enum ejection { EJECTION_NONE, EJECTION_OUT, EJECTION_TRIAL, EJECTION_TRIED };
enum { OUTLIER_FAILURES_MAX = 100 };

enum { BOARD_HIST_N = 40 };

enum { BOARD_PEAK_TAU_MS = 10000, BOARD_FAILURE_US = 1000000 };

struct board_entry {
	char *name;
	char *identity; /* an upstream's scheme and address; "pool", "chain", "direct" */
	struct board *board;
	pthread_mutex_t lock;                  /* over what follows */
	struct list watches;                   /* of struct board_watch */
	const char *told;                      /* the state, as it was last told to the board's listener */
	uint64_t full_ms;                      /* when it was last told that the queue is full; 0: never */
	uint32_t n_turned_away;                /* by the full queue, and not told yet */
	void *kept;                            /* whatever is to live as long as the entry, or NULL; */
	void (*free_kept)(void *kept);         /* set under the lock, once */

	/* outlier.h, under the lock */
	uint64_t *failed_ms;                   /* a ring of OUTLIER_FAILURES_MAX; NULL: none yet */
	uint64_t n_failed;                     /* since the last ejection */
	uint64_t ejection_ms, back_ms;
	uint32_t ejections;                    /* not forgotten yet */

	_Alignas(64) atomic_uint in_use;       /* sessions that hold a slot, dialling or relaying */
	atomic_uint waiting;                   /* 1: somebody found no free slot */
	atomic_uint state;                     /* enum upstream_state */
	atomic_uint admin;                     /* enum upstream_admin */
	atomic_uint drain_due;                 /* 1: its last session's end is to be told */
	atomic_uint ejection;                  /* enum ejection */
	atomic_uint_least64_t until_ms;        /* OUT, TRIED: when a trial is due */
	atomic_int weight;                     /* set by PATCH; -1: as the policy says */
	atomic_uint_least64_t sessions_total;  /* granted */
	atomic_uint_least64_t failures_total;  /* attempts that failed by its fault */
	atomic_uint_least64_t bytes_up, bytes_down;
	atomic_uint_least64_t ewma_us;         /* connect through the whole path to it; 0: never */
	atomic_uint_least64_t ewma_at_ms;      /* when it was last moved, monotonic */
	atomic_uint_least64_t peak_bits;       /* a double: see board_peak() */
	atomic_uint_least32_t hist[BOARD_HIST_N];
	atomic_uint_least64_t connect_us_total;        /* of the times in hist */
	atomic_uint warm;                      /* slots of in_use held by connections kept ready */
	atomic_uint pipeline;                  /* enum board_pipeline */
	atomic_uint_least64_t pipeline_at_ms;  /* when it was found to fail, monotonic */
	/* last check */
	atomic_int_least64_t check_at_ms;      /* wall clock; 0: never */
	atomic_uint_least32_t check_us;
	atomic_uint check_verdict;             /* enum verdict */
	atomic_uint check_streak;              /* same results in a row */
};

/* Somebody who is told when the entry changes or gets a free slot again. Embedded by its owner. */
struct board_watch {
	struct list link;
	/* From any thread, with the entry's lock held: must not watch, unwatch or release. */
	void (*changed)(struct board_watch *w);
};

struct board;

/* What happened to an upstream or a pool; all of it is valid during the call only. */
struct board_news {
	enum { BOARD_NEWS_STATE, BOARD_NEWS_DRAINED, BOARD_NEWS_QUEUE_FULL } kind;
	const char *name;
	const char *was, *now;                 /* as board_state_text() says; literals */
	const char *why;                       /* "": nobody said */
	uint32_t n_turned_away;                /* QUEUE_FULL: since that was last told */
};
/* From any thread, with an entry's lock held: it must be quick, and call nothing here. */
typedef void board_news_cb(const struct board_news *news, void *arg);

/* However often a queue is found full, it is told once in this time. */
enum { BOARD_FULL_MS = 1000 };

struct board *board_new(void);
/** Before anybody holds an entry. */
void board_listen(struct board *b, board_news_cb *cb, void *arg);
void board_free(struct board *b);              /* NULL is fine; all entries have been released */
/** Finds or makes; adds a reference. NULL: out of memory. */
struct board_entry *board_hold(struct board *b, const char *name, const char *identity) WARN_UNUSED;
void board_release(struct board *b, struct board_entry *e);    /* NULL is fine */
/** Entries that are held by somebody. */
size_t board_count(struct board *b);

/** When the next trial of any upstream is due; UINT64_MAX: never. */
atomic_uint_least64_t *board_next_trial(struct board *b);
/** Over the decision who is ejected; nothing else is taken before it. */
pthread_mutex_t *board_ejecting(struct board *b);

void board_watch(struct board_entry *e, struct board_watch *w);
/** w is not called any more when this returns. */
void board_unwatch(struct board_entry *e, struct board_watch *w);
/** State, admin setting, ejection or weight were changed, and why ("": goes without saying): tells
 * all who watch, and the listener if its state is another one now. */
void board_tell(struct board_entry *e, const char *why);
/** A pool's queue had no place for a request. */
void board_note_queue_full(struct board_entry *e);

/** Takes a slot, and the trial where one is due; false: max (> 0) are in use, or it is ejected. Every taken slot is given back exactly once. */
bool board_take_slot(struct board_entry *e, uint32_t max) WARN_UNUSED;
/** Tells those who watch if somebody found no slot before. Not with a lock held that they take. */
void board_give_back_slot(struct board_entry *e);
/** Is a slot free? If not, those who watch are told when one comes free. */
bool board_has_slot(struct board_entry *e, uint32_t max);

static inline uint32_t
board_in_use(const struct board_entry *e)
{
	return atomic_load_explicit(&e->in_use, memory_order_relaxed);
}

/** Without the connections that are kept ready. */
static inline uint32_t
board_sessions(const struct board_entry *e)
{
	uint32_t all = board_in_use(e), warm = atomic_load_explicit(&e->warm, memory_order_relaxed);
	return all > warm ? all - warm : 0;
}

static inline enum upstream_state
board_state(const struct board_entry *e)
{
	return (enum upstream_state)atomic_load_explicit(&e->state, memory_order_relaxed);
}

/** May new sessions be sent to it? (not DOWN, not ejected or a trial is due, admin is ENABLED) */
bool board_usable(const struct board_entry *e);
/** The state as the API says it: "up", "down", "ejected", "draining", "disabled", "unknown". */
const char *board_state_text(const struct board_entry *e);

/** A connect that worked and took us. */
void board_note_connect(struct board_entry *e, uint64_t us);
/** An attempt that failed by its fault: counted, and for the peak as bad as a slow connect. */
void board_note_failure(struct board_entry *e);
/** An attempt was given up after us, since another one was quicker: for the peak at least so slow. */
void board_note_waited(struct board_entry *e, uint64_t us);
/**
 * The peak-EWMA of connect times: it rises at once to a time above it, and falls with a time
 * constant of BOARD_PEAK_TAU_MS, unused too. As ln(us) + t / BOARD_PEAK_TAU_MS where t is when it
 * was moved: so values of different moments compare as they do now. 0: nothing was measured yet.
 */
double board_peak(const struct board_entry *e);
/** Where bucket i of hist ends: 100 us * 2^(i/2). */
uint64_t board_hist_end_us(unsigned i);
/** In microseconds, by interpolation in the histogram; 0: none. q in 0-1. */
uint64_t board_connect_quantile(const struct board_entry *e, double q);

#endif
