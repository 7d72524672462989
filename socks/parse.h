/*
 * parse: what the codecs of this room share: how a parser answers, and credentials as they lie on
 * the wire.
 *
 * A parser looks at all bytes that have come so far and keeps nothing between calls. OK: the
 * message is whole and *used says how many bytes it took. MORE: it may still become one. BAD: it
 * never will, whatever comes.
 */
#ifndef SOCKS_PARSE_H
#define SOCKS_PARSE_H

#include <stddef.h>
#include <stdint.h>

enum parse_result { PARSE_OK, PARSE_MORE, PARSE_BAD };

/* Points into the parser's input; any byte may be in it, NUL too. */
struct credentials {
	const uint8_t *username, *password;
	size_t username_len, password_len;
};

#endif
