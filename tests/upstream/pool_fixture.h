/*
 * pool_fixture: a pool by itself, with board entries for its members, for tests of picks.
 *
 * Life: fixture_new -> (settings) -> open_pool -> picks -> fixture_free.
 */
#ifndef TESTS_UPSTREAM_POOL_FIXTURE_H
#define TESTS_UPSTREAM_POOL_FIXTURE_H

#include "upstream/pool.h"

enum { MEMBERS_MAX = 1000 };

struct fixture {
	struct board *board;
	struct board_entry *own;               /* the pool's */
	struct policy_member members[MEMBERS_MAX];
	struct policy_pool conf;
	struct board_entry *entries[MEMBERS_MAX];
	uint32_t max[MEMBERS_MAX];
	struct pool *pool;
	struct pick_key key;                   /* of the picks to come */
};

extern const struct pool_status good, full, dead;

/** Members m0, m1 and so on; weights NULL: 1 each. */
struct fixture *fixture_new(enum balance balance, const uint32_t *weights, size_t n);
/** After the fixture's tiers, limits and settings are as the test wants them. */
void open_pool(struct fixture *f);
void fixture_free(struct fixture *f);

/** As the fleet does it: a member found full is set so, then the pool is asked again. UINT32_MAX:
 * none. */
uint32_t pick_but(struct fixture *f, const struct pick *skip, size_t n_skip);
uint32_t pick(struct fixture *f);
void give_back(struct fixture *f, uint32_t member);
uint32_t pick_and_give_back(struct fixture *f);
/** The next n picks as letters, a for the first member; '-' for none. */
void assert_picks(struct fixture *f, const char *want);

#endif
