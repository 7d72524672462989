/*
 * domain_set: names in one piece of memory, an open-addressed table over it; see the header.
 *
 *   names:  | scopes | len | bytes ... | scopes | len | bytes ... |    one entry after the other
 *   slots:  { tag: low half of the hash of an entry, at: its place in names + 1 }
 *
 * The high half of a hash picks the slot. Names are appended as they come and the table is made
 * once, by domain_set_seal, at its final size, so loading never rehashes.
 */
#include "policy/domain_set.h"

#include "base/hash.h"
#include "base/idn.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { ENTRY_HEAD = 2, FIRST_CAP = 512, FILL_PERCENT = 70 };

struct slot {
	uint32_t tag, at;              /* at 0: empty */
};

struct domain_set {
	struct domain_key key;
	uint8_t *names;
	size_t names_len, names_cap;
	size_t n_entries;              /* before sealing repeated ones too */
	struct slot *slots;            /* NULL: not sealed */
	size_t n_slots;
	uint64_t depths[2];            /* bit i: there is a name of i + 1 labels */
};

/* ---- hashing ---- */

static const char seed_label[] = "domain-seed", factor_label[] = "domain-factor";

struct domain_key
domain_key_get(void)
{
	return (struct domain_key){
		.seed = hash_keyed(seed_label, sizeof seed_label),
		.factor = hash_keyed(factor_label, sizeof factor_label) | 1,
	};
}

/* n < 8 bytes as a number, a different one for each content of that length. */
static inline uint64_t
load_tail(const uint8_t *p, size_t n)
{
	if (n >= 4) {
		uint32_t low, high;
		memcpy(&low, p, 4);
		memcpy(&high, p + n - 4, 4);
		return low | (uint64_t)high << 32;
	}
	return n == 0 ? 0 : p[0] | (uint64_t)p[n / 2] << 8 | (uint64_t)p[n - 1] << 16;
}

/* Goes on from the hash of what stands right of the label. */
static inline uint64_t
hash_label(struct domain_key key, uint64_t h, const char *label, size_t len)
{
	const uint8_t *p = (const uint8_t *)label;
	uint64_t length = len;
	for (; len >= 8; p += 8, len -= 8) {
		uint64_t word;
		memcpy(&word, p, 8);
		h = domain_fold(h ^ word, key.factor);
	}
	h = domain_fold(h ^ load_tail(p, len), key.factor);
	return domain_fold(h ^ length, key.seed | 1);
}

void
domain_path_of(struct domain_path *path, struct domain_key key, const char *name, size_t len)
{
	path->name = name;
	path->len = len;
	path->key = key;
	path->n = 0;
	uint64_t h = key.seed;
	for (size_t end = len; end > 0 && path->n < DOMAIN_LABELS_MAX;) {
		size_t start = end;
		while (start > 0 && name[start - 1] != '.')
			start--;
		h = hash_label(key, h, name + start, end - start);
		path->start[path->n] = (uint8_t)start;
		path->hash[path->n++] = h;
		end = start > 0 ? start - 1 : 0;
	}
}

/* ---- reading names ---- */

/* Letters, digits, '-', '_' and dots: no other byte is in a name that a client means, so it is a
 * slip. */
static bool
is_domain_byte(char c)
{
	unsigned char u = (unsigned char)c, letter = u | 0x20;
	return (letter >= 'a' && letter <= 'z') || (u >= '0' && u <= '9') || u == '-' || u == '.' ||
	       u == '_';
}

const char *
domain_read(struct endpoint *out, const char *text, size_t len)
{
	if (memchr(text, '*', len) != NULL)
		return "no wildcards: a domain stands for itself and all below it";
	enum endpoint_error err = endpoint_set_host(out, text, len);
	if (err == ENDPOINT_EMPTY)
		return "a domain, or a label of it, is empty";
	if (err == ENDPOINT_TOO_LONG)
		return "longer than a domain can be (255 bytes)";
	if (err != ENDPOINT_OK)
		return "not a domain";
	if (out->kind != ENDPOINT_NAME)
		return "an IP address, not a domain";
	if (idn_is_foreign(out->name, out->name_len) && !idn_to_ascii(out->name, out))
		return "not a domain: it has no form in ASCII (IDNA 2008)";
	for (size_t i = 0; i < out->name_len; i++) {
		if (!is_domain_byte(out->name[i]))
			return "not a domain";
	}
	return NULL;
}

/* ---- adding ---- */

struct domain_set *
domain_set_new(void)
{
	struct domain_set *s = calloc(1, sizeof *s);
	if (s != NULL)
		s->key = domain_key_get();
	return s;
}

void
domain_set_free(struct domain_set *s)
{
	if (s == NULL)
		return;
	free(s->names);
	free(s->slots);
	free(s);
}

static bool
make_room(struct domain_set *s, size_t n)
{
	if (n <= s->names_cap - s->names_len)
		return true;
	size_t cap = s->names_cap == 0 ? FIRST_CAP : s->names_cap * 2;
	if (cap >= UINT32_MAX)
		return false;
	uint8_t *names = realloc(s->names, cap);
	if (names == NULL)
		return false;
	s->names = names;
	s->names_cap = cap;
	return true;
}

static const char *
add(struct domain_set *s, const char *text, size_t len, enum domain_scope scope)
{
	struct endpoint name = { .kind = ENDPOINT_NONE };
	assert(s->slots == NULL);
	const char *why = domain_read(&name, text, len);
	if (why != NULL)
		return why;
	if (!make_room(s, ENTRY_HEAD + (size_t)name.name_len))
		return "no memory for this many domains";
	uint8_t *entry = s->names + s->names_len;
	entry[0] = (uint8_t)scope;
	entry[1] = name.name_len;
	memcpy(entry + ENTRY_HEAD, name.name, name.name_len);
	s->names_len += ENTRY_HEAD + (size_t)name.name_len;
	s->n_entries++;
	return NULL;
}

const char *
domain_set_add_value(struct domain_set *s, const char *text, size_t len)
{
	if (len > 0 && text[0] == '=')
		return add(s, text + 1, len - 1, DOMAIN_EXACT);
	if (len > 1 && text[0] == '.')
		return add(s, text + 1, len - 1, DOMAIN_BELOW);
	return add(s, text, len, DOMAIN_BELOW);
}

/* The bytes up to the next blank, behind blanks; *len is what is left of the line. */
static size_t
next_word(const char **text, size_t *len)
{
	while (*len > 0 && (**text == ' ' || **text == '\t'))
		(*text)++, (*len)--;
	size_t n = 0;
	while (n < *len && (*text)[n] != ' ' && (*text)[n] != '\t')
		n++;
	return n;
}

static bool
is_address(const char *text, size_t len)
{
	char z[INET6_ADDRSTRLEN];
	uint8_t addr[16];
	const char *zone = memchr(text, '%', len);     /* fe80::1%lo0, as macOS writes it */
	if (zone != NULL)
		len = (size_t)(zone - text);
	if (len >= sizeof z || memchr(text, '\0', len) != NULL)
		return false;
	memcpy(z, text, len);
	z[len] = '\0';
	return inet_pton(AF_INET, z, addr) == 1 || inet_pton(AF_INET6, z, addr) == 1;
}

/* What a hosts file says of the machine that it is on. */
static bool
is_own_name(const char *word, size_t len)
{
	static const char *const own[] = {
		"localhost", "localhost.localdomain", "localhost4", "localhost6", "local",
		"broadcasthost",
	};
	for (size_t i = 0; i < ARRAY_LEN(own); i++) {
		if (strlen(own[i]) == len && strncasecmp(own[i], word, len) == 0)
			return true;
	}
	return (len > 4 && strncasecmp(word, "ip6-", 4) == 0) || is_address(word, len);
}

/* "ADDRESS name name ...", from behind the address. */
static const char *
add_hosts_names(struct domain_set *s, const char *text, size_t len)
{
	const char *fault = NULL;
	for (size_t n; (n = next_word(&text, &len)) > 0; text += n, len -= n) {
		const char *why = is_own_name(text, n) ? NULL : add(s, text, n, DOMAIN_EXACT);
		if (fault == NULL)
			fault = why;
	}
	return fault;
}

/* "/a.example/b.example/VALUE", from behind the '='. */
static const char *
add_dnsmasq_names(struct domain_set *s, const char *text, size_t len)
{
	const char *fault = NULL, *end;
	if (len == 0 || text[0] != '/' || memchr(text + 1, '/', len - 1) == NULL)
		return "no domain between slashes";
	for (text++, len--; (end = memchr(text, '/', len)) != NULL;) {
		size_t n = (size_t)(end - text);
		const char *why = n == 1 && text[0] == '#'
				      ? "no wildcards: a set can't hold every name"
				      : add(s, text, n, DOMAIN_BELOW);
		if (fault == NULL)
			fault = why;
		text = end + 1;
		len -= n + 1;
	}
	return fault;
}

const char *
domain_set_add_line(struct domain_set *s, const char *text, size_t len)
{
	static const char *const dnsmasq[] = { "address=", "server=", "local=" };
	for (size_t i = 0; i < ARRAY_LEN(dnsmasq); i++) {
		size_t n = strlen(dnsmasq[i]);
		if (len >= n && memcmp(text, dnsmasq[i], n) == 0)
			return add_dnsmasq_names(s, text + n, len - n);
	}
	size_t first = next_word(&text, &len);
	if (first == len)
		return domain_set_add_value(s, text, len);
	if (!is_address(text, first))
		return "more than one word on a line that does not begin with an IP address";
	return add_hosts_names(s, text + first, len - first);
}

static const char *
on_line(void *arg, const char *text, size_t len)
{
	return domain_set_add_line(arg, text, len);
}

bool
domain_set_add_file(struct domain_set *s, const char *path, set_report_fn *report, void *arg)
{
	return set_file_read(path, on_line, s, report, arg);
}

/* ---- the table ---- */

/* The high half of a product spreads hashes evenly over any number of slots (Lemire, 2019). */
static inline size_t
slot_of(const struct domain_set *s, uint64_t hash)
{
	return (size_t)((unsigned __int128)hash * s->n_slots >> 64);
}

static inline size_t
slot_after(const struct domain_set *s, size_t i)
{
	return i + 1 < s->n_slots ? i + 1 : 0;
}

/* The entry of this name, or NULL and *empty, the slot where it would go. */
static inline uint8_t *
find(const struct domain_set *s, uint64_t hash, const char *name, size_t len, size_t *empty)
{
	size_t i = slot_of(s, hash);
	for (; s->slots[i].at != 0; i = slot_after(s, i)) {
		if (s->slots[i].tag != (uint32_t)hash)
			continue;
		uint8_t *entry = s->names + s->slots[i].at - 1;
		if (entry[1] == len && memcmp(entry + ENTRY_HEAD, name, len) == 0)
			return entry;
	}
	*empty = i;
	return NULL;
}

/* Moves the entry at *from down to *to and files it, or adds its scopes to the one that is there
 * already. */
static void
file_entry(struct domain_set *s, size_t *from, size_t *to)
{
	struct domain_path path;
	uint8_t *entry = s->names + *from;
	size_t len = entry[1], empty = 0;
	domain_path_of(&path, s->key, (const char *)entry + ENTRY_HEAD, len);
	*from += ENTRY_HEAD + len;
	uint64_t hash = path.hash[path.n - 1];
	uint8_t *same = find(s, hash, path.name, len, &empty);
	if (same != NULL) {
		same[0] |= entry[0];
		return;
	}
	memmove(s->names + *to, entry, ENTRY_HEAD + len);
	s->slots[empty] = (struct slot){ .tag = (uint32_t)hash, .at = (uint32_t)*to + 1 };
	s->depths[(path.n - 1) / 64] |= UINT64_C(1) << (path.n - 1) % 64;
	s->n_entries++;
	*to += ENTRY_HEAD + len;
}

bool
domain_set_seal(struct domain_set *s)
{
	assert(s->slots == NULL);
	s->n_slots = s->n_entries * 100 / FILL_PERCENT + 2;    /* one slot at least stays empty */
	s->slots = calloc(s->n_slots, sizeof *s->slots);
	if (s->slots == NULL)
		return false;
	s->n_entries = 0;
	size_t to = 0;
	for (size_t from = 0; from < s->names_len;)
		file_entry(s, &from, &to);
	s->names_len = to;
	uint8_t *fitting = realloc(s->names, to > 0 ? to : 1);
	if (fitting != NULL) {
		s->names = fitting;
		s->names_cap = to > 0 ? to : 1;
	}
	return true;
}

/* ---- look-up ---- */

static inline bool
has_depth(const struct domain_set *s, unsigned i)
{
	return (s->depths[i / 64] >> i % 64 & 1) != 0;
}

/* All slots are asked for at once, so that a big table costs one wait for memory and not one per
 * label. */
bool
domain_set_has(const struct domain_set *s, const struct domain_path *path)
{
	assert(s->slots != NULL && path->key.seed == s->key.seed);
	for (unsigned i = 0; i < path->n; i++) {
		if (has_depth(s, i))
			__builtin_prefetch(&s->slots[slot_of(s, path->hash[i])]);
	}
	for (unsigned i = 0; i < path->n; i++) {
		if (!has_depth(s, i))
			continue;
		size_t start = path->start[i], empty;
		const uint8_t *entry =
		    find(s, path->hash[i], path->name + start, path->len - start, &empty);
		if (entry == NULL)
			continue;
		if ((entry[0] & DOMAIN_BELOW) != 0 || start == 0)
			return true;
	}
	return false;
}

bool
domain_set_has_name(const struct domain_set *s, const char *name, size_t len)
{
	struct domain_path path;
	domain_path_of(&path, s->key, name, len);
	return domain_set_has(s, &path);
}

size_t
domain_set_count(const struct domain_set *s)
{
	return s->n_entries;
}

size_t
domain_set_bytes(const struct domain_set *s)
{
	return sizeof *s + s->names_cap + s->n_slots * sizeof *s->slots;
}
