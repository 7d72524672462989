#include "admin/http.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <microhttpd.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin/call.h"
#include "admin/events.h"
#include "admin/gate.h"
#include "admin/routes.h"
#include "base/log.h"
#include "policy/policy.h"

enum {
	CONNECTIONS_MAX = 256,
	CONNECTIONS_PER_IP_MAX = 128,
	CONNECTION_MEMORY = 32 << 10, /* request line, headers and what is read at a time */
	SILENCE_SECONDS = 20,         /* a peer that neither sends nor takes anything is closed */
};

struct admin {
	struct calls calls;
	struct MHD_Daemon *daemon;
	int socket; /* it listens on; the daemon closes it, or admin_quiesce */
	bool loopback;
};

/* One request on its way through libmicrohttpd. */
struct exchange {
	struct call *call;
	const struct route *route; /* NULL: refused at the gate */
	bool begun;                /* the handler has been called */
};

/* ---- the gate: what is asked of every request before its route is ---- */

static enum MHD_Result
on_header(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
	unsigned *n = arg;
	(void)kind, (void)value;
	*n += strcasecmp(name, "Content-Length") == 0;
	return MHD_YES;
}

static unsigned
count_lengths(struct MHD_Connection *connection)
{
	unsigned n = 0;
	(void)MHD_get_connection_values(connection, MHD_HEADER_KIND, on_header, &n);
	return n;
}

/* False: answered. */
static bool
pass_headers(const struct admin *a, struct call *call, struct MHD_Connection *connection)
{
	const char *host = call_header(call, "Host");
	const char *len = call_header(call, "Content-Length");
	if (a->loopback && !gate_host_is_local(host)) {
		call_answer_problem(call, 421, "Host: expected localhost or a loopback address");
	} else if (gate_is_cross_origin(call_header(call, "Origin"), host)) {
		call_answer_problem(call, 403, "pages of other origins may not call the API");
	} else if (count_lengths(connection) > 1 ||
		   gate_body_is_ambiguous(len, call_header(call, "Transfer-Encoding"))) {
		call_add_header(call, "Connection", "close");
		call_answer_problem(
		    call, 400,
		    "Content-Length: expected one number, and no Transfer-Encoding beside it");
	} else {
		return true;
	}
	return false;
}

static bool
pass_token(struct call *call, const struct route *route)
{
	const char *token = call_policy(call)->admin.token;
	if (token == NULL || (route != NULL && route->access == ROUTE_OPEN) ||
	    gate_token_matches(call_header(call, "Authorization"), token))
		return true;
	call_add_header(call, "WWW-Authenticate", "Bearer realm=\"sockroute\"");
	call_answer_problem(call, 401,
			    "expected Authorization: Bearer with the token of admin.token_file");
	return false;
}

/* The route; NULL: answered. Without the token nobody learns which paths there are. */
static const struct route *
pass_gate(const struct admin *a, struct call *call, struct MHD_Connection *connection,
	  const char *method, const char *path)
{
	char allow[ROUTE_ALLOW_MAX];
	const char *name = "";
	const struct route *route = routes_find(method, path, &name, allow);
	if (!pass_headers(a, call, connection) || !pass_token(call, route))
		return NULL;
	if (route == NULL && allow[0] != '\0') {
		call_add_header(call, "Allow", allow);
		call_answer_problem(call, 405, "expected %s", allow);
		return NULL;
	}
	if (route == NULL || !call_take_name(call, name)) {
		call_answer_problem(call, 404, "there is no such path");
		return NULL;
	}
	if (gate_body_len(call_header(call, "Content-Length")) > CALL_BODY_MAX) {
		call_answer_problem(call, 413, "the body has more than %d bytes", CALL_BODY_MAX);
		return NULL;
	}
	return call_take_arguments(call, route) ? route : NULL;
}

/* ---- libmicrohttpd ---- */

static enum MHD_Result
on_first_sight(struct admin *a, struct MHD_Connection *connection, const char *path,
	       const char *method, void **context)
{
	struct exchange *x = calloc(1, sizeof *x);
	if (x == NULL)
		return MHD_NO;
	*context = x;
	if ((x->call = call_new(&a->calls, connection)) == NULL)
		return MHD_NO;
	x->route = pass_gate(a, x->call, connection, method, path);
	if (x->route != NULL)
		return MHD_YES;
	return call_queue(x->call) ? MHD_YES : MHD_NO;
}

/* Comes for the headers, then for each piece of the body, then for its end, then again when a call
 * that waited has its answer. */
static enum MHD_Result
on_request(void *arg, struct MHD_Connection *connection, const char *path, const char *method,
	   const char *version, const char *body, size_t *len, void **context)
{
	struct admin *a = arg;
	struct exchange *x = *context;
	(void)version;
	if (x == NULL)
		return on_first_sight(a, connection, path, method, context);
	if (*len > 0) {
		size_t n = *len;
		*len = 0;
		return call_take_body(x->call, body, n) ? MHD_YES : MHD_NO;
	}
	if (!x->begun) {
		x->begun = true;
		if (!call_is_answered(x->call))
			x->route->handle(x->call);
		if (call_waits(x->call))
			return MHD_YES;
	}
	return call_queue(x->call) ? MHD_YES : MHD_NO;
}

static void
on_over(void *arg, struct MHD_Connection *connection, void **context,
	enum MHD_RequestTerminationCode why)
{
	struct exchange *x = *context;
	(void)arg, (void)connection, (void)why;
	if (x != NULL)
		call_free(x->call);
	free(x);
	*context = NULL;
}

/* Paths and queries are decoded by us, once, after they were taken apart. */
static size_t
on_unescape(void *arg, struct MHD_Connection *connection, char *text)
{
	(void)arg, (void)connection;
	return strlen(text);
}

static void PRINTF_LIKE(2, 0)
on_log(void *arg, const char *fmt, va_list args)
{
	char text[256];
	(void)arg;
	vsnprintf(text, sizeof text, fmt, args);
	text[strcspn(text, "\n")] = '\0';
	log_say(LOG_DEBUG, "http: %s", text);
}

static int
open_socket(const struct endpoint *listen_at, bool beside)
{
	struct sockaddr_storage ss;
	socklen_t len = endpoint_to_sockaddr(listen_at, &ss);
	int one = 1, fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
	    (!beside || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) == 0) &&
	    (ss.ss_family != AF_INET6 ||
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) == 0) &&
	    bind(fd, (struct sockaddr *)&ss, len) == 0 && listen(fd, 128) == 0)
		return fd;
	int saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

struct admin *
admin_start(struct control *c, const struct endpoint *listen_at, int inherited, bool beside, char *why,
	    size_t cap)
{
	char at[ENDPOINT_TEXT_MAX];
	struct admin *a = calloc(1, sizeof *a);
	struct event_feed *feed = a != NULL ? event_feed_new(c) : NULL;
	int fd = feed == NULL || inherited >= 0 ? inherited : open_socket(listen_at, beside);
	if (feed == NULL || fd < 0) {
		snprintf(why, cap, "admin %s: %s", endpoint_to_text(listen_at, at, sizeof at),
			 strerror(errno));
		event_feed_free(feed);
		free(a);
		return NULL;
	}
	a->loopback = endpoint_is_loopback(listen_at);
	calls_init(&a->calls, c, feed);
	a->daemon = MHD_start_daemon(
	    MHD_USE_POLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL,
	    NULL, on_request, a, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_LISTEN_SOCKET,
	    fd, MHD_OPTION_NOTIFY_COMPLETED, on_over, a, MHD_OPTION_UNESCAPE_CALLBACK, on_unescape,
	    NULL, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
	    MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)CONNECTIONS_PER_IP_MAX,
	    MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)SILENCE_SECONDS,
	    MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY, MHD_OPTION_END);
	a->socket = fd;
	if (a->daemon != NULL)
		return a;
	snprintf(why, cap, "admin: libmicrohttpd did not start");
	close(fd);
	event_feed_free(feed);
	calls_destroy(&a->calls);
	free(a);
	return NULL;
}

int
admin_socket(const struct admin *a)
{
	return a->socket;
}

/* From here on the socket is ours again, not the daemon's. */
void
admin_quiesce(struct admin *a)
{
	int fd = MHD_quiesce_daemon(a->daemon);
	if (fd >= 0)
		close(fd);
	event_feed_end(a->calls.feed);
}

void
admin_stop(struct admin *a)
{
	if (a == NULL)
		return;
	event_feed_end(a->calls.feed);
	calls_stop(&a->calls);
	MHD_stop_daemon(a->daemon); /* closes the socket as well */
	event_feed_free(a->calls.feed);
	calls_destroy(&a->calls);
	free(a);
}
