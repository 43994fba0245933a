/* SPDX-License-Identifier: MIT */
/*
 * core_door.c - the way in: who calls, the program or a signal handler that
 * has interrupted this thread's own slow path.
 *
 * Such a handler is served by nested.c, without a lock, from a small area. Its
 * blocks may be freed and resized by anybody later; what it frees of others'
 * waits for the next slow path to end. For a handler, must never touch the heap
 * or a slab.
 */
#include "core_state.h"

#include "hard_hot.h"
#include "heap.h"
#include "hot.h"
#include "init.h"
#include "nested.h"
#include "purger.h"
#include "region.h"
#include "report.h"
#include "thread.h"
#include "watch.h"

#include <errno.h>
#include <string.h>

/* What waits is freed before the thread's bins are open again. */
static OSMEM_COLD void *door_free_waiting(void *p)
{
	void *ptr;

	while ((ptr = osmem_nested_next()) != NULL)
		osmem_core_serve_free("free", ptr);
	return p;
}

/* Returns p, so that nobody has to save it from what is hardly ever done. */
static inline void *door_end_with(void *p)
{
	if (unlikely(atomic_load_explicit(&osmem_nested_waiting,
					  memory_order_relaxed) != 0))
		p = door_free_waiting(p);
	osmem_thread_end();
	return p;
}

static inline __attribute__((always_inline)) void door_end(void)
{
	door_end_with(NULL);
}

/* Returns p, as door_end_with. */
static OSMEM_COLD void *door_start_purger(void *p)
{
	osmem_purger_start();
	return p;
}

/*
 * Ends a request for memory. A purger is started from here, as who is given
 * memory has none of libc's locks.
 */
static inline void *door_give(void *p)
{
	p = door_end_with(p);
	if (unlikely(atomic_load_explicit(&osmem_region_wants,
					  memory_order_relaxed)))
		p = door_start_purger(p);
	return p;
}

/* The long way, to whoever serves the request. */
void *osmem_core_alloc_aligned(size_t size, size_t alignment)
{
	if (alignment < OSMEM_ALIGN)
		alignment = OSMEM_ALIGN;
	if (unlikely(!osmem_thread_begin()))
		return osmem_nested_alloc(size, alignment);
	return door_give(osmem_core_serve(size, alignment));
}

static void *door_alloc_long(size_t size)
{
	return osmem_core_alloc_aligned(size, OSMEM_ALIGN);
}

/* The short way to the hardened allocator; NULL: the long one finds out. */
static inline __attribute__((always_inline)) void *door_hard(size_t size,
							     bool zero)
{
	void *p;

	if (unlikely(size > PTRDIFF_MAX) || unlikely(!osmem_thread_begin()))
		return NULL;
	p = hard_hot_alloc(size);
	if (unlikely(p == NULL)) {
		p = osmem_hard_alloc(size, OSMEM_ALIGN);
		if (zero && p != NULL && !osmem_hard_is_zeroed(p))
			memset(p, 0, size);
	}
	door_end();
	return p;
}

static __attribute__((noinline)) void *door_alloc_hard(size_t size)
{
	void *p = door_hard(size, false);

	return likely(p != NULL) ? p : door_alloc_long(size);
}

/* And from it. False: the long one finds out. */
static inline __attribute__((always_inline)) bool
door_free_hard(const char *call, void *ptr)
{
	struct hard_slab *s = hard_slab_of(ptr);
	bool freed = true;

	if (unlikely(s == NULL) && unlikely(osmem_nested_holds(ptr)))
		return false;
	if (unlikely(!osmem_thread_begin()))
		return false;
	if (likely(s != NULL))
		hard_free_slot(call, s, ptr);
	else
		freed = osmem_hard_free(call, ptr);
	door_end();
	return freed;
}

/* Sizes below do not wrap, and are no mappings. */
#define DOOR_HEAP (OSMEM_MMAP_THRESHOLD - OSMEM_META - OSMEM_ALIGN)

/*
 * The short way to the block heap, of sizes up to DOOR_HEAP, and from it, where
 * nobody else serves or wants to see each call (init.h): in exact mode a pair
 * of free and malloc waits for the block's header, and the shorter it is the
 * more of the next one is done meanwhile.
 */
static __attribute__((noinline)) void *door_alloc_plain(size_t size)
{
	struct block_meta *b;

	if (unlikely(!osmem_thread_begin()))
		return osmem_nested_alloc(size, OSMEM_ALIGN);
	osmem_lock(&osmem_core_lock);
	b = osmem_heap_alloc(osmem_up(size, OSMEM_ALIGN));
	osmem_unlock(&osmem_core_lock);
	return door_end_with(likely(b != NULL) ? osmem_block_payload(b) :
						 osmem_core_serve_map(size));
}

/* The short way to a slab, where nobody else wants to see it. */
static __attribute__((noinline)) void *door_alloc_slot(size_t size)
{
	void *p = NULL;

	if (size - 1 < OSMEM_CLASS_LARGEST && likely(osmem_thread_begin()))
		p = door_give(osmem_hot_refill(size));
	return likely(p != NULL) ? p : door_alloc_long(size);
}

void *osmem_core_alloc(size_t size)
{
	void *p;

	if (osmem_init_is_plain() && size <= DOOR_HEAP)
		return door_alloc_plain(size);
	if (unlikely(osmem_hard_is_alone()))
		return door_alloc_hard(size);
	p = osmem_hot_large(size);
	if (p != NULL)
		return p;
	return osmem_init_is_open() ? door_alloc_slot(size) :
				      door_alloc_long(size);
}

size_t osmem_core_clears(const void *p, size_t size)
{
	if (osmem_region_holds(p))
		return osmem_hot_clears(size);
	/* Who watches lets nobody write behind what was asked for. */
	if (osmem_hard_is_used() || osmem_watch_is_on())
		return size;
	return osmem_block_of(p)->size;
}

static __attribute__((noinline)) void *door_zero_long(size_t size)
{
	void *p;

	if (unlikely(!osmem_thread_begin())) {
		p = osmem_nested_alloc(size, OSMEM_ALIGN);
		return p == NULL ? NULL : memset(p, 0, size);
	}
	p = osmem_core_serve_zero(size);
	door_end();
	return p;
}

static __attribute__((noinline)) void *door_zero_hard(size_t size)
{
	void *p = door_hard(size, true);

	return likely(p != NULL) ? p : door_zero_long(size);
}

void *osmem_core_alloc_zero(size_t size)
{
	return unlikely(osmem_hard_is_alone()) ? door_zero_hard(size) :
						 door_zero_long(size);
}

/* --- freeing --- */

/* Whether a nested block was freed, or the free is a handler's. */
static OSMEM_COLD bool door_free_nested(const char *call, void *ptr)
{
	if (!osmem_nested_holds(ptr))
		return osmem_nested_defer(ptr), true;
	if (!osmem_nested_free(ptr))
		osmem_report_nested(call, ptr);
	return true;
}

/* Whether the free has been done: a nested block's, or a handler's. */
static bool door_frees(const char *call, void *ptr)
{
	return (unlikely(osmem_nested_holds(ptr)) ||
		unlikely(!osmem_thread_begin())) &&
	       door_free_nested(call, ptr);
}

static __attribute__((noinline)) void door_free_long(const char *call,
						     void *ptr)
{
	if (door_frees(call, ptr))
		return;
	osmem_core_serve_free(call, ptr);
	door_end();
}

static __attribute__((noinline)) void door_free(const char *call, void *ptr)
{
	if (unlikely(osmem_hard_is_alone()) && door_free_hard(call, ptr))
		return;
	door_free_long(call, ptr);
}

static __attribute__((noinline)) void door_free_plain(const char *call,
						      void *ptr)
{
	struct block_meta *b = NULL;

	if (likely(osmem_thread_begin())) {
		osmem_lock(&osmem_core_lock);
		b = osmem_heap_free(ptr);
		osmem_unlock(&osmem_core_lock);
		b = door_end_with(b);
	}
	if (unlikely(b == NULL))
		door_free_long(call, ptr);
}

static __attribute__((noinline)) void door_free_rest(void *ptr,
						     const char *call,
						     bool begun)
{
	if (likely(begun))
		door_end();
	else
		door_free_long(call, ptr);
}

/* The usual slot that comes here is one that another thread has allocated. */
void osmem_core_free(const char *call, void *ptr)
{
	if (osmem_region_holds(ptr))
		osmem_thread_free_remote(ptr, call, door_free_rest);
	else if (osmem_init_is_plain())
		door_free_plain(call, ptr);
	else
		door_free(call, ptr);
}

void osmem_core_free_sized(const char *call, void *ptr, size_t alignment,
			   size_t asked, size_t most)
{
	size_t slot = osmem_hot_usable(ptr);

	if ((alignment == 0 || (uintptr_t)ptr % alignment == 0) && slot != 0 &&
	    osmem_hot_was_for(slot, asked)) {
		osmem_core_free(call, ptr);
		return;
	}
	if (door_frees(call, ptr))
		return;
	osmem_core_serve_free_sized(call, ptr, alignment, asked, most);
	door_end();
}

/* --- sizes and resizing --- */

/*
 * By a handler. The header is believed: its seal may be just being renewed,
 * because of a neighbour. Large hardened blocks have none, and what stands
 * elsewhere of them is the lock's: 0.
 */
static size_t door_look(const char *call, const void *ptr)
{
	struct osmem_place place = osmem_hot_locate(ptr);

	if (place.found == OSMEM_FOUND_NOTHING)
		place = osmem_hard_locate_small(ptr);
	if (place.found == OSMEM_FOUND_NOTHING)
		return osmem_hard_is_used() ? 0 : osmem_block_of(ptr)->size;
	if (place.found != OSMEM_FOUND_LIVE)
		osmem_report_nested(call, ptr);
	return place.slot_size;
}

size_t osmem_core_usable(const char *call, const void *ptr)
{
	size_t size;

	if (unlikely(osmem_nested_holds(ptr))) {
		size = osmem_nested_size(ptr);
		if (size == 0)
			osmem_report_nested(call, ptr);
		return size;
	}
	if (unlikely(!osmem_thread_begin()))
		return door_look(call, ptr);
	size = osmem_core_serve_usable(call, ptr);
	door_end();
	return size;
}

/* A nested block that grows leaves the area if it can. */
static OSMEM_COLD int door_realloc_nested(const char *call, void *ptr,
					  size_t size, void **out)
{
	size_t old = osmem_core_usable(call, ptr);
	void *p = ptr;

	if (old == 0)
		return ENOMEM;
	if (size > old) {
		p = osmem_core_alloc(size);
		if (p == NULL)
			return ENOMEM;
		memcpy(p, ptr, old);
		osmem_core_free(call, ptr);
	}
	*out = p;
	return 0;
}

/*
 * What a block of size bytes is to have room for, when it leaves a slot of old:
 * a quarter more where it is larger by an eighth or less, as that is a text to
 * which is added, and it would move at each class.
 */
static inline size_t door_room(size_t size, size_t old)
{
	if (size - old > old / 8)
		return size;
	size += size / 4;
	/* A branch, or the way to the bin would wait for old. */
	__asm__("" : "+r"(size));
	return size;
}

/* From a live slot to another one: the hot path of what grows. */
static void *door_move(const char *call, void *ptr, size_t size)
{
	size_t old = osmem_hot_usable(ptr);
	void *p = NULL;

	if (likely(old != 0))
		p = osmem_hot_small(door_room(size, old));
	if (p == NULL)
		return NULL;
	memcpy(p, ptr, old < size ? old : size);
	if (!osmem_thread_free(ptr))
		osmem_core_free(call, ptr);
	return p;
}

int osmem_core_realloc(const char *call, void *ptr, size_t size, void **out)
{
	int err;

	*out = door_move(call, ptr, size);
	if (likely(*out != NULL))
		return 0;
	if (unlikely(osmem_nested_holds(ptr)) ||
	    unlikely(!osmem_thread_begin()))
		return door_realloc_nested(call, ptr, size, out);
	err = osmem_core_serve_realloc(call, ptr, size, out);
	door_end();
	return err;
}

bool osmem_core_trim(size_t pad)
{
	bool any;

	if (unlikely(!osmem_thread_begin()))
		return false;
	any = osmem_core_serve_trim(pad);
	door_end();
	return any;
}
