/* SPDX-License-Identifier: MIT */
/*
 * mapped.c - the table of live mappings.
 *
 * They stand in a set of (header, end of mapping), out of line, guarded by the
 * core's lock. Must never touch the block heap.
 */
#include "mapped.h"

#include "check.h"
#include "die.h"
#include "index.h"
#include "lock.h"
#include "print.h"
#include "sys.h"

static struct {
	struct osmem_index live;
	size_t bytes;
} mapped;

/*
 * In the header prev is the mapping's start, and bit 0 of it says that memory
 * ends at osmem_span_step() of where the block does, and the rest is ahead.
 */
enum { MAPPED_AHEAD = 1 };

static char *mapped_start(const struct block_meta *b)
{
	return (char *)((uintptr_t)b->prev & ~(uintptr_t)MAPPED_AHEAD);
}

static bool mapped_has_ahead(const struct block_meta *b)
{
	return ((uintptr_t)b->prev & MAPPED_AHEAD) != 0;
}

static size_t mapped_whole(const struct block_meta *b)
{
	return (size_t)((char *)b->next - mapped_start(b));
}

/* From the mapping's start to the end of a payload of size bytes. */
static size_t mapped_extent(struct block_meta *b, size_t size)
{
	return (size_t)((char *)b - mapped_start(b)) + OSMEM_META + size;
}

/* The step in which that ends, where the mapping has so much. */
static size_t mapped_step(struct block_meta *b, size_t size)
{
	size_t step = osmem_span_step(mapped_extent(b, size));

	return step < mapped_whole(b) ? step : mapped_whole(b);
}

/* The writable bytes of the mapping if the payload had size bytes. */
static size_t mapped_writable(struct block_meta *b, size_t size)
{
	return mapped_has_ahead(b) ? mapped_step(b, size) : mapped_whole(b);
}

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
	uintptr_t flags = span.ahead != 0 ? MAPPED_AHEAD : 0;

	b->prev = (struct block_meta *)((uintptr_t)span.start | flags);
	b->next = (struct block_meta *)(span.start + span.size + span.ahead);
	osmem_index_promise();
	if (!osmem_index_insert(&mapped.live, mapped_key(b))) {
		osmem_index_forgo();
		return NULL;
	}
	osmem_block_set(b, size, OSMEM_MAPPED);
	mapped.bytes += mapped_writable(b, size);
	OSMEM_ASSERT(mapped_writable(b, size) == span.size);
	OSMEM_ASSERT(osmem_block_end(b) <= span.start + span.size);
	return b;
}

struct osmem_span osmem_mapped_leave(struct block_meta *b)
{
	size_t writable = mapped_writable(b, b->size);
	struct osmem_span span = {
		.start = mapped_start(b),
		.size = writable,
		.ahead = mapped_whole(b) - writable,
	};

	osmem_index_remove(&mapped.live, mapped_key(b));
	osmem_index_forgo();
	mapped.bytes -= span.size;
	return span;
}

/* Whether the block may stay: there is room, and not much too much of it. */
static bool mapped_fits(struct block_meta *b, size_t size)
{
	return osmem_span_is_cached() &&
	       size + OSMEM_META >= OSMEM_MMAP_THRESHOLD &&
	       size >= b->size / 2 &&
	       size <= mapped_whole(b) - mapped_extent(b, 0);
}

bool osmem_mapped_resize(struct block_meta *b, size_t size)
{
	char *start = mapped_start(b);
	size_t old = mapped_step(b, b->size);
	size_t step;
	size_t before;
	size_t after;

	if (!mapped_fits(b, size))
		return false;
	step = mapped_step(b, size);
	before = mapped_writable(b, b->size);
	after = mapped_writable(b, size);
	if (after > before && KEEP(osmem_sys_commit(start, after), "mprotect",
				   after - before) != 0)
		return false;
	osmem_lock(&osmem_core_lock);
	osmem_block_set(b, size, OSMEM_MAPPED);
	mapped.bytes += after - before;
	osmem_unlock(&osmem_core_lock);
	if (step < old)
		KEEP(osmem_sys_purge(start + step, old - step), "madvise",
		     old - step);
	return true;
}

struct osmem_place osmem_mapped_locate(const void *ptr)
{
	struct osmem_key key = { (uintptr_t)ptr, UINTPTR_MAX };
	struct osmem_place place = { .found = OSMEM_FOUND_NOTHING };

	if (!osmem_index_at_most(&mapped.live, key, &key) ||
	    (uintptr_t)ptr >= key.b) {
		if (osmem_span_is_kept(ptr))
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
		bytes += mapped_writable(b, b->size);
	}
	return faults + (bytes != mapped.bytes);
}
