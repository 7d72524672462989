/*
 * The sockets of a listener: what those that they accept inherit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/hash.h"
#include "router/front.h"
#include "router/local.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static int
option_of(int fd, int level, int option)
{
	int value = -1;
	socklen_t len = sizeof value;
	assert_int_equal(getsockopt(fd, level, option, &value, &len), 0);
	return value;
}

/* Of what `listening` accepts from loopback. */
static void
assert_watched(int listening, bool watched)
{
	struct sockaddr_in at;
	socklen_t len = sizeof at;
	assert_int_equal(getsockname(listening, (struct sockaddr *)&at, &len), 0);
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int client = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(client, (struct sockaddr *)&at, len), 0);
	struct pollfd p = { .fd = listening, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 20000), 1);
	int fd = accept(listening, NULL, NULL);
	assert_true(fd >= 0);
	assert_int_equal(option_of(fd, SOL_SOCKET, SO_KEEPALIVE), watched);
	if (watched) {
		assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE), LOCAL_KEEPALIVE_S);
		assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPINTVL) * option_of(fd, IPPROTO_TCP, TCP_KEEPCNT), LOCAL_KEEPALIVE_S);
	}
	assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
	close(fd);
	close(client);
}

static void
listen_at(struct policy_listener *conf, const char *at)
{
	memset(conf, 0, sizeof *conf);
	assert_int_equal(endpoint_from_text(&conf->listen, at, strlen(at)), ENDPOINT_OK);
}

static void
test_clients_of_other_hosts_are_probed(void **state)
{
	static const struct { const char *at; bool watched; } rows[] = { { "0.0.0.0:0", true }, { "127.0.0.1:0", false } };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct policy_listener conf;
		char why[200] = "";
		int fds[2];
		listen_at(&conf, rows[i].at);
		struct front *f = front_open(&conf, 2, NULL, false, why, sizeof why);
		assert_string_equal(why, "");
		assert_int_equal(front_sockets(f, fds, 2), 2);
		front_close_socket(f, 1);              /* so that one of them gets all */
		assert_watched(fds[0], rows[i].watched);
		front_unref(f);
	}
}

static void
test_peers_of_bind_are_probed(void **state)
{
	struct policy_sockets conf = { .first_port = 0 };
	struct local_socket s;
	struct endpoint everywhere;
	struct random r;
	(void)state;
	random_seed(&r, 1);
	assert_int_equal(endpoint_from_text(&everywhere, "0.0.0.0:0", 9), ENDPOINT_OK);
	assert_true(local_open(SOCK_STREAM, &conf, &everywhere, NULL, &r, &s));
	assert_watched(s.fd, true);
	close(s.fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clients_of_other_hosts_are_probed),
		cmocka_unit_test(test_peers_of_bind_are_probed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
