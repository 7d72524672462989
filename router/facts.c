#include "router/facts.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "socks/command.h"

static int16_t
distance(const struct facts *f, const void *what)
{
	ptrdiff_t far = (const char *)what - (const char *)f;
	assert(far > INT16_MIN && far < INT16_MAX);
	return (int16_t)far;
}

static void
place(struct facts *f, const struct facts_memory *m)
{
	f->user_at = distance(f, m->user);
	f->to_at = distance(f, m->to);
	f->detail_at = distance(f, m->detail);
	f->hops_at = distance(f, m->hops);
}

void
facts_init(struct facts *f, const struct facts_memory *m)
{
	*f = (struct facts){ .hop_at_fault = -1, .code = UINT16_MAX };
	place(f, m);
}

static const char *
pack_text(char **at, const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy = *at;
	memcpy(copy, text, size);
	*at += size;
	return copy;
}

struct facts *
facts_pack(const struct facts *f)
{
	size_t hops = f->n_hops * sizeof *facts_hops(f);
	size_t texts = strlen(facts_user(f)) + strlen(facts_to(f)) + strlen(facts_detail(f)) + 3;
	struct facts *copy = malloc(sizeof *copy + hops + texts);
	if (copy == NULL)
		return NULL;
	char *at = (char *)(copy + 1) + hops;
	*copy = *f;
	struct facts_memory m = { .hops = memcpy(copy + 1, facts_hops(f), hops) };
	m.user = pack_text(&at, facts_user(f));
	m.to = pack_text(&at, facts_to(f));
	m.detail = pack_text(&at, facts_detail(f));
	place(copy, &m);
	return copy;
}

const char *
facts_rule_name(const struct facts *f, const struct policy *p)
{
	if (!f->decided)
		return "";
	return f->rule < 0 ? "default" : p->rules[f->rule].name;
}

const char *
facts_upstream_name(const struct policy *p, uint32_t upstream)
{
	return upstream < p->n_upstreams ? p->upstreams[upstream].name : "direct";
}

const char *
facts_hop_name(const struct facts *f, const struct policy *p, unsigned hop)
{
	return facts_upstream_name(p, facts_hops(f)[hop].upstream);
}

/* "corp>paris", cut at cap; "-" where none was taken. */
static const char *
path_text(const struct facts *f, const struct policy *p, char *out, size_t cap)
{
	size_t len = 0;
	if (f->n_hops < 2)
		return f->n_hops == 0 ? "-" : facts_hop_name(f, p, 0);
	for (unsigned i = 0; i < f->n_hops; i++) {
		text_append_string(out, cap, &len, i > 0 ? ">" : "");
		text_append_string(out, cap, &len, facts_hop_name(f, p, i));
	}
	return out;
}

static void
log_hop_times(const struct facts *f, const struct policy *p, struct log_line *line)
{
	char text[512], ms[TEXT_NUMBER_MAX + 1];
	size_t len = 0;
	for (unsigned i = 0; i < f->n_timed; i++) {
		ms[text_write_ms(ms, facts_hops(f)[i].us)] = '\0';
		text_append_string(text, sizeof text, &len, i > 0 ? "," : "");
		text_append_string(text, sizeof text, &len, facts_hop_name(f, p, i));
		text_append_string(text, sizeof text, &len, "=");
		text_append_string(text, sizeof text, &len, ms);
	}
	if (len > 0)
		log_str(line, "hops_ms", text);
}

void
facts_log(const struct facts *f, const struct policy *p, struct log_line *line)
{
	char path[512];
	log_str(line, "user", facts_user(f)[0] != '\0' ? facts_user(f) : NULL);
	log_str(line, "protocol", socks_protocol_text(f->protocol));
	if (facts_to(f)[0] == '\0')
		return;
	log_str(line, "command", socks_command_text(f->command));
	log_str(line, "to", facts_to(f));
	if (!f->decided)
		return;
	log_str(line, "rule", facts_rule_name(f, p));
	log_str(line, "route", policy_route_name(p, f->route));
	log_str(line, "path", path_text(f, p, path, sizeof path));
	if (f->attempts > 1)
		log_num(line, "attempts", f->attempts);
	if (f->race != RACE_NONE)
		log_str(line, "race", f->race == RACE_LATE ? "late" : "first");
	if (f->stage != DIAL_DONE && (f->attempts > 0 || facts_detail(f)[0] != '\0')) /* no attempt, and why */
		log_str(line, "stage", dial_stage_text(f->stage));
	if (f->hop_at_fault >= 0 && f->hop_at_fault < f->n_hops)
		log_str(line, "hop", facts_hop_name(f, p, (unsigned)f->hop_at_fault));
	log_str(line, "detail", facts_detail(f)[0] != '\0' ? facts_detail(f) : NULL);
	log_ms(line, "handshake_ms", f->handshake_us);
	if (f->resolve_us > 0)
		log_ms(line, "resolve_ms", f->resolve_us);
	log_hop_times(f, p, line);
}
