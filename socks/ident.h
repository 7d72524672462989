/*
 * ident: the two lines of the Identification Protocol (RFC 1413), as a pure codec.
 *
 * We send "THEIRS, OURS": the ports of one connection between the host that is asked and us, its
 * own first. It answers in one line with both ports, then "USERID", a system and a user id, or
 * "ERROR" and why. All of it is a stranger's text.
 */
#ifndef SOCKS_IDENT_H
#define SOCKS_IDENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "socks/parse.h"

enum {
	IDENT_PORT = 113,
	IDENT_QUERY_MAX = 16,  /* "65535, 65535" CRLF */
	IDENT_LINE_MAX = 1000, /* of an answer, its end not counted (RFC 1413 section 3) */
	IDENT_USER_MAX = 255,  /* RFC 1413 has 512; no name of ours is longer than this */
};

struct ident_ports {
	uint16_t theirs; /* on the host that is asked */
	uint16_t ours;
};

struct ident_answer {
	bool found; /* USERID; false: ERROR, whichever, or a user id that none of ours can have */
	char user[IDENT_USER_MAX +
		  1]; /* where found: 1 byte or more, none of them a space or control byte */
};

/** Writes the question. Returns its length; 0: cap is too small (IDENT_QUERY_MAX never is). */
size_t ident_write_query(uint8_t *out, size_t cap, struct ident_ports ports);

/**
 * Reads the answer to a question about these ports. BAD: no answer in RFC 1413's form, other ports,
 * a user id that is none, or a line over IDENT_LINE_MAX. Spaces and tabs around each part don't
 * count; a bare LF ends the line too.
 */
enum parse_result ident_parse_answer(const uint8_t *in, size_t len, struct ident_ports ports,
				     struct ident_answer *answer, size_t *used) WARN_UNUSED;

#endif
