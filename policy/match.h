/*
 * match: a rule's conditions: compiled from a `match` object, held against a request, explained.
 *
 * All keys must hold; of a key's values any. A match lives in its policy's arena and is immutable.
 *
 * Addresses of a destination that is a name may be unknown. An address key (ip_cidr, a set of type
 * ip) then does not hold, and so a `not` around it does: as in HAProxy and sing-box, `not` is true
 * of whatever does not match. Where the caller may still ask for the addresses, such a key is
 * neither true nor false, and the whole answer is UNKNOWN if it hangs on it (three-valued logic,
 * Kleene). Domain keys never hold for a destination that is an address.
 */
#ifndef POLICY_MATCH_H
#define POLICY_MATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/decide.h"
#include "policy/domain_set.h"
#include "policy/ip_set.h"

struct json_value;
struct parse_context;

enum match_key {                       /* bits of rule_match.keys */
	MATCH_LISTENER = 1 << 0,
	MATCH_PROTOCOL = 1 << 1,
	MATCH_COMMAND = 1 << 2,
	MATCH_PORT = 1 << 3,
	MATCH_CLIENT_CIDR = 1 << 4,
	MATCH_USER = 1 << 5,
	MATCH_USERID = 1 << 6,
	MATCH_DOMAIN = 1 << 7,
	MATCH_DOMAIN_SUFFIX = 1 << 8,
	MATCH_DOMAIN_KEYWORD = 1 << 9,
	MATCH_IP_CIDR = 1 << 10,
	MATCH_SET = 1 << 11,
	MATCH_NOT = 1 << 12,
};

struct match_texts {                   /* sorted by strcmp, except keywords */
	const char **list;
	size_t n;
};

struct match_prefixes {                /* sorted by ip_prefixes_sort */
	struct ip_prefix *list;
	size_t n;
};

struct match_indexes {
	uint32_t *list;
	size_t n;
};

struct port_range {
	uint16_t from, to;             /* both included */
};

struct match_ports {                   /* as written */
	struct port_range *list;
	size_t n;
};

struct rule_match {
	unsigned keys;                 /* enum match_key: those that the document has */
	bool hangs_on_address;         /* has ip_cidr or a set of type ip, in a `not` too */
	unsigned protocols;            /* PROTOCOL_BIT */
	unsigned commands;             /* 1 << enum socks_command */
	struct match_indexes listeners, sets;
	struct match_texts users, userids, domains, suffixes, keywords;
	struct match_prefixes clients, addresses;
	struct match_ports ports;
	const struct rule_match *inverse;      /* of `not` */
};

/**
 * Compiles a `match` object; listeners and sets of the context's policy must be there. False:
 * reported; *out is then of no use.
 */
bool rule_match_parse(struct parse_context *c, const struct json_value *v,
		      const struct rule_match **out) WARN_UNUSED;

enum truth { TRUTH_NO, TRUTH_UNKNOWN, TRUTH_YES };

enum { MATCH_SETS_REMEMBERED = 256 };

/* A request while it is held against rules: what has been found out about it. */
struct match_view {
	const struct policy *policy;
	const struct policy_request *request;
	const struct endpoint *addrs;  /* the destination's, as far as rules see them now */
	size_t n_addrs;
	bool can_ask;                  /* the addresses of the name may become known */
	bool has_path, has_name;
	const struct endpoint *name;   /* the destination as rules know it: in ASCII */
	struct endpoint ascii;         /* of a name that came otherwise; else not touched */
	struct domain_path path;
	uint64_t set_known[MATCH_SETS_REMEMBERED / 64], set_holds[MATCH_SETS_REMEMBERED / 64];
};

/** The view in which the first rule sees the request. key: of the policy's sets. */
void match_view_init(struct match_view *v, const struct policy *p, const struct policy_request *r,
		     struct domain_key key);
/** From now on rules see these addresses. */
void match_view_show_addresses(struct match_view *v, const struct endpoint *addrs, size_t n_addrs);
/**
 * The ith address, or where it leads: who dials an unspecified one (0.0.0.0, ::) reaches this host
 * itself, which rules know by its loopback address. For a BIND it stands for anybody.
 */
const struct endpoint *match_view_meant(const struct match_view *v, size_t i);
/** The destination's name, in ASCII where it has such a form; NULL where it is no name. */
const struct endpoint *match_view_name(struct match_view *v);
/** That taken apart. */
const struct domain_path *match_view_path(struct match_view *v);
/** Is the destination in this set? Never UNKNOWN for a set of type domain. */
enum truth match_view_in_set(struct match_view *v, uint32_t set);

/** m: NULL matches all. may_ask: an unknown address makes it UNKNOWN rather than not hold. */
enum truth rule_match_holds(const struct rule_match *m, struct match_view *v, bool may_ask);

/**
 * Writes why: each key that held, or the first one that did not. Returns what rule_match_holds
 * does.
 */
enum truth rule_match_explain(const struct rule_match *m, struct match_view *v, bool may_ask,
			      char *out, size_t cap);

#endif
