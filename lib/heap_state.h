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
	bool lost;	 /* one is new among them since all were merged again */
	size_t blocks;
	size_t used_blocks;
	bool preallocated;
	size_t used_bytes;
	size_t asked; /* last, for a guess at the size of neighbours */
	size_t looked; /* at free blocks, in vain, by aligned requests */
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

/* One more is in no set. */
static inline void osmem_heap_lose(void)
{
	osmem_heap.unlisted++;
	osmem_heap.lost = true;
}

/* Puts the block that was freed last into the set of the others. */
static inline void osmem_heap_list_freed(void)
{
	struct block_meta *b = osmem_heap.freed;

	osmem_heap.freed = NULL;
	if (b != NULL &&
	    !osmem_index_insert(&osmem_heap.fresh, osmem_heap_place_key(b)))
		osmem_heap_lose();
}

/* Makes a block ready for whose key there was no memory, or leaves it out. */
OSMEM_FN OSMEM_COLD void osmem_heap_crowd_in(struct block_meta *b);

/* Without memory for its keys a block is in no set: see heap_relist(). */
static inline void osmem_heap_make_ready(struct block_meta *b)
{
	if (unlikely(!osmem_bins_insert(&osmem_heap.ready,
					osmem_heap_ready_key(b))))
		osmem_heap_crowd_in(b);
}

/* Most are asked for again before the next is freed: the set is not touched. */
static inline void osmem_heap_make_fresh(struct block_meta *b)
{
	osmem_heap_list_freed();
	osmem_heap.freed = b;
}

static inline void osmem_heap_unlist_ready(struct block_meta *b)
{
	if (!osmem_bins_remove(&osmem_heap.ready, osmem_heap_ready_key(b)))
		osmem_heap.unlisted--;
}

static inline void osmem_heap_unlist(struct block_meta *b)
{
	if (b == osmem_heap.freed)
		osmem_heap.freed = NULL;
	else if (!osmem_index_remove(&osmem_heap.fresh,
				     osmem_heap_place_key(b)))
		osmem_heap_unlist_ready(b);
}

/* The rest of what follows. */
OSMEM_FN OSMEM_COLD void osmem_heap_look_at_break(void);

/* Whether somebody may have moved the break down into our space. */
static inline bool osmem_heap_may_be_cut(void)
{
	return unlikely((char *)*osmem_sys_break_at < osmem_stretch.break_end);
}

/*
 * Before anything that reads headers which the caller does not vouch for: if
 * that is so (rule 23), forgets the blocks that are gone. A block that is cut
 * in two keeps what is left of it.
 */
static inline void osmem_heap_follow_break(void)
{
	if (osmem_heap_may_be_cut())
		osmem_heap_look_at_break();
}

/*
 * Whether ptr lies in the stretch that was found last, where a payload may,
 * with room for a header.
 */
static inline bool osmem_heap_holds(const void *ptr)
{
	struct osmem_stretch s = osmem_stretch.found;

	return osmem_stretch_holds(s, ptr) &&
	       (const char *)ptr - s.start >= OSMEM_META &&
	       (uintptr_t)ptr % OSMEM_ALIGN == 0;
}

#endif
