/* SPDX-License-Identifier: MIT */
/*
 * mapped.h - blocks that are mappings of their own (rules 10, 16, 28).
 *
 * Making and unmapping a span needs no lock; entering it into the table of
 * live mappings, finding it there and taking it out needs the core's.
 */
#ifndef OSMEM_MAPPED_H
#define OSMEM_MAPPED_H

#include "block.h"
#include "report.h"

/* A whole mapping. */
struct osmem_span {
	char *start;
	size_t size;
	bool zero; /* fresh from the kernel */
};

/* Maps size bytes, or takes a span that could not be unmapped. No lock. */
OSMEM_FN bool osmem_span_map(size_t size, struct osmem_span *span);

/* Unmaps. A span that cannot be unmapped is kept for reuse. No lock. */
OSMEM_FN void osmem_span_unmap(struct osmem_span span);

/*
 * Makes the span a live block of size payload bytes, at the first multiple of
 * alignment that leaves room for the header. NULL without memory for the
 * table; the span is still the caller's then. Lock.
 */
OSMEM_FN struct block_meta *osmem_mapped_enter(struct osmem_span span,
					       size_t size, size_t alignment);

/* Takes a live block out of the table; the span is the caller's. Lock. */
OSMEM_FN struct osmem_span osmem_mapped_leave(struct block_meta *b);

/* What ptr is among the live mappings. Lock. */
OSMEM_FN struct osmem_place osmem_mapped_locate(const void *ptr);

/* The live mapping of the lowest address above p; NULL at the end. Lock. */
OSMEM_FN struct block_meta *osmem_mapped_above(const void *p);

struct osmem_mapped_totals {
	size_t blocks;
	size_t bytes; /* of whole mappings */
	unsigned long maps;
	unsigned long unmaps;
};

OSMEM_FN struct osmem_mapped_totals osmem_mapped_totals(void);

/* Verifies the table and every header in it. The number of faults. Lock. */
OSMEM_FN int osmem_mapped_check(void);

#endif
