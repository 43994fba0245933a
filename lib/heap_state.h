/* SPDX-License-Identifier: MIT */
/*
 * heap_state.h - what heap.c and heap_look.c share, and nobody else sees.
 */
#ifndef OSMEM_HEAP_STATE_H
#define OSMEM_HEAP_STATE_H

#include "bins.h"
#include "block.h"
#include "stretch.h"
#include "sys.h"

struct osmem_heap_state {
	struct block_meta *first;
	struct block_meta *tail; /* the last by address */
	struct block_meta *top;	 /* the last of the newest space at the break */
	struct block_meta *freed; /* the last that was freed since a search */
	struct osmem_index fresh; /* the others, by address */
	struct osmem_bins ready;  /* all other free blocks, by size */
	/* Blocks in use that have kept what a failed resize swallowed. */
	struct osmem_index swollen;
	size_t unlisted; /* free blocks for which the sets had no memory */
	size_t misses;	 /* searches that might have wanted one of them */
	size_t blocks;
	size_t used_blocks;
	size_t used_bytes;
	bool preallocated;
};

OSMEM_VAR struct osmem_heap_state osmem_heap;

/* The keys of fresh and swollen, and those of ready. */
static inline struct osmem_key osmem_heap_place_key(struct block_meta *b)
{
	return (struct osmem_key){ (uintptr_t)b, 0 };
}

static inline OSMEM_ANY_BYTES struct osmem_key
osmem_heap_ready_key(struct block_meta *b)
{
	return (struct osmem_key){ b->size, (uintptr_t)b };
}

/* Whether b is known as a free block. Its header is intact. */
static inline bool osmem_heap_is_listed(struct block_meta *b)
{
	return b == osmem_heap.freed ||
	       osmem_bins_contains(&osmem_heap.ready,
				    osmem_heap_ready_key(b)) ||
	       osmem_index_contains(&osmem_heap.fresh, osmem_heap_place_key(b));
}

/* Puts the block that was freed last into the set of the others. */
OSMEM_FN void osmem_heap_list_freed(void);

/* Forgets what lies in [brk, end), which was ours: see below. */
OSMEM_FN OSMEM_COLD void osmem_heap_cut(char *brk, char *end);

/*
 * Before anything that reads headers which the caller does not vouch for: if
 * somebody has moved the break down into our space (rule 23), forgets the
 * blocks that are gone. A block that is cut in two keeps what is left of it.
 */
static inline void osmem_heap_follow_break(void)
{
	char *end = osmem_stretch.break_end;

	if (end != NULL && unlikely((char *)osmem_sys_break() < end))
		osmem_heap_cut((char *)osmem_sys_break(), end);
}

#endif
