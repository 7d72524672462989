/*
 * bench_load: the load generator's command line. tests/bench/lab.py calls it.
 *
 *   bench_load serve PORT [THREADS]
 *   bench_load MODE --to PORT [--socks5 PORT] [--threads N] [--connections N] [--bytes N] [--rate N] [--warm S]
 *              [--seconds S]
 *
 * All on loopback. MODE: connect ask down duplex idle slow half. One JSON object on stdout at the end; "idle" and "slow" print
 * "ready" first, as soon as all connections are open. "idle" lasts until stdin ends.
 */
#include "load.h"

#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 16, OPEN_WITHIN_S = 120 };

static const char *const mode_texts[LOAD_MODES] = { "connect", "ask", "down", "duplex", "idle", "slow", "half" };

atomic_int load_phase = LOAD_WARMING;
atomic_uint load_ready;

struct share {
	pthread_t thread;
	const struct load_options *o;
	unsigned connections;
	struct load_found found;
};

uint64_t
load_now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- latencies ---- */

/* Below 2 * LOAD_CUTS a cell for each microsecond; above, LOAD_CUTS for each power of two. */
static unsigned
cell_of(uint64_t us)
{
	unsigned shift = 0;
	for (; (us >> shift) >= 2 * LOAD_CUTS; shift++)
		;
	unsigned cell = shift * LOAD_CUTS + (unsigned)(us >> shift);
	return cell < LOAD_CELLS ? cell : LOAD_CELLS - 1;
}

static double
middle_of(unsigned cell)
{
	if (cell < 2 * LOAD_CUTS)
		return cell + 0.5;
	unsigned shift = cell / LOAD_CUTS - 1;
	return ((double)(cell - shift * LOAD_CUTS) + 0.5) * (double)(1ull << shift);
}

void
load_note(struct load_found *f, uint64_t us)
{
	f->cells[cell_of(us)]++;
	if (us > f->longest_us)
		f->longest_us = us;
}

double
load_quantile(const struct load_found *f, double share)
{
	uint64_t all = 0, below = 0;
	for (unsigned i = 0; i < LOAD_CELLS; i++)
		all += f->cells[i];
	for (unsigned i = 0; i < LOAD_CELLS; i++) {
		below += f->cells[i];
		if (below > 0 && (double)below >= share * (double)all)
			return middle_of(i);
	}
	return 0;
}

static void
add_found(struct load_found *sum, const struct load_found *f)
{
	sum->done += f->done;
	sum->bytes += f->bytes;
	sum->total_done += f->total_done;
	sum->total_bytes += f->total_bytes;
	sum->errors += f->errors;
	sum->opened += f->opened;
	for (unsigned i = 0; i < LOAD_CELLS; i++)
		sum->cells[i] += f->cells[i];
	if (f->longest_us > sum->longest_us)
		sum->longest_us = f->longest_us;
}

/* ---- a run ---- */

static void
sleep_s(double seconds)
{
	struct timespec t = { .tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9) };
	nanosleep(&t, NULL);
}

/* Connections that stay are all open before anything is measured; false: no more came for a long time. */
static bool
wait_ready(const struct load_options *o)
{
	if (o->mode == LOAD_CONNECT || o->mode == LOAD_HALF)
		return true;
	unsigned before = 0;
	for (int i = 0; i < OPEN_WITHIN_S * 100; i++) {
		unsigned ready = atomic_load(&load_ready);
		if (ready >= o->connections)
			return true;
		if (ready != before)
			i = 0;
		before = ready;
		sleep_s(0.01);
	}
	return false;
}

static void *
on_thread(void *arg)
{
	struct share *s = arg;
	load_run(s->o, s->connections, &s->found);
	return NULL;
}

static void
print_found(const struct load_options *o, const struct load_found *f, double seconds)
{
	printf("{\"mode\": \"%s\", \"connections\": %u, \"seconds\": %.3f, \"done\": %llu, \"bytes\": %llu, \"total_done\": %llu, "
	       "\"total_bytes\": %llu, \"errors\": %llu, \"opened\": %llu, \"us\": {\"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, "
	       "\"p999\": %.1f, \"max\": %llu}}\n",
	       mode_texts[o->mode], o->connections, seconds, (unsigned long long)f->done, (unsigned long long)f->bytes,
	       (unsigned long long)f->total_done, (unsigned long long)f->total_bytes, (unsigned long long)f->errors,
	       (unsigned long long)f->opened, load_quantile(f, 0.5), load_quantile(f, 0.9), load_quantile(f, 0.99),
	       load_quantile(f, 0.999), (unsigned long long)f->longest_us);
}

/* How long was measured, in seconds. */
static double
conduct(const struct load_options *o)
{
	char waste[64];
	if (o->mode == LOAD_IDLE || o->mode == LOAD_SLOW) {
		puts("ready");
		fflush(stdout);
	}
	sleep_s(o->warm);
	uint64_t from = load_now_ns();
	atomic_store(&load_phase, LOAD_MEASURING);
	if (o->mode == LOAD_IDLE)
		while (read(STDIN_FILENO, waste, sizeof waste) > 0)
			;
	else
		sleep_s(o->seconds);
	double seconds = (double)(load_now_ns() - from) / 1e9;
	atomic_store(&load_phase, LOAD_ENDED);
	return seconds;
}

static int
run(const struct load_options *o)
{
	static struct share shares[THREADS_MAX];
	static struct load_found sum;
	for (unsigned i = 0; i < o->threads; i++) {
		unsigned more = i < o->connections % o->threads;
		shares[i].o = o;
		shares[i].connections = o->connections / o->threads + more;
		if (pthread_create(&shares[i].thread, NULL, on_thread, &shares[i]) != 0)
			return 1;
	}
	bool ready = wait_ready(o);
	double seconds = ready ? conduct(o) : 0;
	atomic_store(&load_phase, LOAD_ENDED);
	for (unsigned i = 0; i < o->threads; i++) {
		pthread_join(shares[i].thread, NULL);
		add_found(&sum, &shares[i].found);
	}
	print_found(o, &sum, seconds);
	if (!ready)
		fprintf(stderr, "bench_load: %u of %u connections open\n", atomic_load(&load_ready), o->connections);
	return ready ? 0 : 1;
}

/* ---- the command line ---- */

static int
usage(void)
{
	fputs("usage: bench_load serve PORT [THREADS]\n"
	      "       bench_load MODE --to PORT [--socks5 PORT] [--threads N] [--connections N] [--bytes N] [--rate N] [--warm S] "
	      "[--seconds S]\n"
	      "MODE: connect ask down duplex idle slow half\n", stderr);
	return 2;
}

static struct sockaddr_in
loopback(const char *port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

static bool
parse(int argc, char **argv, struct load_options *o)
{
	static const struct option known[] = {
		{ "to", required_argument, NULL, 't' },      { "socks5", required_argument, NULL, 's' },
		{ "threads", required_argument, NULL, 'n' }, { "connections", required_argument, NULL, 'c' },
		{ "bytes", required_argument, NULL, 'b' },   { "warm", required_argument, NULL, 'w' },
		{ "seconds", required_argument, NULL, 'd' }, { "rate", required_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
		switch (option) {
		case 't': o->to = loopback(optarg); break;
		case 's': o->proxy = loopback(optarg); break;
		case 'n': o->threads = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'c': o->connections = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'b': o->bytes = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'r': o->rate = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'w': o->warm = strtod(optarg, NULL); break;
		case 'd': o->seconds = strtod(optarg, NULL); break;
		default: return false;
		}
	}
	return optind == argc && o->to.sin_port != 0 && o->threads >= 1 && o->threads <= THREADS_MAX && o->connections >= o->threads &&
	       o->bytes >= 1 && o->bytes <= LOAD_MESSAGE_MAX;
}

int
main(int argc, char **argv)
{
	struct load_options o = { .mode = LOAD_MODES, .threads = 2, .connections = 64, .bytes = 64, .warm = 0.2, .seconds = 1 };
	if (argc >= 3 && strcmp(argv[1], "serve") == 0) {
		unsigned threads = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 2;
		if (threads == 0 || !load_serve((uint16_t)strtoul(argv[2], NULL, 10), threads))
			perror("bench_load: can't serve");
		return 1;
	}
	for (int i = 0; argc > 1 && i < LOAD_MODES; i++)
		if (strcmp(argv[1], mode_texts[i]) == 0)
			o.mode = (enum load_mode)i;
	if (o.mode == LOAD_MODES || !parse(argc - 1, argv + 1, &o))
		return usage();
	return run(&o);
}
