#include "admin/json.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "policy/policy.h"
#include "policy/utf8.h"

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

json_t *
json_text(const char *text)
{
	json_t *value = json_string(text);
	if (value != NULL)
		return value;
	size_t len = strlen(text), used = 0;
	char *clean = malloc(len * (sizeof replacement - 1) + 1);
	if (clean == NULL)
		return NULL;
	for (size_t i = 0, n; i<len; i += n> 0 ? n : 1) {
		n = utf8_length(text + i, len - i);
		size_t size = n > 0 ? n : sizeof replacement - 1;
		memcpy(clean + used, n > 0 ? text + i : replacement, size);
		used += size;
	}
	value = json_stringn(clean, used);
	free(clean);
	return value;
}

json_t *
json_text_or_null(const char *text)
{
	return text != NULL && text[0] != '\0' ? json_text(text) : json_null();
}

json_t *
json_count(uint64_t n)
{
	return json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n);
}

json_t *
json_ms(uint64_t us)
{
	return json_real((double)us / 1000.0);
}

json_t *
json_seconds(uint64_t ms)
{
	return json_real((double)ms / 1000.0);
}

json_t *
json_time(int64_t wall_ms)
{
	char text[32];
	return json_string(clock_to_text(wall_ms, text, sizeof text));
}

json_t *
json_bytes(uint64_t up, uint64_t down)
{
	return json_pack("{s:o, s:o}", "up", json_count(up), "down", json_count(down));
}

json_t *
json_policy_errors(const struct policy_errors *errors)
{
	json_t *list = json_array();
	for (size_t i = 0; list != NULL && i < errors->n; i++) {
		const struct policy_error *e = &errors->list[i];
		json_t *one = json_pack("{s:o, s:i, s:i, s:o}", "pointer", json_text(e->pointer),
					"line", (int)e->line, "column", (int)e->column, "message",
					json_text(e->message));
		if (one == NULL || json_array_append_new(list, one) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}
