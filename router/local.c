#include "router/local.h"

#include <errno.h>
#include <string.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/hash.h"

static const uint8_t loopback[4] = { 127, 0, 0, 1 };

static int
family_of(const struct endpoint *e)
{
	return e->kind == ENDPOINT_IPV6 ? AF_INET6 : AF_INET;
}

static bool
read_own_end(int fd, struct endpoint *out)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	if (getsockname(fd, (struct sockaddr *)&ss, &len) != 0)
		return false;
	endpoint_from_sockaddr(out, (struct sockaddr *)&ss, len);
	return true;
}

void
local_address_towards(const struct endpoint *peer, struct endpoint *out)
{
	struct sockaddr_storage ss;
	struct endpoint at = *peer;
	*out = (struct endpoint){ .kind = ENDPOINT_NONE };
	at.port = 9;                   /* no packet is sent; the kernel only wants one that is not 0 */
	socklen_t len = endpoint_to_sockaddr(&at, &ss);
	int fd = len == 0 ? -1 : socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (connect(fd, (struct sockaddr *)&ss, len) != 0 || !read_own_end(fd, out))
		*out = (struct endpoint){ .kind = ENDPOINT_NONE };
	out->port = 0;
	close(fd);
}

void
local_address_of(int fd, struct endpoint *out)
{
	*out = (struct endpoint){ .kind = ENDPOINT_NONE };
	if (!read_own_end(fd, out) || out->kind == ENDPOINT_NONE)
		endpoint_set_ipv4(out, loopback, 0);
	out->port = 0;
}

static void
set_wildcard(struct endpoint *e, uint8_t kind)
{
	*e = (struct endpoint){ .kind = kind };
}

static void
choose_addresses(const struct policy_sockets *conf, const struct endpoint *fallback, struct endpoint *listen,
		 struct endpoint *told)
{
	*listen = *fallback;
	if (conf->address.kind != ENDPOINT_NONE)
		*listen = conf->address;
	else if (conf->advertise.kind != ENDPOINT_NONE)
		set_wildcard(listen, conf->advertise.kind);
	*told = endpoint_is_wildcard(listen) ? *fallback : *listen;
	if (conf->advertise.kind != ENDPOINT_NONE)
		*told = conf->advertise;
}

static bool
set_flag(int fd, int level, int option)
{
	int on = 1;
	return setsockopt(fd, level, option, &on, sizeof on) == 0;
}

static bool
use_line(int fd, const struct policy_upstream *line)
{
	if (line == NULL)
		return true;
	if (line->interface != NULL && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, line->interface,
						  (socklen_t)strlen(line->interface)) != 0)
		return false;
	return line->mark == 0 || setsockopt(fd, SOL_SOCKET, SO_MARK, &line->mark, sizeof line->mark) == 0;
}

void
local_watch_peers(int listening, const struct endpoint *at)
{
	static const struct { int level, option, value; } options[] = {
		{ IPPROTO_TCP, TCP_KEEPIDLE, LOCAL_KEEPALIVE_S },
		{ IPPROTO_TCP, TCP_KEEPINTVL, LOCAL_KEEPALIVE_S / LOCAL_PROBES },
		{ IPPROTO_TCP, TCP_KEEPCNT, LOCAL_PROBES },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
	};
	if (endpoint_is_loopback(at))
		return;
	for (size_t i = 0; i < ARRAY_LEN(options); i++)
		(void)setsockopt(listening, options[i].level, options[i].option, &options[i].value, sizeof options[i].value);
}

/*
 * One try. Ports left in TIME_WAIT by earlier connections may be taken again (SO_REUSEADDR); that lets two sockets bind one port
 * as long as neither listens, so it is listen() that decides who has it.
 */
static int
open_at(int type, const struct endpoint *at, const struct policy_upstream *line)
{
	struct sockaddr_storage ss;
	socklen_t len = endpoint_to_sockaddr(at, &ss);
	int fd = socket(family_of(at), type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	bool ok = use_line(fd, line) && (type != SOCK_STREAM || set_flag(fd, SOL_SOCKET, SO_REUSEADDR)) &&
		  (at->kind != ENDPOINT_IPV6 || set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY)) &&
		  bind(fd, (struct sockaddr *)&ss, len) == 0 && (type != SOCK_STREAM || listen(fd, 4) == 0);
	if (ok && type == SOCK_STREAM)
		local_watch_peers(fd, at);
	if (ok)
		return fd;
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

/* Which port is free is bind()'s to say: two threads may want the same one. */
static int
open_in_range(int type, struct endpoint *at, const struct policy_sockets *conf, const struct policy_upstream *line,
	      struct random *r)
{
	if (conf->first_port == 0)
		return open_at(type, at, line);
	uint32_t n = (uint32_t)(conf->last_port - conf->first_port) + 1;
	uint32_t start = random_below(r, n), tries = n < LOCAL_TRIES_MAX ? n : LOCAL_TRIES_MAX;
	int fd = -1;
	errno = EADDRINUSE;
	for (uint32_t i = 0; i < tries && fd < 0 && errno == EADDRINUSE; i++) {
		at->port = (uint16_t)(conf->first_port + (start + i) % n);
		fd = open_at(type, at, line);
	}
	return fd;
}

bool
local_open(int type, const struct policy_sockets *conf, const struct endpoint *fallback,
	   const struct policy_upstream *line, struct random *r, struct local_socket *out)
{
	struct endpoint at, own;
	choose_addresses(conf, fallback, &at, &out->told);
	at.port = 0;
	out->fd = open_in_range(type, &at, conf, line, r);
	if (out->fd < 0)
		return false;
	if (!read_own_end(out->fd, &own)) {
		close(out->fd);
		return false;
	}
	out->told.port = own.port;
	return true;
}

int
local_open_outward(int family, const struct policy_upstream *line)
{
	struct endpoint at;
	set_wildcard(&at, family == AF_INET6 ? ENDPOINT_IPV6 : ENDPOINT_IPV4);
	if (line != NULL && line->source.kind != ENDPOINT_NONE) {
		if (line->source.kind != at.kind) {
			errno = EAFNOSUPPORT;
			return -1;
		}
		at = line->source;
	}
	return open_at(SOCK_DGRAM, &at, line);
}
