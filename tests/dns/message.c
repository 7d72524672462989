/*
 * message: see the header.
 */
#include "tests/dns/message.h"

#include "base/base.h"
#include "base/reader.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TYPE_A = 1, TYPE_CNAME = 5, TYPE_SOA = 6, TYPE_PTR = 12, TYPE_TXT = 16, TYPE_AAAA = 28 };

static uint16_t
type_of(const char *text)
{
	static const struct { const char *text; uint16_t type; } types[] = {
		{ "A", TYPE_A }, { "AAAA", TYPE_AAAA }, { "CNAME", TYPE_CNAME }, { "SOA", TYPE_SOA }, { "PTR", TYPE_PTR }, { "TXT", TYPE_TXT },
	};
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		if (strcmp(text, types[i].text) == 0)
			return types[i].type;
	}
	fail_msg("no such type: %s", text);
	return 0;
}

static void
write_u32(struct writer *w, uint32_t v)
{
	write_u16(w, (uint16_t)(v >> 16));
	write_u16(w, (uint16_t)v);
}

static void
write_name(struct writer *w, const char *name)
{
	while (*name != '\0') {
		size_t len = strcspn(name, ".");
		write_u8(w, (uint8_t)len);
		write_bytes(w, name, len);
		name += len + (name[len] == '.');
	}
	write_u8(w, 0);
}

static void
write_data(struct writer *w, uint16_t type, const char *data)
{
	uint8_t bytes[512];
	struct writer inner = writer_of(bytes, sizeof bytes);
	uint8_t addr[16];

	if (type == TYPE_A || type == TYPE_AAAA) {
		assert_int_equal(inet_pton(type == TYPE_A ? AF_INET : AF_INET6, data, addr), 1);
		write_bytes(&inner, addr, type == TYPE_A ? 4 : 16);
	} else if (type == TYPE_CNAME || type == TYPE_PTR) {
		write_name(&inner, data);
	} else if (type == TYPE_SOA) {
		write_name(&inner, "ns.test");
		write_name(&inner, "root.test");
		for (int i = 0; i < 4; i++)
			write_u32(&inner, 3600);
		write_u32(&inner, (uint32_t)strtoul(data, NULL, 10));
	} else {
		write_u8(&inner, (uint8_t)strlen(data));
		write_bytes(&inner, data, strlen(data));
	}
	write_u16(w, (uint16_t)inner.len);
	write_bytes(w, bytes, inner.len);
}

/* Returns whether it went to the authority section. */
static int
write_record(struct writer *w, const char *text)
{
	char owner[256], type_text[8], data[256];
	unsigned long ttl;
	if (sscanf(text, " %255s %7s %lu %255s", owner, type_text, &ttl, data) != 4)
		fail_msg("no record: %s", text);
	uint16_t type = type_of(type_text);
	write_name(w, owner);
	write_u16(w, type);
	write_u16(w, 1);
	write_u32(w, (uint32_t)ttl);
	write_data(w, type, data);
	return type == TYPE_SOA;
}

size_t
message_write(uint8_t out[MESSAGE_MAX], uint16_t id, unsigned flags, const char *name, uint16_t type, const char *records)
{
	char copy[2048];
	struct writer w = writer_of(out, MESSAGE_MAX);
	uint8_t counts[2] = { 0, 0 };
	char *rest = NULL;

	assert_in_range(snprintf(copy, sizeof copy, "%s", records), 0, sizeof copy - 1);
	write_u16(&w, id);
	write_u16(&w, (uint16_t)(0x8180 | flags));
	write_u16(&w, 1);
	write_u16(&w, 0);
	write_u16(&w, 0);
	write_u16(&w, 0);
	write_name(&w, name);
	write_u16(&w, type);
	write_u16(&w, 1);
	for (char *one = strtok_r(copy, ";", &rest); one != NULL; one = strtok_r(NULL, ";", &rest))
		counts[write_record(&w, one)]++;
	assert_false(w.overflow);
	out[7] = counts[0];
	out[9] = counts[1];
	return w.len;
}
