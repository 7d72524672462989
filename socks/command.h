/*
 * command, protocol, method: what a client asks for, in which protocol, and how it may prove who it
 * is, as plain values. The one header of this room that policy/ includes, since the policy's words
 * name these values.
 */
#ifndef SOCKS_COMMAND_H
#define SOCKS_COMMAND_H

enum socks_command {                   /* the values of RFC 1928 */
	SOCKS_CONNECT = 1,
	SOCKS_BIND = 2,
	SOCKS_UDP = 3,
	SOCKS_RESOLVE = 0xf0,          /* Tor's extensions: the address of a name, */
	SOCKS_RESOLVE_PTR = 0xf1,      /* the name of an address */
};

enum socks_protocol {
	PROTOCOL_NONE,
	PROTOCOL_SOCKS4,
	PROTOCOL_SOCKS4A,
	PROTOCOL_SOCKS5,
	PROTOCOL_HTTP,
	PROTOCOL_N
};

enum auth_method { AUTH_NONE = 1, AUTH_USERPASS = 2, AUTH_IDENT = 4, AUTH_GSSAPI = 8 };   /* bits */

/* What the messages of a GSS-API session are protected by, and the values of RFC 1961 section 4.3. */
enum gssapi_protection {
	GSSAPI_NONE = 0,               /* nothing is sealed: none of the RFC's, but in use */
	GSSAPI_INTEGRITY = 1,
	GSSAPI_CONFIDENTIALITY = 2,
	GSSAPI_SELECTIVE = 3,          /* each message as its sender likes; never in a policy */
};

/* A look-up: its answer is all that the client wants. */
#define SOCKS_IS_LOOK_UP(c) ((c) == SOCKS_RESOLVE || (c) == SOCKS_RESOLVE_PTR)
#define PROTOCOL_BIT(p) (1u << (p))

/* "connect", "bind", "udp", "resolve", "resolve_ptr"; others "unknown" */
const char *socks_command_text(enum socks_command c);
const char *socks_protocol_text(enum socks_protocol p);       /* "socks4", ...; NONE is "unknown" */

#endif
