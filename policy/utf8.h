/*
 * utf8: what is one character of UTF-8 (RFC 3629), and how one is read and written.
 */
#ifndef POLICY_UTF8_H
#define POLICY_UTF8_H

#include <stddef.h>
#include <stdint.h>

/** Bytes of the character at text, 1-4; 0: none is there (the end, a stray or cut byte, an overlong
 * form, a surrogate, beyond U+10FFFF). */
size_t utf8_length(const char *text, size_t len);
/** The code point of such a character of len bytes. */
uint32_t utf8_read(const char *text, size_t len);
/** Writes a code point that is no surrogate and at most U+10FFFF; 1-4 bytes, no NUL behind them.
 * Returns how many. */
size_t utf8_write(uint32_t point, char *out);

#endif
