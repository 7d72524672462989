/*
 * verdict: how a request ended, in one enum, with one table to the codes of each protocol.
 *
 * Every way in which a request can fail is a verdict; the client's codec turns it into bytes
 * through the table, the dialer's policy (blame, retry) hangs on it, and logs and the API print its
 * text.
 */
#ifndef SOCKS_VERDICT_H
#define SOCKS_VERDICT_H

#include <stdbool.h>
#include <stdint.h>

enum verdict {
	VERDICT_GRANTED,
	/* decided here */
	VERDICT_REJECTED,               /* by a rule, a limit or a range */
	VERDICT_MALFORMED,
	VERDICT_CUT_SHORT,  /* the client ended in the middle of its handshake; it gets no answer */
	VERDICT_NO_PROTOCOL,            /* one that this listener does not speak */
	VERDICT_COMMAND_UNKNOWN,
	VERDICT_ADDRESS_UNKNOWN,        /* an ATYP that is none */
	VERDICT_NO_METHOD,              /* no acceptable authentication method */
	VERDICT_BAD_CREDENTIALS,
	VERDICT_IDENT_UNREACHABLE,
	VERDICT_IDENT_DIFFERS,
	VERDICT_NO_UPSTREAM,            /* no usable upstream */
	VERDICT_INTERNAL,               /* ours: memory, descriptors */
	/* the destination, as seen from here or as the last hop says */
	VERDICT_NAME_UNKNOWN,
	VERDICT_HOST_UNREACHABLE,
	VERDICT_NETWORK_UNREACHABLE,
	VERDICT_REFUSED,
	VERDICT_TIMEOUT,           /* no answer within `connect`; a hop's REP 6 (TTL expired) too */
	/* a hop */
	VERDICT_UPSTREAM_FAILED,      /* unreachable, broke off, general failure (REP 1), silence */
	VERDICT_UPSTREAM_GARBAGE,       /* answered what its protocol does not have */
	VERDICT_UPSTREAM_AUTH,   /* refused our credentials, or wants a method that we don't have */
	VERDICT_UPSTREAM_REJECTED,      /* its rules forbid it (REP 2, HTTP 403) */
	VERDICT_UPSTREAM_NO_COMMAND,    /* REP 7 */
	VERDICT_UPSTREAM_NO_ADDRESS,    /* REP 8 */
	VERDICT_UPSTREAM_TLS,           /* certificate or TLS trouble */
	VERDICT_N
};

/** Short and fit for a log line: "refused by destination". */
const char *verdict_text(enum verdict v);
/**
 * RFC 1928 section 6. What has no REP (NO_METHOD, BAD_CREDENTIALS, NO_PROTOCOL, CUT_SHORT) gives
 * 0x01.
 */
uint8_t verdict_to_socks5(enum verdict v);
/** 90-93. */
uint8_t verdict_to_socks4(enum verdict v);
/** Status code. */
uint16_t verdict_to_http(enum verdict v);

/* What others answered, as verdicts. */
enum verdict verdict_from_socks5(uint8_t rep);       /* unknown codes: UPSTREAM_FAILED */
enum verdict verdict_from_socks4(uint8_t cd);        /* 91-93 and unknown: UPSTREAM_FAILED */
/* 2xx granted; 403, 404, 407, 502, 504 have their own; others UPSTREAM_FAILED */
enum verdict verdict_from_http(uint16_t status);

/**
 * Is an upstream at fault, so that another member may be tried? Not for the destination's or the
 * client's fault, nor our own, nor for what a client asked of an upstream that can't do it:
 * strangers must not be able to take members out.
 */
bool verdict_blames_upstream(enum verdict v);

#endif
