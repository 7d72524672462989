/*
 * json: small helpers around jansson for what the API says. All return NULL when out of memory, and
 * take NULL for a value the same way.
 */
#ifndef ADMIN_JSON_H
#define ADMIN_JSON_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

struct policy_errors;

/* For JSON_REAL_PRECISION: times come as people would write them, 0.101 and not
 * 0.10100000000000001. */
enum { JSON_DIGITS = 15 };

/** A string of bytes that may come from strangers: what is no UTF-8 becomes U+FFFD. */
json_t *json_text(const char *text);
/** null where text is NULL or "". */
json_t *json_text_or_null(const char *text);
json_t *json_count(uint64_t n);
/** Milliseconds with three decimals. */
json_t *json_ms(uint64_t us);
json_t *json_seconds(uint64_t ms);
/** RFC 3339, UTC. */
json_t *json_time(int64_t wall_ms);
/** {"up", "down"} */
json_t *json_bytes(uint64_t up, uint64_t down);
/** [{"pointer", "line", "column", "message"}] */
json_t *json_policy_errors(const struct policy_errors *errors);

#endif
