/*
 * credentials: what we show an upstream, made from its policy and the client's own: {user} and
 * {session} are put in, so that an upstream that isolates by credentials keeps users apart. Pure.
 */
#ifndef UPSTREAM_CREDENTIALS_H
#define UPSTREAM_CREDENTIALS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/base.h"

/**
 * Writes the text of `template` to out, with NUL. What is put in is not looked through again, and
 * other braces stay as they are.
 * @param template  NULL: nothing, so out becomes ""
 * @param user      NULL: ""; session too
 * @return false where it does not fit in cap: too long is refused, never cut, as a cut name may be
 * someone else's
 */
bool credentials_expand(const char *template, const char *user, const char *session, char *out,
			size_t cap) WARN_UNUSED;

#endif
