/* SPDX-License-Identifier: MIT */
/*
 * stretch.c - the table of the heap's stretches, and how they grow.
 *
 * One set of (start, end) pairs, under the core's lock. Adjacent stretches
 * are one. Must never touch what lies in them.
 */
#include "stretch.h"

#include "die.h"
#include "index.h"
#include "options.h"
#include "print.h"
#include "sys.h"

#include <osmem.h>

static struct {
	struct osmem_index set;
	size_t bytes;
	unsigned long growths;
	bool malloc_is_ours;
	bool warned;
} stretches = { .set.vital = true };

OSMEM_VAR_DEFINED struct osmem_stretch_state osmem_stretch;

static struct osmem_key stretch_key(char *start, char *end)
{
	return (struct osmem_key){ (uintptr_t)start, (uintptr_t)end };
}

static struct osmem_stretch stretch_of(struct osmem_key key)
{
	return (struct osmem_stretch){ (char *)key.a, (char *)key.b };
}

bool osmem_stretch_search(const void *p)
{
	struct osmem_key key = { (uintptr_t)p, UINTPTR_MAX };

	if (!osmem_index_at_most(&stretches.set, key, &key) ||
	    (uintptr_t)p >= key.b)
		return false;
	osmem_stretch.found = stretch_of(key);
	return true;
}

bool osmem_stretch_above(const void *p, struct osmem_stretch *found)
{
	struct osmem_key key = { (uintptr_t)p, UINTPTR_MAX };

	if (!osmem_index_above(&stretches.set, key, &key))
		return false;
	*found = stretch_of(key);
	return true;
}

static void stretch_remove(struct osmem_stretch s)
{
	osmem_index_remove(&stretches.set, stretch_key(s.start, s.end));
	osmem_index_forgo();
	osmem_stretch.found = (struct osmem_stretch){ NULL, NULL };
	stretches.bytes -= (size_t)(s.end - s.start);
}

/* Adds space, joined with the stretches that it touches. */
static bool stretch_add(struct osmem_stretch s)
{
	struct osmem_stretch other;

	if (osmem_stretch_find(s.start - 1, &other)) {
		stretch_remove(other);
		s.start = other.start;
	}
	if (osmem_stretch_find(s.end, &other)) {
		stretch_remove(other);
		s.end = other.end;
	}
	if (!osmem_index_insert(&stretches.set, stretch_key(s.start, s.end)))
		return false;
	osmem_index_promise();
	stretches.bytes += (size_t)(s.end - s.start);
	return true;
}

void osmem_stretch_init(void)
{
	stretches.malloc_is_ours = osmem_sys_malloc_is_ours();
}

static void stretch_warn(void)
{
	if (!stretches.warned)
		osmem_print(2, "%s: break=always: libc's malloc and this "
			       "library both move the break, and sbrk has no "
			       "lock: with threads, one can overwrite the "
			       "other's memory\n",
			    OSMEM_NAME);
	stretches.warned = true;
}

bool osmem_stretch_may_break(void)
{
	bool safe;

	if (OSMEM_IS_REPLACEMENT || osmem_option(OSMEM_OPT_BREAK) ==
					    OS_BREAK_NEVER)
		return false;
	safe = (osmem_sys_break_is_safe_alone() && !osmem_sys_threaded()) ||
	       stretches.malloc_is_ours;
	if (!safe && osmem_option(OSMEM_OPT_BREAK) == OS_BREAK_ALWAYS) {
		stretch_warn();
		return true;
	}
	return safe;
}

bool osmem_stretch_at_break(void)
{
	return osmem_stretch.break_end != NULL && osmem_stretch_may_break() &&
	       osmem_sys_break() == osmem_stretch.break_end;
}

/* Whether the contract's exact steps are over. */
static bool stretch_in_chunks(void)
{
	int mode = osmem_option(OSMEM_OPT_MODE);
	int after = osmem_option(OSMEM_OPT_GROW_AFTER);

	return mode == OS_MODE_FAST ||
	       (mode == OS_MODE_AUTO &&
		stretches.growths >= (unsigned long)after);
}

/* An eighth of what there is, up to the end of a page; 0 for no chunk. */
static size_t stretch_break_chunk(const char *brk, size_t size)
{
	size_t chunk = stretches.bytes / 8;

	if (!stretch_in_chunks())
		return 0;
	if (chunk < OSMEM_PREALLOC)
		chunk = OSMEM_PREALLOC;
	if (chunk < size)
		chunk = size;
	return osmem_up((uintptr_t)brk + chunk, osmem_sys_page_size()) -
	       (uintptr_t)brk;
}

/* The chunk is a wish, *size a need; *size becomes what it was. */
static bool stretch_grow_break(char *brk, size_t *size, void **old)
{
	size_t chunk = stretch_break_chunk(brk, *size);

	if (chunk > *size &&
	    KEEP(osmem_sys_grow_break(chunk, old), "sbrk", chunk) == 0)
		*size = chunk;
	else if (DIE(osmem_sys_grow_break(*size, old), "sbrk", *size) != 0)
		return false;
	return true;
}

bool osmem_stretch_extend(size_t *size)
{
	void *old;

	if (!stretch_grow_break(osmem_stretch.break_end, size, &old))
		return false;
	/* Raced by somebody with break=always: that space is not adjacent. */
	if (old != osmem_stretch.break_end)
		return false;
	osmem_stretch.break_end += *size;
	stretches.growths++;
	return stretch_add((struct osmem_stretch){ old, (char *)old + *size });
}

bool osmem_stretch_new_at_break(size_t size, struct osmem_stretch *out)
{
	uintptr_t brk = (uintptr_t)osmem_sys_break();
	size_t padding = osmem_up(brk, OSMEM_ALIGN) - brk;
	void *old;

	size += padding;
	if (!stretch_grow_break((char *)brk, &size, &old))
		return false;
	out->start = (char *)old + padding;
	out->end = (char *)old + size;
	osmem_stretch.break_end = out->end;
	stretches.growths++;
	return stretch_add(*out);
}

/* A quarter of what there is, so that there are few stretches. */
static size_t stretch_chunk(size_t size)
{
	size_t chunk = stretches.bytes / 4;

	if (chunk < OSMEM_PREALLOC)
		chunk = OSMEM_PREALLOC;
	if (chunk < size)
		chunk = size;
	return osmem_up(chunk, osmem_sys_page_size());
}

bool osmem_stretch_new_mapped(size_t size, struct osmem_stretch *out)
{
	size_t least = osmem_up(size, osmem_sys_page_size());
	size_t chunk = stretch_chunk(size);
	void *start = NULL;

	/* The chunk is a wish, what was asked for a need. */
	while (chunk > least &&
	       KEEP(osmem_sys_map(chunk, &start), "mmap", chunk) != 0) {
		chunk = osmem_up(chunk / 4, osmem_sys_page_size());
		if (chunk < least)
			chunk = least;
	}
	if (start == NULL &&
	    DIE(osmem_sys_map(chunk, &start), "mmap", chunk) != 0)
		return false;
	out->start = start;
	out->end = out->start + chunk;
	stretches.growths++;
	if (stretch_add(*out))
		return true;
	KEEP(osmem_sys_unmap(start, chunk), "munmap", chunk);
	return false;
}

void osmem_stretch_cut(char *keep)
{
	struct osmem_stretch s;

	if (osmem_stretch_find(keep, &s)) {
		stretch_remove(s);
		s.end = keep;
		if (s.end > s.start)
			stretch_add(s);
	}
	while (osmem_stretch_above(keep, &s) &&
	       s.start < osmem_stretch.break_end)
		stretch_remove(s);
	osmem_stretch.break_end = osmem_stretch_find(keep - 1, &s) ? keep :
								     NULL;
}

size_t osmem_stretch_count(void)
{
	return stretches.set.count;
}

size_t osmem_stretch_bytes(void)
{
	return stretches.bytes;
}

unsigned long osmem_stretch_growths(void)
{
	return stretches.growths;
}

int osmem_stretch_check(void)
{
	struct osmem_key key = { 0, 0 };
	struct osmem_key next;
	size_t bytes = 0;
	int faults = osmem_index_check(&stretches.set);

	while (osmem_index_above(&stretches.set, key, &next)) {
		faults += next.a < key.b || next.b <= next.a;
		bytes += next.b - next.a;
		key = next;
	}
	return faults + (bytes != stretches.bytes);
}
