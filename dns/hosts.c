/*
 * hosts: two tables, one made once of the policy, one made again whenever the file has changed.
 */
#include "dns/hosts.h"

#include "base/idn.h"
#include "base/log.h"
#include "dns/name_table.h"
#include "dns/watched_file.h"

#include <stdlib.h>
#include <string.h>

struct host {
	struct name_node node;
	size_t n;
	struct dns_address *addrs;
	char name[];
};

struct hosts {
	struct name_table policy, file;
	struct watched_file watched;
};

static void
host_free(struct host *host)
{
	free(host->addrs);
	free(host);
}

static void
table_empty(struct name_table *t)
{
	struct name_node *node;
	while ((node = name_table_take(t)) != NULL)
		host_free(CONTAINER_OF(node, struct host, node));
	name_table_free(t);
}

static struct host *
table_find(const struct name_table *t, const char *name)
{
	struct name_node *node = name_table_find(t, name);
	return node == NULL ? NULL : CONTAINER_OF(node, struct host, node);
}

/* NULL: out of memory. */
static struct host *
table_find_or_add(struct name_table *t, const char *name)
{
	size_t size = strlen(name) + 1;
	struct host *host = table_find(t, name);
	if (host != NULL)
		return host;
	host = calloc(1, sizeof *host + size);
	if (host == NULL)
		return NULL;
	memcpy(host->name, name, size);
	host->node.name = host->name;
	if (!name_table_add(t, &host->node)) {
		host_free(host);
		return NULL;
	}
	return host;
}

/*
 * False: out of memory. The list grows by one at a time: nearly all names have one address or two.
 */
static bool
host_add(struct host *host, const struct endpoint *at)
{
	struct dns_address a = dns_address_of(at);
	for (size_t i = 0; i < host->n; i++) {
		if (dns_address_equal(&host->addrs[i], &a))
			return true;
	}
	if (host->n == HOSTS_ADDRS_MAX)
		return true;
	struct dns_address *more = realloc(host->addrs, (host->n + 1) * sizeof *more);
	if (more == NULL)
		return false;
	host->addrs = more;
	host->addrs[host->n++] = a;
	return true;
}

static bool
table_add(struct name_table *t, const char *name, const struct endpoint *at)
{
	struct host *host = table_find_or_add(t, name);
	return host != NULL && host_add(host, at);
}

struct hosts *
hosts_new(const struct policy_dns_host *list, size_t n, const char *path)
{
	struct hosts *h = calloc(1, sizeof *h);
	if (h == NULL)
		return NULL;
	watched_file_init(&h->watched, path);
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < list[i].n_addrs; k++) {
			if (!table_add(&h->policy, list[i].name, &list[i].addrs[k])) {
				hosts_free(h);
				return NULL;
			}
		}
	}
	return h;
}

void
hosts_free(struct hosts *h)
{
	if (h == NULL)
		return;
	table_empty(&h->policy);
	table_empty(&h->file);
	free(h);
}

/* The next word of [*at, end), or NULL. */
static const char *
next_word(const char **at, const char *end, size_t *len)
{
	static const char blanks[] = " \t\r\v\f";
	const char *p = *at;
	while (p < end && strchr(blanks, *p) != NULL && *p != '\0')
		p++;
	const char *word = p;
	while (p < end && (strchr(blanks, *p) == NULL || *p == '\0'))
		p++;
	*at = p;
	*len = (size_t)(p - word);
	return *len > 0 ? word : NULL;
}

/*
 * "address name alias...", with "#" up to the end of the line for remarks (hosts(5)). What makes no
 * sense is passed over.
 */
static bool
read_line(struct name_table *t, const char *line, const char *end)
{
	struct endpoint at, name;
	size_t len;
	const char *remark = memchr(line, '#', (size_t)(end - line));
	const char *word = next_word(&line, end = remark != NULL ? remark : end, &len);
	if (word == NULL || endpoint_set_host(&at, word, len) != ENDPOINT_OK ||
	    !endpoint_is_address(&at))
		return true;
	while ((word = next_word(&line, end, &len)) != NULL) {
		if (endpoint_set_host(&name, word, len) != ENDPOINT_OK ||
		    name.kind != ENDPOINT_NAME)
			continue;
		if (idn_is_foreign(name.name, strlen(name.name)) && !idn_to_ascii(name.name, &name))
			continue;      /* nobody looks up what has no form in ASCII */
		if (!table_add(t, name.name, &at))
			return false;
	}
	return true;
}

/* False: out of memory. */
static bool
read_lines(struct name_table *t, const char *text)
{
	while (*text != '\0') {
		const char *end = text + strcspn(text, "\n");
		if (!read_line(t, text, end))
			return false;
		text = *end == '\n' ? end + 1 : end;
	}
	return true;
}

static void
refresh(struct hosts *h, uint64_t now_ms)
{
	struct name_table fresh = { 0 };
	char *text;

	if (!watched_file_changed(&h->watched, now_ms, HOSTS_BYTES_MAX, &text))
		return;
	if (text != NULL && h->watched.seen.st_size > HOSTS_BYTES_MAX)
		log_say(LOG_WARN, "%s: only the first %d bytes are used", h->watched.path,
			HOSTS_BYTES_MAX);
	if (text != NULL && !read_lines(&fresh, text))
		log_say(LOG_WARN, "%s: out of memory, not all of it is used", h->watched.path);
	free(text);
	table_empty(&h->file);
	h->file = fresh;
}

static bool
is_localhost(const char *name)
{
	static const char tail[] = "localhost";
	size_t len = strlen(name), tail_len = sizeof tail - 1;
	if (len < tail_len || strcmp(name + len - tail_len, tail) != 0)
		return false;
	return len == tail_len || name[len - tail_len - 1] == '.';
}

size_t
hosts_find(struct hosts *h, const char *name, uint64_t now_ms, const struct dns_address **addrs)
{
	static const struct dns_address loopback[] = {
		{ .kind = ENDPOINT_IPV6, .bytes = { [15] = 1 } },
		{ .kind = ENDPOINT_IPV4, .bytes = { 127, 0, 0, 1 } },
	};
	refresh(h, now_ms);
	struct host *host = table_find(&h->policy, name);
	if (host == NULL)
		host = table_find(&h->file, name);
	if (host != NULL && host->n > 0) {
		*addrs = host->addrs;
		return host->n;
	}
	if (!is_localhost(name))
		return 0;
	*addrs = loopback;
	return ARRAY_LEN(loopback);
}
