/*
 * resolv_conf: see the header.
 */
#include "dns/resolv_conf.h"

#include "base/base.h"

#include <string.h>

enum { DNS_PORT = 53 };

size_t
resolv_conf_read(const char *text, struct endpoint *servers, size_t cap)
{
	static const char keyword[] = "nameserver", blanks[] = " \t\r";
	size_t n = 0;

	while (*text != '\0' && n < cap) {
		const char *end = text + strcspn(text, "\n");
		const char *value = text + sizeof keyword - 1;
		if (strncmp(text, keyword, sizeof keyword - 1) == 0 && strspn(value, blanks) > 0) {
			value += strspn(value, blanks);
			size_t len = strcspn(value, " \t\r\n;#");
			if (endpoint_set_host(&servers[n], value, len) == ENDPOINT_OK &&
			    endpoint_is_address(&servers[n]))
				servers[n++].port = DNS_PORT;
		}
		text = *end == '\n' ? end + 1 : end;
	}
	return n;
}
