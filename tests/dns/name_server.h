/*
 * name_server: a name server on loopback that plays a script, on the loop of the test, over UDP and
 * TCP at the same port.
 */
#ifndef TESTS_DNS_NAME_SERVER_H
#define TESTS_DNS_NAME_SERVER_H
#include "base/endpoint.h"

#include <stddef.h>
#include <stdint.h>

struct loop;
struct name_server;

enum play {
	PLAY_ANSWER,                   /* records, with rcode */
	PLAY_SILENCE,
	PLAY_HOLD,                     /* answers when name_server_release() is called */
	PLAY_EMPTY_FIRST,              /* a datagram without a byte (CVE-2023-32067), then the answer */
	PLAY_GARBAGE,                  /* bytes that are no message, then nothing */
	PLAY_WRONG_ID,                 /* answers that nobody asked for, then nothing */
	PLAY_WRONG_ID_FIRST,           /* one of these, then the right one */
	PLAY_WRONG_NAME,               /* the right id, another question */
	PLAY_TRUNCATED,                /* UDP: cut; TCP: the answer */
};

/*
 * One line of the script. The first that matches counts; where none does: NXDOMAIN, with a SOA of 5
 * s.
 */
struct scene {
	const char *name;
	uint16_t type;                 /* 1 or 28; 0: both */
	enum play play;
	unsigned rcode;
	const char *records;           /* as in message.h; NULL: none */
};

struct name_server *name_server_start(struct loop *l, const struct scene *script, size_t n);
void name_server_stop(struct name_server *s);
/** Another script from now on; what is held stays. */
void name_server_play(struct name_server *s, const struct scene *script, size_t n);
struct endpoint name_server_at(const struct name_server *s);
/** Queries so far for a name (NULL: any), of a type (0: any). */
unsigned name_server_queries(const struct name_server *s, const char *name, uint16_t type);
/**
 * Answers all that is held, by the script as it is now with PLAY_HOLD taken as PLAY_ANSWER. Returns
 * how many.
 */
unsigned name_server_release(struct name_server *s);
/** How many client ports the UDP queries came from. */
unsigned name_server_ports_seen(const struct name_server *s);

#endif
