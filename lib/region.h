/* SPDX-License-Identifier: MIT */
/*
 * region.h - the address space of the slabs, in units of 64 KiB.
 *
 * One reservation; memory is committed from the bottom. Each unit has a record
 * out of line, in a mapping of its own (slab.h). All functions need the core's
 * lock where nothing else is said.
 */
#ifndef OSMEM_REGION_H
#define OSMEM_REGION_H

#include "common.h"

#include <stdatomic.h>

#define OSMEM_UNIT_SHIFT 16
#define OSMEM_UNIT ((size_t)1 << OSMEM_UNIT_SHIFT)

/* The bytes of a unit's record, and of its map: a bit for each 16. */
enum { OSMEM_RECORD = 256, OSMEM_MAP = (1 << OSMEM_UNIT_SHIFT) / 16 / 8 };

/*
 * base and the tables are set once, before limit becomes other than 0.
 * limit is the committed size; written under the lock with release, read with
 * acquire: who sees it sees the heads below it.
 */
struct osmem_region {
	char *base;
	char *records;
	uintptr_t *heads; /* each unit's slab, as slab.h says it */
	char *maps;	  /* OSMEM_MAP bytes for a unit */
	atomic_size_t limit;
	uintptr_t nobody; /* the head of a unit that is in no slab */
};

OSMEM_VAR struct osmem_region osmem_region;

/* Whether p may lie in a slab: a look without a call. No lock. */
static inline bool osmem_region_holds(const void *p)
{
	/* Pairs with the release in region.c: base and records are there. */
	size_t limit = atomic_load_explicit(&osmem_region.limit,
					    memory_order_acquire);

	return limit != 0 &&
	       (uintptr_t)p - (uintptr_t)osmem_region.base < limit;
}

/*
 * Reserves, once. The head of a unit that is in no slab will be nobody. False
 * when there is no address space for it.
 */
OSMEM_FN bool osmem_region_open(uintptr_t nobody);

/*
 * The first of units in a row, and whether they have been in use and have their
 * memory still; false when there is no space.
 */
OSMEM_FN bool osmem_region_take(size_t units, size_t *first, bool *dirty);

/* How many units in a row there are that have their memory still. */
OSMEM_FN size_t osmem_region_longest_dirty(void);

/* Gives units back, which may have been written to. */
OSMEM_FN void osmem_region_give(size_t first, size_t units);

/*
 * Unmaps the reservation's rest, so that others have address space. Whether
 * there was any.
 */
OSMEM_FN bool osmem_region_release_spare(void);

/* Unmaps what would not have been reserved under today's limit, if any. */
OSMEM_FN bool osmem_region_keep_limit(void);

/* Slabs have so many bytes more in pages without a slot in use. No lock. */
OSMEM_FN void osmem_region_add_idle(ptrdiff_t bytes);

/* So many bytes more were freed that their owners have yet to see. No lock. */
OSMEM_FN void osmem_region_add_waiting(ptrdiff_t bytes);
OSMEM_FN size_t osmem_region_waiting(void);

/* So many bytes of slabs more have been given back. No lock. */
OSMEM_FN void osmem_region_add_gone(ptrdiff_t bytes);

/* So many that had been, or others in their place, are wanted. No lock. */
OSMEM_FN void osmem_region_regret(size_t bytes);

/*
 * Whether the system has refused to take memory back: then nothing is purged
 * for a second, or until somebody says otherwise. No lock.
 */
OSMEM_FN bool osmem_region_is_refused(void);
OSMEM_FN void osmem_region_set_refused(bool refused);

/*
 * Bytes in slabs: in pages without a slot in use, and freed by others, for
 * their owners to see; and how many both may be before a purge. Relaxed: a
 * wrong decision costs time only.
 */
struct osmem_region_idle {
	atomic_size_t pages;
	atomic_size_t waiting;
	atomic_size_t room;
};

OSMEM_VAR struct osmem_region_idle osmem_region_idle;

/* Whether so much lies there for nothing that it should be purged. No lock. */
static inline bool osmem_region_should_purge(void)
{
	const struct osmem_region_idle *idle = &osmem_region_idle;
	size_t bytes =
		atomic_load_explicit(&idle->pages, memory_order_relaxed) +
		2 * atomic_load_explicit(&idle->waiting, memory_order_relaxed);

	return unlikely((ptrdiff_t)bytes >=
			(ptrdiff_t)atomic_load_explicit(
				&idle->room, memory_order_relaxed)) &&
	       !osmem_region_is_refused();
}

/*
 * Gives whole pages back, anybody's. Whether they went: not when madvise
 * refuses, which is remembered, or has refused lately. No lock.
 */
OSMEM_FN bool osmem_region_purge_bytes(void *start, size_t size);

/*
 * Whether so much of what was purged has been taken again that a purger would
 * pay (purger.h). Relaxed: a hint.
 */
OSMEM_VAR atomic_bool osmem_region_wants;

/*
 * There is a purger, or none any more: while there is one more may lie there
 * for nothing, as it says, which takes the lock.
 */
OSMEM_FN void osmem_region_keep(bool kept);
OSMEM_FN void osmem_region_allow(size_t bytes);

/* The least and the most bytes that lay there for nothing, for some time. */
struct osmem_region_range {
	size_t least;
	size_t most;
};

/* Since the last time that it was asked for. Takes the lock. */
OSMEM_FN struct osmem_region_range osmem_region_ask(void);

/* Before purging: learns from the last time. Takes the lock. */
OSMEM_FN void osmem_region_learn(void);

/* Gives dirty free units back to the system: enough, or all. Takes the lock. */
OSMEM_FN bool osmem_region_purge(bool all);

struct osmem_region_totals {
	size_t reserved;
	size_t committed;
	size_t used;  /* by slabs */
	size_t dirty; /* free, not purged */
	size_t idle;  /* in slabs: pages without a slot in use */
};

OSMEM_FN struct osmem_region_totals osmem_region_totals(void);

#endif
