/*
 * message: writes name servers' messages for tests, from records as one writes them in a zone file.
 */
#ifndef TESTS_DNS_MESSAGE_H
#define TESTS_DNS_MESSAGE_H
#include <stddef.h>
#include <stdint.h>

enum { MESSAGE_MAX = 4096, MESSAGE_TRUNCATED = 0x0200, MESSAGE_NXDOMAIN = 3, MESSAGE_SERVFAIL = 2, MESSAGE_REFUSED = 5 };

/**
 * A response with one question and `records`: "OWNER TYPE TTL DATA" joined by ";", where TYPE is A,
 * AAAA, CNAME and PTR (DATA a name), TXT (DATA is not looked at) or SOA (DATA its minimum field, and the
 * record goes to the authority section). flags: the rcode, and MESSAGE_TRUNCATED. Returns its
 * length; a record that makes no sense ends the test.
 */
size_t message_write(uint8_t out[MESSAGE_MAX], uint16_t id, unsigned flags, const char *name, uint16_t type,
		     const char *records);

#endif
