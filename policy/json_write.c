/*
 * json_write: see json_write.h. Recursion is bounded by the depth of what json_scan takes.
 */
#include "policy/json_write.h"

#include <string.h>

void
json_write_string(FILE *out, const char *text, size_t len)
{
	static const char escapes[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
	fputc('"', out);
	for (size_t i = 0; i < len; i++) {
		const char *known = text[i] != '\0' ? strchr(escapes, text[i]) : NULL;
		if (known != NULL)
			fprintf(out, "\\%c", names[known - escapes]);
		else if ((unsigned char)text[i] < 0x20)
			fprintf(out, "\\u%04x", (unsigned char)text[i]);
		else
			fputc(text[i], out);
	}
	fputc('"', out);
}

struct writer {
	FILE *out;
	json_write_fn *instead;
	void *arg;
};

static void write_value(struct writer *w, const struct json_value *v, int indent);

static void
write_children(struct writer *w, const struct json_value *v, int indent, const char *brackets)
{
	fputc(brackets[0], w->out);
	for (const struct json_value *e = v->first; e != NULL; e = e->next) {
		fprintf(w->out, "%s\n%*s", e == v->first ? "" : ",", indent + 2, "");
		if (e->key != NULL) {
			json_write_string(w->out, e->key, strlen(e->key));
			fputs(": ", w->out);
		}
		write_value(w, e, indent + 2);
	}
	if (v->first != NULL)
		fprintf(w->out, "\n%*s", indent, "");
	fputc(brackets[1], w->out);
}

static void
write_value(struct writer *w, const struct json_value *v, int indent)
{
	if (w->instead != NULL && w->instead(w->out, v, w->arg))
		return;
	switch ((enum scan_type)v->type) {
	case SCAN_NULL:
		fputs("null", w->out);
		break;
	case SCAN_BOOL:
		fputs(v->truth ? "true" : "false", w->out);
		break;
	case SCAN_NUMBER:
		fputs(v->text, w->out);
		break;
	case SCAN_STRING:
		json_write_string(w->out, v->text, v->text_len);
		break;
	case SCAN_ARRAY:
		write_children(w, v, indent, "[]");
		break;
	case SCAN_OBJECT:
		write_children(w, v, indent, "{}");
		break;
	}
}

void
json_write(FILE *out, const struct json_value *v, json_write_fn *instead, void *arg)
{
	struct writer w = { out, instead, arg };
	write_value(&w, v, 0);
	if (v->parent == NULL)
		fputc('\n', out);
}
