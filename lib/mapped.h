/* SPDX-License-Identifier: MIT */
/*
 * mapped.h - blocks that are mappings of their own (rules 10, 16, 28).
 *
 * Entering a span into the table of live mappings, finding it there and taking
 * it out needs the core's lock.
 */
#ifndef OSMEM_MAPPED_H
#define OSMEM_MAPPED_H

#include "block.h"
#include "report.h"
#include "span.h"

/*
 * Makes the span a live block of size payload bytes, at the first multiple of
 * alignment that leaves room for the header. NULL without memory for the
 * table; the span is still the caller's then. Lock.
 */
OSMEM_FN struct block_meta *osmem_mapped_enter(struct osmem_span span,
					       size_t size, size_t alignment);

/* Takes a live block out of the table; the span is the caller's. Lock. */
OSMEM_FN struct osmem_span osmem_mapped_leave(struct block_meta *b);

/*
 * Gives a live block another size where it stands, and the whole pages at its
 * end back when that is much less. False when it has to move, and always in
 * exact mode. The block is the caller's; no lock may be held.
 */
OSMEM_FN bool osmem_mapped_resize(struct block_meta *b, size_t size);

/* What ptr is among the live mappings, and those that are kept. Lock. */
OSMEM_FN struct osmem_place osmem_mapped_locate(const void *ptr);

/* The live mapping of the lowest address above p; NULL at the end. Lock. */
OSMEM_FN struct block_meta *osmem_mapped_above(const void *p);

struct osmem_mapped_totals {
	size_t blocks;
	size_t bytes; /* of whole mappings, but what is only ahead */
};

OSMEM_FN struct osmem_mapped_totals osmem_mapped_totals(void);

/* Verifies the table and every header in it. The number of faults. Lock. */
OSMEM_FN int osmem_mapped_check(void);

#endif
