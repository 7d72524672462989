/*
 * load: the load generator of the benchmarks: targets that answer, clients that ask, and what they found.
 *
 * The first byte that a client sends tells the target what is wanted (enum load_wish), so that one target port serves all
 * scenarios, behind proxies that know one target only, too.
 */
#ifndef TESTS_BENCH_LOAD_H
#define TESTS_BENCH_LOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <netinet/in.h>

enum load_wish {
	LOAD_ECHO = 'E',       /* everything back, that byte too */
	LOAD_STREAM = 'S',     /* bytes without end; what comes is thrown away */
};

enum load_mode {
	LOAD_CONNECT,          /* connect, handshake, one echo, close, again */
	LOAD_ASK,              /* echo after echo on open connections */
	LOAD_DOWN,             /* a stream from the target on each */
	LOAD_DUPLEX,           /* and one towards it */
	LOAD_IDLE,             /* open, one echo, then silence until stdin ends; every LOAD_ADDRESS_USERS from and to another of 127.0.0.x,
	                          as one has some 60,000 ports */
	LOAD_SLOW,             /* a stream of which one byte a second is taken */
	LOAD_HALF,             /* one byte of a handshake, held for about LOAD_HOLD_MS, then the next client */
	LOAD_MODES
};

enum { LOAD_BULK_BYTES = 256 << 10, LOAD_MESSAGE_MAX = 64 << 10, LOAD_HOLD_MS = 500, LOAD_ADDRESS_USERS = 20000 };

struct load_options {
	enum load_mode mode;
	struct sockaddr_in to;
	struct sockaddr_in proxy;      /* SOCKS5; sin_port 0: none */
	unsigned threads, connections, bytes;
	unsigned rate;                 /* LOAD_ASK: so many echoes a second are begun, by whoever is free; 0: each asks again at once */
	double warm, seconds;
};

/* Latencies in powers of two of microseconds, each cut in LOAD_CUTS: 3 % off at most. */
enum { LOAD_CUTS = 32, LOAD_CELLS = 32 * LOAD_CUTS };

/* What one thread found; the totals count from the first connection on, the rest in the measured time only. */
struct load_found {
	uint64_t done, bytes, total_done, total_bytes, errors, opened;
	uint64_t cells[LOAD_CELLS];
	uint64_t longest_us;
};

enum load_phase { LOAD_WARMING, LOAD_MEASURING, LOAD_ENDED };
extern atomic_int load_phase;
extern atomic_uint load_ready;         /* connections that are open and through their handshake */

/** Serves on a port of any address with so many threads, until killed. False: the port is taken. */
bool load_serve(uint16_t port, unsigned threads);
/** One client thread's share: runs until load_phase is LOAD_ENDED. */
void load_run(const struct load_options *o, unsigned connections, struct load_found *out);

void load_note(struct load_found *f, uint64_t us);
/** The value below which a share of all noted ones lies, in microseconds. */
double load_quantile(const struct load_found *f, double share);
uint64_t load_now_ns(void);

#endif
