/* SPDX-License-Identifier: MIT */
/*
 * heap.h - the block heap: best fit, splitting, coalescing, as the contract
 * says, in O(log n).
 *
 * Sizes here are payload sizes that are already multiples of OSMEM_ALIGN. All
 * functions need the core's lock; none touches a block's payload.
 */
#ifndef OSMEM_HEAP_H
#define OSMEM_HEAP_H

#include "block.h"
#include "report.h"

/* A block of at least size bytes, in use (rule 8). NULL without space. */
OSMEM_FN struct block_meta *osmem_heap_alloc(size_t size);

/* The same at a multiple of alignment, a power of two (rule 28). */
OSMEM_FN struct block_meta *osmem_heap_alloc_aligned(size_t size,
						     size_t alignment);

/*
 * The same for a mapping that the system refuses: the heap does not grow, but
 * what was freed in it is not unmapped. NULL when nothing fits, and where the
 * contract promises that.
 */
OSMEM_FN struct block_meta *osmem_heap_alloc_left(size_t size);

/*
 * Marks the live block whose payload ptr is free; nothing is merged (rule 15).
 * NULL when it is none of the heap's.
 */
OSMEM_FN struct block_meta *osmem_heap_free(const void *ptr);

enum osmem_resized {
	OSMEM_RESIZED,
	OSMEM_RESIZED_NOT,
	OSMEM_RESIZED_REFUSED, /* by the system: rule 20a, which leads to 24 */
};

/*
 * Gives a live block another size where it stands (rules 19, 20). One that is
 * still too small keeps what it swallowed on the way (rule 20c).
 */
OSMEM_FN enum osmem_resized osmem_heap_resize(struct block_meta *b,
					      size_t size);

/* Whether a live block is larger than was asked because of rule 20c. */
OSMEM_FN bool osmem_heap_is_swollen(struct block_meta *b);

/* What ptr is in the heap. Fast for live blocks; else it may walk. */
OSMEM_FN struct osmem_place osmem_heap_locate(const void *ptr);

/* Gives whole pages inside free blocks back, but pad bytes of them. */
OSMEM_FN bool osmem_heap_trim(size_t pad);

/* The first block, and the one after another; NULL at the end. Verified. */
OSMEM_FN struct block_meta *osmem_heap_first(void);
OSMEM_FN struct block_meta *osmem_heap_next(struct block_meta *b);

struct osmem_heap_totals {
	size_t blocks;
	size_t used_blocks;
	size_t used_bytes;
	size_t free_bytes;
};

OSMEM_FN struct osmem_heap_totals osmem_heap_totals(void);

/* Verifies list, seals, tiling and sets. Reports and counts the faults. */
OSMEM_FN int osmem_heap_check(void);

#endif
