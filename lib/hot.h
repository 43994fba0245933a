/* SPDX-License-Identifier: MIT */
/*
 * hot.h - which size classes are served by slabs.
 *
 * The hot test costs the fast path nothing: a cold class has an empty list, so
 * only the slow path ever asks.
 */
#ifndef OSMEM_HOT_H
#define OSMEM_HOT_H

#include "report.h"
#include "thread.h"

/*
 * Counts the request, and serves it from a slab if its class is hot. NULL: the
 * block heap or a mapping serves it. No lock.
 */
OSMEM_FN void *osmem_hot_alloc(size_t size, size_t alignment);

/* The same, not counted, for a size up to OSMEM_CLASS_LARGEST. */
OSMEM_FN void *osmem_hot_refill(size_t size);

/*
 * The slot for size bytes at alignment, 0 for any, if its class is hot; 0 when
 * no slot is for that. No lock.
 */
OSMEM_FN size_t osmem_hot_size(size_t size, size_t alignment);

/* Larger slots may end in pages that nobody has touched. */
enum { OSMEM_HOT_CLEARED = 4096 };

static inline void *osmem_hot_none(size_t size)
{
	(void)size;
	return NULL;
}

/* The hot path for front ends that do more: a slot for size bytes, or NULL. */
static inline void *osmem_hot_small(size_t size)
{
	return osmem_thread_alloc(size, osmem_hot_none);
}

/*
 * What calloc clears of a slot for size bytes: all that malloc_usable_size()
 * says, as programs may use it, but where that could cost a page. By the size,
 * which is known before the slot.
 */
static inline size_t osmem_hot_clears(size_t size)
{
	size_t all = osmem_class_round(size);

	return all <= OSMEM_HOT_CLEARED ? all : size;
}

/* The same for sizes that the hot path does not know. */
static inline void *osmem_hot_large(size_t size)
{
	struct osmem_thread *t = osmem_thread_self;
	void ***top;
	uintptr_t *slot;

	if (size - 1 >= OSMEM_CLASS_LARGEST)
		return NULL;
	top = osmem_thread_top(t, osmem_class_of(size));
	slot = **top;
	if (!osmem_thread_is_marked(t, slot))
		return NULL;
	slot[1] = 0;
	--*top;
	return slot;
}

/* The same for a slot at a multiple of alignment. */
static inline void *osmem_hot_aligned(size_t size, size_t alignment)
{
	if (alignment > OSMEM_UNIT)
		return NULL;
	return osmem_hot_small(osmem_class_aligned(size, alignment));
}

/* The same where the slab may have slots that are gone. */
OSMEM_FN size_t osmem_hot_usable_torn(const struct osmem_slab *s,
				      const void *ptr);

/* The size of a live slot, anybody's; 0 when it takes more to know. */
static inline size_t osmem_hot_usable(const void *ptr)
{
	const struct osmem_thread *t = osmem_thread_self;
	size_t offset = (uintptr_t)ptr - t->base;
	const struct osmem_slab *s;
	uintptr_t owner;

	if (unlikely(offset >= t->limit))
		return 0;
	s = osmem_slab_headed(t->heads[offset >> OSMEM_UNIT_SHIFT]);
	owner = atomic_load_explicit(&s->owner, memory_order_relaxed);
	if (unlikely(owner == 0 || (owner & OSMEM_SLAB_TORN) != 0))
		return osmem_hot_usable_torn(s, ptr);
	if (unlikely(!osmem_slab_is_slot(s, ptr)) ||
	    unlikely(osmem_thread_is_marked(t, ptr)))
		return 0;
	return s->size;
}

/*
 * Whether a block stays where it is when it becomes size bytes: its slot has
 * them, and not much too much. Never for 0.
 */
static inline bool osmem_hot_fits(size_t slot, size_t size)
{
	return size - 1 < slot && size >= slot / 2;
}

/* Above so many bytes the pages that a slot has too much are given back. */
#define OSMEM_HOT_FAR ((size_t)4 << 20)

static inline bool osmem_hot_keeps(const void *ptr, size_t size)
{
	size_t slot = osmem_hot_usable(ptr);

	return slot <= OSMEM_HOT_FAR && osmem_hot_fits(slot, size);
}

/*
 * Whether size bytes may have been asked for of a slot, which there is: as
 * above, in one comparison. The smallest ones serve all up to their ends.
 */
static inline bool osmem_hot_was_for(size_t slot, size_t size)
{
	return likely(slot - size <= slot / 2) ||
	       (size - 1 < 7 && osmem_hot_fits(slot, 8));
}

/* As osmem_thread_free, for who knows the size. */
static inline __attribute__((always_inline)) bool
osmem_hot_free_sized(void *ptr, size_t size)
{
	return osmem_thread_free_if(ptr, osmem_hot_was_for, size);
}

/*
 * The same for a located slot; if it is large, the pages at its end go back
 * when they are many.
 */
OSMEM_FN bool osmem_hot_stays(struct osmem_place place, size_t size);

/* What ptr is in the slabs; NOTHING when it is in none. No lock. */
OSMEM_FN struct osmem_place osmem_hot_locate(const void *ptr);

#endif
