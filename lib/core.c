/* SPDX-License-Identifier: MIT */
/*
 * core.c - the door: which of the siblings serves a request, and the lock.
 *
 * Everything that wants to see every operation is done here, on the path that
 * takes the core's lock. System calls for mappings, copies and reports are
 * made without it. Must never set errno: that is the front ends'.
 */
#include "core_state.h"

#include "check.h"
#include "fault.h"
#include "hard.h"
#include "heap.h"
#include "hot.h"
#include "init.h"
#include "lock.h"
#include "mapped.h"
#include "misuse.h"
#include "options.h"
#include "region.h"
#include "sites.h"
#include "thread.h"
#include "watch.h"

#include <errno.h>
#include <string.h>

/* Rule 24: what is above fails at once; the total of the rest cannot wrap. */
static bool core_too_large(size_t size)
{
	return size > PTRDIFF_MAX;
}

static size_t core_up(size_t size)
{
	return osmem_up(size + osmem_watch_gap(), OSMEM_ALIGN);
}

static size_t core_total(size_t size)
{
	return core_up(size) + OSMEM_META;
}

/* A new block, for whoever watches; slots are not for them. */
static void core_show(void *p, size_t size, bool zero)
{
	if (osmem_watch_is_on() && p != NULL && !osmem_region_holds(p))
		osmem_watch_alloc(p, osmem_block_of(p)->size, size, zero);
}

static void core_hide(struct block_meta *b)
{
	if (osmem_watch_is_on())
		osmem_watch_free(osmem_block_payload(b), b->size,
				 b->status == OSMEM_MAPPED);
}

/* Whoever watches knows what is fresh and what is freed. */
static void core_fill(void *p, size_t size, int pattern)
{
	if (!osmem_watch_is_on())
		osmem_check_fill(p, size, pattern);
}

static void core_leave(void)
{
	osmem_unlock(&osmem_core_lock);
}

/* Option check: every so many operations, and where it fails the process. */
static void core_tick(void)
{
	static int calls;
	int every = osmem_option(OSMEM_OPT_CHECK);

	if (likely(every == 0) || ++calls < every)
		return;
	calls = 0;
	if (osmem_heap_check() + osmem_mapped_check() + osmem_hard_check() == 0)
		return;
	core_leave();
	osmem_thread_end();
	osmem_sys_abort();
}

static void core_enter(void)
{
	osmem_init();
	osmem_lock(&osmem_core_lock);
	core_tick();
}

/* For what takes no lock. */
static void core_check(void)
{
	if (likely(osmem_option(OSMEM_OPT_CHECK) == 0))
		return;
	core_enter();
	core_leave();
}

/* --- allocating --- */

/* Option fail: counts the call, whatever will serve it, and may refuse it. */
static bool core_refuses(void)
{
	osmem_init();
	return osmem_fault_count();
}

/* Makes the span a block of size bytes; NULL when there is no table for it. */
static void *core_span(struct osmem_span span, size_t size, size_t alignment)
{
	struct block_meta *b;

	core_enter();
	b = osmem_mapped_enter(span, core_up(size), alignment);
	core_leave();
	if (b == NULL) {
		osmem_span_unmap(span);
		return NULL;
	}
	return osmem_block_payload(b);
}

/* *zero says whether the payload is known to be zero. */
static void *core_map(size_t size, size_t alignment, bool *zero)
{
	size_t extra = alignment > OSMEM_ALIGN ? alignment : 0;
	struct osmem_span span = { .zero = false };
	struct block_meta *b;
	void *p = NULL;

	if (osmem_span_map(core_total(size) + extra, &span))
		p = core_span(span, size, alignment);
	*zero = p != NULL && span.zero;
	if (p != NULL || extra != 0)
		return p;
	core_enter();
	b = osmem_heap_alloc_left(core_up(size));
	core_leave();
	return b != NULL ? osmem_block_payload(b) : NULL;
}

/* A handler that comes meanwhile and allocates is seen. */
static void core_exit_hard(void *bins)
{
	bool begun = osmem_thread_begin();

	osmem_hard_exit(bins);
	osmem_thread_end_if(begun);
}

static __attribute__((noinline)) void *
core_get_hard(size_t size, size_t alignment, bool *zero)
{
	void *p = NULL;

	core_check();
	if (unlikely(!osmem_hard_is_used()) && osmem_hard_open(core_exit_hard))
		osmem_init_look();
	if (likely(osmem_hard_is_used()))
		p = osmem_hard_alloc(size, alignment);
	*zero = p != NULL && osmem_hard_is_zeroed(p);
	return p;
}

/* A slab if its class is hot, else rules 7, 8, 10, 13, 24 and 28. */
static void *core_get(size_t size, size_t alignment, size_t threshold,
		      bool *zero)
{
	size_t extra = alignment > OSMEM_ALIGN ? alignment : 0;
	struct block_meta *b;
	void *slot;

	*zero = false;
	if (core_too_large(size) || extra > SIZE_MAX - core_total(size))
		return NULL;
	osmem_init();
	if (unlikely(osmem_hard_is_on()))
		slot = core_get_hard(size, alignment, zero);
	else
		slot = osmem_hot_alloc(size, alignment);
	if (slot != NULL)
		return slot;
	/* A block of no bytes, which only the hardened allocator has. */
	size += size == 0;
	if (core_total(size) + extra >= threshold)
		return core_map(size, alignment, zero);
	core_enter();
	if (extra == 0)
		b = osmem_heap_alloc(core_up(size));
	else
		b = osmem_heap_alloc_aligned(core_up(size), alignment);
	core_leave();
	return b != NULL ? osmem_block_payload(b) :
			   core_map(size, alignment, zero);
}

void *osmem_core_serve_map(size_t size)
{
	bool zero;

	return core_map(size, OSMEM_ALIGN, &zero);
}

void *osmem_core_serve(size_t size, size_t alignment)
{
	bool zero;
	void *p;

	if (core_refuses())
		return NULL;
	p = core_get(size, alignment, OSMEM_MMAP_THRESHOLD, &zero);
	core_show(p, size, false);
	if (p != NULL && !zero)
		core_fill(p, size, OSMEM_FILL_FRESH);
	osmem_sites_note(p, OSMEM_SITE_ALLOC);
	return p;
}

void *osmem_core_serve_zero(size_t size)
{
	size_t threshold = OSMEM_IS_REPLACEMENT ? OSMEM_MMAP_THRESHOLD
						: osmem_init_page_size();
	bool zero;
	void *p;

	if (core_refuses())
		return NULL;
	/* The kernel clears the pages of a mapping when they are used. */
	if (!core_too_large(size) && !osmem_hard_is_on() &&
	    core_total(size) >= OSMEM_MMAP_THRESHOLD)
		p = core_map(size, OSMEM_ALIGN, &zero);
	else
		p = core_get(size, OSMEM_ALIGN, threshold, &zero);
	core_show(p, size, zero);
	if (p != NULL && !zero)
		memset(p, 0, osmem_core_clears(p, size));
	osmem_sites_note(p, OSMEM_SITE_ALLOC);
	return p;
}

/* --- locating --- */

/* Lock. */
static struct osmem_place core_locate(const void *ptr)
{
	struct osmem_place place;

	if (unlikely(osmem_region_holds(ptr)))
		return osmem_hot_locate(ptr);
	place = osmem_heap_locate(ptr);
	if (place.found == OSMEM_FOUND_NOTHING)
		place = osmem_mapped_locate(ptr);
	if (place.found == OSMEM_FOUND_NOTHING)
		place = osmem_hard_locate(ptr, true);
	return place;
}

static bool core_is_live(struct osmem_place place)
{
	return likely(place.found == OSMEM_FOUND_LIVE);
}

/* Whether ptr is a live block of the hardened allocator, and which. No lock. */
static bool core_is_hard(const void *ptr, struct osmem_place *place)
{
	if (likely(!osmem_hard_is_used()))
		return false;
	*place = osmem_hard_locate(ptr, false);
	return core_is_live(*place);
}

/*
 * The place of a live block. Does not return if there is none, but for what
 * the option foreign lets pass: then the place is not live. Lock.
 */
static struct osmem_place core_live(const char *call, const void *ptr)
{
	struct osmem_place place = core_locate(ptr);

	if (!core_is_live(place))
		osmem_misuse(call, ptr, place);
	return place;
}

static size_t core_size(struct osmem_place place)
{
	if (place.slot != NULL)
		return place.slot_size;
	if (osmem_watch_is_on())
		return osmem_watch_size(osmem_block_payload(place.block),
					place.block->size);
	return place.block->size;
}

void osmem_core_misuse(const char *call, const void *ptr)
{
	core_enter();
	osmem_misuse(call, ptr, core_locate(ptr));
	core_leave();
}

size_t osmem_core_serve_usable(const char *call, const void *ptr)
{
	struct osmem_place place = osmem_hot_locate(ptr);
	size_t size;

	if (place.found == OSMEM_FOUND_LIVE)
		return place.slot_size;
	if (core_is_hard(ptr, &place))
		return osmem_hard_usable(call, place);
	core_enter();
	place = core_live(call, ptr);
	size = core_is_live(place) ? core_size(place) : 0;
	core_leave();
	return size;
}

/* --- freeing --- */

static void core_release_slot(const char *call, struct osmem_place place)
{
	if (!osmem_thread_release(osmem_slab_of(place.slot),
				  (void *)(uintptr_t)place.slot))
		osmem_core_misuse(call, place.slot);
}

/* Frees a located block, if it is live, and releases the lock. */
static void core_release(const char *call, struct osmem_place place)
{
	struct osmem_span span;

	if (!core_is_live(place)) {
		core_leave();
	} else if (place.slot != NULL) {
		core_leave();
		core_release_slot(call, place);
	} else if (place.block->status == OSMEM_USED) {
		core_hide(place.block);
		osmem_heap_free(osmem_block_payload(place.block));
		core_leave();
	} else {
		core_hide(place.block);
		span = osmem_mapped_leave(place.block);
		core_leave();
		osmem_span_unmap(span);
	}
}

/* A slot of somebody else's: the usual free that is not the thread's own. */
static bool core_free_slot(void *ptr)
{
	if (!osmem_region_holds(ptr) ||
	    osmem_hot_locate(ptr).found != OSMEM_FOUND_LIVE)
		return false;
	return osmem_thread_release(osmem_slab_of(ptr), ptr);
}

static __attribute__((noinline)) bool core_free_hard(const char *call,
						     void *ptr)
{
	core_check();
	return osmem_hard_free(call, ptr);
}

void osmem_core_serve_free(const char *call, void *ptr)
{
	struct osmem_place place;
	struct block_meta *b;

	osmem_sites_note(ptr, OSMEM_SITE_FREE);
	if (unlikely(osmem_hard_is_used()) && core_free_hard(call, ptr))
		return;
	if (core_free_slot(ptr))
		return;
	core_enter();
	b = osmem_heap_free(ptr);
	if (likely(b != NULL)) {
		core_fill(ptr, b->size, OSMEM_FILL_FREED);
		core_hide(b);
		core_leave();
		return;
	}
	place = core_live(call, ptr);
	if (core_is_live(place))
		core_fill(ptr, core_size(place), OSMEM_FILL_FREED);
	core_release(call, place);
}

/*
 * A block is larger than was asked by the slack that could not be split off,
 * by what a failed os_realloc has swallowed, or by its class.
 */
static bool core_was_asked(struct osmem_place place, size_t alignment,
			   size_t asked, size_t most)
{
	if (asked > core_size(place))
		return false;
	most = osmem_up(most, OSMEM_ALIGN);
	if (place.slot != NULL)
		return osmem_hot_fits(place.slot_size, asked) ||
		       place.slot_size <= osmem_hot_size(most, alignment);
	return core_size(place) <= most + OSMEM_META ||
	       osmem_heap_is_swollen(place.block);
}

/* Here the size that was asked for is known, and the alignment. */
static OSMEM_COLD void core_free_hard_sized(const char *call,
					    struct osmem_place place,
					    size_t alignment, size_t asked,
					    size_t most)
{
	void *p = (void *)(uintptr_t)place.slot;

	if (place.slot_size < asked || place.slot_size > most ||
	    (alignment != 0 && !osmem_hard_is_aligned(place, alignment)))
		osmem_report_size(call, p, alignment, asked, place.slot_size);
	core_free_hard(call, p);
}

void osmem_core_serve_free_sized(const char *call, void *ptr, size_t alignment,
				 size_t asked, size_t most)
{
	struct osmem_place place;
	bool is_slot;

	osmem_sites_note(ptr, OSMEM_SITE_FREE);
	if (core_is_hard(ptr, &place)) {
		core_free_hard_sized(call, place, alignment, asked, most);
		return;
	}
	place = osmem_hot_locate(ptr);
	is_slot = place.found == OSMEM_FOUND_LIVE;
	if (!is_slot) {
		core_enter();
		place = core_live(call, ptr);
	}
	if (!core_is_live(place)) {
		core_leave();
		return;
	}
	if (!core_was_asked(place, alignment, asked, most) ||
	    (alignment != 0 && (uintptr_t)ptr % alignment != 0))
		osmem_report_size(call, ptr, alignment, asked,
				  core_size(place));
	core_fill(ptr, core_size(place), OSMEM_FILL_FREED);
	if (is_slot)
		core_release_slot(call, place);
	else
		core_release(call, place);
}

/* --- resizing --- */

/* A block that has come so far is a mapping from there on, and stays. */
#define CORE_GROWN                                               \
	(OSMEM_CLASS_LARGEST < OSMEM_HOT_FAR ? OSMEM_CLASS_LARGEST : \
					       OSMEM_HOT_FAR)

/* Whether a block grows that is a mapping, or should become one. */
static bool core_is_growing(struct osmem_place place, size_t size)
{
	if (place.slot != NULL)
		return size > CORE_GROWN &&
		       size / 4 <= place.slot_size;
	return place.block->status == OSMEM_MAPPED && size > place.block->size;
}

/* What has grown once is expected to grow again. */
static void *core_get_grown(struct osmem_place place, size_t size,
			    size_t threshold)
{
	struct osmem_span span;
	bool zero;
	void *p;

	if (unlikely(osmem_hard_is_on()) && !core_too_large(size) &&
	    size > place.slot_size) {
		p = osmem_hard_alloc_grown(place.slot_size, size);
		if (p != NULL)
			return p;
	}
	if (!osmem_hard_is_on() && core_is_growing(place, size) &&
	    !core_too_large(size) && osmem_span_is_cached() &&
	    osmem_span_map_ahead(core_total(size), &span)) {
		p = core_span(span, size, OSMEM_ALIGN);
		if (p != NULL)
			return p;
	}
	return core_get(size, OSMEM_ALIGN, threshold, &zero);
}

/* Rules 18, 21, 22: into a new block, while the old one is still in use. */
static int core_move(const char *call, void *ptr, struct osmem_place place,
		     size_t size, bool refused, void **out)
{
	size_t old = core_size(place);
	/* Rule 24: what the break was refused for is mapped. */
	void *p = core_get_grown(place, size,
				 refused ? 0 : OSMEM_MMAP_THRESHOLD);

	if (p == NULL)
		return ENOMEM;
	core_show(p, size, false);
	memcpy(p, ptr, old < size ? old : size);
	osmem_sites_note(ptr, OSMEM_SITE_FREE);
	osmem_sites_note(p, OSMEM_SITE_ALLOC);
	*out = p;
	if ((osmem_hard_is_used() && core_free_hard(call, ptr)) ||
	    core_free_slot(ptr))
		return 0;
	core_enter();
	core_release(call, core_live(call, ptr));
	return 0;
}

/* Rules 19 and 20. A block that shrinks may be beyond the threshold. Lock. */
static enum osmem_resized core_resize(struct block_meta *b, size_t size)
{
	if (core_too_large(size) || b->status != OSMEM_USED ||
	    osmem_watch_is_on())
		return OSMEM_RESIZED_NOT;
	if (core_up(size) > b->size && core_total(size) >= OSMEM_MMAP_THRESHOLD)
		return OSMEM_RESIZED_NOT;
	return osmem_heap_resize(b, core_up(size));
}

/* Locates and resizes, or not. False for what is no live block (rule 17). */
static bool core_resize_block(const char *call, void *ptr, size_t size,
			      struct osmem_place *at, enum osmem_resized *how)
{
	bool refused;

	core_enter();
	*at = core_locate(ptr);
	refused = at->found == OSMEM_FOUND_FREE ||
		  at->found == OSMEM_FOUND_FORMER;
	if (!refused && !core_is_live(*at)) {
		osmem_misuse(call, ptr, *at);
		refused = true;
	}
	if (!refused && at->slot == NULL)
		*how = core_resize(at->block, size);
	core_leave();
	return !refused;
}

int osmem_core_serve_realloc(const char *call, void *ptr, size_t size,
			     void **out)
{
	struct osmem_place place = osmem_hot_locate(ptr);
	enum osmem_resized how = OSMEM_RESIZED_NOT;
	bool done;

	if (core_refuses())
		return ENOMEM;
	if (likely(place.found == OSMEM_FOUND_LIVE)) {
		done = osmem_hot_stays(place, size);
	} else if (core_is_hard(ptr, &place)) {
		done = osmem_hard_resize(call, place, size);
	} else {
		if (!core_resize_block(call, ptr, size, &place, &how))
			return EINVAL;
		done = how == OSMEM_RESIZED;
		if (!done && place.slot == NULL && !core_too_large(size) &&
		    place.block->status == OSMEM_MAPPED && !osmem_watch_is_on())
			done = osmem_mapped_resize(place.block, core_up(size));
	}
	if (!done)
		return core_move(call, ptr, place, size,
				 how == OSMEM_RESIZED_REFUSED, out);
	*out = ptr;
	return 0;
}

bool osmem_core_serve_trim(size_t pad)
{
	bool any;

	core_enter();
	any = osmem_heap_trim(pad);
	core_leave();
	any |= osmem_span_trim();
	any |= osmem_hard_trim();
	return osmem_thread_trim(true) || any;
}

bool osmem_core_has_started(void)
{
	bool started;

	core_enter();
	started = osmem_heap_first() != NULL || osmem_span_totals().maps != 0 ||
		  osmem_region_totals().committed != 0 || osmem_hard_is_used();
	core_leave();
	return started;
}
