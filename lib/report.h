/* SPDX-License-Identifier: MIT */
/*
 * report.h - what is wrong with a pointer, said on stderr before abort().
 *
 * The core's lock is released first if the caller holds it, so that a handler
 * of SIGABRT may allocate. No heap is used.
 */
#ifndef OSMEM_REPORT_H
#define OSMEM_REPORT_H

#include "block.h"

/* What a pointer turned out to be, after bounded look-ups only. */
enum osmem_found {
	OSMEM_FOUND_NOTHING, /* not in the allocator's space */
	OSMEM_FOUND_GONE,    /* where slabs are, but in none */
	OSMEM_FOUND_LIVE,    /* the payload of a live block */
	OSMEM_FOUND_FREE,    /* the payload of a free block */
	OSMEM_FOUND_FORMER,  /* of a block that is part of a free one now */
	OSMEM_FOUND_INSIDE,  /* somewhere else in the block */
	OSMEM_FOUND_BROKEN,  /* a block whose header was overwritten */
	OSMEM_FOUND_OVERRUN, /* what is behind a live block was overwritten */
	OSMEM_FOUND_UNDERRUN, /* what is before it */
	OSMEM_FOUND_WRITTEN  /* a free block that was written to */
};

struct osmem_place {
	enum osmem_found found;
	struct block_meta *block; /* that lies there; NULL for none, slots */
	const void *slot;	  /* or a slab's slot, and its size */
	size_t slot_size;
	bool slot_free; /* of INSIDE: whether that one is */
};

/* A block as a report names it, taken down while it could be looked at. */
struct osmem_report_block {
	const char *payload; /* NULL: none */
	size_t size;
	int status;
};

/* What stands around a pointer, as far as the caller can know. */
struct osmem_report_more {
	struct osmem_report_block before;
	struct osmem_report_block behind;
	size_t slot; /* which of so many of a slab; slots 0: of none */
	size_t slots;
	const char *owner; /* of the slab */
};

/* call: the function that was called. Does not return. */
OSMEM_FN OSMEM_COLD _Noreturn void osmem_report_pointer(
	const char *call, const void *ptr, struct osmem_place place);

/* The same with more to say. */
OSMEM_FN OSMEM_COLD _Noreturn void osmem_report_pointer_in(
	const char *call, const void *ptr, struct osmem_place place,
	const struct osmem_report_more *more);

/* No block, by who may be a handler that has interrupted the allocator. */
OSMEM_FN OSMEM_COLD _Noreturn void osmem_report_nested(const char *call,
						       const void *ptr);

/* A pointer that is no block's, option foreign=warn: once for each. Returns. */
OSMEM_FN OSMEM_COLD void osmem_report_foreign(const char *call,
					      const void *ptr);
/* What was found while something else was done. Does not return. */
OSMEM_FN OSMEM_COLD _Noreturn void osmem_report_found(struct osmem_place place);

/* A sized free whose size or alignment does not fit the block. */
OSMEM_FN OSMEM_COLD _Noreturn void osmem_report_size(const char *call,
						     const void *ptr,
						     size_t alignment,
						     size_t size,
						     size_t usable);

/*
 * A free slot that does not hold what its free has left there. A handler of
 * SIGABRT is served as one that has interrupted the allocator.
 */
OSMEM_FN OSMEM_COLD _Noreturn void osmem_report_written(const void *slot,
							size_t size);

/* A header that was found overwritten while something else was done. */
OSMEM_FN OSMEM_COLD _Noreturn void osmem_report_broken(
	struct block_meta *broken);

/* Before anything in a header is believed. */
static inline void osmem_report_unless_intact(struct block_meta *b)
{
	if (unlikely(!osmem_block_intact(b)))
		osmem_report_broken(b);
}

#endif
