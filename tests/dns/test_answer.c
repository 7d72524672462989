/*
 * answer: messages as they should be, as they shouldn't, and cut at every byte.
 */
#include "dns/answer.h"

#include "base/text.h"
#include "tests/dns/message.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *
kind_text(enum answer_kind kind)
{
	static const char *const texts[] = { "addresses", "no data", "no name", "timeout", "failed" };
	return texts[kind];
}

/* "addresses 192.0.2.1 192.0.2.2 ttl 60" */
static const char *
answer_text(const struct answer *a, char *out, size_t cap)
{
	char host[ENDPOINT_TEXT_MAX];
	struct endpoint e;
	size_t len = 0;

	text_append(out, cap, &len, "%s", kind_text(a->kind));
	for (size_t i = 0; i < a->n; i++) {
		dns_address_to_endpoint(&a->addrs[i], &e);
		text_append(out, cap, &len, " %s", endpoint_host_to_text(&e, host, sizeof host));
	}
	if (a->kind <= ANSWER_NO_NAME && a->ttl_s == ANSWER_TTL_NONE)
		text_append(out, cap, &len, " no ttl");
	else if (a->kind <= ANSWER_NO_NAME)
		text_append(out, cap, &len, " ttl %u", a->ttl_s);
	return out;
}

/* From memory of just that size, so that a sanitizer sees every byte too far. */
static void
read_exactly(struct answer *a, const uint8_t *message, size_t len, const char *name, enum record record)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);
	assert_non_null(copy);
	memcpy(copy, message, len);
	memset(a, 0xa5, sizeof *a);
	answer_read(a, copy, len, name, record);
	free(copy);
}

static const struct {
	const char *what, *name;
	enum record record;
	unsigned flags;
	const char *records, *want;
} messages[] = {
	{ "one address", "a.test", RECORD_A, 0, "a.test A 60 192.0.2.1", "addresses 192.0.2.1 ttl 60" },
	{ "smallest TTL", "a.test", RECORD_A, 0, "a.test A 60 192.0.2.1;a.test A 30 192.0.2.2",
	  "addresses 192.0.2.1 192.0.2.2 ttl 30" },
	{ "IPv6", "a.test", RECORD_AAAA, 0, "a.test AAAA 60 2001:db8::1", "addresses 2001:db8::1 ttl 60" },
	{ "mapped", "a.test", RECORD_AAAA, 0, "a.test AAAA 60 ::ffff:127.0.0.1", "addresses 127.0.0.1 ttl 60" },
	{ "in capitals", "a.test", RECORD_A, 0, "A.TEST A 60 192.0.2.1", "addresses 192.0.2.1 ttl 60" },
	{ "TTL 0", "a.test", RECORD_A, 0, "a.test A 0 192.0.2.1", "addresses 192.0.2.1 ttl 0" },
	{ "TTL with the top bit", "a.test", RECORD_A, 0, "a.test A 2147483648 192.0.2.1", "addresses 192.0.2.1 ttl 0" },
	{ "chain", "a.test", RECORD_A, 0, "a.test CNAME 60 b.test;b.test CNAME 20 c.test;c.test A 300 192.0.2.3",
	  "addresses 192.0.2.3 ttl 20" },
	{ "chain backwards", "a.test", RECORD_A, 0, "c.test A 300 192.0.2.3;b.test CNAME 20 c.test;a.test CNAME 60 b.test",
	  "addresses 192.0.2.3 ttl 20" },
	{ "chain in capitals", "a.test", RECORD_A, 0, "a.test CNAME 60 B.Test;b.test A 300 192.0.2.3",
	  "addresses 192.0.2.3 ttl 60" },
	{ "chain to nothing", "a.test", RECORD_AAAA, 0, "a.test CNAME 60 b.test;test SOA 900 900", "no data ttl 60" },
	{ "chain to no name", "a.test", RECORD_A, MESSAGE_NXDOMAIN, "a.test CNAME 60 b.test;test SOA 30 900", "no name ttl 30" },
	{ "loop of one", "a.test", RECORD_A, 0, "a.test CNAME 60 a.test", "failed" },
	{ "loop of two", "a.test", RECORD_A, 0, "a.test CNAME 60 b.test;b.test CNAME 60 a.test", "failed" },
	{ "loop beside an address", "a.test", RECORD_A, 0, "a.test CNAME 60 a.test;b.test A 60 192.0.2.1", "failed" },
	{ "another's address", "a.test", RECORD_A, 0, "b.test A 60 192.0.2.1", "no data no ttl" },
	{ "below the name", "a.test", RECORD_A, 0, "x.a.test A 60 192.0.2.1", "no data no ttl" },
	{ "another type", "a.test", RECORD_A, 0, "a.test AAAA 60 2001:db8::1;a.test TXT 60 x", "no data no ttl" },
	{ "no data", "a.test", RECORD_A, 0, "test SOA 900 30", "no data ttl 30" },
	{ "no name, SOA's own TTL", "a.test", RECORD_A, MESSAGE_NXDOMAIN, "test SOA 20 30", "no name ttl 20" },
	{ "no name, SOA's minimum", "a.test", RECORD_A, MESSAGE_NXDOMAIN, "test SOA 50 30", "no name ttl 30" },
	{ "no name, no SOA", "a.test", RECORD_A, MESSAGE_NXDOMAIN, "", "no name no ttl" },
	{ "no name, yet an address", "a.test", RECORD_A, MESSAGE_NXDOMAIN, "a.test A 60 192.0.2.1", "no name ttl 60" },
	{ "server failure", "a.test", RECORD_A, MESSAGE_SERVFAIL, "", "failed" },
	{ "refused", "a.test", RECORD_A, MESSAGE_REFUSED, "a.test A 60 192.0.2.1", "failed" },
};

static void
test_messages(void **state)
{
	uint8_t message[MESSAGE_MAX];
	char text[512];
	struct answer a;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
		size_t len = message_write(message, 1, messages[i].flags, messages[i].name, record_type(messages[i].record),
					   messages[i].records);
		read_exactly(&a, message, len, messages[i].name, messages[i].record);
		if (strcmp(answer_text(&a, text, sizeof text), messages[i].want) != 0)
			fail_msg("%s: %s, not %s", messages[i].what, text, messages[i].want);
		for (size_t cut = 0; cut < len; cut++) {
			read_exactly(&a, message, cut, messages[i].name, messages[i].record);
			if (a.kind != ANSWER_FAILED || a.n != 0)
				fail_msg("%s, cut at %zu: %s", messages[i].what, cut, answer_text(&a, text, sizeof text));
		}
	}
}

static void
test_chain_length(void **state)
{
	char records[2048], text[256];
	uint8_t message[MESSAGE_MAX];
	struct answer a;

	(void)state;
	for (unsigned links = ANSWER_CHAIN_MAX; links <= ANSWER_CHAIN_MAX + 1; links++) {
		size_t n = 0;
		for (unsigned i = 0; i < links; i++)
			text_append(records, sizeof records, &n, "n%u.test CNAME 60 n%u.test;", i, i + 1);
		text_append(records, sizeof records, &n, "n%u.test A 60 192.0.2.1", links);
		size_t len = message_write(message, 1, 0, "n0.test", record_type(RECORD_A), records);
		read_exactly(&a, message, len, "n0.test", RECORD_A);
		assert_string_equal(answer_text(&a, text, sizeof text),
				    links <= ANSWER_CHAIN_MAX ? "addresses 192.0.2.1 ttl 60" : "failed");
	}
}

static void
test_many_addresses(void **state)
{
	char records[2048];
	uint8_t message[MESSAGE_MAX];
	struct answer a;
	size_t n = 0;

	(void)state;
	for (unsigned i = 0; i < ANSWER_ADDRS_MAX + 8; i++)
		text_append(records, sizeof records, &n, "a.test A 60 192.0.2.%u;", i);
	size_t len = message_write(message, 1, 0, "a.test", record_type(RECORD_A), records);
	read_exactly(&a, message, len, "a.test", RECORD_A);
	assert_int_equal(a.kind, ANSWER_ADDRESSES);
	assert_int_equal(a.n, ANSWER_ADDRS_MAX);
	assert_int_equal(a.addrs[ANSWER_ADDRS_MAX - 1].bytes[3], ANSWER_ADDRS_MAX - 1);
}

/*
 * What the writer of message.h can't say: header, question a.test A, then as given. Name pointers:
 * c00c is the question's name.
 */
#define HEADER(answers) "0001 8180 0001 000" answers " 0000 0000 "
#define QUESTION "0161 0474657374 00 0001 0001 "

static const struct {
	const char *what, *hex, *want;
} raw[] = {
	{ "compressed owner", HEADER("1") QUESTION "c00c 0001 0001 0000003c 0004 c0000201", "addresses 192.0.2.1 ttl 60" },
	{ "pointer to a pointer", HEADER("2") QUESTION "c00c 0010 0001 0000003c 0001 00 c018 0001 0001 0000003c 0004 c0000201",
	  "addresses 192.0.2.1 ttl 60" },
	{ "alias whose target is compressed",
	  HEADER("2") QUESTION "c00c 0005 0001 0000003c 0004 0162 c00e 0162 c00e 0001 0001 00000028 0004 c0000201",
	  "addresses 192.0.2.1 ttl 40" },
	{ "pointer to itself", HEADER("1") QUESTION "c018 0001 0001 0000003c 0004 c0000201", "failed" },
	{ "pointer forwards", HEADER("1") QUESTION "c01a 0001 0001 0000003c 0004 c0000201", "failed" },
	{ "pointer into labels that lead back to it", HEADER("1") QUESTION "0178 c018 0001 0001 0000003c 0004 c0000201", "failed" },
	{ "label type 01", HEADER("1") QUESTION "4161 00 0001 0001 0000003c 0004 c0000201", "failed" },
	{ "label type 10", HEADER("1") QUESTION "8161 00 0001 0001 0000003c 0004 c0000201", "failed" },
	{ "address of 5 bytes", HEADER("1") QUESTION "c00c 0001 0001 0000003c 0005 c000020101", "no data ttl 60" },
	{ "address of 0 bytes", HEADER("1") QUESTION "c00c 0001 0001 0000003c 0000", "no data ttl 60" },
	{ "class CHAOS", HEADER("1") QUESTION "c00c 0001 0003 0000003c 0004 c0000201", "no data no ttl" },
	{ "dot inside a label", HEADER("1") QUESTION "06612e74657374 00 0001 0001 0000003c 0004 c0000201", "no data no ttl" },
	{ "data longer than the message", HEADER("1") QUESTION "c00c 0001 0001 0000003c ffff c0000201", "failed" },
	{ "fewer records than told", HEADER("2") QUESTION "c00c 0001 0001 0000003c 0004 c0000201", "failed" },
	{ "another question", HEADER("1") "0162 0474657374 00 0001 0001 c00c 0001 0001 0000003c 0004 c0000201", "failed" },
	{ "another question's type", HEADER("1") "0161 0474657374 00 001c 0001 c00c 0001 0001 0000003c 0004 c0000201", "failed" },
	{ "no question", "0001 8180 0000 0000 0000 0000", "failed" },
	{ "two questions", "0001 8180 0002 0000 0000 0000 " QUESTION QUESTION, "failed" },
	{ "a query", "0001 0100 0001 0000 0000 0000 " QUESTION, "failed" },
	{ "SOA too short", "0001 8183 0001 0000 0001 0000 " QUESTION "c00c 0006 0001 0000003c 0003 00 00 00", "failed" },
	{ "nothing", "", "failed" },
};

static size_t
from_hex(const char *hex, uint8_t *out)
{
	size_t n = 0;
	for (unsigned byte; *hex != '\0'; hex++) {
		if (*hex == ' ')
			continue;
		assert_int_equal(sscanf(hex, "%2x", &byte), 1);
		out[n++] = (uint8_t)byte;
		hex++;
	}
	return n;
}

static void
test_raw(void **state)
{
	uint8_t message[MESSAGE_MAX];
	char text[512];
	struct answer a;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(raw); i++) {
		size_t len = from_hex(raw[i].hex, message);
		read_exactly(&a, message, len, "a.test", RECORD_A);
		if (strcmp(answer_text(&a, text, sizeof text), raw[i].want) != 0)
			fail_msg("%s: %s, not %s", raw[i].what, text, raw[i].want);
	}
}

static void
test_names(void **state)
{
	char label[65], longest[255];
	static const struct { const char *name; bool valid; } names[] = {
		{ "a", true }, { "db", true }, { "a.b.c", true }, { "_x.y", true }, { "", false }, { ".", false }, { "a.", false },
		{ ".a", false }, { "a..b", false }, { "a\\.b", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (record_name_is_valid(names[i].name) != names[i].valid)
			fail_msg("\"%s\"", names[i].name);
	}
	memset(label, 'a', sizeof label);
	label[64] = '\0';
	assert_false(record_name_is_valid(label));
	assert_true(record_name_is_valid(label + 1));
	memset(longest, 'a', sizeof longest);
	longest[254] = longest[63] = longest[127] = longest[191] = '.';
	longest[253] = '\0';
	assert_true(record_name_is_valid(longest));
	longest[253] = 'a';
	longest[254] = '\0';
	assert_false(record_name_is_valid(longest));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_chain_length),
		cmocka_unit_test(test_many_addresses),
		cmocka_unit_test(test_raw),
		cmocka_unit_test(test_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
