/*
 * verdict: the one table from how a request ended to what each protocol says about it, and the ways
 * back from others' codes.
 */
#include "socks/verdict.h"

#include <assert.h>

#include "base/base.h"

static const struct verdict_row {
	const char *text;
	uint8_t socks5, socks4;
	uint16_t http;
	bool blames_upstream;
} rows[VERDICT_N] = {
	[VERDICT_GRANTED] = { "granted", 0x00, 90, 200, false },
	[VERDICT_REJECTED] = { "rejected by policy", 0x02, 91, 403, false },
	[VERDICT_MALFORMED] = { "malformed request", 0x01, 91, 400, false },
	[VERDICT_CUT_SHORT] = { "client left during the handshake", 0x01, 91, 400, false },
	[VERDICT_NO_PROTOCOL] = { "protocol not spoken here", 0x01, 91, 501, false },
	[VERDICT_COMMAND_UNKNOWN] = { "command not supported", 0x07, 91, 405, false },
	[VERDICT_ADDRESS_UNKNOWN] = { "address type not supported", 0x08, 91, 400, false },
	[VERDICT_NO_METHOD] = { "no acceptable authentication method", 0x01, 91, 407, false },
	[VERDICT_BAD_CREDENTIALS] = { "bad credentials", 0x01, 91, 407, false },
	[VERDICT_IDENT_UNREACHABLE] = { "identd unreachable", 0x02, 92, 403, false },
	[VERDICT_IDENT_DIFFERS] = { "identd names another user", 0x02, 93, 403, false },
	[VERDICT_NO_UPSTREAM] = { "no usable upstream", 0x01, 91, 503, false },
	[VERDICT_INTERNAL] = { "out of resources", 0x01, 91, 503, false },
	[VERDICT_NAME_UNKNOWN] = { "name does not exist", 0x04, 91, 502, false },
	[VERDICT_HOST_UNREACHABLE] = { "no route to host", 0x04, 91, 502, false },
	[VERDICT_NETWORK_UNREACHABLE] = { "network unreachable", 0x03, 91, 502, false },
	[VERDICT_REFUSED] = { "refused by destination", 0x05, 91, 502, false },
	[VERDICT_TIMEOUT] = { "no answer in time", 0x06, 91, 504, false },
	[VERDICT_UPSTREAM_FAILED] = { "upstream failed", 0x01, 91, 503, true },
	[VERDICT_UPSTREAM_GARBAGE] = { "upstream broke its protocol", 0x01, 91, 503, true },
	[VERDICT_UPSTREAM_AUTH] = { "upstream refused our credentials", 0x01, 91, 503, true },
	[VERDICT_UPSTREAM_REJECTED] = { "rejected by upstream", 0x02, 91, 403, false },
	[VERDICT_UPSTREAM_NO_COMMAND] = { "command not supported by upstream", 0x07, 91, 503,
	    false },
	[VERDICT_UPSTREAM_NO_ADDRESS] = { "address type not supported by upstream", 0x08, 91, 503,
	    false },
	[VERDICT_UPSTREAM_TLS] = { "TLS with upstream failed", 0x01, 91, 503, true },
};

static const struct verdict_row *
row(enum verdict v)
{
	assert((unsigned)v < VERDICT_N);
	return &rows[v];
}

const char *
verdict_text(enum verdict v)
{
	return row(v)->text;
}

uint8_t
verdict_to_socks5(enum verdict v)
{
	return row(v)->socks5;
}

uint8_t
verdict_to_socks4(enum verdict v)
{
	return row(v)->socks4;
}

uint16_t
verdict_to_http(enum verdict v)
{
	return row(v)->http;
}

bool
verdict_blames_upstream(enum verdict v)
{
	return row(v)->blames_upstream;
}

enum verdict
verdict_from_socks5(uint8_t rep)
{
	static const uint8_t verdicts[] = {                /* by REP */
		VERDICT_GRANTED,
		VERDICT_UPSTREAM_FAILED,
		VERDICT_UPSTREAM_REJECTED,
		VERDICT_NETWORK_UNREACHABLE,
		VERDICT_HOST_UNREACHABLE,
		VERDICT_REFUSED,
		VERDICT_TIMEOUT,
		VERDICT_UPSTREAM_NO_COMMAND,
		VERDICT_UPSTREAM_NO_ADDRESS,
	};
	return rep < ARRAY_LEN(verdicts) ? verdicts[rep] : VERDICT_UPSTREAM_FAILED;
}

enum verdict
verdict_from_socks4(uint8_t cd)
{
	return cd == 90 ? VERDICT_GRANTED : VERDICT_UPSTREAM_FAILED;
}

enum verdict
verdict_from_http(uint16_t status)
{
	if (status >= 200 && status <= 299)
		return VERDICT_GRANTED;
	switch (status) {
	case 403: return VERDICT_UPSTREAM_REJECTED;
	case 404: return VERDICT_HOST_UNREACHABLE;
	case 407: return VERDICT_UPSTREAM_AUTH;
	case 502: return VERDICT_HOST_UNREACHABLE;
	case 504: return VERDICT_TIMEOUT;
	default: return VERDICT_UPSTREAM_FAILED;
	}
}
