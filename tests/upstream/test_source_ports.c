/*
 * source ports: connections from one source address share its ports, as long as they lead to
 * different places. A port that bind() took would be gone for all of them.
 *
 * In a network of its own with few ports to choose from; where no such network can be had, it is
 * skipped.
 */
#include "base/loop.h"
#include "base/stream.h"
#include "tests/upstream/own_network.h"
#include "tests/upstream/peer.h"
#include "upstream/connector.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <netinet/in.h>
#include <sys/socket.h>

#include <cmocka.h>

#define PORT_RANGE "40000 40063"
enum { PORT_FIRST = 40000, N_PORTS = 64, N_TARGETS = 8, TARGET_FIRST = 20000, N_CONNECTIONS = 400 };

/* A connection under way, and where it came from. */
struct trial {
	struct connector connector;
	struct stream stream;
	struct endpoint local;
	bool done;
	int error;
};

static bool has_network;

static int
enter_network(void **state)
{
	(void)state;
	has_network = own_network_enter() && own_network_set("ipv4/ip_local_port_range", PORT_RANGE);
	return 0;
}

static void
on_connect(int error, const struct endpoint *peer, const struct endpoint *local, void *arg)
{
	struct trial *t = arg;
	(void)peer;
	t->done = true;
	t->error = error;
	if (local != NULL)
		t->local = *local;
}

/* Nobody accepts: connections stand in its queue. */
static int
listen_at(uint16_t port, struct endpoint *at)
{
	const struct sockaddr_in sin = {
	    .sin_family = AF_INET,
	    .sin_port = htons(port),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (const struct sockaddr *)&sin, sizeof sin), 0);
	assert_int_equal(listen(fd, N_CONNECTIONS), 0);
	endpoint_from_sockaddr(at, (const struct sockaddr *)&sin, sizeof sin);
	return fd;
}

static void
test_they_are_shared(void **state)
{
	static struct trial trials[N_CONNECTIONS];
	struct endpoint targets[N_TARGETS], source = {0};
	const uint8_t five[4] = {127, 0, 0, 5};
	unsigned users[N_PORTS] = {0}, most = 0;
	int fds[N_TARGETS];
	(void)state;
	if (!has_network)
		skip();
	struct loop *loop = loop_new();
	endpoint_set_ipv4(&source, five, 0);
	for (unsigned i = 0; i < N_TARGETS; i++)
		fds[i] = listen_at((uint16_t)(TARGET_FIRST + i), &targets[i]);
	for (unsigned i = 0; i < N_CONNECTIONS; i++) {
		struct trial *t = &trials[i];
		const struct connect_plan plan = {
		    .addrs = &targets[i % N_TARGETS], .n_addrs = 1, .source = &source};
		stream_init(&t->stream, loop);
		connector_start(&t->connector, loop, &plan, &t->stream, on_connect, t);
		assert_true(turn_until(loop, &t->done));
		assert_int_equal(t->error, 0);
		assert_true(endpoint_same_host(&t->local, &source));
		assert_in_range(t->local.port, PORT_FIRST, PORT_FIRST + N_PORTS - 1);
		unsigned n = ++users[t->local.port - PORT_FIRST];
		most = n > most ? n : most;
	}
	assert_in_range(most, 2, N_TARGETS);
	for (unsigned i = 0; i < N_CONNECTIONS; i++)
		stream_close(&trials[i].stream);
	for (unsigned i = 0; i < N_TARGETS; i++)
		close(fds[i]);
	loop_free(loop);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_they_are_shared),
	};
	return cmocka_run_group_tests(tests, enter_network, NULL);
}
