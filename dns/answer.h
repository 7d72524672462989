/*
 * answer: reads a name server's message (RFC 1035 section 4) down to the addresses of one name and
 * how long they hold.
 *
 * Pure: bytes in, value out. Follows the CNAME chain inside the message, in whatever order its
 * records stand; the TTL is the smallest along the chain, for a negative answer the one that its
 * SOA gives (RFC 2308 section 5).
 */
#ifndef DNS_ANSWER_H
#define DNS_ANSWER_H
#include "dns/address.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The two kinds of address records, each with an outcome of its own all the way up; and the name of
 * an address, which is asked by itself.
 */
enum record { RECORD_A, RECORD_AAAA, RECORD_N, RECORD_PTR = RECORD_N, RECORD_ALL };

enum answer_kind {
	ANSWER_ADDRESSES,      /* or, of a PTR, a target */
	ANSWER_NO_DATA,        /* the name is there, without such a record */
	ANSWER_NO_NAME,        /* NXDOMAIN */
	ANSWER_TIMEOUT,        /* nobody answered; not from a message */
	ANSWER_FAILED,         /* SERVFAIL and the like, or no message that makes sense */
};

enum {
	ANSWER_ADDRS_MAX = 32,                 /* of one kind; more are left out */
	ANSWER_CHAIN_MAX = 16,                 /* CNAMEs in a row; more: ANSWER_FAILED */
};
#define ANSWER_TTL_NONE UINT32_MAX             /* a negative answer without SOA */

struct answer {
	uint8_t kind;                          /* enum answer_kind */
	uint8_t n;                             /* addrs, or targets; > 0 only for ANSWER_ADDRESSES */
	uint32_t ttl_s;                        /* of the first three kinds */
	struct dns_address addrs[ANSWER_ADDRS_MAX];
	char target[254];                      /* of the first PTR that names a host; else "" */
};

/** The type's number on the wire. */
uint16_t record_type(enum record record);
/**
 * May it be asked at all: labels of 1-63 bytes, 253 in all (RFC 1035 section 2.3.4), no backslash
 * (an escape to c-ares).
 */
bool record_name_is_valid(const char *name);

static inline bool
answer_is_negative(const struct answer *a)
{
	return a->kind == ANSWER_NO_DATA || a->kind == ANSWER_NO_NAME;
}

/**
 * Reads the answer to a question for `name` (a valid one, in any case). Whatever the bytes are, *a
 * is whole afterwards.
 */
void answer_read(struct answer *a, const void *message, size_t len, const char *name,
		 enum record record);

#endif
