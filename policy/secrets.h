/*
 * secrets: what of a policy's document never leaves, shown as "***", and how a "***" that comes
 * back is filled in again.
 *
 * Secrets are /admin/token, and of each upstream `password` and the password within `url`, and of
 * each auth block's users `password_hash`. A "***" stands for the secret of the object of the same
 * name in the policy before: an upstream's password wherever it was written, a user's hash in the
 * auth block of the same name.
 */
#ifndef POLICY_SECRETS_H
#define POLICY_SECRETS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/base.h"
#include "policy/json_scan.h"
#include "policy/parse.h"

#define SECRET_MASK "***"

/** The document as pretty JSON with secrets masked, malloc'ed; NULL: out of memory. */
char *secrets_public_text(const struct json_value *root) WARN_UNUSED;

/**
 * Fills in what is masked, in the tree and in the text: *merged is the text with the real secrets,
 * malloc'ed, or NULL where nothing was masked. before: the document in force, or NULL.
 * @return false: a "***" has nothing to stand for; reported, and the value is marked as faulty
 */
bool secrets_merge(struct parse_context *c, struct json_value *root, const char *text, size_t len,
    const struct policy *before, char **merged, size_t *merged_len) WARN_UNUSED;

#endif
