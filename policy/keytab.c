/*
 * keytab: see keytab.h.
 *
 *   05 02 | size (4), negative: a hole, 0: the end | entry ... | size | entry ...
 *   entry: number of parts (2) | realm | part ... | type, time, version, key
 *   realm, part: length (2) | bytes
 */
#include "policy/keytab.h"

#include <stdio.h>
#include <string.h>

#include "base/reader.h"

enum { FORMAT_5_2 = 0x0502, PARTS_MAX = 16, NAME_MAX_BYTES = 1024 };

/* What has a meaning in a name's text is escaped where it is a part's own. */
static void
write_part(struct writer *w, const uint8_t *part, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (part[i] == '/' || part[i] == '@' || part[i] == '\\')
			write_u8(w, '\\');
		write_u8(w, part[i]);
	}
}

/* "rcmd/host.example@REALM" in out. False: no name. */
static bool
read_name(struct reader *r, char *out, size_t cap)
{
	struct writer w = writer_of(out, cap);
	unsigned n = read_u16(r);
	size_t realm_len = read_u16(r);
	const uint8_t *realm = read_bytes(r, realm_len);
	for (unsigned i = 0; i < n && n <= PARTS_MAX; i++) {
		size_t len = read_u16(r);
		const uint8_t *part = read_bytes(r, len);
		if (i > 0)
			write_u8(&w, '/');
		if (part != NULL)
			write_part(&w, part, len);
	}
	write_u8(&w, '@');
	if (realm != NULL)
		write_part(&w, realm, realm_len);
	write_u8(&w, '\0');
	return n > 0 && n <= PARTS_MAX && !r->truncated && !w.overflow;
}

/* Is it that name, or one that begins with those parts? */
static bool
is_meant(const char *name, const char *whose)
{
	size_t len = whose == NULL ? 0 : strlen(whose);
	return whose == NULL ||
	       (strncmp(name, whose, len) == 0 && strchr("/@", name[len]) != NULL);
}

enum keytab_look
keytab_find(const uint8_t *in, size_t len, const char *whose)
{
	struct reader r = reader_of(in, len);
	char name[NAME_MAX_BYTES];
	if (read_u16(&r) != FORMAT_5_2)
		return KEYTAB_BROKEN;
	while (reader_left(&r) > 0) {
		uint32_t high = read_u16(&r), size = high << 16 | read_u16(&r);
		bool hole = size > INT32_MAX;
		const uint8_t *bytes = read_bytes(&r, hole ? 0u - size : size);
		struct reader entry = reader_of(bytes, size);
		if (r.truncated || (!hole && size > 0 && !read_name(&entry, name, sizeof name)))
			return KEYTAB_BROKEN;
		if (size == 0)
			break;
		if (!hole && is_meant(name, whose))
			return KEYTAB_GOOD;
	}
	return KEYTAB_NO_KEY;
}
