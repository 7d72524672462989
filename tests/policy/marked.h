/*
 * marked: documents that say in themselves where their faults are: a '^' stands before each value
 * or key that must be reported.
 */
#ifndef TESTS_POLICY_MARKED_H
#define TESTS_POLICY_MARKED_H

#include "policy/policy.h"

/* crypt(3) of "secret". */
#define MARKED_HASH                                                                                \
	"$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/"                                  \
	"jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/"

/** A temporary directory for the files that documents name. */
void marked_make_dir(void);
/** For a group of tests: makes it, with files for documents of every kind. */
int marked_make_files(void **state);
/** For a group of tests: removes it. */
int marked_remove_files(void **state);
const char *marked_dir(void);
/** Writes a file into it, with the given text. */
void marked_write_file(const char *name, const char *text);

/** Loads text as it is, from the directory. */
struct policy *marked_load(
    const char *text, const struct policy *before, struct policy_errors *errors);
/** Loads text, which must be sound. */
struct policy *marked_load_sound(const char *text);
/**
 * Takes the marks off, loads, and expects one error for each mark, in their order.
 * want: "/pointer: part of the message", one for each mark, with '|' between them
 */
void marked_expect(const char *text, const struct policy *before, const char *want);

#endif
