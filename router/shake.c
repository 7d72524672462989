#include "router/shake.h"

#include <stdlib.h>
#include <string.h>

#include "router/spare.h"

void
shake_init(struct shake *sh, const struct socks_server_options *options)
{
	sh->user[0] = sh->session[0] = sh->to[0] = sh->detail[0] = '\0';
	socks_server_init(&sh->server, options);
	sh->spare = SPARE_NONE;
	facts_init(&sh->facts, &(struct facts_memory){ .user = sh->user, .to = sh->to, .detail = sh->detail, .hops = sh->hops });
	buffer_init(&sh->in, sh->in_memory, sizeof sh->in_memory);
	buffer_init(&sh->out, sh->out_memory, sizeof sh->out_memory);
}

void
shake_release(struct shake *sh)
{
	auth_cancel(sh->check);
	client_name_cancel(sh->client_name);
	gss_step_cancel(sh->step);
	ident_cancel(sh->ident);
	resolve_cancel(sh->resolve);
	reverse_cancel(sh->reverse);
	dial_cancel(sh->dial);
	bind_cancel(sh->bind);
	sh->check = NULL;
	sh->client_name = NULL;
	sh->step = NULL;
	sh->ident = NULL;
	sh->resolve = NULL;
	sh->reverse = NULL;
	sh->dial = NULL;
	sh->bind = NULL;
	preamble_release(&sh->preamble);
	spare_drop(&sh->spare);
	gss_context_free(sh->gss);
	sh->gss = NULL;
	free(sh->addrs);
	sh->addrs = NULL;
	if (sh->big != NULL)
		explicit_bzero(sh->big, SOCKS_SERVER_IN_MAX);
	free(sh->big);
	sh->big = NULL;
	explicit_bzero(sh->server.password, sizeof sh->server.password);
	/* The client's own bytes may hold its password. */
	explicit_bzero(sh->in_memory, sizeof sh->in_memory);
}

bool
shake_make_room(struct shake *sh)
{
	if (buffer_make_room(&sh->in) > 0)
		return true;
	size_t max = socks_server_in_max(&sh->server), len = buffer_len(&sh->in);
	size_t cap = sh->in.cap < SOCKS_SERVER_IN_MAX ? SOCKS_SERVER_IN_MAX : max;
	uint8_t *larger = sh->in.cap < max ? malloc(cap) : NULL;
	if (larger == NULL)
		return false;
	memcpy(larger, buffer_bytes(&sh->in), len);
	free(sh->big);
	sh->big = larger;
	buffer_init(&sh->in, larger, cap);
	buffer_filled(&sh->in, len);
	return true;
}
