#include "base/idn.h"

#include <string.h>

#include <idn2.h>

/* The result is read as any name: what was mapped to a dot, a bracket or a digit is one. */
bool
idn_to_ascii(const char *name, struct endpoint *out)
{
	char *ascii = NULL;
	struct endpoint e = { .kind = ENDPOINT_NONE };
	if (idn2_to_ascii_8z(name, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK)
		return false;
	size_t len = strlen(ascii);
	bool fine = !idn_is_foreign(ascii, len) && endpoint_set_host(&e, ascii, len) == ENDPOINT_OK && e.kind == ENDPOINT_NAME;
	idn2_free(ascii);
	if (fine)
		*out = e;
	return fine;
}

const struct endpoint *
idn_known_form(const struct endpoint *e, struct endpoint *room)
{
	if (!idn_is_foreign(e->name, e->name_len) || !idn_to_ascii(e->name, room))
		return e;
	room->port = e->port;
	return room;
}
