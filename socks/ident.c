#include "socks/ident.h"

#include <stdio.h>
#include <string.h>

#include "base/endpoint.h"

size_t
ident_write_query(uint8_t *out, size_t cap, struct ident_ports ports)
{
	char text[IDENT_QUERY_MAX];
	size_t len = (size_t)snprintf(text, sizeof text, "%u, %u\r\n", (unsigned)ports.theirs,
				      (unsigned)ports.ours);
	if (len > cap)
		return 0;
	memcpy(out, text, len);
	return len;
}

/* A piece of the line, without the blanks around it. */
struct part {
	const char *text;
	size_t len;
};

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static struct part
trim(const char *text, size_t len)
{
	for (; len > 0 && is_blank(*text); len--)
		text++;
	while (len > 0 && is_blank(text[len - 1]))
		len--;
	return (struct part){text, len};
}

/* Takes what stands before the mark off the line. False: there is no mark. */
static bool
take_part(struct part *line, char mark, struct part *out)
{
	const char *end = memchr(line->text, mark, line->len);
	if (end == NULL)
		return false;
	size_t len = (size_t)(end - line->text);
	*out = trim(line->text, len);
	line->text += len + 1;
	line->len -= len + 1;
	return true;
}

static bool
is_port(struct part p, uint16_t want)
{
	uint16_t port;
	return endpoint_read_port(p.text, p.len, &port) && port == want;
}

static bool
is_word(struct part p, const char *word)
{
	return p.len == strlen(word) && strncasecmp(p.text, word, p.len) == 0;
}

/* False: this is no user id. One that none of ours can have (too long, with a blank) names nobody. */
static bool
keep_user(struct part p, struct ident_answer *answer)
{
	answer->found = p.len <= IDENT_USER_MAX;
	for (size_t i = 0; i < p.len; i++) {
		if (((unsigned char)p.text[i] < 0x20 && p.text[i] != '\t') || p.text[i] == 0x7f)
			return false;
		answer->found &= !is_blank(p.text[i]);
	}
	if (answer->found)
		memcpy(answer->user, p.text, p.len);
	return p.len > 0;
}

/* THEIRS , OURS : USERID : SYSTEM : USER   or   THEIRS , OURS : ERROR : WHY. A user id may hold
 * colons. */
static bool
read_line(struct part line, struct ident_ports ports, struct ident_answer *answer)
{
	struct part theirs, ours, kind, system;
	if (!take_part(&line, ',', &theirs) || !take_part(&line, ':', &ours) ||
	    !is_port(theirs, ports.theirs) || !is_port(ours, ports.ours) ||
	    !take_part(&line, ':', &kind))
		return false;
	answer->found = is_word(kind, "USERID");
	if (!answer->found)
		return is_word(kind, "ERROR");
	return take_part(&line, ':', &system) && keep_user(trim(line.text, line.len), answer);
}

enum parse_result
ident_parse_answer(const uint8_t *in, size_t len, struct ident_ports ports,
		   struct ident_answer *answer, size_t *used)
{
	size_t most = IDENT_LINE_MAX + 2; /* with CRLF */
	const uint8_t *end = memchr(in, '\n', len < most ? len : most);
	if (end == NULL)
		return len < most ? PARSE_MORE : PARSE_BAD;
	struct part line = {(const char *)in, (size_t)(end - in)};
	*used = line.len + 1;
	if (line.len > 0 && line.text[line.len - 1] == '\r')
		line.len--;
	if (line.len > IDENT_LINE_MAX)
		return PARSE_BAD;
	*answer = (struct ident_answer){.found = false};
	return read_line(line, ports, answer) ? PARSE_OK : PARSE_BAD;
}
