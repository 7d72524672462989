/*
 * default_text: the document that `run` serves without a file, made of the command line.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/json_write.h"
#include "policy/policy.h"

static void
write_text(FILE *out, const char *text)
{
	json_write_string(out, text, strlen(text));
}

static void
write_listeners(FILE *out, const char *const *listen, size_t n)
{
	fputs("  \"listeners\": [", out);
	for (size_t i = 0; i < n; i++) {
		fprintf(out, "%s\n    { \"listen\": ", i > 0 ? "," : "");
		write_text(out, listen[i]);
		fputs(" }", out);
	}
	fputs("\n  ],\n", out);
}

static void
write_upstreams(FILE *out, const char *const *urls, size_t n)
{
	fputs("  \"upstreams\": [", out);
	for (size_t i = 0; i < n; i++) {
		fprintf(
		    out, "%s\n    { \"name\": \"upstream-%zu\", \"url\": ", i > 0 ? "," : "", i);
		write_text(out, urls[i]);
		fputs(" }", out);
	}
	fputs("\n  ],\n", out);
	if (n < 2)
		return;
	fputs("  \"pools\": [\n    { \"name\": \"upstreams\", \"members\": [", out);
	for (size_t i = 0; i < n; i++)
		fprintf(out, "%s\"upstream-%zu\"", i > 0 ? ", " : "", i);
	fputs("] }\n  ],\n", out);
}

char *
policy_default_text(const char *const *listen, size_t n_listen, const char *const *upstreams,
    size_t n_upstreams, const char *admin)
{
	static const char *const usual = "127.0.0.1:1080";
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	if (out == NULL)
		return NULL;
	fputs("{\n", out);
	write_listeners(out, n_listen > 0 ? listen : &usual, n_listen > 0 ? n_listen : 1);
	if (admin == NULL || strcmp(admin, "off") != 0) {
		fputs("  \"admin\": { \"listen\": ", out);
		write_text(out, admin != NULL ? admin : "127.0.0.1:9080");
		fputs(" },\n", out);
	}
	if (n_upstreams > 0)
		write_upstreams(out, upstreams, n_upstreams);
	fprintf(out, "  \"default_route\": \"%s\"\n}\n",
	    n_upstreams == 0   ? "direct"
	    : n_upstreams == 1 ? "upstream-0"
	                       : "upstreams");
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
