/* SPDX-License-Identifier: MIT */
/*
 * heap.c - the block heap.
 *
 * The blocks form one list in address order. A free block is "freed" or in the
 * set "fresh" from the moment it becomes free until the next search, which
 * merges it with its free neighbours; from then on it is in "ready" (by size,
 * then address). So "merge everything first" costs what was freed since, and
 * nothing else is ever merged. Guarded by the core's lock. Must never write
 * into a payload, and never follow a header that it has not verified.
 */
#include "heap.h"

#include "check.h"
#include "heap_state.h"
#include "options.h"
#include "stretch.h"
#include "sys.h"
#include "watch.h"

#include <osmem.h>

OSMEM_VAR_DEFINED struct osmem_heap_state osmem_heap;

/* Free blocks that may be looked at in vain: for each request, and saved up. */
enum { HEAP_LOOKS = 64, HEAP_LOOKS_MOST = 65536 };

/* --- the list --- */

/* The next block is free, and there is no hole before it. */
static bool heap_is_free_behind(struct block_meta *b)
{
	return (char *)b->next == osmem_block_end(b) &&
	       b->next->status == OSMEM_FREE;
}

/* There may be a hole behind the block before. */
static bool heap_is_free_before(struct block_meta *b)
{
	return b->prev != NULL && b->prev->status == OSMEM_FREE;
}

/* The next block when it can be merged with b, else NULL. */
static struct block_meta *heap_free_behind(struct block_meta *b)
{
	if (!heap_is_free_behind(b))
		return NULL;
	osmem_report_unless_intact(b->next);
	return b->next;
}

static struct block_meta *heap_free_before(struct block_meta *b)
{
	struct block_meta *prev = b->prev;

	if (!heap_is_free_before(b))
		return NULL;
	osmem_report_unless_intact(prev);
	return osmem_block_end(prev) == (char *)b ? prev : NULL;
}

static void heap_set_prev(struct block_meta *b, struct block_meta *prev)
{
	if (b == NULL)
		return;
	osmem_report_unless_intact(b);
	b->prev = prev;
	osmem_block_reseal(b);
}

static void heap_set_next(struct block_meta *b, struct block_meta *next)
{
	if (b == NULL) {
		osmem_heap.first = next;
		return;
	}
	osmem_report_unless_intact(b);
	b->next = next;
	osmem_block_reseal(b);
}

static void heap_count(struct block_meta *b)
{
	osmem_heap.blocks++;
	osmem_index_promise();
	OSMEM_ASSERT(b->size % OSMEM_ALIGN == 0 && b->size > 0);
}

/* A new free block behind b, in space that was the end of b's. */
static struct block_meta *heap_insert(struct block_meta *b, char *at,
				      size_t size)
{
	struct block_meta *rest = (struct block_meta *)at;

	if (osmem_watch_is_on())
		osmem_watch_take(rest, OSMEM_META);
	rest->prev = b;
	rest->next = b->next;
	osmem_block_set(rest, size, OSMEM_FREE);
	heap_set_prev(b->next, rest);
	b->next = rest;
	if (osmem_heap.tail == b)
		osmem_heap.tail = rest;
	if (osmem_heap.top == b)
		osmem_heap.top = rest;
	heap_count(rest);
	return rest;
}

/* b takes in the block right behind it, which is in no set any more. */
static void heap_absorb(struct block_meta *b, struct block_meta *next)
{
	heap_set_prev(next->next, b);
	b->next = next->next;
	osmem_block_set(b, b->size + OSMEM_META + next->size, b->status);
	if (osmem_heap.tail == next)
		osmem_heap.tail = b;
	if (osmem_heap.top == next)
		osmem_heap.top = b;
	osmem_heap.blocks--;
	osmem_index_forgo();
}

/* --- searching --- */

/* Merges a free block that is in no set with its free neighbours. */
static struct block_meta *heap_merge_one(struct block_meta *b)
{
	struct block_meta *other;

	osmem_report_unless_intact(b);
	while ((other = heap_free_behind(b)) != NULL) {
		osmem_heap_unlist(other);
		heap_absorb(b, other);
	}
	while ((other = heap_free_before(b)) != NULL) {
		osmem_heap_unlist(other);
		heap_absorb(other, b);
		b = other;
	}
	return b;
}

/*
 * Rule 8b. Whatever is not fresh has been merged before. The last result is in
 * no set yet: what was freed last is often what is asked for next. Nothing
 * that is merged after it can be its neighbour, or it had been merged with it.
 */
static struct block_meta *heap_merge_all(void)
{
	struct block_meta *held = osmem_heap.freed;
	struct osmem_key key = { 0, 0 };

	osmem_heap.freed = NULL;
	if (held != NULL)
		held = heap_merge_one(held);
	while (osmem_heap.fresh.count != 0) {
		osmem_index_at_least(&osmem_heap.fresh, key, &key);
		osmem_index_remove(&osmem_heap.fresh, key);
		if (held != NULL)
			osmem_heap_make_ready(held);
		held = heap_merge_one((struct block_meta *)key.a);
	}
	return held;
}

/* Rule 8c, of the ready blocks and the one that is held. It is in no set. */
static struct block_meta *heap_best_fit(struct block_meta *held, size_t size)
{
	struct osmem_key key = { size, 0 };
	struct block_meta *b;
	bool found;

	if (held != NULL && held->size >= size &&
	    !osmem_bins_may_hold(&osmem_heap.ready, size, held->size))
		return held;
	found = osmem_bins_at_least(&osmem_heap.ready, key, &key);
	if (held != NULL && held->size >= size &&
	    (!found || osmem_key_less(osmem_heap_ready_key(held), key)))
		return held;
	if (held != NULL)
		osmem_heap_make_ready(held);
	if (!found)
		return NULL;
	b = (struct block_meta *)key.b;
	osmem_report_unless_intact(b);
	osmem_heap_unlist_ready(b);
	return b;
}

/* Cuts b down to size if the rest makes a block (rule 9); returns that. */
static struct block_meta *heap_split(struct block_meta *b, size_t size)
{
	size_t rest = b->size - size;
	struct block_meta *cut;

	if (rest < OSMEM_META + OSMEM_ALIGN)
		return NULL;
	cut = heap_insert(b, (char *)osmem_block_payload(b) + size,
			  rest - OSMEM_META);
	osmem_block_set(b, size, b->status);
	return cut;
}

/* Puts a free block that is in no set to use. */
static struct block_meta *heap_use(struct block_meta *b, size_t size)
{
	struct block_meta *rest = heap_split(b, size);

	/* New space may end at a free block, or begin behind one. */
	if (rest != NULL && heap_is_free_behind(rest))
		osmem_heap_make_fresh(rest);
	else if (rest != NULL)
		osmem_heap_make_ready(rest);
	osmem_block_set(b, b->size, OSMEM_USED);
	osmem_heap.used_blocks++;
	osmem_heap.used_bytes += b->size;
	return b;
}

/* --- growing --- */

/* Makes new space one free block in the list, which is in no set. */
static struct block_meta *heap_adopt(char *start, char *end)
{
	struct block_meta *b = (struct block_meta *)start;
	struct block_meta *next = NULL;
	struct osmem_stretch s;

	if (osmem_stretch_find(start, &s) && s.end > end)
		next = (struct block_meta *)end;
	else if (osmem_stretch_above(start, &s))
		next = (struct block_meta *)s.start;
	b->next = next;
	b->prev = next != NULL ? next->prev : osmem_heap.tail;
	osmem_block_set(b, (size_t)(end - start) - OSMEM_META, OSMEM_FREE);
	heap_set_prev(next, b);
	heap_set_next(b->prev, b);
	if (next == NULL)
		osmem_heap.tail = b;
	heap_count(b);
	return b;
}

/* A new free block, in no set, with a payload of at least size bytes. */
static struct block_meta *heap_grow_apart(size_t size)
{
	struct osmem_stretch s;

	if (!osmem_stretch_may_break()) {
		if (!osmem_stretch_new_mapped(OSMEM_META + size, &s))
			return NULL;
		return heap_adopt(s.start, s.end);
	}
	if (!osmem_stretch_new_at_break(OSMEM_META + size, &s))
		return NULL;
	osmem_heap.top = heap_adopt(s.start, s.end);
	return osmem_heap.top;
}

/* The last block at the break, which has not been moved, gets size bytes. */
static bool heap_grow_top(size_t size)
{
	struct block_meta *b = osmem_heap.top;
	size_t more = size - b->size;

	if (!osmem_stretch_extend(&more))
		return false;
	osmem_block_set(b, b->size + more, b->status);
	return true;
}

static bool heap_top_can_grow(void)
{
	if (osmem_heap.top == NULL || !osmem_stretch_at_break())
		return false;
	osmem_report_unless_intact(osmem_heap.top);
	return osmem_block_end(osmem_heap.top) == osmem_stretch.break_end;
}

/* Rules 8e and 8f: a free block that is in no set. */
static struct block_meta *heap_grow(size_t size)
{
	struct block_meta *b = osmem_heap.top;

	if (!heap_top_can_grow() || b->status != OSMEM_FREE)
		return heap_grow_apart(size);
	osmem_heap_unlist_ready(b);
	/* One that was in no set could not be found, however large it is. */
	if (b->size >= size || heap_grow_top(size))
		return b;
	osmem_heap_make_ready(b);
	return NULL;
}

/* Rule 8a. */
static bool heap_preallocate(void)
{
	struct block_meta *b;

	if (osmem_heap.preallocated)
		return true;
	b = heap_grow_apart(OSMEM_PREALLOC - OSMEM_META);
	if (b == NULL)
		return false;
	osmem_heap_make_ready(b);
	osmem_heap.preallocated = true;
	return true;
}

/*
 * Merges all again, for free blocks that are in no set: room in those may have
 * come, or comes by this. Not at each search, but (now) when it must be, if
 * there is one that the last time did not see.
 */
static OSMEM_COLD bool heap_relist(bool now)
{
	struct block_meta *b;
	struct block_meta *next;

	if (osmem_heap.unlisted == 0)
		return false;
	if (now ? !osmem_heap.lost :
		  ++osmem_heap.misses < osmem_heap.blocks / 8)
		return false;
	osmem_heap.misses = 0;
	for (b = osmem_heap.first; b != NULL; b = b->next) {
		osmem_report_unless_intact(b);
		if (b->status != OSMEM_FREE)
			continue;
		osmem_heap_unlist(b);
		while ((next = b->next) != NULL &&
		       (char *)next == osmem_block_end(b) &&
		       next->status == OSMEM_FREE) {
			osmem_report_unless_intact(next);
			osmem_heap_unlist(next);
			heap_absorb(b, next);
		}
		osmem_heap_make_ready(b);
	}
	osmem_heap.lost = false;
	return true;
}

/*
 * Most searches come down to this: the block that was freed last is the only
 * one that is new, has no free neighbour, and is just what is asked for. False
 * when it takes more to know.
 */
static bool heap_reuse(struct block_meta *b, size_t size)
{
	uint64_t sum = osmem_block_sum(b);

	if (!osmem_block_is(b, sum, OSMEM_FREE) || b->size != size ||
	    osmem_bins_may_hold(&osmem_heap.ready, size, size) ||
	    heap_is_free_behind(b) || heap_is_free_before(b))
		return false;
	osmem_block_mark(b, sum, OSMEM_USED);
	osmem_heap.freed = NULL;
	osmem_heap.used_blocks++;
	osmem_heap.used_bytes += size;
	return true;
}

static __attribute__((noinline)) struct block_meta *heap_search(size_t size,
								bool grow)
{
	struct block_meta *b;

	osmem_heap_follow_break();
	if (grow && !heap_preallocate())
		return NULL;
	b = heap_best_fit(heap_merge_all(), size);
	if (b == NULL && heap_relist(!grow))
		b = heap_best_fit(NULL, size);
	if (b == NULL && grow)
		b = heap_grow(size);
	if (b == NULL && grow && heap_relist(true))
		b = heap_best_fit(NULL, size);
	return b != NULL ? heap_use(b, size) : NULL;
}

struct block_meta *osmem_heap_alloc(size_t size)
{
	struct block_meta *b = osmem_heap.freed;

	osmem_heap.asked = size;
	if (!osmem_heap_may_be_cut() && b != NULL &&
	    osmem_heap.fresh.count == 0 && heap_reuse(b, size))
		return b;
	return heap_search(size, true);
}

struct block_meta *osmem_heap_alloc_left(size_t size)
{
	if (!OSMEM_IS_REPLACEMENT &&
	    osmem_option(OSMEM_OPT_MODE) != OS_MODE_FAST)
		return NULL;
	return heap_search(size, false);
}

/* --- aligned blocks (rule 28) --- */

/* The gap before the first aligned payload behind a header at start. */
static size_t heap_gap(const char *start, size_t alignment)
{
	uintptr_t payload = (uintptr_t)start + OSMEM_META;
	size_t gap = osmem_up(payload, alignment) - payload;

	while (gap != 0 && gap < OSMEM_META + OSMEM_ALIGN)
		gap += alignment;
	return gap;
}

/*
 * The best fit among the blocks that hold it, out of the sets. What lies badly
 * is looked at while there are looks left; then it has to be large enough
 * wherever it lies, or many requests of one kind would look at all gaps of
 * those before.
 */
static struct block_meta *heap_best_aligned(size_t size, size_t alignment)
{
	size_t enough = size + alignment + OSMEM_META + OSMEM_ALIGN;
	struct osmem_key key = { size, 0 };
	struct block_meta *b;

	osmem_heap.looked -= osmem_heap.looked < HEAP_LOOKS ?
				     osmem_heap.looked :
				     HEAP_LOOKS;
	while (osmem_bins_at_least(&osmem_heap.ready, key, &key)) {
		b = (struct block_meta *)key.b;
		if (heap_gap((char *)b, alignment) + size <= key.a) {
			osmem_report_unless_intact(b);
			osmem_heap_unlist_ready(b);
			return b;
		}
		key.b++;
		if (++osmem_heap.looked > HEAP_LOOKS_MOST && key.a < enough)
			key = (struct osmem_key){ enough, 0 };
	}
	return NULL;
}

/* Splits the gap off a free block in no set; returns the aligned rest. */
static struct block_meta *heap_skip_gap(struct block_meta *b, size_t gap)
{
	struct block_meta *rest;

	if (gap == 0)
		return b;
	rest = heap_split(b, gap - OSMEM_META);
	if (heap_is_free_before(b))
		osmem_heap_make_fresh(b);
	else
		osmem_heap_make_ready(b);
	return rest;
}

/* Growth by just what the gap needs at the place where it will be. */
static struct block_meta *heap_grow_aligned(size_t size, size_t alignment)
{
	struct block_meta *b = osmem_heap.top;
	uintptr_t start;

	if (!osmem_stretch_may_break())
		return heap_grow(size + alignment + OSMEM_META + OSMEM_ALIGN);
	if (heap_top_can_grow() && b->status == OSMEM_FREE)
		start = (uintptr_t)b;
	else
		start = osmem_up((uintptr_t)osmem_sys_break(), OSMEM_ALIGN);
	return heap_grow(heap_gap((char *)start, alignment) + size);
}

struct block_meta *osmem_heap_alloc_aligned(size_t size, size_t alignment)
{
	struct block_meta *b;

	osmem_heap_follow_break();
	if (!heap_preallocate())
		return NULL;
	b = heap_merge_all();
	if (b != NULL)
		osmem_heap_make_ready(b);
	b = heap_best_aligned(size, alignment);
	if (b == NULL && heap_relist(false))
		b = heap_best_aligned(size, alignment);
	if (b == NULL)
		b = heap_grow_aligned(size, alignment);
	if (b == NULL && heap_relist(true))
		b = heap_best_aligned(size, alignment);
	if (b != NULL)
		b = heap_skip_gap(b, heap_gap((char *)b, alignment));
	return b != NULL ? heap_use(b, size) : NULL;
}

/* --- freeing and resizing --- */

static void heap_note_swollen(struct block_meta *b, bool swollen)
{
	struct osmem_key key = osmem_heap_place_key(b);

	if (osmem_heap.swollen.count != 0)
		osmem_index_remove(&osmem_heap.swollen, key);
	if (swollen)
		osmem_index_insert(&osmem_heap.swollen, key);
}

/* For a block that is free now, where there is more to do. */
static __attribute__((noinline)) struct block_meta *
heap_free_more(struct block_meta *b)
{
	heap_note_swollen(b, false);
	osmem_heap_make_fresh(b);
	return b;
}

/* ptr lies in the stretch that was found last, or in none. */
static inline OSMEM_ANY_BYTES struct block_meta *
heap_free_found(const void *ptr)
{
	struct block_meta *b = osmem_block_of(ptr);
	uint64_t sum;

	if (!osmem_heap_holds(ptr))
		return NULL;
	sum = osmem_block_sum(b);
	if (!osmem_block_is(b, sum, OSMEM_USED))
		return NULL;
	osmem_block_mark(b, sum, OSMEM_FREE);
	osmem_heap.used_blocks--;
	osmem_heap.used_bytes -= b->size;
	if (osmem_heap.freed != NULL || osmem_heap.swollen.count != 0)
		return heap_free_more(b);
	osmem_heap.freed = b;
	return b;
}

static __attribute__((noinline)) struct block_meta *
heap_free_elsewhere(const void *ptr)
{
	struct osmem_stretch s;

	osmem_heap_follow_break();
	return osmem_stretch_find(ptr, &s) ? heap_free_found(ptr) : NULL;
}

struct block_meta *osmem_heap_free(const void *ptr)
{
	/* A search comes next, and asks whether the neighbours are free. */
	osmem_block_expect_neighbours(osmem_block_of(ptr), osmem_heap.asked);
	if (osmem_heap_may_be_cut() ||
	    unlikely(!osmem_stretch_holds(osmem_stretch.found, ptr)))
		return heap_free_elsewhere(ptr);
	return heap_free_found(ptr);
}

/* Rule 20b. */
static void heap_swallow(struct block_meta *b, size_t size)
{
	struct block_meta *next;

	while (b->size < size && (next = heap_free_behind(b)) != NULL) {
		osmem_heap_unlist(next);
		heap_absorb(b, next);
	}
}

enum osmem_resized osmem_heap_resize(struct block_meta *b, size_t size)
{
	size_t before = b->size;
	bool refused = false;
	struct block_meta *rest;

	if (size > b->size) {
		if (b != osmem_heap.top || !heap_top_can_grow())
			heap_swallow(b, size);
		else
			refused = !heap_grow_top(size);
	}
	if (size <= b->size) {
		rest = heap_split(b, size);
		if (rest != NULL)
			osmem_heap_make_fresh(rest);
	}
	osmem_heap.used_bytes += b->size - before;
	heap_note_swollen(b, size > b->size && (b->size != before ||
						osmem_heap_is_swollen(b)));
	if (refused)
		return OSMEM_RESIZED_REFUSED;
	return size <= b->size ? OSMEM_RESIZED : OSMEM_RESIZED_NOT;
}
