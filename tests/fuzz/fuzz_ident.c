/*
 * fuzz_ident: any answer at all. What is found does not depend on how the bytes were cut, and a
 * user id has no byte that would not be one in a log or a rule.
 */
#include "socks/ident.h"

#include "tests/fuzz/fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct ident_ports ports = {.theirs = 6193, .ours = 1080};
	struct ident_answer whole, cut;
	size_t used = 0, used_cut = 0, len = 0;
	enum parse_result want = ident_parse_answer(data, size, ports, &whole, &used), got;
	do
		got = ident_parse_answer(data, len, ports, &cut, &used_cut);
	while (got == PARSE_MORE && len++ < size);
	must(got == want);
	if (want == PARSE_MORE)
		must(size < IDENT_LINE_MAX + 2);
	if (want != PARSE_OK)
		return 0;
	must(used == used_cut && used <= size && whole.found == cut.found &&
	     strcmp(whole.user, cut.user) == 0);
	must(whole.found == (whole.user[0] != '\0') && strlen(whole.user) <= IDENT_USER_MAX);
	for (const char *p = whole.user; *p != '\0'; p++)
		must((unsigned char)*p > 0x20 && *p != 0x7f);
	return 0;
}
