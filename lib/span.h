/* SPDX-License-Identifier: MIT */
/*
 * span.h - whole mappings: making them, and keeping freed ones for reuse.
 *
 * No function may be called with the core's lock held but those that say so.
 */
#ifndef OSMEM_SPAN_H
#define OSMEM_SPAN_H

#include "common.h"

/*
 * A whole mapping. Behind size writable bytes there can be ahead bytes of
 * address space without memory.
 */
struct osmem_span {
	char *start;
	size_t size;
	size_t ahead;
	bool zero; /* known to be zero */
};

/*
 * Whether freed spans are used again, and blocks that grow get address space
 * ahead: in fast, and in auto after so many unmaps. Any thread, any lock.
 */
OSMEM_FN bool osmem_span_is_cached(void);

/* Maps size bytes, or takes a span that was kept. */
OSMEM_FN bool osmem_span_map(size_t size, struct osmem_span *span);

/*
 * The writable part of so large a span, of a block that ends extent bytes
 * after its start: up to the next of 16 steps or so.
 */
OSMEM_FN size_t osmem_span_step(size_t extent);

/*
 * A span for a block that grows: osmem_span_step(size) bytes and many more
 * ahead, or as many writable. False when there is no address space to spare.
 */
OSMEM_FN bool osmem_span_map_ahead(size_t size, struct osmem_span *span);

/* Keeps the span for reuse or as a trap, or unmaps it. */
OSMEM_FN void osmem_span_unmap(struct osmem_span span);

/* Whether p lies in a span that is kept. Core's lock. */
OSMEM_FN bool osmem_span_is_kept(const void *p);

/* Gives the memory of all spans that are kept back. Whether there was any. */
OSMEM_FN bool osmem_span_trim(void);

struct osmem_span_totals {
	size_t kept;  /* spans and their bytes */
	size_t bytes;
	size_t dirty; /* of these, bytes that may have memory */
	unsigned long maps;
	unsigned long unmaps;
};

OSMEM_FN struct osmem_span_totals osmem_span_totals(void);

#endif
