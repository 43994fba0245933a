/* SPDX-License-Identifier: MIT */
/*
 * hard_look.c - locating, walking, counting and checking the hardened
 * allocator's blocks. The core's lock guards the mappings; the slots are
 * looked at as they are, while others use them.
 */
#include "hard_state.h"

#include "print.h"

/* --- zeros --- */

static bool look_bytes_are_zero(const char *p, size_t size)
{
	char any = 0;

	while (size-- > 0)
		any |= *p++;
	return any == 0;
}

/* Sixteen bytes, aligned or not. */
typedef uint64_t look_pair
	__attribute__((vector_size(16), may_alias, aligned(1)));

/* memcmp of libc is slower, however wide its instructions are. */
bool osmem_hard_is_zero(const char *p, size_t size)
{
	look_pair any = { 0, 0 };
	const look_pair *v;
	const char *last;

	if (size < 8)
		return look_bytes_are_zero(p, size);
	if (size < 16)
		return (hard_load(p) | hard_load(p + size - 8)) == 0;
	last = p + size - 16;
	for (; last - p >= 48 && (any[0] | any[1]) == 0; p += 64) {
		v = (const void *)p;
		any = (v[0] | v[1]) | (v[2] | v[3]);
	}
	for (; p < last; p += 16) {
		v = (const void *)p;
		any |= *v;
	}
	v = (const void *)last;
	any |= *v;
	return (any[0] | any[1]) == 0;
}

/* --- what a pointer is --- */

static enum osmem_found look_found(uint32_t word)
{
	return word & HARD_LIVE ? OSMEM_FOUND_LIVE : OSMEM_FOUND_FREE;
}

struct osmem_place osmem_hard_locate_slot(const struct hard_slab *s,
					   const void *ptr)
{
	struct osmem_place place = { .found = OSMEM_FOUND_INSIDE,
				     .slot_size = s->size };
	bool starts;
	uint32_t index;
	uint32_t word;

	starts = hard_index(s, ptr, &index);
	if (index >= atomic_load_explicit(&s->carved, memory_order_relaxed)) {
		place.found = OSMEM_FOUND_NOTHING;
		return place;
	}
	place.slot = s->start + (size_t)index * s->size;
	word = atomic_load_explicit(&s->words[index], memory_order_acquire);
	if (starts)
		place.found = look_found(word);
	if (word & HARD_LIVE)
		place.slot_size = word & HARD_SIZE;
	else
		place.slot_free = true;
	return place;
}

struct osmem_place osmem_hard_locate_small(const void *ptr)
{
	const struct osmem_place nowhere = { .found = OSMEM_FOUND_NOTHING };
	struct hard_slab *s = hard_slab_of(ptr);

	return s != NULL ? osmem_hard_locate_slot(s, ptr) : nowhere;
}

struct osmem_place osmem_hard_locate(const void *ptr, bool locked)
{
	struct osmem_place place = osmem_hard_locate_small(ptr);

	if (place.found != OSMEM_FOUND_NOTHING || !osmem_hard_is_used())
		return place;
	if (!locked)
		osmem_lock(&osmem_core_lock);
	place = osmem_hard_map_locate(ptr);
	if (!locked)
		osmem_unlock(&osmem_core_lock);
	return place;
}

bool osmem_hard_is_aligned(struct osmem_place place, size_t alignment)
{
	struct hard_slab *s = hard_slab_of(place.slot);
	uint32_t index;
	uint32_t word;

	if (alignment < 16)
		alignment = 16;
	if (s == NULL)
		return osmem_hard_map_is_aligned(place.slot, alignment);
	hard_index(s, place.slot, &index);
	word = atomic_load_explicit(&s->words[index], memory_order_relaxed);
	return (word & HARD_LOG) == hard_log(alignment);
}

/* --- all blocks --- */

/* A slot that was ever handed out, at or above p; false in the last slab. */
static bool look_slot(const void *p, const struct hard_slab **slab,
		      uint32_t *index)
{
	struct hard_region *r = &osmem_hard_region;
	size_t units = atomic_load_explicit(&r->limit, memory_order_acquire) >>
		       HARD_UNIT_SHIFT;
	uintptr_t offset = (uintptr_t)p - (uintptr_t)r->base;
	size_t i = 0;

	if (p != NULL && (const char *)p > r->base)
		i = offset >> HARD_UNIT_SHIFT;
	for (; i < units; i++) {
		struct hard_slab *s = atomic_load_explicit(
			&r->records[i].head, memory_order_acquire);

		*index = 0;
		if (s == NULL)
			continue;
		if ((const char *)p > s->start)
			*index = (uint32_t)(((const char *)p - s->start +
					     s->size - 1) /
					    s->size);
		*slab = s;
		if (*index < atomic_load_explicit(&s->carved,
						  memory_order_relaxed))
			return true;
	}
	return false;
}

static bool look_slot_above(const void *p, struct os_block *block)
{
	const struct hard_slab *s;
	uint32_t index;
	uint32_t word;

	if (!look_slot(p == NULL ? NULL : (const char *)p + 1, &s, &index))
		return false;
	word = atomic_load_explicit(&s->words[index], memory_order_relaxed);
	block->ptr = s->start + (size_t)index * s->size;
	block->size = word & HARD_LIVE ? word & HARD_SIZE : s->size;
	block->state = word & HARD_LIVE ? OS_BLOCK_USED : OS_BLOCK_FREE;
	return true;
}

bool osmem_hard_above(const void *p, struct os_block *block)
{
	struct os_block map;
	bool any;

	if (!osmem_hard_is_used())
		return false;
	any = look_slot_above(p, block);
	if (osmem_hard_map_above(p, &map) && (!any || map.ptr < block->ptr)) {
		*block = map;
		any = true;
	}
	return any;
}

static int look_fault(const void *p)
{
	osmem_print(2, "%s: heap check: block %p: it, or what is behind it, "
		       "was overwritten\n",
		    OSMEM_NAME, p);
	return 1;
}

int osmem_hard_check(void)
{
	const struct hard_slab *s;
	struct os_block map = { .ptr = NULL };
	const char *p = NULL;
	uint32_t index;
	int faults = 0;

	if (!osmem_hard_is_used())
		return 0;
	for (; look_slot(p, &s, &index); p += s->size) {
		p = s->start + (size_t)index * s->size;
		if (!osmem_hard_is_whole(s, index))
			faults += look_fault(p);
	}
	while (osmem_hard_map_above(map.ptr, &map))
		if (!osmem_hard_map_holds(map.ptr))
			faults += look_fault(map.ptr);
	return faults;
}

struct osmem_hard_totals osmem_hard_totals(void)
{
	struct hard_region *r = &osmem_hard_region;
	struct osmem_hard_totals totals = {
		.refused = atomic_load_explicit(&r->refused,
						memory_order_relaxed),
		.unguarded = atomic_load_explicit(&r->unguarded,
						  memory_order_relaxed),
	};

	if (!osmem_hard_is_used())
		return totals;
	totals.reserved = r->reserved;
	totals.slab_bytes = atomic_load_explicit(&r->bytes,
						 memory_order_relaxed);
	osmem_hard_map_totals(&totals);
	return totals;
}
