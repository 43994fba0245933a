/* SPDX-License-Identifier: MIT */
/*
 * report.c - the texts of misuse reports.
 *
 * Everything goes out through print.h: no heap, and no lock: the caller's is
 * released before the first word. Nothing is read through the pointer that is
 * reported.
 */
#include "report.h"

#include "lock.h"
#include "print.h"
#include "self.h"
#include "sites.h"
#include "sys.h"

#include <stdatomic.h>

enum {
	REPORT_SMALL = 65536, /* nothing is mapped below */
	REPORT_STACK_BELOW = 65536,
	REPORT_STACK_ABOVE = 8 << 20,
	REPORT_MODULE = 200,
	REPORT_SEEN = 512,
	REPORT_TRIES = 16
};

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
	case OSMEM_FOUND_OVERRUN:
		return "overflow: something wrote past the end of this block";
	case OSMEM_FOUND_UNDERRUN:
		return "overflow: something wrote before this block, past the "
		       "end of the one before";
	case OSMEM_FOUND_WRITTEN:
		return "write after free: this block is free, and not as it "
		       "was left";
	case OSMEM_FOUND_GONE:
		return "invalid pointer: no block of this allocator, or not "
		       "any more: perhaps a double free";
	default:
		return "invalid pointer: no block of this allocator";
	}
}

/* What handlers of SIGABRT allocate comes from where all of it does. */
static _Noreturn void report_end(void)
{
	osmem_self_open();
	osmem_sys_abort();
}

static struct osmem_report_block report_take_down(struct osmem_place place)
{
	struct osmem_report_block block = { .payload = NULL };

	if (place.block != NULL) {
		block.payload = (const char *)place.block + OSMEM_META;
		block.size = place.block->size;
		block.status = place.block->status;
	} else if (place.slot != NULL) {
		block.payload = place.slot;
		block.size = place.slot_size;
		block.status = place.slot_free ||
					       place.found ==
						       OSMEM_FOUND_FREE ||
					       place.found ==
						       OSMEM_FOUND_WRITTEN ?
				       OSMEM_FREE :
				       OSMEM_USED;
	}
	osmem_lock_abandon(&osmem_core_lock);
	return block;
}

static void report_block(struct osmem_report_block block, const char *ptr)
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

static void report_neighbour(struct osmem_report_block block, const char *where)
{
	if (block.payload != NULL)
		osmem_print(2, "%s: %s: block %p, %zu bytes, %s\n", OSMEM_NAME,
			    where, (const void *)block.payload, block.size,
			    report_state(block.status));
}

static void report_more(const struct osmem_report_more *more)
{
	if (more->slots != 0)
		osmem_print(2, "%s: slot %zu of %zu in a slab of %s\n",
			    OSMEM_NAME, more->slot, more->slots, more->owner);
	report_neighbour(more->before, "before it");
	report_neighbour(more->behind, "behind it");
}

/* The stack that we stand on reaches from here up, some MiB at most. */
static bool report_is_near(const void *ptr)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);
	uintptr_t p = (uintptr_t)ptr;

	return p - (here - REPORT_STACK_BELOW) <
	       REPORT_STACK_BELOW + REPORT_STACK_ABOVE;
}

/* No address of a program: above all that it has. */
static bool report_is_no_address(const void *ptr)
{
	return sizeof(ptr) == 8 && (uint64_t)(uintptr_t)ptr >> 56 != 0;
}

/* What a pointer that is no block's may be, as far as can be guessed. */
static void report_hint(const void *ptr)
{
	const char *hint = NULL;
	char module[REPORT_MODULE] = "static: ";
	const size_t used = sizeof("static: ") - 1;

	if ((uintptr_t)ptr < REPORT_SMALL)
		hint = "a small number";
	else if (report_is_no_address(ptr))
		hint = "no address at all";
	/* What is known before what is near: both may lie side by side. */
	else if (osmem_sites_module(ptr, module + used, sizeof(module) - used))
		hint = module;
	else if (report_is_near(ptr))
		hint = "an address on the stack";
	if (hint != NULL)
		osmem_print(2, "%s: perhaps %s\n", OSMEM_NAME, hint);
}

static void report_thread(void)
{
	osmem_print(2, "%s: in thread %u\n", OSMEM_NAME,
		    (unsigned int)osmem_sys_thread());
}

/* Returns: what ends the process is the caller's. */
static void report_found(const char *call, const void *ptr,
			 struct osmem_report_block block,
			 enum osmem_found found,
			 const struct osmem_report_more *more)
{
	osmem_print(2, "%s: %s(%p): %s\n", OSMEM_NAME, call, ptr,
		    report_what(found));
	report_block(block, ptr);
	if (more != NULL)
		report_more(more);
	if (block.payload == NULL)
		report_hint(ptr);
	report_thread();
	if (found == OSMEM_FOUND_INSIDE || found == OSMEM_FOUND_BROKEN)
		ptr = block.payload;
	osmem_sites_print(ptr, found != OSMEM_FOUND_BROKEN);
}

void osmem_report_pointer_in(const char *call, const void *ptr,
			     struct osmem_place place,
			     const struct osmem_report_more *more)
{
	report_found(call, ptr, report_take_down(place), place.found, more);
	report_end();
}

void osmem_report_pointer(const char *call, const void *ptr,
			  struct osmem_place place)
{
	osmem_report_pointer_in(call, ptr, place, NULL);
}

/*
 * What was reported, a mix of call and pointer. Relaxed: what two threads
 * report at once may come twice, and what is pushed out may come again.
 */
static _Atomic(uintptr_t) report_seen[REPORT_SEEN];

static bool report_is_new(uintptr_t key)
{
	size_t first = ((key ^ key >> 16) * 31 ^ key >> 4) % REPORT_SEEN;
	size_t i;

	for (i = 0; i < REPORT_TRIES; i++) {
		_Atomic(uintptr_t) *at = &report_seen[(first + i) %
						      REPORT_SEEN];
		uintptr_t old = 0;

		if (atomic_compare_exchange_strong_explicit(
			    at, &old, key, memory_order_relaxed,
			    memory_order_relaxed))
			return true;
		if (old == key)
			return false;
	}
	atomic_store_explicit(&report_seen[first], key, memory_order_relaxed);
	return true;
}

/* What was interrupted keeps its locks: nested.c serves handlers of SIGABRT. */
void osmem_report_nested(const char *call, const void *ptr)
{
	struct osmem_report_block none = { .payload = NULL };

	report_found(call, ptr, none, OSMEM_FOUND_NOTHING, NULL);
	osmem_sys_abort();
}

void osmem_report_foreign(const char *call, const void *ptr)
{
	struct osmem_report_block none = { .payload = NULL };

	if (report_is_new((uintptr_t)ptr ^ (uintptr_t)call << 7))
		report_found(call, ptr, none, OSMEM_FOUND_NOTHING, NULL);
}

void osmem_report_found(struct osmem_place place)
{
	struct osmem_report_block block = report_take_down(place);

	osmem_print(2, "%s: %s\n", OSMEM_NAME, report_what(place.found));
	report_block(block, NULL);
	report_end();
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
	report_thread();
	osmem_sites_print(ptr, false);
	report_end();
}

void osmem_report_written(const void *slot, size_t size)
{
	struct osmem_place place = { .found = OSMEM_FOUND_FREE,
				     .slot = slot,
				     .slot_size = size };
	struct osmem_report_block block = report_take_down(place);

	osmem_print(2, "%s: write after free, or second free at once: this "
		       "free block was overwritten\n",
		    OSMEM_NAME);
	report_block(block, NULL);
	report_thread();
	osmem_sites_print(slot, true);
	/* A thread's lock is held: nested.c serves handlers. */
	osmem_sys_abort();
}

void osmem_report_broken(struct block_meta *broken)
{
	struct osmem_place place = { .found = OSMEM_FOUND_BROKEN,
				     .block = broken };
	struct osmem_report_block block = report_take_down(place);

	osmem_print(2, "%s: overwritten header: something wrote past the end "
		       "of the block before\n",
		    OSMEM_NAME);
	report_block(block, NULL);
	report_thread();
	osmem_sites_print(block.payload, false);
	report_end();
}
