/*
 * pool_fixture: see pool_fixture.h.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/upstream/pool_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "upstream/pool_memory.h"

const struct pool_status good = {true, true}, full = {true, false}, dead = {false, true};

struct fixture *
fixture_new(enum balance balance, const uint32_t *weights, size_t n)
{
	struct fixture *f = calloc(1, sizeof *f);
	f->board = board_new();
	f->own = board_hold(f->board, "p", "pool");
	f->conf = (struct policy_pool){
	    .name = "p", .members = f->members, .n_members = n, .balance = balance,
	    .retry_budget_percent = 20};
	if (balance == BALANCE_CONSISTENT_HASH)
		f->conf.hash_key = KEY_CLIENT_IP;
	for (size_t i = 0; i < n; i++) {
		char name[24];
		snprintf(name, sizeof name, "m%zu", i);
		f->entries[i] = board_hold(f->board, name, "");
		f->members[i].name = f->entries[i]->name;
		f->members[i].weight = weights != NULL ? weights[i] : 1;
	}
	return f;
}

void
open_pool(struct fixture *f)
{
	f->pool = pool_new(&f->conf, 0, pool_memory_of(f->own), f->entries, f->max);
	assert_non_null(f->pool);
	for (uint32_t i = 0; i < f->conf.n_members; i++)
		pool_set_member(f->pool, i, good, f->members[i].weight);
}

void
fixture_free(struct fixture *f)
{
	pool_free(f->pool);
	board_release(f->board, f->own);
	for (size_t i = 0; i < f->conf.n_members; i++)
		board_release(f->board, f->entries[i]);
	board_free(f->board);
	free(f);
}

uint32_t
pick_but(struct fixture *f, const struct pick *skip, size_t n_skip)
{
	for (;;) {
		uint32_t member;
		switch (pool_pick(f->pool, skip, n_skip, &f->key, true, &member)) {
		case POOL_PICKED:
			return member;
		case POOL_FULL:
			pool_set_member(f->pool, member, full, f->members[member].weight);
			break;
		case POOL_BUSY:
		case POOL_NONE:
			return UINT32_MAX;
		}
	}
}

uint32_t
pick(struct fixture *f)
{
	return pick_but(f, NULL, 0);
}

void
give_back(struct fixture *f, uint32_t member)
{
	board_give_back_slot(f->entries[member]);
	pool_load_changed(f->pool, member);
}

uint32_t
pick_and_give_back(struct fixture *f)
{
	uint32_t member = pick(f);
	if (member != UINT32_MAX)
		give_back(f, member);
	return member;
}

void
assert_picks(struct fixture *f, const char *want)
{
	char got[128];
	size_t n = strlen(want);
	assert_true(n < sizeof got);
	for (size_t i = 0; i < n; i++) {
		uint32_t member = pick_and_give_back(f);
		got[i] = member == UINT32_MAX ? '-' : (char)('a' + member);
	}
	got[n] = '\0';
	assert_string_equal(got, want);
}
