/* SPDX-License-Identifier: MIT */
/*
 * hot.c - which classes are hot, and opening the slabs for the first of them.
 *
 * Must never serve a cold class from a slab.
 */
#include "hot.h"

#include "lock.h"
#include "options.h"
#include "sys.h"

#include <osmem.h>

static atomic_bool hot_classes[OSMEM_CLASSES];

/*
 * Requests of each class while it was cold in mode auto; none is counted twice
 * or lost. Relaxed: the numbers guard nothing, hot_classes does. It does not
 * wrap, as nothing is counted once the class is due.
 */
static atomic_uint hot_requests[OSMEM_CLASSES];

/* The class whose slots are aligned enough; OSMEM_CLASSES for none. */
static unsigned int hot_class(size_t size, size_t alignment)
{
	size = osmem_class_aligned(size, alignment);
	return size <= OSMEM_CLASS_LARGEST && alignment <= OSMEM_UNIT ?
		       osmem_class_of(size) :
		       OSMEM_CLASSES;
}

/* Counts a request of a cold class, which becomes hot with the last one. */
static bool hot_count(unsigned int class)
{
	atomic_uint *requests = &hot_requests[class];
	unsigned int after = (unsigned int)osmem_option(OSMEM_OPT_HOT_AFTER);

	return atomic_load_explicit(requests, memory_order_relaxed) >= after ||
	       atomic_fetch_add_explicit(requests, 1, memory_order_relaxed) +
			       1 >=
		       after;
}

/* Heap checks want to see every operation and keep the door closed. */
static bool hot_is_due(unsigned int class)
{
	int mode = osmem_option(OSMEM_OPT_MODE);

	return mode != OS_MODE_EXACT && osmem_option(OSMEM_OPT_CHECK) == 0 &&
	       (mode == OS_MODE_FAST || hot_count(class));
}

static OSMEM_COLD bool hot_turn(unsigned int class)
{
	bool open;

	osmem_lock(&osmem_core_lock);
	open = osmem_thread_open();
	osmem_unlock(&osmem_core_lock);
	if (open)
		atomic_store_explicit(&hot_classes[class], true,
				      memory_order_release);
	return open;
}

static bool hot_was_turned(unsigned int class)
{
	/* Pairs with the release in hot_turn: the region is open. */
	return likely(atomic_load_explicit(&hot_classes[class],
					   memory_order_acquire));
}

static bool hot_is_hot(unsigned int class)
{
	return hot_was_turned(class) ||
	       (hot_is_due(class) && hot_turn(class));
}

void *osmem_hot_alloc(size_t size, size_t alignment)
{
	unsigned int class = hot_class(size, alignment);

	if (class == OSMEM_CLASSES || !hot_is_hot(class))
		return NULL;
	return osmem_thread_refill(class);
}

void *osmem_hot_refill(size_t size)
{
	unsigned int class = osmem_class_of(size);

	return hot_was_turned(class) ? osmem_thread_refill(class) : NULL;
}

size_t osmem_hot_size(size_t size, size_t alignment)
{
	unsigned int class = hot_class(size, alignment != 0 ? alignment : 1);

	return class < OSMEM_CLASSES ? osmem_class_size(class) : 0;
}

/* While the door is shut all slabs look torn. */
size_t osmem_hot_usable_torn(const struct osmem_slab *s, const void *ptr)
{
	if (atomic_load_explicit(&osmem_slab_shut, memory_order_relaxed) ||
	    !osmem_slab_is_slot(s, ptr) || osmem_slab_is_free(s, ptr))
		return 0;
	return s->size;
}

/* From this part of a large slot on its pages are many. */
enum { HOT_MANY = 8 };

bool osmem_hot_stays(struct osmem_place place, size_t size)
{
	uintptr_t end = (uintptr_t)place.slot + place.slot_size;
	uintptr_t start = osmem_up((uintptr_t)place.slot + size,
				   osmem_sys_page_size());

	if (!osmem_hot_fits(place.slot_size, size))
		return false;
	if (place.slot_size > OSMEM_HOT_FAR &&
	    place.slot_size - size >= place.slot_size / HOT_MANY)
		osmem_region_purge_bytes((void *)start, end - start);
	return true;
}

struct osmem_place osmem_hot_locate(const void *ptr)
{
	struct osmem_place place = { .found = OSMEM_FOUND_NOTHING };
	struct osmem_slab *s = osmem_slab_of(ptr);
	size_t offset;

	if (s == NULL)
		return place;
	place.slot = ptr;
	place.slot_size = s->size;
	if (likely(osmem_slab_is_slot(s, ptr))) {
		place.found = osmem_slab_is_free(s, ptr) ? OSMEM_FOUND_FREE :
							   OSMEM_FOUND_LIVE;
		return place;
	}
	offset = (uintptr_t)ptr - (uintptr_t)s->start;
	place.slot = s->start + offset / s->size * s->size;
	place.found = OSMEM_FOUND_INSIDE;
	place.slot_free = !osmem_slab_is_slot(s, place.slot) ||
			  osmem_slab_is_free(s, place.slot);
	/* It was a slot before its memory went. */
	if (place.slot == ptr && osmem_slab_absent(s) != 0)
		place.found = OSMEM_FOUND_FREE;
	return place;
}
