/*
 * match_keys: tables that reading, evaluation and explanation of a match share. For match*.c only.
 */
#ifndef POLICY_MATCH_KEYS_H
#define POLICY_MATCH_KEYS_H

#include <stddef.h>

#include "policy/match.h"
#include "policy/parse.h"

/* UNKNOWN: it hangs on addresses that are not known. */
typedef enum truth match_key_fn(const struct rule_match *m, struct match_view *v);

struct match_key_check {
	enum match_key key;
	match_key_fn *holds;
};

extern const struct match_key_check match_key_checks[];
extern const size_t match_n_key_checks;

/* The document's words, and their bits in rule_match.protocols and .commands. */
extern const struct parse_word match_protocol_words[];
extern const struct parse_word match_command_words[];

#endif
