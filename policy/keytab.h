/*
 * keytab: does a Kerberos key table (MIT's file format, version 2) hold a key for somebody? A look
 * at the names in it; the keys are skipped. Pure.
 */
#ifndef POLICY_KEYTAB_H
#define POLICY_KEYTAB_H

#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

enum keytab_look { KEYTAB_GOOD, KEYTAB_NO_KEY, KEYTAB_BROKEN };

enum { KEYTAB_BYTES_MAX = 1 << 20 };

/**
 * whose: a principal with its realm or without ("alice"), a service with its host or without
 * ("rcmd/host.example", "rcmd"); NULL: anybody's key will do.
 */
enum keytab_look keytab_find(const uint8_t *in, size_t len, const char *whose) WARN_UNUSED;

#endif
