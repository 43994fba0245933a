/* SPDX-License-Identifier: MIT */
/*
 * report.c - the texts of misuse reports.
 *
 * Everything goes out through print.h: no heap, and no lock: the caller's is
 * released before the first word.
 */
#include "report.h"

#include "lock.h"
#include "print.h"
#include "sys.h"

static const char *report_state(int status)
{
	switch (status) {
	case OSMEM_FREE:
		return "free";
	case OSMEM_USED:
		return "in use";
	case OSMEM_MAPPED:
		return "in use, a mapping";
	default:
		return "overwritten";
	}
}

static const char *report_what(enum osmem_found found)
{
	switch (found) {
	case OSMEM_FOUND_LIVE: /* again, by now */
	case OSMEM_FOUND_FREE:
	case OSMEM_FOUND_FORMER:
		return "double free or use after free: this block is free";
	case OSMEM_FOUND_INSIDE:
		return "invalid pointer: it points inside a block";
	case OSMEM_FOUND_BROKEN:
		return "overwritten header: something wrote before this block";
	default:
		return "invalid pointer: no block of this allocator";
	}
}

/* What a report says of a block, taken down while the lock is still held. */
struct report_block {
	const char *payload; /* NULL: no block */
	size_t size;
	int status;
};

static struct report_block report_take_down(struct osmem_place place)
{
	struct report_block block = { .payload = NULL };

	if (place.block != NULL) {
		block.payload = (const char *)place.block + OSMEM_META;
		block.size = place.block->size;
		block.status = place.block->status;
	} else if (place.slot != NULL) {
		block.payload = place.slot;
		block.size = place.slot_size;
		block.status = place.found == OSMEM_FOUND_FREE ? OSMEM_FREE :
								 OSMEM_USED;
	}
	/* Whoever reads what is written next may allocate. */
	osmem_lock_abandon(&osmem_core_lock);
	return block;
}

static void report_block(struct report_block block, const char *ptr)
{
	if (block.payload == NULL)
		return;
	osmem_print(2, "%s: block %p, %zu bytes, %s", OSMEM_NAME,
		    (const void *)block.payload, block.size,
		    report_state(block.status));
	if (ptr != NULL && ptr > block.payload)
		osmem_print(2, "; the pointer is %td bytes into it",
			    ptr - block.payload);
	else if (ptr != NULL && ptr < block.payload)
		osmem_print(2, "; the pointer is in its header");
	osmem_print(2, "\n");
}

void osmem_report_pointer(const char *call, const void *ptr,
			  struct osmem_place place)
{
	struct report_block block = report_take_down(place);

	osmem_print(2, "%s: %s(%p): %s\n", OSMEM_NAME, call, ptr,
		    report_what(place.found));
	report_block(block, ptr);
	osmem_sys_abort();
}

void osmem_report_size(const char *call, const void *ptr, size_t alignment,
		       size_t size, size_t usable)
{
	osmem_lock_abandon(&osmem_core_lock);
	if (alignment != 0)
		osmem_print(2, "%s: %s(%p, %zu, %zu): wrong size or alignment: "
			       "the block has %zu bytes\n",
			    OSMEM_NAME, call, ptr, alignment, size, usable);
	else
		osmem_print(2, "%s: %s(%p, %zu): wrong size: the block has "
			       "%zu bytes\n",
			    OSMEM_NAME, call, ptr, size, usable);
	osmem_sys_abort();
}

void osmem_report_written(const void *slot, size_t size)
{
	struct osmem_place place = { .found = OSMEM_FOUND_FREE,
				     .slot = slot,
				     .slot_size = size };
	struct report_block block = report_take_down(place);

	osmem_print(2, "%s: write after free, or second free at once: this "
		       "free block was overwritten\n",
		    OSMEM_NAME);
	report_block(block, NULL);
	osmem_sys_abort();
}

void osmem_report_broken(struct block_meta *broken)
{
	struct osmem_place place = { .found = OSMEM_FOUND_BROKEN,
				     .block = broken };
	struct report_block block = report_take_down(place);

	osmem_print(2, "%s: overwritten header: something wrote past the end "
		       "of the block before\n",
		    OSMEM_NAME);
	report_block(block, NULL);
	osmem_sys_abort();
}
