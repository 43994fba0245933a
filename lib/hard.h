/* SPDX-License-Identifier: MIT */
/*
 * hard.h - the hardened allocator: what serves everything with harden=1.
 *
 * Small blocks are slots of slabs, large ones mappings between guard pages.
 * What is known of a block stands out of line: whether it is live, the size
 * that was asked for, its alignment. Behind the bytes that were asked for
 * stands a canary, and zeros up to the slot's end; free memory is all zero.
 *
 * All functions may be called by any thread, without a lock where nothing else
 * is said. What is found broken is reported, and ends the process.
 */
#ifndef OSMEM_HARD_H
#define OSMEM_HARD_H

#include "options.h"
#include "report.h"

#include <osmem.h>
#include <stdatomic.h>

/* Whether allocations are to come from here. */
static inline bool osmem_hard_is_on(void)
{
	return osmem_option(OSMEM_OPT_HARDEN) != 0 &&
	       osmem_option(OSMEM_OPT_MODE) != OS_MODE_EXACT;
}

/*
 * Whether any block may be from here. Set with release when the tables are
 * there, read with acquire.
 */
OSMEM_VAR atomic_bool osmem_hard_used;

static inline bool osmem_hard_is_used(void)
{
	return atomic_load_explicit(&osmem_hard_used, memory_order_acquire);
}

/*
 * Whether it serves everything and nobody else wants to see each call. Kept by
 * init.c; set with release, read with acquire.
 */
OSMEM_VAR atomic_bool osmem_hard_alone;

static inline bool osmem_hard_is_alone(void)
{
	return atomic_load_explicit(&osmem_hard_alone, memory_order_acquire);
}

/*
 * size bytes at a multiple of alignment; of no bytes, a block whose first byte
 * faults. NULL without memory, or address space for slabs.
 */
OSMEM_FN void *osmem_hard_alloc(size_t size, size_t alignment);

/* Whether the block, which was just allocated, is all zero. */
OSMEM_FN bool osmem_hard_is_zeroed(const void *ptr);

/*
 * Makes the tables, once; before the first allocation. at_exit is called at
 * the end of a thread that has bins, and calls osmem_hard_exit with what it is
 * given. False when there are no slabs to be had.
 */
OSMEM_FN OSMEM_COLD bool osmem_hard_open(void (*at_exit)(void *bins));
OSMEM_FN void osmem_hard_exit(void *bins);

/* The same for a block of old bytes that grows: it is expected to do again. */
OSMEM_FN void *osmem_hard_alloc_grown(size_t old, size_t size);

/*
 * What ptr is: slot and slot_size say where a live block is and how much was
 * asked for. NOTHING for blocks of others. The caller has the core's lock or
 * not, as it says.
 */
OSMEM_FN struct osmem_place osmem_hard_locate(const void *ptr, bool locked);

/* The same, but NOTHING for large blocks: takes no lock. */
OSMEM_FN struct osmem_place osmem_hard_locate_small(const void *ptr);

/* Frees a live block. False when ptr is in no space of ours. */
OSMEM_FN bool osmem_hard_free(const char *call, void *ptr);

/* A live block's size; verifies what is behind it. */
OSMEM_FN size_t osmem_hard_usable(const char *call, struct osmem_place place);

/*
 * Gives a live block another size where it stands; what it gets more is zero.
 * False when it has to move.
 */
OSMEM_FN bool osmem_hard_resize(const char *call, struct osmem_place place,
				size_t size);

/* Whether a live block was asked for with this alignment; 16 is none. */
OSMEM_FN bool osmem_hard_is_aligned(struct osmem_place place,
				    size_t alignment);

/* Gives empty slabs back. Whether there were any. */
OSMEM_FN bool osmem_hard_trim(void);

/*
 * The block of the lowest address above p, live or free; false at the end. For
 * walking. Core's lock.
 */
OSMEM_FN bool osmem_hard_above(const void *p, struct os_block *block);

/* Verifies all blocks. Reports and counts the faults. Core's lock. */
OSMEM_FN int osmem_hard_check(void);

struct osmem_hard_totals {
	size_t reserved;   /* address space for slabs; 0: none */
	size_t slab_bytes; /* committed */
	size_t map_blocks;
	size_t map_bytes;
	bool refused;	/* there was no address space for slabs */
	bool unguarded; /* the system had no more guard pages to give */
};

/* Core's lock. */
OSMEM_FN struct osmem_hard_totals osmem_hard_totals(void);

/* Around a fork, outside the core's lock. */
OSMEM_FN void osmem_hard_before_fork(void);
OSMEM_FN void osmem_hard_after_fork(bool child);

#endif
