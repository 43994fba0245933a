/* SPDX-License-Identifier: MIT */
/*
 * mapped.c - the table of live mappings, and spans that would not go.
 *
 * Live mappings stand in a set of (header, end of mapping), out of line; spans
 * that munmap refused in a list. Both are guarded by the core's lock, which
 * is never held around mmap and munmap themselves. Must never touch the block
 * heap.
 */
#include "mapped.h"

#include "check.h"
#include "die.h"
#include "index.h"
#include "lock.h"
#include "print.h"
#include "region.h"
#include "sys.h"

#include <stdatomic.h>

static struct {
	struct osmem_index live;
	size_t bytes;
	/* Counted outside the lock, relaxed: they guard nothing. */
	atomic_ulong maps;
	atomic_ulong unmaps;
} mapped;

/*
 * A span that could not be unmapped carries its own list entry: it is still
 * ours, and nothing else refers to it. count is read without the lock, relaxed,
 * only to skip it: a miss costs one mapping.
 */
struct mapped_kept {
	struct mapped_kept *next;
	size_t size;
};

static struct {
	struct mapped_kept *first;
	atomic_size_t count;
} mapped_spare;

/* --- spans --- */

static bool mapped_reuse(size_t size, struct osmem_span *span)
{
	struct mapped_kept **link;
	struct mapped_kept *kept = NULL;

	if (atomic_load_explicit(&mapped_spare.count,
				 memory_order_relaxed) == 0)
		return false;
	osmem_lock(&osmem_core_lock);
	for (link = &mapped_spare.first; *link != NULL; link = &(*link)->next)
		if ((*link)->size >= size)
			break;
	kept = *link;
	if (kept != NULL) {
		*link = kept->next;
		atomic_fetch_sub_explicit(&mapped_spare.count, 1,
					  memory_order_relaxed);
		*span = (struct osmem_span){ (char *)kept, kept->size, false };
	}
	osmem_unlock(&osmem_core_lock);
	return kept != NULL;
}

static void mapped_keep(struct osmem_span span)
{
	struct mapped_kept *kept = (struct mapped_kept *)span.start;

	kept->size = span.size;
	osmem_lock(&osmem_core_lock);
	kept->next = mapped_spare.first;
	mapped_spare.first = kept;
	atomic_fetch_add_explicit(&mapped_spare.count, 1, memory_order_relaxed);
	osmem_unlock(&osmem_core_lock);
}

/*
 * Address space may be short because slabs and sets have reserved ahead of a
 * limit that came later: that is given up before the caller is told no.
 */
static int mapped_map(size_t size, void **start)
{
	int err = osmem_sys_map(size, start);

	if (err != 0 && osmem_sys_space_limit() != SIZE_MAX) {
		bool more;

		osmem_lock(&osmem_core_lock);
		more = osmem_region_release_spare();
		more |= osmem_index_release_spare();
		osmem_unlock(&osmem_core_lock);
		if (more)
			err = osmem_sys_map(size, start);
	}
	return err;
}

bool osmem_span_map(size_t size, struct osmem_span *span)
{
	void *start = NULL;

	if (mapped_reuse(size, span))
		return true;
	if (DIE(mapped_map(size, &start), "mmap", size) != 0)
		return false;
	*span = (struct osmem_span){ start, size, true };
	atomic_fetch_add_explicit(&mapped.maps, 1, memory_order_relaxed);
	return true;
}

/* Unmaps. What cannot be unmapped is kept, if it has memory or gets it. */
static void mapped_unmap(struct osmem_span span, bool held)
{
	if (KEEP(osmem_sys_unmap(span.start, span.size), "munmap",
		 span.size) == 0)
		atomic_fetch_add_explicit(&mapped.unmaps, 1,
					  memory_order_relaxed);
	else if (!held || KEEP(osmem_sys_commit(span.start, span.size),
			       "mprotect", span.size) == 0)
		mapped_keep(span);
}

/*
 * The replacement holds the addresses of the last few mappings back, without
 * their memory, so that a second free of one does not meet another block.
 * libosmem must not: rule 16. Under the core's lock.
 */
enum { MAPPED_HELD = 16, MAPPED_HELD_LARGEST = 4 << 20 };

static struct {
	struct osmem_span spans[MAPPED_HELD];
	unsigned int next;
} mapped_held;

/* Holds the span back, and returns the one that has been held the longest. */
static struct osmem_span mapped_exchange(struct osmem_span span)
{
	struct osmem_span *place;
	struct osmem_span old;

	osmem_lock(&osmem_core_lock);
	place = &mapped_held.spans[mapped_held.next++ % MAPPED_HELD];
	old = *place;
	*place = span;
	osmem_unlock(&osmem_core_lock);
	return old;
}

static bool mapped_should_hold(struct osmem_span span)
{
	return OSMEM_IS_REPLACEMENT && span.size <= MAPPED_HELD_LARGEST &&
	       osmem_sys_space_limit() == SIZE_MAX;
}

void osmem_span_unmap(struct osmem_span span)
{
	bool held = mapped_should_hold(span) &&
		    KEEP(osmem_sys_hold(span.start, span.size), "mmap",
			 span.size) == 0;

	if (held)
		span = mapped_exchange(span);
	if (span.size != 0)
		mapped_unmap(span, held);
}

/* --- the table --- */

static struct osmem_key mapped_key(struct block_meta *b)
{
	return (struct osmem_key){ (uintptr_t)b, (uintptr_t)b->next };
}

struct block_meta *osmem_mapped_enter(struct osmem_span span, size_t size,
				      size_t alignment)
{
	uintptr_t payload =
		osmem_up((uintptr_t)span.start + OSMEM_META, alignment);
	struct block_meta *b = osmem_block_of((void *)payload);

	b->prev = (struct block_meta *)span.start;
	b->next = (struct block_meta *)(span.start + span.size);
	osmem_index_promise();
	if (!osmem_index_insert(&mapped.live, mapped_key(b))) {
		osmem_index_forgo();
		return NULL;
	}
	osmem_block_set(b, size, OSMEM_MAPPED);
	mapped.bytes += span.size;
	OSMEM_ASSERT(osmem_block_end(b) <= span.start + span.size);
	return b;
}

struct osmem_span osmem_mapped_leave(struct block_meta *b)
{
	struct osmem_span span = {
		.start = (char *)b->prev,
		.size = (size_t)((char *)b->next - (char *)b->prev),
	};

	osmem_index_remove(&mapped.live, mapped_key(b));
	osmem_index_forgo();
	mapped.bytes -= span.size;
	return span;
}

/* Whether ptr lies in a mapping that has been freed and is held back. */
static bool mapped_is_held(const void *ptr)
{
	int i;

	for (i = 0; i < MAPPED_HELD; i++)
		if ((uintptr_t)ptr - (uintptr_t)mapped_held.spans[i].start <
		    mapped_held.spans[i].size)
			return true;
	return false;
}

struct osmem_place osmem_mapped_locate(const void *ptr)
{
	struct osmem_key key = { (uintptr_t)ptr, UINTPTR_MAX };
	struct osmem_place place = { .found = OSMEM_FOUND_NOTHING };

	if (!osmem_index_at_most(&mapped.live, key, &key) ||
	    (uintptr_t)ptr >= key.b) {
		if (mapped_is_held(ptr))
			place.found = OSMEM_FOUND_FREE;
		return place;
	}
	place.block = (struct block_meta *)key.a;
	if (!osmem_block_intact(place.block))
		place.found = OSMEM_FOUND_BROKEN;
	else if (osmem_block_payload(place.block) == ptr)
		place.found = OSMEM_FOUND_LIVE;
	else
		place.found = OSMEM_FOUND_INSIDE;
	return place;
}

struct block_meta *osmem_mapped_above(const void *p)
{
	struct osmem_key key = { (uintptr_t)p, UINTPTR_MAX };

	if (!osmem_index_above(&mapped.live, key, &key))
		return NULL;
	return (struct block_meta *)key.a;
}

struct osmem_mapped_totals osmem_mapped_totals(void)
{
	struct osmem_mapped_totals totals = {
		.blocks = mapped.live.count,
		.bytes = mapped.bytes,
		.maps = atomic_load_explicit(&mapped.maps,
					     memory_order_relaxed),
		.unmaps = atomic_load_explicit(&mapped.unmaps,
					       memory_order_relaxed),
	};

	return totals;
}

int osmem_mapped_check(void)
{
	struct block_meta *b = NULL;
	int faults = osmem_index_check(&mapped.live);
	size_t bytes = 0;

	while ((b = osmem_mapped_above(b)) != NULL) {
		if (!osmem_block_intact(b) || b->status != OSMEM_MAPPED) {
			osmem_print(2, "%s: heap check: mapped block %p: "
				       "overwritten header\n",
				    OSMEM_NAME, osmem_block_payload(b));
			return faults + 1;
		}
		bytes += (size_t)((char *)b->next - (char *)b->prev);
	}
	return faults + (bytes != mapped.bytes);
}
