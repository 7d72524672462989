/*
 * command: the words of commands and protocols, as policies, logs and the API spell them.
 */
#include "socks/command.h"

#include "base/base.h"

const char *
socks_command_text(enum socks_command c)
{
	static const char *const texts[] = {
		[SOCKS_CONNECT] = "connect",
		[SOCKS_BIND] = "bind",
		[SOCKS_UDP] = "udp",
	};
	if (SOCKS_IS_LOOK_UP(c))
		return c == SOCKS_RESOLVE ? "resolve" : "resolve_ptr";
	if ((size_t)c >= ARRAY_LEN(texts) || texts[c] == NULL)
		return "unknown";
	return texts[c];
}

const char *
socks_protocol_text(enum socks_protocol p)
{
	static const char *const texts[PROTOCOL_N] = {
		[PROTOCOL_NONE] = "unknown",
		[PROTOCOL_SOCKS4] = "socks4",
		[PROTOCOL_SOCKS4A] = "socks4a",
		[PROTOCOL_SOCKS5] = "socks5",
		[PROTOCOL_HTTP] = "http",
	};
	return (size_t)p < PROTOCOL_N ? texts[p] : texts[PROTOCOL_NONE];
}
