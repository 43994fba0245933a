/* SPDX-License-Identifier: MIT */
/*
 * nested.h - what serves a signal handler that has interrupted the allocator.
 *
 * The heap and the slabs may be in the middle of a change and their locks the
 * interrupted thread's own, so such a handler gets blocks of a small static
 * area, and what it frees otherwise waits until somebody else has the time.
 * Async-signal-safe, no lock.
 */
#ifndef OSMEM_NESTED_H
#define OSMEM_NESTED_H

#include "common.h"

#include <stdatomic.h>

enum {
	OSMEM_NESTED_GRANULE = 256,
	OSMEM_NESTED_BITS = 32, /* granules of a word of the bitmap */
	OSMEM_NESTED_WORDS = 16,
	OSMEM_NESTED_GRANULES = OSMEM_NESTED_BITS * OSMEM_NESTED_WORDS,
	OSMEM_NESTED_QUEUE = 256
};

OSMEM_VAR char osmem_nested_area[OSMEM_NESTED_GRANULES *
				 OSMEM_NESTED_GRANULE];

/* How many blocks wait. Relaxed: who sees too few leaves them to the next. */
OSMEM_VAR atomic_uint osmem_nested_waiting;

/* Whether ptr lies in the area. */
static inline bool osmem_nested_holds(const void *ptr)
{
	return (uintptr_t)ptr - (uintptr_t)osmem_nested_area <
	       sizeof(osmem_nested_area);
}

/* At most 8 KiB, aligned to at most 4 KiB; NULL when the area is full. */
OSMEM_FN void *osmem_nested_alloc(size_t size, size_t alignment);

/* The bytes of a block of the area; 0 when ptr is not the start of one. */
OSMEM_FN size_t osmem_nested_size(const void *ptr);

/* False when ptr is not the start of a live block of the area. */
OSMEM_FN bool osmem_nested_free(void *ptr);

/* Lets a block wait to be freed. False, and it is lost, when too many do. */
OSMEM_FN bool osmem_nested_defer(void *ptr);

/* A block that has waited; NULL when there are no more. */
OSMEM_FN void *osmem_nested_next(void);

#endif
