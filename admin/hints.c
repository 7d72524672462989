#include "admin/hints.h"

#include "socks/command.h"

static const struct policy_listener *
open_listener(const struct policy *p)
{
	for (size_t i = 0; i < p->n_listeners; i++) {
		const struct policy_listener *l = &p->listeners[i];
		if (l->unix_path == NULL && l->auth < 0 && endpoint_is_loopback(&l->listen) &&
		    (l->protocols & PROTOCOL_BIT(PROTOCOL_SOCKS5)))
			return l;
	}
	return NULL;
}

/* The admin API is a target that is always there, so the first line works without any network. */
void
hints_print(const struct policy *p, FILE *out)
{
	char front[ENDPOINT_TEXT_MAX], admin[ENDPOINT_TEXT_MAX];
	const struct policy_listener *l = open_listener(p);
	if (p->log.format != LOG_TEXT || l == NULL || !p->admin.enabled || p->admin.token != NULL)
		return;
	endpoint_to_text(&l->listen, front, sizeof front);
	endpoint_to_text(&p->admin.listen, admin, sizeof admin);
	fprintf(out, "sockroute is ready. To try in another terminal:\n");
	fprintf(out, "  curl -x socks5h://%s http://%s/healthz\n", front, admin);
	if (p->n_upstreams > 0)
		fprintf(out, "  curl http://%s/v1/upstreams\n", admin);
	fprintf(out, "  curl http://%s/v1/status\n", admin);
	fprintf(out, "  curl \"http://%s/v1/explain?to=example.com:443\"\n", admin);
	fflush(out);
}
