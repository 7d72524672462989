#include "admin/list.h"

#include "admin/call.h"
#include "admin/json.h"

bool
page_read(struct call *c, struct page *out)
{
	*out = (struct page){ .limit = PAGE_USUAL };
	return call_read_number(c, "limit", PAGE_MAX, &out->limit) &&
	       call_read_number(c, "offset", INT32_MAX, &out->offset);
}

void
list_answer_array(struct call *c, const char *kind, size_t total, json_t *array)
{
	call_answer_json(c, 200, json_pack("{s:o, s:o}", "total", json_count(total), kind, array));
}

void
list_answer(struct call *c, const char *kind, size_t n, list_one_fn *one)
{
	struct page page;
	if (!page_read(c, &page))
		return;
	json_t *array = json_array();
	for (size_t i = page.offset; array != NULL && i < n && i - page.offset < page.limit; i++) {
		if (json_array_append_new(array, one(c, i)) != 0) {
			json_decref(array);
			array = NULL;
		}
	}
	list_answer_array(c, kind, n, array);
}
