/*
 * answer: see the header. All reading goes through base/reader.h; a compression pointer must lead
 * strictly backwards, so that every name ends, and a chain of CNAMEs is cut after ANSWER_CHAIN_MAX
 * laps over the answer section.
 */
#include "dns/answer.h"

#include "base/reader.h"

#include <string.h>

enum {
	TYPE_A = 1,
	TYPE_CNAME = 5,
	TYPE_SOA = 6,
	TYPE_PTR = 12,
	TYPE_AAAA = 28,
	CLASS_IN = 1,
	FLAG_RESPONSE = 0x8000,
	RCODE_MASK = 0x000f,
	RCODE_OK = 0,
	RCODE_NO_NAME = 3,
	LABEL_MAX = 63,
	NAME_TEXT_MAX = 253,
};

/*
 * A name as on the wire, without compression, in lower case: labels with their lengths, so a dot in
 * a label is no border.
 */
struct wire_name {
	uint8_t bytes[255];
	uint8_t len;
};

struct wire_record {
	struct wire_name owner;
	uint16_t type, class;
	uint32_t ttl;
	struct reader data;                    /* the whole message, at the record's data */
	uint16_t data_len;
};

struct message {
	struct reader answers;                 /* standing at the first record of the section */
	unsigned n_answers, n_authorities;
	unsigned rcode;
};

uint16_t
record_type(enum record record)
{
	if (record == RECORD_PTR)
		return TYPE_PTR;
	return record == RECORD_A ? TYPE_A : TYPE_AAAA;
}

static uint8_t
lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

static bool
append_label(struct wire_name *name, const uint8_t *label, size_t len)
{
	if (name->len + 1 + len > sizeof name->bytes)
		return false;
	name->bytes[name->len++] = (uint8_t)len;
	for (size_t i = 0; i < len; i++)
		name->bytes[name->len++] = lower(label[i]);
	return true;
}

static bool
wire_from_text(struct wire_name *name, const char *text)
{
	name->len = 0;
	while (*text != '\0') {
		size_t len = strcspn(text, ".");
		if (len == 0 || len > LABEL_MAX || !append_label(name, (const uint8_t *)text, len))
			return false;
		text += len;
		if (*text == '.' && *++text == '\0')
			return false;
	}
	return name->len > 0 && append_label(name, NULL, 0);
}

bool
record_name_is_valid(const char *name)
{
	struct wire_name wire;
	return strlen(name) <= NAME_TEXT_MAX && strchr(name, '\\') == NULL &&
	       wire_from_text(&wire, name);
}

static bool
wire_equal(const struct wire_name *a, const struct wire_name *b)
{
	return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

/* RFC 1035 section 4.1.4. The reader ends up behind the name as it stands in the message. */
static bool
read_name(struct reader *r, struct wire_name *name)
{
	struct reader at = *r;
	size_t begin = at.at;                  /* of this run of labels; pointers lead before it */
	bool jumped = false;

	name->len = 0;
	for (;;) {
		uint8_t len = read_u8(&at);
		if ((len & 0xc0) == 0xc0) {
			size_t target = (size_t)(len & 0x3f) << 8 | read_u8(&at);
			if (at.truncated || target >= begin)
				return false;
			if (!jumped)
				r->at = at.at;
			jumped = true;
			at.at = begin = target;
			continue;
		}
		const uint8_t *label = read_bytes(&at, len);
		if (label == NULL || len > LABEL_MAX || !append_label(name, label, len))
			return false;
		if (len == 0)
			break;
	}
	if (!jumped)
		r->at = at.at;
	return true;
}

static uint32_t
read_u32(struct reader *r)
{
	uint32_t high = read_u16(r);
	return high << 16 | read_u16(r);
}

/* RFC 2181 section 8: a TTL with the top bit set counts as 0. */
static uint32_t
read_ttl(struct reader *r)
{
	uint32_t ttl = read_u32(r);
	return ttl > INT32_MAX ? 0 : ttl;
}

static bool
read_record(struct reader *r, struct wire_record *rec)
{
	if (!read_name(r, &rec->owner))
		return false;
	rec->type = read_u16(r);
	rec->class = read_u16(r);
	rec->ttl = read_ttl(r);
	rec->data_len = read_u16(r);
	rec->data = *r;
	return read_bytes(r, rec->data_len) != NULL;
}

static bool
read_header(struct reader *r, struct message *m)
{
	read_u16(r);                           /* id: c-ares has compared it */
	uint16_t flags = read_u16(r);
	uint16_t questions = read_u16(r);
	m->n_answers = read_u16(r);
	m->n_authorities = read_u16(r);
	read_u16(r);
	m->rcode = flags & RCODE_MASK;
	return !r->truncated && (flags & FLAG_RESPONSE) != 0 && questions == 1;
}

/* The question must be ours: the answer is cached under its name. */
static bool
read_question(struct reader *r, const struct wire_name *name, uint16_t type)
{
	struct wire_name asked;
	if (!read_name(r, &asked))
		return false;
	uint16_t asked_type = read_u16(r);
	uint16_t asked_class = read_u16(r);
	return !r->truncated && wire_equal(&asked, name) && asked_type == type &&
	       asked_class == CLASS_IN;
}

/* A host's name as text. False: it can't be one, whatever its bytes. */
static bool
text_from_wire(const struct wire_name *name, char *out, size_t cap)
{
	struct endpoint host;
	size_t at = 0;
	for (size_t i = 0; name->bytes[i] != 0; i += 1u + name->bytes[i]) {
		size_t len = name->bytes[i];
		if (at + len + 1 >= cap || memchr(&name->bytes[i + 1], '.', len) != NULL)
			return false;
		memcpy(out + at, &name->bytes[i + 1], len);
		at += len;
		out[at++] = '.';
	}
	if (at < 2)
		return false;
	out[at - 1] = '\0';
	return endpoint_set_host(&host, out, at - 1) == ENDPOINT_OK && host.kind == ENDPOINT_NAME;
}

static void
take_target(struct answer *a, const struct wire_record *rec)
{
	struct reader data = rec->data;
	struct wire_name name;
	char text[sizeof a->target];
	if (a->n > 0 || !read_name(&data, &name) || !text_from_wire(&name, text, sizeof text))
		return;
	memcpy(a->target, text, sizeof text);
	a->n = 1;
}

static void
take_address(struct answer *a, const struct wire_record *rec)
{
	struct reader data = rec->data;
	size_t want = rec->type == TYPE_A ? 4 : 16;
	if (rec->data_len != want || a->n == ANSWER_ADDRS_MAX)
		return;
	const uint8_t *bytes = read_bytes(&data, want);
	a->addrs[a->n++] = rec->type == TYPE_A ? dns_address_v4(bytes) : dns_address_v6(bytes);
}

enum lap { LAP_BAD, LAP_END, LAP_ON };

/*
 * One lap over the answer section: takes the addresses of *owner, or else steps to what its CNAME
 * names (LAP_ON). *ttl only ever gets smaller.
 */
static enum lap
walk_answers(const struct message *m, struct wire_name *owner, uint16_t type, struct answer *a,
	     uint32_t *ttl)
{
	struct reader r = m->answers;
	struct wire_record rec;
	struct wire_name target;
	bool alias = false;
	uint32_t alias_ttl = 0;

	for (unsigned i = 0; i < m->n_answers; i++) {
		if (!read_record(&r, &rec))
			return LAP_BAD;
		if (rec.class != CLASS_IN || !wire_equal(&rec.owner, owner))
			continue;
		if (rec.type == type) {
			(type == TYPE_PTR ? take_target : take_address)(a, &rec);
			*ttl = rec.ttl < *ttl ? rec.ttl : *ttl;
		} else if (rec.type == TYPE_CNAME && !alias) {
			if (!read_name(&rec.data, &target))
				return LAP_BAD;
			alias = true;
			alias_ttl = rec.ttl;
		}
	}
	if (a->n > 0 || !alias)
		return LAP_END;
	*ttl = alias_ttl < *ttl ? alias_ttl : *ttl;
	*owner = target;
	return LAP_ON;
}

/*
 * RFC 2308 section 5: the smaller of the SOA's own TTL and its minimum field. False: what stands
 * there is no record.
 */
static bool
read_negative_ttl(const struct message *m, uint32_t *ttl)
{
	struct reader r = m->answers;
	struct wire_record rec;
	struct wire_name skipped;

	*ttl = ANSWER_TTL_NONE;
	for (unsigned i = 0; i < m->n_answers + m->n_authorities; i++) {
		if (!read_record(&r, &rec))
			return false;
		if (i < m->n_answers || rec.type != TYPE_SOA || rec.class != CLASS_IN)
			continue;
		if (!read_name(&rec.data, &skipped) || !read_name(&rec.data, &skipped) ||
		    read_bytes(&rec.data, 16) == NULL)
			return false;
		uint32_t minimum = read_ttl(&rec.data);
		if (rec.data.truncated)
			return false;
		*ttl = rec.ttl < minimum ? rec.ttl : minimum;
		return true;
	}
	return true;
}

static bool
read_message(struct answer *a, struct reader *r, const char *name, uint16_t type)
{
	struct message m;
	struct wire_name owner;
	uint32_t ttl = ANSWER_TTL_NONE, negative_ttl;
	enum lap lap = LAP_ON;

	if (!wire_from_text(&owner, name) || !read_header(r, &m) || !read_question(r, &owner, type))
		return false;
	if (m.rcode != RCODE_OK && m.rcode != RCODE_NO_NAME)
		return false;
	m.answers = *r;
	for (unsigned i = 0; i <= ANSWER_CHAIN_MAX && lap == LAP_ON; i++)
		lap = walk_answers(&m, &owner, type, a, &ttl);
	if (lap != LAP_END)
		return false;
	if (a->n > 0 && m.rcode == RCODE_OK) {
		a->kind = ANSWER_ADDRESSES;
		a->ttl_s = ttl;
		return true;
	}
	if (!read_negative_ttl(&m, &negative_ttl))
		return false;
	a->kind = m.rcode == RCODE_OK ? ANSWER_NO_DATA : ANSWER_NO_NAME;
	a->n = 0;
	a->ttl_s = negative_ttl < ttl ? negative_ttl : ttl;
	return true;
}

void
answer_read(struct answer *a, const void *message, size_t len, const char *name, enum record record)
{
	struct reader r = reader_of(message, len);
	a->kind = ANSWER_FAILED;
	a->n = 0;
	a->ttl_s = 0;
	a->target[0] = '\0';
	if (read_message(a, &r, name, record_type(record)))
		return;
	a->kind = ANSWER_FAILED;
	a->n = 0;
	a->ttl_s = 0;
}
