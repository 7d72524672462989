/*
 * slab: pages of a power of two, aligned to their size, so that an object's page is found by
 * masking its address.
 *
 *   | struct page | next[per_page] | object 0 | object 1 | ...
 *
 * The free list is kept in next[], not in the objects: a free object is never read or written, and
 * can be poisoned as a whole. Objects from n_touched on have never been handed out; they are zero
 * as the system mapped them.
 */
#include "base/slab.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include <sanitizer/asan_interface.h>
#include <sys/mman.h>

enum {
	PAGE_BYTES_MIN = 64 * 1024,
	PAGE_OBJECTS_MIN = 8,
	OBJECT_ALIGN = 16,
	NO_OBJECT = UINT16_MAX,
};

struct page {
	struct list link;
	uint16_t n_used, n_touched;
	uint16_t first_free;                   /* NO_OBJECT: none but the untouched ones */
	uint16_t next[];
};

static size_t
round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

/* Where the objects of a page begin. */
static size_t
objects_offset(size_t per_page)
{
	return round_up(sizeof(struct page) + per_page * sizeof(uint16_t), OBJECT_ALIGN);
}

void
slab_init(struct slab *s, size_t object_size, size_t head_size)
{
	assert(object_size > 0 && head_size <= object_size);
	*s = (struct slab){ .object_size = round_up(object_size, OBJECT_ALIGN), .head_size = head_size };
	s->page_bytes = PAGE_BYTES_MIN;
	while (s->page_bytes - objects_offset(PAGE_OBJECTS_MIN) < PAGE_OBJECTS_MIN * s->object_size)
		s->page_bytes *= 2;
	s->per_page = (s->page_bytes - sizeof(struct page)) / (s->object_size + sizeof(uint16_t));
	while (objects_offset(s->per_page) + s->per_page * s->object_size > s->page_bytes)
		s->per_page--;
	list_init(&s->partial);
	list_init(&s->full);
	list_init(&s->empty);
}

static uint8_t *
object_at(const struct slab *s, struct page *p, size_t i)
{
	return (uint8_t *)p + objects_offset(s->per_page) + i * s->object_size;
}

/* Maps twice as much as is needed and gives back what lies before and behind the aligned half. */
static struct page *
page_new(struct slab *s)
{
	size_t size = s->page_bytes;
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	uint8_t *raw = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (raw == MAP_FAILED)
		return NULL;
	size_t before = (size_t)(-(uintptr_t)raw & (size - 1));
	if (before > 0)
		munmap(raw, before);
	munmap(raw + before + size, size - before);
	struct page *p = (struct page *)(void *)(raw + before);
	p->first_free = NO_OBJECT;
	list_init(&p->link);
	ASAN_POISON_MEMORY_REGION(object_at(s, p, 0), s->per_page * s->object_size);
	s->n_total += s->per_page;
	return p;
}

static void
page_free(struct slab *s, struct page *p)
{
	list_remove(&p->link);
	s->n_total -= s->per_page;
	/* The addresses may be mapped again by others, who know of no poison. */
	ASAN_UNPOISON_MEMORY_REGION(p, s->page_bytes);
	munmap(p, s->page_bytes);
}

static struct page *
page_with_room(struct slab *s)
{
	if (!list_empty(&s->partial))
		return LIST_OBJECT(s->partial.next, struct page, link);
	if (!list_empty(&s->empty))
		return LIST_OBJECT(s->empty.next, struct page, link);
	return page_new(s);
}

/* Puts the page into the list that its number of used objects asks for. */
static void
page_sort(struct slab *s, struct page *p)
{
	struct list *to = &s->partial;
	if (p->n_used == 0)
		to = &s->empty;
	else if (p->n_used == s->per_page)
		to = &s->full;
	list_remove(&p->link);
	list_insert_before(to->next, &p->link);
}

void *
slab_take(struct slab *s)
{
	struct page *p = page_with_room(s);
	if (p == NULL)
		return NULL;
	bool touched = p->first_free != NO_OBJECT;
	size_t i = touched ? p->first_free : p->n_touched;
	uint8_t *object = object_at(s, p, i);
	ASAN_UNPOISON_MEMORY_REGION(object, s->object_size);
	if (touched) {
		p->first_free = p->next[i];
		memset(object, 0, s->head_size);
	} else {
		p->n_touched++;
	}
	p->n_used++;
	s->n_used++;
	if (p->n_used == 1 || p->n_used == s->per_page)
		page_sort(s, p);
	return object;
}

/* Gives empty pages back while enough objects would still be free with one page less. */
static void
shrink(struct slab *s)
{
	while (!list_empty(&s->empty)) {
		size_t others = s->n_total - s->per_page;
		size_t free_objects = others > s->n_used ? others - s->n_used : 0;
		if (free_objects * 4 <= others || free_objects * s->object_size <= SLAB_SPARE_BYTES)
			break;
		page_free(s, LIST_OBJECT(s->empty.next, struct page, link));
	}
}

void
slab_give_back(struct slab *s, void *object)
{
	if (object == NULL)
		return;
	struct page *p = (struct page *)((uintptr_t)object & ~(uintptr_t)(s->page_bytes - 1));
	/* 32 bits are enough, and divide in half the time. */
	size_t i = (uint32_t)((uint8_t *)object - object_at(s, p, 0)) / (uint32_t)s->object_size;
	assert(object_at(s, p, i) == object && i < p->n_touched && p->n_used > 0);
	ASAN_POISON_MEMORY_REGION(object, s->object_size);
	p->next[i] = p->first_free;
	p->first_free = (uint16_t)i;
	bool was_full = p->n_used == s->per_page;
	p->n_used--;
	s->n_used--;
	if (was_full || p->n_used == 0)
		page_sort(s, p);
	shrink(s);
}

void
slab_trim(struct slab *s)
{
	while (!list_empty(&s->empty))
		page_free(s, LIST_OBJECT(s->empty.next, struct page, link));
}

size_t
slab_bytes(const struct slab *s)
{
	return s->n_total / s->per_page * s->page_bytes;
}

void
slab_free(struct slab *s)
{
	assert(s->n_used == 0 && list_empty(&s->partial) && list_empty(&s->full));
	slab_trim(s);
}
