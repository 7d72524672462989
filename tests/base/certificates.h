/*
 * certificates: keys and certificates made while a test runs, as PEM files in a directory of their
 * own.
 *
 *   ca.pem          the authority of all but the last
 *   good.pem/.key   DNS:good.example, DNS:*.wild.example
 *   ip.pem/.key     IP:127.0.0.1, IP:::1
 *   expired.pem/.key   DNS:good.example, until yesterday
 *   client.pem/.key    subject CN=alice, no names
 *   stranger.pem/.key  DNS:good.example, signed by itself
 *   locked.key      good.key under a pass phrase;  garbage.pem  no PEM at all;  both.pem  good.pem and good.key in one
 */
#ifndef TESTS_BASE_CERTIFICATES_H
#define TESTS_BASE_CERTIFICATES_H

/** Makes the directory and the files; aborts the test when it can't. */
void certificates_make(void);
/**
 * The path of one of the files, or of one that is not there; in memory that is used again eight
 * calls later.
 */
const char *certificate_path(const char *file);
void certificates_remove(void);

#endif
