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
#include "slab.h"

/*
 * Counts the request, and serves it from a slab if its class is hot. NULL: the
 * block heap or a mapping serves it. No lock.
 */
OSMEM_FN void *osmem_hot_alloc(size_t size, size_t alignment);

/*
 * The slot for size bytes at alignment, 0 for any, if its class is hot; 0 when
 * no slot is for that. No lock.
 */
OSMEM_FN size_t osmem_hot_size(size_t size, size_t alignment);

/* What ptr is in the slabs; NOTHING when it is in none. No lock. */
OSMEM_FN struct osmem_place osmem_hot_locate(const void *ptr);

#endif
