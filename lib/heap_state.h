/* SPDX-License-Identifier: MIT */
/*
 * heap_state.h - what heap.c and heap_look.c share, and nobody else sees.
 */
#ifndef OSMEM_HEAP_STATE_H
#define OSMEM_HEAP_STATE_H

#include "block.h"
#include "index.h"

struct osmem_heap_state {
	struct block_meta *first;
	struct block_meta *tail; /* the last by address */
	struct block_meta *top;	 /* the last of the newest space at the break */
	struct osmem_index fresh;  /* freed since the last search */
	struct osmem_index merged; /* the other free blocks */
	struct osmem_index ready;  /* those again, by size */
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

/* The keys of fresh and merged, and those of ready. */
static inline struct osmem_key osmem_heap_place_key(struct block_meta *b)
{
	return (struct osmem_key){ (uintptr_t)b, b->size };
}

static inline struct osmem_key osmem_heap_ready_key(struct block_meta *b)
{
	return (struct osmem_key){ b->size, (uintptr_t)b };
}

static inline struct block_meta *
osmem_heap_free_in(const struct osmem_index *set, const void *p)
{
	struct osmem_key key = { (uintptr_t)p, UINTPTR_MAX };

	if (!osmem_index_at_most(set, key, &key) ||
	    (uintptr_t)p - key.a >= OSMEM_META + key.b)
		return NULL;
	return (struct block_meta *)key.a;
}

/* The free block that holds p, header included; NULL when there is none. */
static inline struct block_meta *osmem_heap_free_at(const void *p)
{
	struct block_meta *b = osmem_heap_free_in(&osmem_heap.fresh, p);

	return b != NULL ? b : osmem_heap_free_in(&osmem_heap.merged, p);
}

/*
 * Before anything that reads headers which the caller does not vouch for: if
 * somebody has moved the break down into our space (rule 23), forgets the
 * blocks that are gone. A block that is cut in two keeps what is left of it.
 */
OSMEM_FN void osmem_heap_follow_break(void);

#endif
